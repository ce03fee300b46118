//! Deadlines of connections, cheap enough to be set several times a request.
//!
//! A connection always has one current deadline, it moves all the time, and it nearly never passes. A timer of the
//! runtime would be taken out of a wheel and put back at each of these moves. Here a deadline is a number in an array;
//! setting it is a store. One task a worker scans the array (10,000 numbers in some microseconds), sleeps until the
//! earliest deadline but at most [`MAX_SLEEP`], and wakes the connections whose deadline has passed.
//!
//! An idle limit starts anew whenever something moved, and reading the clock for that would cost more than the store.
//! It counts from the next scan to come instead: never early, and at most [`MAX_SLEEP`] late.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The scan comes by at least this often while there are connections.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Milliseconds since a worker's start.
type Millis = u64;

/// No deadline.
const NEVER: Millis = Millis::MAX;

/// All deadlines of a worker.
pub(crate) struct Timers {
    start: Instant,
    slots: RefCell<Slots>,
    /// Deadlines up to this moment were looked for.
    swept: Cell<Millis>,
    /// When the scan comes by next.
    next: Cell<Millis>,
    sooner: Notify,
}

#[derive(Default)]
struct Slots {
    deadlines: Vec<Millis>,
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Slots {
    fn is_unused(&self) -> bool {
        self.free.len() == self.deadlines.len()
    }
}

impl Timers {
    pub(crate) fn new() -> Rc<Timers> {
        Rc::new(Timers {
            start: Instant::now(),
            slots: RefCell::default(),
            swept: Cell::new(0),
            next: Cell::new(NEVER),
            sooner: Notify::new(),
        })
    }

    /// Rounded up, so that no deadline passes early.
    fn millis(&self, at: Instant) -> Millis {
        let since = at.saturating_duration_since(self.start);
        Millis::try_from(since.as_micros().div_ceil(1000)).unwrap_or(NEVER - 1)
    }

    fn now(&self) -> Millis {
        millis_of(self.start.elapsed())
    }

    /// Wakes every connection, so that each looks at the state of the world again.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<Waker> = self.slots.borrow().wakers.iter().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Runs the scan for ever.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            let now = self.now();
            let (wakers, earliest) = self.passed(now);
            self.swept.set(now);
            let limit = if self.slots.borrow().is_unused() { NEVER } else { now + millis_of(MAX_SLEEP) };
            self.next.set(earliest.min(limit));
            wakers.into_iter().for_each(Waker::wake);
            self.sleep().await;
        }
    }

    /// Wakers of connections whose deadline has passed, and the earliest deadline to come.
    fn passed(&self, now: Millis) -> (Vec<Waker>, Millis) {
        let slots = self.slots.borrow();
        let earliest = slots.deadlines.iter().copied().min().unwrap_or(NEVER);
        if earliest > now {
            return (Vec::new(), earliest);
        }
        let due = slots.deadlines.iter().zip(&slots.wakers).filter(|(deadline, _)| **deadline <= now);
        let wakers = due.filter_map(|(_, waker)| waker.clone()).collect();
        let later = slots.deadlines.iter().copied().filter(|deadline| *deadline > now).min();
        (wakers, later.unwrap_or(NEVER))
    }

    async fn sleep(&self) {
        let next = self.next.get();
        if next == NEVER {
            return self.sooner.notified().await;
        }
        let until = self.start + Duration::from_millis(next);
        tokio::select! {
            _ = tokio::time::sleep_until(until.into()) => {}
            _ = self.sooner.notified() => {}
        }
    }
}

fn millis_of(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(NEVER - 1)
}

/// The deadlines of one connection: a hard one that does not move, and an idle limit that starts anew whenever
/// something moved. The earlier counts.
pub(crate) struct Timer {
    timers: Rc<Timers>,
    slot: usize,
    hard: Cell<Millis>,
    limit: Cell<Millis>,
}

/// Which deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    Hard,
    Idle,
}

