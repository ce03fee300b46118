//! One worker: a thread with its own runtime, listeners, connections and pool of backend connections. Workers share
//! nothing that a request waits for.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalRuntime};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_local;
use vestibule_run::front;
use vestibule_vpc::{NetworkId, Vpc};

use crate::accept::{self, Accepting};
use crate::accesslog::LogWriter;
use crate::buffers;
use crate::clock::Dates;
use crate::endpoints::{Clusters, Endpoints, Members};
use crate::http2::crew::Crew;
use crate::limits::{DRAIN_ACCEPT_SHARE, DRAIN_QUIET, DRAIN_TICK, Limits, POOL_SWEEP_INTERVAL, Timeouts};
use crate::metrics::{Cells, Count, SeriesCache};
use crate::proxy::{Dependencies, ProxyConfig};
use crate::site::{Site, Slot};
use crate::snapshot::{Front, FrontAddress, Listener};
use crate::timers::Timers;
use crate::upstream::Pool;

/// What the tasks of a worker share.
pub(crate) struct Worker {
    pub(crate) run: front::Front,
    pub(crate) pool: Rc<Pool>,
    pub(crate) clusters: Clusters,
    /// Which of the workers this is.
    pub(crate) index: usize,
    pub(crate) timers: Rc<Timers>,
    pub(crate) logs: Rc<LogWriter>,
    /// Who serves streams of HTTP/2.
    pub(crate) crew: Rc<Crew>,
    pub(crate) dates: Dates,
    pub(crate) timeouts: Timeouts,
    /// Clients may speak HTTP/2 without TLS.
    pub(crate) clear_http2: bool,
    /// Copies of requests that are on their way.
    pub(crate) mirrors: Rc<Cell<usize>>,
    vpc: Vpc,
    /// Nothing is accepted before it says so.
    open: Option<watch::Receiver<bool>>,
    draining: Cell<bool>,
    /// This worker's share.
    limits: Limits,
    connections: Cell<usize>,
    /// Requests under way.
    requests: Cell<usize>,
    pub(crate) cells: Arc<Cells>,
    /// Where requests to default URLs are counted.
    pub(crate) default_urls: RefCell<SeriesCache>,
    /// When the last connection came or went.
    changed: Cell<Instant>,
    room: Notify,
}

/// Names an address that is listened on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Listener { network: NetworkId, ip: std::net::Ipv4Addr, port: u16 },
    Front(SocketAddr),
}

/// What is to be served at an address.
#[derive(Clone)]
pub(crate) enum Serve {
    Listener(Arc<Listener>),
    Front(Arc<Front>),
}

/// What a worker is told.
pub(crate) enum Command {
    /// Serve this and nothing else. `sockets` are those of addresses that were not served before.
    Apply {
        serve: Arc<Vec<(Key, Serve)>>,
        sockets: HashMap<Key, std::net::TcpListener>,
        done: SyncSender<()>,
    },
    /// Tell which sockets are listened on.
    Share { reply: SyncSender<Vec<(Key, OwnedFd)>> },
    /// Finish what is under way, and end by then. `passed_on`: another process accepts from the same sockets.
    Drain { within: Duration, passed_on: bool },
}

/// Runs a worker on the calling thread until it was drained or nobody can tell it anything any more.
pub(crate) fn run(
    index: usize,
    runtime: LocalRuntime,
    dependencies: Dependencies,
    config: &ProxyConfig,
    cells: Arc<Cells>,
    commands: mpsc::Receiver<Command>,
) {
    runtime.block_on(async {
        let worker = Worker::new(index, dependencies, config, cells);
        spawn_local(worker.timers.clone().run());
        spawn_local(worker.logs.clone().run());
        spawn_local(sweep(worker.clone()));
        obey(&worker, commands).await;
        worker.logs.flush();
    });
    // Whatever is left ends here, by force.
    runtime.shutdown_background();
}

/// A worker's runtime. It must be made on the worker's own thread.
pub(crate) fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(Default::default())
}

