//! Durable documents with revisions, transactions and watches.
//!
//! The interface is the one that etcd offers, so that etcd can take SQLite's place: keys in one flat order, a
//! revision that rises by one with every commit, transactions guarded by comparisons, and a watch that starts at
//! any revision. The store knows nothing of what a document means.
//!
//! All documents live in memory, in a persistent map: reading is taking a [`View`], which costs one atomic load and
//! never waits for a writer. Writing goes through one thread (`writer`), which makes a group of transactions durable
//! with one `fsync` before it shows them to anyone. [`Store::commit`] blocks until then: what it acknowledged survives
//! `kill -9` and a power cut, and what it refused never happened.
#![forbid(unsafe_code)]

mod disk;
mod handover;
mod history;
mod lock;
mod store;
mod txn;
mod view;
mod watch;
mod writer;

pub use disk::SCHEMA_VERSION;
pub use handover::Released;
pub use history::{HISTORY_BYTES, HISTORY_EVENTS};
pub use store::{OpenError, Store};
pub use txn::{CommitError, MAX_DEPTH};
pub use view::View;
pub use watch::{Changed, Changes, Watch};

use std::sync::Arc;

/// A position in the history of the store. The empty store is at revision 0; every commit that changes something
/// adds one.
pub type Revision = u64;

/// A stored document.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyValue {
    /// The document's key.
    pub key: Arc<str>,
    /// The document itself.
    pub value: Arc<serde_json::Value>,
    /// The revision that created the key.
    pub created: Revision,
    /// The revision that last changed the key.
    pub modified: Revision,
}

/// A condition that must hold when a transaction commits.
#[derive(Debug, Clone)]
pub enum Compare {
    /// The key was last changed at exactly this revision.
    ModifiedAt(String, Revision),
    /// The key does not exist.
    Absent(String),
    /// The key exists, at any revision.
    Present(String),
}

/// One change of a transaction.
#[derive(Debug, Clone)]
pub enum Op {
    /// Writes a document, whether or not the key exists.
    Put(String, serde_json::Value),
    /// Deletes a document. Deleting what does not exist changes nothing.
    Delete(String),
}

/// A transaction: every change or none.
///
/// When one key is changed more than once, the last change counts. A transaction that changes nothing checks its
/// comparisons and answers the revision it saw, without adding one.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// All of these must hold.
    pub compares: Vec<Compare>,
    /// What to change, in order.
    pub ops: Vec<Op>,
}

/// One committed change, as a watch delivers it. `value` is `None` for a deletion.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The key that changed.
    pub key: Arc<str>,
    /// The document after the change.
    pub value: Option<Arc<serde_json::Value>>,
    /// The commit that changed it. All events of one commit share it and are delivered together.
    pub revision: Revision,
}
