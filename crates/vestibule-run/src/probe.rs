//! The startup probe: when does an instance serve?
//!
//! Cloud Run's default probe connects to the port and has 240 seconds to succeed. Kubernetes, whose probes these are,
//! looks once a period, so an instance that is ready a moment after a look is found ready a whole period later. Here
//! the period and the threshold only say how long an instance may take; within that time it is tried again and again,
//! after pauses of at most a tenth of the time that has passed. Waiting for an instance so costs at most a tenth of
//! what its own start takes, and at least a millisecond.

mod grpc;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::desired::{Probe, ProbeKind, Revision};

/// The longest an instance may take to start. Cloud Run container contract: 4 minutes.
pub const MAX_STARTUP: Duration = Duration::from_secs(240);
/// Shortest pause between two tries.
const MIN_PAUSE: Duration = Duration::from_millis(1);
/// Longest pause between two tries to connect.
const MAX_CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between two tries that reach the program itself.
const MAX_REQUEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest status line that is read.
const MAX_STATUS_LINE: usize = 256;

/// How long an instance may take by its probe.
pub(crate) fn budget(probe: &Probe) -> Duration {
    let tries = probe.period.max(probe.timeout).saturating_mul(probe.failure_threshold.max(1));
    probe.initial_delay.saturating_add(tries).min(MAX_STARTUP)
}

/// Waits until the instance at `address` passes the revision's probe. The error says how long it was tried.
pub(crate) async fn until_ready(revision: &Revision, address: SocketAddr) -> Result<(), Duration> {
    let probe = &revision.startup_probe;
    let start = Instant::now();
    let end = start + budget(probe);
    sleep(probe.initial_delay.min(MAX_STARTUP)).await;
    loop {
        let tried = timeout_at(end, timeout(probe.timeout.max(MIN_PAUSE), try_once(revision, address))).await;
        match tried {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(_) => {}
            Err(_) => return Err(start.elapsed()),
        }
        let pause = (start.elapsed() / 10).clamp(MIN_PAUSE, longest_pause(&probe.kind));
        if Instant::now() + pause >= end {
            return Err(start.elapsed());
        }
        sleep(pause).await;
    }
}

fn longest_pause(kind: &ProbeKind) -> Duration {
    match kind {
        ProbeKind::Tcp { .. } => MAX_CONNECT_PAUSE,
        ProbeKind::Http { .. } | ProbeKind::Grpc { .. } => MAX_REQUEST_PAUSE,
    }
}

async fn try_once(revision: &Revision, address: SocketAddr) -> io::Result<()> {
    let at = |port: u16| if port == revision.port { address } else { SocketAddr::new(address.ip(), port) };
    match &revision.startup_probe.kind {
        ProbeKind::Tcp { port } => TcpStream::connect(at(*port)).await.map(drop),
        ProbeKind::Http { port, path, headers } => http(at(*port), path, headers).await,
        ProbeKind::Grpc { port, service } => grpc::check(at(*port), service).await,
    }
}

/// A GET that is answered with a status from 200 to 399.
async fn http(address: SocketAddr, path: &str, headers: &[(String, String)]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&http_request(address, path, headers)).await?;
    let mut head = Vec::new();
    while !head.contains(&b'\n') && head.len() < MAX_STATUS_LINE {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    match status(&head) {
        Some(200..=399) => Ok(()),
        _ => Err(io::Error::other("the probe was not answered with success")),
    }
}

fn http_request(address: SocketAddr, path: &str, headers: &[(String, String)]) -> Vec<u8> {
    let path = if path.starts_with('/') { path } else { "/" };
    let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    let has = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    if !has("host") {
        request.push_str(&format!("Host: {address}\r\n"));
    }
    if !has("user-agent") {
        request.push_str("User-Agent: vestibule-probe\r\n");
    }
    for (name, value) in headers {
        // What would end the line is left out rather than let it write lines of its own.
        if !format!("{name}{value}").contains(['\r', '\n']) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// The status in the first line of an answer.
fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r' || *byte == b'\n').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    rest.get(..3)?.parse().ok()
}

/// What the system log says about a probe: `Default STARTUP TCP probe`, `STARTUP HTTP probe`.
pub(crate) fn title(revision: &Revision) -> String {
    let probe = &revision.startup_probe;
    let kind = match probe.kind {
        ProbeKind::Tcp { .. } => "TCP",
        ProbeKind::Http { .. } => "HTTP",
        ProbeKind::Grpc { .. } => "GRPC",
    };
    let default = if *probe == Probe::default_tcp(revision.port) { "Default " } else { "" };
    format!("{default}STARTUP {kind} probe")
}

/// What the probe was about: the container, its port, its path.
pub(crate) fn subject(revision: &Revision) -> String {
    let (port, path) = match &revision.startup_probe.kind {
        ProbeKind::Tcp { port } | ProbeKind::Grpc { port, .. } => (port, String::new()),
        ProbeKind::Http { port, path, .. } => (port, format!(" path {path:?}")),
    };
    format!("for container {:?} on port {port}{path}", revision.container_name)
}

#[cfg(test)]
mod tests;
