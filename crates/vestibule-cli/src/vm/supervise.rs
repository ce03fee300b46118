//! Running the client's command: signals passed on, its exit code passed back, and its end when `serve` is gone.

use std::ffi::OsString;
use std::io::{ErrorKind, PipeWriter, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use vestibule_vpc::namespace::bequeath;

use super::lease::Watch;
use crate::printer::Printer;

/// Exit codes of shells, for commands that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// Added to a signal's number when a command died of it.
pub const SIGNALLED: i32 = 128;

/// How long a command that lost its network may take to end after SIGTERM.
const PARTING: Duration = Duration::from_secs(3);

/// Signals that are the command's to decide about. The last two are those that a terminal sends to every process in
/// its foreground, the command among them.
const PASSED_ON: [Signal; 6] =
    [Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2, Signal::INT, Signal::QUIT];

/// How a signal gets to the command.
pub enum Reach {
    /// The command is our child.
    Direct,
    /// Through a pipe to the first process of its namespace. The first end is the child's, until it has started.
    Pipe(Option<OwnedFd>, PipeWriter),
}

impl Reach {
    pub fn pipe() -> std::io::Result<Reach> {
        let (reader, writer) = std::io::pipe()?;
        let reader = OwnedFd::from(reader);
        bequeath(&reader)?;
        Ok(Reach::Pipe(Some(reader), writer))
    }

    /// The descriptor that the child inherits.
    pub fn descriptor(&self) -> Option<RawFd> {
        match self {
            Reach::Pipe(Some(reader), _) => Some(reader.as_raw_fd()),
            _ => None,
        }
    }

    /// The child has its end: ours would keep the pipe open.
    fn started(&mut self) {
        if let Reach::Pipe(reader, _) = self {
            drop(reader.take());
        }
    }

    fn send(&mut self, child: &Child, signal: Signal) {
        // The command may have ended a moment ago.
        let _ = match self {
            Reach::Direct => pid(child).map(|pid| kill_process(pid, signal).map_err(std::io::Error::from)),
            Reach::Pipe(_, writer) => {
                u8::try_from(signal.as_raw()).ok().map(|number| writer.write_all(&[number]))
            }
        };
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

/// Runs the command and gives its exit code. Signals that end or stop programs go to the command, not to us: it
/// decides. When the lease ends, the command has lost its network: it is told, asked to end, and then made to.
pub fn run(
    command: &[OsString],
    reach: Reach,
    variables: Vec<(String, String)>,
    lease: Watch,
) -> Result<u8, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let handle = lease.handle().map_err(|error| error.to_string())?;
    let (lost, loss) = oneshot::channel();
    let watcher = std::thread::spawn(move || {
        lease.wait();
        // Nobody waits for it any more when the command has ended.
        let _ = lost.send(());
    });
    let outcome = runtime.block_on(supervise(command, reach, variables, loss));
    // Ends the lease, and with it the watcher.
    let _ = handle.shutdown(Shutdown::Both);
    let _ = watcher.join();
    outcome
}

async fn supervise(
    command: &[OsString],
    mut reach: Reach,
    variables: Vec<(String, String)>,
    mut loss: oneshot::Receiver<()>,
) -> Result<u8, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("no command to run".to_owned());
    };
    let mut signals = Signals::listen().map_err(|error| error.to_string())?;
    let started = Command::new(program).args(arguments).envs(variables).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Ok(not_started(program, &error)),
    };
    reach.started();
    loop {
        tokio::select! {
            status = child.wait() => return status.map(exit_code).map_err(|error| error.to_string()),
            passed = signals.next() => if !came_from_terminal(passed) { reach.send(&child, passed) },
            _ = &mut loss => break,
        }
    }
    Printer::stdio().note_line("vestibule: `serve` has ended, and this client's network with it");
    reach.send(&child, Signal::TERM);
    if let Ok(status) = tokio::time::timeout(PARTING, child.wait()).await {
        return status.map(exit_code).map_err(|error| error.to_string());
    }
    // The end of the pipe is the end of all that the command started.
    drop(reach);
    let _ = child.start_kill();
    child.wait().await.map(exit_code).map_err(|error| error.to_string())
}

/// What a shell calls the way in which a program ended.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    u8::try_from(code.unwrap_or(1)).unwrap_or(1)
}

/// Whether the command has this signal already: the terminal sent it to everything in its foreground, us included.
fn came_from_terminal(passed: Signal) -> bool {
    let foreground = || {
        let stdin = std::io::stdin();
        rustix::termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp())
    };
    (passed == Signal::INT || passed == Signal::QUIT) && foreground()
}

/// Everything that is passed on, as one stream.
struct Signals(Vec<(Signal, tokio::signal::unix::Signal)>);

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        let listener = |one: Signal| Ok((one, signal(SignalKind::from_raw(one.as_raw()))?));
        PASSED_ON.into_iter().map(listener).collect::<std::io::Result<Vec<_>>>().map(Signals)
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            let ready = self
                .0
                .iter_mut()
                .find_map(|(one, stream)| stream.poll_recv(context).is_ready().then_some(*one));
            ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }
}

/// From here on the signals that are for the command do nothing to this process.
pub fn swallow_signals() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A handler that was set once stays.
    runtime.block_on(async { Signals::listen() }).map(drop)
}

/// What a shell would say and answer.
pub fn not_started(program: &OsString, error: &std::io::Error) -> u8 {
    let printer = Printer::stdio();
    printer.note_line(&format!("vestibule: {}: {error}", program.to_string_lossy()));
    if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE }
}
