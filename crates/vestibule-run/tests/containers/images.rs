//! Makes the test image: a static program and a few files, as an OCI layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use vestibule_images::Digest;

/// A file of a layer.
pub struct File {
    pub path: String,
    pub content: Vec<u8>,
    pub mode: u32,
    pub owner: u64,
}

/// An ordinary file of the container's root.
pub fn file(path: &str, content: &str) -> File {
    File { path: path.into(), content: content.into(), mode: 0o644, owner: 0 }
}

/// The program, compiled once: it needs nothing but itself.
fn program() -> Vec<u8> {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    let compile = || {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/containers/program.c");
        let target = folder.path().join("program");
        let status =
            Command::new("cc").args(["-static", "-O1", "-o"]).arg(&target).arg(&source).status().unwrap();
        assert!(status.success());
        fs::read(target).unwrap()
    };
    PROGRAM.get_or_init(compile).clone()
}

fn layer(files: &[File]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode);
        header.set_uid(file.owner);
        header.set_gid(file.owner);
        if let Some(folder) = file.path.strip_suffix('/') {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, folder, &b""[..]).unwrap();
        } else if let Some((path, target)) = file.path.split_once(" -> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, path, target).unwrap();
        } else {
            builder.append_data(&mut header, &file.path, &file.content[..]).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// Layers of the usual image.
pub fn usual() -> Vec<Vec<File>> {
    let accounts = "root:x:0:0::/root:/bin/sh\napp:x:1000:100::/home/app:/bin/sh\n";
    vec![
        vec![
            File { path: "bin/program".into(), content: program(), mode: 0o755, owner: 0 },
            file("etc/passwd", accounts),
            file("etc/group", "root:x:0:\nusers:x:100:\nextra:x:7:app\n"),
            file("data/old", "old"),
            file("data/changed", "below"),
            File { path: "home/app/".into(), content: Vec::new(), mode: 0o700, owner: 1000 },
            File { path: "private".into(), content: b"secret".to_vec(), mode: 0o600, owner: 1000 },
        ],
        vec![file("data/.wh.old", ""), file("data/changed", "above"), file("opaque/x", "x")],
        // Twice the same layer, as Docker's empty one often is.
        vec![file("twice", "")],
        vec![file("twice", "")],
        vec![file("opaque/.wh..wh..opq", ""), file("opaque/y", "y")],
    ]
}

/// Writes an image as a layout into `folder`. Answers with its reference.
pub fn write(folder: &Path, layers: &[Vec<File>], settings: Value) -> String {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let add = |bytes: Vec<u8>, media_type: &str| {
        let digest = Digest::of(&bytes);
        fs::write(blobs.join(digest.hex()), &bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let layers: Vec<Vec<u8>> = layers.iter().map(|files| layer(files)).collect();
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config =
        json!({ "os": "linux", "config": settings, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let config = add(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
    let layers: Vec<Value> =
        layers.into_iter().map(|layer| add(layer, "application/vnd.oci.image.layer.v1.tar")).collect();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let manifest = add(manifest.to_string().into_bytes(), "application/vnd.oci.image.manifest.v1+json");
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    format!("oci:{}", PathBuf::from(folder).display())
}
