//! The proxy as a whole: its workers, what they are told, how they end.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};
use vestibule_logs::LogSink;
use vestibule_run::front;
use vestibule_vpc::{NetworkId, Vpc};

use crate::limits::{FRONT_BACKLOG, Limits, Timeouts};
use crate::metrics::{Cells, Report};
use crate::snapshot::{FrontAddress, Snapshot};
use crate::worker::{self, Command, Key, Serve};

/// Commands that may wait for a worker.
const COMMANDS: usize = 16;

/// How the proxy runs.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Threads that serve requests. Default: one a core.
    pub workers: usize,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// Clients may speak HTTP/2 without TLS where they know that the server does ("prior knowledge", RFC 9113 section
    /// 3.3). Default: no, as with Google's load balancers.
    pub clear_http2: bool,
    /// Everything is made ready, and no connection is accepted before this says `true`. Default: at once.
    pub open: Option<watch::Receiver<bool>>,
}

impl Default for ProxyConfig {
    fn default() -> ProxyConfig {
        ProxyConfig {
            workers: thread::available_parallelism().map_or(1, usize::from),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            clear_http2: false,
            open: None,
        }
    }
}

/// What the proxy uses of its surroundings.
#[derive(Clone)]
pub struct Dependencies {
    /// Gives the sockets of listeners.
    pub vpc: Vpc,
    /// Lets requests into services.
    pub run: front::Front,
    /// Takes log entries.
    pub logs: LogSink,
}

/// The data plane. Dropping it ends every connection at once; [`Proxy::drain`] ends them well.
pub struct Proxy {
    vpc: Vpc,
    workers: Vec<WorkerHandle>,
    applied: Mutex<Applied>,
}

/// A worker's thread. Without `commands` it ends.
struct WorkerHandle {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    cells: Arc<Cells>,
}

#[derive(Default)]
struct Applied {
    generation: u64,
    bound: HashSet<Key>,
    /// Sockets of the machine that another process listened on.
    inherited: HashMap<SocketAddr, Vec<TcpListener>>,
}

/// The listening sockets of an address, one a worker.
#[derive(Debug)]
pub struct Listening {
    pub at: FrontAddress,
    pub sockets: Vec<OwnedFd>,
}

/// A listener that could not be opened. Everything else of the snapshot is served.
#[derive(Debug)]
pub struct ListenerError {
    /// Name of the forwarding rule; `None` for an entrance to default URLs.
    pub forwarding_rule: Option<Arc<str>>,
    /// The network of the forwarding rule.
    pub network: Option<NetworkId>,
    /// The address that was asked for, as its network knows it.
    pub address: SocketAddr,
    pub source: io::Error,
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.forwarding_rule {
            Some(rule) => write!(f, "cannot listen on {} for forwarding rule {rule}", self.address),
            None => write!(f, "cannot listen on {} for default URLs", self.address),
        }
    }
}

impl std::error::Error for ListenerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Proxy {
    /// Starts the workers. They serve nothing until a snapshot is applied.
    pub fn start(config: ProxyConfig, dependencies: Dependencies) -> io::Result<Proxy> {
        let vpc = dependencies.vpc.clone();
        let start = |index| start_worker(index, &dependencies, &config);
        let workers = (0..config.workers.max(1)).map(start).collect::<io::Result<Vec<_>>>()?;
        Ok(Proxy { vpc, workers, applied: Mutex::default() })
    }

