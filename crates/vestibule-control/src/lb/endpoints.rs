//! A backend service with endpoints as the proxy and the prober see it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use vestibule_balance::affinity::{COOKIE, Cookie};
use vestibule_balance::{Affinity, Health, Metric, OutlierDetection, Policy};
use vestibule_health::{Check, Http, Kind, Reach, Resource, Target, Text};
use vestibule_model::ResourceName;
use vestibule_model::fingerprint::hash64;
use vestibule_proxy::snapshot::{At, Breakers, Endpoint, Endpoints, Group, Limits};
use vestibule_store::{KeyValue, View};
use vestibule_vpc::{NetworkId, Route, Subnet};

use super::health::HealthTable;
use crate::compute::backend_services;
use crate::compute::linked;
use crate::compute::network_endpoint_groups::{EndpointType, NetworkEndpoint, endpoints};
use crate::{Document, document, vpc};

/// Addresses of a proxy-only subnetwork that the proxy uses; its workers share them. Each has some 28,000 ports for
/// every endpoint.
const PROXY_ADDRESSES: usize = 4;

/// The weight of an endpoint of the group with the largest capacity, where capacities differ.
const FULL_WEIGHT: f64 = 1000.0;

/// `consistentHash.minimumRingSize` that nobody set.
const RING: u32 = 1024;

