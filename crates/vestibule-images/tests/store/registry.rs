//! A real registry on loopback: Debian's package `docker-registry`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use vestibule_images::error::Kind;
use vestibule_images::{Digest, Freshness, Progress};

use crate::making::{Blobs, World, architecture, layer, layers};

struct Registry {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    /// `None` where there is no registry to test with.
    fn start(htpasswd: Option<&str>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let auth = htpasswd.map_or(String::new(), |line| {
            fs::write(folder.path().join("htpasswd"), line).unwrap();
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {root}/htpasswd\n")
        });
        let config = format!(
            "version: 0.1\nlog:\n  level: info\n  formatter: text\nstorage:\n  filesystem:\n    rootdirectory: {root}\nhttp:\n  addr: 127.0.0.1:0\n{auth}"
        );
        fs::write(folder.path().join("config.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.env_clear();
        let Ok(mut process) = command.spawn() else {
            println!("not run: the program docker-registry (Debian's package of that name) is not installed");
            return None;
        };
        // It says where it listens.
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the registry ended").unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest
                    .trim_matches(|c: char| {
                        c != '[' && c != ']' && !c.is_ascii_hexdigit() && c != '.' && c != ':'
                    })
                    .split([' ', '"'])
                    .next()
                    .unwrap()
                    .to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, address, _folder: folder })
    }

    /// One request, as simply as can be.
    fn send(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic bWU6c2VjcmV0\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }

    fn push(&self, name: &str, tag: &str, blobs: &Blobs, manifests: &[Digest]) {
        for (digest, bytes) in blobs.0.iter().filter(|(digest, _)| !manifests.contains(digest)) {
            let (status, answer) = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), "x/y", b"");
            assert_eq!(status, 202, "{answer}");
            let location = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
            let path = &location[location.find("/v2/").unwrap()..];
            let (status, answer) =
                self.send("PUT", &format!("{path}&digest={digest}"), "application/octet-stream", bytes);
            assert_eq!(status, 201, "{answer}");
        }
        for (place, digest) in manifests.iter().enumerate() {
            let bytes = &blobs.0[digest];
            let parsed: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            let reference = if place + 1 == manifests.len() { tag.to_owned() } else { digest.to_string() };
            let path = format!("/v2/{name}/manifests/{reference}");
            let (status, answer) = self.send("PUT", &path, parsed["mediaType"].as_str().unwrap(), bytes);
            assert_eq!(status, 201, "{answer}");
        }
    }
}

fn quiet(_: Progress) {}

