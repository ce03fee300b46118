//! Layouts and archives.

use std::fs;

use serde_json::{Value, json};
use vestibule_images::error::Kind;
use vestibule_images::reference::Source;
use vestibule_images::{Digest, Freshness, Progress};

use crate::making::{Blobs, World, architecture, archive, layer, layers};

fn quiet(_: Progress) {}

fn write_layout(world: &World) -> (String, Value) {
    let mut blobs = Blobs::default();
    let image = blobs.image(&layers(), architecture());
    blobs.layout(&world.path("layout"), std::slice::from_ref(&image));
    (format!("oci:{}", world.path("layout").display()), image)
}

#[test]
fn a_layout_is_resolved_and_unpacked_once() {
    let world = World::new();
    let (reference, descriptor) = write_layout(&world);
    let image = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap();
    assert_eq!(image.name, format!("{reference}@{}", descriptor["digest"].as_str().unwrap()));
    assert_eq!(image.config.entrypoint, ["/app"]);
    assert_eq!((image.user.uid, image.user.gid, &*image.user.home), (1000, 100, "/srv"));
    assert_eq!(image.layers.len(), 2);
    let at = |layer: usize, path: &str| image.layers_dir.join(&image.layers[layer]).join(path);
    assert_eq!(fs::read_to_string(at(0, "old")).unwrap(), "old");
    assert!(fs::symlink_metadata(at(1, "old")).is_ok(), "no whiteout");

    // Nothing is read or unpacked again, even if the layout is gone.
    fs::remove_dir_all(world.path("layout")).unwrap();
    let unpacked = std::sync::atomic::AtomicUsize::new(0);
    let count = |_| {
        unpacked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let again = world.another().resolve(&reference, Freshness::Stored, &count).unwrap();
    assert_eq!((again.name, again.layers), (image.name.clone(), image.layers.clone()));
    assert_eq!(unpacked.into_inner(), 0);
    let gone = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap_err();
    assert_eq!((gone.kind, gone.message), (Kind::NotFound, format!("Image '{reference}' not found.")));
}

#[test]
fn an_index_gives_the_machines_own_image() {
    let world = World::new();
    let mut blobs = Blobs::default();
    let other = blobs.image(&[layer(&[("other", "")])], "s390x");
    let own = blobs.image(&layers(), architecture());
    let index = blobs.add(
        Blobs::index(&[other.clone(), own]).to_string().into_bytes(),
        "application/vnd.oci.image.index.v1+json",
    );
    blobs.layout(&world.path("layout"), std::slice::from_ref(&index));
    let reference = format!("oci:{}", world.path("layout").display());
    let image = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap();
    assert_eq!(image.layers.len(), 2);
    assert!(
        image.name.ends_with(index["digest"].as_str().unwrap()),
        "named by the index, as it was asked for"
    );

    let (named, wrong) = (world.path("named"), world.path("wrong"));
    let mut own = blobs.image(&layers(), architecture());
    own["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    blobs.layout(&named, &[other.clone(), own]);
    let reference = |name: &str| format!("oci:{}:{name}", named.display());
    assert!(world.images.resolve(&reference("v1"), Freshness::Newest, &quiet).is_ok());
    assert_eq!(
        world.images.resolve(&reference("v2"), Freshness::Newest, &quiet).unwrap_err().kind,
        Kind::NotFound
    );
    blobs.layout(&wrong, &[other]);
    let error =
        world.images.resolve(&format!("oci:{}", wrong.display()), Freshness::Newest, &quiet).unwrap_err();
    assert_eq!(error.kind, Kind::Platform);
    assert!(error.message.contains(&format!("must support linux/{}", architecture())), "{error}");
}

#[test]
fn a_layout_that_lies_is_refused() {
    let mut blobs = Blobs::default();
    let image = blobs.image(&layers(), architecture());
    for changed in blobs.0.keys().copied().collect::<Vec<_>>() {
        let world = World::new();
        let mut lying = blobs.clone();
        if let Some(bytes) = lying.0.get_mut(&changed) {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        lying.layout(&world.path("layout"), std::slice::from_ref(&image));
        let reference = format!("oci:{}", world.path("layout").display());
        let error = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap_err();
        assert_eq!(error.kind, Kind::Refused, "{}", error.chain());
        assert_eq!((world.layers(), world.stored("images"), world.stored("tmp")), (0, 0, 0));
        assert!(!world.path("state/images/blobs/sha256").join(changed.hex()).exists());
    }
    // The configuration names other content than the layers have.
    let world = World::new();
    let config = json!({ "os": "linux", "rootfs": { "diff_ids": [Digest::of(b"other")] } });
    let mut blobs = Blobs::default();
    let config = blobs.add(config.to_string().into_bytes(), "c");
    let packed = blobs.add(layers()[0].clone(), "l");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [packed] });
    let manifest = blobs.add(manifest.to_string().into_bytes(), "m");
    blobs.layout(&world.path("layout"), &[manifest]);
    let reference = format!("oci:{}", world.path("layout").display());
    assert_eq!(world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap_err().kind, Kind::Refused);
    assert_eq!(world.layers(), 0);
}

#[test]
fn an_archive_of_a_layout() {
    let world = World::new();
    let (_, mut descriptor) = write_layout(&world);
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "example.com/app:v1" });
    let mut blobs = Blobs::default();
    blobs.image(&layers(), architecture());
    blobs.layout(&world.path("named"), &[descriptor]);
    archive(&world.path("a.tar"), &world.path("named"));
    let reference = format!("oci-archive:{}", world.path("a.tar").display());
    let image = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap();
    assert_eq!(image.config.env, [("A".to_owned(), "b".to_owned())]);
    // Packed, and loaded: it has its name then, and no registry is asked for it.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &fs::read(world.path("a.tar")).unwrap()).unwrap();
    fs::write(world.path("a.tgz"), encoder.finish().unwrap()).unwrap();
    let loaded = world.images.load(&Source::of_path(world.path("a.tgz")), None).unwrap();
    assert_eq!(loaded, ["example.com/app:v1"]);
    let by_name = world.images.resolve("example.com/app:v1", Freshness::Newest, &quiet).unwrap();
    assert_eq!(by_name.layers, image.layers);
    assert!(by_name.name.starts_with("example.com/app@sha256:"), "{}", by_name.name);
}

