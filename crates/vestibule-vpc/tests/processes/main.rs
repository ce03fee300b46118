//! Networks as separate processes see them: a server, clients that enter its networks, and what is left when the server
//! is killed.
//!
//! A process can enter a user namespace only while it has one thread, so this test has no harness. Called with the name
//! of a role it plays that role; otherwise it is the stage and starts the others. As root every scene is played twice,
//! the second time as an ordinary user.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

mod client;
mod server;
mod stage;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("role-server") => server::serve(),
        Some("role-look") => client::look(&args[1..]),
        Some("role-run") => client::run(&args[1..]),
        Some("role-watch") => client::watch(&args[1..]),
        _ => return stage::play(),
    }
    ExitCode::SUCCESS
}