/// Everything in a view that the endpoints of a backend service are compiled from.
pub struct Sources<'v> {
    view: &'v View,
    service: &'v Document,
    name: &'v ResourceName,
    groups: Vec<(ResourceName, &'v KeyValue)>,
    check: Option<(ResourceName, &'v KeyValue)>,
    network: NetworkId,
    from: Vec<Ipv4Addr>,
    subnets: Vec<Subnet>,
    routes: Vec<Route>,
}

impl<'v> Sources<'v> {
    /// `None`: the backend service has no groups with endpoints.
    pub fn of(view: &'v View, name: &'v ResourceName, service: &'v Document) -> Option<Sources<'v>> {
        let stored = |name: ResourceName| view.get(&name.key()).map(|stored| (name, stored));
        let groups = backend_services::groups(service).into_iter().filter_map(stored);
        let groups: Vec<(ResourceName, &KeyValue)> = groups
            .filter(|(_, stored)| EndpointType::of(document::object(&stored.value)).is_some())
            .collect();
        let network = linked(document::object(&groups.first()?.1.value), "network")?;
        let network = NetworkId::from_relative(&network.relative());
        let region = name.scope.region_name().unwrap_or_default();
        let from = vpc::proxy_addresses(view, &network, region, PROXY_ADDRESSES);
        let subnets = vpc::networks(view).remove(&network).unwrap_or_default();
        let routes = vpc::routes(view).remove(&network).unwrap_or_default();
        let check = check_of(view, service);
        Some(Sources { view, service, name, groups, check, network, from, subnets, routes })
    }

    /// What must be the same for what was compiled to be still right.
    pub fn stamp(&self) -> Vec<u64> {
        let group = |(name, stored): &(ResourceName, &KeyValue)| {
            let endpoints = self.view.get(&endpoints::key(name)).map_or(0, |stored| stored.modified);
            [stored.modified, endpoints]
        };
        let mut stamp: Vec<u64> = self.groups.iter().flat_map(group).collect();
        stamp.push(self.check.as_ref().map_or(0, |(_, stored)| stored.modified));
        stamp.push(hash64(format!("{:?} {:?} {:?}", self.from, self.subnets, self.routes).as_bytes()));
        stamp
    }

    /// What the proxy is told.
    pub fn compile(&self, health: &HealthTable, breakers: Option<Arc<Breakers>>) -> Endpoints {
        let affinity = affinity(self.service);
        let mut compiled = Vec::new();
        let weights = self.weights();
        for (group, (name, stored)) in self.groups.iter().enumerate() {
            for endpoint in endpoints::used(self.view, name) {
                let doc = document::object(&stored.value);
                let Some(place) = self.place(doc, &endpoint) else { continue };
                let at = match &place {
                    Reach::Network { to, .. } => At::Network(*to),
                    Reach::Machine(address) => At::Machine(*address),
                    Reach::Name(name, port) => At::Name(health.named(name, *port)),
                };
                let probed = self.target(doc, &endpoint);
                let health = probed.map_or_else(Health::assumed, |(key, ..)| health.of(&key));
                compiled.push(Endpoint { group, at, weight: weights[group], health });
            }
        }
        let groups = self.groups.iter().map(|(name, _)| group(name)).collect();
        let draining = document::object(self.service.get("connectionDraining").unwrap_or(&Value::Null));
        let drain = document::integer(draining, "drainingTimeoutSec").and_then(|s| u64::try_from(s).ok());
        Endpoints {
            from: self.from.clone().into(),
            policy: policy(self.service, &affinity),
            metrics: metrics(self.service),
            affinity,
            outlier: self.service.get("outlierDetection").map(|doc| outlier(document::object(doc))),
            breakers,
            drain: Duration::from_secs(drain.unwrap_or_default()),
            epoch: health.epoch().clone(),
            ..Endpoints::new(self.name.relative().into(), self.network.clone(), groups, compiled)
        }
    }

    /// Who is probed, and how.
    pub fn targets(&self, health: &HealthTable) -> Vec<Target> {
        let mut targets = Vec::new();
        let logs = self.check.as_ref().is_some_and(|(_, check)| check.value["logConfig"]["enable"] == true);
        for (name, stored) in &self.groups {
            let log = logs.then(|| Arc::new(resource(name, document::object(&stored.value))));
            for endpoint in endpoints::used(self.view, name) {
                if let Some((key, check, reach)) = self.target(document::object(&stored.value), &endpoint) {
                    let health = health.of(&key);
                    let (check, log) = (Arc::new(check), log.clone());
                    targets.push(Target { key: key.into(), check, reach, health, log });
                }
            }
        }
        targets
    }

    /// What the health of an endpoint of a group is kept by. `None`: nobody probes it.
    pub fn probe_key(&self, group: &Document, endpoint: &NetworkEndpoint) -> Option<String> {
        self.target(group, endpoint).map(|(key, ..)| key)
    }

    /// The backend service.
    pub fn service(&self) -> &ResourceName {
        self.name
    }

    /// The health check.
    pub fn check(&self) -> Option<&ResourceName> {
        self.check.as_ref().map(|(name, _)| name)
    }

    fn target(&self, group: &Document, endpoint: &NetworkEndpoint) -> Option<(String, Check, Reach)> {
        let (name, stored) = self.check.as_ref()?;
        let (check, port) = settings_of(name, document::object(&stored.value))?;
        let serving = self.port(group, endpoint);
        let port = port.unwrap_or(serving);
        let reach = self.reach(group, &endpoint.host, port)?;
        Some((key(name, &self.network, endpoint, port), check, reach))
    }

    fn place(&self, group: &Document, endpoint: &NetworkEndpoint) -> Option<Reach> {
        self.reach(group, &endpoint.host, self.port(group, endpoint))
    }

    /// The port that an endpoint serves at: its own, its group's, or its protocol's.
    pub fn port(&self, group: &Document, endpoint: &NetworkEndpoint) -> u16 {
        let default = document::integer(group, "defaultPort").and_then(|port| u16::try_from(port).ok());
        let tls = matches!(document::text(self.service, "protocol"), Some("HTTPS" | "HTTP2"));
        endpoint.port.or(default).unwrap_or(if tls { 443 } else { 80 })
    }

    /// How an endpoint is reached. Clients of the network are inside it; so is what a network is connected to where the
    /// address is one of its own or a static route leads to it, and the rest of that is reached as the machine reaches it, which stands for the
    /// connection. What is on the internet never comes from inside.
    fn reach(&self, group: &Document, host: &str, port: u16) -> Option<Reach> {
        let kind = EndpointType::of(group)?;
        if kind == EndpointType::InternetName {
            return Some(Reach::Name(host.trim_end_matches('.').to_owned(), port));
        }
        let ip: Ipv4Addr = host.parse().ok()?;
        let inside = kind == EndpointType::Vm || (kind == EndpointType::Hybrid && self.is_inside(ip));
        Some(if inside {
            let from = self.from.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
            Reach::Network { network: self.network.clone(), from, to: SocketAddrV4::new(ip, port) }
        } else {
            Reach::Machine(SocketAddr::new(IpAddr::V4(ip), port))
        })
    }

    fn is_inside(&self, ip: Ipv4Addr) -> bool {
        let mask = |prefix: u8| u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let within = |subnet: &Subnet| {
            u32::from(ip) & mask(subnet.prefix) == u32::from(subnet.range) & mask(subnet.prefix)
        };
        let leads = |route: &Route| route.next_hop.is_some();
        self.subnets.iter().any(within) || Route::to(&self.routes, ip).is_some_and(leads)
    }

    /// The weight of each group's endpoints: shares of requests follow the capacities that were set, and a capacity
    /// that is scaled to nothing gets none. Capacities are targets and no limits, as Google's are.
    fn weights(&self) -> Vec<u32> {
        let backends = document::items(self.service, "backends");
        let backend = |name: &ResourceName| {
            let link = name.self_link();
            backends.iter().map(document::object).find(|doc| document::text(doc, "group") == Some(&link))
        };
        let rates: Vec<Option<f64>> = self
            .groups
            .iter()
            .map(|(name, _)| {
                let doc = backend(name)?;
                let number = |field: &str| doc.get(field).and_then(Value::as_f64).filter(|rate| *rate > 0.0);
                let count = endpoints::of(self.view, name).len().max(1) as f64;
                number("maxRatePerEndpoint").or_else(|| Some(number("maxRate")? / count))
            })
            .collect();
        let known: Vec<f64> = rates.iter().flatten().copied().collect();
        let usual = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
        let scaled: Vec<f64> = self
            .groups
            .iter()
            .zip(&rates)
            .map(|((name, _), rate)| {
                let scaler = backend(name).and_then(|doc| doc.get("capacityScaler")?.as_f64());
                rate.unwrap_or(usual) * scaler.unwrap_or(1.0)
            })
            .collect();
        let most = scaled.iter().copied().fold(0.0, f64::max);
        let weight = |capacity: &f64| match capacity / most {
            share if share > 0.0 => (share * FULL_WEIGHT).round().max(1.0) as u32,
            _ => 0,
        };
        scaled.iter().map(weight).collect()
    }
}

fn key(check: &ResourceName, network: &NetworkId, endpoint: &NetworkEndpoint, port: u16) -> String {
    format!("{} {}:{port} in {}", check.relative(), endpoint.host, network.as_str())
}

fn group(name: &ResourceName) -> Group {
    Group {
        name: name.name.as_str().into(),
        location: location(name).into(),
        is_zonal: name.scope.zone_name().is_some(),
    }
}

/// The region or zone of a group, for log entries.
fn location(name: &ResourceName) -> &str {
    name.scope.zone_name().or(name.scope.region_name()).unwrap_or("global")
}

fn check_of<'v>(view: &'v View, service: &Document) -> Option<(ResourceName, &'v KeyValue)> {
    let link = document::items(service, "healthChecks").first()?.as_str()?;
    let name = ResourceName::parse(link).ok()?;
    let stored = view.get(&name.key())?;
    Some((name, stored))
}

/// A stored health check, and the port that it names.
fn settings_of(name: &ResourceName, doc: &Document) -> Option<(Check, Option<u16>)> {
    let member = match document::text(doc, "type")? {
        "HTTP" => "httpHealthCheck",
        "HTTPS" => "httpsHealthCheck",
        "HTTP2" => "http2HealthCheck",
        "TCP" => "tcpHealthCheck",
        "SSL" => "sslHealthCheck",
        "GRPC" => "grpcHealthCheck",
        "GRPC_WITH_TLS" => "grpcTlsHealthCheck",
        _ => return None,
    };
    let settings = document::object(doc.get(member)?);
    let text = |field: &str| document::text(settings, field).unwrap_or_default().to_owned();
    let http = || Http {
        host: text("host"),
        path: document::text(settings, "requestPath").unwrap_or("/").to_owned(),
        response: text("response"),
    };
    let plain = || Text { request: text("request"), response: text("response") };
    let kind = match member {
        "httpHealthCheck" => Kind::Http(http()),
        "httpsHealthCheck" => Kind::Https(http()),
        "http2HealthCheck" => Kind::Http2(http()),
        "tcpHealthCheck" => Kind::Tcp(plain()),
        "sslHealthCheck" => Kind::Ssl(plain()),
        "grpcHealthCheck" => Kind::Grpc { service: text("grpcServiceName") },
        _ => Kind::GrpcTls { service: text("grpcServiceName") },
    };
    let number = |field: &str, default: u32| {
        document::integer(doc, field).and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    };
    let check = Check {
        name: name.name.as_str().into(),
        kind,
        interval: Duration::from_secs(number("checkIntervalSec", 5).into()),
        timeout: Duration::from_secs(number("timeoutSec", 5).into()),
        healthy: number("healthyThreshold", 2),
        unhealthy: number("unhealthyThreshold", 2),
        proxy_header: document::text(settings, "proxyHeader") == Some("PROXY_V1"),
    };
    let serving = document::text(settings, "portSpecification") == Some("USE_SERVING_PORT");
    let port = document::integer(settings, "port").and_then(|port| u16::try_from(port).ok());
    Some((check, port.filter(|_| !serving)))
}

/// A whole number of seconds and nanoseconds, as the API writes a duration.
fn duration(doc: &Document, field: &str) -> Option<Duration> {
    let doc = document::object(doc.get(field)?);
    let part = |field| document::integer(doc, field).and_then(|part| u64::try_from(part).ok());
    Some(Duration::from_secs(part("seconds").unwrap_or(0)) + Duration::from_nanos(part("nanos").unwrap_or(0)))
}

fn policy(service: &Document, affinity: &Affinity) -> Policy {
    let hash = document::object(service.get("consistentHash").unwrap_or(&Value::Null));
    match document::text(service, "localityLbPolicy") {
        Some("LEAST_REQUEST") => Policy::LeastRequest,
        Some("RANDOM") => Policy::Random,
        Some("MAGLEV") => Policy::Maglev,
        Some("RING_HASH") => {
            let minimum =
                document::integer(hash, "minimumRingSize").and_then(|size| u32::try_from(size).ok());
            Policy::RingHash { minimum: minimum.unwrap_or(RING) }
        }
        Some("ROUND_ROBIN") => Policy::RoundRobin,
        Some("WEIGHTED_ROUND_ROBIN") => Policy::WeightedRoundRobin,
        _ if matches!(affinity, Affinity::None | Affinity::Strong(_)) => Policy::RoundRobin,
        _ => Policy::Maglev,
    }
}

/// A group as the log of health checks names it.
fn resource(name: &ResourceName, group: &Document) -> Resource {
    Resource {
        project: name.project.clone(),
        location: location(name).to_owned(),
        group_id: document::text(group, "id").unwrap_or_default().to_owned(),
    }
}

/// Metrics that the load of endpoints is told by.
fn metrics(service: &Document) -> Vec<Metric> {
    let named = document::items(service, "customMetrics").iter().filter(|metric| metric["dryRun"] != true);
    named.filter_map(|metric| metric["name"].as_str()).map(Metric::parse).collect()
}

fn affinity(service: &Document) -> Affinity {
    let empty = Value::Null;
    let hash = document::object(service.get("consistentHash").unwrap_or(&empty));
    let cookie = |doc: &Document, ttl: Option<Duration>| Cookie {
        name: document::text(doc, "name").unwrap_or(COOKIE).to_owned(),
        path: document::text(doc, "path").map(str::to_owned),
        ttl,
    };
    let ttl = document::integer(service, "affinityCookieTtlSec").and_then(|ttl| u64::try_from(ttl).ok());
    let ttl = Duration::from_secs(ttl.unwrap_or_default());
    match document::text(service, "sessionAffinity") {
        Some("CLIENT_IP") => Affinity::ClientIp,
        Some("GENERATED_COOKIE") => Affinity::Cookie(cookie(&Document::new(), Some(ttl))),
        Some("HTTP_COOKIE") => {
            let doc = document::object(hash.get("httpCookie").unwrap_or(&empty));
            Affinity::Cookie(cookie(doc, duration(doc, "ttl")))
        }
        Some("STRONG_COOKIE_AFFINITY") => {
            let doc = document::object(service.get("strongSessionAffinityCookie").unwrap_or(&empty));
            Affinity::Strong(cookie(doc, duration(doc, "ttl")))
        }
        Some("HEADER_FIELD") => match document::text(hash, "httpHeaderName") {
            Some(name) => Affinity::Header(name.to_ascii_lowercase()),
            None => Affinity::None,
        },
        _ => Affinity::None,
    }
}

fn outlier(doc: &Document) -> OutlierDetection {
    let usual = OutlierDetection::default();
    let number = |field: &str, usual: u32| {
        document::integer(doc, field).and_then(|number| u32::try_from(number).ok()).unwrap_or(usual)
    };
    OutlierDetection {
        base: duration(doc, "baseEjectionTime").unwrap_or(usual.base),
        interval: duration(doc, "interval").unwrap_or(usual.interval),
        max_percent: number("maxEjectionPercent", usual.max_percent),
        errors: number("consecutiveErrors", usual.errors),
        enforcing_errors: number("enforcingConsecutiveErrors", usual.enforcing_errors),
        gateway: number("consecutiveGatewayFailure", usual.gateway),
        enforcing_gateway: number("enforcingConsecutiveGatewayFailure", usual.enforcing_gateway),
        enforcing_success: number("enforcingSuccessRate", usual.enforcing_success),
        success_hosts: number("successRateMinimumHosts", usual.success_hosts),
        success_volume: number("successRateRequestVolume", usual.success_volume),
        success_factor: number("successRateStdevFactor", usual.success_factor),
    }
}

/// `circuitBreakers` of a backend service.
pub fn limits(service: &Document) -> Option<Limits> {
    let doc = document::object(service.get("circuitBreakers")?);
    let number = |field: &str| document::integer(doc, field).and_then(|number| u32::try_from(number).ok());
    Some(Limits {
        connections: number("maxConnections"),
        pending: number("maxPendingRequests"),
        requests: number("maxRequests"),
        retries: Some(number("maxRetries").unwrap_or(1)),
        requests_per_connection: number("maxRequestsPerConnection"),
    })
}
