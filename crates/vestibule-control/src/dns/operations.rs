//! Updates of zones, as operations. They are done as soon as the resolver obeys.

use serde_json::{Value, json};
use vestibule_model::{id, time};
use vestibule_store::KeyValue;

use super::{Dns, Zone, find_zone, keys, missing};
use crate::{Change, Document, Error};

/// How many operations of a zone are remembered.
const REMEMBERED: usize = 100;

impl Dns<'_> {
    pub fn zone_operation(&self, project: &str, zone: &str, id: &str) -> Result<Value, Error> {
        let view = self.0.view();
        let zone = find_zone(&view, project, zone)?;
        let found = view.get(&format!("{}{id}", keys::operations(&zone.key)));
        found.map(|kv| self.shown_operation(kv)).ok_or_else(|| missing("operation", id))
    }

    /// All operations that are remembered, in the order of their ids.
    pub fn zone_operations(&self, project: &str, zone: &str) -> Result<Vec<Value>, Error> {
        let view = self.0.view();
        let zone = find_zone(&view, project, zone)?;
        Ok(view.range(&keys::operations(&zone.key)).map(|kv| self.shown_operation(kv)).collect())
    }

    fn shown_operation(&self, kv: &KeyValue) -> Value {
        let mut operation = (*kv.value).clone();
        operation["status"] = self.status(kv.modified).into();
        operation
    }
}

/// Who asks for an update of a zone.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// As operations print it.
    pub user: &'a str,
    /// The operation's id, if the caller has chosen one (`clientOperationId`).
    pub operation_id: Option<&'a str>,
}

/// Writes the operation of an update down. Returns its id.
pub(super) fn record(change: &mut Change<'_>, old: &Zone, new: Document, caller: &Caller<'_>) -> String {
    let prefix = keys::operations(&old.key);
    let id = caller.operation_id.map_or_else(id::uuid, str::to_owned);
    let operation = json!({
        "kind": "dns#operation",
        "id": id,
        "startTime": time::rfc3339(change.now()),
        "type": "UPDATE",
        "user": caller.user,
        "zoneContext": { "oldValue": *old.document, "newValue": new },
    });
    let mut known: Vec<(String, String)> = change
        .view()
        .range(&prefix)
        .map(|kv| (kv.value["startTime"].as_str().unwrap_or_default().to_owned(), kv.key.to_string()))
        .collect();
    known.sort();
    let surplus = (known.len() + 1).saturating_sub(REMEMBERED);
    known.into_iter().take(surplus).for_each(|(_, key)| change.delete(&key));
    change.put(&format!("{prefix}{id}"), operation);
    id
}
