//! The load: h2load (Debian package nghttp2-client), pinned beside the backend.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::peers::{LOAD_CORE, Running, Tools, pinned};
use super::works::{Kind, Work};
use super::{Failure, failure};

/// One run of the load generator.
pub struct Load<'a> {
    pub url: &'a str,
    pub work: Work,
    pub length: Duration,
    /// Requests a second over all connections; as many as possible without.
    pub rate: Option<u64>,
    /// Where to write a line a request.
    pub log: Option<&'a Path>,
}

/// What came out of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub requests: u64,
    pub failed: u64,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
}

/// Whether latencies at a fixed rate can be had: the load generator keeps one.
pub fn has_rate(work: Work) -> bool {
    !matches!(work.load, Kind::Connect(_))
}

pub fn run(tools: &Tools, running: &Running, load: &Load<'_>) -> Result<Outcome, Failure> {
    match load.work.load {
        Kind::Connect(how) => connect(running, load, how.word()),
        Kind::KeepAlive => h2load(tools, load, &["--h1"]),
        Kind::Http2 { streams } => h2load(tools, load, &["-m", &streams.to_string()]),
    }
}

/// Our own client, for what h2load cannot do.
fn connect(running: &Running, load: &Load<'_>, how: &str) -> Result<Outcome, Failure> {
    let millis = load.length.as_millis().to_string();
    let mut command = pinned(LOAD_CORE, &std::env::current_exe()?);
    command.args(["bench", "client", "connect", &running.address(), &millis, how]);
    let output = command.stdout(std::process::Stdio::piped()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match figures[..] {
        [requests, failed] => Ok(Outcome { requests, failed }),
        _ => Err(failure(format!("the client said nothing usable: {text:?}"))),
    }
}

fn h2load(tools: &Tools, load: &Load<'_>, how: &[&str]) -> Result<Outcome, Failure> {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CORE]).arg(&tools.h2load).args(["-t", "1"]).args(how);
    command.args(["-c", &load.work.connections.to_string()]);
    command.args(["-D", &format!("{}ms", load.length.as_millis())]);
    if let Some(rate) = load.rate {
        let each = (rate / u64::from(load.work.connections)).max(1);
        command.args(["--rps", &each.to_string()]);
    }
    if let Some(log) = load.log {
        let _ = fs::remove_file(log);
        command.arg(format!("--log-file={}", log.display()));
    }
    let output = command.arg(load.url).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let other = load.work.is_http2() && !text.contains("Application protocol: h2");
    if other {
        return Err(failure("HTTP/2 was not agreed to"));
    }
    parse(&text).ok_or_else(|| failure(format!("h2load said nothing usable:\n{text}")))
}

/// Reads h2load's line `requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, 0 errored, 0 timeout`.
pub fn parse(text: &str) -> Option<Outcome> {
    let line = text.lines().find(|l| l.starts_with("requests: "))?;
    let figure = |word: &str| {
        let part = line.trim_start_matches("requests: ").split(", ").find(|p| p.ends_with(word))?;
        part.split(' ').next()?.parse::<u64>().ok()
    };
    Some(Outcome { requests: figure("succeeded")?, failed: figure("failed")? })
}

/// Percentiles of h2load's log: start time, status, microseconds, by tabs.
pub fn latencies(log: &Path) -> Result<Latency, Failure> {
    let text = fs::read_to_string(log)?;
    let mut micros: Vec<u64> = text.lines().filter_map(|l| l.split('\t').nth(2)?.parse().ok()).collect();
    micros.sort_unstable();
    let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or(0);
    Ok(Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_h2loads_summary() {
        let text = "finished in 1.00s, 10 req/s\nrequests: 12 total, 12 started, 12 done, 10 succeeded, 2 failed, 2 errored, 0 timeout\n";
        assert_eq!(parse(text), Some(Outcome { requests: 10, failed: 2 }));
        assert_eq!(parse("nothing"), None);
    }
}
