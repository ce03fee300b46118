//! The runtime as a whole: its threads, what it is told, how it ends.
//!
//! Two threads. One runs the keepers and starts processes: the kernel ends an instance when the *thread* that started
//! it ends, so that must be one that lives as long as the runtime. The other reads what instances print. Requests run
//! on neither: they are served by threads of the caller, through [`Front`].

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Dependencies, RuntimeConfig};
use crate::desired::{Desired, ExecutionKey, Revision, Service, ServiceKey};
use crate::driver::choice::Drivers;
use crate::driver::container::clone::keep_descriptors;
use crate::driver::process::ProcessDriver;
use crate::entries::EntryHead;
use crate::front::Front;
use crate::invoker::Checker;
use crate::jobs::Jobs;
use crate::keeper::{Command, Context, Keeper};
use crate::output::Readers;
use crate::pool::Pool;
use crate::registry::{InstanceStatus, Registry};
use crate::reports::{Receiver, Reports, TaskReceiver, TaskReports};
use crate::table::{Entry, Route, Table};

/// How much longer than the grace period the end of all instances may take before it is given up.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(5);

/// How long the end waits for what instances printed to be read.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// The serverless runtime. Dropping it shuts it down.
pub struct Runtime {
    table: Arc<ArcSwap<Table>>,
    front: Front,
    applied: Mutex<Applied>,
    jobs: Jobs,
    context: Arc<Context>,
    keepers: Handle,
    closing: watch::Sender<bool>,
    /// `None` after the shutdown.
    alive: Mutex<Option<mpsc::Sender<()>>>,
    /// Taken by the shutdown. The order is the one in which they end.
    threads: Mutex<Vec<Thread>>,
}

