//! The first process of a client: it starts the command, buries what others leave behind, and takes everything along
//! when it ends.
//!
//! The kernel sends it no signal that it does not ask for. What `vm run` passes on to the command comes through a
//! pipe, a byte a signal; the end of the pipe is the end of `vm run`.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::process::Command;

use clap::Args;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use vestibule_vpc::namespace::{adopt, remount_proc};

use super::supervise::{SIGNALLED, not_started};

/// As if killed: nobody is left to read it.
const ABANDONED: u8 = 137;

#[derive(Args)]
pub struct Options {
    /// Descriptor of the pipe from `vm run`
    #[arg(long)]
    control: RawFd,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The words of the helper, without the program.
pub fn command(control: RawFd, command: &[OsString]) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["vm", "init", "--control"].map(OsString::from).to_vec();
    words.extend([control.to_string().into(), "--".into()]);
    words.extend_from_slice(command);
    words
}

/// Runs the command to its end.
pub fn run(options: &Options) -> Result<u8, String> {
    let text = |error: std::io::Error| error.to_string();
    let control = adopt(options.control).map_err(text)?;
    remount_proc();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    runtime.block_on(async {
        // Before the command starts, so that no end is missed.
        let mut ends = signal(SignalKind::child()).map_err(text)?;
        let mut control = Receiver::from_owned_fd(control).map_err(text)?;
        let Some((program, arguments)) = options.command.split_first() else {
            return Err("no command to run".to_owned());
        };
        let child = match Command::new(program).args(arguments).spawn() {
            Ok(child) => child,
            Err(error) => return Ok(not_started(program, &error)),
        };
        let command = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        loop {
            tokio::select! {
                _ = ends.recv() => if let Some(code) = bury(command) { return Ok(code) },
                byte = control.read_u8() => match byte {
                    // The command may have ended a moment ago.
                    Ok(number) => drop(command.zip(passed_on(number)).map(|(pid, signal)| kill_process(pid, signal))),
                    Err(_) => return Ok(ABANDONED),
                },
            }
        }
    })
}

/// Takes note of every process that has ended; the exit code of the command, if it is among them.
fn bury(command: Option<Pid>) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == command {
            let signalled = status.terminating_signal().map(|signal| SIGNALLED + signal);
            let number = status.exit_status().or(signalled).unwrap_or(1);
            code = Some(u8::try_from(number).unwrap_or(1));
        }
    }
    code
}

/// The signals that `vm run` passes on.
fn passed_on(number: u8) -> Option<Signal> {
    Signal::from_named_raw(i32::from(number))
}
