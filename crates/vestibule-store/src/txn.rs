//! What a caller asks of the store, and what it may be told.

use crate::{Compare, Op, Revision, Txn};
use serde_json::Value;
use std::fmt;

/// How deeply a document may nest. The JSON reader refuses more than 128 levels, so a deeper document could be
/// written but never read again.
pub const MAX_DEPTH: usize = 120;

/// Why a transaction did not happen. Whatever the reason, nothing of it is visible, and the store stays usable.
#[derive(Debug, Clone)]
pub enum CommitError {
    /// A comparison did not hold.
    Conflict,
    /// The document under this key nests deeper than [`MAX_DEPTH`].
    TooDeep(String),
    /// The disk refused (no space, an I/O error). The message says how.
    Storage(String),
    /// The writer is gone; only a new [`Store::open`](crate::Store::open) helps.
    Closed,
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::Conflict => f.write_str("a compared document has changed"),
            CommitError::TooDeep(key) => write!(f, "the document {key} nests deeper than {MAX_DEPTH} levels"),
            CommitError::Storage(why) => write!(f, "the state could not be written: {why}"),
            CommitError::Closed => f.write_str("the store is closed"),
        }
    }
}

impl std::error::Error for CommitError {}

impl Txn {
    /// An empty transaction.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Adds a document to write.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: Value) -> Txn {
        self.ops.push(Op::Put(key.into(), value));
        self
    }

    /// Adds a document to delete.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Txn {
        self.ops.push(Op::Delete(key.into()));
        self
    }

    /// Demands that the key does not exist.
    #[must_use]
    pub fn expect_absent(mut self, key: impl Into<String>) -> Txn {
        self.compares.push(Compare::Absent(key.into()));
        self
    }

    /// Demands that the key exists.
    #[must_use]
    pub fn expect_present(mut self, key: impl Into<String>) -> Txn {
        self.compares.push(Compare::Present(key.into()));
        self
    }

    /// Demands that the key was last changed at this revision.
    #[must_use]
    pub fn expect_modified_at(mut self, key: impl Into<String>, revision: Revision) -> Txn {
        self.compares.push(Compare::ModifiedAt(key.into(), revision));
        self
    }
}

/// Whether a document can be read back after it was written.
pub(crate) fn depth_ok(value: &Value) -> bool {
    fn fits(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|v| fits(v, left - 1)),
            Value::Object(map) => left > 0 && map.values().all(|v| fits(v, left - 1)),
            _ => true,
        }
    }
    fits(value, MAX_DEPTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn depth_is_counted_in_levels() {
        let nested = |levels: usize| (1..levels).fold(json!([]), |inner, _| json!([inner]));
        assert!(depth_ok(&nested(MAX_DEPTH)));
        assert!(!depth_ok(&nested(MAX_DEPTH + 1)));
        let text = nested(MAX_DEPTH).to_string();
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
}