#[test]
fn an_archive_of_docker_save() {
    let world = World::new();
    let [bottom, top] = layers();
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": { "Cmd": ["x"] },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&bottom), Digest::of(&top), Digest::of(&bottom)] },
    });
    let saved = json!([{
        "Config": "config.json", "RepoTags": ["app:v1", "localhost:5000/app:v2"],
        "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"],
    }]);
    let folder = world.path("saved");
    for (name, bytes) in [
        ("config.json", config.to_string().into_bytes()),
        ("manifest.json", saved.to_string().into_bytes()),
        ("1/layer.tar", bottom),
        ("2/layer.tar", top),
        ("unused", b"unused".to_vec()),
    ] {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
    fs::create_dir(folder.join("3")).unwrap();
    std::os::unix::fs::symlink("../1/layer.tar", folder.join("3/layer.tar")).unwrap();
    let mut builder = tar::Builder::new(fs::File::create(world.path("s.tar")).unwrap());
    builder.follow_symlinks(false);
    builder.append_dir_all("", &folder).unwrap();
    builder.finish().unwrap();
    drop(builder);

    let loaded = world.images.load(&Source::of_path(world.path("s.tar")), None).unwrap();
    assert_eq!(loaded, ["docker.io/library/app:v1", "localhost:5000/app:v2"]);
    // Two layers, the configuration, the manifest: what the archive had besides is not kept.
    assert_eq!(world.stored("blobs/sha256"), 4);
    let image = world.images.resolve("app:v1", Freshness::Newest, &quiet).unwrap();
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.layers[0], image.layers[2]);
    assert_eq!(world.images.list().unwrap().len(), 2);

    fs::write(folder.join("manifest.json"), r#"[{"Config": "../../etc/passwd", "Layers": []}]"#).unwrap();
    archive(&world.path("bad.tar"), &folder);
    assert!(world.images.load(&Source::of_path(world.path("bad.tar")), Some("x")).is_err());
    assert_eq!(world.stored("blobs/sha256"), 4, "a refused archive left something");
}

#[test]
fn pruning_spares_what_is_held_and_kept() {
    let world = World::new();
    let (reference, _) = write_layout(&world);
    let image = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap();
    let source = Source::of_path(world.path("layout"));
    assert_eq!(world.images.load(&source, Some("kept")).unwrap(), ["docker.io/library/kept:latest"]);
    let listed = world.another().list().unwrap();
    assert!(listed.iter().all(|image| image.in_use), "the same manifest");
    assert_eq!(world.another().prune(&|_| false).unwrap().images, [""; 0]);
    drop(image);
    let pruned = world.another().prune(&|image| image.reference.contains("kept")).unwrap();
    assert_eq!((pruned.images.len(), pruned.layers, pruned.bytes), (1, 0, 0));
    assert!(world.images.resolve("kept", Freshness::Stored, &quiet).is_ok());
    let pruned = world.images.prune(&|_| false).unwrap();
    assert_eq!((pruned.images, pruned.layers), (vec!["docker.io/library/kept:latest".to_owned()], 2));
    assert!(pruned.bytes > 0);
    assert_eq!(
        (world.layers(), world.stored("blobs/sha256"), world.stored("images"), world.stored("held")),
        (0, 0, 0, 0)
    );
    // And from the beginning.
    assert!(world.images.resolve(&reference, Freshness::Stored, &quiet).is_ok());
}

/// A tag that moves for one revision stays for another, across a restart.
#[test]
fn a_revision_keeps_its_image() {
    let world = World::new();
    let layout = world.path("layout");
    let reference = format!("oci:{}", layout.display());
    let put = |content: &str| {
        let mut blobs = Blobs::default();
        let passwd = ("etc/passwd", "app:x:1:1::/:/\n");
        let image = blobs.image(&[layer(&[passwd, ("content", content)])], architecture());
        blobs.layout(&layout, &[image]);
    };
    put("old");
    let old = world.images.resolve_for("r1", &reference, Freshness::Newest, &quiet).unwrap().name;
    put("new");
    let new = world.images.resolve_for("r2", &reference, Freshness::Newest, &quiet).unwrap().name;
    assert_ne!(old, new);
    let restarted = world.another();
    let name = |revision: &str, freshness| {
        restarted.resolve_for(revision, &reference, freshness, &quiet).unwrap().name
    };
    assert_eq!((name("r1", Freshness::Stored), name("r2", Freshness::Stored)), (old.clone(), new.clone()));
    assert_eq!(name("r3", Freshness::Stored), new);
    assert_eq!(restarted.list().unwrap().len(), 1);
    // Wanted by the control plane, or not.
    assert!(restarted.prune(&|image| image.reference == reference).unwrap().images.is_empty());
    assert_eq!(name("r1", Freshness::Stored), old);
    drop(world.images);
    let fresh = vestibule_images::Images::open(&world.folder.path().join("state")).unwrap();
    assert_eq!(fresh.prune(&|_| false).unwrap().images, [reference]);
}
