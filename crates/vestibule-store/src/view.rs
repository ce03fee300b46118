//! A consistent picture of all documents at one revision.

use crate::{Compare, Event, KeyValue, Op, Revision};
use imbl::OrdMap;
use serde_json::Value;
use std::ops::Bound;
use std::sync::Arc;

/// All documents as they were at one revision. Cheap to clone; later commits never show through.
#[derive(Debug, Clone, Default)]
pub struct View {
    documents: OrdMap<Arc<str>, KeyValue>,
    revision: Revision,
}

impl View {
    /// The revision this view shows.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The document under a key.
    pub fn get(&self, key: &str) -> Option<&KeyValue> {
        self.documents.get(key)
    }

    /// All documents whose key starts with `prefix`, in key order (byte-wise). The empty prefix means all.
    pub fn range<'v>(&'v self, prefix: &str) -> impl Iterator<Item = &'v KeyValue> + use<'v> {
        let from: (Bound<&str>, Bound<&str>) = (Bound::Included(prefix), Bound::Unbounded);
        let prefix: Box<str> = prefix.into();
        self.documents
            .range::<_, str>(from)
            .map(|(_, kv)| kv)
            .take_while(move |kv| kv.key.starts_with(&*prefix))
    }

    /// The number of documents.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there is no document at all.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Whether a comparison holds in this view.
    pub(crate) fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::ModifiedAt(key, revision) => self.get(key).is_some_and(|kv| kv.modified == *revision),
            Compare::Absent(key) => self.get(key).is_none(),
            Compare::Present(key) => self.get(key).is_some(),
        }
    }

    /// A view built from documents read from disk.
    pub(crate) fn loaded(documents: Vec<KeyValue>, revision: Revision) -> View {
        View { documents: documents.into_iter().map(|kv| (kv.key.clone(), kv)).collect(), revision }
    }

    /// Applies the changes of one transaction as the next revision and returns what changed, in order. Changes nothing
    /// when `ops` change nothing.
    pub(crate) fn apply(&mut self, ops: Vec<Op>) -> Vec<Event> {
        let revision = self.revision + 1;
        let mut events: Vec<Event> = Vec::with_capacity(ops.len());
        for op in last_per_key(ops) {
            match op {
                Op::Put(key, value) => events.push(self.put(key, value, revision)),
                Op::Delete(key) => {
                    if let Some(old) = self.documents.remove(key.as_str()) {
                        events.push(Event { key: old.key, value: None, revision });
                    }
                }
            }
        }
        if !events.is_empty() {
            self.revision = revision;
        }
        events
    }

    fn put(&mut self, key: String, value: Value, revision: Revision) -> Event {
        let value = Arc::new(value);
        let (key, created) = match self.documents.get(key.as_str()) {
            Some(old) => (old.key.clone(), old.created),
            None => (Arc::from(key), revision),
        };
        let document = KeyValue { key: key.clone(), value: value.clone(), created, modified: revision };
        self.documents.insert(key.clone(), document);
        Event { key, value: Some(value), revision }
    }
}

/// Keeps the last change of every key, in the order of those last changes.
fn last_per_key(ops: Vec<Op>) -> Vec<Op> {
    if ops.len() < 2 {
        return ops;
    }
    let mut seen = std::collections::HashSet::with_capacity(ops.len());
    let mut kept: Vec<Op> = Vec::with_capacity(ops.len());
    for op in ops.into_iter().rev() {
        let (Op::Put(key, _) | Op::Delete(key)) = &op;
        if seen.insert(key.clone()) {
            kept.push(op);
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn put(key: &str, n: i32) -> Op {
        Op::Put(key.into(), json!(n))
    }

    #[test]
    fn a_range_is_a_prefix_in_byte_order() {
        let mut view = View::default();
        view.apply(vec![
            put("a/1", 1),
            put("a/10", 2),
            put("a/2", 3),
            put("a", 4),
            put("a0", 5),
            put("b/1", 6),
        ]);
        let keys: Vec<_> = view.range("a/").map(|kv| kv.key.to_string()).collect();
        assert_eq!(keys, ["a/1", "a/10", "a/2"]);
        assert_eq!(view.range("").count(), 6);
        assert_eq!(view.range("c").count(), 0);
    }

    #[test]
    fn the_last_change_of_a_key_counts() {
        let mut view = View::default();
        let events = view.apply(vec![put("x", 1), put("y", 2), put("x", 3), Op::Delete("y".into())]);
        assert_eq!(view.get("x").map(|kv| kv.value.as_ref().clone()), Some(json!(3)));
        assert!(view.get("y").is_none());
        assert_eq!(events.len(), 1, "y never existed for anybody");
    }

    #[test]
    fn changing_nothing_adds_no_revision() {
        let mut view = View::default();
        assert!(view.apply(vec![Op::Delete("x".into())]).is_empty());
        assert_eq!(view.revision(), 0);
    }

    #[test]
    fn creation_survives_overwriting_and_an_old_view_stays() {
        let mut view = View::default();
        view.apply(vec![put("x", 1)]);
        let old = view.clone();
        view.apply(vec![put("x", 2)]);
        let kv = view.get("x").expect("present");
        assert_eq!((kv.created, kv.modified), (1, 2));
        assert_eq!(old.get("x").map(|kv| kv.modified), Some(1));
        assert_eq!(old.revision(), 1);
    }
}
