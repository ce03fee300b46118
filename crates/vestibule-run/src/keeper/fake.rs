//! A driver without processes, and a keeper over it, for tests in made-up time.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use vestibule_logs::{LogLimits, LogStore};

use super::{Command, Context, Keeper};
use crate::config::Program;
use crate::desired::{Container, Revision, Service};
use crate::driver::choice::Drivers;
use crate::driver::process::ProcessDriver;
use crate::driver::{Driver, Exit, Failure, Handle, Labels, Listed, Order, Output, Owner, Pending, Started};
use crate::output::Readers;
use crate::pool::Pool;
use crate::registry::Registry;
use crate::reports::{Receiver, Reports, TaskReports};
use crate::testing;

/// How starts go.
#[derive(Clone)]
pub(super) enum Start {
    /// Listens after so long.
    After(Duration),
    /// The first listens after so long, the second after twice as long, and so on.
    InTurn(Duration),
    /// Runs and never listens.
    Never,
    /// Is not started.
    Fails { transient: bool },
    /// Ends before it listens.
    Exits,
}

#[derive(Default)]
struct State {
    starts: usize,
    running: BTreeMap<Arc<str>, watch::Sender<Option<Exit>>>,
    /// Leases that a test holds, by instance.
    in_use: BTreeMap<Arc<str>, u32>,
    peak: usize,
    terminated: usize,
    killed: usize,
}

/// Instances that exist only as entries in a map. All listen on one real socket, so that probes succeed.
pub(super) struct Fake {
    listener: TcpListener,
    closed: SocketAddr,
    pub(super) start: Mutex<Start>,
    pub(super) ignores_sigterm: Mutex<bool>,
    state: Arc<Mutex<State>>,
}

impl Fake {
    fn new() -> Self {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self {
            listener,
            closed: closed.local_addr().unwrap(),
            start: Mutex::new(Start::After(Duration::from_millis(300))),
            ignores_sigterm: Mutex::new(false),
            state: Arc::default(),
        }
    }

    pub(super) fn set(&self, start: Start) {
        *self.start.lock().unwrap() = start;
    }

    /// Starts so far, running now, most at once.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let state = self.state.lock().unwrap();
        (state.starts, state.running.len(), state.peak)
    }

    /// How many were asked to end, how many were forced.
    pub(super) fn ends(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.terminated, state.killed)
    }

    /// All running instances crash.
    pub(super) fn crash(&self) {
        for exit in std::mem::take(&mut self.state.lock().unwrap().running).values() {
            exit.send_replace(Some(Exit::Code(1)));
        }
    }

    /// Marks an instance as used by a request: ending it is then a failure of the test.
    pub(super) fn using(&self, id: &Arc<str>) {
        let mut state = self.state.lock().unwrap();
        assert!(state.running.contains_key(id), "a request was sent to an instance that has ended");
        *state.in_use.entry(id.clone()).or_default() += 1;
    }

    pub(super) fn used(&self, id: &Arc<str>) {
        let mut state = self.state.lock().unwrap();
        assert!(state.running.contains_key(id), "an instance ended with a request in it");
        *state.in_use.entry(id.clone()).or_default() -= 1;
    }
}

struct FakeHandle {
    id: Arc<str>,
    exit: watch::Receiver<Option<Exit>>,
    state: Arc<Mutex<State>>,
    ignores_sigterm: bool,
}

impl FakeHandle {
    fn end(&self, exit: Exit) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.in_use.get(&self.id).copied().unwrap_or(0), 0, "a request was cut");
        if let Some(sender) = state.running.remove(&self.id) {
            sender.send_replace(Some(exit));
        }
    }
}

impl Handle for FakeHandle {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn terminate(&self) -> Pending<'_, ()> {
        self.state.lock().unwrap().terminated += 1;
        if !self.ignores_sigterm {
            self.end(Exit::Code(0));
        }
        Box::pin(async {})
    }

    fn kill(&self) -> Pending<'_, ()> {
        self.state.lock().unwrap().killed += 1;
        self.end(Exit::Signal(9));
        Box::pin(async {})
    }

    fn exited(&self) -> Pending<'_, Exit> {
        let mut exit = self.exit.clone();
        Box::pin(async move {
            let exit = exit.wait_for(Option::is_some).await;
            exit.map_or(Exit::Unknown, |exit| exit.unwrap_or(Exit::Unknown))
        })
    }
}

