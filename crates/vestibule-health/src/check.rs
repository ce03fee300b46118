//! What a health check asks, of whom, and how often.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use vestibule_balance::Health;
use vestibule_vpc::NetworkId;

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: Arc<str>,
    pub kind: Kind,
    /// `checkIntervalSec`, default 5: from the start of a probe to the start of the next.
    pub interval: Duration,
    /// `timeoutSec`, default 5: how long a probe may take, its connection included.
    pub timeout: Duration,
    /// `healthyThreshold`, default 2: good probes in a row that make an unhealthy endpoint healthy.
    pub healthy: u32,
    /// `unhealthyThreshold`, default 2: bad probes in a row that make a healthy endpoint unhealthy.
    pub unhealthy: u32,
    /// `proxyHeader` is `PROXY_V1`: `PROXY UNKNOWN` stands before everything else.
    pub proxy_header: bool,
}

/// `type`, with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Tcp(Text),
    Ssl(Text),
    Http(Http),
    Https(Http),
    /// HTTP/2 over TLS.
    Http2(Http),
    Grpc {
        service: String,
    },
    GrpcTls {
        service: String,
    },
}

/// What is sent and expected over a plain connection. Empty: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    pub request: String,
    /// What the answer must begin with.
    pub response: String,
}

/// A request that must be answered 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Empty: the endpoint's address.
    pub host: String,
    pub path: String,
    /// What the first [`BODY`] bytes of the answer must hold. Empty: anything.
    pub response: String,
}

/// Bytes of an answer in which `response` must be found (published as fixed).
pub const BODY: usize = 1024;

/// How a prober gets to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Inside a network, from an address of its proxy-only subnetwork.
    Network { network: NetworkId, from: Ipv4Addr, to: SocketAddrV4 },
    /// From wherever the machine connects from.
    Machine(SocketAddr),
    /// By a name outside.
    Name(String, u16),
}

/// An endpoint that is probed.
#[derive(Debug, Clone)]
pub struct Target {
    /// What it is known by: a target of the next list with the same key is the same one.
    pub key: Arc<str>,
    pub check: Arc<Check>,
    pub reach: Reach,
    pub health: Health,
    /// What log entries are about (`logConfig.enable`). `None`: there are none.
    pub log: Option<Arc<Resource>>,
}

/// A network endpoint group as log entries name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub project: String,
    /// Its region or zone.
    pub location: String,
    pub group_id: String,
}

impl Target {
    /// It is probed and logged in the same way, so that what was found out of it still holds.
    pub(crate) fn is_like(&self, other: &Target) -> bool {
        self.check == other.check && self.reach == other.reach && self.log == other.log
    }
}
