//! The one thread that writes.
//!
//! It takes every transaction that is waiting, judges them in order against the view as the ones before would leave
//! it, and makes all that passed durable with one `fsync`: under load the cost of a disk flush is shared, and when idle
//! nobody waits for company. Only then is the new view shown and the callers are answered.
//!
//! When the disk refuses, every caller of the group is told so and the shown view stays as it was. Before the next
//! group the disk is asked what it really holds: a commit that reported failure may have reached it after all, and if
//! so it is shown then. Its caller was told that the outcome is an error, not that it never happened.

use crate::disk::{Disk, Row};
use crate::handover::{Holding, Release, release};
use crate::history::{Bounds, History, Weighed};
use crate::lock::DirLock;
use crate::watch::Wakers;
use crate::{CommitError, Event, Op, Revision, Txn, View};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Condvar, Mutex, PoisonError};

/// How many transactions may wait for the writer; further callers wait to be let in.
pub(crate) const QUEUE_TRANSACTIONS: usize = 1024;

/// How many transactions share one flush at most. Bounds what one failure takes with it.
const GROUP_TRANSACTIONS: usize = 256;

/// A transaction on its way to the disk.
pub(crate) struct Request {
    pub(crate) txn: Txn,
    /// The JSON text of every document the transaction puts, by position of the operation. Made on the caller's
    /// thread.
    pub(crate) texts: Vec<Option<String>>,
    pub(crate) reply: SyncSender<Result<Revision, CommitError>>,
}

/// What the writer is told.
pub(crate) enum Message {
    Commit(Request),
    /// Close the files and let go of the directory.
    Release(Release),
}

/// What readers see.
pub(crate) struct Shared {
    view: ArcSwap<View>,
    history: Mutex<History>,
    moved: Condvar,
    wakers: Wakers,
    /// How often waiting watches were told to look up.
    interrupts: AtomicU64,
}

impl Shared {
    pub(crate) fn new(view: View, bounds: Bounds) -> Shared {
        let history = History::starting_at(view.revision(), bounds);
        Shared {
            view: ArcSwap::from_pointee(view),
            history: Mutex::new(history),
            moved: Condvar::new(),
            wakers: Wakers::default(),
            interrupts: AtomicU64::new(0),
        }
    }

    pub(crate) fn view(&self) -> View {
        View::clone(&self.view.load())
    }

    pub(crate) fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn moved(&self) -> &Condvar {
        &self.moved
    }

    pub(crate) fn interrupts(&self) -> u64 {
        self.interrupts.load(Ordering::Relaxed)
    }

    pub(crate) fn interrupt(&self) {
        // Under the lock, so that no watch is between its look and its sleep.
        let _history = self.history();
        self.interrupts.fetch_add(1, Ordering::Relaxed);
        self.moved.notify_all();
    }

    pub(crate) fn wakers(&self) -> &Wakers {
        &self.wakers
    }

    /// Shows a new view. Whoever hears of a revision can already read it.
    fn publish(&self, view: View, record: impl FnOnce(&mut History)) {
        self.view.store(view.into());
        record(&mut self.history());
        self.moved.notify_all();
        self.wakers.wake_all();
    }
}

pub(crate) struct Writer<D> {
    pub(crate) disk: D,
    pub(crate) shared: std::sync::Arc<Shared>,
    /// A commit failed; what is on disk must be looked at before the next one.
    pub(crate) suspect: bool,
    /// The directory is ours as long as this is here.
    pub(crate) lock: Option<DirLock>,
}

/// One commit of a group, ready for the disk.
struct Commit {
    revision: Revision,
    rows: Vec<Row>,
}

type Answer = (SyncSender<Result<Revision, CommitError>>, Result<Revision, CommitError>);

impl<D: Disk> Writer<D> {
    pub(crate) fn new(disk: D, shared: std::sync::Arc<Shared>, lock: Option<DirLock>) -> Writer<D> {
        Writer { disk, shared, suspect: false, lock }
    }

    /// Works until every sender is gone, or the directory was given away for good. `hold`: transactions wait until it
    /// is over.
    pub(crate) fn run(mut self, messages: &Receiver<Message>, hold: Option<Holding>) {
        if let Some(hold) = hold {
            hold.wait();
        }
        while let Ok(first) = messages.recv() {
            let (group, then) = gather(first, messages);
            for (reply, result) in self.commit_group(group) {
                // A caller that went away has no use for the answer.
                let _ = reply.send(result);
            }
            if let Some(asked) = then
                && !release(&mut self, asked)
            {
                return;
            }
        }
    }

