//! What starts instances.
//!
//! A driver knows one way to run a program: as a process here, in a container there. It is told everything about one
//! container of an instance in an [`Order`], hands back a [`Started`] whose [`Handle`] can be signalled and waited for,
//! and knows nothing of requests, probes or scaling. Ending a container (ask, wait, force) is the same for all of them
//! and is written once, in [`end`].

mod carrier;
mod child;
pub mod choice;
pub mod container;
pub mod docker;
mod image;
mod leftovers;
mod ports;
mod prepared;
pub mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::desired::{Container, Execution, Revision, Service, VpcAccess};

/// A future that a driver returns.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Label: id of the instance.
pub const LABEL_INSTANCE: &str = "vestibule/instance";
/// Label: `PROJECT/REGION/SERVICE`.
pub const LABEL_SERVICE: &str = "vestibule/service";
/// Label: name of the container.
pub const LABEL_CONTAINER: &str = "vestibule/container";
/// Label: name of the revision.
pub const LABEL_REVISION: &str = "vestibule/revision";

/// Label: `PROJECT/REGION/JOB`.
pub const LABEL_JOB: &str = "vestibule/job";
/// Label: name of the execution of a job.
pub const LABEL_EXECUTION: &str = "vestibule/execution";
/// Label: `INDEX/ATTEMPT` of a task.
pub const LABEL_TASK: &str = "vestibule/task";

/// Names and values attached to an instance where the driver's platform can hold them.
pub type Labels = BTreeMap<String, String>;

/// One container to start.
///
/// Most instances have one. Those of several are started by one order each, with the same `instance_id`, one after the
/// other as their dependencies allow; a driver gives them one network, in which they reach each other on loopback, and
/// one copy of each volume. Each is signalled and waited for by itself.
#[derive(Clone)]
pub struct Order {
    pub instance_id: Arc<str>,
    pub owner: Owner,
    pub container: Container,
    /// The port at which the container is to listen for requests, for its variable `PORT`. A driver whose instances
    /// have no addresses of their own tells it another. `None`: requests do not go to this container, and it is told
    /// of no port.
    pub port: Option<u16>,
    /// Everything but `PORT`. Later entries win. Values may be secret.
    pub environment: Vec<(String, String)>,
    pub mounts: Vec<Mounted>,
    /// What the instance can reach. `None`: nothing but its metadata server. The same for all containers of an
    /// instance. Drivers whose instances are in the machine's own network have no use for it.
    pub network: Option<Arc<dyn InstanceNetwork>>,
}

impl Order {
    /// The labels of the container.
    pub fn labels(&self) -> Labels {
        let mut labels = self.owner.labels();
        labels.insert(LABEL_INSTANCE.to_owned(), self.instance_id.to_string());
        labels.insert(LABEL_CONTAINER.to_owned(), self.container.name.clone());
        labels
    }
}

// Not derived: values of variables must not get into a log.
impl fmt::Debug for Order {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Order")
            .field("instance_id", &self.instance_id)
            .field("image", &self.container.image)
            .finish_non_exhaustive()
    }
}

/// What an instance is an instance of.
#[derive(Debug, Clone)]
pub enum Owner {
    /// An instance of a service, which serves requests.
    Revision { service: Arc<Service>, revision: Arc<Revision> },
    /// An attempt of a task of a job, which runs to its end.
    Task { execution: Arc<Execution>, index: u32, attempt: u32 },
}

impl Owner {
    pub fn project(&self) -> &str {
        match self {
            Owner::Revision { service, .. } => &service.key.project,
            Owner::Task { execution, .. } => &execution.key.project,
        }
    }

    pub fn region(&self) -> &str {
        match self {
            Owner::Revision { service, .. } => &service.key.region,
            Owner::Task { execution, .. } => &execution.key.region,
        }
    }

    pub fn project_number(&self) -> &str {
        match self {
            Owner::Revision { service, .. } => &service.project_number,
            Owner::Task { execution, .. } => &execution.project_number,
        }
    }

