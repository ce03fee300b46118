//! The load: programs that nobody here wrote.

use std::fmt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use super::stage::Stage;
use crate::bench::load::parse;

/// Length of one run of h2load; the next begins at once, with new connections.
const RUN: &str = "3s";
/// Bytes of a large upload, and curl's limit of its speed.
const UPLOAD: usize = 4 << 20;
const SPEED: &str = "2M";

/// What came of one kind of load.
#[derive(Debug, Default)]
pub struct Tally {
    pub name: &'static str,
    pub succeeded: u64,
    pub failed: u64,
    /// What the first failure looked like.
    pub example: String,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} requests, {} failed", self.name, self.succeeded, self.failed)
    }
}

impl Tally {
    fn add(&mut self, succeeded: u64, failed: u64, said: &str) {
        self.succeeded += succeeded;
        self.failed += failed;
        if failed > 0 && self.example.is_empty() {
            self.example = said.lines().collect::<Vec<_>>().join(" | ");
        }
    }
}

/// Starts every kind; each ends its last run after `over`.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    stage: &Stage,
    over: &'scope AtomicBool,
) -> Vec<ScopedJoinHandle<'scope, Tally>> {
    let h2load = |how: &[&str], url: &str| {
        let mut words = vec!["h2load".to_owned(), "-t1".into(), "-c4".into(), "-D".into(), RUN.into()];
        words.extend(["--rps", "50"].map(str::to_owned));
        words.extend(how.iter().map(|word| (*word).to_owned()));
        words.push(url.to_owned());
        words
    };
    let (http, https, upload) =
        (format!("http://{}/", stage.http), format!("https://{}/", stage.https), stage.upload(UPLOAD));
    let curl =
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "60", "--limit-rate", SPEED];
    let mut slow: Vec<String> = curl.map(str::to_owned).into();
    slow.extend([
        "-H".into(),
        "Expect:".into(),
        "--data-binary".into(),
        format!("@{}", upload.display()),
        http.clone(),
    ]);
    // Not h2load: it counts streams as failed that a server which goes away has refused unseen, where others try again
    // (RFC 9113 section 6.8).
    let each = [
        "curl",
        "-sSk",
        "--http2",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} ",
        "--max-time",
        "60",
        "--rate",
        "100/s",
    ];
    let mut http2: Vec<String> = each.map(str::to_owned).into();
    http2.push(format!("{https}[1-300]"));
    let kinds = [
        ("HTTP/1.1", h2load(&["--h1"], &http), false),
        ("HTTP/1.1 over TLS", h2load(&["--h1"], &https), false),
        ("HTTP/2 over TLS", http2, true),
        ("slow uploads of 4 MiB", slow, true),
    ];
    let begin = |(name, words, is_curl): (&'static str, Vec<String>, bool)| {
        scope.spawn(move || {
            let mut tally = Tally { name, ..Tally::default() };
            while !over.load(Ordering::SeqCst) {
                run(&words, is_curl, &mut tally);
            }
            tally
        })
    };
    kinds.into_iter().map(begin).collect()
}

fn run(words: &[String], is_curl: bool, tally: &mut Tally) {
    let output = match Command::new(&words[0]).args(&words[1..]).output() {
        Ok(output) => output,
        Err(error) => {
            tally.add(0, 1, &format!("{}: {error}", words[0]));
            return std::thread::sleep(std::time::Duration::from_secs(1));
        }
    };
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if is_curl {
        // A status for every request; 000 where there was no answer.
        let (good, bad): (Vec<&str>, Vec<&str>) = said.split_whitespace().partition(|word| *word == "200");
        return tally.add(good.len() as u64, bad.len() as u64, &said);
    }
    // Statuses other than 2xx are failures, whatever h2load calls them.
    let of_class = |class: &str| {
        let line = said.lines().find(|line| line.starts_with("status codes:"))?;
        let part = line.trim_start_matches("status codes:").split(',').find(|part| part.ends_with(class))?;
        part.trim().split(' ').next()?.parse::<u64>().ok()
    };
    let refused = ["3xx", "4xx", "5xx"].iter().filter_map(|class| of_class(class)).sum::<u64>();
    match parse(&said) {
        Some(outcome) => {
            tally.add(outcome.requests - refused.min(outcome.requests), outcome.failed.max(refused), &said)
        }
        None => tally.add(0, 1, &said),
    }
}
