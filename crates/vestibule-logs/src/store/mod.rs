//! Where entries are kept: append-only files of JSON lines, searched at query time.
//!
//! A load balancer writes thousands of entries a second and almost none is ever read, so writing is what must be cheap:
//! one thread appends whole batches to the current file (`writer`), and the only index is the span of time and the names
//! of logs of each file (`segment`). A query reads the files that can hold what it asks for, newest first or oldest
//! first, and stops when a page is full (`query`). Old files are deleted by age and by total size.
//!
//! Entries survive `kill -9`: they are handed to the kernel batch by batch, and a torn last line is cut off at the next
//! start. They are not synced to disk one by one, which requests would have to wait for.

mod handover;
mod ids;
mod query;
mod segment;
#[cfg(test)]
mod tests;
mod token;
mod writer;

pub(crate) use handover::Release;
pub use handover::{Forward, Released};
pub(crate) use ids::InsertIds;
pub use query::{ListRequest, MAX_PAGE_SIZE, Order, Page, Query, QueryError};

use crate::batch::{Batch, HOLD, LogSink, Message};
use segment::Catalog;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};
use writer::Writer;

/// How many batches may wait to be written. Writers on request paths drop what does not fit.
const QUEUE_BATCHES: usize = 256;

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// Entries older than this are never listed and eventually deleted. 30 days by default, as in Cloud Logging's
    /// `_Default` bucket.
    pub retention: Duration,
    /// The total size of all files, in bytes; the oldest go first. 1 GiB by default.
    pub max_bytes: u64,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits { retention: Duration::from_secs(30 * 24 * 3600), max_bytes: 1 << 30 }
    }
}

impl LogLimits {
    /// The size at which a file is closed and the next one begun: small enough that deleting one is no great loss.
    fn segment_bytes(&self) -> u64 {
        const SMALLEST: u64 = 4 << 10;
        const LARGEST: u64 = 16 << 20;
        (self.max_bytes / 8).clamp(SMALLEST, LARGEST)
    }
}

/// Why entries could not be written, or a log not be deleted.
#[derive(Debug, Clone)]
pub struct WriteError(String);

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log entries could not be written: {}", self.0)
    }
}

impl std::error::Error for WriteError {}

/// The log entries of one directory. Cheap to clone; the writer stops when the last clone is gone.
#[derive(Clone)]
pub struct LogStore(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    limits: LogLimits,
    catalog: Arc<Mutex<Catalog>>,
    dropped: Arc<AtomicU64>,
    /// Writers that hold entries back.
    held: Arc<AtomicUsize>,
    writer: Mutex<Option<(SyncSender<Message>, JoinHandle<()>)>>,
}

