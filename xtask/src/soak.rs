//! `cargo xtask soak`: a server under load for a long time, while it is changed, upgraded and hurt.
//!
//! The server runs in loopback mode with the published kind of set-up: an HTTP and an HTTPS address, both with HTTP/1.1
//! and, over TLS, HTTP/2. h2load and curl ask all the time, in runs of some seconds, one program a protocol; another curl
//! uploads large bodies slowly. Meanwhile a revision is deployed, the URL map changes, the certificate is swapped, an instance is
//! killed, and another server takes over, in turns. A correct load balancer fails no request for any of this but those that
//! were in the killed instance, so instances are killed in a service of their own that no load goes to, and everything
//! else that fails is counted against us.
//!
//! Memory, descriptors and threads of the server are sampled. A takeover begins a new process, so the slope is that of
//! the time between takeovers: `--no-takeover` leaves them out for a long look at one process.

mod load;
mod samples;
mod stage;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use samples::Samples;
use stage::Stage;

use crate::bench::Failure;

/// Length of a soak that says nothing else, minutes.
const DEFAULT_MINUTES: u64 = 30;
/// Between two changes.
const PAUSE: Duration = Duration::from_secs(1);
/// The share of the time, from the start, in which memory may still grow.
const WARM_UP: f64 = 0.3;

struct Options {
    length: Duration,
    takeovers: bool,
}

/// Runs `cargo xtask soak [--minutes N | --seconds N] [--no-takeover]`.
pub fn run(args: &[String]) -> Result<(), Failure> {
    let options = parse(args)?;
    let dir = std::env::temp_dir().join(format!("vestibule-soak-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let outcome = soak(&options, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    outcome
}

fn parse(args: &[String]) -> Result<Options, Failure> {
    let mut options = Options { length: Duration::from_secs(60 * DEFAULT_MINUTES), takeovers: true };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut number = |limit: u64| -> Result<u64, Failure> {
            let number = words.next().and_then(|word| word.parse().ok());
            let fits = number.filter(|number| (1..=limit).contains(number));
            fits.ok_or_else(|| format!("{word} needs a number from 1 to {limit}").into())
        };
        match word.as_str() {
            "--minutes" => options.length = Duration::from_secs(60 * number(7 * 24 * 60)?),
            "--seconds" => options.length = Duration::from_secs(number(3600)?),
            "--no-takeover" => options.takeovers = false,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(options)
}

fn soak(options: &Options, dir: &std::path::Path) -> Result<(), Failure> {
    let mut stage = Stage::set_up(dir)?;
    let over = AtomicBool::new(false);
    let mut samples = Samples::default();
    let begun = Instant::now();
    let (tallies, changed) = std::thread::scope(|scope| {
        let loads = load::start(scope, &stage, &over);
        let changed = (|| -> Result<stage::Changes, Failure> {
            for round in 0.. {
                if begun.elapsed() >= options.length {
                    break;
                }
                stage.change(round, options.takeovers)?;
                samples.take(stage.pid(), begun.elapsed());
                std::thread::sleep(PAUSE);
            }
            Ok(stage.changes)
        })();
        over.store(true, Ordering::SeqCst);
        let tallies: Vec<load::Tally> =
            loads.into_iter().map(|load| load.join().unwrap_or_default()).collect();
        (tallies, changed)
    });
    let changed = changed?;
    stage.end()?;
    let mut problems = Vec::new();
    println!("soaked for {:?}: {changed}", Duration::from_secs(begun.elapsed().as_secs()));
    for tally in &tallies {
        println!("{tally}");
        if tally.failed > 0 || tally.succeeded == 0 {
            problems.push(format!("{} failed requests of {}: {}", tally.failed, tally.name, tally.example));
        }
    }
    println!("{samples}");
    problems.extend(samples.growth(WARM_UP));
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ").into()) }
}
