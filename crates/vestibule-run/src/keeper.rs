//! Keeps the instances of one revision.
//!
//! A keeper is one task. It owns the line of waiting requests and decides, whenever something happened or a time came,
//! who gets a slot, who has waited too long, and how many instances to start or stop. The decision about instances is
//! made by [`autoscaler::decide`]; here is only what carries it out. That all this is in one task is what keeps it
//! simple: no lock is needed, and nothing can change between a look and a deed but the number of requests in an
//! instance, which [`Instance`] takes care of itself.

mod environment;
mod life;
mod patience;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use vestibule_logs::{LogSink, Severity};

use crate::autoscaler::{self, Limits, Observation, ReadyInstance, earlier};
use crate::config::{MetadataSource, NetworkSource, SecretSource};
use crate::desired::{Revision, RevisionState, Service};
use crate::driver::choice::Drivers;
use crate::driver::{Driver, Failure, InstanceNetwork, Owner};
use crate::instance::{Fate, Instance, Lease};
use crate::line::{Line, Waiter};
use crate::output::{Journal, Readers, Subject};
use crate::pool::Pool;
use crate::probe;
use crate::refusal::Refusal;
use crate::registry::{Registered, Registry};
use crate::reports::{Reports, TaskReports};
use crate::throttle::{self, Throttle};
pub(crate) use environment::metadata_variables;
use life::{Event, Life};
use patience::{Backoff, StartupTimes};

/// An instance that ended by itself sooner than this after it became ready counts as a failed start.
const STABLE: Duration = Duration::from_secs(10);
/// How often a new revision is tried before it is told that it does not start.
const PROOF_ATTEMPTS: u32 = 2;
/// How long a revision that is to go is kept for requests that were sent its way before they heard of it.
const LINGER: Duration = Duration::from_secs(1);
/// How long to sleep when there is nothing to wait for. Only a limit for the timer.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Said of an instance that was to be in a VPC network and cannot be.
const NO_NETWORK: &str = "The VPC network settings of the revision have no effect: the instance is a process in this \
                          machine's own network.";

/// What keepers share.
pub(crate) struct Context {
    pub(crate) drivers: Drivers,
    pub(crate) logs: LogSink,
    pub(crate) metadata: Option<Arc<dyn MetadataSource>>,
    pub(crate) networks: Option<Arc<dyn NetworkSource>>,
    pub(crate) secrets: Option<Arc<dyn SecretSource>>,
    pub(crate) reports: Reports,
    pub(crate) task_reports: TaskReports,
    pub(crate) registry: Registry,
    pub(crate) idle_timeout: Duration,
    pub(crate) shutdown_grace: Duration,
    /// Where the output of instances is read.
    pub(crate) output: Readers,
    /// `true`: the runtime ends, and everything is to be stopped, whatever it does.
    pub(crate) closing: watch::Receiver<bool>,
}

/// What a keeper is told.
pub(crate) enum Command {
    /// The service changed, or the numbers of the revision did.
    Update { service: Arc<Service>, revision: Arc<Revision>, reachable: bool },
    /// The revision is to go: serve who came, then end.
    Retire,
}

/// Whether the revision has shown that it can start.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    /// `image_digest`: of the image of an instance that became ready. What is missing then is the rest of the minimum.
    Wanted {
        attempts: u32,
        image_digest: Option<String>,
    },
    Given,
    Failed,
}

impl Proof {
    const UNTRIED: Proof = Proof::Wanted { attempts: 0, image_digest: None };
}

/// An instance that has not ended.
struct Live {
    phase: Phase,
    registered: Arc<Registered>,
    journal: Journal,
    fate: Fate,
    /// Taken when it is told to stop.
    stop: Option<oneshot::Sender<()>>,
}

enum Phase {
    Starting,
    Ready {
        instance: Arc<Instance>,
        since: Instant,
        /// Its readiness probe fails: it gets no new requests.
        resting: bool,
    },
    Stopping,
}

