//! One container of an engine, as the runtime sees it: how it is started, asked to end, and cleared away.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle as Executor;
use tokio::sync::{Notify, oneshot, watch};
use vestibule_images::Image;

use super::engine::Engine;
use super::folder::{Base, Folder};
use super::inside::{KILL, MEETING, SOCKET, TERMINATE};
use super::volumes::Volumes;
use crate::driver::child::watch_descriptor;
use crate::driver::container::cgroup::Allotment;
use crate::driver::container::instance::{LONGEST_START, hear, refusal, write_plan};
use crate::driver::container::metadata::Forwarder;
use crate::driver::container::outlet::Outlet;
use crate::driver::container::plan::{Message, Plan, Pod};
use crate::driver::container::quantity::Limits;
use crate::driver::container::route::{Address, Route};
use crate::driver::container::wire;
use crate::driver::{Exit, Handle, InstanceNetwork, Output, Pending, Processors};

/// How long a container may take to end after it was told to, before the engine is asked to end it.
const LONGEST_KILL: Duration = Duration::from_secs(5);

/// An instance. Its containers hold it.
#[derive(Debug)]
pub(super) struct Instance {
    /// The engine's id of the container whose network it is.
    pub(super) network: String,
    /// The address under which it is reached.
    pub(super) address: Ipv4Addr,
    pub(super) volumes: Arc<Volumes>,
    pub(super) _route: Route,
    pub(super) _forwarder: Option<Forwarder>,
    pub(super) _outlet: Option<Outlet>,
}

/// Where a container meets the runtime.
pub(super) struct Meeting {
    folder: Folder,
    listener: AsyncFd<OwnedFd>,
}

/// What a container was started with and says.
pub(super) struct Made {
    pub(super) socket: AsyncFd<OwnedFd>,
    pub(super) output: Output,
    /// If it is the first of its instance.
    pub(super) begun: Option<Begun>,
}

/// What an instance begins with.
pub(super) struct Begun {
    stock: OwnedFd,
    metadata: Option<OwnedFd>,
    /// Connections, names over UDP, names over TCP.
    outlet: Option<[OwnedFd; 3]>,
}

impl Meeting {
    pub(super) fn open(base: &Base) -> io::Result<Self> {
        let folder = base.folder()?;
        let path = folder.make(MEETING)?.join(SOCKET);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&listener, &SocketAddrUnix::new(&path)?)?;
        // The container's root may be another user here. Nobody but it is shown the folder.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        listen(&listener, 1)?;
        Ok(Self { folder, listener: watch_descriptor(listener)? })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(MEETING)
    }

    /// The first who comes. Nobody else can after that.
    async fn meet(self) -> io::Result<OwnedFd> {
        loop {
            let mut ready = self.listener.readable().await?;
            match accept_with(self.listener.get_ref(), SocketFlags::CLOEXEC) {
                Err(rustix::io::Errno::WOULDBLOCK) => ready.clear_ready(),
                other => return Ok(other?),
            }
        }
    }
}

/// Starts a container that was created, and its program in it.
pub(super) async fn start(engine: &Engine, id: &str, meeting: Meeting, plan: &Plan) -> io::Result<Made> {
    let begin = async {
        let (started, socket) = tokio::join!(engine.start(id), async {
            tokio::select! {
                met = meeting.meet() => met,
                ended = early_end(engine, id) => Err(ended),
            }
        });
        started?;
        talk(socket?, plan).await
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the container was not set up in time");
    tokio::time::timeout(LONGEST_START, begin).await.unwrap_or_else(|_| Err(late()))
}

/// A container that ends before it has said anything. One that was not started has not ended.
async fn early_end(engine: &Engine, id: &str) -> io::Error {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match engine.wait(id).await {
            Ok(code) => {
                return io::Error::other(format!(
                    "the container ended without a word, with code {code}: the engine must be on this machine and \
                     see its files"
                ));
            }
            Err(error) => tracing::debug!(%error, "waiting for a container"),
        }
    }
}

