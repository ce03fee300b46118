//! Operations: the receipts of changes, which clients wait for.
//!
//! An operation is written in the transaction of its change and says which generation of what it made, or which
//! execution it began. What has become of it is derived when it is read: it is done once that generation has been
//! decided or the execution is over, so no second write could be lost.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use vestibule_model::{id, time};
use vestibule_store::{KeyValue, Revision, View};

use super::name::{Kind, Name, Place, prefix};
use super::{Run, jobs, json as reach, read, status, v2};
use crate::{Change, Control, Error};

/// How long an operation can be read.
pub const KEEP_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How many operations of one project and region are kept at most.
const KEEP_NEWEST: usize = 1000;
/// Longest time that a wait blocks.
pub const WAIT_LIMIT: Duration = Duration::from_secs(120);

const COLLECTION: &str = "operations";

/// In which API an operation is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    V1,
    V2,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// Made or changed something: the generation that it has now.
    Write { generation: i64 },
    /// Began an execution: done when it is over.
    Finish,
    /// Cancelled an execution: done when it is over, and a success then.
    Cancel,
    /// Deleted something.
    Delete,
}

/// The name of a new operation.
pub(super) fn new_id() -> String {
    id::uuid()
}

/// Stages the operation of a change. `document` is what was changed as it is now, or was last.
pub(super) fn record(
    change: &mut Change<'_>,
    kind: Kind,
    name: &Name,
    id: &str,
    verb: Verb,
    document: &Value,
) {
    sweep(change, name);
    let mut operation = json!({
        "collection": kind.collection(),
        "name": name.name,
        "uid": document["metadata"]["uid"],
        "createTime": time::rfc3339(change.now()),
    });
    match verb {
        Verb::Write { generation } => operation["generation"] = generation.into(),
        Verb::Finish => operation["finish"] = true.into(),
        Verb::Cancel => operation["cancel"] = true.into(),
        Verb::Delete => operation["deleted"] = document.clone(),
    }
    change.put(&key(name, id), operation);
}

fn key(name: &Name, id: &str) -> String {
    let place = Place { project: &name.project, location: Some(&name.location) };
    format!("{}{COLLECTION}/{id}", prefix(place))
}

/// All operations of a place.
fn all<'v>(view: &'v View, place: Place<'_>) -> Vec<&'v KeyValue> {
    let prefix = prefix(place);
    let mut found: Vec<&KeyValue> = Vec::new();
    for kv in view.range(&prefix) {
        if super::name::parse_key(&kv.key).is_some_and(|(collection, _)| collection == COLLECTION) {
            // The view outlives the iterator that borrows the prefix.
            found.extend(view.get(&kv.key));
        }
    }
    found
}

/// Stages the deletion of operations that nobody will ask for any more.
fn sweep(change: &mut Change<'_>, name: &Name) {
    let now = change.now();
    let here = Place { project: &name.project, location: Some(&name.location) };
    let stored = all(change.view(), here);
    let mut kept: Vec<(Timestamp, String)> =
        stored.into_iter().map(|kv| (created(&kv.value), kv.key.to_string())).collect();
    kept.sort();
    let surplus = kept.len().saturating_sub(KEEP_NEWEST);
    for (at, (time, key)) in kept.into_iter().enumerate() {
        if at < surplus || now.duration_since(time) > KEEP_FOR {
            change.delete(&key);
        }
    }
}

fn created(operation: &Value) -> Timestamp {
    reach::text(operation, &["createTime"]).and_then(time::parse).unwrap_or_default()
}

/// What an operation is about.
struct Subject {
    kind: Kind,
    name: Name,
}

impl Subject {
    fn of(operation: &KeyValue) -> Option<Subject> {
        let (_, of) = super::name::parse_key(&operation.key)?;
        let kind = Kind::of_collection(operation.value["collection"].as_str()?)?;
        Some(Subject { kind, name: of.sibling(operation.value["name"].as_str()?) })
    }

