//! `cargo xtask bench proxy`: the proxy beside nginx, HAProxy and Envoy in one run on one machine. Names have a
//! measurement of their own ([`dns`]).
//!
//! Each proxy in turn is pinned to the first core and forwards to one nginx backend; load generator and backend share
//! the second core. What is compared is CPU time a request (user and system time of the proxy's processes over the
//! requests served), which a noisy machine disturbs far less than throughput does, and the latency at a fixed rate.
//! Access logs are on everywhere. A peer that is not installed is named and left out.

mod cold_start;
mod dns;
mod load;
mod namespace;
mod peers;
mod proc;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use load::Load;
use peers::{Peer, Running};
use table::Row;

/// Why a measurement was given up.
pub type Failure = Box<dyn std::error::Error>;

fn failure(text: impl Into<String>) -> Failure {
    text.into().into()
}

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    pub name: &'static str,
    /// Path at the backend; `/N` answers N bytes.
    pub path: &'static str,
    pub tls: bool,
    /// Client connections.
    pub connections: u32,
}

/// What is measured, in the order of the table.
const WORKS: [Work; 5] = [
    Work { name: "HTTP/1.1 keep-alive, empty answer", path: "/0", tls: false, connections: 32 },
    Work { name: "HTTP/1.1 keep-alive, 1 KiB", path: "/1024", tls: false, connections: 32 },
    Work { name: "HTTP/1.1 keep-alive, 64 KiB", path: "/65536", tls: false, connections: 32 },
    Work { name: "HTTP/1.1 keep-alive, 1 MiB", path: "/1048576", tls: false, connections: 8 },
    Work { name: "HTTP/1.1 over TLS 1.3, 1 KiB", path: "/1024", tls: true, connections: 32 },
];

/// Length of one counted run; each run is preceded by a warm-up of a quarter of it.
const DEFAULT_SECONDS: u64 = 4;
/// Runs of each proxy for each work, in turns; the median is taken.
const DEFAULT_ROUNDS: usize = 3;

struct Options {
    seconds: u64,
    rounds: usize,
    write: Option<PathBuf>,
}

/// Runs `cargo xtask bench proxy|dns|namespace|cold-start [--seconds N] [--rounds N] [--write FILE]`.
pub fn run(args: &[String]) -> Result<(), Failure> {
    let options = parse(args)?;
    if args.first().is_some_and(|word| word == "dns") {
        return dns::run(&options);
    }
    if args.first().is_some_and(|word| word == "cold-start") {
        let dir = tempdir()?;
        let result = cold_start::run(options.write.as_deref(), &dir);
        let _ = std::fs::remove_dir_all(&dir);
        return result;
    }
    if args.first().is_some_and(|word| word == "namespace") {
        return namespace::run(&options);
    }
    let tools = peers::Tools::find()?;
    let dir = tempdir()?;
    let result = measure(&options, &tools, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    let (rows, missing) = result?;
    let text = table::markdown(&rows, &missing, &tools);
    println!("{text}");
    if let Some(file) = options.write {
        std::fs::write(&file, table::document(&text))?;
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Options, Failure> {
    let mut options = Options { seconds: DEFAULT_SECONDS, rounds: DEFAULT_ROUNDS, write: None };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| failure(format!("{word} needs a value")));
        match word.as_str() {
            "proxy" | "dns" | "cold-start" => {}
            "proxy" | "dns" | "namespace" => {}
            "--seconds" => options.seconds = number(value()?)?,
            "--rounds" => options.rounds = number(value()?)? as usize,
            "--write" => options.write = Some(value()?.into()),
            other => return Err(failure(format!("unknown argument {other}"))),
        }
    }
    Ok(options)
}

fn number(word: &str) -> Result<u64, Failure> {
    match word.parse() {
        Ok(n) if (1..=600).contains(&n) => Ok(n),
        _ => Err(failure(format!("{word} is not a number from 1 to 600"))),
    }
}

fn tempdir() -> Result<PathBuf, Failure> {
    let dir = std::env::temp_dir().join(format!("vestibule-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Every work with every peer in turns, so that a change of the machine's speed meets all of them alike.
fn measure(
    options: &Options,
    tools: &peers::Tools,
    dir: &Path,
) -> Result<(Vec<Row>, Vec<&'static str>), Failure> {
    let backend = peers::start_backend(tools, dir)?;
    let (present, missing) = peers::all(tools);
    let mut rows = Vec::new();
    for work in WORKS {
        let mut samples: Vec<Vec<table::Sample>> = present.iter().map(|_| Vec::new()).collect();
        for round in 0..options.rounds {
            for (peer, taken) in present.iter().zip(&mut samples) {
                progress(&format!("{} · {} · round {}", work.name, peer.name(), round + 1));
                taken.push(sample(options, tools, dir, &backend, *peer, work)?);
            }
        }
        for (peer, taken) in present.iter().zip(samples) {
            rows.push(Row::median(work, *peer, taken));
        }
    }
    Ok((rows, missing))
}

fn sample(
    options: &Options,
    tools: &peers::Tools,
    dir: &Path,
    backend: &Running,
    peer: Peer,
    work: Work,
) -> Result<table::Sample, Failure> {
    let running = peers::start(peer, tools, dir, backend.port, work.tls)?;
    let url = running.url(work);
    let length = Duration::from_secs(options.seconds);
    load::run(tools, &Load { url: &url, work, length: length / 4, rate: None, log: None })?;
    let before = running.cpu()?;
    let full = load::run(tools, &Load { url: &url, work, length, rate: None, log: None })?;
    let cpu = running.cpu()? - before;
    let log = dir.join("latency.tsv");
    let half = (full.requests as f64 / length.as_secs_f64() / 2.0) as u64;
    let steady = Load { url: &url, work, length: length / 2, rate: Some(half.max(1)), log: Some(&log) };
    load::run(tools, &steady)?;
    Ok(table::Sample {
        cpu_per_request: cpu / full.requests.max(1) as u32,
        requests_per_second: full.requests as f64 / length.as_secs_f64(),
        failed: full.failed,
        latency: load::latencies(&log)?,
        resident_kib: running.resident_kib()?,
    })
}

/// One line that overwrites itself on a terminal; nothing in a pipe.
fn progress(text: &str) {
    use std::io::{IsTerminal, Write};
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[2K{text}");
        let _ = out.flush();
    }
}
