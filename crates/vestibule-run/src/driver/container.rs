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

pub(super) mod cgroup;
pub(crate) mod clone;
mod filter;
pub mod helper;
pub(super) mod init;
pub(super) mod instance;
pub(super) mod instances;
mod link;
pub(super) mod metadata;
mod mounts;
pub(super) mod outlet;
pub(super) mod plan;
pub(super) mod pod;
mod privileges;
pub(super) mod quantity;
pub mod route;
pub(super) mod wire;

use std::io;
use std::path::Path;
use std::sync::Arc;

use vestibule_images::Images;

use super::carrier::Carrier;
use super::leftovers::Records;
use super::prepared::Prepared;
use super::{Driver, Failure, LABEL_CONTAINER, Labels, Listed, Order, Owner, Pending, Started};
use crate::config::Program;
use crate::desired::Container;
use cgroup::ControlGroups;
pub use helper::run_helper;
use instances::Instances;

/// Where records of containers are, inside the state directory.
const FOLDER: &str = "run/containers";

/// Starts containers.
pub struct ContainerDriver {
    helper: Program,
    images: Prepared,
    groups: ControlGroups,
    records: Records,
    instances: Instances<instances::Instance>,
    carrier: Carrier,
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
        let carrier = Carrier::start()?;
        let (images, instances) = (Prepared::new(images), Instances::default());
        Ok(Self { helper, images, groups, records, instances, carrier })
    }

    /// The images of the state directory.
    pub fn images(&self) -> &Arc<Images> {
        self.images.store()
    }

    /// Which of `cpu`, `memory` and `pids` cannot be limited on this machine.
    pub fn missing_limits(&self) -> Vec<String> {
        self.groups.missing().iter().map(ToString::to_string).collect()
    }
}

impl Drop for ContainerDriver {
    fn drop(&mut self) {
        self.groups.leave();
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
        Box::pin(async move { Ok(self.images.get(owner, container).await?.name.clone()) })
    }

    fn start<'a>(&'a self, order: &'a Order) -> Pending<'a, Result<Started, Failure>> {
        Box::pin(async move {
            let image = self.images.get(&order.owner, &order.container).await?;
            let maker = instance::Maker {
                helper: &self.helper,
                groups: &self.groups,
                records: &self.records,
                instances: &self.instances,
                carrier: self.carrier.handle(),
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

/// The machine did not start the container, or the image's program cannot be run.
pub(super) fn creation(order: &Order, error: &io::Error) -> Failure {
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
