//! What the data planes have taken over: the half of an operation's status that is not in the store.
//!
//! An operation is DONE when every data plane obeys the revision that committed it. Writing that down would cost a
//! second transaction for every change, so it is derived: each plane reports the revision it last took over whole,
//! and an operation is done when the slowest plane has passed its revision. After a restart every plane starts from
//! the newest revision, so an operation of before is done as soon as the planes are.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use vestibule_store::Revision;

/// How many steps of progress are remembered with their time, for the `endTime` of operations.
const HISTORY: usize = 4096;

/// A part of the system that obeys snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// The load balancer's proxy.
    Lb,
    /// The resolver.
    Dns,
    /// The serverless runtime.
    Run,
    /// The networks themselves: subnets, gateways, the services that every network has.
    Vpc,
}

const PLANES: usize = 4;

/// The progress of all data planes. Cheap to clone; clones share state.
#[derive(Debug, Clone, Default)]
pub struct Planes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// `None`: the plane is not part of this process and is not waited for.
    acknowledged: [Option<Revision>; PLANES],
    /// When the slowest plane reached a revision. Rises in both parts.
    history: VecDeque<(Revision, Timestamp)>,
}

impl State {
    /// The revision that all planes obey; every revision, if there is no plane.
    fn settled(&self) -> Revision {
        self.acknowledged.iter().flatten().copied().min().unwrap_or(Revision::MAX)
    }
}

impl Planes {
    /// From now on operations wait for this plane. Call it before the plane's reconciler starts.
    pub fn register(&self, plane: Plane) {
        self.lock().acknowledged[plane as usize].get_or_insert(0);
    }

    /// The plane serves the state of `revision`, whole. Going back is ignored.
    pub fn ack(&self, plane: Plane, revision: Revision) {
        let mut state = self.lock();
        let before = state.settled();
        let slot = &mut state.acknowledged[plane as usize];
        *slot = (*slot).max(Some(revision));
        let after = state.settled();
        if after != before {
            if state.history.len() == HISTORY {
                state.history.pop_front();
            }
            state.history.push_back((after, Timestamp::now()));
            self.0.progress.notify_all();
        }
    }

    /// The newest revision that every plane obeys.
    pub fn settled(&self) -> Revision {
        self.lock().settled()
    }

    /// When `revision` came to be obeyed by every plane, if that was recently.
    pub fn settled_at(&self, revision: Revision) -> Option<Timestamp> {
        let state = self.lock();
        let at = state.history.partition_point(|(reached, _)| *reached < revision);
        // The oldest entry says nothing of revisions before it.
        if at == 0 && state.history.len() == HISTORY {
            return None;
        }
        state.history.get(at).map(|(_, time)| *time)
    }

    /// Blocks until every plane obeys `revision`, or `limit` has passed. Returns whether they do.
    pub fn wait(&self, revision: Revision, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        while state.settled() < revision {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.progress.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_planes_nothing_is_waited_for() {
        let planes = Planes::default();
        assert!(planes.wait(7, Duration::ZERO));
    }

    #[test]
    fn the_slowest_plane_decides() {
        let planes = Planes::default();
        planes.register(Plane::Lb);
        planes.register(Plane::Dns);
        planes.ack(Plane::Lb, 9);
        assert!(!planes.wait(1, Duration::ZERO));
        planes.ack(Plane::Dns, 4);
        assert_eq!(planes.settled(), 4);
        assert!(planes.wait(4, Duration::ZERO));
        assert!(!planes.wait(5, Duration::ZERO));
    }

    #[test]
    fn an_acknowledgement_never_goes_back() {
        let planes = Planes::default();
        planes.ack(Plane::Run, 5);
        planes.ack(Plane::Run, 3);
        planes.register(Plane::Run);
        assert_eq!(planes.settled(), 5);
    }

    #[test]
    fn a_waiter_is_woken() {
        let planes = Planes::default();
        planes.register(Plane::Lb);
        let waiter = std::thread::spawn({
            let planes = planes.clone();
            move || planes.wait(2, Duration::from_secs(60))
        });
        planes.ack(Plane::Lb, 2);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn the_time_of_settling_is_remembered() {
        let planes = Planes::default();
        planes.register(Plane::Lb);
        planes.ack(Plane::Lb, 3);
        assert!(planes.settled_at(2).is_some());
        assert_eq!(planes.settled_at(2), planes.settled_at(3));
        assert_eq!(planes.settled_at(4), None);
    }
}
