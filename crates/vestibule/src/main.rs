//! The `vestibule` binary: which part of it is wanted, and the wiring of `serve`.

mod images;
mod probe;
mod serve;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let program = args.first().and_then(|name| Path::new(name).file_name()).map(|name| name.to_owned());
    let word = args.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    match word {
        // Called under gcloud's name it is gcloud, whatever the words.
        _ if program.is_some_and(|name| name == "gcloud" || name == vestibule_cli::PROXY) => {
            vestibule_cli::main(args)
        }
        "serve" => serve::main(args),
        "images" => images::main(args),
        serve::HELLO => hello(),
        serve::EXEC => exec(args),
        probe::PROBE => probe::main(serve::CONTAINER, serve::IN_CONTAINER),
        serve::CONTAINER => vestibule_run::driver::container::helper::run_helper(),
        serve::IN_CONTAINER => vestibule_run::driver::docker::run_inside(),
        _ => vestibule_cli::main(args),
    }
}

/// The built-in sample service.
fn hello() -> ExitCode {
    match vestibule_run::hello::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("the sample service", &error),
    }
}

/// A helper that becomes another program.
fn exec(args: Vec<OsString>) -> ExitCode {
    match vestibule_run::exec::run(args) {
        Ok(never) => match never {},
        Err(error) => {
            fail("the program did not start", &error);
            ExitCode::from(vestibule_run::exec::exit_code(&error))
        }
    }
}

#[allow(clippy::print_stderr, reason = "the last words of a process that has no log of its own")]
fn fail(what: &str, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{what}: {error}");
    ExitCode::FAILURE
}