async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(POOL_SWEEP_INTERVAL).await;
        worker.pool.sweep(Instant::now());
    }
}

/// The addresses that a worker listens on.
type Listening = HashMap<Key, (Rc<Slot>, Accepting)>;

async fn obey(worker: &Rc<Worker>, mut commands: mpsc::Receiver<Command>) {
    let mut listening = Listening::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Apply { serve, sockets, done } => {
                apply(worker, &mut listening, &serve, sockets);
                // Nobody waits any more: fine.
                let _ = done.send(());
            }
            Command::Share { reply } => drop(reply.send(share(&listening))),
            Command::Drain { within, passed_on: false } => {
                return drain(worker, &mut listening, within).await;
            }
            Command::Drain { within, passed_on: true } => {
                listening.drain().for_each(|(_, (_, accepting))| accepting.pass_on());
                return drain(worker, &mut listening, within).await;
            }
        }
    }
}

/// Another handle on every socket. One that cannot be shared was told of by whoever misses it.
fn share(listening: &Listening) -> Vec<(Key, OwnedFd)> {
    let shared = listening.iter().map(|(key, (_, accepting))| Some((key.clone(), accepting.share().ok()?)));
    shared.flatten().collect()
}

fn apply(
    worker: &Rc<Worker>,
    listening: &mut Listening,
    serve: &[(Key, Serve)],
    mut sockets: HashMap<Key, std::net::TcpListener>,
) {
    for (key, serve) in serve {
        match (listening.get(key), serve) {
            (Some((slot, _)), Serve::Listener(listener)) if slot.site().is(listener) => {}
            (Some((slot, _)), serve) => slot.replace(serve.site(worker)),
            (None, serve) => {
                let Some(socket) = sockets.remove(key) else { continue };
                let slot = Slot::new(serve.site(worker));
                match accept::start(worker, &slot, socket) {
                    Ok(accepting) => drop(listening.insert(key.clone(), (slot, accepting))),
                    Err(error) => tracing::error!(?key, %error, "cannot accept connections"),
                }
            }
        }
    }
    let before = listening.len();
    listening.retain(|key, (slot, accepting)| {
        let stays = serve.iter().any(|(wanted, _)| wanted == key);
        if !stays {
            slot.remove();
            accepting.stop();
        }
        stays
    });
    if listening.len() < before {
        worker.timers.wake_all();
    }
    worker.clusters.sweep();
}

/// Finishes: connections are told to go with their next answer; new ones are taken for a part of the time, for clients
/// that do not know yet; then nothing is waited for but requests under way.
async fn drain(worker: &Rc<Worker>, listening: &mut Listening, within: Duration) {
    let start = Instant::now();
    worker.draining.set(true);
    worker.timers.wake_all();
    let accept = within.mul_f64(DRAIN_ACCEPT_SHARE);
    while start.elapsed() < within {
        let quiet = worker.connections.get() == 0
            && (listening.is_empty() || worker.changed.get().max(start).elapsed() >= DRAIN_QUIET.min(accept));
        if quiet {
            break;
        }
        if start.elapsed() >= accept {
            listening.drain().for_each(|(_, (_, accepting))| accepting.stop());
            if worker.connections.get() == 0 {
                break;
            }
        }
        tokio::time::sleep(DRAIN_TICK).await;
    }
    if worker.connections.get() > 0 {
        tracing::warn!(connections = worker.connections.get(), "ending connections that did not end in time");
    }
}

