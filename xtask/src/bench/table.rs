//! The result as a table.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use super::load::Latency;
use super::peers::{Peer, Tools};
use super::works::Work;

/// One round of one proxy.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub cpu_per_request: Duration,
    pub requests_per_second: f64,
    pub failed: u64,
    /// At half of the rate above, where the load can keep one.
    pub latency: Option<Latency>,
    pub resident_kib: u64,
}

/// The median round of one proxy at one work, by CPU a request.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub work: Work,
    pub peer: Peer,
    pub sample: Sample,
    /// Failed requests of all rounds.
    pub failed: u64,
}

impl Row {
    pub fn median(work: Work, peer: Peer, mut samples: Vec<Sample>) -> Row {
        samples.sort_by_key(|s| s.cpu_per_request);
        let failed = samples.iter().map(|s| s.failed).sum();
        Row { work, peer, sample: samples[samples.len() / 2], failed }
    }
}

/// The table and what it was measured with.
pub fn markdown(rows: &[Row], missing: &[&str], tools: &Tools) -> String {
    let mut text = format!("Machine: {}. Date: {}.\nVersions: {}.\n\n", machine(), date(), tools.versions());
    text.push_str("| work | proxy | CPU a request | Vestibule ÷ it | requests/s | p50 | p99 | p99.9 | memory | failed |\n");
    text.push_str("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for row in rows {
        let s = row.sample;
        let latency = s.latency.map_or_else(
            || "– | – | –".to_owned(),
            |at| format!("{} µs | {} µs | {} µs", at.p50, at.p99, at.p999),
        );
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} µs | {} | {:.0} | {latency} | {} KiB | {} |",
            row.work.name,
            row.peer.name(),
            micros(s.cpu_per_request),
            ratio(rows, row),
            s.requests_per_second,
            s.resident_kib,
            row.failed,
        );
    }
    for name in missing {
        let _ = writeln!(text, "\nNot measured, because it was not found: {name}.");
    }
    text
}

/// The table as `docs/benchmarks.md`.
pub fn document(table: &str) -> String {
    format!(
        "# Benchmarks\n\n\
         ![CPU a request](benchmarks.svg)\n\n\
         Made by `cargo xtask bench proxy --write docs/benchmarks.md`. Each proxy in turn is pinned to one core and\n\
         forwards to the same nginx backend; load (h2load) and backend share another core. CPU a request is user and\n\
         system time of the proxy's processes over the requests served, at full load; latencies are at half of that\n\
         rate. Access logs are on unless the row says otherwise. Rules are the same for Envoy, a route each; the\n\
         request meets the last. Rows are the median of the rounds; ratios are of one run.\n\n{table}"
    )
}

/// Our CPU a request over the row's, at the same work.
fn ratio(rows: &[Row], row: &Row) -> String {
    let ours = rows.iter().find(|r| r.work.name == row.work.name && r.peer == Peer::Vestibule);
    match ours {
        Some(ours) if row.peer != Peer::Vestibule => {
            format!("{:.2}", micros(ours.sample.cpu_per_request) / micros(row.sample.cpu_per_request))
        }
        _ => "1".to_owned(),
    }
}

pub fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

pub fn date() -> String {
    let output = Command::new("date").arg("+%Y-%m-%d").output();
    output.map_or_else(|_| "?".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
