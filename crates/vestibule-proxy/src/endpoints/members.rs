//! What one snapshot says of a backend service's endpoints, ready to be picked from.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use vestibule_balance::{Ask, Candidate, Picker, Policy, load};

use super::Endpoints;
use super::cluster::Cluster;
use super::host::Host;

/// The endpoints of one snapshot.
pub(crate) struct Members {
    pub(super) cluster: Rc<Cluster>,
    pub(super) endpoints: Arc<Endpoints>,
    /// In the order of the snapshot's endpoints.
    hosts: Vec<Rc<Host>>,
    picker: RefCell<Picker>,
    /// What the picker was made from: the epochs of health, of ejections and of weights by load.
    made_from: Cell<Option<[u64; 3]>>,
}

impl Members {
    pub(super) fn new(cluster: Rc<Cluster>, endpoints: Arc<Endpoints>, hosts: Vec<Rc<Host>>) -> Members {
        let picker = RefCell::new(Picker::new(endpoints.policy, &[], 0));
        Members { cluster, endpoints, hosts, picker, made_from: Cell::new(None) }
    }

    pub(super) fn hosts(&self) -> &[Rc<Host>] {
        &self.hosts
    }

    /// The index of the endpoint that comes next. `None`: none may be picked.
    pub(super) fn pick(&self, hash: Option<u64>, tried: &dyn Fn(usize) -> bool) -> Option<usize> {
        self.refresh();
        let load = |index: usize| self.hosts[index].in_flight.get();
        let ask = Ask { hash, random: fastrand::u64(..), load: &load, tried };
        self.picker.borrow_mut().pick(&ask)
    }

    /// The endpoint with this key, if it may be picked.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        let index = self.hosts.iter().position(|host| host.key == key)?;
        Some(index).filter(|index| self.weight(*index) > 0)
    }

    /// There is one that may be picked and was not tried.
    pub(super) fn has_other(&self, tried: &dyn Fn(usize) -> bool) -> bool {
        (0..self.hosts.len()).any(|index| !tried(index) && self.weight(index) > 0)
    }

    fn refresh(&self) {
        if let Some(rules) = &self.endpoints.outlier {
            self.cluster.tick(self, rules, Instant::now());
        }
        if self.is_weighted() {
            self.cluster.weigh(self, Instant::now());
        }
        let now = [self.endpoints.epoch.get(), self.cluster.ejections.get(), self.cluster.loads.get()];
        if self.made_from.get() == Some(now) {
            return;
        }
        let keys = self.hosts.iter().map(|host| host.key);
        let candidates: Vec<Candidate> =
            keys.zip(self.weights()).map(|(key, weight)| Candidate { key, weight }).collect();
        *self.picker.borrow_mut() = Picker::new(self.endpoints.policy, &candidates, fastrand::u64(..));
        self.made_from.set(Some(now));
    }

    /// Endpoints get their shares by what they report of their load.
    pub(super) fn is_weighted(&self) -> bool {
        self.endpoints.policy == Policy::WeightedRoundRobin
    }

    /// The shares of all endpoints at this moment.
    fn weights(&self) -> Vec<u32> {
        let shares = (0..self.hosts.len()).map(|index| self.weight(index));
        if !self.is_weighted() {
            return shares.collect();
        }
        let now = Instant::now();
        let capacities = self.hosts.iter().map(|host| host.load.get().capacity(now));
        load::weights(&shares.zip(capacities).collect::<Vec<_>>())
    }

    /// The share of an endpoint at this moment, whatever its load.
    fn weight(&self, index: usize) -> u32 {
        let (endpoint, host) = (&self.endpoints.endpoints[index], &self.hosts[index]);
        let usable = endpoint.health.is_good() && host.is_known() && !host.strikes.borrow().is_ejected();
        if usable { endpoint.weight } else { 0 }
    }
}