    pub fn service_account(&self) -> &str {
        match self {
            Owner::Revision { revision, .. } => &revision.service_account,
            Owner::Task { execution, .. } => &execution.service_account,
        }
    }

    /// The network that it is to be in besides the internet.
    pub fn vpc(&self) -> Option<&VpcAccess> {
        match self {
            Owner::Revision { revision, .. } => revision.vpc.as_ref(),
            Owner::Task { execution, .. } => execution.vpc.as_ref(),
        }
    }

    /// Name of the revision or the execution: what was deployed once and never changes.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Owner::Revision { revision, .. } => &revision.name,
            Owner::Task { execution, .. } => &execution.key.name,
        }
    }

    /// Whether it ran before. If not, it is being deployed: that is when a tag of an image is looked up.
    pub fn is_proven(&self) -> bool {
        match self {
            Owner::Revision { revision, .. } => revision.proven,
            Owner::Task { .. } => false,
        }
    }

    /// For messages: `revision 'svc-00001-abc'`.
    pub fn describe(&self) -> String {
        match self {
            Owner::Revision { revision, .. } => format!("revision '{}'", revision.name),
            Owner::Task { execution, index, .. } => {
                format!("task {index} of execution '{}'", execution.key.name)
            }
        }
    }

    fn labels(&self) -> Labels {
        match self {
            Owner::Revision { service, revision } => {
                let key = &service.key;
                Labels::from([
                    (LABEL_SERVICE.to_owned(), format!("{}/{}/{}", key.project, key.region, key.name)),
                    (LABEL_REVISION.to_owned(), revision.name.to_string()),
                ])
            }
            Owner::Task { execution, index, attempt } => {
                let key = &execution.key;
                Labels::from([
                    (LABEL_JOB.to_owned(), format!("{}/{}/{}", key.project, key.region, key.job)),
                    (LABEL_EXECUTION.to_owned(), key.name.to_string()),
                    (LABEL_TASK.to_owned(), format!("{index}/{attempt}")),
                ])
            }
        }
    }
}

/// What an instance can reach, as seen from inside it.
///
/// A driver that gives instances a network of their own brings whatever leaves it here: connections one by one, and
/// questions for names.
pub trait InstanceNetwork: Send + Sync {
    /// Its own address in a VPC network, if it has one there.
    fn address(&self) -> Option<Ipv4Addr>;

    /// Connects to where a program in the instance wants to go.
    fn connect(&self, to: SocketAddrV4) -> Pending<'_, io::Result<TcpStream>>;

    /// Answers the instance's questions for names until it is dropped. The sockets are bound to port 53 of the address
    /// that the instance knows as its name server.
    fn serve_names(&self, udp: UdpSocket, tcp: TcpListener) -> Pending<'static, ()>;
}

/// A volume at a place in a container.
#[derive(Debug, Clone)]
pub struct Mounted {
    /// The volume's name. Containers of one instance that mount the same volume share its contents.
    pub volume: Arc<str>,
    pub source: Contents,
    /// Absolute path in the container.
    pub path: String,
    pub read_only: bool,
    /// Path within the volume; empty for its root.
    pub sub_path: String,
}

/// What is in a volume.
#[derive(Debug, Clone)]
pub enum Contents {
    /// Nothing at first. Lies in memory, and holds so many bytes at most.
    Memory { size_limit: Option<u64> },
    /// These files, which cannot be changed.
    Files(Arc<[File]>),
}

/// A file of a volume.
#[derive(Clone)]
pub struct File {
    /// Relative to the volume, without `..`.
    pub path: String,
    /// May be secret.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

impl fmt::Debug for File {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({} bytes)", self.path, self.data.len())
    }
}

/// A container that was started. Whether it serves is for the startup probe to find out.
pub struct Started {
    /// Where it will listen for requests. For a container that has no such port: the address at which it is reached,
    /// with port 0.
    pub address: SocketAddr,
    pub output: Output,
    pub handle: Box<dyn Handle>,
}

