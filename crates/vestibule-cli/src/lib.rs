//! The command line: gcloud's grammar and printers, `env`, `vm run`, `explain`, `doctor`, `tour`.
//!
//! Everything here speaks HTTP to the API of a running `vestibule serve` and knows nothing of its insides.
#![forbid(unsafe_code)]

mod app;
mod doctor;
mod env;
mod explain;
pub mod gcloud;
pub mod http;
pub mod printer;
pub mod secret;
pub mod settings;
mod tour;
mod vm;
mod wire;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use app::PROXY;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs a client command: the words of the process, its own name first. Under the name `gcloud` it is gcloud.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    app::run(args.into_iter().collect())
}
