//! Instances as containers.
//!
//! An image's program runs in user, mount, process, network, host name and IPC namespaces of its own, on a read-only
//! base with a writable layer in memory, with limits on processors, memory and processes, without capabilities that
//! matter, behind a filter of system calls, and with no way to gain privileges. It needs no daemon, and no root where
//! the machine lets ordinary users make user namespaces.
//!
//! | module | what it holds |
//! |---|---|
//! | [`helper`] | the process that makes one container and lives as long as it |
//! | `init` | the container's first process, until it becomes the image's program |
//! | `mounts`, `privileges`, `filter` | what it sees, what it may, what it can ask of the kernel |
//! | `cgroup`, `quantity` | how much of the machine it gets |
//! | [`route`], `link`, `metadata`, `outlet` | its network: how it is reached, and what it can reach |
//! | `instance`, `instances`, `pod` | how containers are started and ended, and what those of one instance share |
//! | `plan`, `wire`, `clone` | what runtime and helper say to each other, and the unsafe calls |
//!
//! **Why not `libcontainer`.** It was tried first. Without C libraries it builds, and adds 46 crates (among them a
//! protobuf compiler and bindings to CRIU) and 80 s of processor time to a first build; but then it has no filter of
//! system calls, since it gets that from libseccomp alone. Mounting an overlay, sockets in the container's network and
//! moving into control groups while the container sets itself up would still be ours. What is left is what these
//! modules do.
//!
//! **Network.** A container has a loopback link and nothing else. It is reachable through [`route::connect`] only. What
//! it connects to ends at a listener of this process, which carries it on ([`InstanceNetwork`]): to the internet, to a
//! VPC network, or nowhere. So a container needs no link, no address and no rule on the machine, and the same way out
//! works with and without root. TCP and names only: other datagrams are refused where they are sent.
//!
//! **Root.** The container's root is user 2,000,000,000 of the machine where the server runs as root
//! ([`vestibule_images::Ownership`]), and the user of the server otherwise. Then the image has one user, whom it sees
//! under the id that it asked for.
//!
//! **The first process** of a container is the image's program, as in Cloud Run. The kernel does not end a first
//! process on a signal for which it has no handler, so a program without one would make every stop wait for the whole
//! grace period. Such a program is ended at once, as it would be outside of a container.

mod cgroup;
pub(crate) mod clone;
mod filter;
pub mod helper;
mod init;
mod instance;
mod instances;
mod link;
mod metadata;
mod mounts;
mod outlet;
mod plan;
mod pod;
mod privileges;
mod quantity;
pub mod route;
mod wire;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;
use vestibule_images::error::Kind;
use vestibule_images::{Freshness, Image, ImageError, Images, Progress};

use super::leftovers::Records;
use super::{Driver, Failure, LABEL_CONTAINER, Labels, Listed, Order, Owner, Pending, Started};
use crate::config::Program;
use crate::desired::Container;
use cgroup::ControlGroups;
pub use helper::run_helper;
use instances::{Instances, lock};

/// Where records of containers are, inside the state directory.
const FOLDER: &str = "run/containers";
/// How often the log tells how far an image is.
const PROGRESS: Duration = Duration::from_secs(2);

/// An image that is being got, or was.
type Prepared = Arc<OnceCell<Arc<Image>>>;

/// Starts containers.
pub struct ContainerDriver {
    helper: Program,
    images: Arc<Images>,
    groups: ControlGroups,
    records: Records,
    instances: Instances,
    /// Carries what containers send. A thread of its own: what one of them moves must not keep starts waiting.
    carrier: Option<Runtime>,
    /// By owner and image reference.
    prepared: Mutex<HashMap<(String, String), Prepared>>,
}

