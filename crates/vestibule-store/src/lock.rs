//! One process per state directory.
//!
//! An advisory lock on a file of its own, not on the database: SQLite would let two processes take turns, and each
//! would serve its own idea of what is in memory. The kernel gives the lock up when the process dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// The file in the state directory that carries the lock and names its holder.
const LOCK_FILE: &str = "lock";

/// The lock, held until dropped.
pub(crate) struct DirLock {
    _file: File,
}

/// Why the lock was not had.
pub(crate) enum LockError {
    /// Another process holds it; its process id if it wrote one.
    Held(Option<u32>),
    Io(io::Error),
}

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Result<DirLock, LockError> {
        let path = dir.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(holder(&mut file))),
            Err(TryLockError::Error(e)) => return Err(LockError::Io(e)),
        }
        name_holder(&mut file).map_err(LockError::Io)?;
        Ok(DirLock { _file: file })
    }
}

fn name_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
