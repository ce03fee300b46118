//! How another process finds the namespace of a client.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A client's namespaces, as paths that a process of the same user can open while this process lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The network namespace.
    pub network: String,
    /// The user namespace that owns it, where that is not the machine's own.
    pub user: Option<String>,
}

impl Guest {
    /// The guest whose network namespace this descriptor names.
    pub(crate) fn of(namespace: BorrowedFd<'_>) -> io::Result<Guest> {
        let pid = std::process::id();
        let network = format!("/proc/{pid}/fd/{}", namespace.as_raw_fd());
        let user = crate::namespace::UserNamespace::entered().then(|| format!("/proc/{pid}/ns/user"));
        Ok(Guest { network, user })
    }
}
