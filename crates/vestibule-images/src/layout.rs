//! OCI layouts: a folder with `index.json` and blobs under their digests.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::error::{ImageError, Kind};
use crate::limits::{MAX_BLOB, MAX_CONFIG, MAX_INDEX_DEPTH, MAX_MANIFEST};
use crate::manifest::{self, Descriptor, Parsed, REF_NAME, choose};

/// An image whose blobs are all in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// What was asked for: a manifest or an index.
    pub(crate) digest: Digest,
    /// The manifest for this machine.
    pub(crate) manifest: Digest,
    /// Packed bytes of all layers.
    pub(crate) size: u64,
}

/// Copies an image of a layout into the store. `name`: which of several.
pub(crate) fn read(
    folder: &Path,
    name: Option<&str>,
    reference: &str,
    blobs: &Blobs,
) -> Result<Found, ImageError> {
    let path = folder.join("index.json");
    let index = read_limited(&path, MAX_MANIFEST).map_err(|error| {
        ImageError::because(Kind::NotFound, format!("Image '{reference}' not found."), error)
    })?;
    let fetch = |descriptor: &Descriptor, limit: u64| {
        let path = folder.join("blobs/sha256").join(descriptor.digest.hex());
        if blobs.has(&descriptor.digest) {
            return Ok(());
        }
        check_size(descriptor, limit)?;
        let file = File::open(&path).map_err(|error| ImageError::io(&path, error))?;
        blobs.copy(file, &descriptor.digest, descriptor.size)
    };
    let top = pick(&index, name, reference)?;
    descend(&top, reference, blobs, &fetch)
}

fn read_limited(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check_size(descriptor: &Descriptor, limit: u64) -> Result<(), ImageError> {
    if descriptor.size > limit {
        let (digest, size) = (&descriptor.digest, descriptor.size);
        return Err(ImageError::refused(format!("{digest} has {size} bytes, more than {limit}")));
    }
    Ok(())
}

/// The entry of a layout's index that is meant. Without a name: the only one, or the one for this machine.
pub(crate) fn pick(index: &[u8], name: Option<&str>, reference: &str) -> Result<Descriptor, ImageError> {
    let Parsed::Index(entries) = manifest::parse(index)? else {
        return Err(ImageError::invalid(format!("the index of '{reference}' is not one")));
    };
    let Some(name) = name else {
        return match &entries[..] {
            [only] => Ok(only.clone()),
            _ => choose(&entries, reference).cloned(),
        };
    };
    let named = |entry: &&Descriptor| {
        let given = entry.annotations.get(REF_NAME);
        // Some tools write the whole reference.
        given.is_some_and(|given| given == name || given.rsplit_once(':').is_some_and(|(_, tag)| tag == name))
    };
    entries.iter().find(named).cloned().ok_or_else(|| ImageError::not_found(reference))
}

/// Follows a descriptor to the manifest for this machine and gets everything that it needs. `fetch` sees to it that a
/// blob is in the store.
pub(crate) fn descend(
    top: &Descriptor,
    reference: &str,
    blobs: &Blobs,
    fetch: &dyn Fn(&Descriptor, u64) -> Result<(), ImageError>,
) -> Result<Found, ImageError> {
    let mut at = top.clone();
    for _ in 0..MAX_INDEX_DEPTH {
        fetch(&at, MAX_MANIFEST)?;
        match manifest::parse(&blobs.read(&at.digest, MAX_MANIFEST)?)? {
            Parsed::Index(entries) => at = choose(&entries, reference)?.clone(),
            Parsed::Manifest(manifest) => {
                fetch(&manifest.config, MAX_CONFIG)?;
                for layer in &manifest.layers {
                    fetch(layer, MAX_BLOB)?;
                }
                let size = manifest.layers.iter().map(|layer| layer.size).sum();
                return Ok(Found { digest: top.digest, manifest: at.digest, size });
            }
        }
    }
    Err(ImageError::refused(format!("the index of '{reference}' is nested too deep")))
}
