//! What a worker remembers of a backend service from snapshot to snapshot.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use vestibule_balance::load::UPDATE_PERIOD;
use vestibule_balance::outlier::{self, Crowd};
use vestibule_balance::{Outcome, OutlierDetection};

use vestibule_vpc::Vpc;

use super::host::Host;
use super::members::Members;
use super::{At, Endpoints};
use crate::timers::Timers;
use crate::upstream::{self, Pool};

/// The clusters of a worker, by the names of their backend services.
#[derive(Default)]
pub(crate) struct Clusters(RefCell<HashMap<Arc<str>, Rc<Cluster>>>);

/// One backend service.
#[derive(Default)]
pub(crate) struct Cluster {
    /// By key.
    hosts: RefCell<HashMap<u64, Rc<Host>>>,
    /// What the newest snapshot says.
    newest: RefCell<Weak<Members>>,
    /// Requests and retries under way.
    pub(super) requests: Cell<u32>,
    pub(super) retries: Cell<u32>,
    /// Rises when an ejection begins or ends.
    pub(super) ejections: Cell<u64>,
    /// When the next ejection ends.
    forgive_at: Cell<Option<Instant>>,
    /// When success rates are compared next.
    compare_at: Cell<Option<Instant>>,
    /// Rises when weights by load are worked out anew, and when that is done next.
    pub(super) loads: Cell<u64>,
    weigh_at: Cell<Option<Instant>>,
}

impl Clusters {
    /// The members of a backend service. Endpoints that the newest snapshot has no more are let go.
    pub(crate) fn members(
        &self,
        endpoints: &Arc<Endpoints>,
        vpc: &Vpc,
        pool: &Rc<Pool>,
        timers: &Rc<Timers>,
        worker: usize,
    ) -> Rc<Members> {
        let cluster = self.0.borrow_mut().entry(endpoints.key.clone()).or_default().clone();
        if let Some(members) = cluster.newest.borrow().upgrade()
            && Arc::ptr_eq(&members.endpoints, endpoints)
        {
            return members;
        }
        let way = match endpoints.from.get(worker % endpoints.from.len().max(1)) {
            Some(from) => upstream::way(vpc, &endpoints.network, *from),
            None => upstream::way(vpc, &endpoints.network, std::net::Ipv4Addr::UNSPECIFIED),
        };
        let hosts: Vec<Rc<Host>> =
            endpoints.endpoints.iter().map(|endpoint| cluster.host(&endpoint.at, way)).collect();
        cluster.let_go(&hosts, endpoints, pool, timers);
        let members = Rc::new(Members::new(cluster.clone(), endpoints.clone(), hosts));
        *cluster.newest.borrow_mut() = Rc::downgrade(&members);
        members
    }

    /// Forgets backend services that nothing serves any more.
    pub(crate) fn sweep(&self) {
        self.0.borrow_mut().retain(|_, cluster| Rc::strong_count(cluster) > 1);
    }
}

impl Cluster {
    fn host(&self, at: &At, way: u32) -> Rc<Host> {
        let way = if matches!(at, At::Network(_)) { way } else { 0 };
        let mut hosts = self.hosts.borrow_mut();
        let host = hosts.entry(at.key()).or_insert_with(|| Rc::new(Host::new(at.clone(), way)));
        if !host.is_at(at, way) {
            *host = Rc::new(Host::new(at.clone(), way));
        }
        host.clone()
    }

    /// Hosts that are not among these get no new requests, keep no idle connection, and end what is under way when its
    /// time has passed.
    fn let_go(&self, kept: &[Rc<Host>], endpoints: &Endpoints, pool: &Rc<Pool>, timers: &Rc<Timers>) {
        let keys: std::collections::HashSet<u64> = kept.iter().map(|host| host.key).collect();
        let gone: Vec<Rc<Host>> = {
            let mut hosts = self.hosts.borrow_mut();
            let gone = hosts.values().filter(|host| !keys.contains(&host.key)).cloned().collect();
            hosts.retain(|key, _| keys.contains(key));
            gone
        };
        for host in gone {
            if let Some(place) = host.place() {
                pool.forget(place);
            }
            if host.in_flight.get() > 0 && !endpoints.drain.is_zero() {
                let (timers, drain) = (timers.clone(), endpoints.drain);
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(drain).await;
                    host.cut.set(true);
                    timers.wake_all();
                });
            }
        }
    }

    /// Takes note of how a request to a host ended.
    pub(super) fn note(&self, members: &Members, host: &Host, outcome: Outcome) {
        let Some(rules) = &members.endpoints.outlier else { return };
        let ejected = match outcome {
            // Only a failure ejects, so only then must the others be counted.
            Outcome::Good => 0,
            _ => members.hosts().iter().filter(|host| host.strikes.borrow().is_ejected()).count(),
        };
        let crowd = Crowd { endpoints: members.hosts().len(), ejected };
        let now = Instant::now();
        let random = fastrand::u64(..);
        if host.strikes.borrow_mut().note(rules, outcome, crowd, now, random) {
            let until = host.strikes.borrow().until();
            self.ejected(until);
            let place = host.place().map(|place| place.address);
            tracing::info!(service = %members.endpoints.key, ?place, "an endpoint failed too often and is left alone");
        }
    }

    fn ejected(&self, until: Option<Instant>) {
        self.ejections.set(self.ejections.get() + 1);
        let earliest = [self.forgive_at.get(), until].into_iter().flatten().min();
        self.forgive_at.set(earliest);
    }

    /// Does what has come due: ends ejections, compares success rates. Costs two comparisons when there is nothing.
    pub(super) fn tick(&self, members: &Members, rules: &OutlierDetection, now: Instant) {
        if self.forgive_at.get().is_some_and(|at| at <= now) {
            self.forgive(members, now);
        }
        match self.compare_at.get() {
            Some(at) if at > now => {}
            Some(_) => {
                self.compare(members, rules, now);
                self.compare_at.set(now.checked_add(rules.interval));
            }
            None => self.compare_at.set(now.checked_add(rules.interval)),
        }
    }

    /// Begins a new period of counting requests when the last one is over; weights by load follow from it.
    pub(super) fn weigh(&self, members: &Members, now: Instant) {
        if self.weigh_at.get().is_some_and(|at| at > now) {
            return;
        }
        for host in members.hosts() {
            let mut load = host.load.get();
            load.count(now);
            host.load.set(load);
        }
        self.loads.set(self.loads.get() + 1);
        self.weigh_at.set(now.checked_add(UPDATE_PERIOD));
    }

    fn forgive(&self, members: &Members, now: Instant) {
        for host in members.hosts() {
            host.strikes.borrow_mut().forgive(now);
        }
        let rest = members.hosts().iter().filter_map(|host| host.strikes.borrow().until()).min();
        self.forgive_at.set(rest);
        self.ejections.set(self.ejections.get() + 1);
    }

    fn compare(&self, members: &Members, rules: &OutlierDetection, now: Instant) {
        let mut borrowed: Vec<_> = members.hosts().iter().map(|host| host.strikes.try_borrow_mut()).collect();
        let mut all: Vec<_> = borrowed.iter_mut().filter_map(|strikes| strikes.as_deref_mut().ok()).collect();
        if outlier::compare(rules, &mut all, now, fastrand::u64(..)) {
            let until = all.iter().filter_map(|strikes| strikes.until()).min();
            self.ejected(until);
        }
    }
}
