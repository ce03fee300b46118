//! One attempt of a task: a container, from its start to its end.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::timeout;
use vestibule_logs::Severity;

use super::Course;
use crate::desired::{Execution, TaskFailure};
use crate::driver::{Exit, Failure, Order, Owner};
use crate::keeper::{self, Context};
use crate::output::{Journal, Subject};
use crate::pod::Pod;
use crate::secrets::{self, Reader};

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
        if let Err(outcome) = self.start(&mut pod, metadata).await {
            pod.end(self.context.shutdown_grace).await;
            return outcome;
        }
        let limit = self.execution.timeout;
        let outcome = tokio::select! {
            biased;
            ended = timeout(limit, pod.exited()) => match ended {
                Ok((_, exit)) => self.of_exit(exit),
                Err(_) => self.timed_out(),
            },
            stopped = self.stopped() => stopped,
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

    async fn start(&self, pod: &mut Pod, metadata: Option<&str>) -> Result<(), Outcome> {
        let container = &self.execution.container;
        let driver = self.context.drivers.choose(std::iter::once(container));
        let owner = self.owner();
        tokio::select! {
            biased;
            stopped = self.stopped() => return Err(stopped),
            prepared = driver.prepare(&owner, container) => prepared.map_err(|failure| self.refused(failure))?,
        };
        let reader = Reader {
            source: self.context.secrets.as_deref(),
            service_account: &self.execution.service_account,
        };
        let mut environment = self.environment(metadata);
        environment.extend(reader.variables(container).map_err(|failure| self.refused(failure))?);
        let filled = reader.volumes(&self.execution.volumes, true, |_| {});
        let filled = filled.map_err(|failure| self.refused(failure))?;
        let network = self.context.network(&*driver, &owner, &self.journal);
        let network = network.map_err(|failure| self.refused(failure))?;
        let order = Order {
            instance_id: self.journal.instance_id.clone(),
            owner,
            container: container.clone(),
            port: None,
            environment,
            mounts: secrets::mounts(container, &filled),
            network,
        };
        pod.start(&*driver, &order).await.map_err(|failure| self.refused(failure))?;
        Ok(())
    }

    /// Variables of the container but secrets, later ones winning. Cloud Run container contract, "Environment variables
    /// for jobs".
    fn environment(&self, metadata: Option<&str>) -> Vec<(String, String)> {
        let mut variables = self.execution.container.env.clone();
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

    fn of_exit(&self, exit: Exit) -> Outcome {
        if exit == Exit::Code(0) {
            self.journal.say(Severity::INFO, "Container called exit(0).");
            return Outcome::Succeeded;
        }
        self.journal.say(Severity::ERROR, &exit.to_string());
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
