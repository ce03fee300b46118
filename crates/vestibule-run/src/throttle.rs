//! Processor time between requests: next to none.
//!
//! Cloud Run gives an instance its processors while it starts, serves and ends, and throttles it otherwise, unless the
//! service asks for more (`run.googleapis.com/cpu-throttling: "false"`, `cpuIdle` of the v2 API). Here a task an
//! instance looks every [`IDLE_AFTER`] whether requests came; if none did, it takes the processors away and sleeps until
//! a request gives them back. So requests cost nothing as long as they come, and the first after a pause costs one
//! write to a control group.
//!
//! A share of processors and not a freezer: a program that is frozen answers no keep-alive, sees no signal, and looks
//! dead to whoever connects, while one that crawls does all of that late. Cloud Run's programs crawl, too.
//!
//! Instances with liveness or readiness probes are not throttled: a probe is work that no request pays for, and it must
//! not fail because of us.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::driver::{Processors, Share};
use crate::instance::Instance;

/// How long an instance keeps its processors after its last request.
pub(crate) const IDLE_AFTER: Duration = Duration::from_millis(100);

/// The processors of one instance's containers.
pub(crate) struct Throttle {
    containers: Vec<Arc<dyn Processors>>,
    state: Mutex<State>,
    woken: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Full,
    Idle,
    /// The instance ends, with all its processors.
    Over,
}

impl Throttle {
    pub(crate) fn new(containers: Vec<Arc<dyn Processors>>) -> Self {
        Self { containers, state: Mutex::new(State::Full), woken: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allot(&self, share: Share) {
        self.containers.iter().for_each(|container| container.allot(share));
    }

    /// Takes the processors away if `still` says so once nobody can give them back meanwhile.
    pub(crate) fn doze(&self, still: impl FnOnce() -> bool) -> bool {
        let mut state = self.state();
        let dozes = *state == State::Full && still();
        if dozes {
            *state = State::Idle;
            self.allot(Share::Idle);
        }
        dozes
    }

    /// A request came in.
    pub(crate) fn wake(&self) {
        self.back(State::Full);
    }

    /// Gives the processors back for good.
    pub(crate) fn release(&self) {
        self.back(State::Over);
    }

    fn back(&self, to: State) {
        let mut state = self.state();
        if *state == State::Idle {
            self.allot(Share::Full);
        }
        if *state != State::Over {
            *state = to;
        }
        drop(state);
        self.woken.notify_one();
    }
}

/// Takes processors away from an instance whenever it is idle, until it is closed or gone.
pub(crate) async fn follow(instance: Weak<Instance>, throttle: Arc<Throttle>) {
    loop {
        sleep(IDLE_AFTER).await;
        let dozes = match instance.upgrade() {
            Some(instance) if !instance.is_closed() => {
                instance.last_used().elapsed() >= IDLE_AFTER && throttle.doze(|| instance.doze())
            }
            _ => return,
        };
        if dozes {
            throttle.woken.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Signals;

    #[derive(Default)]
    struct Fake(Mutex<Vec<Share>>);

    impl Processors for Fake {
        fn allot(&self, share: Share) {
            self.0.lock().unwrap().push(share);
        }
    }

    fn instance() -> (Arc<Instance>, Arc<Throttle>, Arc<Fake>) {
        let fake = Arc::new(Fake::default());
        let throttle = Arc::new(Throttle::new(vec![fake.clone()]));
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let instance = Instance::new(1, "i".into(), address, Arc::new(Signals::new()));
        (Arc::new(instance.throttled(Some(throttle.clone()))), throttle, fake)
    }

    #[tokio::test(start_paused = true)]
    async fn idle_instances_doze_and_the_first_request_wakes_them() {
        let (instance, throttle, fake) = instance();
        let seen = || fake.0.lock().unwrap().clone();
        let lease = instance.try_take(2).unwrap();
        let task = tokio::spawn(follow(Arc::downgrade(&instance), throttle.clone()));
        sleep(IDLE_AFTER * 5).await;
        assert_eq!(seen(), [], "a request is in it");
        drop(lease);
        sleep(IDLE_AFTER * 3).await;
        assert_eq!(seen(), [Share::Idle]);
        let leases = [instance.try_take(2).unwrap(), instance.try_take(2).unwrap()];
        assert_eq!(seen(), [Share::Idle, Share::Full], "only the first wakes it");
        drop(leases);
        sleep(IDLE_AFTER * 3).await;
        assert_eq!(seen().len(), 3);
        instance.close();
        throttle.release();
        assert_eq!(seen()[3..], [Share::Full]);
        sleep(IDLE_AFTER * 3).await;
        assert!(task.is_finished());
        assert!(!throttle.doze(|| true), "it ends with all its processors");
    }

    /// However takes and dozes race, an instance with a request in it has its processors.
    #[test]
    fn nobody_dozes_with_a_request() {
        let (instance, throttle, fake) = instance();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    throttle.doze(|| instance.doze());
                }
            });
            for _ in 0..5_000 {
                let lease = instance.try_take(1).unwrap();
                assert_ne!(fake.0.lock().unwrap().last(), Some(&Share::Idle));
                drop(lease);
            }
        });
    }
}