    /// Makes the proxy serve this snapshot. When it returns, every request that arrives from then on is served by it;
    /// requests under way are finished by the one they began with. Addresses that are new are bound first, and those
    /// that are gone are closed last.
    ///
    /// A snapshot that is older than the one in force changes nothing. A listener that cannot be opened is told of,
    /// and tried again with the next snapshot.
    pub fn apply(&self, snapshot: Snapshot) -> Result<(), Vec<ListenerError>> {
        let mut applied = lock(&self.applied);
        if snapshot.generation < applied.generation {
            return Ok(());
        }
        let (serve, mut errors) = self.wanted(&snapshot);
        let mut sockets = self.bind(&serve, &mut applied, &mut errors);
        let serve = Arc::new(serve);
        let mut pending = Vec::new();
        for worker in &self.workers {
            let sockets = sockets.iter_mut().filter_map(|(key, list)| Some((key.clone(), list.pop()?)));
            pending.extend(worker.apply(serve.clone(), sockets.collect()));
        }
        // A worker that has ended answers nothing, and serves nothing wrong either.
        for done in pending {
            let _ = done.recv();
        }
        self.release(&mut applied.bound, &serve);
        applied.generation = snapshot.generation;
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The generation that every worker serves.
    pub fn generation(&self) -> u64 {
        lock(&self.applied).generation
    }

    /// What all workers have counted since the start. Takes no lock that a request waits for.
    pub fn metrics(&self) -> Report {
        Report::of(self.workers.iter().map(|worker| &*worker.cells))
    }

    /// Ends: no connection carries more than its next answer, new connections are still taken for half of the time,
    /// requests under way are finished. What is not done by `within` is cut off. Returns when all is over; snapshots
    /// that are applied afterwards change nothing.
    pub fn drain(&self, within: Duration) {
        self.end(within, false);
    }

    /// The same, while another process accepts from the same sockets: no new connection is taken.
    pub fn leave(&self, within: Duration) {
        self.end(within, true);
    }

    fn end(&self, within: Duration, passed_on: bool) {
        for worker in &self.workers {
            if let Some(commands) = lock(&worker.commands).take() {
                // Ended already: fine.
                let _ = commands.blocking_send(Command::Drain { within, passed_on });
            }
        }
        self.workers.iter().for_each(WorkerHandle::join);
    }

    /// Handles on every socket that is listened on, for another process to accept from. Fails where a worker has not all
    /// of them.
    pub fn listening(&self) -> io::Result<Vec<Listening>> {
        let applied = lock(&self.applied);
        let mut found: HashMap<Key, Vec<OwnedFd>> = HashMap::new();
        for worker in &self.workers {
            for (key, socket) in worker.share()? {
                found.entry(key).or_default().push(socket);
            }
        }
        if let Some(missing) =
            applied.bound.iter().find(|key| found.get(*key).map_or(0, Vec::len) < self.workers.len())
        {
            return Err(io::Error::other(format!("a worker does not listen on {missing:?}")));
        }
        Ok(found.into_iter().map(|(key, sockets)| Listening { at: key.into(), sockets }).collect())
    }

    /// Sockets for addresses of the machine, to be used in the place of new ones; as many as there are workers.
    pub fn inherit(&self, address: SocketAddr, sockets: Vec<TcpListener>) {
        lock(&self.applied).inherited.insert(address, sockets);
    }

    /// What a snapshot asks for, each address once.
    fn wanted(&self, snapshot: &Snapshot) -> (Vec<(Key, Serve)>, Vec<ListenerError>) {
        let mut seen = HashSet::new();
        let mut errors = Vec::new();
        let listeners = snapshot.listeners.iter().map(|listener| {
            let key =
                Key::Listener { network: listener.network.clone(), ip: listener.ip, port: listener.port };
            (key, Serve::Listener(listener.clone()))
        });
        let fronts = snapshot.fronts.iter().map(|front| (Key::of(&front.at), Serve::Front(front.clone())));
        let mut wanted = Vec::new();
        for (key, serve) in listeners.chain(fronts) {
            if seen.insert(key.clone()) {
                wanted.push((key, serve));
            } else {
                errors.push(serve.error(io::ErrorKind::AddrInUse.into()));
            }
        }
        (wanted, errors)
    }

    /// Opens the sockets that are missing, one a worker.
    fn bind(
        &self,
        serve: &[(Key, Serve)],
        applied: &mut Applied,
        errors: &mut Vec<ListenerError>,
    ) -> HashMap<Key, Vec<TcpListener>> {
        let Applied { bound, inherited, .. } = applied;
        let mut sockets = HashMap::new();
        for (key, serve) in serve.iter().filter(|(key, _)| !bound.contains(key)).collect::<Vec<_>>() {
            let count = self.workers.len();
            let opened = match key {
                Key::Listener { network, ip, port } => self.vpc.listen_tcp(network, *ip, *port, count),
                Key::Front(address) => match inherited.remove(address).filter(|list| list.len() == count) {
                    Some(list) => Ok(list),
                    None => (0..count).map(|_| listen_local(*address)).collect(),
                },
            };
            match opened {
                Ok(list) => {
                    bound.insert(key.clone());
                    sockets.insert(key.clone(), list);
                }
                Err(error) => errors.push(serve.error(error)),
            }
        }
        sockets
    }

    /// Forgets addresses that are not served any more.
    fn release(&self, bound: &mut HashSet<Key>, serve: &[(Key, Serve)]) {
        let wanted: HashSet<&Key> = serve.iter().map(|(key, _)| key).collect();
        let gone: Vec<Key> = bound.iter().filter(|key| !wanted.contains(key)).cloned().collect();
        bound.retain(|key| wanted.contains(key));
        let used: HashSet<(NetworkId, Ipv4Addr)> = bound.iter().filter_map(Key::address).collect();
        let freed: HashSet<_> =
            gone.iter().filter_map(Key::address).filter(|address| !used.contains(address)).collect();
        freed.iter().for_each(|(network, ip)| self.vpc.release(network, *ip));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.workers.iter().for_each(|worker| drop(lock(&worker.commands).take()));
        self.workers.iter().for_each(WorkerHandle::join);
    }
}

impl WorkerHandle {
    /// Tells the worker; what it answers on when it is done.
    fn apply(
        &self,
        serve: Arc<Vec<(Key, Serve)>>,
        sockets: HashMap<Key, TcpListener>,
    ) -> Option<Receiver<()>> {
        let (done, receiver) = sync_channel(1);
        let command = Command::Apply { serve, sockets, done };
        let commands = lock(&self.commands).clone()?;
        commands.blocking_send(command).ok()?;
        Some(receiver)
    }

