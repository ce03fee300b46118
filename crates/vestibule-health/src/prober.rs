//! The thread that probes, and what it does again and again.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use vestibule_balance::State;
use vestibule_vpc::Vpc;

use crate::check::Target;
use crate::probe::{Prepared, Surroundings};
use crate::verdict::Verdict;

/// Probes that are under way at once; more wait for their turn.
pub const MAX_PROBES: usize = 256;

/// How often a name outside is looked up again (`getaddrinfo` tells no lifetime).
pub const REFRESH: Duration = Duration::from_secs(30);

/// How often a name that was not found is looked up again.
const REFRESH_LOST: Duration = Duration::from_secs(2);

/// Names that are looked up at once. Each takes a thread of the runtime's pool while it lasts.
const MAX_LOOKUPS: usize = 8;

/// Lists that may wait for the thread.
const LISTS: usize = 16;

/// A name outside that is kept up to date.
#[derive(Clone)]
pub struct Name {
    pub name: String,
    pub port: u16,
    /// Is told the addresses whenever they were looked up. Empty: there are none.
    pub publish: Arc<dyn Fn(Vec<SocketAddr>) + Send + Sync>,
}

/// An endpoint became healthy, or ceased to be.
#[derive(Debug)]
pub struct Finding<'t> {
    pub target: &'t Target,
    pub before: State,
    pub after: State,
    /// What the probe before this one came to, and this one: `HEALTHY`, `UNHEALTHY`, `TIMEOUT` or, before the first,
    /// `UNKNOWN`.
    pub before_detailed: &'static str,
    pub detailed: &'static str,
    /// Why the probe failed.
    pub failure: Option<&'t str>,
    /// When the probe ended, and how long it took.
    pub at: SystemTime,
    pub took: Duration,
}

/// Is told of every finding.
pub type Sink = Arc<dyn Fn(&Finding<'_>) + Send + Sync>;

/// A running prober. Dropping it ends it.
pub struct Prober {
    lists: Option<mpsc::Sender<List>>,
    thread: Option<JoinHandle<()>>,
}

struct List {
    targets: Vec<Target>,
    names: Vec<Name>,
}

impl Prober {
    /// Starts the thread. It probes nobody until it is told. `sink` is called on that thread and must not wait.
    pub fn start(vpc: Vpc, sink: Sink) -> io::Result<Prober> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_LOOKUPS)
            .build()?;
        let surroundings = Arc::new(Surroundings::new(vpc).map_err(io::Error::other)?);
        let (lists, receiver) = mpsc::channel(LISTS);
        let thread = std::thread::Builder::new()
            .name("health-checks".to_owned())
            .spawn(move || runtime.block_on(Tasks::new(surroundings, sink).follow(receiver)))?;
        Ok(Prober { lists: Some(lists), thread: Some(thread) })
    }

    /// From now on exactly these are probed and looked up. One that was there before goes on as it was.
    pub fn apply(&self, targets: Vec<Target>, names: Vec<Name>) {
        if let Some(lists) = &self.lists
            && lists.blocking_send(List { targets, names }).is_err()
        {
            tracing::error!("the prober has ended");
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.lists = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the prober had panicked");
        }
    }
}

struct Tasks {
    surroundings: Arc<Surroundings>,
    sink: Sink,
    probes: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    targets: HashMap<Arc<str>, (Target, AbortHandle)>,
    names: HashMap<(String, u16), AbortHandle>,
}

impl Tasks {
    fn new(surroundings: Arc<Surroundings>, sink: Sink) -> Tasks {
        Tasks {
            surroundings,
            sink,
            probes: Arc::new(Semaphore::new(MAX_PROBES)),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            targets: HashMap::new(),
            names: HashMap::new(),
        }
    }

    async fn follow(mut self, mut lists: mpsc::Receiver<List>) {
        while let Some(list) = lists.recv().await {
            self.obey(list);
        }
    }

    fn obey(&mut self, list: List) {
        let mut before = std::mem::take(&mut self.targets);
        for target in list.targets {
            let known = before.remove(&target.key);
            let task = match known {
                Some((old, task)) if old.is_like(&target) => task,
                known => {
                    if let Some((_, task)) = known {
                        task.abort();
                    }
                    let (surroundings, probes) = (self.surroundings.clone(), self.probes.clone());
                    tokio::spawn(watch(target.clone(), surroundings, probes, self.sink.clone()))
                        .abort_handle()
                }
            };
            self.targets.insert(target.key.clone(), (target, task));
        }
        before.into_values().for_each(|(_, task)| task.abort());
        let mut before = std::mem::take(&mut self.names);
        for name in list.names {
            let key = (name.name.clone(), name.port);
            let task = before.remove(&key);
            let task =
                task.unwrap_or_else(|| tokio::spawn(look_up(name, self.lookups.clone())).abort_handle());
            self.names.insert(key, task);
        }
        before.into_values().for_each(|task| task.abort());
    }
}

/// Probes one endpoint for ever.
async fn watch(target: Target, surroundings: Arc<Surroundings>, probes: Arc<Semaphore>, sink: Sink) {
    let check = &target.check;
    let prepared = Prepared::new(&target);
    // What another health check's task left is not this one's finding.
    let mut verdict = Verdict::new(target.health.get());
    let mut last = "UNKNOWN";
    loop {
        let Ok(turn) = probes.acquire().await else { return };
        let start = Instant::now();
        let probe = timeout(check.timeout, prepared.probe(&surroundings)).await;
        let took = start.elapsed();
        drop(turn);
        let (detailed, failure) = match probe {
            Ok(Ok(())) => ("HEALTHY", None),
            Ok(Err(error)) => ("UNHEALTHY", Some(error.to_string())),
            Err(_) => ("TIMEOUT", Some(format!("no answer in {} s", check.timeout.as_secs()))),
        };
        let state = verdict.note(failure.is_none(), check.healthy, check.unhealthy);
        let before = target.health.set(state);
        if before != state {
            tell(&target, state, failure.as_deref());
            sink(&Finding {
                target: &target,
                before,
                after: state,
                before_detailed: last,
                detailed,
                failure: failure.as_deref(),
                at: SystemTime::now(),
                took,
            });
        }
        last = detailed;
        sleep_until(start + check.interval + jitter(check.interval)).await;
    }
}

fn tell(target: &Target, state: State, failure: Option<&str>) {
    let (check, endpoint) = (&target.check.name, &target.key);
    match state {
        State::Healthy => tracing::info!(%check, %endpoint, "an endpoint is healthy"),
        _ => tracing::warn!(%check, %endpoint, failure, "an endpoint is unhealthy"),
    }
}

/// Up to a twentieth of the interval, so that probes of many endpoints do not stay in step.
fn jitter(interval: Duration) -> Duration {
    interval.mul_f64(fastrand::f64() / 20.0)
}

/// Keeps the addresses of one name up to date. A name that cannot be found for once keeps those it had.
async fn look_up(name: Name, lookups: Arc<Semaphore>) {
    let mut known = false;
    loop {
        let found = {
            let Ok(_turn) = lookups.acquire().await else { return };
            tokio::net::lookup_host((name.name.as_str(), name.port)).await
        };
        match found {
            Ok(addresses) => {
                let mut addresses: Vec<SocketAddr> = addresses.filter(SocketAddr::is_ipv4).collect();
                addresses.sort_unstable();
                addresses.dedup();
                known = !addresses.is_empty();
                (name.publish)(addresses);
            }
            Err(error) => tracing::warn!(name = name.name, %error, "an endpoint's name is not found"),
        }
        tokio::time::sleep(if known { REFRESH } else { REFRESH_LOST }).await;
    }
}