impl Timer {
    /// A timer without deadlines. `waker` is that of the connection's task.
    pub(crate) fn new(timers: &Rc<Timers>, waker: Waker) -> Timer {
        let mut slots = timers.slots.borrow_mut();
        if slots.is_unused() {
            // The scan slept without end. What counts from it must not count from long ago.
            timers.swept.set(timers.now());
            timers.next.set(timers.swept.get() + millis_of(MAX_SLEEP));
            timers.sooner.notify_one();
        }
        let slot = slots.free.pop().unwrap_or(slots.deadlines.len());
        if slot == slots.deadlines.len() {
            slots.deadlines.push(NEVER);
            slots.wakers.push(Some(waker));
        } else {
            slots.wakers[slot] = Some(waker);
        }
        drop(slots);
        Timer { timers: timers.clone(), slot, hard: Cell::new(NEVER), limit: Cell::new(NEVER) }
    }

    /// A hard deadline to the millisecond, and none else.
    pub(crate) fn at(&self, hard: Instant) {
        self.hard.set(self.timers.millis(hard));
        self.limit.set(NEVER);
        self.arm(self.hard.get());
    }

    /// No hard deadline, and an idle limit that starts now.
    pub(crate) fn idle(&self, limit: Duration) {
        self.within(None, limit);
    }

    /// An idle limit that starts now, and perhaps a hard deadline.
    pub(crate) fn within(&self, hard: Option<Instant>, limit: Duration) {
        self.hard.set(hard.map_or(NEVER, |at| self.timers.millis(at)));
        self.limit.set(millis_of(limit));
        self.moved();
    }

    /// Something moved: the idle limit starts anew.
    pub(crate) fn moved(&self) {
        let from = self.timers.swept.get() + millis_of(MAX_SLEEP);
        self.arm(self.hard.get().min(from.saturating_add(self.limit.get())));
    }

    fn arm(&self, deadline: Millis) {
        self.timers.slots.borrow_mut().deadlines[self.slot] = deadline;
        if deadline < self.timers.next.get() {
            self.timers.next.set(deadline);
            self.timers.sooner.notify_one();
        }
    }

    /// Whether a deadline has passed, and which. Costs a comparison; only the scan moves time on.
    pub(crate) fn passed(&self) -> Option<Passed> {
        let swept = self.timers.swept.get();
        if self.timers.slots.borrow().deadlines[self.slot] > swept {
            return None;
        }
        Some(if self.hard.get() <= swept { Passed::Hard } else { Passed::Idle })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut slots = self.timers.slots.borrow_mut();
        slots.deadlines[self.slot] = NEVER;
        slots.wakers[self.slot] = None;
        slots.free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(1000);

    fn run(test: impl AsyncFnOnce(Rc<Timers>)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build_local(Default::default());
        runtime.unwrap().block_on(async {
            let timers = Timers::new();
            tokio::task::spawn_local(timers.clone().run());
            test(timers).await;
        });
    }

    async fn timer(timers: &Rc<Timers>) -> Timer {
        poll_fn(|cx| Poll::Ready(Timer::new(timers, cx.waker().clone()))).await
    }

    async fn passes(timer: &Timer) -> Passed {
        poll_fn(|_| timer.passed().map_or(Poll::Pending, Poll::Ready)).await
    }

    #[test]
    fn the_earlier_deadline_counts_and_none_passes_early() {
        run(async |timers| {
            let timer = timer(&timers).await;
            let start = Instant::now();
            timer.within(Some(start + SHORT), LONG);
            assert_eq!(passes(&timer).await, Passed::Hard);
            assert!(start.elapsed() >= SHORT);

            let start = Instant::now();
            timer.within(Some(start + LONG), SHORT);
            assert_eq!(timer.passed(), None, "a new deadline is a new start");
            assert_eq!(passes(&timer).await, Passed::Idle);
            assert!(start.elapsed() >= SHORT);

            timer.at(Instant::now() + SHORT);
            assert_eq!(passes(&timer).await, Passed::Hard);
        });
    }

    #[test]
    fn slots_are_used_again_and_rest_without_connections() {
        run(async |timers| {
            for _ in 0..3 {
                let timer = timer(&timers).await;
                timer.at(Instant::now() + SHORT);
                passes(&timer).await;
            }
            assert_eq!(timers.slots.borrow().deadlines.len(), 1);
            while timers.next.get() != NEVER {
                tokio::time::sleep(SHORT).await;
            }
        });
    }
}
