//! One running instance as requests see it: an address and slots.
//!
//! The slots are one atomic word, so that a request that finds a free one takes it without a lock and without another
//! thread. (Only the first request after a pause takes a lock, of this instance alone: it gives back the processors.) The same word carries the mark that the instance is closed. That is what makes scaling down safe: closing
//! succeeds only on a word that counts no request, and once it has, no request can take a slot. A request that was let
//! in can therefore never find its instance being stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::driver::Exit;
use crate::refusal::Refusal;
use crate::throttle::Throttle;

/// The bit of the word that says that nothing may enter any more.
const CLOSED: u32 = 1 << 31;
/// The bit that says that it has no processors, as it is idle.
const DOZES: u32 = 1 << 30;
/// The bits that count requests.
const COUNT: u32 = DOZES - 1;
/// How long a request that failed in an instance waits to learn whether that has ended, and how. An end is known some
/// milliseconds after the connections broke.
const FATE_LIMIT: Duration = Duration::from_millis(300);

/// What the instances of a revision and the keeper of that revision tell each other.
#[derive(Debug)]
pub(crate) struct Signals {
    /// Requests that wait for a slot, and one more once the revision is retired. While it is not 0 every slot that
    /// becomes free is announced.
    pub(crate) interest: AtomicUsize,
    /// Wakes the keeper.
    pub(crate) wake: Notify,
    /// What `last_used` counts from.
    epoch: Instant,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self { interest: AtomicUsize::new(0), wake: Notify::new(), epoch: Instant::now() }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A ready instance.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Rises with every start in a revision.
    pub(crate) number: u64,
    pub(crate) id: Arc<str>,
    pub(crate) address: SocketAddr,
    slots: AtomicU32,
    /// Microseconds since the epoch of the signals.
    last_used: AtomicU64,
    signals: Arc<Signals>,
    throttle: Option<Arc<Throttle>>,
    fate: Fate,
}

/// How an instance ended, once it has.
#[derive(Debug, Clone)]
pub(crate) struct Fate(Arc<watch::Sender<Option<Exit>>>);

impl Default for Fate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Fate {
    pub(crate) fn seal(&self, exit: Exit) {
        self.0.send_replace(Some(exit));
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Throttle")
    }
}

impl Instance {
    pub(crate) fn new(number: u64, id: Arc<str>, address: SocketAddr, signals: Arc<Signals>) -> Self {
        let last_used = AtomicU64::new(signals.micros());
        let (slots, throttle, fate) = (AtomicU32::new(0), None, Fate::default());
        Self { number, id, address, slots, last_used, signals, throttle, fate }
    }

    /// With what takes its processors away while it is idle.
    pub(crate) fn throttled(self, throttle: Option<Arc<Throttle>>) -> Self {
        Self { throttle, ..self }
    }

    /// With what will be known of its end.
    pub(crate) fn destined(self, fate: Fate) -> Self {
        Self { fate, ..self }
    }

    /// Takes a slot if fewer than `limit` are taken.
    pub(crate) fn try_take(self: &Arc<Self>, limit: u32) -> Option<Lease> {
        let enter = |word: u32| {
            (word & CLOSED == 0 && word & COUNT < limit.min(COUNT)).then_some((word & !DOZES) + 1)
        };
        let before = self.slots.fetch_update(Ordering::SeqCst, Ordering::Relaxed, enter).ok()?;
        if let Some(throttle) = self.throttle.as_ref().filter(|_| before & DOZES != 0) {
            throttle.wake();
        }
        Some(Lease { address: self.address, instance_id: self.id.clone(), instance: self.clone() })
    }

    /// Closes it if it serves nothing. `true`: it is closed now and no request is in it.
    pub(crate) fn close_if_idle(&self) -> bool {
        let close = |word: u32| (word & !DOZES == 0).then_some(CLOSED);
        self.slots.fetch_update(Ordering::SeqCst, Ordering::Relaxed, close).is_ok()
    }