impl Serve {
    fn site(&self, worker: &Worker) -> Site {
        match self {
            Serve::Listener(listener) => {
                Site::balancer(listener.clone(), |endpoints| worker.members(endpoints))
            }
            Serve::Front(front) => Site::Front(front.clone()),
        }
    }
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        dependencies: Dependencies,
        config: &ProxyConfig,
        cells: Arc<Cells>,
    ) -> Rc<Worker> {
        Rc::new(Worker {
            run: dependencies.run,
            pool: Rc::new(Pool::new(cells.clone())),
            clusters: Clusters::default(),
            index,
            timers: Timers::new(),
            logs: LogWriter::new(dependencies.logs),
            crew: Rc::default(),
            dates: Dates::default(),
            vpc: dependencies.vpc,
            open: config.open.clone(),
            draining: Cell::new(false),
            limits: config.limits.share(config.workers),
            requests: Cell::new(0),
            cells,
            default_urls: RefCell::default(),
            timeouts: config.timeouts,
            clear_http2: config.clear_http2,
            mirrors: Rc::default(),
            connections: Cell::new(0),
            changed: Cell::new(Instant::now()),
            room: Notify::new(),
        })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Waits until connections may be accepted.
    pub(crate) async fn may_accept(&self) {
        if let Some(open) = &self.open {
            // Nobody is left who could say so: the process is about to end, one way or the other.
            let _ = open.clone().wait_for(|open| *open).await;
        }
    }

    /// The client's address as the network of the site knows it.
    pub(crate) fn private_peer(&self, site: &Site, remote: SocketAddr) -> SocketAddr {
        match site {
            Site::Balancer(balancer) => self.vpc.private_peer(&balancer.listener.network, remote),
            Site::Front(front) => match &front.at {
                FrontAddress::Network { network, .. } => self.vpc.private_peer(network, remote),
                FrontAddress::Machine(_) => remote,
            },
        }
    }

    /// Whether a client may connect: one of another region only with `allowGlobalAccess`.
    pub(crate) fn lets_in(&self, site: &Site, remote: SocketAddr) -> bool {
        let Site::Balancer(balancer) = site else { return true };
        let Some(clients) = &balancer.listener.clients else { return true };
        match self.private_peer(site, remote).ip() {
            IpAddr::V4(ip) => ip.is_loopback() || clients.contains(ip),
            IpAddr::V6(_) => true,
        }
    }

    /// The endpoints of a backend service.
    pub(crate) fn members(&self, endpoints: &Arc<Endpoints>) -> Rc<Members> {
        self.clusters.members(endpoints, &self.vpc, &self.pool, &self.timers, self.index)
    }

    /// Counts a connection for as long as the answer lives.
    pub(crate) fn admit(self: &Rc<Self>, slot: &Rc<Slot>) -> Admission {
        self.connections.set(self.connections.get() + 1);
        self.changed.set(Instant::now());
        self.cells.count(Count::Connections);
        slot.enter();
        Admission(self.clone(), slot.clone())
    }

    /// Waits until there may be one more connection, and one more of this listener.
    pub(crate) async fn has_room(&self, slot: &Slot) {
        if self.connections.get() >= self.limits.connections {
            self.cells.count(Count::ConnectionLimit);
        } else if slot.connections() >= self.limits.connections_per_listener {
            self.cells.count(Count::ListenerLimit);
        }
        loop {
            if slot.connections() >= self.limits.connections_per_listener {
                slot.left().await;
            } else if self.connections.get() >= self.limits.connections {
                self.room.notified().await;
            } else {
                return;
            }
        }
    }

    /// Counts a request for as long as the answer lives.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.requests.set(self.requests.get() + 1);
        UnderWay(&self.requests)
    }

    /// The limit that a request which [began](Worker::begin) goes beyond.
    pub(crate) fn overload(&self) -> Option<Count> {
        let limit = if self.requests.get() > self.limits.requests {
            Count::RequestLimit
        } else if buffers::held() > self.limits.request_memory {
            Count::MemoryLimit
        } else {
            return None;
        };
        self.cells.count(limit);
        Some(limit)
    }
}

/// A request that is counted.
pub(crate) struct UnderWay<'w>(&'w Cell<usize>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A connection that is counted.
pub(crate) struct Admission(Rc<Worker>, Rc<Slot>);

impl Drop for Admission {
    fn drop(&mut self) {
        let worker = &self.0;
        worker.connections.set(worker.connections.get() - 1);
        worker.changed.set(Instant::now());
        worker.cells.count(Count::ConnectionsEnded);
        self.1.leave();
        if worker.connections.get() + 1 == worker.limits.connections {
            worker.room.notify_waiters();
        }
    }
}
