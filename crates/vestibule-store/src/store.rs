//! Opening the store, reading it, writing to it.

use crate::disk::{Disk, Sqlite};
use crate::handover::{Holding, Release, Released};
use crate::history::Bounds;
use crate::lock::{DirLock, LockError};
use crate::txn::depth_ok;
use crate::writer::{Message, QUEUE_TRANSACTIONS, Request, Shared, Writer};
use crate::{CommitError, Op, Revision, Txn, View, Watch};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{fmt, io};

/// Why a state directory could not be opened. Nothing was changed in it.
#[derive(Debug)]
pub enum OpenError {
    /// Another process serves from it; its process id if known.
    Locked {
        /// The state directory.
        dir: PathBuf,
        /// The process that holds it.
        holder: Option<u32>,
    },
    /// It was written by a newer program.
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The version found there.
        found: i64,
        /// The highest version this program understands.
        known: i64,
    },
    /// A file or directory could not be made or opened.
    Io(PathBuf, io::Error),
    /// The database is damaged or could not be read.
    Database(PathBuf, String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { dir, holder: Some(pid) } => {
                write!(f, "the state directory {} is in use by process {pid}", dir.display())
            }
            OpenError::Locked { dir, holder: None } => {
                write!(f, "the state directory {} is in use by another process", dir.display())
            }
            OpenError::NewerSchema { path, found, known } => write!(
                f,
                "{} was written by a newer version (schema {found}, this program knows up to {known})",
                path.display()
            ),
            OpenError::Io(path, _) => write!(f, "cannot open {}", path.display()),
            OpenError::Database(path, why) => write!(f, "cannot read {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io(_, e) => Some(e),
            _ => None,
        }
    }
}

/// The documents of one state directory. Cheap to clone; closed, and the directory released, when the last clone and
/// the last watch are gone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl Store {
    /// Opens the store in a directory, which is made (for its owner alone) if it is missing. Holds the directory
    /// exclusively.
    pub fn open(dir: &Path) -> Result<Store, OpenError> {
        Store::open_with(dir, None)
    }

    /// The same, and transactions wait for [`Store::begin`].
    pub fn open_held(dir: &Path) -> Result<Store, OpenError> {
        let (hold, holding) = Holding::new();
        let store = Store::open_with(dir, Some(holding))?;
        *store.0.hold.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold);
        Ok(store)
    }

    /// Lets the transactions of a store that was opened on hold be made.
    pub fn begin(&self) {
        drop(self.0.hold.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn open_with(dir: &Path, hold: Option<Holding>) -> Result<Store, OpenError> {
        let io_error = |e| OpenError::Io(dir.to_owned(), e);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error)?;
        let lock = DirLock::take(dir).map_err(|e| match e {
            LockError::Held(holder) => OpenError::Locked { dir: dir.to_owned(), holder },
            LockError::Io(e) => io_error(e),
        })?;
        let (disk, view) = Sqlite::open(dir)?;
        Store::start_held(disk, view, Some((dir.to_owned(), lock)), Bounds::default(), hold).map_err(io_error)
    }

    /// Finishes the transactions that wait, closes the files and lets another process open the directory. What is read
    /// from this store stays as it is; what is written waits.
    pub fn release(&self) -> Result<Released, CommitError> {
        let dir = self.0.dir.clone().ok_or(CommitError::Closed)?;
        let (done, answer) = sync_channel(1);
        let (asked, released) = Release::new(dir, done);
        let messages = self.0.messages().ok_or(CommitError::Closed)?;
        messages.send(Message::Release(asked)).map_err(|_| CommitError::Closed)?;
        answer.recv().map_err(|_| CommitError::Closed)?;
        Ok(released)
    }

    /// The documents of a directory as they are committed now, for whoever only wants to look: the directory is not held,
    /// so another process may be at work on it. Nothing is there if there is no store yet.
    pub fn peek(dir: &Path) -> Result<View, OpenError> {
        Sqlite::peek(dir)
    }

    /// Starts the writer over an opened disk that is no directory of anybody's.
    #[cfg(test)]
    pub(crate) fn start(disk: impl Disk + 'static, view: View, bounds: Bounds) -> io::Result<Store> {
        Store::start_held(disk, view, None, bounds, None)
    }

    /// Starts the writer over an opened disk.
    fn start_held(
        disk: impl Disk + 'static,
        view: View,
        place: Option<(PathBuf, DirLock)>,
        bounds: Bounds,
        hold: Option<Holding>,
    ) -> io::Result<Store> {
        let shared = Arc::new(Shared::new(view, bounds));
        let (messages, receiver) = sync_channel(QUEUE_TRANSACTIONS);
        let (dir, lock) = place.unzip();
        let writer = Writer::new(disk, shared.clone(), lock);
        let run = move || writer.run(&receiver, hold);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(run)?;
        Ok(Store(Arc::new(Inner {
            shared,
            dir,
            hold: Mutex::default(),
            writer: Mutex::new(Some((messages, thread))),
        })))
    }

    /// All documents as they are now.
    pub fn view(&self) -> View {
        self.0.shared.view()
    }

    /// Makes a transaction durable and returns its revision. Blocks until the disk has it: call it from a thread that
    /// may block.
    pub fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        let texts = txn.ops.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let (reply, answer) = sync_channel(1);
        let messages = self.0.messages().ok_or(CommitError::Closed)?;
        let request = Message::Commit(Request { txn, texts, reply });
        messages.send(request).map_err(|_| CommitError::Closed)?;
        answer.recv().unwrap_or(Err(CommitError::Closed))
    }

    /// Ends the waiting of every watch, as if its time were up. For whoever wants followers to look around: at the end.
    pub fn interrupt(&self) {
        self.0.shared.interrupt();
    }

    /// Follows every commit after `after`. A view and a watch from its revision miss nothing between them.
    pub fn watch(&self, after: Revision) -> Watch {
        Watch::new(self.0.clone(), after)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("revision", &self.view().revision()).finish_non_exhaustive()
    }
}

fn text(op: &Op) -> Result<Option<String>, CommitError> {
    match op {
        Op::Put(key, value) if !depth_ok(value) => Err(CommitError::TooDeep(key.clone())),
        Op::Put(_, value) => Ok(Some(value.to_string())),
        Op::Delete(_) => Ok(None),
    }
}

/// What the clones of a store share.
pub(crate) struct Inner {
    shared: Arc<Shared>,
    /// The directory that is held.
    dir: Option<PathBuf>,
    /// Transactions wait until it is dropped.
    hold: Mutex<Option<SyncSender<()>>>,
    writer: Mutex<Option<(SyncSender<Message>, JoinHandle<()>)>>,
}

impl Inner {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn messages(&self) -> Option<SyncSender<Message>> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.as_ref().map(|(messages, _)| messages.clone())
    }
}

impl Drop for Inner {
    /// Waits for the writer, so that the directory can be opened again as soon as the last handle is gone.
    fn drop(&mut self) {
        drop(self.hold.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((messages, thread)) = writer {
            drop(messages);
            if thread.join().is_err() {
                tracing::error!("the store's writer had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