    /// Marks it as having no processors, if it serves nothing.
    pub(crate) fn doze(&self) -> bool {
        self.slots.compare_exchange(0, DOZES, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.slots.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Closes it whatever it serves: it is gone, or going by force.
    pub(crate) fn close(&self) {
        self.slots.fetch_or(CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.slots.load(Ordering::SeqCst) & COUNT
    }

    pub(crate) fn last_used(&self) -> Instant {
        self.signals.epoch + Duration::from_micros(self.last_used.load(Ordering::SeqCst))
    }
}

/// A slot of a ready instance. Dropping it gives the slot back and lets the next request in line have it.
#[derive(Debug)]
#[must_use = "dropping a lease gives the slot back"]
pub struct Lease {
    /// Where the instance listens.
    pub address: SocketAddr,
    /// The `instanceId` label of log entries.
    pub instance_id: Arc<str>,
    instance: Arc<Instance>,
}

impl Lease {
    /// The request failed in the instance. Waits for a moment whether the instance has ended, and answers with what the
    /// client is to be told instead of what the failure looks like from outside, if there is such a thing.
    pub async fn post_mortem(&self) -> Option<Refusal> {
        let exit = self.exit().await?;
        let out_of_memory = matches!(exit, Exit::OutOfMemory { .. });
        out_of_memory.then(|| Refusal::out_of_memory(&exit.to_string()))
    }

    /// The instance took no connection. Waits for a moment whether it has ended; if so, no request goes there any more.
    pub async fn has_ended(&self) -> bool {
        let ended = self.exit().await.is_some();
        if ended {
            self.instance.close();
        }
        ended
    }

    async fn exit(&self) -> Option<Exit> {
        let mut fate = self.instance.fate.0.subscribe();
        let sealed = tokio::time::timeout(FATE_LIMIT, fate.wait_for(Option::is_some)).await;
        *sealed.ok()?.ok()?
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let instance = &self.instance;
        let signals = &instance.signals;
        // The time first: an instance must never look idle since before its last request.
        instance.last_used.fetch_max(signals.micros(), Ordering::SeqCst);
        instance.slots.fetch_sub(1, Ordering::SeqCst);
        // Both are sequentially consistent: either this sees that someone waits, or the one who begins to wait after
        // this looked sees the slot that was just given back.
        if signals.interest.load(Ordering::SeqCst) > 0 {
            signals.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Arc<Instance> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Arc::new(Instance::new(1, "i".into(), address, Arc::new(Signals::new())))
    }

    #[test]
    fn takes_up_to_the_limit_and_gives_back() {
        let instance = instance();
        let leases: Vec<_> = std::iter::from_fn(|| instance.try_take(3)).collect();
        assert_eq!(leases.len(), 3);
        assert_eq!(instance.in_flight(), 3);
        drop(leases);
        assert_eq!(instance.in_flight(), 0);
        assert!(instance.try_take(1).is_some());
    }

    #[test]
    fn closes_only_when_idle_and_lets_nothing_in_afterwards() {
        let instance = instance();
        let lease = instance.try_take(1);
        assert!(!instance.close_if_idle());
        drop(lease);
        assert!(instance.close_if_idle());
        assert!(instance.try_take(u32::MAX).is_none());
        assert!(!instance.close_if_idle(), "closed twice");
    }

    #[test]
    fn a_closed_instance_still_counts_what_is_in_it() {
        let instance = instance();
        let lease = instance.try_take(1);
        instance.close();
        assert_eq!(instance.in_flight(), 1);
        drop(lease);
        assert_eq!(instance.in_flight(), 0);
    }

    #[test]
    fn giving_back_wakes_the_keeper_only_if_someone_waits() {
        let instance = instance();
        let woken = || {
            let mut notified = std::pin::pin!(instance.signals.wake.notified());
            let waker = std::task::Waker::noop();
            notified.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready()
        };
        drop(instance.try_take(1));
        assert!(!woken());
        instance.signals.interest.store(1, Ordering::SeqCst);
        drop(instance.try_take(1));
        assert!(woken());
    }

    /// Many threads take and give back while one closes: nobody is inside once it is closed.
    #[test]
    fn closing_races_with_taking() {
        for _ in 0..2_000 {
            let instance = instance();
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            let lease = instance.try_take(2);
                            assert!(lease.is_none() || instance.slots.load(Ordering::SeqCst) & CLOSED == 0);
                        }
                    });
                }
                while !instance.close_if_idle() {
                    std::hint::spin_loop();
                }
                assert_eq!(instance.in_flight(), 0);
                assert!(instance.try_take(2).is_none());
            });
        }
    }
}
