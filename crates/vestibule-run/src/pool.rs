//! The ready instances of a revision, and the way to a slot of one of them.
//!
//! The fast path is a load of the published list and one compare-and-swap in an instance: no lock, no other thread.
//! Only a request that finds no slot sends a message to the revision's keeper, which owns the line. While anyone waits,
//! newcomers go to the end of the line instead of snatching the slot that the first in line waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::desired::Revision;
use crate::instance::{Instance, Lease, Signals};
use crate::line::Waiter;
use crate::refusal::Refusal;

/// Requests that may wait for a slot of one revision. The next is answered 429 at once.
pub const MAX_WAITING: usize = 10_000;

/// Share of an instance's concurrency that is filled before requests go to the next instance, in percent. Cloud Run's
/// autoscaler aims at the same. Instances that come first are used first, so that the others become idle and go away.
const PREFERRED_LOAD_PERCENT: u32 = 60;

/// Ready instances and the way into the line for them.
pub(crate) struct Pool {
    pub(crate) signals: Arc<Signals>,
    /// Oldest first.
    ready: ArcSwap<Vec<Arc<Instance>>>,
    concurrency: u32,
    preferred: u32,
    /// Waiters that left before they were answered and that the keeper has not removed yet.
    cancelled: AtomicUsize,
    line: mpsc::UnboundedSender<Waiter>,
}

impl Pool {
    /// A pool without instances, and the end at which its keeper receives those who wait.
    ///
    /// The channel needs no bound of its own: [`MAX_WAITING`] is counted before anything is sent.
    pub(crate) fn new(revision: &Revision) -> (Self, mpsc::UnboundedReceiver<Waiter>) {
        let (line, waiters) = mpsc::unbounded_channel();
        let concurrency = revision.concurrency.max(1);
        let pool = Self {
            signals: Arc::new(Signals::new()),
            ready: ArcSwap::default(),
            concurrency,
            preferred: concurrency.saturating_mul(PREFERRED_LOAD_PERCENT).div_ceil(100),
            cancelled: AtomicUsize::new(0),
            line,
        };
        (pool, waiters)
    }

    /// A slot, of the preferred instance if it has one, unless there is none or someone waits for one already.
    pub(crate) fn try_acquire(&self, preferred: Option<&Arc<Instance>>) -> Option<Lease> {
        if self.signals.interest.load(Ordering::SeqCst) > 0 {
            return None;
        }
        preferred.and_then(|instance| instance.try_take(self.concurrency)).or_else(|| self.take())
    }

    /// The ready instance whose id fits.
    pub(crate) fn find(&self, fits: impl Fn(&str) -> bool) -> Option<Arc<Instance>> {
        self.ready.load().iter().find(|instance| fits(&instance.id)).cloned()
    }

    /// A slot for the first in line.
    pub(crate) fn take(&self) -> Option<Lease> {
        let ready = self.ready.load();
        let below = |limit| ready.iter().find_map(|instance| instance.try_take(limit));
        below(self.preferred).or_else(|| below(self.concurrency))
    }

    /// Waits in line for a slot.
    pub(crate) async fn wait(&self, deadline: Instant) -> Result<Lease, Refusal> {
        if self.signals.interest.fetch_add(1, Ordering::SeqCst) >= MAX_WAITING {
            self.leave(1);
            return Err(Refusal::saturated());
        }
        let (reply, answer) = oneshot::channel();
        if self.line.send(Waiter { since: Instant::now(), deadline, reply }).is_err() {
            self.leave(1);
            return Err(Refusal::shutting_down());
        }
        let mut presence = Presence { pool: self, answered: false };
        let answer = answer.await;
        presence.answered = true;
        answer.unwrap_or_else(|_| Err(Refusal::shutting_down()))
    }

    /// The keeper has answered so many of those who waited, or found that they left.
    pub(crate) fn leave(&self, waiters: usize) {
        self.signals.interest.fetch_sub(waiters, Ordering::SeqCst);
    }

    /// How many left since the last call.
    pub(crate) fn take_cancelled(&self) -> usize {
        self.cancelled.swap(0, Ordering::SeqCst)
    }

    pub(crate) fn publish(&self, ready: Vec<Arc<Instance>>) {
        self.ready.store(Arc::new(ready));
    }
}

/// Tells the keeper when a waiter leaves before it was answered.
struct Presence<'a> {
    pool: &'a Pool,
    answered: bool,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.pool.cancelled.fetch_add(1, Ordering::SeqCst);
            self.pool.signals.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn pool_of(instances: u64, concurrency: u32) -> (Pool, mpsc::UnboundedReceiver<Waiter>) {
        let revision = Revision { concurrency, ..testing::revision("r") };
        let (pool, line) = Pool::new(&revision);
        let instance = |number| {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
            Arc::new(Instance::new(number, number.to_string().into(), address, pool.signals.clone()))
        };
        pool.publish((0..instances).map(instance).collect());
        (pool, line)
    }

    #[test]
    fn fills_the_first_to_the_preferred_load_then_the_next_then_all() {
        let (pool, _line) = pool_of(2, 10);
        let leases: Vec<_> = std::iter::from_fn(|| pool.try_acquire(None)).collect();
        let order: String = leases.iter().map(|lease| lease.instance_id.to_string()).collect();
        assert_eq!(order, "00000011111100001111");
    }

    #[test]
    fn a_preferred_instance_is_filled_before_others_and_not_beyond() {
        let (pool, _line) = pool_of(2, 2);
        let second = pool.find(|id| id == "1").unwrap();
        let leases: Vec<_> = std::iter::from_fn(|| pool.try_acquire(Some(&second))).collect();
        let order: String = leases.iter().map(|lease| lease.instance_id.to_string()).collect();
        assert_eq!(order, "1100");
        assert!(pool.find(|id| id == "2").is_none());
    }

    #[test]
    fn nobody_passes_those_who_wait() {
        let (pool, mut line) = pool_of(1, 1);
        let lease = pool.try_acquire(None);
        let mut waiting = Box::pin(pool.wait(Instant::now()));
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(lease);
        assert!(pool.try_acquire(None).is_none(), "passed the one who waits");
        let waiter = line.try_recv().unwrap();
        waiter.answer(Ok(pool.take().unwrap()));
        pool.leave(1);
        assert!(matches!(waiting.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(_))));
        assert!(pool.try_acquire(None).is_some());
    }

    #[test]
    fn the_line_is_bounded_and_who_leaves_is_counted() {
        let (pool, _line) = pool_of(0, 1);
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(pool.wait(Instant::now()))).collect();
        for wait in &mut waiting {
            assert!(wait.as_mut().poll(&mut context).is_pending());
        }
        let mut late = Box::pin(pool.wait(Instant::now()));
        match late.as_mut().poll(&mut context) {
            std::task::Poll::Ready(Err(refusal)) => assert_eq!(refusal.status, 429),
            _ => panic!("let into a full line"),
        }
        drop(waiting);
        assert_eq!(pool.take_cancelled(), MAX_WAITING);
    }

    #[test]
    fn without_a_keeper_nobody_waits() {
        let (pool, line) = pool_of(0, 1);
        drop(line);
        let mut wait = Box::pin(pool.wait(Instant::now()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match wait.as_mut().poll(&mut context) {
            std::task::Poll::Ready(Err(refusal)) => assert_eq!(refusal.status, 503),
            _ => panic!("waits for nobody"),
        }
        assert_eq!(pool.signals.interest.load(Ordering::SeqCst), 0);
    }
}
