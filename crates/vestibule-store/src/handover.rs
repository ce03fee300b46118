//! Giving the directory to another process, and taking it back.
//!
//! A server that is replaced while it runs must stop writing before the next one reads, and must be able to go on if the
//! next one fails. So the writer thread closes the files and the lock and waits: for word to take them back, or for the
//! end. Readers notice nothing; transactions wait, in the queue that is there anyway. The next server opens the
//! directory with its own writer on hold: until the other has let go for good, nothing may change on disk.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::OpenError;
use crate::disk::Disk;
use crate::lock::{DirLock, LockError};
use crate::writer::Writer;

/// How long to wait for the directory when it is taken back: the other process may be about to end.
const RETAKE_LIMIT: Duration = Duration::from_secs(10);
/// How often it is tried.
const RETAKE_PERIOD: Duration = Duration::from_millis(5);

/// Transactions wait until the other end is dropped.
pub(crate) struct Holding(Receiver<()>);

impl Holding {
    /// With what is to be dropped.
    pub(crate) fn new() -> (SyncSender<()>, Holding) {
        let (end, ended) = sync_channel(0);
        (end, Holding(ended))
    }

    pub(crate) fn wait(self) {
        // Nothing is sent: it is told by the sender being dropped.
        let _ = self.0.recv();
    }
}

/// The directory may be opened by another process, as long as this lives. Dropped, it is given away for good: every
/// transaction that waits, and every later one, is answered [`CommitError::Closed`](crate::CommitError::Closed).
#[derive(Debug)]
pub struct Released {
    resume: SyncSender<SyncSender<Result<(), OpenError>>>,
}

impl Released {
    /// Takes the directory back: the state is what it was, or what the other process made of it. Transactions that
    /// waited are judged against that. When it fails, the store stays closed.
    pub fn resume(self) -> Result<(), OpenError> {
        let (reply, answer) = sync_channel(1);
        // A writer that is gone answers nothing.
        let _ = self.resume.send(reply);
        answer.recv().unwrap_or_else(|_| Err(OpenError::Database(PathBuf::new(), "the writer ended".into())))
    }
}

/// What the writer is asked.
pub(crate) struct Release {
    pub(crate) dir: PathBuf,
    pub(crate) done: SyncSender<()>,
    resume: Receiver<SyncSender<Result<(), OpenError>>>,
}

impl Release {
    pub(crate) fn new(dir: PathBuf, done: SyncSender<()>) -> (Release, Released) {
        let (resume, resumed) = sync_channel(1);
        (Release { dir, done, resume: resumed }, Released { resume })
    }
}

/// Closes everything and waits. `false`: the directory was given away, there is nothing left to write.
pub(crate) fn release<D: Disk>(writer: &mut Writer<D>, asked: Release) -> bool {
    writer.disk.close();
    writer.lock = None;
    if asked.done.send(()).is_err() {
        // Whoever asked does not wait any more: as if it had never been asked.
        return retake(writer, &asked).is_ok();
    }
    let Ok(reply) = asked.resume.recv() else { return false };
    let outcome = retake(writer, &asked);
    let is_ours = outcome.is_ok();
    let _ = reply.send(outcome);
    is_ours
}

fn retake<D: Disk>(writer: &mut Writer<D>, asked: &Release) -> Result<(), OpenError> {
    let deadline = Instant::now() + RETAKE_LIMIT;
    writer.lock = loop {
        match DirLock::take(&asked.dir) {
            Ok(lock) => break Some(lock),
            Err(LockError::Held(_)) if Instant::now() < deadline => std::thread::sleep(RETAKE_PERIOD),
            Err(LockError::Held(holder)) => return Err(OpenError::Locked { dir: asked.dir.clone(), holder }),
            Err(LockError::Io(error)) => return Err(OpenError::Io(asked.dir.clone(), error)),
        }
    };
    // Memory is not to be trusted before it was compared with the disk.
    writer.suspect = true;
    writer.settle().map_err(|why| OpenError::Database(asked.dir.clone(), why))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::{CommitError, Op, Store, Txn};

    fn put(key: &str) -> Txn {
        Txn { ops: vec![Op::Put(key.into(), json!({ "k": key }))], ..Txn::default() }
    }

    #[test]
    fn a_released_directory_is_anothers_and_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.commit(put("a")).unwrap();
        let released = store.release().unwrap();
        // What is asked meanwhile waits.
        let waiting = std::thread::spawn({
            let store = store.clone();
            move || store.commit(put("c"))
        });
        let other = Store::open_held(dir.path()).unwrap();
        assert!(other.view().get("a").is_some());
        other.begin();
        other.commit(put("b")).unwrap();
        drop(other);
        let watch_from = store.view().revision();
        let mut watch = store.watch(watch_from);
        released.resume().unwrap();
        waiting.join().unwrap().unwrap();
        assert!(watch.next(Duration::from_secs(10)).is_some(), "followers hear of it");
        for key in ["a", "b", "c"] {
            assert!(store.view().get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn one_that_was_given_away_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let released = store.release().unwrap();
        let waiting = std::thread::spawn({
            let store = store.clone();
            move || store.commit(put("a"))
        });
        drop(released);
        assert!(matches!(waiting.join().unwrap(), Err(CommitError::Closed)));
        assert!(matches!(store.commit(put("b")), Err(CommitError::Closed)));
        assert!(Store::open(dir.path()).unwrap().view().get("a").is_none());
    }

    #[test]
    fn while_held_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        // One that never begins ends all the same.
        drop(Store::open_held(dir.path()).unwrap());
        let store = Store::open_held(dir.path()).unwrap();
        let waiting = std::thread::spawn({
            let store = store.clone();
            move || store.commit(put("a"))
        });
        assert!(Store::peek(dir.path()).unwrap().get("a").is_none());
        store.begin();
        waiting.join().unwrap().unwrap();
        assert!(Store::peek(dir.path()).unwrap().get("a").is_some());
    }
}
