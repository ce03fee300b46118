//! The runtime over real processes.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may the programs it runs")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what instances print is under test")]

mod containers;
mod jobs;
mod orphans;
mod processes;
mod support;

/// The sample service, in an instance.
#[test]
fn role_hello() {
    if support::is_instance() {
        vestibule_run::hello::run().unwrap();
        std::process::exit(0);
    }
}

/// The helper that starts programs, in an instance.
#[test]
fn role_exec() {
    if support::is_instance() {
        let error = vestibule_run::exec::run(std::env::args_os()).unwrap_err();
        std::process::exit(vestibule_run::exec::exit_code(&error).into());
    }
}

/// The program of most tests, in an instance. The helper is told the program's arguments, which the test harness in it
/// takes for tests to run too; there this is not meant.
#[test]
fn role_server() {
    let helper = std::env::args().any(|arg| arg == "role_exec");
    if support::is_instance() && !helper {
        support::server::run();
    }
}
