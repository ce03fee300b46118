//! One container, as the runtime sees it: how it is started, asked to end, and cleared away.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use vestibule_images::{Image, Images, Ownership, ownership};

use super::cgroup::{ControlGroups, Group};
use super::helper::METADATA;
use super::instances::{Instance, Instances, lock};
use super::metadata::{self, Forwarder};
use super::outlet::Outlet;
use super::plan::{self, GO, Message, Plan, Pod, Users};
use super::quantity::Limits;
use super::route::{Address, Route};
use super::wire;
use crate::config::Program;
use crate::driver::child::{GroupChild, watch_descriptor};
use crate::driver::leftovers::{Records, Written};
use crate::driver::{Exit, Handle, InstanceNetwork, Order, Output, Pending, Processors, Started};

/// Longest time until a helper has made its container. It is 20 ms as a rule.
pub(in crate::driver) const LONGEST_START: Duration = Duration::from_secs(30);
/// Where programs are looked for if neither image nor user says: Docker's default.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Marks the helper of an instance in its environment.
const MARK: &str = "VESTIBULE_INSTANCE";

/// What containers are made with.
pub(super) struct Maker<'a> {
    pub(super) helper: &'a Program,
    pub(super) groups: &'a ControlGroups,
    pub(super) records: &'a Records,
    pub(super) instances: &'a Instances<Instance>,
    pub(super) carrier: &'a tokio::runtime::Handle,
}

/// A helper that runs, and the socket through which it speaks.
struct Helper {
    child: GroupChild,
    socket: AsyncFd<OwnedFd>,
}

/// What a helper has made.
struct Made {
    pid: i32,
    /// The container's first process.
    init: OwnedFd,
    /// If the container is the first of its instance.
    begun: Option<Begun>,
}

/// What an instance begins with.
struct Begun {
    /// User, mount and network namespace.
    namespaces: [OwnedFd; 3],
    stock: OwnedFd,
    metadata: Option<OwnedFd>,
    /// Connections, names over UDP, names over TCP.
    outlet: Option<[OwnedFd; 3]>,
}

impl Helper {
    fn start(
        program: &Program,
        id: &str,
        plan: &Plan,
        join: Option<&Instance>,
        stdout: Stdio,
        stderr: Stdio,
    ) -> io::Result<Self> {
        let (near, far) = wire::pair()?;
        let written = write_plan(plan)?;
        let mut descriptors = vec![written.as_fd()];
        descriptors.extend(join.iter().flat_map(|instance| &instance.namespaces).map(AsFd::as_fd));
        wire::send(&near, b"plan", &descriptors, true)?;
        let mut command = Command::new(&program.path);
        command.args(&program.args).env_clear().env(MARK, id);
        command.stdin(far).stdout(stdout).stderr(stderr);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = GroupChild::spawn(&mut command)?;
        Ok(Self { child, socket: watch_descriptor(near)? })
    }

    async fn hear(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        hear(&self.socket).await
    }

    /// Gets the container made, with `limit` in force before its program runs.
    async fn make(&self, plan: &Plan, limit: Option<&Group>) -> io::Result<Made> {
        let (message, descriptors) = self.hear().await?;
        let mut descriptors = descriptors.into_iter();
        let (Message::Child { pid }, Some(init)) = (&message, descriptors.next()) else {
            return Err(refusal(message));
        };
        let pid = *pid;
        // Moving it takes as long as all the rest, so both go on at once.
        let moved = limit.cloned().map(|group| tokio::task::spawn_blocking(move || group.add(pid)));
        let begun = match plan.pod {
            Pod::New { .. } => Some(self.begun(descriptors.collect(), plan).await?),
            Pod::Join => None,
        };
        if let Some(moved) = moved {
            moved.await.map_err(io::Error::other)??;
        }
        // A helper that has failed by now is gone, but not what it said.
        let _ = wire::send(self.socket.get_ref(), GO, &[], true);
        match self.hear().await? {
            (Message::Started, _) => Ok(Made { pid, init, begun }),
            (message, _) => Err(refusal(message)),
        }
    }

    async fn begun(&self, namespaces: Vec<OwnedFd>, plan: &Plan) -> io::Result<Begun> {
        let (message, descriptors) = self.hear().await?;
        let Message::Network { no_outlet } = &message else { return Err(refusal(message)) };
        let mut descriptors = descriptors.into_iter();
        let (Ok(namespaces), Some(stock)) = (namespaces.try_into(), descriptors.next()) else {
            return Err(refusal(message));
        };
        let metadata = if plan.metadata { descriptors.next() } else { None };
        let outlet = <[OwnedFd; 3]>::try_from(descriptors.collect::<Vec<_>>()).ok();
        if let Some(why) = no_outlet {
            tracing::warn!(why, "an instance reaches no network: this machine does not divert connections");
        }
        Ok(Begun { namespaces, stock, metadata, outlet })
    }

