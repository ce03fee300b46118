//! The container driver over real containers.
//!
//! A harness of its own: the driver's helper must be a program with one thread, and this binary is both, the tests and
//! the helper. Each test runs by itself, one after the other.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, which clippy does not see without the usual harness"
)]

mod driving;
mod engine;
mod engines;
mod images;
mod isolation;
mod lifecycle;
mod pods;
mod speed;
mod trouble;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// The word that makes this binary the helper.
const HELPER: &str = "internal-container";
/// The word that makes it the first process of an engine's container.
const INSIDE: &str = "internal-in-container";

type Test = (&'static str, fn());

fn tests() -> Vec<Test> {
    [isolation::TESTS, lifecycle::TESTS, pods::TESTS, trouble::TESTS, speed::TESTS, engines::TESTS].concat()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|word| word == HELPER) {
        return vestibule_run::driver::container::run_helper();
    }
    if args.first().is_some_and(|word| word == INSIDE) {
        return vestibule_run::driver::docker::run_inside();
    }
    if args.first().is_some_and(|word| word == engines::RUNTIME) {
        engines::run_until_killed(&args[1], &args[2]);
    }
    if args.first().is_some_and(|word| word == lifecycle::RUNTIME) {
        lifecycle::run_until_killed(&args[1]);
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let (chosen, left): (Vec<Test>, Vec<Test>) = tests()
        .into_iter()
        .partition(|(name, _)| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())));
    if args.iter().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    if let Err(error) = driving::available() {
        println!("not run: this machine allows no containers: {error}");
        println!(
            "\ntest result: ok. 0 passed; 0 failed; {} ignored; 0 measured; 0 filtered out",
            chosen.len()
        );
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, test) in &chosen {
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*name);
        }
    }
    engines::finish();
    let (word, passed) = (if failed.is_empty() { "ok" } else { "FAILED" }, chosen.len() - failed.len());
    let (failures, left) = (failed.len(), left.len());
    println!(
        "\ntest result: {word}. {passed} passed; {failures} failed; 0 ignored; 0 measured; {left} filtered out"
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
