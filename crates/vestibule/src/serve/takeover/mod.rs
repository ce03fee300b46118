//! `vestibule serve --takeover`: a new server goes on where a running one is, and no client notices.
//!
//! The running server listens on a Unix socket in its state directory. A new one connects to it and introduces itself;
//! what cannot be handed over is refused before anything is changed. Then:
//!
//! 1. The old server lets calls of the API finish and others wait, gives up the files of state and logs ([`donor`]), and
//!    hands over every listening socket, the networks, and the leases of clients. It goes on serving requests.
//! 2. The new server opens the state, compiles the snapshot, and says that it is ready ([`heir`]). Nothing was written
//!    and no connection was accepted by it so far: if it fails up to here, or takes too long, the old one takes everything
//!    back, and nothing has happened.
//! 3. The old server says go, and from then on it is the new one's. The new one accepts connections; the old one accepts
//!    none, and drains: requests under way are finished, and what they log goes to the new one. Then it ends, with its
//!    instances.
//!
//! Connections that are open stay with the old server, because what has been read of them cannot be handed over. Its
//! instances too: a request is in them. The new server starts its own when they are wanted.

mod donor;
mod heir;
mod leases;
mod wire;

pub use donor::{Donor, Handed, Parts};
pub use heir::{Inheritance, Predecessor};
pub use leases::{Adopted, Described};
pub use wire::Settings;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The socket's name in the state directory.
const SOCKET: &str = "takeover.sock";
/// How long one server waits for the other's next word.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Runs `work` with a short path of the socket: the kernel takes no more than 107 bytes, and state directories may be
/// deep.
fn at_socket<T>(state_dir: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let dir = File::open(state_dir)?;
    work(&PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd())))
}
