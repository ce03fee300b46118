//! Putting a service document in place and waiting for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::service::{Document, OPERATION, Readiness};
use super::{location_path, namespace_path};
use crate::gcloud::error::Failure;
use crate::gcloud::invocation::Invocation;
use crate::http::Answer;

/// How long a rollout is waited for.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Pauses between two looks at a service.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where a service lives.
pub struct Place {
    pub project: String,
    pub region: String,
    pub service: String,
}

impl Place {
    pub fn collection(&self) -> String {
        format!("{}/services", namespace_path(&self.region, &self.project))
    }

    pub fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.service)
    }

    /// The service, if there is one.
    pub fn read(&self, inv: &Invocation<'_>) -> Result<Option<Value>, Failure> {
        let answer = inv.api.get(&format!("{}?alt=json", self.path()))?;
        match answer.status {
            404 => Ok(None),
            _ if answer.is_success() => Ok(Some(answer.body)),
            _ => Err(Failure::run(&answer)),
        }
    }

    /// Creates or replaces the service.
    pub fn write(
        &self,
        inv: &Invocation<'_>,
        document: &Value,
        exists: bool,
        query: &str,
    ) -> Result<Answer, Failure> {
        Ok(match exists {
            true => inv.api.call("PUT", &format!("{}?alt=json{query}", self.path()), Some(document))?,
            false => inv.api.post(&format!("{}?alt=json{query}", self.collection()), document)?,
        })
    }
}

/// The lines of a rollout on stderr, in the order of its steps.
pub struct Progress<'i> {
    inv: &'i Invocation<'i>,
    /// The step whose line is not ended yet.
    open: bool,
}

impl<'i> Progress<'i> {
    /// Says what begins, unless nobody is to wait for it.
    pub fn start(inv: &'i Invocation<'i>, title: &str) -> Progress<'i> {
        if !inv.args.on("async") {
            inv.status(title);
        }
        Progress { inv, open: false }
    }

    pub fn step(&mut self, name: &str) {
        self.inv.printer.note(&format!("{name}..."));
        self.open = true;
    }

    pub fn end_step(&mut self, word: &str) {
        if self.open {
            self.inv.status(word);
        }
        self.open = false;
    }

    pub fn done(self) {
        self.inv.status("Done.");
    }

    /// Says that it failed and passes the failure on.
    pub fn fail(self, failure: Failure) -> Failure {
        self.fail_as("Deployment failed", failure)
    }

    /// As [`Progress::fail`], in other words.
    pub fn fail_as(self, words: &str, failure: Failure) -> Failure {
        self.inv.status(&format!("failed\n{words}"));
        failure
    }
}

/// Waits until the service that was written is ready. Gives it as it is then.
pub fn wait(inv: &Invocation<'_>, place: &Place, written: Value) -> Result<Value, Failure> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut service = written;
    loop {
        match Document(&service).readiness() {
            Readiness::Ready => return Ok(service),
            Readiness::Failed(message) => return Err(Failure::new(message)),
            Readiness::Unknown if start.elapsed() > LIMIT => {
                return Err(Failure::new(format!(
                    "The service did not become ready within {} minutes.",
                    LIMIT.as_secs() / 60
                )));
            }
            Readiness::Unknown => {}
        }
        let operation = Document(&service).annotation(OPERATION).map(str::to_owned);
        let next = match &operation {
            Some(operation) => wait_for_operation(inv, place, operation)?,
            None => place.read(inv)?,
        };
        match next {
            Some(next) => service = next,
            None if operation.is_none() => {
                return Err(Failure::new(format!("Service [{}] could not be found.", place.service)));
            }
            None => {}
        }
        if Document(&service).readiness() == Readiness::Unknown {
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// One long call; the service when the operation is done.
fn wait_for_operation(
    inv: &Invocation<'_>,
    place: &Place,
    operation: &str,
) -> Result<Option<Value>, Failure> {
    let path = format!(
        "/run/{}{}/operations/{operation}:wait?alt=json",
        place.region,
        location_path(&place.project, &place.region)
    );
    let answer = inv.api.post(&path, &json!({"timeout": "10s"}))?;
    if answer.status == 404 {
        // The server keeps no operation of that name: the service itself tells.
        return place.read(inv);
    }
    if !answer.is_success() {
        return Err(Failure::run(&answer));
    }
    if let Some(message) = answer.body.pointer("/error/message").and_then(Value::as_str) {
        return Err(Failure::new(message));
    }
    let done = answer.body.get("done").and_then(Value::as_bool) == Some(true);
    Ok(if done { answer.body.get("response").cloned() } else { None })
}
