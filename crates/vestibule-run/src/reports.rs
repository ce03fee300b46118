//! What became of revisions, told to the control plane.
//!
//! Only the last state of a revision matters, so a state that nobody has read yet is replaced by the next. The reports
//! that wait can therefore never be more than there are revisions, however slow the reader is, and the runtime never
//! waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::desired::{RevisionReport, RevisionState, ServiceKey};

type Name = (ServiceKey, Arc<str>);

#[derive(Default)]
struct Pending {
    /// In the order in which the revisions first had something to tell.
    order: Vec<Name>,
    states: HashMap<Name, RevisionState>,
    closed: bool,
}

/// The writing end.
#[derive(Clone, Default)]
pub(crate) struct Reports(Arc<(Mutex<Pending>, Condvar)>);

impl Reports {
    pub(crate) fn tell(&self, service: &ServiceKey, revision: &Arc<str>, state: RevisionState) {
        let name = (service.clone(), revision.clone());
        let mut pending = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.states.insert(name.clone(), state).is_none() {
            pending.order.push(name);
        }
        self.0.1.notify_all();
    }

    /// Nothing will be told any more.
    pub(crate) fn close(&self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.1.notify_all();
    }

    pub(crate) fn receiver(&self) -> Receiver {
        Receiver(self.clone())
    }
}

/// The reading end. Each report goes to one reader.
pub struct Receiver(Reports);

impl Receiver {
    /// The next report, waiting for it. `None` once the runtime has ended and all is read.
    pub fn recv(&self) -> Option<RevisionReport> {
        self.next(None)
    }

    /// The next report, waiting for it so long. `None` if there was none.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<RevisionReport> {
        self.next(Some(Instant::now() + timeout))
    }

    /// The next report if there is one.
    pub fn try_recv(&self) -> Option<RevisionReport> {
        self.recv_timeout(Duration::ZERO)
    }

    fn next(&self, end: Option<Instant>) -> Option<RevisionReport> {
        let (lock, changed) = &*self.0.0;
        let mut pending = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if !pending.order.is_empty() {
                let name = pending.order.remove(0);
                let state = pending.states.remove(&name)?;
                let (service, revision) = name;
                return Some(RevisionReport { service, revision, state });
            }
            if pending.closed {
                return None;
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            pending = match left {
                Some(Duration::ZERO) => return None,
                Some(left) => changed.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner).0,
                None => changed.wait(pending).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// `true` once nothing will come any more.
    pub fn is_closed(&self) -> bool {
        let pending = self.0.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.closed && pending.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ServiceKey {
        ServiceKey { project: "p".into(), region: "r".into(), name: "s".into() }
    }

    #[test]
    fn only_the_last_state_of_a_revision_is_told() {
        let reports = Reports::default();
        let receiver = reports.receiver();
        reports.tell(&key(), &"a".into(), RevisionState::Deploying);
        reports.tell(&key(), &"b".into(), RevisionState::Deploying);
        let ready = RevisionState::Ready { image_digest: "i".into() };
        reports.tell(&key(), &"a".into(), ready.clone());
        let first = receiver.try_recv().unwrap();
        assert_eq!((&*first.revision, first.state), ("a", ready));
        assert_eq!(&*receiver.try_recv().unwrap().revision, "b");
        assert_eq!(receiver.try_recv(), None);
    }

    #[test]
    fn waits_for_a_report_and_for_the_end() {
        let reports = Reports::default();
        let receiver = reports.receiver();
        let reader = std::thread::spawn(move || (receiver.recv(), receiver.recv(), receiver.is_closed()));
        reports.tell(&key(), &"a".into(), RevisionState::Deploying);
        reports.close();
        let (first, second, closed) = reader.join().unwrap();
        assert!(first.is_some() && second.is_none() && closed);
    }
}
