//! What the proxy is told: everything it serves, whole, with a generation.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use crate::endpoints::{At, Breakers, Endpoint, Endpoints, Group, Limits, Named};

use vestibule_urlmap::{HeaderAction, Mask, UrlMap};
use vestibule_vpc::{Addresses, NetworkId};

use crate::tls::Tls;

/// `httpKeepAliveTimeoutSec` of a target proxy that does not say.
pub const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(610);

/// Everything the proxy serves at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The store revision it was compiled from. Rises.
    pub generation: u64,
    pub listeners: Vec<Arc<Listener>>,
    /// Entrances to the default URLs (`*.run.app`) that stand outside every load balancer.
    pub fronts: Vec<Arc<Front>>,
}

/// One forwarding rule: an address and port inside a network and what is served there.
///
/// A listener that has not changed should be the same `Arc` in the next snapshot: the proxy then has nothing to do.
pub struct Listener {
    pub network: NetworkId,
    pub ip: Ipv4Addr,
    pub port: u16,
    /// Region of the forwarding rule.
    pub region: Arc<str>,
    pub project: Arc<str>,
    /// The project's number, for log entries.
    pub project_number: Arc<str>,
    /// Private addresses of the clients that may connect: those of the rule's region. `None` (`allowGlobalAccess`): all.
    /// A client that has no private address, which stands outside the network, is not asked.
    pub clients: Option<Arc<Addresses>>,
    pub forwarding_rule: Arc<str>,
    pub target_proxy: Arc<str>,
    pub url_map_name: Arc<str>,
    /// `httpKeepAliveTimeoutSec`, default [`DEFAULT_KEEP_ALIVE`]: how long a client connection may idle.
    pub keep_alive: Duration,
    /// Present on HTTPS proxies.
    pub tls: Option<Arc<Tls>>,
    pub routes: Arc<Routes>,
}

/// A compiled URL map with the backend services it names. The matcher answers with indices into `services`.
pub struct Routes {
    pub url_map: Arc<UrlMap>,
    pub services: Vec<Arc<BackendService>>,
}

/// A backend service as the proxy sees it.
pub struct BackendService {
    pub name: Arc<str>,
    pub log: LogConfig,
    /// Response timeout (`timeoutSec`). Serverless backends have 60 min instead.
    pub timeout: Duration,
    /// How endpoints are spoken to. Serverless backends have their own way.
    pub protocol: Protocol,
    /// `customRequestHeaders` and `customResponseHeaders`, if there are any.
    pub headers: Option<HeaderAction>,
    pub backend: Backend,
}

/// `protocol` of a backend service: how requests are spoken to its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// `HTTP`: HTTP/1.1. The API's default.
    #[default]
    Http1,
    /// `HTTPS`: HTTP/1.1 over TLS.
    Https,
    /// `HTTP2`: HTTP/2 over TLS.
    Http2,
    /// `H2C`: HTTP/2 without TLS.
    H2c,
}

impl Protocol {
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::H2c)
    }

    pub fn is_encrypted(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Http2)
    }
}

/// `logConfig` of a backend service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogConfig {
    pub enable: bool,
    /// 0.0 to 1.0.
    pub sample_rate: f64,
    pub optional: Optional,
}

/// Optional fields of log entries (`optionalFields`) that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Optional {
    /// `tls.protocol` and `tls.cipher`.
    pub tls: bool,
    /// What is known of the client's certificate.
    pub mtls: bool,
}

/// Where requests of a backend service go.
pub enum Backend {
    /// No backend was added: every request is answered 503.
    Empty,
    Serverless(ServerlessNeg),
    Endpoints(Arc<Endpoints>),
}

/// A serverless network endpoint group of the Cloud Run kind.
pub struct ServerlessNeg {
    pub name: Arc<str>,
    pub project: Arc<str>,
    pub region: Arc<str>,
    /// `cloudRun.service`, unless the mask finds it.
    pub service: Option<Arc<str>>,
    pub tag: Option<Arc<str>>,
    pub mask: Option<Mask>,
}

/// An entrance for the default URLs of services.
///
/// With `tls` it serves them. Without, it sends every caller to `https`, as Cloud Run does.
pub struct Front {
    pub at: FrontAddress,
    pub tls: Option<Arc<Tls>>,
}

impl Front {
    /// The address it listens on, as its callers know it.
    pub fn address(&self) -> SocketAddr {
        match &self.at {
            FrontAddress::Machine(address) => *address,
            FrontAddress::Network { ip, port, .. } => (*ip, *port).into(),
        }
    }
}

/// Where a front listens, and with it where its callers stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FrontAddress {
    /// On an address of the machine: callers are outside of every VPC network. The port is never 0.
    Machine(SocketAddr),
    /// Inside a network, at an address of Private Google Access: callers are clients of the network. Its sockets come
    /// from where those of forwarding rules come from.
    Network { network: NetworkId, ip: Ipv4Addr, port: u16 },
}
