//! Operations: the receipts of changes.
//!
//! An operation is written once, in the transaction of its change, and its status is derived from what the data
//! planes have acknowledged (see [`crate::Planes`]). It is written again only when a data plane could not do what was
//! asked. Old ones are deleted in passing: each change removes a few that have expired, so that the store stays
//! small without a sweeper of its own.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use vestibule_model::name::{region_link, zone_link};
use vestibule_model::{ResourceName, Scope, id, time};
use vestibule_store::{KeyValue, Revision, View};

use super::{Call, Compute, requests};
use crate::{Change, Control, Document, Error, document};

/// How long a finished operation can be read.
pub const KEEP_FOR: SignedDuration = SignedDuration::from_hours(24);

/// How many operations are kept at most, over all projects.
pub const KEEP_NEWEST: usize = 10_000;

/// Longest time that `wait` blocks (Compute's documented limit).
pub const WAIT_LIMIT: Duration = Duration::from_secs(120);

/// How many expired operations one change removes at most. Above 1, so that the number falls.
const SWEEP: usize = 4;

const COLLECTION: &str = "operations";

/// What became of a change.
pub(super) enum Outcome {
    Made { target_id: String },
    Failed { error: Error },
}

/// All operations from the oldest to the newest, as keys with their time.
#[derive(Debug, Default)]
pub struct OperationLog(Mutex<VecDeque<(Timestamp, String)>>);

impl OperationLog {
    /// Finds the operations of a store.
    pub(crate) fn read(view: &View) -> OperationLog {
        let is_operation = |kv: &&KeyValue| kv.key.contains("/operations/");
        let mut found: Vec<(Timestamp, String)> = view
            .range("compute/")
            .filter(is_operation)
            .map(|kv| (inserted(document::object(&kv.value)), kv.key.to_string()))
            .collect();
        found.sort();
        OperationLog(Mutex::new(found.into()))
    }

    /// Adds a new operation to the log and stages the deletion of a few expired ones.
    fn push(&self, change: &mut Change<'_>, key: String) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = change.now();
        // One whose deletion was committed, or that was never committed, is gone from the store: forget it.
        while log.front().is_some_and(|(_, key)| !change.exists(key)) {
            log.pop_front();
        }
        let surplus = log.len().saturating_sub(KEEP_NEWEST);
        let expired = |at: usize, time: Timestamp| at < surplus || now.duration_since(time) > KEEP_FOR;
        for (at, (time, key)) in log.iter().take(SWEEP).enumerate() {
            if expired(at, *time) {
                forget(change, key);
            }
        }
        log.push_back((now, key));
    }
}

fn forget(change: &mut Change<'_>, key: &str) {
    let Some(operation) = change.get(key) else { return };
    let project = ResourceName::from_key(key).map(|name| name.project).unwrap_or_default();
    if let Some(id) = operation["clientOperationId"].as_str() {
        requests::forget(change, &project, id);
    }
    change.delete(key);
}

/// Stages the operation of a change. Returns its key.
pub(super) fn record(
    change: &mut Change<'_>,
    call: &Call,
    operation_type: Cow<'static, str>,
    target: &ResourceName,
    outcome: Outcome,
) -> String {
    let name = target.sibling(COLLECTION, &id::operation_name());
    let now = time::compute(change.now());
    let mut doc = document::object(&json!({
        "kind": "compute#operation",
        "id": id::resource_id(),
        "name": name.name,
        "operationType": operation_type,
        "targetLink": target.self_link(),
        "user": call.user,
        "insertTime": now,
        "startTime": now,
        "selfLink": name.self_link(),
    }))
    .clone();
    match &name.scope {
        Scope::Global => {}
        Scope::Region(region) => {
            doc.insert("region".into(), region_link(&name.project, region).into());
        }
        Scope::Zone(zone) => {
            doc.insert("zone".into(), zone_link(&name.project, zone).into());
        }
    }
    if let Some(id) = &call.request_id {
        doc.insert("clientOperationId".into(), id.clone().into());
    }
    if !change.warnings().is_empty() {
        let warnings = change
            .warnings()
            .iter()
            .map(|warning| json!({"code": warning.code, "message": warning.message, "data": []}));
        doc.insert("warnings".into(), warnings.collect());
    }
    match outcome {
        Outcome::Made { target_id } => {
            doc.insert("targetId".into(), target_id.into());
        }
        Outcome::Failed { error } => {
            if let Some(id) = change.find(target).and_then(|doc| doc["id"].as_str().map(str::to_owned)) {
                doc.insert("targetId".into(), id.into());
            }
            fail(&mut doc, &error);
        }
    }
    change.put(&name.key(), Value::Object(doc));
    change.control().operations().push(change, name.key());
    name.key()
}

