//! Compute operations: every mutating call answers with one.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::link::{Kind, Link, Scope, Scopes, basename};
use super::verbs;
use crate::gcloud::grammar::{Command, Group};
use crate::gcloud::invocation::{Display, Invocation};
use crate::http::Answer;

/// How long a command waits for its operation.
const WAIT_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The first pause between two waits that did not end; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A change that was accepted.
#[derive(Debug, Clone)]
pub struct Operation {
    body: Value,
    project: String,
}

/// The outcome of a change.
pub struct Settled {
    /// `Created [LINK].` and the like name this.
    pub target: String,
    pub warnings: Vec<String>,
}

impl Operation {
    /// From the answer to a mutating call.
    pub fn accept(link: &Link, answer: Answer) -> Result<Operation, String> {
        match answer.is_success() {
            true => Ok(Operation { body: answer.body, project: link.project.clone() }),
            false => Err(answer.error_message()),
        }
    }

    fn text(&self, field: &str) -> &str {
        self.body.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn wait_path(&self) -> String {
        let scope = match (self.text("region"), self.text("zone")) {
            ("", "") => Scope::Global,
            ("", zone) => Scope::Zone(basename(zone).to_owned()),
            (region, _) => Scope::Region(basename(region).to_owned()),
        };
        format!(
            "/compute/v1/projects/{}/{scope}/operations/{}/wait?alt=json",
            self.project,
            self.text("name")
        )
    }

    /// Waits until the operation is done. `Err` holds the messages of what went wrong.
    pub fn settle(mut self, inv: &Invocation<'_>) -> Result<Settled, Vec<String>> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        while self.text("status") != "DONE" {
            if start.elapsed() > WAIT_LIMIT {
                return Err(vec![format!(
                    "Did not finish within {} minutes: {}",
                    WAIT_LIMIT.as_secs() / 60,
                    self.text("name")
                )]);
            }
            let answer =
                inv.api.call("POST", &self.wait_path(), None).map_err(|error| vec![error.to_string()])?;
            if !answer.is_success() {
                return Err(vec![answer.error_message()]);
            }
            self.body = answer.body;
            if self.text("status") != "DONE" {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        let messages = |pointer: &str| -> Vec<String> {
            let list = self.body.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(|item| item.get("message")?.as_str().map(str::to_owned)).collect()
        };
        let errors = messages("/error/errors");
        match errors.is_empty() {
            true => {
                Ok(Settled { target: self.text("targetLink").to_owned(), warnings: messages("/warnings") })
            }
            false => Err(errors),
        }
    }
}

const OPERATIONS: Kind =
    Kind { collection: "operations", scopes: Scopes::RegionOrGlobal, plural: "operations" };

const TABLE: Display = Display::new(
    "table(name,operationType:label=TYPE,targetLink.scope():label=TARGET,httpErrorStatusCode:label=HTTP_STATUS,\
     status,insertTime:label=TIMESTAMP)",
);

pub fn group() -> Group {
    Group::new("operations", "Read operations.")
        .command(
            Command::new("list", "List operations.", |inv| verbs::list(inv, &OPERATIONS, TABLE))
                .flags(super::list_scope_flags()),
        )
        .command(
            Command::new("describe", "Describe an operation.", |inv| {
                verbs::describe(inv, &OPERATIONS, "OPERATION")
            })
            .arg("OPERATION", "The name of the operation.")
            .flags(super::scope_flags()),
        )
}
