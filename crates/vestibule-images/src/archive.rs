//! Images in tar archives: OCI layouts, and what `docker save` writes.
//!
//! Members come in any order and refer to each other, so every regular member goes into the store first, under the
//! digest of its content, which makes verifying it the same as finding it. Then the archive's index is read as if the
//! archive were a folder. What no image of it uses is removed again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use crate::blobs::{Blobs, copy};
use crate::digest::Digest;
use crate::error::{ImageError, Kind};
use crate::layout::{Found, descend, pick};
use crate::limits::{MAX_ARCHIVE, MAX_BLOB, MAX_CONFIG, MAX_MANIFEST, MAX_MEMBERS};
use crate::manifest::{CONFIG, Descriptor, Document, LAYER, MANIFEST};

/// An image of an archive.
#[derive(Debug)]
pub(crate) struct Archived {
    /// Names that the archive gives to it.
    pub(crate) names: Vec<String>,
    pub(crate) found: Found,
}

/// What an archive holds: content by name.
struct Members {
    files: BTreeMap<String, (Digest, u64)>,
    /// Older `docker save` writes a layer once and links to it.
    links: BTreeMap<String, String>,
    /// What was not in the store before.
    new: BTreeSet<Digest>,
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Puts the images of an archive into the store.
pub(crate) fn read(path: &Path, reference: &str, blobs: &Blobs) -> Result<Vec<Archived>, ImageError> {
    let file = File::open(path).map_err(|error| {
        ImageError::because(Kind::NotFound, format!("Image '{reference}' not found."), error)
    })?;
    let mut members = Members { files: BTreeMap::new(), links: BTreeMap::new(), new: BTreeSet::new() };
    let result = members.spool(file, blobs).and_then(|()| members.images(reference, blobs));
    let used: BTreeSet<Digest> = match &result {
        Ok(images) => images.iter().flat_map(|image| in_use(&image.found, blobs)).collect(),
        Err(_) => BTreeSet::new(),
    };
    for digest in members.new.difference(&used) {
        let _ = blobs.remove(digest);
    }
    result
}

/// Every blob of an image.
pub(crate) fn in_use(found: &Found, blobs: &Blobs) -> Vec<Digest> {
    let mut all = vec![found.digest, found.manifest];
    if let Ok(bytes) = blobs.read(&found.manifest, MAX_MANIFEST)
        && let Ok(crate::manifest::Parsed::Manifest(manifest)) = crate::manifest::parse(&bytes)
    {
        all.push(manifest.config.digest);
        all.extend(manifest.layers.iter().map(|layer| layer.digest));
    }
    all
}

fn broken(error: io::Error) -> ImageError {
    ImageError::because(Kind::Refused, "the archive cannot be read", error)
}

impl Members {
    fn spool(&mut self, file: File, blobs: &Blobs) -> Result<(), ImageError> {
        let mut packed = BufReader::new(file);
        let gzip = packed.fill_buf().map_err(broken)?.starts_with(&[0x1f, 0x8b]);
        let content: Box<dyn Read> =
            if gzip { Box::new(MultiGzDecoder::new(packed)) } else { Box::new(packed) };
        // Nobody may make us fill the disk with an archive of nothing.
        let mut archive = tar::Archive::new(content.take(MAX_ARCHIVE));
        for (count, member) in archive.entries().map_err(broken)?.raw(true).enumerate() {
            let mut member = member.map_err(broken)?;
            if count >= MAX_MEMBERS {
                return Err(ImageError::refused(format!("the archive has more than {MAX_MEMBERS} members")));
            }
            let kind = member.header().entry_type();
            let name = clean(&String::from_utf8_lossy(&member.path_bytes()));
            if kind.is_symlink() || kind.is_hard_link() {
                let target = member.link_name_bytes().unwrap_or_default();
                let target = String::from_utf8_lossy(&target).into_owned();
                let target = if kind.is_symlink() { beside(&name, &target) } else { clean(&target) };
                self.links.insert(name, target);
            } else if kind.is_file() {
                self.store(name, &mut member, blobs)?;
            }
        }
        Ok(())
    }