    /// The document, unless it was deleted since, or another has its name now.
    fn document<'v>(&self, view: &'v View, operation: &Value) -> Option<&'v KeyValue> {
        view.get(&self.name.key(self.kind)).filter(|kv| kv.value["metadata"]["uid"] == operation["uid"])
    }

    /// Whether the change has been decided in this state.
    fn is_done(&self, control: &Control, view: &View, stored: &KeyValue) -> bool {
        let operation = &*stored.value;
        if !operation["deleted"].is_null() {
            return control.planes().settled() >= stored.modified;
        }
        let Some(document) = self.document(view, operation) else { return true };
        let value = &*document.value;
        match operation["generation"].as_i64() {
            Some(generation) => {
                let now = value["metadata"]["generation"].as_i64().unwrap_or(0);
                let is_decided = match self.kind {
                    Kind::Job => jobs::is_decided(view, &self.name, value),
                    _ => status::is_decided(value),
                };
                now > generation || is_decided
            }
            None => jobs::is_over(value),
        }
    }

    /// What the operation is about, in the words of an API.
    fn body(&self, view: &View, document: &Value, operation: &Value, api: Api) -> Value {
        let name = &self.name;
        let mut body = match (api, self.kind) {
            (Api::V1, Kind::Job) => jobs::show::job(view, name, document),
            (Api::V1, Kind::Execution) => jobs::show::execution(view, name, document),
            (Api::V1, _) => read::service(document),
            (Api::V2, Kind::Job) => v2::job(view, name, document),
            (Api::V2, Kind::Execution) => v2::execution(view, name, document),
            (Api::V2, _) => v2::service(name, document),
        };
        body["@type"] = self.type_of(api).into();
        if api == Api::V2 && !operation["deleted"].is_null() {
            body["deleteTime"] = operation["createTime"].clone();
        }
        body
    }

    fn type_of(&self, api: Api) -> String {
        let version = if api == Api::V1 { "v1" } else { "v2" };
        format!("type.googleapis.com/google.cloud.run.{version}.{}", self.kind.message())
    }

    /// Why what it is about failed.
    fn failure(&self, view: &View, document: &Value) -> Option<String> {
        let condition = match self.kind {
            Kind::Job => jobs::show::ready(view, &self.name, document),
            Kind::Execution => jobs::show::completed(view, &self.name, document),
            _ => status::find(document, "Ready")?.clone(),
        };
        let failed = condition["status"] == "False";
        failed.then(|| condition["message"].as_str().unwrap_or_default().to_owned())
    }
}

/// An operation as a client sees it.
fn shown(control: &Control, view: &View, stored: &KeyValue, api: Api) -> Value {
    let operation = &*stored.value;
    let Some(subject) = Subject::of(stored) else { return Value::Null };
    let full_name = stored.key.strip_prefix("run/").unwrap_or(&stored.key);
    // What they end need not have been well.
    let is_end = !operation["deleted"].is_null() || operation["cancel"] == true;
    let document = match &operation["deleted"] {
        Value::Null => subject.document(view, operation).map(|kv| &*kv.value),
        deleted => Some(deleted),
    };
    let body = document.map(|document| subject.body(view, document, operation, api));
    let metadata = body.clone().unwrap_or_else(|| json!({ "@type": subject.type_of(api) }));
    let mut out = json!({ "name": full_name, "metadata": metadata });
    if !subject.is_done(control, view, stored) {
        return out;
    }
    out["done"] = true.into();
    let (Some(body), Some(document)) = (body, document) else {
        let message = format!("{} '{}' was deleted.", subject.kind.message(), subject.name.name);
        out["error"] = json!({ "code": 5, "message": message });
        return out;
    };
    match subject.failure(view, document) {
        // v1 clients read the conditions; v2 clients expect the operation to fail.
        Some(message) if api == Api::V2 && !is_end => {
            out["error"] = json!({ "code": 9, "message": message });
        }
        _ => out["response"] = body,
    }
    out
}

/// Blocks until `check` finds something in the committed state, or `limit` has passed.
pub(super) fn wait_for<T>(
    control: &Control,
    limit: Duration,
    mut check: impl FnMut(&View) -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut view = control.view();
    let mut watch = control.store().watch(view.revision());
    loop {
        if let Some(found) = check(&view) {
            return Some(found);
        }
        let left = deadline.checked_duration_since(Instant::now())?;
        watch.next(left)?;
        view = control.view();
    }
}

