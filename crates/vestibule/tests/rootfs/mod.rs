//! An image of programs that nobody here wrote, as an OCI layout made from the machine's own files: Debian's static
//! busybox, curl, and Python. By itself it serves HTTP with busybox, and runs what is posted to `/cgi-bin/sh` as a shell
//! script: a way to look at an instance from inside. `/app/server.py` is a server that misbehaves as it is asked to.

#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test may stop where its world is not as it should be")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::world::{Answer, REGION, World};

/// Runs the posted script and answers with what it prints.
const SHELL: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nhead -c \"$CONTENT_LENGTH\" >/tmp/s$$\nsh /tmp/s$$ 2>&1\nrm -f /tmp/s$$\n";

/// The server that misbehaves.
const SERVER: &str = include_str!("server.py");

/// Writes the image to `busybox` in the world's folder. `None` and a line that says why not where it cannot be run.
pub fn image(world: &World) -> Option<String> {
    let linked = Command::new("ldd").arg("/bin/busybox").output();
    let is_static = linked.is_ok_and(|said| String::from_utf8_lossy(&said.stderr).contains("not a dynamic"));
    if !is_static || !Path::new("/usr/bin/python3").exists() {
        println!(
            "not run: no static /bin/busybox or no /usr/bin/python3 (Debian packages busybox-static, python3)"
        );
        return None;
    }
    if rustix::process::geteuid().is_root()
        || fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok()
    {
        let folder = world.path("busybox");
        write(&folder);
        return Some(format!("oci:{}", folder.display()));
    }
    println!("not run: this machine allows no user namespaces");
    None
}

fn write(folder: &Path) {
    let root = folder.join("root");
    for name in ["bin", "www/cgi-bin", "tmp", "etc"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    // busybox's own resolver and TLS cannot be linked statically with glibc, so names and HTTPS are curl's work.
    for name in
        ["sh", "cat", "head", "rm", "nslookup", "httpd", "sleep", "id", "ls", "echo", "env", "dd", "grep"]
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let programs = "which curl; ldd $(which curl) /usr/bin/python3 /usr/lib/python3*/lib-dynload/*.so";
    let files = Command::new("sh").args(["-c", programs]).output().unwrap();
    let files = String::from_utf8(files.stdout).unwrap();
    for file in files.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')) {
        let copy = root.join(&file[1..]);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
    fs::create_dir_all(root.join("app")).unwrap();
    fs::write(root.join("app/server.py"), SERVER).unwrap();
    fs::write(root.join("www/index.html"), "hello from busybox\n").unwrap();
    fs::write(root.join("www/cgi-bin/sh"), SHELL).unwrap();
    fs::set_permissions(root.join("www/cgi-bin/sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let layer = folder.join("layer");
    let made = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&layer).arg(".").status();
    assert!(made.unwrap().success(), "tar");
    let python = format!(
        "cd / && tar -rf {} --exclude=__pycache__ --exclude='*-packages' --exclude=test --exclude='config-*' \
         --exclude=idlelib --exclude=pydoc_data --exclude=lib2to3 --exclude=ensurepip usr/bin/python3 \
         $(readlink -f usr/bin/python3 | cut -c2-) usr/lib/python3.*",
        layer.display()
    );
    assert!(Command::new("sh").args(["-c", &python]).status().unwrap().success(), "tar");
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    // The archive is all that is needed from here on; a copy of Python for each test fills small disks.
    fs::remove_dir_all(&root).unwrap();
    let layer = fs::read(folder.join("layer")).unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diff = digest(&folder.join("layer"));
    fs::remove_file(folder.join("layer")).unwrap();
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/bin/sh", "-c", "exec httpd -f -p $PORT -h /www"],
            "Env": ["PATH=/bin:/usr/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    });
    let config = blob(folder, config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let layer = blob(folder, &layer, "application/vnd.oci.image.layer.v1.tar");
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let manifest =
        blob(folder, manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn blob(folder: &Path, bytes: &[u8], media_type: &str) -> serde_json::Value {
    let file = folder.join("blob");
    fs::write(&file, bytes).unwrap();
    let digest = digest(&file);
    fs::rename(&file, folder.join("blobs/sha256").join(&digest["sha256:".len()..])).unwrap();
    serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

fn digest(file: &Path) -> String {
    let said = Command::new("sha256sum").arg(file).output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    format!("sha256:{}", text.split_whitespace().next().unwrap())
}

/// Deploys the image as a service that everybody may call.
pub fn deploy(world: &World, name: &str, image: &str, flags: &str) -> Answer {
    world.gcloud(&format!("run deploy {name} --image={image} {REGION} --allow-unauthenticated {flags}"))
}

/// The flags that run the server that misbehaves: as a container of the image, or as a process of the machine.
pub fn server(world: &World, image: Option<&str>) -> (String, &'static str) {
    match image {
        Some(image) => (image.to_owned(), "--command=/usr/bin/python3 --args=-u,/app/server.py"),
        None => {
            let file = world.path("server.py");
            fs::write(&file, SERVER).unwrap();
            let flags = format!("--command=/usr/bin/python3 --args=-u,{}", file.display());
            ("process:/usr/bin/python3".to_owned(), Box::leak(flags.into_boxed_str()))
        }
    }
}

/// The default URL of a service.
pub fn url(world: &World, name: &str) -> String {
    world.ok(&format!("run services describe {name} {REGION} --format=value(status.url)")).trim().to_owned()
}

/// A request to a default URL from the machine: status and body. `more`: further words for curl.
pub fn curl(world: &World, url: &str, more: &[&str]) -> (u16, String) {
    let mut command = world.command("curl");
    let front = world.ready("front").trim_start_matches("https://").to_owned();
    command.args(["-sS", "-k", "--max-time", "60", "-w", "\n%{http_code}", "--connect-to"]);
    command.arg(format!("::{front}")).args(more).arg(url);
    let answer = Answer::of(command.output().unwrap());
    assert_eq!(answer.code, 0, "curl {url}: {answer:?}");
    let (body, status) = answer.stdout.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// Runs a script inside an instance of a service; what it prints.
pub fn inside(world: &World, url: &str, script: &str) -> String {
    let (status, body) = curl(world, &format!("{url}/cgi-bin/sh"), &["--data-binary", script]);
    assert_eq!(status, 200, "{script}: {body}");
    body
}
