//! A child process that is signalled, waited for and reaped without races.
//!
//! A process id may be given to another process once its owner was reaped, so a signal sent by number can hit a
//! stranger. Here the end of the child is awaited through a process descriptor without reaping it; while it is a
//! zombie its number, which is also that of its process group, belongs to it, so whatever it left in its group can be
//! killed by that number. Only then is it reaped.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::Exit;

/// A child that leads a process group of its own.
pub(crate) struct GroupChild {
    pid: Pid,
    descriptor: OwnedFd,
    /// The state that must not change between a look at it and a signal to the group.
    reaped: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<Exit>>,
}

impl GroupChild {
    /// Starts `command`, which must have been told to lead a process group, and reaps it when it has ended.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        Self::adopt(child)
    }

    fn adopt(mut child: Child) -> io::Result<Self> {
        match Self::watch(&mut child) {
            Ok(watched) => Ok(watched),
            Err(error) => {
                // Nobody would wait for it, so it must not go on.
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    fn watch(child: &mut Child) -> io::Result<Self> {
        let pid = Pid::from_child(child);
        let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
        let ended = watch_descriptor(descriptor.try_clone()?)?;
        let (sender, exit) = watch::channel(None);
        let reaped = Arc::new(Mutex::new(false));
        tokio::spawn(reap(pid, ended, reaped.clone(), sender));
        Ok(Self { pid, descriptor, reaped, exit })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// SIGTERM to the child itself. A child that has ended gets nothing.
    pub(crate) fn terminate(&self) {
        // The only error that can be is that it has ended.
        let _ = pidfd_send_signal(&self.descriptor, Signal::TERM);
    }

    /// SIGKILL to the child and everything in its group.
    pub(crate) fn kill(&self) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Waits until the child and its group are gone.
    pub(crate) async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Unknown),
            Err(_) => Exit::Unknown,
        }
    }
}

impl Drop for GroupChild {
    /// Nobody is left to end it later. The task that waits for it reaps it.
    fn drop(&mut self) {
        self.kill();
    }
}

/// The constructor is deprecated because a type of one's own may lie about the descriptor that it owns. `OwnedFd`
/// cannot, and the constructor that replaces it is unsafe to call.
#[expect(deprecated, reason = "see above")]
pub(crate) fn watch_descriptor(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}

/// Waits for the child's end, ends its group, reaps it.
async fn reap(
    pid: Pid,
    ended: AsyncFd<OwnedFd>,
    reaped: Arc<Mutex<bool>>,
    exit: watch::Sender<Option<Exit>>,
) {
    let how = loop {
        let Ok(mut ready) = ended.readable().await else { break Exit::Unknown };
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
        {
            Ok(Some(_)) => {
                let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = kill_process_group(pid, Signal::KILL);
                let how = finish(pid);
                *reaped = true;
                break how;
            }
            Ok(None) | Err(Errno::INTR) => ready.clear_ready(),
            Err(_) => break Exit::Unknown,
        }
    };
    exit.send_replace(Some(how));
}

/// Reaps a child that has ended.
fn finish(pid: Pid) -> Exit {
    match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        },
        _ => Exit::Unknown,
    }
}
