//! The Logging query language: what `entries.list` takes as its filter.
//!
//! A filter is compiled once (`lexer`, `parser`, and `schema`, which knows the fields of a `LogEntry`) and then judges
//! entries one by one. Two of its habits surprise: `OR` binds tighter than `AND`, and a field of the payload that is
//! missing fails every comparison, `!=` too, while a missing field that `LogEntry` defines has its default value.
//!
//! Regular expressions are those of the `regex` crate: RE2's syntax, and time linear in the text whatever the pattern.

mod datum;
mod lexer;
mod literal;
mod node;
mod parser;
mod predicate;
pub(crate) mod schema;
mod search;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::Value;
use std::fmt;

/// The longest filter that is accepted, in characters (`entries.list`).
pub const MAX_FILTER_CHARS: usize = 20_000;

/// A compiled filter. The default matches every entry.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    root: node::Node,
}

impl Filter {
    /// Compiles a filter. The empty filter matches every entry.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        let length = text.chars().count();
        if length > MAX_FILTER_CHARS {
            return Err(FilterError(format!(
                "the filter has {length} characters; at most {MAX_FILTER_CHARS} are allowed"
            )));
        }
        parser::parse(text).map(|root| Filter { root }).map_err(|e| FilterError(e.describe(text)))
    }

    /// Whether a `LogEntry` passes.
    pub fn matches(&self, entry: &Value) -> bool {
        self.root.matches(entry)
    }

    /// The span outside of which no entry can pass, as far as the filter's outermost comparisons of `timestamp` tell.
    pub fn time_range(&self) -> TimeRange {
        let mut range = TimeRange::default();
        self.root.narrow(&mut range);
        range
    }
}

/// A span of time, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// Nothing before this passes.
    pub from: Option<Timestamp>,
    /// Nothing after this passes.
    pub until: Option<Timestamp>,
}

impl TimeRange {
    pub(crate) fn not_before(&mut self, time: Timestamp) {
        self.from = Some(self.from.map_or(time, |known| known.max(time)));
    }

    pub(crate) fn not_after(&mut self, time: Timestamp) {
        self.until = Some(self.until.map_or(time, |known| known.min(time)));
    }

    pub(crate) fn contains(&self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= time) && self.until.is_none_or(|until| time <= until)
    }
}

/// Why a filter cannot be compiled. Displays as the API says it: `Unparseable filter: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError(String);

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unparseable filter: {}", self.0)
    }
}

impl std::error::Error for FilterError {}

/// What went wrong, and at which byte of the filter.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    at: usize,
    why: String,
}

impl Fault {
    fn new(at: usize, why: impl Into<String>) -> Fault {
        Fault { at, why: why.into() }
    }

    fn describe(&self, text: &str) -> String {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("{} at line {line}, column {column}", self.why)
    }
}