    /// Waits until nothing is left. Answers with what the helper said about the program's end.
    async fn ended(&self) -> Exit {
        let mut said = None;
        while let Ok((message, _)) = self.hear().await {
            said = match message {
                Message::Exited { code: Some(code), .. } => Some(Exit::Code(code)),
                Message::Exited { signal: Some(signal), .. } => Some(Exit::Signal(signal)),
                _ => said,
            };
        }
        let own = self.child.exited().await;
        said.unwrap_or(match own {
            Exit::Signal(signal) => Exit::Signal(signal),
            Exit::Code(_) | Exit::OutOfMemory { .. } | Exit::Unknown => Exit::Unknown,
        })
    }
}

/// The next message of a helper. At the end of all messages an error.
pub(in crate::driver) async fn hear(socket: &AsyncFd<OwnedFd>) -> io::Result<(Message, Vec<OwnedFd>)> {
    loop {
        let mut ready = socket.readable().await?;
        match wire::receive(socket.get_ref(), true) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => return Err(error),
            Ok(received) if received.bytes.is_empty() => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the helper ended without a word"));
            }
            Ok(received) => return Ok((serde_json::from_slice(&received.bytes)?, received.descriptors)),
        }
    }
}

pub(in crate::driver) fn refusal(message: Message) -> io::Error {
    match message {
        Message::Failed { message } => io::Error::other(message),
        other => io::Error::other(format!("the helper said what it should not: {other:?}")),
    }
}

pub(in crate::driver) fn write_plan(plan: &Plan) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("plan", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(plan)?)?;
    Ok(file.into())
}

impl Maker<'_> {
    pub(super) async fn start(&self, order: &Order, image: Arc<Image>) -> io::Result<Started> {
        let joined = self.instances.get(&order.instance_id);
        let limits = Limits::of(&order.container.limits);
        let server = metadata::server(&order.environment);
        let mut volumes = joined.as_ref().map(|instance| lock(&instance.volumes).clone()).unwrap_or_default();
        let (new, mounts) = volumes.add(&order.mounts, limits.memory);
        let address = if joined.is_none() { Some(Address::reserve()?) } else { None };
        let pod = address.as_ref().map_or(Pod::Join, |address| Pod::New { address: address.ip() });
        let plan =
            Plan { pod, volumes: new, mounts, metadata: server.is_some(), ..plan(order, &image, limits)? };
        let network = order.network.clone();

        let (stdout, write_stdout) = io::pipe()?;
        let (stderr, write_stderr) = io::pipe()?;
        let (write_stdout, write_stderr) = (write_stdout.into(), write_stderr.into());
        let id = &order.instance_id;
        let helper = Helper::start(self.helper, id, &plan, joined.as_deref(), write_stdout, write_stderr)?;
        // From here on something runs: whatever fails, it is cleared away before the failure is told.
        let mut held = Held { group: None, _written: None, _instance: joined, _image: image };
        let begin = self.begin(order, &helper, &plan, limits, &mut held);
        let made = match tokio::time::timeout(LONGEST_START, begin).await {
            Ok(Ok(made)) => made,
            other => {
                helper.child.kill();
                helper.child.exited().await;
                held.clear().await;
                return Err(match other {
                    Ok(Err(error)) => error,
                    _ => io::Error::new(io::ErrorKind::TimedOut, "the container was not set up in time"),
                });
            }
        };
        let instance = match (made.begun, address) {
            (Some(begun), Some(address)) => Some(self.begun(id, begun, address, (server, network))?),
            _ => held._instance.take(),
        };
        let ip = instance.as_ref().map_or(Ipv4Addr::UNSPECIFIED, |instance| {
            *lock(&instance.volumes) = volumes;
            instance.address
        });
        held._instance = instance;
        let processors = held.group.as_ref().and_then(|group| group.processors(limits));
        let processors = processors.map(|allotment| Arc::new(allotment) as Arc<dyn Processors>);
        let handle = Container { processors, ..Container::watch(helper, made.pid, made.init, held) };
        let output = Output { stdout: Some(stdout.into()), stderr: Some(stderr.into()) };
        Ok(Started { address: (ip, order.port.unwrap_or(0)).into(), output, handle: Box::new(handle) })
    }

    async fn begin(
        &self,
        order: &Order,
        helper: &Helper,
        plan: &Plan,
        limits: Limits,
        held: &mut Held,
    ) -> io::Result<Made> {
        let id = &order.instance_id;
        let marks = vec![format!("{MARK}={id}")];
        held._written = Some(self.records.write(id, helper.child.pid(), &order.labels(), marks)?);
        held.group = Some(self.groups.create(&group_name(id, &order.container.name), limits)?);
        helper.make(plan, held.group.as_ref()).await
    }

    /// The first container of an instance runs: from now on it can be reached and joined.
    fn begun(
        &self,
        id: &Arc<str>,
        begun: Begun,
        address: Address,
        (server, network): (Option<String>, Option<Arc<dyn InstanceNetwork>>),
    ) -> io::Result<Arc<Instance>> {
        let forwarder = match (begun.metadata, server) {
            (Some(listener), Some(server)) => Some(Forwarder::start(listener, server)?),
            _ => None,
        };
        let outlet = match (begun.outlet, network) {
            (Some(sockets), Some(network)) => Some(Outlet::start(sockets, network, self.carrier)),
            _ => None,
        };
        let instance = Arc::new(Instance {
            namespaces: begun.namespaces,
            address: address.ip(),
            volumes: Mutex::default(),
            _route: Route::open(address, begun.stock),
            _forwarder: forwarder,
            _outlet: outlet,
        });
        self.instances.add(id, &instance);
        Ok(instance)
    }
}