impl ContainerDriver {
    /// A driver that keeps images and records under `state_dir`. `helper` is a program that calls [`run_helper`].
    /// Fails where the machine does not allow containers; the error says why.
    pub fn open(state_dir: &Path, helper: Program) -> io::Result<Self> {
        let images = Arc::new(Images::open(state_dir)?);
        instance::try_out(&helper, &images)?;
        let groups = ControlGroups::find();
        let missing: Vec<_> = groups.missing().iter().map(ToString::to_string).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            tracing::warn!(
                missing,
                "containers run without these limits: no control groups that we may write to"
            );
        }
        let records = Records::open_in(state_dir, FOLDER)?;
        let mut carrier = Builder::new_multi_thread();
        let carrier = carrier.worker_threads(1).thread_name("run-egress").enable_all().build()?;
        let carrier = Some(carrier);
        let (instances, prepared) = (Instances::default(), Mutex::default());
        Ok(Self { helper, images, groups, records, instances, carrier, prepared })
    }

    /// The images of the state directory.
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// Which of `cpu`, `memory` and `pids` cannot be limited on this machine.
    pub fn missing_limits(&self) -> Vec<String> {
        self.groups.missing().iter().map(ToString::to_string).collect()
    }

    /// The image of a container. Whoever comes second waits for the first.
    async fn image(&self, owner: &Owner, container: &Container) -> Result<Arc<Image>, Failure> {
        let key = (name(owner), container.image.clone());
        let cell = lock(&self.prepared).entry(key).or_default().clone();
        let image = cell.get_or_try_init(|| self.resolve(owner, container)).await?;
        Ok(image.clone())
    }

    async fn resolve(&self, owner: &Owner, container: &Container) -> Result<Arc<Image>, Failure> {
        // What was never ready is being deployed, and that is when a tag is looked up.
        let freshness = if owner.is_proven() { Freshness::Stored } else { Freshness::Newest };
        let (images, name, reference) = (self.images.clone(), name(owner), container.image.clone());
        let resolve = move || {
            let said = Mutex::new(None);
            images.resolve_for(&name, &reference, freshness, &|progress| say(&said, &reference, progress))
        };
        let resolved = tokio::task::spawn_blocking(resolve).await;
        let resolved = resolved.unwrap_or_else(|error| Err(io::Error::other(error).into()));
        resolved.map(Arc::new).map_err(|error| missing(container, &error))
    }
}

impl Drop for ContainerDriver {
    fn drop(&mut self) {
        self.groups.leave();
        if let Some(carrier) = self.carrier.take() {
            // May be dropped by a task, which must not wait.
            carrier.shutdown_background();
        }
    }
}

/// A name for what a container belongs to that nothing else has.
fn name(owner: &Owner) -> String {
    format!("{}/{}/{}", owner.project(), owner.region(), owner.name())
}

/// Tells the log how far an image is, but not too often.
fn say(said: &Mutex<Option<Instant>>, reference: &str, progress: Progress) {
    let mut said = lock(said);
    let last = matches!(progress, Progress::Pulling { done, total } if done == total && total > 0);
    if !last && said.is_some_and(|said| said.elapsed() < PROGRESS) {
        return;
    }
    *said = Some(Instant::now());
    match progress {
        Progress::Pulling { total: 0, .. } => {}
        Progress::Pulling { done, total } => {
            tracing::info!(image = reference, done, total, percent = done * 100 / total, "pulling");
        }
        Progress::Unpacking { done, total } => {
            tracing::info!(image = reference, done, total, "unpacking layers")
        }
    }
}

impl Driver for ContainerDriver {
    fn name(&self) -> &'static str {
        "container"
    }

    fn has_networks(&self) -> bool {
        true
    }

    fn prepare<'a>(
        &'a self,
        owner: &'a Owner,
        container: &'a Container,
    ) -> Pending<'a, Result<String, Failure>> {
        Box::pin(async move { Ok(self.image(owner, container).await?.name.clone()) })
    }

    fn start<'a>(&'a self, order: &'a Order) -> Pending<'a, Result<Started, Failure>> {
        Box::pin(async move {
            let image = self.image(&order.owner, &order.container).await?;
            let maker = instance::Maker {
                helper: &self.helper,
                groups: &self.groups,
                records: &self.records,
                instances: &self.instances,
                carrier: self.carrier.as_ref().map(Runtime::handle),
            };
            maker.start(order, image).await.map_err(|error| creation(order, &error))
        })
    }

    fn list<'a>(&'a self, labels: &'a Labels) -> Pending<'a, Vec<Listed>> {
        Box::pin(async move { self.records.list(labels) })
    }

    fn remove<'a>(&'a self, instance_id: &'a str) -> Pending<'a, ()> {
        Box::pin(async move {
            let (records, groups, id) = (self.records.clone(), self.groups.clone(), instance_id.to_owned());
            let remove = move || {
                for record in records.all().iter().filter(|record| record.instance_id == id) {
                    if records.is_left_behind(record) {
                        let container = record.labels.get(LABEL_CONTAINER).map_or("", String::as_str);
                        records.remove(record);
                        groups.clear(&instance::group_name(&id, container));
                    }
                }
            };
            if let Err(error) = tokio::task::spawn_blocking(remove).await {
                tracing::error!(%error, "a container that was left behind was not removed");
            }
        })
    }
}

/// There is no image to run.
fn missing(container: &Container, error: &ImageError) -> Failure {
    let message = match error.kind {
        Kind::NotFound => error.message.clone(),
        _ => format!("Image '{}' cannot be used: {}.", container.image, error.chain()),
    };
    Failure { reason: "ContainerMissing".to_owned(), message, transient: error.is_transient() }
}

/// The machine did not start the container, or the image's program cannot be run.
fn creation(order: &Order, error: &io::Error) -> Failure {
    Failure {
        reason: "ContainerCreationError".to_owned(),
        message: format!(
            "Cannot start container '{}' of {}: {error}.",
            order.container.name,
            order.owner.describe()
        ),
        transient: true,
    }
}