async fn talk(socket: OwnedFd, plan: &Plan) -> io::Result<Made> {
    let (stdout, write_stdout) = io::pipe()?;
    let (stderr, write_stderr) = io::pipe()?;
    let written = write_plan(plan)?;
    wire::send(&socket, b"plan", &[written.as_fd(), write_stdout.as_fd(), write_stderr.as_fd()], true)?;
    drop((write_stdout, write_stderr));
    let socket = watch_descriptor(socket)?;
    let begun = match plan.pod {
        Pod::New { .. } => Some(begun(&socket, plan).await?),
        Pod::Join => None,
    };
    match hear(&socket).await? {
        (Message::Started, _) => {}
        (message, _) => return Err(refusal(message)),
    }
    let output = Output { stdout: Some(stdout.into()), stderr: Some(stderr.into()) };
    Ok(Made { socket, output, begun })
}

async fn begun(socket: &AsyncFd<OwnedFd>, plan: &Plan) -> io::Result<Begun> {
    let (message, descriptors) = hear(socket).await?;
    let Message::Network { no_outlet } = &message else { return Err(refusal(message)) };
    let mut descriptors = descriptors.into_iter();
    let Some(stock) = descriptors.next() else { return Err(refusal(message)) };
    let metadata = if plan.metadata { descriptors.next() } else { None };
    let outlet = <[OwnedFd; 3]>::try_from(descriptors.collect::<Vec<_>>()).ok();
    if let Some(why) = no_outlet {
        tracing::warn!(why, "an instance reaches no network: this machine does not divert connections");
    }
    Ok(Begun { stock, metadata, outlet })
}

impl Begun {
    /// From now on the instance can be reached and joined.
    pub(super) fn instance(
        self,
        network: String,
        address: Address,
        volumes: Arc<Volumes>,
        (server, way_out): (Option<String>, Option<Arc<dyn InstanceNetwork>>),
        carrier: &Executor,
    ) -> io::Result<Instance> {
        let forwarder = match (self.metadata, server) {
            (Some(listener), Some(server)) => Some(Forwarder::start(listener, server)?),
            _ => None,
        };
        let outlet = match (self.outlet, way_out) {
            (Some(sockets), Some(network)) => Some(Outlet::start(sockets, network, carrier)),
            _ => None,
        };
        let ip = address.ip();
        let route = Route::open(address, self.stock);
        Ok(Instance { network, address: ip, volumes, _route: route, _forwarder: forwarder, _outlet: outlet })
    }
}

/// A container that the engine has made, and what it holds. Removed when this is gone.
pub(super) struct Held {
    engine: Engine,
    carrier: Executor,
    /// Empty once it is removed.
    id: String,
    kept: Option<Kept>,
}

/// What goes after a container.
struct Kept {
    _volumes: Arc<Volumes>,
    instance: Option<Arc<Instance>>,
    /// Keeps the layers.
    _image: Option<Arc<Image>>,
}

impl Held {
    pub(super) fn new(
        engine: &Engine,
        carrier: &Executor,
        id: String,
        volumes: Arc<Volumes>,
        image: Option<Arc<Image>>,
    ) -> Self {
        let (engine, carrier) = (engine.clone(), carrier.clone());
        let kept = Some(Kept { _volumes: volumes, instance: None, _image: image });
        Self { engine, carrier, id, kept }
    }

    /// The engine's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn keep(&mut self, instance: Arc<Instance>) {
        if let Some(kept) = &mut self.kept {
            kept.instance = Some(instance);
        }
    }

    pub(super) async fn clear(mut self) {
        let id = std::mem::take(&mut self.id);
        remove(&self.engine, &id).await;
    }
}

async fn remove(engine: &Engine, id: &str) {
    if let Err(error) = engine.remove(id).await {
        tracing::warn!(%error, container = id, "a container stays");
    }
}

