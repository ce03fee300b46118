//! Every instance there is, for those who look: the admin API, tests.
//!
//! Written when an instance starts, becomes ready, stops; never on the way of a request. What changes with requests is
//! read from the instance itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::desired::ServiceKey;
use crate::instance::Instance;

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// Started, its startup probe has not passed.
    Starting,
    /// Takes requests.
    Ready,
    /// Takes no requests any more and is about to end.
    Stopping,
}

/// One instance.
#[derive(Debug, Clone)]
pub struct InstanceStatus {
    pub service: ServiceKey,
    pub revision: Arc<str>,
    pub id: Arc<str>,
    /// Process id of its first process, if it has one on this machine.
    pub pid: Option<u32>,
    /// Where it listens; `None` until it was started.
    pub address: Option<SocketAddr>,
    pub state: InstanceState,
    /// Requests in it now.
    pub in_flight: u32,
    pub started: SystemTime,
}

struct Row {
    status: InstanceStatus,
    instance: Option<Arc<Instance>>,
}

/// All instances by id.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    by_id: BTreeMap<Arc<str>, Row>,
    starts: BTreeMap<ServiceKey, u64>,
}

/// Services whose starts are counted; those of more are not.
const MAX_COUNTED: usize = 10_000;

impl Registry {
    /// Adds an instance that is about to start; it is removed when the answer is dropped.
    pub(crate) fn add(&self, service: ServiceKey, revision: Arc<str>, id: Arc<str>) -> Registered {
        let status = InstanceStatus {
            service,
            revision,
            id: id.clone(),
            pid: None,
            address: None,
            state: InstanceState::Starting,
            in_flight: 0,
            started: SystemTime::now(),
        };
        let mut rows = self.lock();
        let room = rows.starts.len() < MAX_COUNTED || rows.starts.contains_key(&status.service);
        if room {
            *rows.starts.entry(status.service.clone()).or_default() += 1;
        }
        rows.by_id.insert(id.clone(), Row { status, instance: None });
        drop(rows);
        Registered { registry: self.clone(), id }
    }

    /// All instances, by service, revision and age.
    pub(crate) fn list(&self) -> Vec<InstanceStatus> {
        let rows = self.lock();
        let in_flight = |row: &Row| row.instance.as_ref().map_or(0, |instance| instance.in_flight());
        let statuses =
            rows.by_id.values().map(|row| InstanceStatus { in_flight: in_flight(row), ..row.status.clone() });
        let mut list: Vec<_> = statuses.collect();
        drop(rows);
        list.sort_by(|a, b| (&a.service, &a.revision, a.started).cmp(&(&b.service, &b.revision, b.started)));
        list
    }

    /// How many instances of each service were started so far.
    pub(crate) fn starts(&self) -> Vec<(ServiceKey, u64)> {
        self.lock().starts.iter().map(|(service, count)| (service.clone(), *count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance's place in the registry.
pub(crate) struct Registered {
    registry: Registry,
    id: Arc<str>,
}

impl Registered {
    pub(crate) fn started(&self, pid: Option<u32>, address: SocketAddr) {
        self.change(|row| {
            row.status.pid = pid;
            row.status.address = Some(address);
        });
    }

    pub(crate) fn ready(&self, instance: &Arc<Instance>) {
        self.change(|row| {
            row.status.state = InstanceState::Ready;
            row.instance = Some(instance.clone());
        });
    }

    pub(crate) fn stopping(&self) {
        self.change(|row| row.status.state = InstanceState::Stopping);
    }

    fn change(&self, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.registry.lock().by_id.get_mut(&self.id) {
            change(row);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.lock().by_id.remove(&self.id);
    }
}
