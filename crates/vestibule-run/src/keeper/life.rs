//! The life of one instance, from the order to its end.
//!
//! One task an instance. It tells the keeper what happens and is told only one thing: to stop. Whatever happens, it
//! returns when nothing of the instance is left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use vestibule_logs::Severity;

use super::Context;
use super::environment::environment;
use crate::desired::{Container, Revision, Service};
use crate::driver::{Exit, Failure, Order, Owner};
use crate::instance::Fate;
use crate::output::Journal;
use crate::pod::{self, Part, Pod, Startup};
use crate::probe::{self, Purpose};
use crate::registry::Registered;
use crate::secrets;
use crate::setting::{self, Setting, Wanted};
use crate::throttle::Throttle;

/// What an instance tells its keeper.
pub(super) enum Event {
    /// Its startup probes passed.
    Ready {
        number: u64,
        address: SocketAddr,
        image_digest: String,
        took: Duration,
        throttle: Option<Arc<Throttle>>,
    },
    /// It is ready, and its readiness probe says that it can (`false`) or cannot (`true`) take requests now.
    Resting { number: u64, resting: bool },
    /// It could not be started, or a startup probe failed.
    Failed { number: u64, failure: Failure },
    /// Nothing is left of it. Always the last event. `unhealthy`: it was ended because its liveness probe failed.
    Ended { number: u64, unhealthy: bool },
}

/// An instance that is to be.
pub(super) struct Life {
    pub(super) context: Arc<Context>,
    pub(super) number: u64,
    pub(super) service: Arc<Service>,
    pub(super) revision: Arc<Revision>,
    pub(super) registered: Arc<Registered>,
    pub(super) journal: Journal,
    /// Told how it ended.
    pub(super) fate: Fate,
    /// Completes when the instance is to stop.
    pub(super) stop: oneshot::Receiver<()>,
    pub(super) events: mpsc::UnboundedSender<Event>,
}

/// Why an instance did not come to be.
enum Abort {
    /// It was told to stop.
    Stopped,
    /// It could not be started.
    Failed(Failure),
    /// A container did not serve. `transient`: another start may go better.
    Unhealthy { part: usize, transient: bool },
}

impl From<Failure> for Abort {
    fn from(failure: Failure) -> Abort {
        Abort::Failed(failure)
    }
}

impl Life {
    /// Runs the instance until nothing of it is left.
    pub(super) async fn live(mut self) {
        let id = self.journal.instance_id.clone();
        let unhealthy = match self.context.metadata.clone() {
            None => self.run(None).await,
            Some(metadata) => {
                let address = metadata.open(&id, &self.owner());
                let unhealthy = self.run(address.as_deref()).await;
                metadata.close(&id);
                unhealthy
            }
        };
        self.tell(Event::Ended { number: self.number, unhealthy });
    }

    fn tell(&self, event: Event) {
        // The keeper lives until all its instances have ended, so it can only be gone if the whole runtime is.
        let _ = self.events.send(event);
    }

    /// Whether it was ended because it was unhealthy.
    async fn run(&mut self, metadata: Option<&str>) -> bool {
        let began = Instant::now();
        let mut pod = Pod::new(self.journal.clone(), self.context.output.clone());
        let grace = self.context.shutdown_grace;
        match self.start(&mut pod, metadata).await {
            Ok((image_digest, ingress)) => {
                let (number, address, took) = (self.number, pod.address(ingress), began.elapsed());
                let throttle = pod.throttle().filter(|_| self.is_throttled());
                self.tell(Event::Ready { number, address, image_digest, took, throttle });
                self.until_end(&pod, ingress).await
            }
            Err(abort) => {
                if let Abort::Unhealthy { part, transient } = abort {
                    self.tell_unhealthy(pod.part(part), transient);
                } else if let Abort::Failed(failure) = abort {
                    self.journal.say(Severity::ERROR, &failure.message);
                    self.tell(Event::Failed { number: self.number, failure });
                }
                pod.end(grace).await;
                false
            }
        }
    }

