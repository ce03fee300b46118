//! Long-running operations, in the shape of `google.longrunning`.
//!
//! An operation is written in the transaction of its change. It is done when every data plane obeys that revision, which
//! is found out on reading, as it is for compute's.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use vestibule_model::{id, time};
use vestibule_store::KeyValue;

use super::name::{Name, Place, prefix};
use super::{KINDS, Located};
use crate::{Change, Control, Error};

const COLLECTION: &str = "operations";

/// How long an operation can be read.
const KEEP_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How many operations of one API, project and location are kept at most.
const KEEP_NEWEST: usize = 500;

/// Stages the operation of a change, and gives the key of its document. `made`: what the resource has become, none if
/// it was deleted.
pub(super) fn record(change: &mut Change<'_>, of: &Name, verb: &str, made: Option<Value>) -> String {
    let place = Place { project: &of.project, location: &of.location };
    sweep(change, of.info().service, place);
    let response = match made {
        Some(mut made) => {
            made["@type"] = format!("type.googleapis.com/{}", of.info().message).into();
            made
        }
        None => json!({ "@type": "type.googleapis.com/google.protobuf.Empty" }),
    };
    let operation = json!({
        "createTime": time::rfc3339(change.now()),
        "target": of.to_string(),
        "verb": verb,
        "response": response,
    });
    let key = format!("{}{COLLECTION}/{}", prefix(of.info().service, place), id::operation_name());
    change.put(&key, operation);
    key
}

/// Stages the deletion of operations that nobody will ask for any more.
fn sweep(change: &mut Change<'_>, service: &str, place: Place<'_>) {
    let now = change.now();
    let all = change.range(&format!("{}{COLLECTION}/", prefix(service, place)));
    let mut known: Vec<(Timestamp, String)> =
        all.into_iter().map(|(key, operation)| (created(&operation), key)).collect();
    known.sort();
    let surplus = (known.len() + 1).saturating_sub(KEEP_NEWEST);
    for (at, (time, key)) in known.into_iter().enumerate() {
        if at < surplus || now.duration_since(time) > KEEP_FOR {
            change.delete(&key);
        }
    }
}

fn created(operation: &Value) -> Timestamp {
    operation["createTime"].as_str().and_then(time::parse).unwrap_or_default()
}

/// An operation as clients read it now.
pub(super) fn read(control: &Control, key: &str) -> Result<Value, Error> {
    let view = control.view();
    let stored = view.get(key).ok_or_else(|| Error::internal(format!("operation {key} is gone")))?;
    Ok(shown(control, stored))
}

fn shown(control: &Control, stored: &KeyValue) -> Value {
    let (service, name) = stored.key.split_once('/').unwrap_or_default();
    let operation = &*stored.value;
    let mut metadata = json!({
        "@type": format!("type.googleapis.com/google.cloud.{service}.v1.OperationMetadata"),
        "createTime": operation["createTime"],
        "target": operation["target"],
        "verb": operation["verb"],
        "requestedCancellation": false,
        "apiVersion": "v1",
    });
    let done = control.planes().settled() >= stored.modified;
    if done {
        let end = control.planes().settled_at(stored.modified).filter(|end| *end > created(operation));
        metadata["endTime"] = end.map_or(operation["createTime"].clone(), |end| time::rfc3339(end).into());
    }
    let mut shown = json!({ "name": name, "metadata": metadata, "done": done });
    if done {
        shown["response"] = operation["response"].clone();
    }
    shown
}

/// Google's names of the APIs that have operations here.
fn services() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.info().service)
}

impl Located<'_> {
    /// The key of an operation of any API.
    fn operation_key(&self, place: Place<'_>, id: &str) -> Result<String, Error> {
        let view = self.control.view();
        let keys = services().map(|service| format!("{}{COLLECTION}/{id}", prefix(service, place)));
        keys.into_iter().find(|key| view.get(key).is_some()).ok_or_else(|| {
            let (project, location) = (place.project, place.location);
            let message =
                format!("Operation 'projects/{project}/locations/{location}/operations/{id}' was not found");
            Error::NotFound { message }
        })
    }

    /// One operation of any API.
    pub fn operation(&self, place: Place<'_>, id: &str) -> Result<Value, Error> {
        read(self.control, &self.operation_key(place, id)?)
    }

    /// The operations of all APIs in a place.
    pub fn operations(&self, place: Place<'_>) -> Vec<Value> {
        let view = self.control.view();
        let mut found = Vec::new();
        for service in services() {
            let stored = view.range(&prefix(service, place));
            let operations = stored.filter(|kv| kv.key.rsplit('/').nth(1) == Some(COLLECTION));
            found.extend(operations.map(|kv| shown(self.control, kv)));
        }
        found
    }

    /// Deletes an operation's record. What it did stays done.
    pub fn delete_operation(&self, place: Place<'_>, id: &str) -> Result<(), Error> {
        let key = self.operation_key(place, id)?;
        self.control.change(|change| {
            change.delete(&key);
            Ok(())
        })?;
        Ok(())
    }
}
