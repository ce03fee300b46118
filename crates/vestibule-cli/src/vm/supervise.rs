//! Running the client's command: signals passed on, its exit code passed back.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::process::ExitStatusExt;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::lease::Watch;

/// Exit codes of shells, for commands that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// Added to a signal's number when a command died of it.
const SIGNALLED: i32 = 128;

/// Runs the command and gives its exit code. Signals that end or stop programs go to the command, not to us: it decides.
pub fn run(command: &[OsString], variables: Vec<(String, String)>, lease: Watch) -> Result<u8, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let handle = lease.handle().map_err(|error| error.to_string())?;
    let watcher = std::thread::spawn(move || lease.wait());
    let outcome = runtime.block_on(supervise(command, variables));
    // Ends the lease, and with it the watcher.
    let _ = handle.shutdown(Shutdown::Both);
    let _ = watcher.join();
    outcome
}

async fn supervise(command: &[OsString], variables: Vec<(String, String)>) -> Result<u8, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("no command to run".to_owned());
    };
    let listen = |kind: SignalKind| signal(kind).map_err(|error| error.to_string());
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut quit = listen(SignalKind::quit())?;
    let mut user_one = listen(SignalKind::user_defined1())?;
    let mut user_two = listen(SignalKind::user_defined2())?;
    let started = Command::new(program).args(arguments).envs(variables).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return not_started(program, &error),
    };
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    loop {
        let passed = tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| error.to_string())?;
                let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
                return Ok(u8::try_from(code.unwrap_or(1)).unwrap_or(1));
            }
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
            _ = hangup.recv() => Signal::HUP,
            _ = quit.recv() => Signal::QUIT,
            _ = user_one.recv() => Signal::USR1,
            _ = user_two.recv() => Signal::USR2,
        };
        if let Some(pid) = pid {
            // The command may have ended a moment ago.
            let _ = kill_process(pid, passed);
        }
    }
}

/// What a shell would say and answer.
fn not_started(program: &OsString, error: &std::io::Error) -> Result<u8, String> {
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
    let printer = crate::printer::Printer::stdio();
    printer.note_line(&format!("vestibule: {}: {error}", program.to_string_lossy()));
    Ok(code)
}