    fn store(&mut self, name: String, member: &mut impl Read, blobs: &Blobs) -> Result<(), ImageError> {
        let io =
            |error| ImageError::because(Kind::Io, format!("cannot store {name:?} of the archive"), error);
        let mut writer = blobs.writer().map_err(io)?;
        copy(&mut member.take(MAX_BLOB + 1), &mut writer).map_err(io)?;
        let size = writer.size();
        if size > MAX_BLOB {
            return Err(ImageError::refused(format!(
                "{name:?} of the archive has more than {MAX_BLOB} bytes"
            )));
        }
        let (digest, new) = writer.keep().map_err(io)?;
        if new {
            self.new.insert(digest);
        }
        self.files.insert(name, (digest, size));
        Ok(())
    }

    /// The content of a member, through links.
    fn get(&self, name: &str) -> Result<(Digest, u64), ImageError> {
        let mut name = clean(name);
        for _ in 0..2 {
            if let Some(found) = self.files.get(&name) {
                return Ok(*found);
            }
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        Err(ImageError::invalid(format!("the archive has no {name:?}")))
    }

    fn images(&self, reference: &str, blobs: &Blobs) -> Result<Vec<Archived>, ImageError> {
        // `docker save` writes both forms; its own has the names.
        if self.files.contains_key("manifest.json") {
            let (digest, _) = self.get("manifest.json")?;
            let saved: Vec<Saved> =
                serde_json::from_slice(&blobs.read(&digest, MAX_MANIFEST)?).map_err(|error| {
                    ImageError::because(Kind::Invalid, "the archive's manifest.json cannot be read", error)
                })?;
            return saved.iter().map(|saved| self.saved(saved, reference, blobs)).collect();
        }
        let (digest, _) = self.get("index.json")?;
        let index = blobs.read(&digest, MAX_MANIFEST)?;
        let top = pick(&index, None, reference)?;
        let found = descend(&top, reference, blobs, &|wanted, _| self.check(wanted, blobs))?;
        let name = top.annotations.get(crate::manifest::REF_NAME).filter(|name| name.contains(['/', ':']));
        Ok(vec![Archived { names: name.into_iter().cloned().collect(), found }])
    }

    /// Whether the archive, or the store already, has what is wanted.
    fn check(&self, wanted: &Descriptor, blobs: &Blobs) -> Result<(), ImageError> {
        let name = format!("blobs/sha256/{}", wanted.digest.hex());
        match self.get(&name) {
            Ok((digest, size)) if (digest, size) == (wanted.digest, wanted.size) => Ok(()),
            Ok((digest, _)) => {
                Err(ImageError::refused(format!("the content of {} has the digest {digest}", wanted.digest)))
            }
            Err(_) if blobs.has(&wanted.digest) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes the manifest that `docker save` left out.
    fn saved(&self, saved: &Saved, reference: &str, blobs: &Blobs) -> Result<Archived, ImageError> {
        let point = |media_type: &str, name: &str, limit: u64| {
            let (digest, size) = self.get(name)?;
            if size > limit {
                return Err(ImageError::refused(format!(
                    "{name:?} of the archive has more than {limit} bytes"
                )));
            }
            let (platform, annotations) = (None, BTreeMap::new());
            Ok(Descriptor { media_type: media_type.to_owned(), digest, size, platform, annotations })
        };
        let config = point(CONFIG, &saved.config, MAX_CONFIG)?;
        let layers = saved.layers.iter().map(|name| point(LAYER, name, MAX_BLOB));
        let document = Document {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: Some(config),
            layers: Some(layers.collect::<Result<_, _>>()?),
            manifests: None,
        };
        let bytes = serde_json::to_vec(&document)
            .map_err(|error| ImageError::because(Kind::Invalid, "the manifest cannot be written", error))?;
        let digest = blobs.put(&bytes)?;
        let (platform, annotations) = (None, BTreeMap::new());
        let size = bytes.len() as u64;
        let top = Descriptor { media_type: MANIFEST.to_owned(), digest, size, platform, annotations };
        let found = descend(&top, reference, blobs, &|_, _| Ok(()))?;
        Ok(Archived { names: saved.repo_tags.clone().unwrap_or_default(), found })
    }
}

/// A member's name without what means nothing.
fn clean(name: &str) -> String {
    name.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// What a symbolic link at `name` points to, as a member's name. It only ever becomes a key to look up.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    clean(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_members() {
        assert_eq!(beside("abc/layer.tar", "../def/layer.tar"), "def/layer.tar");
        assert_eq!(beside("a", "../../../x"), "x");
        assert_eq!(clean("./a//b/"), "a/b");
    }
}