/// Name of the control group of a container. Names of containers are DNS labels, but a group's name is a path.
pub(super) fn group_name(instance_id: &str, container: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("{instance_id}.{}", container.chars().map(plain).collect::<String>())
}

/// What is held for a container, and has to go when it has gone.
struct Held {
    group: Option<Group>,
    _written: Option<Written>,
    _instance: Option<Arc<Instance>>,
    /// Keeps the layers.
    _image: Arc<Image>,
}

impl Held {
    async fn clear(mut self) {
        if let Some(group) = self.group.take() {
            // May have to wait for the kernel.
            let _ = tokio::task::spawn_blocking(move || group.remove()).await;
        }
    }
}

impl Drop for Held {
    /// The executor ended before the container, which is being killed now. Its group goes when it has, and its record
    /// after that: should this process end first, the next one finds it.
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let written = self._written.take();
            let remove = move || {
                group.remove();
                drop(written);
            };
            if let Err(error) = std::thread::Builder::new().name("clear".to_owned()).spawn(remove) {
                tracing::warn!(%error, "a control group stays");
            }
        }
    }
}

pub(in crate::driver) fn plan(order: &Order, image: &Image, limits: Limits) -> io::Result<Plan> {
    let container = &order.container;
    let command = image.config.command_line(&container.command, &container.args);
    if command.is_empty() {
        return Err(io::Error::other("the image names no program, and neither does the service"));
    }
    let mut environment =
        vec![("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), image.user.home.clone())];
    environment.extend(image.config.env.iter().cloned());
    environment.extend(order.environment.iter().cloned());
    environment.extend(order.port.map(|port| ("PORT".to_owned(), port.to_string())));
    metadata::inside(&mut environment, &METADATA.to_string());
    Ok(Plan {
        command,
        environment,
        working_dir: container.working_dir.clone().unwrap_or_else(|| image.config.working_dir.clone()),
        uid: image.user.uid,
        gid: image.user.gid,
        groups: image.user.groups.clone(),
        outlet: order.network.as_ref().map(|network| plan::Outlet { address: network.address() }),
        layers: image.layers.clone(),
        ..empty(image.layers_dir.clone(), limits)
    })
}

/// A container that runs nothing.
pub(in crate::driver) fn empty(layers_dir: PathBuf, limits: Limits) -> Plan {
    let users = match Ownership::of_this_process() {
        Ownership::Shifted => Users::Shifted { base: ownership::BASE, count: ownership::COUNT },
        Ownership::Own => Users::Own,
    };
    Plan {
        runtime: std::process::id(),
        users,
        layers_dir,
        layers: Vec::new(),
        mount_point: Images::MOUNT_POINT.to_owned(),
        writable: limits.memory,
        command: Vec::new(),
        environment: Vec::new(),
        working_dir: String::new(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        metadata: false,
        outlet: None,
        pod: Pod::New { address: Ipv4Addr::new(169, 254, 0, 1) },
        volumes: Vec::new(),
        mounts: Vec::new(),
    }
}

/// Makes a container that runs nothing, to see whether this machine allows it. Blocks for some milliseconds.
pub(super) fn try_out(program: &Program, images: &Images) -> io::Result<()> {
    let plan = empty(images.layers_dir().to_owned(), Limits { cpu: 1_000, memory: 1 << 20 });
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let helper = Helper::start(program, "probe", &plan, None, Stdio::null(), Stdio::null())?;
            let made = tokio::time::timeout(LONGEST_START, helper.make(&plan, None)).await;
            let made = made.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            let ended = helper.ended().await;
            match (made, ended) {
                (Ok(_), Exit::Code(0)) => Ok(()),
                (Ok(_), other) => Err(io::Error::other(format!("the trial container failed: {other}"))),
                (Err(error), _) => Err(error),
            }
        })
    };
    // A thread of its own: the caller may be inside an executor.
    let joined = std::thread::scope(|scope| scope.spawn(run).join());
    joined.unwrap_or_else(|_| Err(io::Error::other("the trial of a container panicked")))
}

