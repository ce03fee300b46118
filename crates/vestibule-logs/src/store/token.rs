//! Where a search goes on: what `nextPageToken` holds.

use super::query::Order;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The place of an entry in a list. Entries with equal keys are duplicates of one another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    #[serde(with = "crate::time::as_text")]
    pub(super) timestamp: Timestamp,
    pub(super) insert_id: String,
    /// Who holds the log; ids of different projects are not comparable.
    pub(super) container: String,
}

impl Key {
    /// Before every entry of a time.
    pub(super) fn before(timestamp: Timestamp) -> Key {
        Key { timestamp, insert_id: String::new(), container: String::new() }
    }
}

/// A token: everything up to the key was delivered (`asc`), or everything down to it (`desc`).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Token {
    pub(super) order: Order,
    /// Of the filter and the names of resources: both must be the same on every page.
    pub(super) fingerprint: u64,
    pub(super) key: Key,
}

impl Token {
    /// As text for a client: hexadecimal, so that nobody is tempted to read it.
    pub(super) fn encode(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        json.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn decode(text: &str) -> Option<Token> {
        if !text.is_ascii() || !text.len().is_multiple_of(2) {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
        let json: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect::<Option<_>>()?;
        serde_json::from_slice(&json).ok()
    }
}
