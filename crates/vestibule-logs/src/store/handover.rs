//! Giving the directory to another process, while entries still come.
//!
//! A server that is replaced goes on answering what it has begun, and those requests are logged as any others. Two
//! writers of one directory would not know of each other's files, so the one that leaves closes its file, keeps what
//! comes in memory, and then either takes the directory back or sends everything to its successor.

use super::writer::Writer;
use crate::batch::{Batch, Message};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

/// What is kept in memory at most, in bytes; batches beyond are dropped, and that is told.
const MAX_KEPT: usize = 64 << 20;
/// How often the writer looks for word, besides at every message.
const LOOK: Duration = Duration::from_millis(5);

/// Takes finished lines on, somewhere else.
pub type Forward = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// How it goes on.
enum Verdict {
    Resume(SyncSender<io::Result<()>>),
    Forward(Forward),
}

/// The directory may be opened by another process. Dropped, entries are lost from then on.
pub struct Released(SyncSender<Verdict>);

impl Released {
    /// Takes the directory back, and writes what came meanwhile.
    pub fn resume(self) -> io::Result<()> {
        let (reply, answer) = sync_channel(1);
        self.0.send(Verdict::Resume(reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// What came meanwhile and what will come goes there, as lines of JSON. Where that fails, entries are lost.
    pub fn forward(self, to: Forward) -> io::Result<()> {
        self.0.send(Verdict::Forward(to)).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::other("the log writer has ended")
}

/// What the writer is asked.
pub(crate) struct Release {
    done: SyncSender<()>,
    verdict: Receiver<Verdict>,
}

impl Release {
    pub(super) fn new(done: SyncSender<()>) -> (Release, Released) {
        let (say, verdict) = sync_channel(1);
        (Release { done, verdict }, Released(say))
    }
}

/// How the time without a directory ended.
pub(super) enum After {
    Resumed,
    /// Nothing is left to write.
    Stopped,
}

/// Closes the current file and waits for the verdict.
pub(super) fn release(writer: &mut Writer, messages: &Receiver<Message>, asked: Release) -> After {
    writer.close();
    let mut kept = Kept::default();
    // Nobody waits any more: the verdict says so too.
    let _ = asked.done.send(());
    let mut stopped = false;
    loop {
        match asked.verdict.try_recv() {
            Ok(Verdict::Resume(reply)) => {
                let outcome = writer.reopen();
                for batch in kept.batches {
                    // Reported where it happens.
                    let _ = writer.write(&batch);
                }
                let _ = reply.send(outcome);
                return if stopped { After::Stopped } else { After::Resumed };
            }
            Ok(Verdict::Forward(to)) if stopped => return forward_kept(kept, to),
            Ok(Verdict::Forward(to)) => return forward(kept, messages, to),
            Err(TryRecvError::Disconnected) => return After::Stopped,
            Err(TryRecvError::Empty) if stopped => std::thread::sleep(LOOK),
            Err(TryRecvError::Empty) => stopped = !take(&mut kept, messages),
        }
    }
}

#[derive(Default)]
struct Kept {
    batches: Vec<Batch>,
    bytes: usize,
}

impl Kept {
    fn push(&mut self, batch: Batch) {
        if self.bytes + batch.bytes().len() > MAX_KEPT {
            tracing::warn!(
                entries = batch.len(),
                "log entries were dropped: too many while the server is replaced"
            );
            return;
        }
        self.bytes += batch.bytes().len();
        self.batches.push(batch);
    }
}

/// Keeps one message; `false` when no more will come.
fn take(kept: &mut Kept, messages: &Receiver<Message>) -> bool {
    match messages.recv_timeout(LOOK) {
        Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        Ok(message) => {
            if let Some(batch) = entries(message) {
                kept.push(batch);
            }
        }
        Err(RecvTimeoutError::Timeout) => {}
    }
    true
}

/// The entries of a message; whoever waits is told that they are taken.
fn entries(message: Message) -> Option<Batch> {
    match message {
        Message::Entries(batch) => Some(batch),
        Message::Append(batch, reply) => {
            let _ = reply.send(Ok(()));
            Some(batch)
        }
        Message::Flush(reply) => {
            let _ = reply.send(());
            None
        }
        Message::DeleteLog(_, reply) => {
            let _ = reply.send(Err("another process has the log by now".to_owned()));
            None
        }
        Message::Release(_) | Message::Stop => None,
    }
}

fn forward_kept(kept: Kept, mut to: Forward) -> After {
    for batch in kept.batches {
        send(&mut to, &batch);
    }
    After::Stopped
}

fn forward(kept: Kept, messages: &Receiver<Message>, mut to: Forward) -> After {
    for batch in kept.batches {
        send(&mut to, &batch);
    }
    loop {
        match messages.recv() {
            Ok(Message::Stop) | Err(_) => return After::Stopped,
            Ok(message) => {
                if let Some(batch) = entries(message) {
                    send(&mut to, &batch);
                }
            }
        }
    }
}

fn send(to: &mut Forward, batch: &Batch) {
    if let Err(error) = to(batch.bytes()) {
        tracing::error!(%error, entries = batch.len(), "log entries were lost on their way to the new server");
    }
}
