//! The endpoints that one request goes to, one after the other.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use vestibule_balance::affinity::{self, Placing};
use vestibule_balance::{Affinity, Outcome, Report, budget};

use super::breakers::Counted;
use super::cluster::Cluster;
use super::host::{Cut, Host};
use super::members::Members;
use crate::limits::MAX_CONNECT_ATTEMPTS;
use crate::turn::Turn;
use crate::upstream::Location;

/// Endpoints that are remembered as tried for one request; a policy may ask for more attempts than that.
const MAX_TRIED: usize = 8;

/// Why a request cannot go to any endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoChoice {
    /// None may be picked.
    Nobody,
    /// A circuit breaker is open.
    Overflow,
}

/// What the affinity of a backend service looks at.
pub(crate) struct Parts<'p, 'a>(pub(crate) &'p Turn<'a>);

impl affinity::Parts for Parts<'_, '_> {
    fn client(&self) -> IpAddr {
        self.0.peer.address.ip()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let request = &self.0.request;
        let found = request.fields().iter().find(|field| field.name.of(request.buffer()) == name.as_bytes());
        found.map(|field| field.value.of(request.buffer()))
    }
}

/// The way of one request among endpoints.
pub(crate) struct Choice {
    members: Rc<Members>,
    placing: Placing,
    tried: [u32; MAX_TRIED],
    attempts: usize,
    /// The endpoint of the last attempt.
    current: Option<usize>,
    _under_way: UnderWay,
    _counted: Option<Counted>,
}

/// A request under way at an endpoint.
pub(crate) struct Flight {
    host: Rc<Host>,
    _connection: Option<OwnedSemaphorePermit>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.host.in_flight.set(self.host.in_flight.get() - 1);
    }
}

/// Counts a request of a cluster, and its retries.
struct UnderWay {
    cluster: Rc<Cluster>,
    retrying: bool,
}

impl UnderWay {
    fn new(cluster: &Rc<Cluster>) -> UnderWay {
        cluster.requests.set(cluster.requests.get() + 1);
        UnderWay { cluster: cluster.clone(), retrying: false }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let cluster = &self.cluster;
        cluster.requests.set(cluster.requests.get() - 1);
        if self.retrying {
            cluster.retries.set(cluster.retries.get() - 1);
        }
    }
}

impl Choice {
    /// Begins a request.
    pub(crate) fn new(members: &Rc<Members>, parts: &impl affinity::Parts) -> Result<Choice, NoChoice> {
        let counted = match &members.endpoints.breakers {
            Some(breakers) => Some(breakers.request().ok_or(NoChoice::Overflow)?),
            None => None,
        };
        let placing = match &members.endpoints.affinity {
            Affinity::None => Placing::default(),
            affinity => affinity.place(parts, fastrand::u64(..)),
        };
        let choice = Choice {
            members: members.clone(),
            placing,
            tried: [0; MAX_TRIED],
            attempts: 0,
            current: None,
            _under_way: UnderWay::new(&members.cluster),
            _counted: counted,
        };
        Ok(choice)
    }

    /// Chooses the endpoint of the next attempt. `None`: there is nobody.
    pub(crate) fn next(&mut self) -> Option<Location> {
        let named = self.placing.endpoint.filter(|_| self.attempts == 0);
        let index = match named.and_then(|key| self.members.find(key)) {
            Some(index) => index,
            None => self.members.pick(self.placing.hash, &|index| self.was_tried(index))?,
        };
        if let Some(place) = self.tried.get_mut(self.attempts) {
            *place = index as u32;
        }
        self.attempts += 1;
        self.current = Some(index);
        self.members.hosts()[index].place()
    }

    /// The attempt at the chosen endpoint begins; it is under way for as long as the answer lives.
    pub(crate) fn begin(&self, connection: Option<OwnedSemaphorePermit>) -> Option<Flight> {
        let host = self.host()?.clone();
        host.in_flight.set(host.in_flight.get() + 1);
        Some(Flight { host, _connection: connection })
    }

    /// How the attempt at the chosen endpoint ended.
    pub(crate) fn note(&self, outcome: Outcome) {
        if let Some(host) = self.host() {
            self.members.cluster.note(&self.members, host, outcome);
        }
    }

    /// The endpoint's answers are asked how full it is.
    pub(crate) fn wants_reports(&self) -> bool {
        self.members.is_weighted()
    }

    /// The chosen endpoint answered, with this load report if it sent any.
    pub(crate) fn answered(&self, report: Option<&[u8]>) {
        let Some(host) = self.host() else { return };
        let mut load = host.load.get();
        load.answered();
        if let Some(report) = report.and_then(Report::parse)
            && let Some(utilization) = report.utilization(&self.members.endpoints.metrics)
        {
            load.report(utilization, report.rps_fractional, Instant::now());
        }
        host.load.set(load);
    }

    /// Another endpoint may be tried after a connection was refused.
    pub(crate) fn has_other(&self) -> bool {
        self.attempts < MAX_CONNECT_ATTEMPTS as usize
            && self.members.has_other(&|index| self.was_tried(index))
    }

    /// There may be a retry; if so it has begun.
    pub(crate) fn retry(&mut self) -> bool {
        let under_way = &mut self._under_way;
        let cluster = &under_way.cluster;
        let limit = self.members.endpoints.breakers.as_ref().and_then(|breakers| breakers.limits.retries);
        let others = cluster.retries.get() - u32::from(under_way.retrying);
        if !budget::allows(limit, others, cluster.requests.get()) {
            return false;
        }
        cluster.retries.set(others + 1);
        under_way.retrying = true;
        true
    }

    /// A connection that has carried so many requests is closed.
    pub(crate) fn is_worn(&self, requests: u32) -> bool {
        let breakers = self.members.endpoints.breakers.as_ref();
        breakers
            .and_then(|breakers| breakers.limits.requests_per_connection)
            .is_some_and(|most| requests >= most)
    }

    pub(crate) fn breakers(&self) -> Option<&std::sync::Arc<super::Breakers>> {
        self.members.endpoints.breakers.as_ref()
    }

    /// Index of the chosen endpoint's group.
    pub(crate) fn group(&self) -> Option<usize> {
        Some(self.members.endpoints.endpoints[self.current?].group)
    }

    /// Set when the chosen endpoint was removed and requests at it have had their time.
    pub(crate) fn cut(&self) -> Option<Cut> {
        Some(self.host()?.cut.clone())
    }

    /// The value of the `set-cookie` header that keeps the client with its endpoint.
    pub(crate) fn cookie(&self) -> Option<String> {
        match &self.members.endpoints.affinity {
            Affinity::Strong(cookie) => {
                let key = self.host()?.key;
                (self.placing.endpoint != Some(key)).then(|| cookie.with_value(&format!("{key:016x}")))
            }
            _ => self.placing.cookie.clone(),
        }
    }

    fn host(&self) -> Option<&Rc<Host>> {
        self.members.hosts().get(self.current?)
    }

    fn was_tried(&self, index: usize) -> bool {
        let count = self.attempts.min(MAX_TRIED);
        self.tried[..count].contains(&(index as u32))
    }
}