impl Drop for Held {
    /// The executor ended before the container. Should this process end first, the next one finds it by its labels.
    fn drop(&mut self) {
        if !self.id.is_empty() {
            let (engine, id, kept) = (self.engine.clone(), std::mem::take(&mut self.id), self.kept.take());
            self.carrier.spawn(async move {
                remove(&engine, &id).await;
                drop(kept);
            });
        }
    }
}

/// A container that was started.
pub(super) struct Container {
    pid: Option<u32>,
    socket: Arc<AsyncFd<OwnedFd>>,
    exit: watch::Receiver<Option<Exit>>,
    killed: Arc<Notify>,
    processors: Option<Arc<dyn Processors>>,
    /// Ends the container when nobody is left to.
    _gone: oneshot::Sender<()>,
}

impl Container {
    pub(super) fn watch(socket: AsyncFd<OwnedFd>, held: Held, limits: Limits) -> Self {
        let (sender, exit) = watch::channel(None);
        let (keep, mut gone) = oneshot::channel::<()>();
        let (socket, killed) = (Arc::new(socket), Arc::new(Notify::new()));
        // 0 if the engine's processes are hidden from this one.
        let pid = socket_peercred(socket.get_ref()).ok().map(|peer| peer.pid.as_raw_nonzero().get());
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        // Where the groups of the engine's containers may not be changed, instances keep their processors.
        let processors = pid.and_then(|pid| Allotment::of_process(pid, limits));
        let processors = processors.map(|allotment| Arc::new(allotment) as Arc<dyn Processors>);
        let (talk, told) = (socket.clone(), killed.clone());
        tokio::spawn(async move {
            let mut end = std::pin::pin!(ended(&talk));
            let exit = tokio::select! {
                exit = &mut end => exit,
                () = told.notified() => tokio::time::timeout(LONGEST_KILL, end).await.unwrap_or(BY_FORCE),
                _ = &mut gone => {
                    let _ = wire::send(talk.get_ref(), KILL, &[], true);
                    tokio::time::timeout(LONGEST_KILL, end).await.unwrap_or(BY_FORCE)
                }
            };
            held.clear().await;
            sender.send_replace(Some(exit));
        });
        Self { pid, socket, exit, killed, processors, _gone: keep }
    }
}

const BY_FORCE: Exit = Exit::Signal(Signal::KILL.as_raw());

/// Waits for the end. One that does not say how it ended was ended by force.
async fn ended(socket: &AsyncFd<OwnedFd>) -> Exit {
    let mut exit = BY_FORCE;
    while let Ok((message, _)) = hear(socket).await {
        exit = match message {
            Message::Exited { signal: Some(signal), out_of_memory: Some((limit, used)), .. }
                if signal == Signal::KILL.as_raw() =>
            {
                Exit::OutOfMemory { limit, used }
            }
            Message::Exited { code: Some(code), .. } => Exit::Code(code),
            Message::Exited { signal: Some(signal), .. } => Exit::Signal(signal),
            _ => exit,
        };
    }
    exit
}

impl Handle for Container {
    fn pid(&self) -> Option<u32> {
        self.pid
    }

    fn processors(&self) -> Option<Arc<dyn Processors>> {
        self.processors.clone()
    }

    fn terminate(&self) -> Pending<'_, ()> {
        Box::pin(async {
            // The only error that can be is that it has ended.
            let _ = wire::send(self.socket.get_ref(), TERMINATE, &[], true);
        })
    }

    fn kill(&self) -> Pending<'_, ()> {
        Box::pin(async {
            let _ = wire::send(self.socket.get_ref(), KILL, &[], true);
            self.killed.notify_one();
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

/// Mounts of what a container needs of ours.
pub(super) fn own_mounts(meeting: &Meeting, files: &[(PathBuf, String)]) -> Vec<Value> {
    let meeting = super::volumes::bind(&meeting.path(), &format!("{}/{MEETING}", super::program::FOLDER));
    let files = files.iter().map(|(from, to)| super::volumes::bind(from, to));
    files.chain([meeting]).collect()
}
