//! Changes of several record sets at once, and the history of them.

use serde_json::{Value, json};
use vestibule_model::time;
use vestibule_store::{KeyValue, View};

use super::records::{self, IN_CHANGE};
use super::{Dns, Zone, find_zone, find_zone_in, keys, missing, required};
use crate::{Change, Document, Error, document};

/// How many changes of a zone are remembered. The oldest are forgotten, except for the one that made the zone.
const REMEMBERED: usize = 1000;

impl Dns<'_> {
    /// Makes a change, whole or not at all. The resolver obeys it when this returns.
    pub fn create_change(&self, project: &str, zone: &str, body: &Document) -> Result<Value, Error> {
        let (number, revision) = self.0.change(|change| {
            let zone = find_zone_in(change, project, zone)?;
            let sets = |field: &str| document::items(body, field);
            let (additions, deletions) = (sets("additions"), sets("deletions"));
            if additions.is_empty() && deletions.is_empty() {
                return Err(required("entity.change"));
            }
            let (added, removed) = records::apply(change, &zone, additions, deletions, &IN_CHANGE)?;
            Ok(record(change, &zone, added, removed))
        })?;
        self.obeyed(revision);
        self.change_of(project, zone, &number.to_string())
    }

    /// One change. `done` when the resolver obeys it.
    pub fn change_of(&self, project: &str, zone: &str, id: &str) -> Result<Value, Error> {
        let view = self.0.view();
        let zone = find_zone(&view, project, zone)?;
        let found = view.get(&format!("{}{id}", keys::changes(&zone.key)));
        found.map(|kv| self.shown(kv)).ok_or_else(|| missing("changeId", id))
    }

    /// All changes that are remembered, in no order.
    pub fn changes(&self, project: &str, zone: &str) -> Result<Vec<Value>, Error> {
        let view = self.0.view();
        let zone = find_zone(&view, project, zone)?;
        Ok(view.range(&keys::changes(&zone.key)).map(|kv| self.shown(kv)).collect())
    }

    fn shown(&self, kv: &KeyValue) -> Value {
        let mut change = (*kv.value).clone();
        change["status"] = self.status(kv.modified).into();
        change
    }
}

/// What orders changes in lists: the order they were made in, or its reverse.
pub fn change_order(change: &Value, newest_first: bool) -> String {
    let number: u64 = change["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
    format!("{:020}", if newest_first { u64::MAX - number } else { number })
}

/// Writes a change down. Returns its number.
pub(super) fn record(
    change: &mut Change<'_>,
    zone: &Zone,
    additions: Vec<Document>,
    deletions: Vec<Document>,
) -> u64 {
    let prefix = keys::changes(&zone.key);
    let numbers = numbers(change.view(), &prefix);
    let number = numbers.last().map_or(0, |last| last + 1);
    let mut document = json!({
        "kind": "dns#change",
        "id": number.to_string(),
        "startTime": time::rfc3339(change.now()),
        "isServing": true,
    });
    for (field, sets) in [("additions", additions), ("deletions", deletions)] {
        if !sets.is_empty() {
            document[field] = sets.into_iter().map(Value::Object).collect();
        }
    }
    change.put(&format!("{prefix}{number}"), document);
    let surplus = (numbers.len() + 1).saturating_sub(REMEMBERED);
    for old in numbers.into_iter().filter(|number| *number != 0).take(surplus) {
        change.delete(&format!("{prefix}{old}"));
    }
    number
}

fn numbers(view: &View, prefix: &str) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        view.range(prefix).filter_map(|kv| kv.key[prefix.len()..].parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}