/// The task that keeps a revision.
pub(crate) struct Keeper {
    context: Arc<Context>,
    pool: Arc<Pool>,
    waiters: mpsc::UnboundedReceiver<Waiter>,
    service: Arc<Service>,
    revision: Arc<Revision>,
    reachable: bool,
    retired: Option<Instant>,
    closing: bool,
    line: Line,
    live: BTreeMap<u64, Live>,
    next: u64,
    proof: Proof,
    backoff: Backoff,
    startups: StartupTimes,
    /// Why the last start failed.
    last_failure: String,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
}

impl Keeper {
    /// A keeper for the revision whose requests come through `pool` and `waiters`.
    pub(crate) fn new(
        context: Arc<Context>,
        (pool, waiters): (Arc<Pool>, mpsc::UnboundedReceiver<Waiter>),
        service: Arc<Service>,
        revision: Arc<Revision>,
        reachable: bool,
    ) -> Self {
        // A handful of events for each instance there is.
        let (events, inbox) = mpsc::unbounded_channel();
        let proof = if revision.proven { Proof::Given } else { Proof::UNTRIED };
        Self {
            context,
            pool,
            waiters,
            service,
            revision,
            reachable,
            retired: None,
            closing: false,
            line: Line::default(),
            live: BTreeMap::new(),
            next: 0,
            proof,
            backoff: Backoff::default(),
            startups: StartupTimes::default(),
            last_failure: String::new(),
            events,
            inbox,
        }
    }

