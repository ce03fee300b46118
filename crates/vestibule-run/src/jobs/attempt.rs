//! One attempt of a task: its containers, from their start to their end.
//!
//! The attempt has succeeded once every container has ended with 0 that no other container waits for. A container that
//! others wait for is there for them (a proxy, a database) and may never end by itself: it is ended with the attempt.
//! Whichever container ends with anything but 0 fails the attempt for all.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use vestibule_logs::Severity;

use super::Course;
use crate::desired::{Container, Execution, TaskFailure};
use crate::driver::{Exit, Failure, Order, Owner};
use crate::keeper::{self, Context};
use crate::output::{Journal, Subject};
use crate::pod::{self, Part, Pod, Startup};
use crate::secrets;
use crate::setting::{self, Setting, Wanted};

/// How an attempt ended.
pub(super) enum Outcome {
    Succeeded,
    /// `again`: another attempt may go better.
    Failed {
        failure: TaskFailure,
        again: bool,
    },
    /// The execution was cancelled meanwhile.
    Cancelled,
    /// The runtime ended meanwhile: the next one makes the attempt again.
    Interrupted,
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Outcome {
        let Failure { reason, message, transient } = failure;
        Outcome::Failed {
            failure: TaskFailure { reason, message, exit_code: None, signal: None },
            again: transient,
        }
    }
}

/// An attempt that is to be made.
pub(super) struct Attempt {
    context: Arc<Context>,
    execution: Arc<Execution>,
    course: watch::Receiver<Course>,
    index: u32,
    attempt: u32,
    journal: Journal,
}

impl Attempt {
    pub(super) fn new(
        context: Arc<Context>,
        execution: Arc<Execution>,
        course: watch::Receiver<Course>,
        index: u32,
        attempt: u32,
    ) -> Self {
        let journal = Journal {
            sink: context.logs.clone(),
            of: Subject::Task { execution: execution.key.clone(), index, attempt },
            instance_id: keeper::new_id().into(),
            container: None,
        };
        Self { context, execution, course, index, attempt, journal }
    }

    /// Runs the container until nothing of it is left.
    pub(super) async fn run(self) -> Outcome {
        let id = self.journal.instance_id.clone();
        let Some(metadata) = self.context.metadata.clone() else { return self.with(None).await };
        let address = metadata.open(&id, &self.owner());
        let outcome = self.with(address.as_deref()).await;
        metadata.close(&id);
        outcome
    }

    fn owner(&self) -> Owner {
        Owner::Task { execution: self.execution.clone(), index: self.index, attempt: self.attempt }
    }

    async fn with(&self, metadata: Option<&str>) -> Outcome {
        let mut pod = Pod::new(self.journal.clone(), self.context.output.clone());
        let outcome = match self.start(&mut pod, metadata).await {
            Ok(deadline) => {
                tokio::select! {
                    biased;
                    ended = timeout_at(deadline, pod.until_done()) => match ended {
                        Ok(None) => self.succeeded(),
                        Ok(Some((which, exit))) => self.failed(pod.part(which), exit),
                        Err(_) => self.timed_out(),
                    },
                    stopped = self.stopped() => stopped,
                }
            }
            Err(outcome) => outcome,
        };
        pod.end(self.context.shutdown_grace).await;
        pod.drained().await;
        outcome
    }

    /// Completes when the attempt must not go on.
    async fn stopped(&self) -> Outcome {
        let (mut course, mut closing) = (self.course.clone(), self.context.closing.clone());
        tokio::select! {
            biased;
            _ = course.wait_for(|course| *course != Course::GoOn) => Outcome::Cancelled,
            _ = closing.wait_for(|closing| *closing) => Outcome::Interrupted,
        }
    }

    /// Gets the images and starts all containers, in the order in which they wait for each other. When the attempt has
    /// taken too long.
    async fn start(&self, pod: &mut Pod, metadata: Option<&str>) -> Result<Instant, Outcome> {
        let setting = self.prepare().await?;
        let deadline = Instant::now() + self.execution.timeout;
        let containers = &self.execution.containers;
        for wave in pod::waves(containers) {
            let first = pod.len();
            for at in wave {
                let order = self.order(&setting, at, metadata);
                // Not dropped half done when told to stop: something might be left that nobody knows of.
                pod.start(&*setting.driver, &order).await.map_err(|failure| self.refused(failure))?;
            }
            tokio::select! {
                biased;
                started = timeout_at(deadline, pod.until_started(first)) => match started {
                    Ok(Startup::Ready) => {}
                    Ok(Startup::Exited(which, exit)) => return Err(self.failed(pod.part(which), exit)),
                    Ok(Startup::TimedOut(which)) => return Err(self.never_started(pod.part(which))),
                    Err(_) => return Err(self.timed_out()),
                },
                stopped = self.stopped() => return Err(stopped),
            }
        }
        Ok(deadline)
    }