    /// Handles on the sockets that it listens on.
    fn share(&self) -> io::Result<Vec<(Key, OwnedFd)>> {
        let gone = || io::Error::other("a proxy worker has ended");
        let (reply, answer) = sync_channel(1);
        let commands = lock(&self.commands).clone().ok_or_else(gone)?;
        commands.blocking_send(Command::Share { reply }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())
    }

    /// Waits for its end.
    fn join(&self) {
        if let Some(thread) = lock(&self.thread).take() {
            // A worker that panicked said so already.
            let _ = thread.join();
        }
    }
}

fn start_worker(index: usize, dependencies: &Dependencies, config: &ProxyConfig) -> io::Result<WorkerHandle> {
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let (ready, started) = sync_channel(1);
    let (dependencies, config) = (dependencies.clone(), config.clone());
    let cells = Arc::new(Cells::default());
    let own = cells.clone();
    let thread =
        thread::Builder::new().name(format!("proxy-{index}")).spawn(move || match worker::runtime() {
            Ok(runtime) => {
                let _ = ready.send(Ok(()));
                worker::run(index, runtime, dependencies, &config, own, receiver);
            }
            Err(error) => drop(ready.send(Err(error))),
        })?;
    started.recv().map_err(|_| io::Error::other("a proxy worker did not start"))??;
    Ok(WorkerHandle { commands: Mutex::new(Some(commands)), thread: Mutex::new(Some(thread)), cells })
}

/// A listening socket that shares its address with those of the other workers.
fn listen_local(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(FRONT_BACKLOG)?;
    Ok(socket.into())
}

impl Key {
    fn of(front: &FrontAddress) -> Key {
        match front {
            FrontAddress::Machine(address) => Key::Front(*address),
            FrontAddress::Network { network, ip, port } => {
                Key::Listener { network: network.clone(), ip: *ip, port: *port }
            }
        }
    }

    fn address(&self) -> Option<(NetworkId, Ipv4Addr)> {
        match self {
            Key::Listener { network, ip, .. } => Some((network.clone(), *ip)),
            Key::Front(_) => None,
        }
    }
}

impl From<Key> for FrontAddress {
    fn from(key: Key) -> FrontAddress {
        match key {
            Key::Listener { network, ip, port } => FrontAddress::Network { network, ip, port },
            Key::Front(address) => FrontAddress::Machine(address),
        }
    }
}

impl Serve {
    fn error(&self, source: io::Error) -> ListenerError {
        match self {
            Serve::Listener(listener) => ListenerError {
                forwarding_rule: Some(listener.forwarding_rule.clone()),
                network: Some(listener.network.clone()),
                address: (listener.ip, listener.port).into(),
                source,
            },
            Serve::Front(front) => {
                let network = match &front.at {
                    FrontAddress::Machine(_) => None,
                    FrontAddress::Network { network, .. } => Some(network.clone()),
                };
                ListenerError { forwarding_rule: None, network, address: front.address(), source }
            }
        }
    }
}
