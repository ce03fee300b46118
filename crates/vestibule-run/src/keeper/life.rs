//! The life of one instance, from the order to its end.
//!
//! One task an instance. It tells the keeper what happens and is told only one thing: to stop. Whatever happens, it
//! returns when nothing of the instance is left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use vestibule_logs::{Severity, Stream};

use super::Context;
use super::environment::environment;
use crate::desired::{Revision, Service};
use crate::driver::{Exit, Failure, Handle, Order, Output, Started, end};
use crate::output::{Journal, capture};
use crate::probe;
use crate::registry::Registered;

/// What an instance tells its keeper.
pub(super) enum Event {
    /// Its startup probe passed.
    Ready { number: u64, address: SocketAddr, image_digest: String, took: Duration },
    /// It could not be started, or its startup probe failed.
    Failed { number: u64, failure: Failure },
    /// Nothing is left of it. Always the last event.
    Ended { number: u64 },
}

/// An instance that is to be.
pub(super) struct Life {
    pub(super) context: Arc<Context>,
    pub(super) number: u64,
    pub(super) service: Arc<Service>,
    pub(super) revision: Arc<Revision>,
    pub(super) registered: Arc<Registered>,
    pub(super) journal: Journal,
    /// Completes when the instance is to stop.
    pub(super) stop: oneshot::Receiver<()>,
    pub(super) events: mpsc::UnboundedSender<Event>,
}

/// How the time until an instance is ready ended.
enum Startup {
    Ready,
    Exited(Exit),
    TimedOut,
    Stopped,
}

impl Life {
    /// Runs the instance until nothing of it is left.
    pub(super) async fn live(mut self) {
        let id = self.journal.instance_id.clone();
        match self.context.metadata.clone() {
            None => self.run(None).await,
            Some(metadata) => {
                let address = metadata.open(&id, &self.service, &self.revision);
                self.run(address.as_deref()).await;
                metadata.close(&id);
            }
        }
        self.tell(Event::Ended { number: self.number });
    }

    fn tell(&self, event: Event) {
        // The keeper lives until all its instances have ended, so it can only be gone if the whole runtime is.
        let _ = self.events.send(event);
    }

    async fn run(&mut self, metadata: Option<&str>) {
        let began = Instant::now();
        let (image_digest, started) = match self.start(metadata).await {
            Ok(Some(started)) => started,
            Ok(None) => return,
            Err(failure) => {
                self.journal.say(Severity::ERROR, &failure.message);
                self.tell(Event::Failed { number: self.number, failure });
                return;
            }
        };
        let Started { address, output, handle } = started;
        self.registered.started(handle.pid(), address);
        let (gone, watch_gone) = watch::channel(false);
        self.capture(output, &watch_gone);
        match self.until_ready(&*handle, address).await {
            Startup::Ready => {
                self.tell(Event::Ready { number: self.number, address, image_digest, took: began.elapsed() });
                self.until_end(&*handle).await;
            }
            Startup::Stopped => {
                end(&*handle, self.context.shutdown_grace).await;
            }
            Startup::Exited(exit) => {
                self.journal.say(Severity::WARNING, &exit.to_string());
                self.tell_unhealthy(true);
            }
            Startup::TimedOut => {
                self.tell_unhealthy(false);
                end(&*handle, self.context.shutdown_grace).await;
            }
        }
        gone.send_replace(true);
    }

    /// Gets the image and starts the instance; `None` if it was told to stop meanwhile.
    async fn start(&mut self, metadata: Option<&str>) -> Result<Option<(String, Started)>, Failure> {
        let driver = self.context.drivers.choose(&self.revision);
        let image_digest = tokio::select! {
            biased;
            _ = &mut self.stop => return Ok(None),
            prepared = driver.prepare(&self.revision) => prepared?,
        };
        let order = Order {
            instance_id: self.journal.instance_id.clone(),
            service: self.service.clone(),
            revision: self.revision.clone(),
            environment: environment(&self.service, &self.revision, metadata),
        };
        // Not dropped half done when told to stop: something might be left that nobody knows of.
        let started = driver.start(&order).await?;
        Ok(Some((image_digest, started)))
    }

    fn capture(&self, output: Output, gone: &watch::Receiver<bool>) {
        for (fd, stream) in [(output.stdout, Stream::Stdout), (output.stderr, Stream::Stderr)] {
            if let Some(fd) = fd {
                self.context.output.spawn(capture(fd, stream, self.journal.clone(), gone.clone()));
            }
        }
    }

    async fn until_ready(&mut self, handle: &dyn Handle, address: SocketAddr) -> Startup {
        let probed = tokio::select! {
            biased;
            _ = &mut self.stop => return Startup::Stopped,
            exit = handle.exited() => return Startup::Exited(exit),
            probed = probe::until_ready(&self.revision, address) => probed,
        };
        if probed.is_err() {
            return Startup::TimedOut;
        }
        let (title, subject) = (probe::title(&self.revision), probe::subject(&self.revision));
        self.journal.say(Severity::INFO, &format!("{title} succeeded after 1 attempt {subject}."));
        Startup::Ready
    }

    /// Waits for the end of a ready instance, its own or the one it is told.
    async fn until_end(&mut self, handle: &dyn Handle) {
        let exit = tokio::select! {
            biased;
            exit = handle.exited() => exit,
            _ = &mut self.stop => {
                end(handle, self.context.shutdown_grace).await;
                return;
            }
        };
        self.journal.say(Severity::WARNING, &exit.to_string());
    }

    /// It did not come to listen. `transient`: another start may go better.
    fn tell_unhealthy(&self, transient: bool) {
        let (title, subject) = (probe::title(&self.revision), probe::subject(&self.revision));
        let times = match self.revision.startup_probe.failure_threshold.max(1) {
            1 => "1 time".to_owned(),
            times => format!("{times} times"),
        };
        let text = format!("{title} failed {times} consecutively {subject}. The instance was not started.");
        self.journal.say(Severity::ERROR, &text);
        let message = self.health_message();
        let failure = Failure { reason: "HealthCheckContainerError".to_owned(), message, transient };
        self.tell(Event::Failed { number: self.number, failure });
    }

    /// In Cloud Run's words.
    fn health_message(&self) -> String {
        let (key, revision, port) = (&self.service.key, &self.revision.name, self.revision.port);
        format!(
            "Cloud Run error: The user-provided container failed to start and listen on the port defined provided by \
             the PORT={port} environment variable. Logs for this revision might contain more information.\n\nLogs URL: \
             https://console.cloud.google.com/logs/viewer?project={project}&resource=cloud_run_revision/service_name/\
             {service}/revision_name/{revision}&advancedFilter=resource.type%3D%22cloud_run_revision%22%0A\
             resource.labels.service_name%3D%22{service}%22%0Aresource.labels.revision_name%3D%22{revision}%22",
            project = key.project,
            service = key.name,
        )
    }
}