/// A container that was started.
struct Container {
    pid: i32,
    init: OwnedFd,
    exit: watch::Receiver<Option<Exit>>,
    /// It was asked to end and has no handler for that, so it was ended.
    obeyed: Arc<AtomicBool>,
    processors: Option<Arc<dyn Processors>>,
    /// Ends the container when nobody is left to.
    _gone: tokio::sync::oneshot::Sender<()>,
}

impl Container {
    fn watch(helper: Helper, pid: i32, init: OwnedFd, held: Held) -> Self {
        let (sender, exit) = watch::channel(None);
        let (keep, mut gone) = tokio::sync::oneshot::channel::<()>();
        let obeyed = Arc::new(AtomicBool::new(false));
        let told = obeyed.clone();
        tokio::spawn(async move {
            let exit = tokio::select! {
                exit = helper.ended() => exit,
                _ = &mut gone => {
                    helper.child.kill();
                    helper.ended().await
                }
            };
            let exit = match held.group.as_ref().and_then(Group::out_of_memory) {
                Some(memory) if exit == Exit::Signal(Signal::KILL.as_raw()) => {
                    Exit::OutOfMemory { limit: memory.limit, used: memory.used }
                }
                _ if told.load(Ordering::Relaxed) && exit == Exit::Signal(Signal::KILL.as_raw()) => {
                    Exit::Signal(Signal::TERM.as_raw())
                }
                _ => exit,
            };
            held.clear().await;
            sender.send_replace(Some(exit));
        });
        Self { pid, init, exit, obeyed, processors: None, _gone: keep }
    }

    /// Whether its first process does anything about SIGTERM but what the kernel does by default.
    fn minds_sigterm(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        minds(&status, Signal::TERM)
    }
}

/// Whether a process with this `/proc/PID/status` catches, blocks or ignores a signal.
fn minds(status: &str, signal: Signal) -> bool {
    let bit = 1_u64 << (signal.as_raw() - 1);
    status.lines().any(|line| {
        let mask = ["SigBlk:", "SigIgn:", "SigCgt:"].into_iter().find_map(|name| line.strip_prefix(name));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & bit != 0)
    })
}

impl Handle for Container {
    fn pid(&self) -> Option<u32> {
        u32::try_from(self.pid).ok()
    }

    fn processors(&self) -> Option<Arc<dyn Processors>> {
        self.processors.clone()
    }

    fn terminate(&self) -> Pending<'_, ()> {
        Box::pin(async {
            if self.minds_sigterm() {
                // The only error that can be is that it has ended.
                let _ = pidfd_send_signal(&self.init, Signal::TERM);
            } else {
                self.obeyed.store(true, Ordering::Relaxed);
                let _ = pidfd_send_signal(&self.init, Signal::KILL);
            }
        })
    }

    fn kill(&self) -> Pending<'_, ()> {
        Box::pin(async {
            // With the first process of a process namespace the kernel ends all others.
            let _ = pidfd_send_signal(&self.init, Signal::KILL);
        })
    }

    fn exited(&self) -> Pending<'_, Exit> {
        let mut exit = self.exit.clone();
        Box::pin(async move {
            match exit.wait_for(Option::is_some).await {
                Ok(exit) => exit.unwrap_or(Exit::Unknown),
                Err(_) => Exit::Unknown,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_who_minds_a_signal() {
        let status = |blocked: u64, ignored: u64, caught: u64| {
            format!("Name:\tx\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n")
        };
        let term = 1 << 14;
        assert!(!minds(&status(0, 0, 0), Signal::TERM));
        assert!(!minds(&status(!term, !term, !term), Signal::TERM));
        for (blocked, ignored, caught) in [(term, 0, 0), (0, term, 0), (0, 0, term)] {
            assert!(minds(&status(blocked, ignored, caught), Signal::TERM));
        }
        assert!(!minds("", Signal::TERM));
    }
}
