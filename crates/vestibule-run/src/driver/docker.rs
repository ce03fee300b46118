//! Instances as containers of an engine on this machine: Docker, or another with its API.
//!
//! For machines where Vestibule may not make containers itself, but a user may ask an engine to. Instances live by the
//! same contract as those of [`super::container`], because what makes the contract is the same code, run elsewhere: the
//! first process of every container is this binary ([`inside`]), which does there what the helper does otherwise.
//!
//! | module | what it holds |
//! |---|---|
//! | [`inside`] | the first process of a container |
//! | `engine`, `http` | what is asked of the engine, and how |
//! | `program` | what this binary needs to run in any image |
//! | `instance` | how containers are started and ended |
//! | `volumes`, `folder` | what is mounted into them |
//!
//! **Images** are resolved, got and checked by [`vestibule_images`] as for every driver, and handed to the engine from
//! the store: a tag means the same whoever runs it, `oci:` and archives work, and the engine needs no credentials.
//!
//! **Network.** Containers have none of the engine's (`none`): nothing but this process reaches them, and what they
//! connect to is carried by it. That needs no address, no port and no firewall rule of the machine. Containers of one
//! instance share the network of its first.
//!
//! **The engine** holds limits, capabilities and its own filter of system calls; ours come on top. What it cannot do:
//! a container's base is written to on disk, in a layer that goes with it, and only `/tmp` is in memory; root in a
//! container is root of the machine unless the engine is told otherwise (rootless, or `userns-remap`); processors are
//! taken away between requests only where this process may change the engine's control groups.
//!
//! **Ends.** A container ends with the runtime, because its first process sees the socket close, and the engine removes
//! it (`AutoRemove`). Labels say whose it is, for what is left after worse.

mod engine;
mod folder;
mod http;
pub mod inside;
mod instance;
mod program;
mod volumes;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use vestibule_images::{Image, Images};

use super::carrier::Carrier;
use super::container::cgroup::{MAX_PROCESSES, PERIOD, quota};
use super::container::init::{HOSTNAME, OOM_SCORE};
use super::container::instance::{empty, plan};
use super::container::instances::Instances;
use super::container::plan::{Plan, Pod, Users};
use super::container::quantity::Limits;
use super::container::route::Address;
use super::container::{creation, metadata};
use super::leftovers::{is_gone, own_label};
use super::prepared::Prepared;
use super::{Driver, Failure, LABEL_INSTANCE, Labels, Listed, Order, Owner, Pending, Started};
use crate::config::Program;
use crate::desired::Container;
use engine::Engine;
use folder::Base;
pub use inside::run_inside;
use instance::{Held, Instance, Made, Meeting};
use program::Carried;
use volumes::Volumes;

/// Label: the state directory of the runtime that made it.
const LABEL_STATE: &str = "vestibule/state";
/// Label: the process that made it.
const LABEL_OWNER: &str = "vestibule/owner";
/// Capabilities that a program with root in its container keeps, and what the first process needs to set the network
/// up, and gives up before the program runs.
const CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Bytes of shared memory. Docker's default.
const SHARED: u64 = 64 << 20;
/// Thousandths of a processor and bytes for the trial.
const TRIAL: Limits = Limits { cpu: 1_000, memory: 64 << 20 };

/// Starts containers of an engine.
pub struct DockerDriver {
    engine: Engine,
    program: Carried,
    images: Prepared,
    base: Base,
    labels: Labels,
    instances: Instances<Instance>,
    carrier: Carrier,
}

/// A container that is to be made.
struct Wanted {
    /// The engine's name of the image.
    image: String,
    labels: Labels,
    plan: Plan,
    limits: Limits,
    mounts: Vec<Value>,
    /// The container whose network it is to be in.
    join: Option<String>,
}

impl DockerDriver {
    /// A driver for the engine at `DOCKER_HOST` or the usual place, that keeps images under `state_dir`. `program` is
    /// this binary with words that make it call [`run_inside`]. Makes a container, to see whether that works: fails
    /// with a reason where it does not. Blocks for about a second.
    pub fn open(state_dir: &Path, program: &Program) -> io::Result<Self> {
        Self::open_at(&engine::place()?, state_dir, program)
    }

    /// The same for the engine behind this socket.
    pub fn open_at(socket: &Path, state_dir: &Path, program: &Program) -> io::Result<Self> {
        let carrier = Carrier::start()?;
        std::fs::create_dir_all(state_dir)?;
        let state_dir = state_dir.canonicalize()?;
        let labels = Labels::from([
            (LABEL_STATE.to_owned(), state_dir.display().to_string()),
            (LABEL_OWNER.to_owned(), own_label()?),
        ]);
        // A thread of its own: the caller may be inside an executor.
        let connect = || carrier.handle().block_on(Engine::connect(socket));
        let engine = on_a_thread(connect)?;
        let driver = Self {
            engine,
            program: Carried::find(program)?,
            images: Prepared::new(Arc::new(Images::open(&state_dir)?)),
            base: Base::open(&state_dir)?,
            labels,
            instances: Instances::default(),
            carrier,
        };
        let failed = |error: io::Error| {
            let engine = driver.engine.describe();
            io::Error::new(error.kind(), format!("{engine} does not run a trial container: {error}"))
        };
        on_a_thread(|| driver.carrier.handle().block_on(driver.try_out())).map_err(failed)?;
        Ok(driver)
    }

