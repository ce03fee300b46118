//! Endpoints of network endpoint groups, as one worker sees them: which one a request goes to, and what is remembered
//! of it.
//!
//! A [`Cluster`] is what a worker knows of one backend service: its hosts, who is ejected, how much is under way. It
//! outlives snapshots, or every change would forget who failed. [`Members`] is what one snapshot says of it; a request
//! holds the members that it began with. Which of them may be picked is worked out again only when the health of some
//! endpoint changed or an ejection began or ended, so that a pick costs the policy and nothing else.
//!
//! Nothing here is shared between workers but what the snapshot brings: health, which is an atomic number, and the
//! counters of circuit breakers, which are there only where limits were set.

mod breakers;
mod choice;
mod cluster;
mod host;
mod members;
#[cfg(test)]
mod tests;

pub use breakers::{Breakers, Limits};
pub(crate) use choice::{Choice, Flight, NoChoice, Parts};
pub(crate) use cluster::Clusters;
pub(crate) use host::Cut;
pub(crate) use members::Members;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use vestibule_balance::{Affinity, Epoch, Health, Metric, OutlierDetection, Policy, hash};
use vestibule_vpc::NetworkId;

/// The endpoints behind a backend service, and how they share its requests.
pub struct Endpoints {
    /// The backend service's full name: what a worker remembers is remembered by it.
    pub key: Arc<str>,
    /// The network of endpoints that stand inside one.
    pub network: NetworkId,
    /// Addresses of the region's active proxy-only subnetwork, from which endpoints inside the network are connected
    /// to. Each worker uses one.
    pub from: Arc<[Ipv4Addr]>,
    pub groups: Vec<Group>,
    pub endpoints: Vec<Endpoint>,
    /// `localityLbPolicy`.
    pub policy: Policy,
    /// `customMetrics` that are no dry run: what the load of endpoints is told by, for [`Policy::WeightedRoundRobin`].
    pub metrics: Vec<Metric>,
    /// `sessionAffinity`.
    pub affinity: Affinity,
    /// `outlierDetection`. `None`: nobody is ejected.
    pub outlier: Option<OutlierDetection>,
    /// `circuitBreakers`. `None`: no limits.
    pub breakers: Option<Arc<Breakers>>,
    /// `connectionDraining.drainingTimeoutSec`: how long requests may go on at an endpoint that was removed. 0: as long
    /// as they take.
    pub drain: Duration,
    /// Rises when the health of any endpoint changes.
    pub epoch: Epoch,
}

/// A network endpoint group, for log entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: Arc<str>,
    /// Its region or zone.
    pub location: Arc<str>,
    pub is_zonal: bool,
}

/// One endpoint of a group.
#[derive(Clone)]
pub struct Endpoint {
    /// Index of its group.
    pub group: usize,
    pub at: At,
    /// Its share of requests beside the others'. 0: it gets none (`capacityScaler` 0).
    pub weight: u32,
    pub health: Health,
}

/// Where an endpoint stands.
#[derive(Clone)]
pub enum At {
    /// Inside the network.
    Network(SocketAddrV4),
    /// Wherever the machine reaches it.
    Machine(SocketAddr),
    /// A name outside, found by whoever keeps it up to date.
    Name(Arc<Named>),
}

/// The addresses of a name. Empty: not found.
pub struct Named {
    pub name: String,
    pub port: u16,
    pub addresses: ArcSwap<Vec<SocketAddr>>,
}

impl Endpoints {
    /// Endpoints that share requests in turn, without limits.
    pub fn new(key: Arc<str>, network: NetworkId, groups: Vec<Group>, endpoints: Vec<Endpoint>) -> Endpoints {
        Endpoints {
            key,
            network,
            from: Arc::default(),
            groups,
            endpoints,
            policy: Policy::default(),
            metrics: Vec::new(),
            affinity: Affinity::None,
            outlier: None,
            breakers: None,
            drain: Duration::ZERO,
            epoch: Epoch::default(),
        }
    }
}

impl Endpoints {
    /// One group of endpoints that the machine reaches and nobody probes, for tools and tests.
    pub fn outside(addresses: &[SocketAddr]) -> Endpoints {
        let group = Group { name: "neg".into(), location: "us-central1".into(), is_zonal: false };
        let endpoint = |address: &SocketAddr| Endpoint {
            group: 0,
            at: At::Machine(*address),
            weight: 1,
            health: Health::assumed(),
        };
        let endpoints = addresses.iter().map(endpoint).collect();
        Endpoints::new("bs".into(), NetworkId::new("p", "vpc"), vec![group], endpoints)
    }
}

impl At {
    /// A number that stands for the place, the same in every process.
    pub(crate) fn key(&self) -> u64 {
        let text = match self {
            At::Network(address) => address.to_string(),
            At::Machine(address) => format!("machine {address}"),
            At::Name(named) => format!("{}:{}", named.name, named.port),
        };
        hash::bytes(text.as_bytes())
    }
}