/// Read ends of what the container writes, where the driver can tell.
#[derive(Debug, Default)]
pub struct Output {
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// A running container.
pub trait Handle: Send + Sync {
    /// Process id of its first process, if it has one on this machine.
    fn pid(&self) -> Option<u32>;
    /// Asks it to end: SIGTERM to its first process.
    fn terminate(&self) -> Pending<'_, ()>;
    /// How much of processors it gets, where the driver can say that while it runs.
    fn processors(&self) -> Option<Arc<dyn Processors>> {
        None
    }
    /// Ends everything in it by force.
    fn kill(&self) -> Pending<'_, ()>;
    /// Waits until nothing of it is left. May be called again, and dropped without effect.
    fn exited(&self) -> Pending<'_, Exit>;
}

/// The processors of a running container.
pub trait Processors: Send + Sync {
    /// In force when it returns. Called on the way of a request, so it must be quick.
    fn allot(&self, share: Share);
}

/// How much of its processors a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// As much as its limit says.
    Full,
    /// Next to nothing.
    Idle,
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Its first process ended by itself, with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It was ended because it used more memory than it may.
    OutOfMemory {
        /// Bytes it may use.
        limit: u64,
        /// Bytes it used.
        used: u64,
    },
    /// The driver cannot tell.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(out, "Container called exit({code})."),
            Exit::Signal(signal) => write!(out, "Container terminated on signal {signal}."),
            Exit::OutOfMemory { limit, used } => write!(
                out,
                "Memory limit of {} MiB exceeded with {} MiB used. Consider increasing the memory limit, see \
                 https://cloud.google.com/run/docs/configuring/memory-limits",
                limit >> 20,
                used.div_ceil(1 << 20),
            ),
            Exit::Unknown => out.write_str("Container ended."),
        }
    }
}

/// Why an instance could not be started, or a revision cannot be run at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The v1 condition reason: `ContainerMissing`, `HealthCheckContainerError`, …
    pub reason: String,
    /// For the condition's message.
    pub message: String,
    /// Trying again may help.
    pub transient: bool,
}

/// One way to run instances.
pub trait Driver: Send + Sync {
    /// For messages: `process`, `container`, …
    fn name(&self) -> &'static str;

    /// Whether instances have a network of their own, which an [`Order::network`] connects to others.
    fn has_networks(&self) -> bool {
        false
    }

    /// Makes sure that the image of one of the owner's containers is there. Called before each start, and cheap when
    /// called again. Answers with the image digest, `IMAGE@sha256:…`, or the image as given.
    fn prepare<'a>(
        &'a self,
        owner: &'a Owner,
        container: &'a Container,
    ) -> Pending<'a, Result<String, Failure>>;

    /// Starts a container. Runs on a thread that lives as long as the container may.
    fn start<'a>(&'a self, order: &'a Order) -> Pending<'a, Result<Started, Failure>>;

    /// Containers that carry all of `labels`, including those that an earlier, killed runtime with the same state
    /// directory left behind.
    fn list<'a>(&'a self, labels: &'a Labels) -> Pending<'a, Vec<Listed>>;

    /// Ends all containers of an instance that was left behind, by force.
    fn remove<'a>(&'a self, instance_id: &'a str) -> Pending<'a, ()>;
}

/// A container as [`Driver::list`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub instance_id: String,
    pub labels: Labels,
    /// A runtime that is gone left it behind.
    pub left_behind: bool,
}

/// Ends a container: asks, waits for `grace`, then forces. Returns when nothing of it is left.
///
/// Cloud Run's contract: SIGTERM, 10 s, SIGKILL.
pub async fn end(handle: &dyn Handle, grace: Duration) -> Exit {
    handle.terminate().await;
    if let Ok(exit) = tokio::time::timeout(grace, handle.exited()).await {
        return exit;
    }
    handle.kill().await;
    handle.exited().await
}