    fn is_throttled(&self) -> bool {
        let probed =
            |container: &Container| container.liveness_probe.is_some() || container.readiness_probe.is_some();
        self.revision.throttled && !self.revision.containers().any(probed)
    }

    /// Gets the images and starts all containers. The digest of the ingress container's image, and its place in the
    /// pod.
    async fn start(&mut self, pod: &mut Pod, metadata: Option<&str>) -> Result<(String, usize), Abort> {
        let mut setting = self.prepare().await?;
        let revision = self.revision.clone();
        let containers: Vec<&Container> = revision.containers().collect();
        let mut ingress = 0;
        for wave in pod::waves(containers.iter().copied()) {
            let first = pod.len();
            for at in wave {
                let order = self.order(&setting, at, containers[at], metadata);
                // Not dropped half done when told to stop: something might be left that nobody knows of.
                let part = pod.start(&*setting.driver, &order).await?;
                let address = part.place.address;
                if at == 0 {
                    ingress = pod.len() - 1;
                    self.registered.started(pod.pid(ingress), address);
                }
            }
            self.until_ready(pod, first).await?;
        }
        Ok((setting.digests.swap_remove(0), ingress))
    }

    /// Does what can be done before anything is started.
    async fn prepare(&mut self) -> Result<Setting, Abort> {
        let (owner, revision) = (self.owner(), self.revision.clone());
        let wanted = Wanted {
            owner: &owner,
            containers: revision.containers().collect(),
            volumes: &revision.volumes,
            checked: !revision.proven,
        };
        tokio::select! {
            biased;
            _ = &mut self.stop => Err(Abort::Stopped),
            prepared = setting::prepare(&self.context, &wanted, &self.journal) => Ok(prepared?),
        }
    }

    fn owner(&self) -> Owner {
        Owner::Revision { service: self.service.clone(), revision: self.revision.clone() }
    }

    fn order(&self, setting: &Setting, at: usize, container: &Container, metadata: Option<&str>) -> Order {
        let mut environment = environment(&self.service, &self.revision, container, metadata);
        environment.extend(setting.variables[at].iter().cloned());
        Order {
            instance_id: self.journal.instance_id.clone(),
            owner: self.owner(),
            container: container.clone(),
            port: (at == 0).then_some(self.revision.port),
            environment,
            mounts: secrets::mounts(container, &setting.filled),
            network: setting.network.clone(),
        }
    }

    async fn until_ready(&mut self, pod: &Pod, first: usize) -> Result<(), Abort> {
        let startup = tokio::select! {
            biased;
            _ = &mut self.stop => return Err(Abort::Stopped),
            startup = pod.until_ready(first) => startup,
        };
        match startup {
            Startup::Ready => Ok(()),
            Startup::Exited(part, exit) => {
                self.say_exit(pod.part(part), exit);
                Err(Abort::Unhealthy { part, transient: true })
            }
            Startup::TimedOut(part) => Err(Abort::Unhealthy { part, transient: false }),
        }
    }

    /// Waits for the end of a ready instance, its own or the one it is told, and sees to it that nothing is left.
    /// Whether it was ended because it was unhealthy.
    async fn until_end(&mut self, pod: &Pod, ingress: usize) -> bool {
        let grace = self.context.shutdown_grace;
        let (number, events, journal) = (self.number, self.events.clone(), self.journal.clone());
        let rest = |resting| drop(events.send(Event::Resting { number, resting }));
        let unready = |part: &Part, resting: bool| {
            rest(resting);
            say_unready(&journal, part, resting);
        };
        tokio::select! {
            biased;
            (part, exit) = pod.exited() => {
                // Requests that broke with it wait to hear.
                self.fate.seal(exit);
                self.say_exit(pod.part(part), exit);
                // Other containers may take their time to end, and no request must come meanwhile.
                rest(true);
                pod.end(grace).await;
                false
            }
            _ = &mut self.stop => {
                pod.end(grace).await;
                false
            }
            part = pod.until_dead() => {
                self.say_dead(pod.part(part));
                pod.kill().await;
                true
            }
            () = readiness(pod.part(ingress), unready) => false,
        }
    }