    /// Keeps the revision until it is retired or closed and its last instance is gone.
    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let signals = self.pool.signals.clone();
        let mut closing = self.context.closing.clone();
        loop {
            let wake = self.settle(Instant::now());
            if self.is_over() {
                return;
            }
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing), if !self.closing => self.close(),
                Some(command) = commands.recv() => self.obey(command),
                Some(event) = self.inbox.recv() => self.note(event),
                Some(waiter) = self.waiters.recv() => {
                    self.line.push(waiter);
                    while let Ok(waiter) = self.waiters.try_recv() {
                        self.line.push(waiter);
                    }
                }
                () = signals.wake.notified() => {}
                () = sleep_until(wake.unwrap_or_else(|| Instant::now() + NEVER)) => {}
            }
        }
    }

    fn is_over(&self) -> bool {
        let over = self.closing || self.retired.is_some_and(|at| at.elapsed() >= LINGER);
        over && self.live.is_empty() && self.line.is_empty()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Update { service, revision, reachable } => {
                if revision.proven && self.proof != Proof::Failed {
                    self.proof = Proof::Given;
                }
                (self.service, self.revision, self.reachable) = (service, revision, reachable);
            }
            Command::Retire => self.retire(),
        }
    }

    fn close(&mut self) {
        self.closing = true;
        self.retire();
        self.live.values_mut().for_each(Live::stop);
        self.publish();
    }

    fn retire(&mut self) {
        if self.retired.is_none() {
            self.retired = Some(Instant::now());
            // From now on every request that ends is announced, and none enters past the keeper.
            self.pool.signals.interest.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Ready { number, address, image_digest, took, throttle } => {
                self.startups.add(took);
                self.backoff.succeeded();
                self.last_failure.clear();
                if let Proof::Wanted { image_digest: found, .. } = &mut self.proof {
                    *found = Some(image_digest);
                }
                self.welcome(number, address, throttle);
                let least = self.revision.min_instances.min(self.revision.max_instances.max(1));
                if self.count().1 >= least {
                    self.give_proof();
                }
            }
            Event::Failed { number, failure } => {
                if let Some(live) = self.live.get_mut(&number) {
                    live.stop();
                }
                self.note_failure(failure);
            }
            Event::Resting { number, resting: rests } => {
                if let Some(Phase::Ready { resting, .. }) =
                    self.live.get_mut(&number).map(|live| &mut live.phase)
                {
                    *resting = rests;
                    self.publish();
                }
            }
            Event::Ended { number, unhealthy } => self.bury(number, unhealthy),
        }
    }

    /// An instance is ready: requests may go to it.
    fn welcome(&mut self, number: u64, address: SocketAddr, throttle: Option<Arc<Throttle>>) {
        let signals = self.pool.signals.clone();
        if let Some(live) = self.live.get_mut(&number)
            && matches!(live.phase, Phase::Starting)
        {
            let instance = Instance::new(number, live.journal.instance_id.clone(), address, signals);
            let instance = instance.destined(live.fate.clone()).throttled(throttle.clone());
            let instance = Arc::new(instance);
            if let Some(throttle) = throttle {
                tokio::spawn(throttle::follow(Arc::downgrade(&instance), throttle));
            }
            live.registered.ready(&instance);
            live.phase = Phase::Ready { instance, since: Instant::now(), resting: false };
            self.publish();
        }
    }

    /// A new revision may take traffic, if an instance of it has been ready. It waits for its minimum only as long as
    /// nothing goes wrong: what has trouble with its second instance serves with its first.
    fn give_proof(&mut self) {
        if let Proof::Wanted { image_digest: Some(image_digest), .. } = &mut self.proof {
            let image_digest = std::mem::take(image_digest);
            self.proof = Proof::Given;
            self.report(RevisionState::Ready { image_digest });
        }
    }

    fn note_failure(&mut self, failure: Failure) {
        self.backoff.failed(Instant::now(), failure.transient);
        self.give_proof();
        if let Proof::Wanted { attempts, .. } = &mut self.proof {
            *attempts += 1;
            if *attempts >= PROOF_ATTEMPTS || !failure.transient {
                self.proof = Proof::Failed;
                let (reason, message) = (failure.reason, failure.message.clone());
                self.report(RevisionState::Failed { reason, message });
            }
        }
        self.last_failure = failure.message;
    }

    /// Nothing is left of an instance.
    fn bury(&mut self, number: u64, unhealthy: bool) {
        let Some(live) = self.live.remove(&number) else { return };
        self.give_proof();
        if let Phase::Ready { instance, since, .. } = live.phase {
            instance.close();
            self.publish();
            let why = match (unhealthy, since.elapsed() < STABLE) {
                (true, _) => "Instances fail their liveness probe.",
                (false, true) => "Instances end soon after they start.",
                (false, false) => return,
            };
            why.clone_into(&mut self.last_failure);
            self.backoff.crashed(Instant::now());
        }
    }

    /// Does everything there is to do now. Answers when to look again.
    fn settle(&mut self, now: Instant) -> Option<Instant> {
        if self.pool.take_cancelled() > 0 {
            let left = self.line.drop_cancelled();
            self.pool.leave(left);
        }
        self.serve_line();
        self.turn_away(now);
        let linger = self.retired.map(|at| at + LINGER).filter(|end| *end > now);
        earlier(earlier(self.scale(now), self.line.next_end(self.wait_limit())), linger)
    }

    /// Gives free slots to those who wait, first come, first served.
    fn serve_line(&mut self) {
        while !self.line.is_empty()
            && let Some(lease) = self.pool.take()
        {
            self.answer_first(Ok(lease));
        }
    }

    fn answer_first(&mut self, answer: Result<Lease, Refusal>) {
        if let Some(waiter) = self.line.pop() {
            self.dismiss(waiter, answer);
        }
    }

    /// Answers one who waited. It stops counting first: once it goes on, nobody must wait because of it.
    fn dismiss(&self, waiter: Waiter, answer: Result<Lease, Refusal>) {
        self.pool.leave(1);
        waiter.answer(answer);
    }

    /// Tells those who need not wait any longer.
    fn turn_away(&mut self, now: Instant) {
        while let Some(waiter) = self.line.pop_overdue(now) {
            self.dismiss(waiter, Err(Refusal::timeout()));
        }
        let limit = self.wait_limit();
        while let Some(waiter) = self.line.pop_waited(now, limit) {
            self.dismiss(waiter, Err(self.waited_too_long()));
        }
        while !self.line.is_empty()
            && let Some(refusal) = self.hopeless(now)
        {
            self.answer_first(Err(refusal));
        }
    }

    fn wait_limit(&self) -> Duration {
        // Containers that depend on each other start one after the other.
        let probes = self.revision.containers().filter_map(|container| container.startup_probe.as_ref());
        self.startups.wait_limit(probes.map(probe::budget).sum())
    }

    fn waited_too_long(&self) -> Refusal {
        let (starting, ready) = self.count();
        if ready == 0 && !self.last_failure.is_empty() {
            Refusal::start_failed(&self.last_failure)
        } else if starting + ready >= self.revision.max_instances.max(1) {
            Refusal::saturated()
        } else {
            Refusal::too_slow()
        }
    }

    /// Why nobody who waits can be served, if so.
    fn hopeless(&self, now: Instant) -> Option<Refusal> {
        if self.closing {
            return Some(Refusal::shutting_down());
        }
        if self.count() != (0, 0) {
            return None;
        }
        // A revision that is to go is not tried again and again.
        let failed = (self.retired.is_some() && !self.last_failure.is_empty())
            || self.proof == Proof::Failed
            || self.backoff.is_hopeless(now);
        failed.then(|| Refusal::start_failed(&self.last_failure))
    }

    /// Instances that are starting, and instances that are ready.
    fn count(&self) -> (u32, u32) {
        let starting = self.live.values().filter(|live| matches!(live.phase, Phase::Starting)).count();
        let ready = self.live.values().filter(|live| matches!(live.phase, Phase::Ready { .. })).count();
        (starting as u32, ready as u32)
    }

    fn observe(&self) -> Observation {
        let ready = self.live.values().filter_map(|live| match &live.phase {
            Phase::Ready { instance, resting, .. } => Some(ReadyInstance {
                number: instance.number,
                resting: *resting,
                in_flight: instance.in_flight(),
                last_used: instance.last_used().into_std(),
            }),
            _ => None,
        });
        Observation {
            limits: Limits {
                concurrency: self.revision.concurrency,
                min: self.revision.min_instances,
                max: self.revision.max_instances,
                idle_timeout: self.context.idle_timeout,
            },
            queued: self.line.len() as u32,
            starting: self.count().0,
            ready: ready.collect(),
            reachable: self.reachable && self.proof != Proof::Failed,
            proof_wanted: matches!(self.proof, Proof::Wanted { .. }),
            retry_at: self.backoff.retry_at().map(Instant::into_std),
            retired: self.retired.is_some() || self.closing,
        }
    }

    /// Starts and stops what has to be. Answers when to look again.
    fn scale(&mut self, now: Instant) -> Option<Instant> {
        let seen = self.observe();
        let actions = autoscaler::decide(&seen, now.into_std());
        let mut again = actions.wake_at;
        for number in &actions.stop {
            if !self.stop_idle(*number) {
                // A request came in meanwhile. It will be idle for long enough no sooner than this.
                again = earlier(again, Some(now.into_std() + seen.limits.idle_timeout));
            }
        }
        if !actions.stop.is_empty() {
            self.publish();
        }
        for _ in 0..actions.start {
            self.start(seen.queued > 0);
        }
        if self.retired.is_some() && self.line.is_empty() {
            let starting = self.live.values_mut().filter(|live| matches!(live.phase, Phase::Starting));
            starting.for_each(Live::stop);
        }
        again.map(Instant::from_std)
    }

    /// Stops an instance unless a request is in it.
    fn stop_idle(&mut self, number: u64) -> bool {
        let Some(live) = self.live.get_mut(&number) else { return true };
        let Phase::Ready { instance, .. } = &live.phase else { return true };
        if !instance.close_if_idle() {
            return false;
        }
        live.journal.say(Severity::INFO, "Stopping instance. Reason: AUTOSCALING - Instance was idle.");
        live.stop();
        true
    }

    fn start(&mut self, requested: bool) {
        let number = self.next;
        self.next += 1;
        let proof = matches!(self.proof, Proof::Wanted { .. });
        if self.proof == Proof::UNTRIED {
            self.report(RevisionState::Deploying);
        }
        let id: Arc<str> = new_id().into();
        let journal = Journal {
            sink: self.context.logs.clone(),
            of: Subject::Revision { service: self.service.key.clone(), revision: self.revision.name.clone() },
            instance_id: id.clone(),
            container: None,
        };
        journal.say(Severity::INFO, &format!("Starting new instance. Reason: {}", reason(proof, requested)));
        let registry = &self.context.registry;
        let registered = Arc::new(registry.add(self.service.key.clone(), self.revision.name.clone(), id));
        let (stop, stopped) = oneshot::channel();
        let fate = Fate::default();
        let life = Life {
            context: self.context.clone(),
            number,
            service: self.service.clone(),
            revision: self.revision.clone(),
            registered: registered.clone(),
            journal: journal.clone(),
            fate: fate.clone(),
            stop: stopped,
            events: self.events.clone(),
        };
        tokio::spawn(life.live());
        self.live
            .insert(number, Live { phase: Phase::Starting, registered, journal, fate, stop: Some(stop) });
    }

    fn report(&self, state: RevisionState) {
        self.context.reports.tell(&self.service.key, &self.revision.name, state);
    }

    /// Publishes the list of instances that take requests, oldest first.
    fn publish(&self) {
        let ready = self.live.values().filter_map(|live| match &live.phase {
            Phase::Ready { instance, resting: false, .. } => Some(instance.clone()),
            _ => None,
        });
        self.pool.publish(ready.collect());
    }
}