/// A thread that ends some time after `end` was dropped.
struct Thread {
    end: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

type RevisionName = (ServiceKey, Arc<str>);

/// What was applied last.
#[derive(Default)]
struct Applied {
    generation: u64,
    kept: HashMap<RevisionName, Kept>,
}

/// A revision that has a keeper.
struct Kept {
    service: Arc<Service>,
    revision: Arc<Revision>,
    reachable: bool,
    pool: Arc<Pool>,
    log_head: Arc<EntryHead>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Runtime {
    /// Starts the runtime's threads, and ends what an earlier, killed runtime with the same state directory left.
    pub fn start(config: RuntimeConfig, dependencies: Dependencies) -> io::Result<Self> {
        let Dependencies { verifier, logs, metadata, networks, containers, secrets } = dependencies;
        let RuntimeConfig { state_dir, hello, exec, allow_programs, idle_timeout, shutdown_grace } = config;
        keep_descriptors();
        let drivers = Drivers::new(ProcessDriver::open(&state_dir, hello, exec, allow_programs)?, containers);
        // The runtime and every keeper hold a sender, so the receiver tells when the last has gone. Nothing is sent.
        let (alive, mut all_gone) = mpsc::channel(1);
        let limit = shutdown_grace + SHUTDOWN_MARGIN;
        let open = watch::Sender::new(0);
        let mut streams = open.subscribe();
        let (output, output_thread) = thread("run-output", async move {
            // Whoever wrote is gone, so what is left to read is all there.
            let read = streams.wait_for(|open| *open == 0);
            if tokio::time::timeout(READ_LIMIT, read).await.is_err() {
                tracing::warn!("what some instances printed last was not read");
            }
        })?;
        let (keepers, keepers_thread) = thread("run-keepers", async move {
            if tokio::time::timeout(limit, all_gone.recv()).await.is_err() {
                tracing::error!("some instances did not end");
            }
        })?;
        let (closing, watch_closing) = watch::channel(false);
        let context = Arc::new(Context {
            drivers,
            logs,
            metadata,
            networks,
            secrets,
            reports: Reports::default(),
            task_reports: TaskReports::default(),
            registry: Registry::default(),
            idle_timeout,
            shutdown_grace,
            output: Readers::new(output, open),
            closing: watch_closing,
        });
        let sweeping = context.clone();
        keepers.spawn(async move {
            let swept = sweeping.drivers.sweep().await;
            if swept > 0 {
                tracing::warn!(swept, "ended instances that an earlier run left behind");
            }
        });
        let table = Arc::new(ArcSwap::from_pointee(Table::default()));
        Ok(Self {
            front: Front::new(table.clone(), Checker::new(verifier)),
            table,
            applied: Mutex::default(),
            jobs: Jobs::default(),
            context,
            keepers,
            closing,
            alive: Mutex::new(Some(alive)),
            threads: Mutex::new(vec![keepers_thread, output_thread]),
        })
    }

    /// Makes what should run run. When it returns, every request that is admitted from then on sees it.
    ///
    /// A state that is older than what was applied changes nothing. Answers with the generation that is in force.
    pub fn apply(&self, desired: Desired) -> u64 {
        let mut applied = lock(&self.applied);
        if desired.generation < applied.generation {
            return applied.generation;
        }
        applied.generation = desired.generation;
        let mut gone: HashSet<RevisionName> = applied.kept.keys().cloned().collect();
        let before = self.table.load();
        let mut entries = Vec::with_capacity(desired.services.len());
        for service in &desired.services {
            for revision in &service.revisions {
                let name = (service.key.clone(), revision.name.clone());
                gone.remove(&name);
                self.keep(&mut applied, name, service, revision);
            }
            // A description that is the same object has the same revisions, and they the same keepers.
            let entry = before.entry_of(service);
            entries.push(
                entry.unwrap_or_else(|| {
                    Arc::new(Entry::new(service, |name| applied.route(&service.key, name)))
                }),
            );
        }
        // The new table first: a request must not be sent to a revision that has been retired.
        self.table.store(Arc::new(Table::new(desired.generation, entries)));
        for name in gone {
            if let Some(kept) = applied.kept.remove(&name) {
                kept.tell(Command::Retire);
            }
        }
        self.jobs.apply(&desired.executions, &self.context, &self.keepers, lock(&self.alive).as_ref());
        desired.generation
    }

    /// Sees to it that a revision has a keeper that knows what is wanted.
    fn keep(
        &self,
        applied: &mut Applied,
        name: RevisionName,
        service: &Arc<Service>,
        revision: &Arc<Revision>,
    ) {
        let reachable = service
            .traffic
            .iter()
            .any(|target| target.revision == revision.name && (target.percent > 0 || target.tag.is_some()));
        if let Some(kept) = applied.kept.get_mut(&name) {
            if kept.revision.same_program(revision) {
                kept.update(service, revision, reachable);
                return;
            }
            // The service was deleted and made anew, and nobody told us in between.
            kept.tell(Command::Retire);
        }
        let kept = self.begin(service.clone(), revision.clone(), reachable);
        applied.kept.insert(name, kept);
    }

    fn begin(&self, service: Arc<Service>, revision: Arc<Revision>, reachable: bool) -> Kept {
        let (pool, waiters) = Pool::new(&revision);
        let pool = Arc::new(pool);
        // The control plane sends a handful of commands for each change, and the keeper only sleeps.
        let (commands, inbox) = mpsc::unbounded_channel();
        let line = (pool.clone(), waiters);
        let keeper = Keeper::new(self.context.clone(), line, service.clone(), revision.clone(), reachable);
        let alive = lock(&self.alive).clone();
        self.keepers.spawn(async move {
            keeper.run(inbox).await;
            drop(alive);
        });
        let log_head = Arc::new(EntryHead::new(&service.key, &revision.name));
        Kept { service, revision, reachable, pool, log_head, commands }
    }

    /// What becomes of revisions. Each report goes to one reader.
    pub fn reports(&self) -> Receiver {
        self.context.reports.receiver()
    }

    /// What becomes of tasks of jobs. Each report goes to one reader.
    pub fn task_reports(&self) -> TaskReceiver {
        self.context.task_reports.receiver()
    }

    /// The entrance for requests.
    pub fn front(&self) -> Front {
        self.front.clone()
    }

    /// The generation in force.
    pub fn generation(&self) -> u64 {
        self.table.load().generation
    }

    /// Every instance there is.
    pub fn status(&self) -> Vec<InstanceStatus> {
        self.context.registry.list()
    }

    /// Executions of jobs that are wanted, and not known to have ended.
    pub fn executions(&self) -> Vec<ExecutionKey> {
        self.jobs.executions()
    }

    /// How many instances of each service were started since this runtime was.
    pub fn instance_starts(&self) -> Vec<(ServiceKey, u64)> {
        self.context.registry.starts()
    }

    /// Ends all instances (SIGTERM, the grace period, SIGKILL) and the threads. Blocks until nothing is left.
    ///
    /// Requests that are still in an instance are cut if they last longer than the grace period, so whoever lets
    /// requests in should stop that first.
    pub fn shutdown(&self) {
        self.closing.send_replace(true);
        drop(lock(&self.alive).take());
        let threads = std::mem::take(&mut *lock(&self.threads));
        for Thread { end, handle } in threads {
            drop(end);
            if handle.join().is_err() {
                tracing::error!("a thread of the runtime panicked");
            }
        }
        self.context.reports.close();
        self.context.task_reports.close();
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Applied {
    fn route(&self, service: &ServiceKey, revision: &str) -> Option<Route> {
        let kept = self.kept.get(&(service.clone(), Arc::from(revision)))?;
        Some(Route {
            revision: kept.revision.clone(),
            pool: kept.pool.clone(),
            log_head: kept.log_head.clone(),
        })
    }
}

impl Kept {
    fn update(&mut self, service: &Arc<Service>, revision: &Arc<Revision>, reachable: bool) {
        let same = Arc::ptr_eq(&self.service, service)
            && Arc::ptr_eq(&self.revision, revision)
            && self.reachable == reachable;
        if !same {
            (self.service, self.revision, self.reachable) = (service.clone(), revision.clone(), reachable);
            self.tell(Command::Update { service: service.clone(), revision: revision.clone(), reachable });
        }
    }

    fn tell(&self, command: Command) {
        // A keeper that has ended has nothing left to do.
        let _ = self.commands.send(command);
    }
}

/// A thread that runs a single-threaded executor until it is told to end and `last` has completed.
fn thread(name: &str, last: impl Future<Output = ()> + Send + 'static) -> io::Result<(Handle, Thread)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let executor = runtime.handle().clone();
    let (end, told) = oneshot::channel();
    let run = move || {
        runtime.block_on(async {
            // Nothing is sent: it is told by the sender being dropped.
            let _: Result<(), _> = told.await;
            last.await;
        });
    };
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok((executor, Thread { end, handle }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
