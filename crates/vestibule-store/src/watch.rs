//! Following the store.
//!
//! A watch starts after a revision and delivers every later commit in order, whole, exactly once. It holds no queue of
//! its own: it reads from the shared history, so a slow watcher costs nothing and one that fell too far behind is told
//! to read a view.

use crate::store::Inner;
use crate::{Event, Revision};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What happened since the watch was last asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Changes {
    /// Every change, in order; never empty.
    Events(Vec<Event>),
    /// More happened than is remembered. Read a view at this revision or later; the watch goes on from there.
    Compacted(Revision),
}

impl Changes {
    /// Whether a document under `prefix` may have changed.
    pub fn touch(&self, prefix: &str) -> bool {
        match self {
            Changes::Events(events) => events.iter().any(|e| e.key.starts_with(prefix)),
            Changes::Compacted(_) => true,
        }
    }

    /// The revision up to which these changes reach.
    pub fn revision(&self) -> Revision {
        match self {
            Changes::Events(events) => events.last().map_or(0, |e| e.revision),
            Changes::Compacted(revision) => *revision,
        }
    }
}

/// Follows the store from one revision on. Keeps the store open.
pub struct Watch {
    inner: Arc<Inner>,
    seen: Revision,
}

impl Watch {
    pub(crate) fn new(inner: Arc<Inner>, after: Revision) -> Watch {
        Watch { inner, seen: after }
    }

    /// The revision up to which everything was delivered.
    pub fn revision(&self) -> Revision {
        self.seen
    }

    /// What happened since, waiting up to `timeout` for something to happen; `None` when nothing did, or when
    /// [`crate::Store::interrupt`] ended the waiting. Blocks the thread.
    pub fn next(&mut self, timeout: Duration) -> Option<Changes> {
        let shared = self.inner.shared().clone();
        let deadline = Instant::now().checked_add(timeout);
        let mut history = shared.history();
        let interrupts = shared.interrupts();
        while history.head() <= self.seen {
            if shared.interrupts() != interrupts {
                return None;
            }
            let left = match deadline {
                Some(deadline) => deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero())?,
                None => Duration::MAX,
            };
            let woken = shared.moved().wait_timeout(history, left);
            history = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let head = history.head();
        let events = history.after(self.seen);
        self.seen = head;
        Some(events.map_or(Changes::Compacted(head), Changes::Events))
    }

    /// Completes once there is something that [`Watch::next`] would return without waiting. For tasks: no runtime is
    /// assumed.
    pub fn changed(&self) -> Changed<'_> {
        Changed { watch: self }
    }

    fn behind(&self) -> bool {
        self.inner.shared().history().head() > self.seen
    }
}

/// See [`Watch::changed`].
#[must_use = "futures do nothing unless polled"]
pub struct Changed<'a> {
    watch: &'a Watch,
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.watch.behind() {
            return Poll::Ready(());
        }
        self.watch.inner.shared().wakers().register(cx.waker());
        // A commit between the look and the registration woke nobody.
        if self.watch.behind() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The tasks that wait for the next commit.
#[derive(Default)]
pub(crate) struct Wakers(Mutex<Vec<Waker>>);

impl Wakers {
    fn register(&self, waker: &Waker) {
        let mut wakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    pub(crate) fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }
}