impl Run<'_> {
    /// Blocks until a change has been decided or `limit` has passed. Does not block where no runtime is part of the
    /// process: nobody would decide.
    pub(super) fn settle(&self, name: &Name, revision: Revision, limit: Duration) {
        let start = Instant::now();
        if self.control.planes().settled() == Revision::MAX {
            return;
        }
        self.control.planes().wait(revision, limit);
        let left = limit.saturating_sub(start.elapsed());
        let key = name.key(Kind::Service);
        wait_for(self.control, left, |view| match view.get(&key) {
            Some(service) => status::is_decided(&service.value).then_some(()),
            None => Some(()),
        });
    }

    /// One operation, in the form of the v1 API.
    pub fn operation(&self, place: Place<'_>, id: &str) -> Result<Value, Error> {
        self.operation_in(place, id, Api::V1)
    }

    /// Blocks until the operation is done or `limit` has passed (at most [`WAIT_LIMIT`]), and returns it as it is then,
    /// in the form of the v1 API.
    pub fn wait(&self, place: Place<'_>, id: &str, limit: Duration) -> Result<Value, Error> {
        self.wait_in(place, id, limit, Api::V1)
    }

    /// All operations of a place, newest first, in the form of the v1 API.
    pub fn operations(&self, place: Place<'_>) -> Vec<Value> {
        self.operations_in(place, Api::V1)
    }

    /// Deletes an operation's record. What it did stays done.
    pub fn delete_operation(&self, place: Place<'_>, id: &str) -> Result<(), Error> {
        self.control.change(|change| {
            let key = find(change.view(), place, id)?.key.to_string();
            change.delete(&key);
            Ok(())
        })?;
        Ok(())
    }

    pub(super) fn operation_in(&self, place: Place<'_>, id: &str, api: Api) -> Result<Value, Error> {
        let view = self.control.view();
        let stored = find(&view, place, id)?;
        Ok(shown(self.control, &view, stored, api))
    }

    pub(super) fn wait_in(
        &self,
        place: Place<'_>,
        id: &str,
        limit: Duration,
        api: Api,
    ) -> Result<Value, Error> {
        let view = self.control.view();
        let stored = find(&view, place, id)?.clone();
        let limit = limit.min(WAIT_LIMIT);
        if !stored.value["deleted"].is_null() {
            self.control.planes().wait(stored.modified, limit);
        } else if let Some(subject) = Subject::of(&stored) {
            wait_for(self.control, limit, |view| subject.is_done(self.control, view, &stored).then_some(()));
        }
        Ok(shown(self.control, &self.control.view(), &stored, api))
    }

    pub(super) fn operations_in(&self, place: Place<'_>, api: Api) -> Vec<Value> {
        let view = self.control.view();
        let mut stored = all(&view, place);
        stored.sort_by_key(|kv| std::cmp::Reverse(created(&kv.value)));
        stored.into_iter().map(|kv| shown(self.control, &view, kv, api)).collect()
    }
}

/// Finds an operation. Its id is unique, so a client that has the region wrong still finds what it started.
fn find<'v>(view: &'v View, place: Place<'_>, id: &str) -> Result<&'v KeyValue, Error> {
    let everywhere = prefix(Place { location: None, ..place });
    let key = place.location.map(|location| format!("{everywhere}{location}/{COLLECTION}/{id}"));
    let stored = key.and_then(|key| view.get(&key)).or_else(|| {
        let tail = format!("/{COLLECTION}/{id}");
        let mut keys = vestibule_model::region::REGIONS
            .iter()
            .map(|region| format!("{everywhere}{}{tail}", region.name));
        keys.find_map(|key| view.get(&key))
    });
    stored.ok_or_else(|| {
        let location = place.location.unwrap_or("-");
        Error::NotFound {
            message: format!(
                "Operation projects/{}/locations/{location}/operations/{id} not found.",
                place.project
            ),
        }
    })
}
