//! Chores of this workspace: `cargo xtask <name>`.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a command line tool talks to its terminal")]

mod api;
mod bench;
mod soak;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A chore: its name, what it does, and the function that takes the rest of the command line.
type Chore = (&'static str, &'static str, fn(&[String]) -> Outcome);

const CHORES: &[Chore] = &[
    ("test", "[--no-lint] [FILTER…]: every test, with what it needs", test::run),
    (
        "api",
        "[--discovery DIR] [--check]: types, routes and schemas from Google's discovery documents",
        api::run,
    ),
    (
        "bench",
        "proxy|dns|namespace|cold-start [--quick] [--seconds N] [--rounds N] [--only TEXT] [--write FILE]: the proxy beside nginx, HAProxy and Envoy; names beside NSD and Unbound; a network namespace beside loopback; starts of instances",
        bench::run,
    ),
    (
        "soak",
        "[--minutes N | --seconds N] [--no-takeover]: a server under load while it is changed, upgraded and hurt; as root",
        soak::run,
    ),
];

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chore = arguments.first().and_then(|name| CHORES.iter().find(|chore| chore.0 == name));
    let Some((name, _, run)) = chore else {
        eprintln!("usage: cargo xtask <chore>\n");
        CHORES.iter().for_each(|(name, help, _)| eprintln!("  {name} {help}"));
        return ExitCode::from(2);
    };
    match run(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}