impl Driver for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn prepare<'a>(&'a self, _: &'a Owner, container: &'a Container) -> Pending<'a, Result<String, Failure>> {
        Box::pin(async { Ok(format!("{}@sha256:00", container.image)) })
    }

    fn start<'a>(&'a self, order: &'a Order) -> Pending<'a, Result<Started, Failure>> {
        // The probes of earlier starts: nobody else takes them off the queue, which has an end.
        while self.listener.accept().is_ok() {}
        let start = self.start.lock().unwrap().clone();
        let (sender, exit) = watch::channel(None);
        let start = {
            let mut state = self.state.lock().unwrap();
            state.starts += 1;
            state.running.insert(order.instance_id.clone(), sender);
            state.peak = state.peak.max(state.running.len());
            match start {
                Start::InTurn(delay) => Start::After(delay * state.starts as u32),
                start => start,
            }
        };
        let ignores_sigterm = *self.ignores_sigterm.lock().unwrap();
        let handle =
            FakeHandle { id: order.instance_id.clone(), exit, state: self.state.clone(), ignores_sigterm };
        Box::pin(async move {
            let address = match start {
                Start::After(delay) | Start::InTurn(delay) => {
                    sleep(delay).await;
                    self.listener.local_addr().unwrap()
                }
                Start::Never => self.closed,
                Start::Fails { transient } => {
                    handle.end(Exit::Unknown);
                    return Err(Failure { reason: "Reason".into(), message: "It fails.".into(), transient });
                }
                Start::Exits => {
                    handle.end(Exit::Code(1));
                    self.closed
                }
            };
            Ok(Started { address, output: Output::default(), handle: Box::new(handle) })
        })
    }

    fn list<'a>(&'a self, _: &'a Labels) -> Pending<'a, Vec<Listed>> {
        Box::pin(async { Vec::new() })
    }

    fn remove<'a>(&'a self, _: &'a str) -> Pending<'a, ()> {
        Box::pin(async {})
    }
}

/// A keeper over a fake driver.
pub(super) struct World {
    pub(super) driver: Arc<Fake>,
    pub(super) pool: Arc<Pool>,
    pub(super) closing: watch::Sender<bool>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) reports: Receiver,
    pub(super) registry: Registry,
    pub(super) revision: Revision,
    pub(super) service: Arc<Service>,
    pub(super) keeper: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// A revision that the fake driver runs.
pub(super) fn revision() -> Revision {
    let mut revision = testing::revision("svc-1");
    revision.container.image = "fake".into();
    revision
}

impl World {
    pub(super) fn new(revision: Revision) -> Self {
        Self::with_idle_timeout(revision, crate::config::IDLE_TIMEOUT)
    }

    pub(super) fn with_idle_timeout(revision: Revision, idle_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nothing = || Program { path: "/nonexistent".into(), args: Vec::new() };
        let process = ProcessDriver::open(folder.path(), nothing(), nothing(), false).unwrap();
        let driver = Arc::new(Fake::new());
        let logs = LogStore::open(&folder.path().join("logs"), LogLimits::default()).unwrap().sink();
        let (reports, registry) = (Reports::default(), Registry::default());
        let receiver = reports.receiver();
        let (closing, watch_closing) = watch::channel(false);
        let context = Arc::new(Context {
            drivers: Drivers::new(process, Some(driver.clone())),
            logs,
            networks: None,
            metadata: None,
            secrets: None,
            reports,
            task_reports: TaskReports::default(),
            registry: registry.clone(),
            idle_timeout,
            shutdown_grace: crate::config::SHUTDOWN_GRACE,
            output: Readers::new(tokio::runtime::Handle::current(), watch::Sender::new(0)),
            closing: watch_closing,
        });
        let (pool, waiters) = Pool::new(&revision);
        let pool = Arc::new(pool);
        let service = Arc::new(testing::service("svc"));
        let line = (pool.clone(), waiters);
        let keeper = Keeper::new(context, line, service.clone(), Arc::new(revision.clone()), true);
        let (commands, inbox) = mpsc::unbounded_channel();
        let keeper = tokio::spawn(keeper.run(inbox));
        Self {
            driver,
            pool,
            closing,
            commands,
            reports: receiver,
            registry,
            revision,
            service,
            keeper,
            _folder: folder,
        }
    }

    pub(super) fn tell(&self, command: Command) {
        self.commands.send(command).unwrap_or_else(|_| panic!("the keeper is gone"));
    }
}
