//! The user namespace in which an ordinary user may make network namespaces.
//!
//! The process that owns it is root inside and itself outside: files keep their owner, and no privilege on the
//! machine is gained. It must be entered before the process has a second thread.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

static ENTERED: AtomicBool = AtomicBool::new(false);

/// The user namespace of this process.
pub struct UserNamespace;

impl UserNamespace {
    /// Whether this process entered one of its own.
    pub fn entered() -> bool {
        ENTERED.load(Ordering::Relaxed)
    }
}

/// Whether this process may make networks as it is. Tried with one that is gone afterwards.
pub fn available() -> bool {
    super::Namespaces::new().is_ok()
}

/// Enters a new user namespace in which this user is root. Call it from the only thread of the process.
#[allow(unsafe_code, reason = "unshare has no safe form")]
pub fn enter_user_namespace() -> io::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    // SAFETY: NEWUSER leaves the file descriptor table shared; the kernel itself refuses it to a process with threads.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    entered()
}

/// Enters the user namespace that another process of this user made. Call it from the only thread of the process.
pub fn join_user_namespace(namespace: &OwnedFd) -> io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
    entered()
}

fn entered() -> io::Result<()> {
    // A change of credentials hides /proc/PID/fd from the user's other processes; clients must open namespaces there.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    ENTERED.store(true, Ordering::Relaxed);
    Ok(())
}