fn digest(descriptor: &serde_json::Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

#[test]
fn pulls_once_follows_tags_and_serves_without_the_registry() {
    let Some(registry) = Registry::start(None) else { return };
    let world = World::new();
    let mut blobs = Blobs::default();
    let other = blobs.image(&[layer(&[("other", "")])], "s390x");
    let own = blobs.image(&layers(), architecture());
    let index = blobs.add(Blobs::index(&[other.clone(), own.clone()]).to_string().into_bytes(), "index");
    registry.push("team/app", "v1", &blobs, &[digest(&other), digest(&own), digest(&index)]);

    let reference = format!("{}/team/app:v1", registry.address);
    let seen = Mutex::new(Vec::new());
    let image = world
        .images
        .resolve(&reference, Freshness::Newest, &|progress| seen.lock().unwrap().push(progress))
        .unwrap();
    assert_eq!(image.name, format!("{}/team/app@{}", registry.address, digest(&index)));
    assert_eq!(image.layers.len(), 2);
    let seen = seen.into_inner().unwrap();
    let Some(Progress::Pulling { done: 0, total }) = seen.first().copied() else { panic!("{seen:?}") };
    assert!(total > 0 && seen.contains(&Progress::Pulling { done: total, total }), "{seen:?}");
    assert!(seen.contains(&Progress::Unpacking { done: 1, total: 2 }), "{seen:?}");
    // Only what this machine needs was got: index, manifest, configuration, two layers.
    assert_eq!(world.stored("blobs/sha256"), 5);

    // The tag moves: a new deployment sees it, what was deployed does not.
    let mut moved = Blobs::default();
    let next = moved.image(&[layer(&[("etc/passwd", "app:x:1:1::/:/\n")])], architecture());
    registry.push("team/app", "v1", &moved, &[digest(&next)]);
    let stored = world.another().resolve(&reference, Freshness::Stored, &quiet).unwrap();
    assert_eq!(stored.name, image.name);
    let newest = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap();
    assert!(newest.name.ends_with(&digest(&next).to_string()));
    let pinned = format!("{}/team/app@{}", registry.address, digest(&index));
    assert_eq!(world.images.resolve(&pinned, Freshness::Newest, &quiet).unwrap().name, pinned);

    for missing in ["team/app:v9", "team/nothing:v1", &format!("team/app@{}", Digest::of(b"no"))] {
        let reference = format!("{}/{missing}", registry.address);
        let error = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap_err();
        assert_eq!(
            (error.kind, &error.message),
            (Kind::NotFound, &format!("Image '{reference}' not found."))
        );
    }

    // Without the registry: what is there serves.
    drop(registry);
    assert_eq!(world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap().name, newest.name);
    let unknown = reference.replace(":v1", ":v2");
    let error = world.images.resolve(&unknown, Freshness::Newest, &quiet).unwrap_err();
    assert_eq!(error.kind, Kind::Unreachable, "{}", error.chain());
}

/// `me:secret`, as `htpasswd -B` writes it.
const ACCOUNT: &str = "me:$2y$05$/Iecq6KbeJCjZZrzM9sqcOgjC9SCqEDXUHonGR3H.PtcIr.wm3mFa\n";

#[test]
fn a_private_registry_wants_the_users_docker_credentials() {
    let Some(registry) = Registry::start(Some(ACCOUNT)) else { return };
    let world = World::new();
    let mut blobs = Blobs::default();
    let own = blobs.image(&layers(), architecture());
    let reference = format!("{}/app:v1", registry.address);
    let denied = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap_err();
    assert_eq!(denied.kind, Kind::Denied, "{}", denied.chain());

    registry.push("app", "v1", &blobs, &[digest(&own)]);
    // Credentials are found through the environment, which tests share, so another process looks.
    let docker = world.path("docker");
    fs::create_dir(&docker).unwrap();
    let auths = serde_json::json!({ "auths": { registry.address.as_str(): { "auth": "bWU6c2VjcmV0" } } });
    fs::write(docker.join("config.json"), auths.to_string()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["registry::role_puller", "--exact", "--nocapture"])
        .env("DOCKER_CONFIG", &docker)
        .env("PULL", &reference)
        .env("PULL_INTO", world.path("state"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("got {}/app@{}", registry.address, digest(&own))), "{said}");
}

/// Not a test of its own: what the test above starts.
#[test]
fn role_puller() {
    if let (Ok(reference), Ok(folder)) = (std::env::var("PULL"), std::env::var("PULL_INTO")) {
        let images = vestibule_images::Images::open(folder.as_ref()).unwrap();
        match images.resolve(&reference, Freshness::Newest, &quiet) {
            Ok(image) => println!("got {}", image.name),
            Err(error) => println!("failed {}", error.chain()),
        }
    }
}

/// A registry that answers with what it likes.
#[test]
fn a_registry_that_lies_or_breaks_off_is_not_believed() {
    let mut blobs = Blobs::default();
    let own = blobs.image(&layers(), architecture());
    let (manifest, layer) = (digest(&own), Digest::of(&layers()[1]));
    for (what, expected) in [
        ("wrong", Kind::Refused),
        ("long", Kind::Refused),
        ("short", Kind::Unreachable),
        ("manifest", Kind::Refused),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let blobs = blobs.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let blobs = blobs.clone();
                std::thread::spawn(move || answer(stream.unwrap(), &blobs, what, layer, manifest));
            }
        });
        let world = World::new();
        let asked =
            if what == "manifest" { format!("@{}", Digest::of(b"another")) } else { ":v1".to_owned() };
        let reference = format!("{address}/app{asked}");
        let error = world.images.resolve(&reference, Freshness::Newest, &quiet).unwrap_err();
        assert_eq!(error.kind, expected, "{what}: {}", error.chain());
        assert_eq!((world.layers(), world.stored("images"), world.stored("tmp")), (0, 0, 0), "{what}");
        assert!(!world.path("state/images/blobs/sha256").join(layer.hex()).exists(), "{what}");
    }
}

fn answer(stream: TcpStream, blobs: &Blobs, what: &str, victim: Digest, manifest: Digest) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut stream = stream;
    while let Some(Ok(first)) = lines.next() {
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let path = first.split(' ').nth(1).unwrap().to_owned();
        let wanted = path.rsplit('/').next().unwrap().parse().unwrap_or(manifest);
        let wanted = if path.contains("/manifests/") { manifest } else { wanted };
        let mut body = if path == "/v2/" { Vec::new() } else { blobs.0[&wanted].clone() };
        let mut length = body.len();
        if wanted == victim {
            match what {
                "wrong" => body[0] ^= 1,
                "long" => {
                    body.extend_from_slice(b"more");
                    length += 4;
                }
                "short" => body.truncate(100),
                _ => {}
            }
        }
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n");
        if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() || body.len() < length {
            return;
        }
    }
}