    fn commit_group(&mut self, group: Vec<Request>) -> Vec<Answer> {
        if group.is_empty() {
            return Vec::new();
        }
        if let Err(why) = self.settle() {
            return refuse_all(group.into_iter().map(|r| r.reply), &why);
        }
        let mut view = self.shared.view();
        let mut commits = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        for request in group {
            let result = accept(&mut view, request.txn, request.texts, &mut commits);
            answers.push((request.reply, result));
        }
        if commits.is_empty() {
            return answers;
        }
        match self.write(view, commits) {
            Ok(()) => answers,
            // Refusals of this group were judged against commits that never happened: they get the same error.
            Err(why) => refuse_all(answers.into_iter().map(|(reply, _)| reply), &why),
        }
    }

    fn write(&mut self, view: View, commits: Vec<Commit>) -> Result<(), String> {
        let ends: Vec<(Revision, usize)> = commits.iter().map(|c| (c.revision, c.rows.len())).collect();
        let rows: Vec<Row> = commits.into_iter().flat_map(|c| c.rows).collect();
        if let Err(why) = self.disk.commit(&rows, view.revision()) {
            tracing::error!(error = %why, transactions = ends.len(), "the state could not be written");
            self.suspect = true;
            return Err(why);
        }
        let mut events = rows.into_iter().map(|row| Weighed { bytes: row.bytes(), event: row.event });
        self.shared.publish(view, |history| {
            for (revision, count) in ends {
                history.push(events.by_ref().take(count).collect(), revision);
            }
        });
        Ok(())
    }

    /// After a failure: makes memory and disk agree again.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        if !self.suspect {
            return Ok(());
        }
        if self.disk.reopen()? != self.shared.view().revision() {
            let found = self.disk.reload()?;
            tracing::warn!(revision = found.revision(), "a commit that had reported failure is on disk");
            let revision = found.revision();
            self.shared.publish(found, |history| history.reset(revision));
        }
        self.suspect = false;
        Ok(())
    }
}

/// The transactions that are waiting, as many as share a flush, and what was asked behind them.
fn gather(first: Message, messages: &Receiver<Message>) -> (Vec<Request>, Option<Release>) {
    let mut group = Vec::new();
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Commit(request) => group.push(request),
            Message::Release(asked) => return (group, Some(asked)),
        }
        next = if group.len() < GROUP_TRANSACTIONS { messages.try_recv().ok() } else { None };
    }
    (group, None)
}

/// Judges one transaction against the view, and applies it when it passes.
fn accept(
    view: &mut View,
    txn: Txn,
    texts: Vec<Option<String>>,
    commits: &mut Vec<Commit>,
) -> Result<Revision, CommitError> {
    if !txn.compares.iter().all(|compare| view.holds(compare)) {
        return Err(CommitError::Conflict);
    }
    let mut texts = text_by_key(&txn.ops, texts);
    let events = view.apply(txn.ops);
    if !events.is_empty() {
        let rows = events.into_iter().map(|event| row(event, view, &mut texts)).collect();
        commits.push(Commit { revision: view.revision(), rows });
    }
    Ok(view.revision())
}

/// The text of the last change of every key.
fn text_by_key(ops: &[Op], texts: Vec<Option<String>>) -> HashMap<String, Option<String>> {
    let keys = ops.iter().map(|op| match op {
        Op::Put(key, _) | Op::Delete(key) => key.clone(),
    });
    keys.zip(texts).collect()
}

fn row(event: Event, view: &View, texts: &mut HashMap<String, Option<String>>) -> Row {
    let text = texts.remove(&*event.key).flatten();
    let created = view.get(&event.key).map_or(event.revision, |kv| kv.created);
    Row { event, text, created }
}

fn refuse_all(
    replies: impl Iterator<Item = SyncSender<Result<Revision, CommitError>>>,
    why: &str,
) -> Vec<Answer> {
    replies.map(|reply| (reply, Err(CommitError::Storage(why.to_owned())))).collect()
}
