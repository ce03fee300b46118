//! `vestibule tour`: a private cloud from nothing, set up, tried out, taken down.
//!
//! Everything here goes the way a user goes: `serve` is started as a process, the set-up is made of gcloud command lines
//! run by our own gcloud, and requests enter through the network's gateway as a client's would. A step that does not do
//! what it should ends the tour with exit code 1, after the cloud was taken down.

mod certificate;
pub(crate) mod client;
mod cloud;
mod script;
mod show;

use std::path::PathBuf;

use clap::Args;

use crate::printer::Printer;
use cloud::Cloud;
use script::Tour;

#[derive(Args)]
pub struct Options {
    /// Leave the cloud running, and say how to use it
    #[arg(long)]
    keep: bool,
    /// The program to start as `serve`
    #[arg(long, hide = true, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Runs the tour; 0 only if every step did what it should.
pub fn run(options: &Options, printer: &Printer) -> Result<u8, String> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?,
    };
    let cloud = Cloud::start(&program)?;
    let mut tour = Tour::new(cloud, printer);
    let outcome = tour.walk(options.keep);
    if let Err(failure) = &outcome {
        tour.show.failure(failure);
    }
    let ended = tour.end(options.keep && outcome.is_ok());
    match (outcome, ended) {
        (Ok(()), Ok(())) => Ok(0),
        (Err(_), _) => Ok(1),
        (Ok(()), Err(failure)) => Err(failure),
    }
}
