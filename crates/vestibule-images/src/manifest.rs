//! Manifests and indexes, and which variant of an image is this machine's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{ImageError, Kind};
use crate::limits::MAX_LAYERS;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// What a registry may answer with.
pub(crate) const ACCEPTED: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
/// Names an image inside a layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layers: Option<Vec<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifests: Option<Vec<Descriptor>>,
}

/// What a document is.
pub(crate) enum Parsed {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

/// What one variant of an image is made of.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    /// From the bottom to the top.
    pub(crate) layers: Vec<Descriptor>,
}

/// Reads a manifest or an index. One that claims to be both, which could mean one image to us and another to a
/// scanner, is refused.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, ImageError> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| ImageError::because(Kind::Invalid, "the manifest cannot be read", error))?;
    if document.schema_version != 2 {
        return Err(ImageError::invalid(format!("the manifest has version {}", document.schema_version)));
    }
    match (document.config, document.layers, document.manifests) {
        (Some(config), Some(layers), None) if layers.len() <= MAX_LAYERS => {
            Ok(Parsed::Manifest(Manifest { config, layers }))
        }
        (Some(_), Some(layers), None) => {
            Err(ImageError::refused(format!("the image has {} layers, more than {MAX_LAYERS}", layers.len())))
        }
        (None, None, Some(manifests)) => Ok(Parsed::Index(manifests)),
        _ => Err(ImageError::invalid("the manifest is neither one image nor an index of images")),
    }
}

/// The name that images give to this machine's processor.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Picks this machine's variant of an index.
pub(crate) fn choose<'a>(manifests: &'a [Descriptor], reference: &str) -> Result<&'a Descriptor, ImageError> {
    let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == architecture();
    let mut fitting: Vec<_> =
        manifests.iter().filter(|entry| entry.platform.as_ref().is_some_and(fits)).collect();
    // A variant asks for a newer processor than the architecture's first; the plain one, or the oldest, runs anywhere.
    fitting.sort_by(|a, b| {
        let variant =
            |entry: &Descriptor| entry.platform.as_ref().and_then(|platform| platform.variant.clone());
        variant(a).cmp(&variant(b))
    });
    if let Some(found) = fitting.first() {
        return Ok(found);
    }
    // A layout of one image often does not say what it is for; its configuration does.
    match manifests {
        [only] if only.platform.is_none() => Ok(only),
        _ => Err(ImageError::new(
            Kind::Platform,
            format!("Container manifest type of '{reference}' must support linux/{}.", architecture()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        let platform =
            Platform { os: os.into(), architecture: architecture.into(), variant: variant.map(Into::into) };
        let name = format!("{os}{architecture}{variant:?}");
        Descriptor {
            media_type: MANIFEST.into(),
            digest: Digest::of(name.as_bytes()),
            size: 1,
            platform: Some(platform),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_machines_own_variant() {
        let own = architecture();
        let all = [
            entry("windows", own, None),
            entry("linux", "s390x", None),
            entry("unknown", "unknown", None),
            entry("linux", own, Some("v3")),
            entry("linux", own, None),
        ];
        assert_eq!(choose(&all, "x").unwrap(), &all[4]);
        let error = choose(&all[..3], "repo/x").unwrap_err();
        assert_eq!(error.kind, Kind::Platform);
        assert!(error.message.contains("'repo/x'") && error.message.contains(own), "{error}");
        let unnamed = [Descriptor { platform: None, ..all[0].clone() }];
        assert_eq!(choose(&unnamed, "x").unwrap(), &unnamed[0]);
    }

    #[test]
    fn one_image_or_an_index_and_not_both() {
        let descriptor = json!({ "mediaType": CONFIG, "digest": Digest::of(b"x"), "size": 1 });
        let manifest = json!({ "schemaVersion": 2, "config": descriptor, "layers": [descriptor] });
        assert!(
            matches!(parse(manifest.to_string().as_bytes()), Ok(Parsed::Manifest(found)) if found.layers.len() == 1)
        );
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        assert!(matches!(parse(index.to_string().as_bytes()), Ok(Parsed::Index(found)) if found.len() == 1));
        let many = vec![descriptor.clone(); MAX_LAYERS + 1];
        for wrong in [
            json!({}),
            json!({ "schemaVersion": 1, "manifests": [] }),
            json!({ "schemaVersion": 2 }),
            json!({ "schemaVersion": 2, "config": descriptor, "layers": [], "manifests": [] }),
            json!({ "schemaVersion": 2, "config": descriptor, "layers": many }),
            json!({ "schemaVersion": 2, "manifests": [{ "digest": "md5:00", "size": 1 }] }),
            json!({ "schemaVersion": 2, "manifests": [{ "digest": Digest::of(b""), "size": -1 }] }),
        ] {
            assert!(parse(wrong.to_string().as_bytes()).is_err(), "{wrong}");
        }
    }
}
