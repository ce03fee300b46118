//! An image as another engine takes it: an archive as `docker save` makes one.
//!
//! What an engine is given is the layers and nothing of the image's configuration but what they are. What an image
//! says about how to run it is known here ([`crate::Image`]), and whoever starts a container says it; an engine that
//! knew it too would act on it by itself: make volumes that nobody asked for, probe what it takes for the service's
//! health. The name is made of the content, so an engine that has an image of that name has this one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::layer::plain;
use crate::manifest::architecture;

/// Repository of images that were made here. The name belongs to no registry, so no engine asks one for it.
pub const REPOSITORY: &str = "vestibule.invalid/image";

/// A layer in a file, packed or not.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) diff_id: Digest,
    pub(crate) path: PathBuf,
}

/// An image to be handed to an engine.
#[derive(Debug, Clone)]
pub struct Export {
    config: Vec<u8>,
    id: Digest,
    /// From the bottom to the top.
    layers: Vec<Packed>,
    /// Where a layer is unpacked that engines may not know how to unpack.
    temporary: PathBuf,
}

impl Export {
    pub(crate) fn new(layers: Vec<Packed>, temporary: &Path) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        Self { id: Digest::of(&config), config, layers, temporary: temporary.to_owned() }
    }

    /// What an engine calls it: [`REPOSITORY`] and a tag.
    pub fn name(&self) -> String {
        format!("{REPOSITORY}:{}", self.id.hex())
    }

    /// Writes the archive. Layers that are packed stay so.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(to);
        let mut written = BTreeSet::new();
        for layer in &self.layers {
            if written.insert(layer.diff_id) {
                let (content, size) = plain(&layer.path, &self.temporary)?;
                append(&mut archive, &layer_name(layer), size, content)?;
            }
        }
        let config = format!("{}.json", self.id.hex());
        append(&mut archive, &config, self.config.len() as u64, &self.config[..])?;
        let layers: Vec<String> = self.layers.iter().map(layer_name).collect();
        let manifest: Value = json!([{ "Config": config, "RepoTags": [self.name()], "Layers": layers }]);
        let manifest = manifest.to_string();
        append(&mut archive, "manifest.json", manifest.len() as u64, manifest.as_bytes())?;
        archive.into_inner()?.flush()
    }
}

fn layer_name(layer: &Packed) -> String {
    format!("{}/layer.tar", layer.diff_id.hex())
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, content)
}

/// A file without a name, for as long as it is open.
pub(crate) fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("export-{:016x}", fastrand::u64(..)));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Copies to a file without a name. Answers with the file at its beginning, and its size.
pub(crate) fn spool(mut content: impl Read, folder: &Path) -> io::Result<(File, u64)> {
    let mut file = nameless(folder)?;
    let size = io::copy(&mut content, &mut file)?;
    file.rewind()?;
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use std::collections::BTreeMap;

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn what_an_engine_needs_and_nothing_twice() {
        let folder = tempfile::tempdir().unwrap();
        let layer = |name: &str, packed: &[u8], plain: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, packed).unwrap();
            Packed { diff_id: Digest::of(plain), path }
        };
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"below").unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd =
            ruzstd::encoding::compress_to_vec(&b"above"[..], ruzstd::encoding::CompressionLevel::Fastest);
        let (below, above) = (layer("a", &gzip, b"below"), layer("b", &zstd, b"above"));
        let export = Export::new(vec![below.clone(), above.clone(), above.clone()], folder.path());
        let mut archive = Vec::new();
        export.write(&mut archive).unwrap();
        let found = entries(&archive);
        assert_eq!(found[&layer_name(&below)], gzip, "every engine knows gzip");
        assert_eq!(found[&layer_name(&above)], b"above", "and some do not know zstd");
        let manifest: Value = serde_json::from_slice(&found["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 3);
        assert_eq!(manifest[0]["RepoTags"][0], export.name());
        let config: Value = serde_json::from_slice(&found[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], below.diff_id.to_string());
        assert_eq!(found.len(), 4);
        assert!(Export::new(vec![below], folder.path()).name() != export.name());
    }
}
