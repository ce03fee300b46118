//! What an image reference names.
//!
//! | reference | names |
//! |---|---|
//! | `oci:DIR` or `oci:DIR:NAME` | an OCI layout, and in it the image called NAME |
//! | `oci-archive:FILE` | an OCI layout in a tar archive |
//! | `docker-archive:FILE` | what `docker save` writes |
//! | anything else | an image in a registry, `docker.io` if none is named |

use std::path::PathBuf;

pub use oci_client::Reference as RegistryReference;

use crate::digest::Digest;
use crate::error::ImageError;

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder with an OCI layout. `name`: which image of several.
    Layout { folder: PathBuf, name: Option<String> },
    /// A tar archive, packed or not, with an OCI layout or in the form of `docker save`: its content tells which.
    Archive(PathBuf),
    /// A registry.
    Registry(RegistryReference),
}

impl Source {
    /// What `reference` names. Files need absolute paths, because who writes a reference seldom knows the folder in
    /// which the server runs.
    pub fn parse(reference: &str) -> Result<Self, ImageError> {
        if let Some(path) = reference.strip_prefix("oci:") {
            return layout(path);
        }
        for prefix in ["oci-archive:", "docker-archive:"] {
            if let Some(path) = reference.strip_prefix(prefix) {
                return Ok(Self::Archive(absolute(path)?));
            }
        }
        let parsed = reference.parse().map_err(|error| {
            ImageError::because(
                crate::error::Kind::Invalid,
                format!("{reference:?} is not an image reference"),
                error,
            )
        });
        parsed.map(Self::Registry)
    }

    /// Guesses what a path is: a folder is an OCI layout, a file an archive.
    pub fn of_path(path: PathBuf) -> Self {
        if path.is_dir() { Self::Layout { folder: path, name: None } } else { Self::Archive(path) }
    }
}

/// A reference to a file without the digest that pins it, and the digest: `oci:/images/app@sha256:…`. That is how Cloud
/// Run names what it has resolved, and clients send it back. Registries have that form in their own references.
pub(crate) fn pinned(reference: &str) -> (&str, Option<Digest>) {
    let is_file =
        ["oci:", "oci-archive:", "docker-archive:"].iter().any(|prefix| reference.starts_with(prefix));
    let pin = reference.rsplit_once('@').filter(|_| is_file);
    match pin.and_then(|(plain, digest)| Some((plain, digest.parse().ok()?))) {
        Some((plain, digest)) => (plain, Some(digest)),
        None => (reference, None),
    }
}

/// A folder may have a colon in its name, so the part behind the last one is a name only if there is no such folder.
fn layout(path: &str) -> Result<Source, ImageError> {
    let whole = absolute(path)?;
    if !whole.is_dir()
        && let Some((folder, name)) = path.rsplit_once(':')
        && !name.contains('/')
    {
        return Ok(Source::Layout { folder: absolute(folder)?, name: Some(name.to_owned()) });
    }
    Ok(Source::Layout { folder: whole, name: None })
}

fn absolute(path: &str) -> Result<PathBuf, ImageError> {
    if path.starts_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err(ImageError::invalid(format!(
            "an image in a file needs an absolute path, and {path:?} is not one"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_and_registries() {
        assert_eq!(Source::parse("oci-archive:/a/b.tar").unwrap(), Source::Archive("/a/b.tar".into()));
        assert_eq!(Source::parse("docker-archive:/a").unwrap(), Source::Archive("/a".into()));
        let layout = |folder: &str, name: Option<&str>| Source::Layout {
            folder: folder.into(),
            name: name.map(Into::into),
        };
        assert_eq!(Source::parse("oci:/nowhere").unwrap(), layout("/nowhere", None));
        assert_eq!(Source::parse("oci:/nowhere:v1").unwrap(), layout("/nowhere", Some("v1")));
        assert_eq!(Source::parse("oci:/no:where/x").unwrap(), layout("/no:where/x", None));
        let Source::Registry(found) = Source::parse("busybox").unwrap() else { panic!("not a registry") };
        assert_eq!(found.whole(), "docker.io/library/busybox:latest");
        for wrong in ["", "oci:here", "oci-archive:x", "UPPER", "a b", "x:"] {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_folder_with_a_colon() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a:b");
        std::fs::create_dir(&inner).unwrap();
        let found = Source::parse(&format!("oci:{}", inner.display())).unwrap();
        assert_eq!(found, Source::Layout { folder: inner, name: None });
    }

    #[test]
    fn files_may_be_pinned() {
        let digest = Digest::of(b"x");
        for plain in ["oci:/a", "oci:/a:v1", "oci-archive:/a@b.tar", "docker-archive:/a"] {
            assert_eq!(pinned(plain), (plain, None));
            assert_eq!(pinned(&format!("{plain}@{digest}")), (plain, Some(digest)));
        }
        let registry = format!("busybox@{digest}");
        assert_eq!(pinned(&registry), (registry.as_str(), None));
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,60}") {
            let _ = Source::parse(&text);
        }
    }
}