impl Context {
    /// The network for an instance that is about to start, if its driver has a use for one.
    pub(crate) fn network(
        &self,
        driver: &dyn Driver,
        owner: &Owner,
        journal: &Journal,
    ) -> Result<Option<Arc<dyn InstanceNetwork>>, Failure> {
        let Some(networks) = self.networks.as_ref().filter(|_| driver.has_networks()) else {
            if owner.vpc().is_some() {
                journal.say(Severity::WARNING, NO_NETWORK);
            }
            return Ok(None);
        };
        let opened = networks.open(&journal.instance_id, owner);
        let failure =
            |message| Failure { reason: "ResourcesUnavailable".to_owned(), message, transient: true };
        opened.map(Some).map_err(failure)
    }
}

impl Live {
    /// Tells it to stop and lets nothing more in.
    fn stop(&mut self) {
        if let Phase::Ready { instance, .. } = &self.phase {
            instance.close();
        }
        self.registered.stopping();
        self.phase = Phase::Stopping;
        if let Some(stop) = self.stop.take() {
            // An instance that has ended meanwhile needs no telling.
            let _ = stop.send(());
        }
    }
}

/// Why an instance is started, in Cloud Run's words.
fn reason(proof: bool, requested: bool) -> &'static str {
    if proof {
        "DEPLOYMENT_ROLLOUT - Instance started due to traffic shifting between revisions due to deployment, traffic \
         split adjustment, or deployment health check."
    } else if requested {
        "AUTOSCALING - Instance started due to traffic exceeding capacity or no existing capacity for current traffic."
    } else {
        "MANUAL_OR_CUSTOMER_MIN_INSTANCE - Instance started because of customer-configured min-instances or manual \
         scaling."
    }
}

/// Id of an instance: 64 hexadecimal digits.
pub(crate) fn new_id() -> String {
    (0..4).map(|_| format!("{:016x}", fastrand::u64(..))).collect()
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