    /// Name, version and place of the engine.
    pub fn describe(&self) -> String {
        self.engine.describe()
    }

    /// Makes a container that runs nothing.
    async fn try_out(&self) -> io::Result<()> {
        let nothing = self.images.store().nothing().map_err(io::Error::other)?;
        let address = Address::reserve()?;
        let wanted = Wanted {
            image: nothing.name(),
            // Whatever has it is removed by the next start, this one too if it is cut short.
            labels: [(LABEL_INSTANCE.to_owned(), "trial".to_owned())]
                .into_iter()
                .chain(self.labels.clone())
                .collect(),
            plan: Plan {
                pod: Pod::New { address: address.ip() },
                users: USERS,
                ..empty(PathBuf::new(), TRIAL)
            },
            limits: TRIAL,
            mounts: Vec::new(),
            join: None,
        };
        self.engine.load(nothing).await?;
        let volumes = self.volumes(&self.labels)?;
        let (made, held) = self.make(&wanted, volumes, None).await?;
        let container = instance::Container::watch(made.socket, held, TRIAL);
        match super::Handle::exited(&container).await {
            super::Exit::Code(0) => Ok(()),
            other => Err(io::Error::other(other.to_string())),
        }
    }

    fn volumes(&self, labels: &Labels) -> io::Result<Arc<Volumes>> {
        Ok(Arc::new(Volumes::new(&self.engine, self.carrier.handle(), &self.base, labels.clone())?))
    }

    async fn run(&self, order: &Order, image: Arc<Image>) -> io::Result<Started> {
        let joined = self.instances.get(&order.instance_id);
        let limits = Limits::of(&order.container.limits);
        let server = metadata::server(&order.environment);
        let address = if joined.is_none() { Some(Address::reserve()?) } else { None };
        let pod = address.as_ref().map_or(Pod::Join, |address| Pod::New { address: address.ip() });
        let labels: Labels = order.labels().into_iter().chain(self.labels.clone()).collect();
        let volumes = match &joined {
            Some(instance) => instance.volumes.clone(),
            None => self.volumes(&labels)?,
        };
        let wanted = Wanted {
            image: image.export().name(),
            labels,
            mounts: volumes.mounts(&order.mounts, limits.memory).await?,
            plan: Plan { pod, users: USERS, metadata: server.is_some(), ..plan(order, &image, limits)? },
            limits,
            join: joined.as_ref().map(|instance| instance.network.clone()),
        };
        let (Made { socket, output, begun }, mut held) =
            self.make(&wanted, volumes.clone(), Some(image)).await?;
        let instance = match (begun, address, joined) {
            (Some(begun), Some(address), _) => {
                let ways = (server, order.network.clone());
                let network = held.id().to_owned();
                let instance =
                    Arc::new(begun.instance(network, address, volumes, ways, self.carrier.handle())?);
                self.instances.add(&order.instance_id, &instance);
                instance
            }
            (_, _, Some(joined)) => joined,
            _ => return Err(io::Error::other("the first container of an instance set up no network")),
        };
        let ip = instance.address;
        held.keep(instance);
        let handle = Box::new(instance::Container::watch(socket, held, limits));
        Ok(Started { address: (ip, order.port.unwrap_or(0)).into(), output, handle })
    }

    /// Makes a container and starts its program. Whatever fails, nothing is left of it.
    async fn make(
        &self,
        wanted: &Wanted,
        volumes: Arc<Volumes>,
        image: Option<Arc<Image>>,
    ) -> io::Result<(Made, Held)> {
        let meeting = Meeting::open(&self.base)?;
        let container = self.describe_container(wanted, &meeting);
        let id = match (self.engine.create(container.clone()).await, &image) {
            // Somebody has removed it from the engine since.
            (Err(error), Some(image)) if error.kind() == io::ErrorKind::NotFound => {
                self.engine.load(image.export()).await?;
                self.engine.create(container).await?
            }
            (created, _) => created?,
        };
        let held = Held::new(&self.engine, self.carrier.handle(), id, volumes, image);
        match instance::start(&self.engine, held.id(), meeting, &wanted.plan).await {
            Ok(made) => Ok((made, held)),
            Err(error) => {
                held.clear().await;
                Err(error)
            }
        }
    }

