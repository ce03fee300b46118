//! The query log: an entry in Cloud Logging for every question of the networks whose policy wants it.
//!
//! A resolver hands over the two messages as they are and never waits: they are read, and made an entry, on a thread of
//! the log's own. What comes faster than that thread works is not logged, and counted.

mod entry;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use vestibule_logs::time::TimeWriter;
use vestibule_logs::{Batch, Held, LogSink};
use vestibule_vpc::NetworkId;

use crate::asker::Entry;
use crate::counts::Transport;
use crate::origin::Origin;

/// Questions that wait to be made entries. At 20,000 questions a second, more than a tenth of one.
const MAX_QUEUED: usize = 4096;

/// Entries that are handed to the store at once.
const MAX_BATCH: usize = 256;

/// What is known of a machine that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub id: u64,
    /// Its short name.
    pub name: String,
    pub zone: String,
    pub project: String,
    /// The number of its project.
    pub project_number: String,
}

/// Finds the machine at a private address of a network.
pub type Who = dyn Fn(&NetworkId, Ipv4Addr) -> Option<Machine> + Send;

/// A question and its answer.
pub(crate) struct Exchange {
    pub(crate) network: NetworkId,
    pub(crate) entry: Entry,
    /// The private address of who asks.
    pub(crate) source: Option<Ipv4Addr>,
    /// The region of who asks.
    pub(crate) region: Option<Arc<str>>,
    pub(crate) transport: Transport,
    /// Who answers; `None` if the message is no question.
    pub(crate) origin: Option<Origin>,
    /// When the question came.
    pub(crate) at: SystemTime,
    pub(crate) message: Box<[u8]>,
    pub(crate) answer: Box<[u8]>,
    /// The other server that has answered.
    pub(crate) server: Option<IpAddr>,
    /// The answer was translated for IPv6.
    pub(crate) translated: bool,
}

/// What waits for the thread.
struct Queued {
    exchange: Exchange,
    /// When the answer was there.
    done: SystemTime,
    /// Whoever reads the log meanwhile waits.
    _held: Held,
}

/// The way into the log. Its thread ends with the last resolver that has it.
pub struct QueryLog {
    queue: SyncSender<Queued>,
    sink: LogSink,
    dropped: AtomicU64,
}

impl QueryLog {
    /// Starts the thread. `who` is asked on it.
    pub fn start(sink: LogSink, who: Box<Who>) -> io::Result<QueryLog> {
        let (queue, exchanges) = sync_channel(MAX_QUEUED);
        let out = sink.clone();
        let thread = std::thread::Builder::new().name("dns-query-log".to_owned());
        thread.spawn(move || write(&exchanges, &out, &who))?;
        Ok(QueryLog { queue, sink, dropped: AtomicU64::new(0) })
    }

    /// Takes a question for the log. Never waits.
    pub(crate) fn note(&self, exchange: Exchange) {
        let queued = Queued { exchange, done: SystemTime::now(), _held: self.sink.hold() };
        if self.queue.try_send(queued).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Questions that were not logged because too many came at once.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Makes entries until nobody sends any more.
fn write(exchanges: &Receiver<Queued>, sink: &LogSink, who: &Who) {
    let mut clock = TimeWriter::new();
    while let Ok(first) = exchanges.recv() {
        let mut batch = Batch::default();
        let mut held = Vec::new();
        for queued in std::iter::once(first).chain(exchanges.try_iter()).take(MAX_BATCH) {
            batch
                .push_with(|out| entry::write(out, &queued.exchange, queued.done, &mut clock, who).is_some());
            held.push(queued);
        }
        // The sink counts what it has to drop.
        sink.try_send(batch);
    }
}

#[cfg(test)]
mod tests;
