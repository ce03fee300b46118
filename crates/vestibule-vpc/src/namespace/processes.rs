//! The processes of a client, as one thing that ends at once.
//!
//! A command starts others, and some of them leave it to live on. In a process namespace of their own none outlives
//! the first of them: when that ends, however it ends, the kernel kills the rest.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountFlags, mount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The next child of this process is the first of a process namespace. No thread can be started from here on.
#[allow(unsafe_code, reason = "unshare has no safe form")]
pub fn separate_processes() -> io::Result<()> {
    // SAFETY: NEWPID is about children alone; file descriptors, which the function's safety condition speaks of, stay
    // shared.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?)
}

/// Shows the own processes in `/proc` and no others. Call it from inside the process namespace, with a mount namespace
/// of its own. Where the machine forbids the mount, the machine's view stays: it shows more and allows no more.
pub fn remount_proc() {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount("proc", "/proc", "proc", flags, None);
}

/// Takes over a descriptor that the parent left open for this process, as its command line says. What is run next does
/// not get it.
#[allow(unsafe_code, reason = "a number on the command line is all there is")]
pub fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor <= 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a descriptor of a parent's"));
    }
    // SAFETY: this process does nothing else with the number: it was open before the process began, and nothing here
    // opened it. If it is not open at all, the next line fails.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    match fcntl_setfd(&owned, FdFlags::CLOEXEC) {
        Ok(()) => Ok(owned),
        Err(error) => {
            // There is nothing to close.
            std::mem::forget(owned);
            Err(error.into())
        }
    }
}

/// Leaves a descriptor open for the programs that this process starts.
pub fn bequeath(descriptor: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfd(descriptor, FdFlags::empty())?)
}