    /// Does what can be done before anything is started.
    async fn prepare(&self) -> Result<Setting, Outcome> {
        let owner = self.owner();
        let wanted = Wanted {
            owner: &owner,
            containers: self.execution.containers.iter().collect(),
            volumes: &self.execution.volumes,
            checked: true,
        };
        let prepared = tokio::select! {
            biased;
            stopped = self.stopped() => return Err(stopped),
            prepared = setting::prepare(&self.context, &wanted, &self.journal) => prepared,
        };
        prepared.map_err(|failure| self.refused(failure))
    }

    fn order(&self, setting: &Setting, at: usize, metadata: Option<&str>) -> Order {
        let container = &self.execution.containers[at];
        let mut environment = self.environment(container, metadata);
        environment.extend(setting.variables[at].iter().cloned());
        Order {
            instance_id: self.journal.instance_id.clone(),
            owner: self.owner(),
            container: container.clone(),
            port: None,
            environment,
            mounts: secrets::mounts(container, &setting.filled),
            network: setting.network.clone(),
        }
    }

    /// Variables of a container but secrets, later ones winning. Cloud Run container contract, "Environment variables
    /// for jobs".
    fn environment(&self, container: &Container, metadata: Option<&str>) -> Vec<(String, String)> {
        let mut variables = container.env.clone();
        let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
        set("CLOUD_RUN_JOB", &self.execution.key.job);
        set("CLOUD_RUN_EXECUTION", &self.execution.key.name);
        set("CLOUD_RUN_TASK_INDEX", &self.index.to_string());
        set("CLOUD_RUN_TASK_ATTEMPT", &self.attempt.to_string());
        set("CLOUD_RUN_TASK_COUNT", &self.execution.task_count.to_string());
        keeper::metadata_variables(metadata, set);
        variables
    }

    /// The container could not be started.
    fn refused(&self, failure: Failure) -> Outcome {
        self.journal.say(Severity::ERROR, &failure.message);
        failure.into()
    }

    fn succeeded(&self) -> Outcome {
        self.journal.say(Severity::INFO, "Container called exit(0).");
        Outcome::Succeeded
    }

    /// A container did not come to listen where others need it.
    fn never_started(&self, part: &Part) -> Outcome {
        let message = format!("The user-provided container '{}' failed to start.", part.container.name);
        self.journal.of_container(&part.container.name).say(Severity::ERROR, &message);
        Failure { reason: "HealthCheckContainerError".to_owned(), message, transient: true }.into()
    }

    /// A container ended as it should not.
    fn failed(&self, part: &Part, exit: Exit) -> Outcome {
        self.journal.of_container(&part.container.name).say(Severity::ERROR, &exit.to_string());
        let (exit_code, signal, message) = match exit {
            Exit::Code(code) => (Some(code), None, "The container exited with an error.".to_owned()),
            Exit::Signal(signal) => (None, Some(signal), exit.to_string()),
            Exit::OutOfMemory { .. } => (None, Some(9), exit.to_string()),
            Exit::Unknown => (None, None, exit.to_string()),
        };
        let failure = TaskFailure { reason: "NonZeroExitCode".to_owned(), message, exit_code, signal };
        Outcome::Failed { failure, again: true }
    }

    fn timed_out(&self) -> Outcome {
        let message = "The configured timeout was reached.".to_owned();
        let said = format!(
            "Terminating task because it has reached the maximum timeout of {} seconds.",
            self.execution.timeout.as_secs()
        );
        self.journal.say(Severity::ERROR, &said);
        let failure =
            TaskFailure { reason: "NonZeroExitCode".to_owned(), message, exit_code: None, signal: Some(15) };
        Outcome::Failed { failure, again: true }
    }
}
