//! The helper through which programs are started that know nothing of the runtime.
//!
//! An instance must not outlive its runtime, even one that was killed. The kernel can promise that (a process may ask
//! for a signal at its parent's death), but only the process itself can ask for it. So the runtime starts its own
//! binary, which asks and then becomes the program: the request survives `execve`. Doing the same between fork and
//! exec inside the runtime would need unsafe code in a threaded process.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Exit code of the helper if the program cannot be executed, as in a shell.
pub const NOT_EXECUTABLE: u8 = 126;
/// Exit code of the helper if there is no such program, as in a shell.
pub const NOT_FOUND: u8 = 127;

/// Makes this process die with `parent`, which must be the process that started it.
///
/// Fails if the parent is gone already.
pub fn die_with(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that died before the line above sends no signal any more.
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::other("the runtime that started this instance is gone"))
    }
}

/// Becomes a program. `args`, after everything up to and with `--`: id of the parent, program, arguments.
///
/// Returns only if that fails.
pub fn run(args: impl IntoIterator<Item = OsString>) -> io::Result<Infallible> {
    let mut args = args.into_iter().skip_while(|arg| arg != "--").skip(1);
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "expected -- PARENT PROGRAM [ARGUMENT…]");
    let parent = args.next().and_then(|parent| parent.to_str()?.parse().ok()).ok_or_else(usage)?;
    let program = args.next().ok_or_else(usage)?;
    die_with(parent)?;
    Err(Command::new(program).args(args).exec())
}

/// The exit code for an error of [`run`].
pub fn exit_code(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}
