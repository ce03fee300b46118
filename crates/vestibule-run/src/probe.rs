//! Probes: when does a container serve, is it alive, is it ready?
//!
//! Cloud Run's default probe connects to the port and has 240 seconds to succeed. Kubernetes, whose probes these are,
//! looks once a period, so an instance that is ready a moment after a look is found ready a whole period later. Here
//! the period and the threshold only say how long an instance may take; within that time it is tried again and again,
//! after pauses of at most a tenth of the time that has passed. Waiting for an instance so costs at most a tenth of
//! what its own start takes, and at least a millisecond.
//!
//! Liveness and readiness probes look once a period, as they are written.

mod grpc;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::desired::{Container, Probe, ProbeKind};
use crate::driver::container::route::connect;

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

/// Where a container is probed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Where it listens for requests, or, without such a port, its address.
    pub(crate) address: SocketAddr,
    /// The port that the template names for requests. The container may listen at another.
    pub(crate) port: Option<u16>,
}

impl Place {
    fn at(self, port: u16) -> SocketAddr {
        if self.port == Some(port) { self.address } else { SocketAddr::new(self.address.ip(), port) }
    }
}

/// Waits until a container passes its startup probe. The error says how long it was tried.
pub(crate) async fn until_ready(probe: &Probe, place: Place) -> Result<(), Duration> {
    let start = Instant::now();
    let end = start + budget(probe);
    sleep(probe.initial_delay.min(MAX_STARTUP)).await;
    loop {
        let tried = timeout_at(end, passes(probe, place)).await;
        match tried {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(_) => return Err(start.elapsed()),
        }
        let pause = (start.elapsed() / 10).clamp(MIN_PAUSE, longest_pause(&probe.kind));
        if Instant::now() + pause >= end {
            return Err(start.elapsed());
        }
        sleep(pause).await;
    }
}

/// Waits until a probe has failed so often in a row that the container counts as failed.
pub(crate) async fn until_failed(probe: &Probe, place: Place) {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        failures = if passes(probe, place).await { 0 } else { failures + 1 };
        if failures >= probe.failure_threshold.max(1) {
            return;
        }
        sleep_until(began + probe.period.max(MIN_PAUSE)).await;
    }
}

/// Waits until a probe that had failed passes again.
pub(crate) async fn until_passed(probe: &Probe, place: Place) {
    loop {
        let began = Instant::now();
        if passes(probe, place).await {
            return;
        }
        sleep_until(began + probe.period.max(MIN_PAUSE)).await;
    }
}

/// Looks a first time, as often as it may fail. Whether it passed.
pub(crate) async fn passes_at_first(probe: &Probe, place: Place) -> bool {
    for _ in 0..probe.failure_threshold.max(1) {
        let began = Instant::now();
        if passes(probe, place).await {
            return true;
        }
        sleep_until(began + probe.period.max(MIN_PAUSE)).await;
    }
    false
}

/// Looks once.
async fn passes(probe: &Probe, place: Place) -> bool {
    matches!(timeout(probe.timeout.max(MIN_PAUSE), try_once(&probe.kind, place)).await, Ok(Ok(())))
}

fn longest_pause(kind: &ProbeKind) -> Duration {
    match kind {
        ProbeKind::Tcp { .. } => MAX_CONNECT_PAUSE,
        ProbeKind::Http { .. } | ProbeKind::Grpc { .. } => MAX_REQUEST_PAUSE,
    }
}

async fn try_once(kind: &ProbeKind, place: Place) -> io::Result<()> {
    match kind {
        ProbeKind::Tcp { port } => connect(place.at(*port)).await.map(drop),
        ProbeKind::Http { port, path, headers } => http(place.at(*port), path, headers).await,
        ProbeKind::Grpc { port, service } => grpc::check(place.at(*port), service).await,
    }
}

/// A GET that is answered with a status from 200 to 399.
async fn http(address: SocketAddr, path: &str, headers: &[(String, String)]) -> io::Result<()> {
    let mut stream = connect(address).await?;
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

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Startup,
    Liveness,
    Readiness,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Purpose::Startup => "STARTUP",
            Purpose::Liveness => "LIVENESS",
            Purpose::Readiness => "READINESS",
        }
    }
}

/// What the system log says about a probe: `Default STARTUP TCP probe`, `LIVENESS HTTP probe`. `port`: where requests
/// go.
pub(crate) fn title(purpose: Purpose, probe: &Probe, port: Option<u16>) -> String {
    let kind = match probe.kind {
        ProbeKind::Tcp { .. } => "TCP",
        ProbeKind::Http { .. } => "HTTP",
        ProbeKind::Grpc { .. } => "GRPC",
    };
    let is_default =
        purpose == Purpose::Startup && port.is_some_and(|port| *probe == Probe::default_tcp(port));
    let default = if is_default { "Default " } else { "" };
    format!("{default}{} {kind} probe", purpose.word())
}

/// What a probe was about: the container, its port, its path.
pub(crate) fn subject(container: &Container, probe: &Probe) -> String {
    let (port, path) = match &probe.kind {
        ProbeKind::Tcp { port } | ProbeKind::Grpc { port, .. } => (port, String::new()),
        ProbeKind::Http { port, path, .. } => (port, format!(" path {path:?}")),
    };
    format!("for container {:?} on port {port}{path}", container.name)
}

/// How often a probe failed before that had consequences: `1 time`, `3 times`.
pub(crate) fn times(probe: &Probe) -> String {
    match probe.failure_threshold.max(1) {
        1 => "1 time".to_owned(),
        times => format!("{times} times"),
    }
}

#[cfg(test)]
mod tests;