    /// The container as the engine is told of it.
    fn describe_container(&self, wanted: &Wanted, meeting: &Meeting) -> Value {
        let memory = wanted.limits.memory;
        let mounts: Vec<Value> = instance::own_mounts(meeting, &self.program.files)
            .into_iter()
            .chain(wanted.mounts.clone())
            .collect();
        let mut host = json!({
            "AutoRemove": true,
            "CapAdd": CAPABILITIES,
            "CapDrop": ["ALL"],
            "CpuPeriod": PERIOD,
            "CpuQuota": quota(wanted.limits),
            // Ours is the first process.
            "Init": false,
            "LogConfig": { "Type": "none" },
            "Memory": memory,
            // With swap: none.
            "MemorySwap": memory,
            "Mounts": mounts,
            "OomScoreAdj": OOM_SCORE.parse::<i32>().unwrap_or_default(),
            // And the two threads of ours.
            "PidsLimit": MAX_PROCESSES + 2,
            "SecurityOpt": ["no-new-privileges"],
            "ShmSize": SHARED,
            "Tmpfs": { "/tmp": format!("rw,nosuid,nodev,exec,mode=1777,size={memory}") },
        });
        let mut container = json!({
            "Cmd": [],
            "Entrypoint": self.program.command,
            "Image": wanted.image,
            "Labels": wanted.labels,
            "User": "0:0",
            "WorkingDir": "/",
        });
        match &wanted.join {
            Some(network) => host["NetworkMode"] = format!("container:{network}").into(),
            None => {
                container["Hostname"] = HOSTNAME.into();
                host["NetworkMode"] = "none".into();
                // A program that is not root may listen on port 80, as in Cloud Run.
                host["Sysctls"] = json!({ "net.ipv4.ip_unprivileged_port_start": "0" });
            }
        }
        container["HostConfig"] = host;
        container
    }

    /// Removes what carries these labels, and whose owner is gone.
    async fn remove_left(&self, mut labels: Labels) -> io::Result<()> {
        labels.insert(LABEL_STATE.to_owned(), self.labels[LABEL_STATE].clone());
        let left = |labels: &Labels| labels.get(LABEL_OWNER).is_some_and(|owner| is_gone(owner));
        for (id, _) in self.engine.containers(&labels).await?.iter().filter(|(_, labels)| left(labels)) {
            self.engine.remove(id).await?;
        }
        for (name, _) in self.engine.volumes(&labels).await?.iter().filter(|(_, labels)| left(labels)) {
            self.engine.remove_volume(name).await?;
        }
        Ok(())
    }
}

/// The engine's users are what they are: root in a container is its root.
const USERS: Users = Users::Shifted { base: 0, count: u32::MAX };

fn on_a_thread<T: Send>(run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let joined = std::thread::scope(|scope| scope.spawn(run).join());
    joined.unwrap_or_else(|_| Err(io::Error::other("asking the engine panicked")))
}

impl Driver for DockerDriver {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn has_networks(&self) -> bool {
        true
    }

    fn prepare<'a>(
        &'a self,
        owner: &'a Owner,
        container: &'a Container,
    ) -> Pending<'a, Result<String, Failure>> {
        Box::pin(async move {
            let image = self.images.get(owner, container).await?;
            self.engine.load(image.export()).await.map_err(|error| Failure {
                reason: "ContainerMissing".to_owned(),
                message: format!("Image '{}' cannot be used: {error}.", container.image),
                transient: true,
            })?;
            Ok(image.name.clone())
        })
    }

    fn start<'a>(&'a self, order: &'a Order) -> Pending<'a, Result<Started, Failure>> {
        Box::pin(async move {
            let image = self.images.get(&order.owner, &order.container).await?;
            self.run(order, image).await.map_err(|error| creation(order, &error))
        })
    }

    fn list<'a>(&'a self, labels: &'a Labels) -> Pending<'a, Vec<Listed>> {
        Box::pin(async move {
            let mut wanted = labels.clone();
            wanted.insert(LABEL_STATE.to_owned(), self.labels[LABEL_STATE].clone());
            let found = self.engine.containers(&wanted).await.unwrap_or_else(|error| {
                tracing::error!(%error, "the engine does not list its containers");
                Vec::new()
            });
            let listed = found.into_iter().filter_map(|(_, mut labels)| {
                let left_behind = labels.remove(LABEL_OWNER).is_some_and(|owner| is_gone(&owner));
                labels.remove(LABEL_STATE);
                Some(Listed { instance_id: labels.get(LABEL_INSTANCE)?.clone(), labels, left_behind })
            });
            listed.collect()
        })
    }

    fn remove<'a>(&'a self, instance_id: &'a str) -> Pending<'a, ()> {
        Box::pin(async move {
            let labels = BTreeMap::from([(LABEL_INSTANCE.to_owned(), instance_id.to_owned())]);
            if let Err(error) = self.remove_left(labels).await {
                tracing::error!(%error, "a container that was left behind was not removed");
            }
        })
    }
}
