//! Images from files: `vestibule images`, and services and jobs that run them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop where its world is not as it should be"
)]

mod world;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use vestibule_images::Digest;
use world::{Answer, BINARY, REGION, World};

/// A program that serves its own name, and needs nothing but itself.
const PROGRAM: &str = r#"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
    if (count > 1) { printf("ran %s\n", words[1]); return 0; }
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 64)) return 1;
    for (;;) {
        char buffer[4096];
        int peer = accept(listener, 0, 0);
        if (read(peer, buffer, sizeof buffer) > 0)
            dprintf(peer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
        close(peer);
    }
}
"#;

/// Writes an OCI layout with the program, or with a file alone where nothing has to run.
fn layout(folder: &Path, program: Option<&Path>) -> Digest {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let add = |bytes: Vec<u8>, kind: &str| {
        let digest = Digest::of(&bytes);
        fs::write(blobs.join(digest.hex()), &bytes).unwrap();
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    };
    let content = program.map_or_else(|| b"nothing".to_vec(), |program| fs::read(program).unwrap());
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, "app", &content[..]).unwrap();
    let layer = tar.into_inner().unwrap();
    let diff = Digest::of(&layer).to_string();
    let config = json!({
        "os": "linux", "config": { "Entrypoint": ["/app"] }, "rootfs": { "type": "layers", "diff_ids": [diff] },
    });
    let config = add(config.to_string().into_bytes(), "config.v1+json");
    let layer = add(layer, "layer.v1.tar");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = add(manifest.to_string().into_bytes(), "manifest.v1+json");
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    manifest["digest"].as_str().unwrap().parse().unwrap()
}

fn compiled(world: &World) -> Option<std::path::PathBuf> {
    let (source, program) = (world.path("program.c"), world.path("program"));
    fs::write(&source, PROGRAM).unwrap();
    let status = Command::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(&source).status();
    status.is_ok_and(|status| status.success()).then_some(program)
}

fn images(world: &World, words: &[&str]) -> Answer {
    let state = world.path("state");
    let mut command = world.command(BINARY);
    command.args(["images", "--state-dir"]).arg(state).args(words);
    Answer::of(command.output().unwrap())
}

fn ok(world: &World, words: &[&str]) -> String {
    let answer = images(world, words);
    assert_eq!(answer.code, 0, "{words:?}: {}", answer.stderr);
    answer.stdout
}

fn listed(world: &World) -> Vec<String> {
    let all: Vec<Value> = serde_json::from_str(&ok(world, &["list", "--json"])).unwrap();
    all.iter().map(|image| image["reference"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn loaded_listed_and_thrown_away() {
    let world = World::start();
    let digest = layout(&world.path("layout"), None);
    assert_eq!(ok(&world, &["load", "layout", "app:v1"]), "docker.io/library/app:v1\n");
    let tar = Command::new("tar")
        .args(["-cf", "app.tar", "-C", "layout", "."])
        .current_dir(world.path(""))
        .status();
    assert!(tar.unwrap().success());
    assert_eq!(ok(&world, &["load", "app.tar", "gcr.io/p/app:v2"]), "gcr.io/p/app:v2\n");
    assert_eq!(listed(&world), ["docker.io/library/app:v1", "gcr.io/p/app:v2"]);
    let table = ok(&world, &["list"]);
    assert!(table.contains("loaded") && table.contains(&digest.to_string()[..19]), "{table}");
    let nameless = images(&world, &["load", "layout"]);
    assert!(nameless.code == 1 && nameless.stderr.contains("must be given"), "{nameless:?}");
    assert_eq!(images(&world, &["load", "nowhere", "x:v1"]).code, 1);
    // A job that has never run names it all the same.
    world.ok(&format!("run jobs create keeps --image=app:v1 {REGION}"));
    assert_eq!(ok(&world, &["prune"]), "gcr.io/p/app:v2\n");
    world.ok(&format!("run jobs delete keeps --quiet {REGION}"));
    let mut world = world;
    world.stop();
    assert_eq!(ok(&world, &["prune"]), "docker.io/library/app:v1\n");
    assert!(listed(&world).is_empty());
}

#[test]
fn what_runs_stays() {
    let world = World::start();
    let Some(program) = compiled(&world) else {
        return println!("not run: no C compiler makes a static program here");
    };
    let digest = layout(&world.path("layout"), Some(&program));
    ok(&world, &["load", "layout", "app:v1"]);
    let deployed =
        world.gcloud(&format!("run deploy app --image=app:v1 --no-allow-unauthenticated {REGION}"));
    if deployed.stderr.contains("takes a container runtime") {
        return println!("not run: no containers here; `vestibule doctor` says what is missing");
    }
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    let pinned = format!("docker.io/library/app@{digest}");
    let shown =
        world.ok(&format!("run revisions list --service=app {REGION} --format=value(status.imageDigest)"));
    assert_eq!(shown.trim(), pinned);
    // An update names what the revision runs, not the tag, which no registry knows.
    world.ok(&format!("run services update app --set-env-vars=A=b {REGION}"));
    let file = format!("oci:{}", world.path("layout").display());
    world.ok(&format!("run deploy file --image={file} --no-allow-unauthenticated {REGION}"));
    fs::remove_dir_all(world.path("layout")).unwrap();
    world.ok(&format!("run services update file --set-env-vars=A=b {REGION}"));
    assert_eq!(ok(&world, &["prune"]), "");
    world.ok(&format!("run jobs deploy job --image=app:v1 --args=well --wait {REGION}"));
    assert_eq!(
        world.ok(&format!("run jobs logs read job {REGION} --format=value(textPayload)")).trim(),
        "ran well"
    );
    let mut world = world;
    world.stop();
    assert_eq!(ok(&world, &["prune"]), "");
    world.serve();
    world.ok(&format!("run services update app --set-env-vars=A=c {REGION}"));
    for service in ["app", "file"] {
        world.ok(&format!("run services delete {service} --quiet {REGION}"));
    }
    world.ok(&format!("run jobs delete job --quiet {REGION}"));
    world.stop();
    assert_eq!(ok(&world, &["prune"]).lines().count(), 2);
    assert!(listed(&world).is_empty());
}

#[test]
fn a_folder_with_a_dockerfile_is_built_and_deployed() {
    let world = World::start();
    let source = world.path("source");
    fs::create_dir(&source).unwrap();
    let deploy = format!("run deploy built --source=source --no-allow-unauthenticated {REGION}");
    let none = world.gcloud(&deploy);
    assert!(none.code == 1 && none.stderr.contains("has no Dockerfile"), "{}", none.stderr);
    let Some(program) = compiled(&world) else {
        return println!("not run: no C compiler makes a static program here");
    };
    fs::copy(program, source.join("app")).unwrap();
    fs::write(source.join("Dockerfile"), "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n").unwrap();
    let built = world.gcloud(&deploy);
    for (words, why) in [
        ("nothing on this machine can build images", "neither buildah nor Docker is here"),
        ("takes a container runtime", "no containers here; `vestibule doctor` says what is missing"),
    ] {
        if built.stderr.contains(words) {
            return println!("not run: {why}");
        }
    }
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert!(built.stderr.contains("Building Container...done"), "{}", built.stderr);
    let image =
        world.ok(&format!("run revisions list --service=built {REGION} --format=value(status.imageDigest)"));
    assert!(
        image.starts_with("us-central1-docker.pkg.dev/demo/cloud-run-source-deploy/built@sha256:"),
        "{image}"
    );
}
