//! What became of revisions and tasks, told to the control plane.
//!
//! Only the last state of each matters, so a state that nobody has read yet is replaced by the next. What waits can
//! therefore never be more than there are revisions and tasks, however slow the reader is, and the runtime never waits
//! for it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::desired::{ExecutionKey, RevisionReport, RevisionState, ServiceKey, TaskReport};

/// Last values by name, to be read in the order in which the names first had one.
struct Latest<K, V>(Arc<(Mutex<Pending<K, V>>, Condvar)>);

struct Pending<K, V> {
    order: VecDeque<K>,
    values: HashMap<K, V>,
    closed: bool,
}

impl<K, V> Clone for Latest<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for Latest<K, V> {
    fn default() -> Self {
        let pending = Pending { order: VecDeque::new(), values: HashMap::new(), closed: false };
        Self(Arc::new((Mutex::new(pending), Condvar::new())))
    }
}

impl<K: Eq + Hash + Clone, V> Latest<K, V> {
    fn lock(&self) -> MutexGuard<'_, Pending<K, V>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, name: K, value: V) {
        let mut pending = self.lock();
        if pending.values.insert(name.clone(), value).is_none() {
            pending.order.push_back(name);
        }
        self.0.1.notify_all();
    }

    /// Nothing will be told any more.
    fn close(&self) {
        self.lock().closed = true;
        self.0.1.notify_all();
    }

    /// The next, waiting until `end` or, without one, until there is one or nothing will come any more.
    fn next(&self, end: Option<Instant>) -> Option<(K, V)> {
        let mut pending = self.lock();
        loop {
            if let Some(name) = pending.order.pop_front() {
                let value = pending.values.remove(&name)?;
                return Some((name, value));
            }
            if pending.closed {
                return None;
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let changed = &self.0.1;
            pending = match left {
                Some(Duration::ZERO) => return None,
                Some(left) => changed.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner).0,
                None => changed.wait(pending).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn is_over(&self) -> bool {
        let pending = self.lock();
        pending.closed && pending.order.is_empty()
    }
}

/// The writing end for revisions.
#[derive(Clone, Default)]
pub(crate) struct Reports(Latest<(ServiceKey, Arc<str>), RevisionState>);

impl Reports {
    pub(crate) fn tell(&self, service: &ServiceKey, revision: &Arc<str>, state: RevisionState) {
        self.0.tell((service.clone(), revision.clone()), state);
    }

    /// Nothing will be told any more.
    pub(crate) fn close(&self) {
        self.0.close();
    }

    pub(crate) fn receiver(&self) -> Receiver {
        Receiver(self.clone())
    }
}

/// The reading end for revisions. Each report goes to one reader.
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
        let ((service, revision), state) = self.0.0.next(end)?;
        Some(RevisionReport { service, revision, state })
    }

    /// `true` once nothing will come any more.
    pub fn is_closed(&self) -> bool {
        self.0.0.is_over()
    }
}

/// What a report about an execution is about: a task, or all of it.
type About = (ExecutionKey, Option<u32>);

/// The writing end for tasks.
#[derive(Clone, Default)]
pub(crate) struct TaskReports(Latest<About, TaskReport>);

impl TaskReports {
    pub(crate) fn tell(&self, report: TaskReport) {
        let about = match &report {
            TaskReport::Task { execution, index, .. } => (execution.clone(), Some(*index)),
            TaskReport::Over { execution, .. } => (execution.clone(), None),
        };
        self.0.tell(about, report);
    }

    /// Nothing will be told any more.
    pub(crate) fn close(&self) {
        self.0.close();
    }

    pub(crate) fn receiver(&self) -> TaskReceiver {
        TaskReceiver(self.clone())
    }
}

/// The reading end for tasks. Each report goes to one reader.
pub struct TaskReceiver(TaskReports);

impl TaskReceiver {
    /// The reports that there are, at most so many, waiting for the first. Empty once the runtime has ended and all is
    /// read.
    pub fn recv_many(&self, most: usize) -> Vec<TaskReport> {
        let mut reports: Vec<TaskReport> =
            self.0.0.next(None).map(|(_, report)| report).into_iter().collect();
        while !reports.is_empty() && reports.len() < most {
            let Some((_, report)) = self.0.0.next(Some(Instant::now())) else { break };
            reports.push(report);
        }
        reports
    }

    /// The next report, waiting for it so long. `None` if there was none.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<TaskReport> {
        self.0.0.next(Some(Instant::now() + timeout)).map(|(_, report)| report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::TaskState;
    use std::time::SystemTime;

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

    #[test]
    fn tasks_are_told_in_heaps_and_the_end_comes_last() {
        let reports = TaskReports::default();
        let receiver = reports.receiver();
        let execution =
            ExecutionKey { project: "p".into(), region: "r".into(), job: "j".into(), name: "j-1".into() };
        let now = SystemTime::UNIX_EPOCH;
        let task = |index, state| TaskReport::Task {
            execution: execution.clone(),
            index,
            attempt: 0,
            started: now,
            state,
        };
        reports.tell(task(0, TaskState::Running));
        reports.tell(task(1, TaskState::Running));
        reports.tell(task(0, TaskState::Succeeded { at: now }));
        reports.tell(TaskReport::Over { execution: execution.clone(), at: now });
        let heap = receiver.recv_many(2);
        assert_eq!(heap, [task(0, TaskState::Succeeded { at: now }), task(1, TaskState::Running)]);
        assert_eq!(receiver.recv_many(9), [TaskReport::Over { execution, at: now }]);
        reports.close();
        assert!(receiver.recv_many(9).is_empty());
    }
}