impl LogStore {
    /// Opens the store in a directory, which is made (for its owner alone) if it is missing. One process at a time may
    /// have a directory open: the caller sees to it.
    pub fn open(dir: &Path, limits: LogLimits) -> io::Result<LogStore> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let catalog = Arc::new(Mutex::new(Catalog::open(dir)?));
        let (sender, receiver) = sync_channel(QUEUE_BATCHES);
        let mut writer = Writer::new(dir, limits, catalog.clone())?;
        let thread =
            std::thread::Builder::new().name("log-writer".into()).spawn(move || writer.run(&receiver))?;
        Ok(LogStore(Arc::new(Inner {
            dir: dir.to_owned(),
            limits,
            catalog,
            dropped: Arc::default(),
            held: Arc::default(),
            writer: Mutex::new(Some((sender, thread))),
        })))
    }

    /// A way in for writers that must not wait.
    pub fn sink(&self) -> LogSink {
        LogSink::new(self.sender(), self.0.dropped.clone(), self.0.held.clone())
    }

    /// Writes entries that are known to be right (see [`crate::entry::prepare`]) and waits until they can be listed.
    pub fn append(&self, entries: &[Value]) -> Result<(), WriteError> {
        let mut batch = Batch::default();
        for entry in entries {
            batch.push(entry.to_string().as_bytes());
        }
        let (reply, answer) = sync_channel(1);
        self.ask(Message::Append(batch, reply))?;
        answer.recv().map_err(|_| closed())?.map_err(WriteError)
    }

    /// Writes finished lines of JSON, as [`Forward`] gave them, and waits until they can be listed.
    pub fn append_lines(&self, lines: &[u8]) -> Result<(), WriteError> {
        let mut batch = Batch::with_capacity(lines.len());
        lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(|line| batch.push(line));
        let (reply, answer) = sync_channel(1);
        self.ask(Message::Append(batch, reply))?;
        answer.recv().map_err(|_| closed())?.map_err(WriteError)
    }

    /// Writes what was sent, closes the files and lets another process open the directory. Nothing can be listed
    /// until it is resumed; what is written meanwhile is kept.
    pub fn release(&self) -> Result<Released, WriteError> {
        let (done, answer) = sync_channel(1);
        let (asked, released) = Release::new(done);
        self.ask(Message::Release(asked))?;
        answer.recv().map_err(|_| closed())?;
        Ok(released)
    }

    /// Waits until everything that was sent before can be listed.
    pub fn flush(&self) {
        let (reply, answer) = sync_channel(1);
        if self.ask(Message::Flush(reply)).is_ok() {
            // The writer is gone when nobody answers; then there is nothing to wait for.
            let _ = answer.recv();
        }
    }

    /// Waits until everything that was written before has been sent.
    ///
    /// A writer that holds entries back sends them within [`HOLD`], so after that time all that was written before this
    /// call has been sent, however many batches have begun since.
    fn wait_for_writers(&self) {
        const LOOK: Duration = Duration::from_millis(2);
        /// Timers of busy threads run late.
        const GRACE: Duration = Duration::from_millis(10);
        let start = Instant::now();
        while self.0.held.load(Ordering::Acquire) > 0 && start.elapsed() < HOLD + GRACE {
            std::thread::sleep(LOOK);
        }
    }

    /// Searches. What was written before is found, also what its writer has not sent yet.
    pub fn list(&self, query: &Query) -> Result<Page, QueryError> {
        self.wait_for_writers();
        self.flush();
        let snapshot = self.catalog().clone();
        query::run(query, &snapshot, &self.0.dir, self.0.limits.retention)
    }

    /// The names of all logs that have entries and belong to one of the containers (`projects/p`), sorted.
    pub fn log_names(&self, containers: &[String]) -> Vec<String> {
        self.wait_for_writers();
        self.flush();
        let catalog = self.catalog();
        let names: BTreeSet<&str> = catalog.logs().filter(|name| query::belongs(name, containers)).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Hides all entries of a log that were written so far. `false` when it had none.
    pub fn delete_log(&self, log_name: &str) -> Result<bool, WriteError> {
        let (reply, answer) = sync_channel(1);
        self.ask(Message::DeleteLog(log_name.to_owned(), reply))?;
        answer.recv().map_err(|_| closed())?.map_err(WriteError)
    }

    fn ask(&self, message: Message) -> Result<(), WriteError> {
        self.sender().send(message).map_err(|_| closed())
    }

    fn sender(&self) -> SyncSender<Message> {
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.as_ref() {
            Some((sender, _)) => sender.clone(),
            // Only while the last clone is being dropped: a channel that nobody reads.
            None => sync_channel(1).0,
        }
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.0.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> WriteError {
    WriteError("the log store is closed".into())
}

impl Drop for Inner {
    /// Writes what was sent and waits for the writer, so that the directory can be opened again at once. Sinks that live
    /// on are told that their batches are dropped.
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = writer {
            // A full queue is read until there is room; a writer that has panicked refuses.
            let _ = sender.send(Message::Stop);
            drop(sender);
            if thread.join().is_err() {
                tracing::error!("the log writer had panicked");
            }
        }
    }
}
