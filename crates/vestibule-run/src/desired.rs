//! What should run, as the control plane says it: whole, with a generation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Names one service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    pub project: Arc<str>,
    pub region: Arc<str>,
    pub name: Arc<str>,
}

/// Every service that should exist, and every execution of a job that is not over.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// The store revision it was compiled from. Rises.
    pub generation: u64,
    pub services: Vec<Arc<Service>>,
    /// One that is left out is ended at once, and nothing more is told about it.
    pub executions: Vec<Arc<Execution>>,
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
    /// The ingress container: the one that requests go to.
    pub container: Container,
    /// The other containers of each instance, in the order in which the template names them.
    pub sidecars: Vec<Container>,
    /// What containers may mount.
    pub volumes: Vec<Volume>,
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
    /// `sessionAffinity`: a client's requests go to the instance that served it last, if that can be.
    pub session_affinity: bool,
    /// `None`: instances reach the internet, and no VPC network.
    pub vpc: Option<VpcAccess>,
    /// `cpuIdle` of the v2 API: between requests an instance gets next to no processor. Default `true`.
    pub throttled: bool,
    /// An instance of it has become ready once, and the control plane knows: no instance is started to prove it,
    /// and nothing more is reported about it. `false` on a revision that was just created.
    pub proven: bool,
}

impl Revision {
    /// A proven revision of one container with the defaults of Cloud Run.
    pub fn new(name: &str, container: Container) -> Self {
        Self {
            name: name.into(),
            container: Container { startup_probe: Some(Probe::default_tcp(8080)), ..container },
            sidecars: Vec::new(),
            volumes: Vec::new(),
            port: 8080,
            protocol: Protocol::Http1,
            concurrency: 80,
            min_instances: 0,
            max_instances: 100,
            timeout: Duration::from_secs(300),
            service_account: String::new(),
            session_affinity: false,
            vpc: None,
            throttled: true,
            proven: true,
        }
    }

    /// Whether both describe the same program run the same way.
    ///
    /// What may change while instances run (`min_instances`, `max_instances`, `proven`: a service sets the first two
    /// for all its revisions) is left out, so a change of those keeps the instances.
    pub fn same_program(&self, other: &Self) -> bool {
        let unchanged =
            |revision: &Self| Self { min_instances: 0, max_instances: 0, proven: false, ..revision.clone() };
        unchanged(self) == unchanged(other)
    }

    /// All containers, the ingress container first.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        std::iter::once(&self.container).chain(&self.sidecars)
    }
}

/// Direct VPC egress: instances have an address in a subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcAccess {
    /// Project of the network, and the network's name.
    pub network: (String, String),
    /// The subnetwork's name, in the region of the service.
    pub subnetwork: String,
    /// Network tags, for firewall rules.
    pub tags: Vec<String>,
    /// What goes through the network. `false`: private ranges only, the default.
    pub all_traffic: bool,
}

/// One container of an instance, or of a task.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Container {
    /// As log entries name it.
    pub name: String,
    pub image: String,
    /// Replaces the image's entry point.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// `None`: the image's own.
    pub working_dir: Option<String>,
    pub env: Vec<(String, String)>,
    /// Variables whose values are read from secrets when an instance starts.
    pub secret_env: Vec<SecretEnv>,
    /// Resource limits as written (`cpu`, `memory`).
    pub limits: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// `None`: it counts as started at once. The ingress container of a service always has one.
    pub startup_probe: Option<Probe>,
    pub liveness_probe: Option<Probe>,
    pub readiness_probe: Option<Probe>,
    /// Names of containers of the same instance that must have started before this one is started.
    pub depends_on: Vec<String>,
}

impl Container {
    /// A container of an image, with nothing else said.
    pub fn new(name: &str, image: &str) -> Self {
        Self { name: name.to_owned(), image: image.to_owned(), ..Self::default() }
    }
}

/// A version of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    /// Id or number.
    pub project: String,
    pub secret: String,
    /// A number, an alias, or `latest`: the newest when it is read.
    pub version: String,
}

/// A variable whose value is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEnv {
    pub name: String,
    pub secret: SecretRef,
    /// The field of the template that names the secret, for messages.
    pub field: String,
}

/// Something that containers of an instance can mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

/// What is in a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// `emptyDir`: empty at first, shared by the containers of one instance, in memory, gone with it.
    Memory {
        /// Bytes it may hold. `None`: no limit but the memory of the instance.
        size_limit: Option<u64>,
    },
    /// `secret`: files whose contents are read when an instance starts.
    Secret(Vec<SecretFile>),
}

/// A file of a secret volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Relative to the volume, without `..`.
    pub path: String,
    pub secret: SecretRef,
    /// Permission bits, default 0444.
    pub mode: u32,
    /// The field of the template that names the secret, for messages.
    pub field: String,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// Absolute path in the container.
    pub path: String,
    pub read_only: bool,
    /// Path within the volume; empty for its root.
    pub sub_path: String,
}

/// What the ingress container speaks, told by the name of its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, port name `http1` or none.
    Http1,
    /// HTTP/2 without TLS for every request, port name `h2c`.
    H2c,
}

/// A probe of a container.
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

/// Names one execution of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutionKey {
    pub project: Arc<str>,
    pub region: Arc<str>,
    pub job: Arc<str>,
    pub name: Arc<str>,
}

/// An execution of a job: tasks that run their containers to the end.
#[derive(Debug, Clone)]
pub struct Execution {
    pub key: ExecutionKey,
    pub project_number: Arc<str>,
    /// Every task has them all.
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    /// `None`: tasks reach the internet, and no VPC network.
    pub vpc: Option<VpcAccess>,
    /// Tasks, each with an index from 0. Default 1.
    pub task_count: u32,
    /// Tasks that may run at once. 0: as many as this machine is allowed.
    pub parallelism: u32,
    /// How often a task that failed is tried again. Default 3.
    pub max_retries: u32,
    /// How long one attempt of a task may take. Default 600 s.
    pub timeout: Duration,
    pub service_account: String,
    /// It is to end: no task is started any more, and those that run are ended.
    pub cancelled: bool,
    /// What is known of tasks from before, when an earlier runtime began the execution. Looked at once.
    pub begun: BTreeMap<u32, Begun>,
}

/// How far a task was when its runtime ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The attempt that was going on, from 0. It is made again: the task did not fail.
    pub attempt: u32,
    /// It has succeeded or failed, and is not run again.
    pub over: bool,
}

/// What became of a task, or of a whole execution, told to the control plane.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskReport {
    /// What became of one task.
    Task { execution: ExecutionKey, index: u32, attempt: u32, started: SystemTime, state: TaskState },
    /// No task of the execution runs any more, and none will. Comes after all reports about its tasks.
    Over { execution: ExecutionKey, at: SystemTime },
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskState {
    /// An attempt was started.
    Running,
    /// The last attempt succeeded.
    Succeeded { at: SystemTime },
    /// The last attempt failed, and none follows.
    Failed { at: SystemTime, failure: TaskFailure },
    /// It was running when the execution was cancelled.
    Cancelled { at: SystemTime },
}

/// Why an attempt of a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    /// The v1 condition reason: `NonZeroExitCode`, `ContainerMissing`, ….
    pub reason: String,
    pub message: String,
    /// The program's own exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}
