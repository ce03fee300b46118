//! How entries travel from their writers to the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

/// A batch of entries a writer fills without any shared lock and sends whole.
///
/// Each line is one `LogEntry` object as JSON without `receiveTimestamp`; the store adds that, and an `insertId` and a
/// `timestamp` where missing.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: usize,
}

impl Batch {
    /// An empty batch with room for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Batch {
        Batch { bytes: Vec::with_capacity(bytes), entries: 0 }
    }

    /// Appends one finished entry (one JSON object, no newline inside).
    pub fn push(&mut self, json: &[u8]) {
        self.bytes.extend_from_slice(json);
        self.bytes.push(b'\n');
        self.entries += 1;
    }

    /// Appends one entry that `write` formats in place, to spare a copy. `write` must append one JSON object without a
    /// newline; what it appends is discarded when it answers `false`.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let start = self.bytes.len();
        if write(&mut self.bytes) {
            self.bytes.push(b'\n');
            self.entries += 1;
        } else {
            self.bytes.truncate(start);
        }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The bytes of all lines so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The longest that a writer may hold entries back. Readers wait no longer.
pub const HOLD: Duration = Duration::from_millis(50);

/// What the store's writer is asked to do.
pub(crate) enum Message {
    /// Write these.
    Entries(Batch),
    /// Write these and say how it went.
    Append(Batch, SyncSender<Result<(), String>>),
    /// Answer when all that was sent before is written.
    Flush(SyncSender<()>),
    /// Close the files, and wait for what comes of it.
    Release(crate::store::Release),
    /// Write no more.
    Stop,
    /// Hide all entries of this log that were written before.
    DeleteLog(String, SyncSender<Result<bool, String>>),
}

/// The way in for writers that must never wait. Cheap to clone; one clone a writer.
#[derive(Clone)]
pub struct LogSink {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    held: Arc<AtomicUsize>,
}

/// Says that a writer holds entries back for a moment, to send more of them at once. Whoever reads waits for them.
#[derive(Debug)]
pub struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl LogSink {
    pub(crate) fn new(
        sender: SyncSender<Message>,
        dropped: Arc<AtomicU64>,
        held: Arc<AtomicUsize>,
    ) -> LogSink {
        LogSink { sender, dropped, held }
    }

    /// To be kept as long as a batch has entries that were not sent, which may be [`HOLD`] at most.
    pub fn hold(&self) -> Held {
        self.held.fetch_add(1, Ordering::Relaxed);
        Held(self.held.clone())
    }

    /// Hands a batch over, or drops it when the store cannot keep up: `false` then, and its entries are counted.
    /// Never waits.
    pub fn try_send(&self, batch: Batch) -> bool {
        if batch.is_empty() {
            return true;
        }
        match self.sender.try_send(Message::Entries(batch)) {
            Ok(()) => true,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                if let Message::Entries(batch) = message {
                    self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                }
                false
            }
        }
    }

    /// How many entries were dropped since the start, by all writers together.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
