//! `cargo xtask bench proxy`: the proxy beside nginx, HAProxy and Envoy in one run on one machine. Names have a
//! measurement of their own ([`dns`]).
//!
//! Each proxy in turn is pinned to the first core and forwards to one nginx backend; load generator and backend share
//! the second core. What is compared is CPU time a request (user and system time of the proxy's processes over the
//! requests served), which a noisy machine disturbs far less than throughput does, and the latency at a fixed rate.
//! Besides: what an idle connection costs ([`idle`]), and what clients see of a thousand changes ([`changes`]).
//! Access logs are on unless a row says otherwise. A peer that is not installed is named and left out.

mod changes;
mod client;
mod cold_start;
mod dns;
mod idle;
pub mod load;
mod namespace;
mod peers;
mod plot;
pub mod proc;
mod table;
mod works;

use std::path::{Path, PathBuf};
use std::time::Duration;

use load::Load;
use peers::{Peer, Running};
use table::Row;
use works::{WORKS, Work};

/// Why a measurement was given up.
pub type Failure = Box<dyn std::error::Error>;

fn failure(text: impl Into<String>) -> Failure {
    text.into().into()
}

/// Length of one counted run; each run is preceded by a warm-up of a quarter of it.
const DEFAULT_SECONDS: u64 = 4;
/// Runs of each proxy for each work, in turns; the median is taken.
const DEFAULT_ROUNDS: usize = 3;

struct Options {
    seconds: u64,
    rounds: usize,
    write: Option<PathBuf>,
    /// Only works whose name holds this.
    only: Option<String>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }
}

/// Names of the two measurements that are no rows.
const IDLE: &str = "idle connections";
const CHANGES: &str = "changes under load";

/// Runs `cargo xtask bench proxy|dns|namespace|cold-start`, with `[--quick] [--seconds N] [--rounds N] [--only TEXT]
/// [--write FILE]`.
pub fn run(args: &[String]) -> Result<(), Failure> {
    if args.first().is_some_and(|word| word == "client") {
        return client::run(&args[1..]);
    }
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
    let (rows, missing, notes) = result?;
    let text = table::markdown(&rows, &missing, &tools) + &notes;
    println!("{text}");
    if let Some(file) = options.write {
        std::fs::write(file.with_extension("svg"), plot::svg(&rows))?;
        std::fs::write(&file, table::document(&text))?;
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Options, Failure> {
    let mut options = Options { seconds: DEFAULT_SECONDS, rounds: DEFAULT_ROUNDS, write: None, only: None };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| failure(format!("{word} needs a value")));
        match word.as_str() {
            "proxy" | "dns" | "namespace" | "cold-start" => {}
            "--seconds" => options.seconds = number(value()?)?,
            "--rounds" => options.rounds = number(value()?)? as usize,
            "--quick" => (options.seconds, options.rounds) = (1, 1),
            "--only" => options.only = Some(value()?.clone()),
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
) -> Result<(Vec<Row>, Vec<&'static str>, String), Failure> {
    let backend = peers::start_backend(tools, dir, "backend")?;
    let (present, missing) = peers::all(tools);
    let mut rows = Vec::new();
    for work in WORKS.into_iter().filter(|work| options.wants(work.name)) {
        let present: Vec<Peer> = present.iter().copied().filter(|peer| work.is_for(*peer)).collect();
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
    let notes = besides(options, tools, dir, &backend, &present)?;
    Ok((rows, missing, notes))
}

/// What is no row of the table, as text.
fn besides(
    options: &Options,
    tools: &peers::Tools,
    dir: &Path,
    backend: &Running,
    present: &[Peer],
) -> Result<String, Failure> {
    let mut text = String::new();
    if options.wants(IDLE) {
        let mut parts = Vec::new();
        for peer in present {
            progress(&format!("{IDLE} · {}", peer.name()));
            let bytes = idle::measure(tools, dir, backend, *peer)?;
            parts.push(format!("{} {:.1} KiB", peer.name(), bytes as f64 / 1024.0));
        }
        text += &format!(
            "\nMemory of one of {} idle keep-alive connections, each after one request: {}.\n",
            idle::CONNECTIONS,
            parts.join(", ")
        );
    }
    if options.wants(CHANGES) {
        progress(CHANGES);
        let outcome = changes::measure(tools, dir, backend)?;
        text += &format!(
            "\n{} changes of the URL map while 4 clients asked without a pause: {} requests, {} failed, {} misrouted; \
             the slowest change was served after {:.1} ms.\n",
            changes::CHANGES,
            outcome.requests,
            outcome.failed,
            outcome.misrouted,
            outcome.slowest_change.as_secs_f64() * 1000.0
        );
    }
    Ok(text)
}

fn sample(
    options: &Options,
    tools: &peers::Tools,
    dir: &Path,
    backend: &Running,
    peer: Peer,
    work: Work,
) -> Result<table::Sample, Failure> {
    let running = peers::start(peer, tools, dir, backend.port, work)?;
    let url = running.url(work);
    let length = Duration::from_secs(options.seconds);
    load::run(tools, &running, &Load { url: &url, work, length: length / 4, rate: None, log: None })?;
    let before = running.cpu()?;
    let full = load::run(tools, &running, &Load { url: &url, work, length, rate: None, log: None })?;
    let cpu = running.cpu()? - before;
    let log = dir.join("latency.tsv");
    let half = (full.requests as f64 / length.as_secs_f64() / 2.0) as u64;
    let steady = Load { url: &url, work, length: length / 2, rate: Some(half.max(1)), log: Some(&log) };
    let latency = if load::has_rate(work) {
        load::run(tools, &running, &steady)?;
        Some(load::latencies(&log)?)
    } else {
        None
    };
    Ok(table::Sample {
        cpu_per_request: cpu / full.requests.max(1) as u32,
        requests_per_second: full.requests as f64 / length.as_secs_f64(),
        failed: full.failed,
        latency,
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
