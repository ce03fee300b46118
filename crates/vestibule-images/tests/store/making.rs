//! Makes images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vestibule_images::{Digest, Images};

/// The name that images give to this machine's processor.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A layer with these files.
pub fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Blobs by digest.
#[derive(Default, Clone)]
pub struct Blobs(pub BTreeMap<Digest, Vec<u8>>);

impl Blobs {
    pub fn add(&mut self, bytes: Vec<u8>, media_type: &str) -> Value {
        let digest = Digest::of(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.0.insert(digest, bytes);
        descriptor
    }

    /// An image of these layers; its descriptor.
    pub fn image(&mut self, layers: &[Vec<u8>], architecture: &str) -> Value {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": { "Env": ["A=b"], "Entrypoint": ["/app"], "User": "app" },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.add(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| self.add(layer.clone(), "application/vnd.oci.image.layer.v1.tar"))
            .collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        let mut descriptor = self.add(manifest.to_string().into_bytes(), media_type);
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        descriptor
    }

    pub fn index(manifests: &[Value]) -> Value {
        let media_type = "application/vnd.oci.image.index.v1+json";
        json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests })
    }

    /// Writes an OCI layout.
    pub fn layout(&self, folder: &Path, manifests: &[Value]) {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for (digest, bytes) in &self.0 {
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
        }
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(folder.join("index.json"), Self::index(manifests).to_string()).unwrap();
    }
}

/// Layers of the usual image of these tests.
pub fn layers() -> [Vec<u8>; 2] {
    [
        layer(&[("etc/passwd", "app:x:1000:100::/srv:/bin/sh\n"), ("old", "old"), ("app", "#!/bin/sh\n")]),
        layer(&[(".wh.old", ""), ("new", "new")]),
    ]
}

pub struct World {
    pub folder: tempfile::TempDir,
    pub images: Images,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(&folder.path().join("state")).unwrap();
        Self { folder, images }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Another store over the same files, as another process would have.
    pub fn another(&self) -> Images {
        Images::open(&self.path("state")).unwrap()
    }

    /// Names under a folder of the store.
    pub fn stored(&self, folder: &str) -> usize {
        let at = self.path("state/images").join(folder);
        fs::read_dir(at).map_or(0, |files| files.count())
    }

    pub fn layers(&self) -> usize {
        // One of the folders is there to mount on.
        (self.stored("layers/shifted") + self.stored("layers/own")).saturating_sub(1)
    }
}

/// Packs files and folders into a tar archive.
pub fn archive(path: &Path, folder: &Path) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    builder.append_dir_all(".", folder).unwrap();
    builder.finish().unwrap();
}
