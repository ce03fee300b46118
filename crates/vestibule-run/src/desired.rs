//! What should run, as the control plane says it: whole, with a generation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Names one service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    pub project: Arc<str>,
    pub region: Arc<str>,
    pub name: Arc<str>,
}

/// Every service that should exist.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// The store revision it was compiled from. Rises.
    pub generation: u64,
    pub services: Vec<Arc<Service>>,
}

/// Who may come in at all: `run.googleapis.com/ingress` of the v1 API, `ingress` of v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingress {
    All,
    Internal,
    InternalAndCloudLoadBalancing,
    None,
}

/// A service: how it may be entered and which revisions serve.
#[derive(Debug, Clone)]
pub struct Service {
    pub key: ServiceKey,
    pub project_number: Arc<str>,
    pub ingress: Ingress,
    /// `invokerIamDisabled`: no identity check.
    pub invoker_check_disabled: bool,
    /// IAM policies that count: the service's own, then the project's. Evaluated for `run.routes.invoke`.
    pub policies: Vec<Arc<vestibule_iam::policy::Policy>>,
    /// Audiences accepted in identity tokens: every URL of the service and its custom audiences.
    pub audiences: Vec<String>,
    /// Host names of the default URLs (hash form and deterministic form), without scheme. Tag hosts are `TAG---HOST`.
    pub hosts: Vec<String>,
    /// `defaultUriDisabled`.
    pub default_url_disabled: bool,
    /// What may serve. Percent shares sum to 100; entries with a tag may have 0.
    pub traffic: Vec<TrafficTarget>,
    pub revisions: Vec<Arc<Revision>>,
}

/// One entry of a service's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficTarget {
    pub revision: Arc<str>,
    pub percent: u32,
    pub tag: Option<Arc<str>>,
}

/// An immutable revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    pub name: Arc<str>,
    pub image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub container_name: String,
    /// Port the ingress container listens on, default 8080.
    pub port: u16,
    pub protocol: Protocol,
    /// Requests an instance may serve at once, default 80.
    pub concurrency: u32,
    pub min_instances: u32,
    /// Default 100.
    pub max_instances: u32,
    /// Request timeout, default 300 s: queue, start and answer together.
    pub timeout: Duration,
    pub service_account: String,
    pub startup_probe: Probe,
    /// Resource limits as written (`cpu`, `memory`).
    pub limits: BTreeMap<String, String>,
    /// An instance of it has become ready once, and the control plane knows: no instance is started to prove it,
    /// and nothing more is reported about it. `false` on a revision that was just created.
    pub proven: bool,
}

impl Revision {
    /// Whether both describe the same program run the same way.
    ///
    /// What may change while instances run (`min_instances`, `max_instances`, `proven`: a service sets the first two
    /// for all its revisions) is left out, so a change of those keeps the instances.
    pub fn same_program(&self, other: &Self) -> bool {
        let unchanged =
            |revision: &Self| Self { min_instances: 0, max_instances: 0, proven: false, ..revision.clone() };
        unchanged(self) == unchanged(other)
    }
}

/// What the ingress container speaks, told by the name of its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, port name `http1` or none.
    Http1,
    /// HTTP/2 without TLS for every request, port name `h2c`.
    H2c,
}

/// A startup probe: `startupProbe` of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    pub kind: ProbeKind,
    /// `initialDelaySeconds`, default 0.
    pub initial_delay: Duration,
    /// `periodSeconds`. Cloud Run's default probe has 240 s, a probe that the user writes 10 s.
    pub period: Duration,
    /// `timeoutSeconds`. Cloud Run's default probe has 240 s, a probe that the user writes 1 s.
    pub timeout: Duration,
    /// `failureThreshold`. Cloud Run's default probe has 1, a probe that the user writes 3.
    pub failure_threshold: u32,
}

impl Probe {
    /// The probe a revision has when it names none: connect to its port, 240 s to succeed.
    pub fn default_tcp(port: u16) -> Self {
        let limit = Duration::from_secs(240);
        Self {
            kind: ProbeKind::Tcp { port },
            initial_delay: Duration::ZERO,
            period: limit,
            timeout: limit,
            failure_threshold: 1,
        }
    }
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeKind {
    Tcp { port: u16 },
    Http { port: u16, path: String, headers: Vec<(String, String)> },
    Grpc { port: u16, service: String },
}

/// What became of a revision, told to the control plane.
#[derive(Debug, Clone, PartialEq)]
pub struct RevisionReport {
    pub service: ServiceKey,
    pub revision: Arc<str>,
    pub state: RevisionState,
}

/// How far a revision is.
#[derive(Debug, Clone, PartialEq)]
pub enum RevisionState {
    /// An instance is starting for the first time.
    Deploying,
    /// An instance passed its startup probe. `image_digest` is `image@sha256:…` or the image as given.
    Ready { image_digest: String },
    /// It cannot serve, and is not tried again. A runtime that is started anew does try it again unless the control
    /// plane leaves it out of what it desires. `reason` is the v1 condition reason (`ContainerMissing`, `HealthCheckContainerError`, …).
    Failed { reason: String, message: String },
}
