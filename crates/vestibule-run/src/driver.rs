//! What starts instances.
//!
//! A driver knows one way to run a program: as a process here, in a container there. It is told everything about one
//! instance in an [`Order`], hands back a [`Started`] whose [`Handle`] can be signalled and waited for, and knows
//! nothing of requests, probes or scaling. Ending an instance (ask, wait, force) is the same for all of them and is
//! written once, in [`end`].

mod child;
pub mod choice;
mod image;
mod leftovers;
mod ports;
pub mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::desired::{Revision, Service};

/// A future that a driver returns.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Label: id of the instance.
pub const LABEL_INSTANCE: &str = "vestibule/instance";
/// Label: `PROJECT/REGION/SERVICE`.
pub const LABEL_SERVICE: &str = "vestibule/service";
/// Label: name of the revision.
pub const LABEL_REVISION: &str = "vestibule/revision";

/// Names and values attached to an instance where the driver's platform can hold them.
pub type Labels = BTreeMap<String, String>;

/// One instance to start.
#[derive(Debug, Clone)]
pub struct Order {
    pub instance_id: Arc<str>,
    pub service: Arc<Service>,
    pub revision: Arc<Revision>,
    /// Everything but `PORT`, which the driver sets because it knows whether the instance has addresses of its own.
    /// Later entries win.
    pub environment: Vec<(String, String)>,
}

impl Order {
    /// The labels of the instance.
    pub fn labels(&self) -> Labels {
        let key = &self.service.key;
        Labels::from([
            (LABEL_INSTANCE.to_owned(), self.instance_id.to_string()),
            (LABEL_SERVICE.to_owned(), format!("{}/{}/{}", key.project, key.region, key.name)),
            (LABEL_REVISION.to_owned(), self.revision.name.to_string()),
        ])
    }
}

/// An instance that was started. Whether it serves is for the startup probe to find out.
pub struct Started {
    /// Where its ingress container will listen.
    pub address: SocketAddr,
    pub output: Output,
    pub handle: Box<dyn Handle>,
}

/// Read ends of what the instance writes, where the driver can tell.
#[derive(Debug, Default)]
pub struct Output {
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// A running instance.
pub trait Handle: Send + Sync {
    /// Process id of its first process, if it has one on this machine.
    fn pid(&self) -> Option<u32>;
    /// Asks it to end: SIGTERM to its first process.
    fn terminate(&self) -> Pending<'_, ()>;
    /// Ends everything in it by force.
    fn kill(&self) -> Pending<'_, ()>;
    /// Waits until nothing of it is left. May be called again, and dropped without effect.
    fn exited(&self) -> Pending<'_, Exit>;
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Its first process ended by itself, with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The driver cannot tell.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(out, "Container called exit({code})."),
            Exit::Signal(signal) => write!(out, "Container terminated on signal {signal}."),
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

    /// Makes sure that the revision's image is there. Called once before a revision's first start, and cheap when
    /// called again. Answers with the image digest, `IMAGE@sha256:…`, or the image as given.
    fn prepare<'a>(&'a self, revision: &'a Revision) -> Pending<'a, Result<String, Failure>>;

    /// Starts an instance. Runs on a thread that lives as long as the instance may.
    fn start<'a>(&'a self, order: &'a Order) -> Pending<'a, Result<Started, Failure>>;

    /// Instances that carry all of `labels`, including those that an earlier, killed runtime with the same state
    /// directory left behind.
    fn list<'a>(&'a self, labels: &'a Labels) -> Pending<'a, Vec<Listed>>;

    /// Ends an instance that was left behind, by force.
    fn remove<'a>(&'a self, instance_id: &'a str) -> Pending<'a, ()>;
}

/// An instance as [`Driver::list`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub instance_id: String,
    pub labels: Labels,
    /// A runtime that is gone left it behind.
    pub left_behind: bool,
}

/// Ends an instance: asks, waits for `grace`, then forces. Returns when nothing of it is left.
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