    fn say_exit(&self, part: &Part, exit: Exit) {
        let severity =
            if matches!(exit, Exit::OutOfMemory { .. }) { Severity::ERROR } else { Severity::WARNING };
        self.journal.of_container(&part.container.name).say(severity, &exit.to_string());
    }

    fn say_dead(&self, part: &Part) {
        let Some(probe) = &part.container.liveness_probe else { return };
        let title = probe::title(Purpose::Liveness, probe, part.place.port);
        let (times, subject) = (probe::times(probe), probe::subject(&part.container, probe));
        let text = format!("{title} failed {times} consecutively {subject}. The instance was shut down.");
        self.journal.of_container(&part.container.name).say(Severity::ERROR, &text);
    }

    /// A container did not come to listen. `transient`: another start may go better.
    fn tell_unhealthy(&self, part: &Part, transient: bool) {
        if let Some(probe) = &part.container.startup_probe {
            let title = probe::title(Purpose::Startup, probe, part.place.port);
            let (times, subject) = (probe::times(probe), probe::subject(&part.container, probe));
            let text =
                format!("{title} failed {times} consecutively {subject}. The instance was not started.");
            self.journal.of_container(&part.container.name).say(Severity::ERROR, &text);
        }
        let message = self.health_message(part);
        let failure = Failure { reason: "HealthCheckContainerError".to_owned(), message, transient };
        self.tell(Event::Failed { number: self.number, failure });
    }

    /// In Cloud Run's words.
    fn health_message(&self, part: &Part) -> String {
        let (key, revision) = (&self.service.key, &self.revision.name);
        let what = match part.place.port {
            Some(port) => format!(
                "The user-provided container failed to start and listen on the port defined provided by the PORT={port} \
                 environment variable."
            ),
            None => format!("The user-provided container '{}' failed to start.", part.container.name),
        };
        format!(
            "Cloud Run error: {what} Logs for this revision might contain more information.\n\nLogs URL: \
             https://console.cloud.google.com/logs/viewer?project={project}&resource=cloud_run_revision/service_name/\
             {service}/revision_name/{revision}&advancedFilter=resource.type%3D%22cloud_run_revision%22%0A\
             resource.labels.service_name%3D%22{service}%22%0Aresource.labels.revision_name%3D%22{revision}%22",
            project = key.project,
            service = key.name,
        )
    }
}

fn say_unready(journal: &Journal, part: &Part, resting: bool) {
    let Some(probe) = &part.container.readiness_probe else { return };
    let title = probe::title(Purpose::Readiness, probe, part.place.port);
    let (times, subject) = (probe::times(probe), probe::subject(&part.container, probe));
    let journal = journal.of_container(&part.container.name);
    match resting {
        true => journal.say(
            Severity::WARNING,
            &format!("{title} failed {times} consecutively {subject}. The instance gets no new requests."),
        ),
        false => journal
            .say(Severity::INFO, &format!("{title} succeeded {subject}. The instance gets requests again.")),
    }
}

/// Follows the readiness probe of the ingress container for ever. `rest` is told each change; at first it is ready.
async fn readiness(part: &Part, rest: impl Fn(&Part, bool)) {
    let Some(probe) = &part.container.readiness_probe else { return std::future::pending().await };
    tokio::time::sleep(probe.initial_delay).await;
    let mut passes = probe::passes_at_first(probe, part.place).await;
    loop {
        if passes {
            probe::until_failed(probe, part.place).await;
        } else {
            rest(part, true);
            probe::until_passed(probe, part.place).await;
            rest(part, false);
        }
        passes = !passes;
    }
}