/// Writes an error into an operation.
fn fail(doc: &mut Document, error: &Error) {
    let (code, status, message) = match error {
        Error::InUse { .. } => ("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", 400, "BAD REQUEST"),
        Error::NotReady { .. } => ("RESOURCE_NOT_READY", 400, "BAD REQUEST"),
        Error::NotFound { .. } => ("RESOURCE_NOT_FOUND", 404, "NOT FOUND"),
        Error::IpSpaceExhausted { .. } => ("IP_SPACE_EXHAUSTED_WITH_DETAILS", 400, "BAD REQUEST"),
        Error::IpInUse { .. } => ("IP_IN_USE_BY_ANOTHER_RESOURCE", 409, "CONFLICT"),
        Error::Internal { .. } | Error::Unavailable { .. } => ("INTERNAL_ERROR", 500, "INTERNAL ERROR"),
        _ => ("INVALID_USAGE", 400, "BAD REQUEST"),
    };
    doc.insert("httpErrorStatusCode".into(), status.into());
    doc.insert("httpErrorMessage".into(), message.into());
    doc.insert("error".into(), json!({"errors": [{"code": code, "message": error.to_string()}]}));
}

/// An operation as clients read it now.
pub(super) fn read(control: &Control, key: &str) -> Result<Value, Error> {
    let view = control.view();
    let stored = view.get(key).ok_or_else(|| Error::internal(format!("operation {key} is gone")))?;
    Ok(present(control, stored))
}

fn present(control: &Control, stored: &KeyValue) -> Value {
    let mut doc = document::object(&stored.value).clone();
    let failed = doc.contains_key("error");
    let done = failed || control.planes().settled() >= stored.modified;
    doc.insert("status".into(), if done { "DONE" } else { "RUNNING" }.into());
    doc.insert("progress".into(), if done { 100 } else { 0 }.into());
    if done {
        let end = control.planes().settled_at(stored.modified);
        // Without planes, or long after, the end is not known better than the beginning.
        let end = end.filter(|end| *end > inserted(&doc)).map(time::compute);
        let end = end.map(Value::String).or_else(|| doc.get("startTime").cloned());
        doc.insert("endTime".into(), end.unwrap_or_default());
    }
    Value::Object(doc)
}

fn inserted(doc: &Document) -> Timestamp {
    document::text(doc, "insertTime").and_then(time::parse).unwrap_or_default()
}

impl Compute<'_> {
    /// One operation.
    pub fn operation(&self, project: &str, scope: &Scope, name: &str) -> Result<Value, Error> {
        let name = ResourceName::new(project, scope.clone(), COLLECTION, name);
        let view = self.control.view();
        let stored = view.get(&name.key()).ok_or_else(|| Error::not_found(&name))?;
        Ok(present(self.control, stored))
    }

    /// All operations of a scope.
    pub fn operations(&self, project: &str, scope: &Scope) -> Vec<Value> {
        let parent = ResourceName::new(project, scope.clone(), COLLECTION, "").parent_key();
        self.control.view().range(&parent).map(|stored| present(self.control, stored)).collect()
    }

    /// Blocks until the operation is done, or for `limit` (at most [`WAIT_LIMIT`]), and returns it as it is then.
    pub fn wait(&self, project: &str, scope: &Scope, name: &str, limit: Duration) -> Result<Value, Error> {
        let now = self.operation(project, scope, name)?;
        if now["status"] == "DONE" {
            return Ok(now);
        }
        let key = ResourceName::new(project, scope.clone(), COLLECTION, name).key();
        let revision = self.control.view().get(&key).map_or(0, |stored| stored.modified);
        self.control.planes().wait(revision, limit.min(WAIT_LIMIT));
        self.operation(project, scope, name)
    }

    /// Deletes an operation's record. What it did stays done.
    pub fn delete_operation(&self, project: &str, scope: &Scope, name: &str) -> Result<(), Error> {
        let name = ResourceName::new(project, scope.clone(), COLLECTION, name);
        self.control.change(|change| {
            change.expect(&name)?;
            forget(change, &name.key());
            Ok(())
        })?;
        Ok(())
    }

    /// A data plane could not do for these resources what the state of `revision` asks: their operations that are
    /// still running end with an error. Call it before acknowledging `revision`.
    pub fn report_failures(
        &self,
        failures: &[(ResourceName, Error)],
        revision: Revision,
    ) -> Result<(), Error> {
        if failures.is_empty() {
            return Ok(());
        }
        let settled = self.control.planes().settled();
        self.control.change(|change| {
            for (target, error) in failures {
                let link = target.self_link();
                let parent = target.sibling(COLLECTION, "").parent_key();
                let running = |kv: &&KeyValue| {
                    kv.modified > settled
                        && kv.modified <= revision
                        && kv.value["targetLink"] == link.as_str()
                };
                let keys: Vec<String> =
                    change.view().range(&parent).filter(running).map(|kv| kv.key.to_string()).collect();
                for key in keys {
                    let Some(stored) = change.get(&key) else { continue };
                    let mut doc = document::object(&stored).clone();
                    fail(&mut doc, error);
                    change.put(&key, Value::Object(doc));
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}
