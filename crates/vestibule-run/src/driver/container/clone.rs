//! The system calls that have no safe form.
//!
//! The only unsafe code of this crate. The first two run in the helper, which is a process with one thread.

use std::convert::Infallible;
use std::io;

use rustix::process::Pid;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Makes a child in new namespaces, with a network of its own or in this process's. The child runs `child` on a copy of
/// this process's memory.
///
/// Fails in a process with several threads: the child would have a copy of locks that threads held which it has not.
pub(super) fn clone_into_namespaces(network: bool, child: impl FnOnce() -> Infallible) -> io::Result<Pid> {
    const NAMESPACES: i32 = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC;
    let network = if network { libc::CLONE_NEWNET } else { 0 };
    copy(NAMESPACES | network, child)
}

/// Makes a child in this process's own namespaces. The child runs `child` on a copy of this process's memory.
///
/// Fails in a process with several threads, for the same reason.
pub(in crate::driver) fn fork(child: impl FnOnce() -> Infallible) -> io::Result<Pid> {
    copy(0, child)
}

#[allow(unsafe_code, reason = "clone has no safe form")]
fn copy(namespaces: i32, child: impl FnOnce() -> Infallible) -> io::Result<Pid> {
    if threads()? != 1 {
        return Err(io::Error::other("a container must be made by a process with one thread"));
    }
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with no stack given, this is fork: the child has its own copy of all memory and
    // goes on behind the call. No other thread exists, as was checked, so nothing in that copy is in the middle of a
    // change, and the child may run any code.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match i32::try_from(pid).ok().filter(|pid| *pid >= 0).map(Pid::from_raw) {
        None => Err(io::Error::last_os_error()),
        #[expect(unreachable_code, reason = "the compiler knows that a child does not return")]
        Some(None) => match child() {},
        Some(Some(pid)) => Ok(pid),
    }
}

/// Keeps every descriptor but the first three from the programs that this process starts from now on. Those of its own
/// are so from the beginning; what it got from whoever started it need not be.
#[allow(unsafe_code, reason = "close_range has no safe form")]
pub(crate) fn keep_descriptors() {
    const CLOSE_ON_EXEC: libc::c_uint = 4;
    // SAFETY: nothing is closed: a flag is set that counts when another program is executed. A kernel without that
    // flag (before 5.11) changes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_ON_EXEC) };
}

/// Leaves a namespace for a new one.
#[allow(unsafe_code, reason = "unshare has no safe form")]
pub(super) fn leave(namespace: Namespace) -> io::Result<()> {
    let flag = match namespace {
        Namespace::ControlGroups => UnshareFlags::NEWCGROUP,
        Namespace::Mounts => UnshareFlags::NEWNS,
        Namespace::Users => UnshareFlags::NEWUSER,
    };
    // SAFETY: no flag touches the table of file descriptors, which the function's condition speaks of.
    Ok(unsafe { unshare_unsafe(flag) }?)
}

/// What [`leave`] can leave.
#[derive(Debug, Clone, Copy)]
pub(super) enum Namespace {
    /// The group that this process is in becomes the root of all that it sees of control groups.
    ControlGroups,
    Mounts,
    Users,
}

fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}
