//! Searching: `entries.list`.
//!
//! Entries of a file are nearly, but not quite, in the order of their timestamps, and files overlap. So a query keeps
//! the best page it has seen, reads files in the order of where their spans begin, and stops as soon as no unread file
//! can hold anything better. A page goes on strictly after the last entry of the one before, by key, so entries that
//! arrive in between neither repeat nor displace others.

use super::segment::{Catalog, Segment};
use super::token::{Key, Token};
use super::writer::FUTURE;
use crate::filter::{Filter, FilterError, TimeRange};
use crate::names::{container_of, id_of, is_container};
use crate::scan::{Outline, outline};
use crate::time::parse_rfc3339;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Entries of a page when the client does not say.
const DEFAULT_PAGE_SIZE: usize = 50;

/// The most entries a page holds; larger wishes are cut to it.
pub const MAX_PAGE_SIZE: usize = 1000;

/// The most names of resources a query may have (`entries.list`).
const MAX_RESOURCES: usize = 100;

/// How long one page may be searched for. After that the client gets what is certain, and a token to go on with.
const SEARCH_BUDGET: Duration = Duration::from_secs(2);

/// Which entries come first. Oldest first by default, as in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Order {
    /// `timestamp asc`
    #[default]
    OldestFirst,
    /// `timestamp desc`
    NewestFirst,
}

/// Why a query was refused. Always the client's fault; displays as the API says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError(String);

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for QueryError {}

impl From<FilterError> for QueryError {
    fn from(e: FilterError) -> QueryError {
        QueryError(e.to_string())
    }
}

/// A checked query.
#[derive(Debug, Clone)]
pub struct Query {
    /// Who holds the logs to search, and which of their logs.
    scopes: Vec<Scope>,
    filter: Filter,
    order: Order,
    page_size: usize,
    after: Option<Key>,
    fingerprint: u64,
    /// How long to search; shorter in tests.
    pub(super) budget: Duration,
}

/// What is asked for: the fields of `ListLogEntriesRequest`.
#[derive(Debug, Clone, Default)]
pub struct ListRequest<'a> {
    /// `projects/p`, or a view such as `projects/p/locations/l/buckets/_Default/views/_Default`.
    pub resource_names: &'a [String],
    /// The filter; empty for all.
    pub filter: &'a str,
    /// `timestamp asc`, `timestamp desc`, or empty for the first.
    pub order_by: &'a str,
    /// 0 for the default of 50.
    pub page_size: i64,
    /// From the page before, or empty.
    pub page_token: &'a str,
}

/// One page of a search.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The entries, in order.
    pub entries: Vec<Value>,
    /// Where to go on. May be there although `entries` is empty: the search was not finished in its time.
    pub next_page_token: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scope {
    container: String,
    /// Only the logs that the `_Required` bucket holds.
    audit_only: bool,
}

impl Query {
    /// Checks a request.
    pub fn new(request: &ListRequest<'_>) -> Result<Query, QueryError> {
        let order = parse_order(request.order_by)?;
        let scopes = parse_scopes(request.resource_names)?;
        let filter = Filter::parse(request.filter)?;
        let page_size = match usize::try_from(request.page_size) {
            Ok(0) => DEFAULT_PAGE_SIZE,
            Ok(size) => size.min(MAX_PAGE_SIZE),
            Err(_) => return Err(QueryError("page_size must not be negative".into())),
        };
        let mut hasher = DefaultHasher::new();
        (request.filter, &scopes).hash(&mut hasher);
        let fingerprint = hasher.finish();
        let after = match request.page_token {
            "" => None,
            text => Some(parse_token(text, order, fingerprint)?),
        };
        Ok(Query { scopes, filter, order, page_size, after, fingerprint, budget: SEARCH_BUDGET })
    }

    fn wants_log(&self, log_name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.holds(log_name))
    }

    /// Whether `key` comes after what earlier pages delivered.
    fn is_new(&self, key: &Key) -> bool {
        match (&self.after, self.order) {
            (None, _) => true,
            (Some(after), Order::OldestFirst) => key > after,
            (Some(after), Order::NewestFirst) => key < after,
        }
    }

    fn token(&self, key: Key) -> String {
        Token { order: self.order, fingerprint: self.fingerprint, key }.encode()
    }
}

impl Scope {
    fn holds(&self, log_name: &str) -> bool {
        container_of(log_name) == self.container && (!self.audit_only || is_required_log(log_name))
    }
}

/// The logs that Cloud Logging keeps in `_Required`.
fn is_required_log(log_name: &str) -> bool {
    let required = ["activity", "system_event", "access_transparency"];
    let id = id_of(log_name).unwrap_or_default();
    id.strip_prefix("cloudaudit.googleapis.com/").is_some_and(|kind| required.contains(&kind))
}

/// Whether a log belongs to one of these containers.
pub(super) fn belongs(log_name: &str, containers: &[String]) -> bool {
    containers.iter().any(|container| container_of(log_name) == container)
}

fn parse_order(text: &str) -> Result<Order, QueryError> {
    match text.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
        [] | ["timestamp"] | ["timestamp", "asc"] => Ok(Order::OldestFirst),
        ["timestamp", "desc"] => Ok(Order::NewestFirst),
        _ => Err(QueryError(format!(
            "Invalid order_by \"{text}\": only \"timestamp asc\" and \"timestamp desc\" are supported"
        ))),
    }
}

fn parse_scopes(names: &[String]) -> Result<Vec<Scope>, QueryError> {
    if names.is_empty() {
        return Err(QueryError("resource_names must not be empty".into()));
    }
    if names.len() > MAX_RESOURCES {
        return Err(QueryError(format!(
            "resource_names has {} names; at most {MAX_RESOURCES} are allowed",
            names.len()
        )));
    }
    names.iter().map(|name| parse_scope(name)).collect()
}

/// `projects/p` or `projects/p/locations/l/buckets/b/views/v`.
fn parse_scope(name: &str) -> Result<Scope, QueryError> {
    let wrong = || QueryError(format!("Invalid resource name: \"{name}\""));
    let parts: Vec<&str> = name.split('/').collect();
    let (container, bucket) = match parts.as_slice() {
        [kind, id] => (format!("{kind}/{id}"), None),
        [kind, id, "locations", _, "buckets", bucket]
        | [kind, id, "locations", _, "buckets", bucket, "views", _] => {
            (format!("{kind}/{id}"), Some(*bucket))
        }
        _ => return Err(wrong()),
    };
    if !is_container(&container) || parts.iter().any(|part| part.is_empty()) {
        return Err(wrong());
    }
    Ok(Scope { container, audit_only: bucket == Some("_Required") })
}

fn parse_token(text: &str, order: Order, fingerprint: u64) -> Result<Key, QueryError> {
    let token = Token::decode(text).ok_or_else(|| QueryError("Invalid page_token".into()))?;
    if token.order != order || token.fingerprint != fingerprint {
        return Err(QueryError("page_token doesn't match arguments from the request".into()));
    }
    Ok(token.key)
}

/// Runs a query over a snapshot of the catalog.
pub(super) fn run(
    query: &Query,
    catalog: &Catalog,
    dir: &Path,
    retention: Duration,
) -> Result<Page, QueryError> {
    let mut search = Search { query, catalog, range: span(query, retention), best: BTreeMap::new() };
    let started = Instant::now();
    let segments = search.candidates();
    for (index, segment) in segments.iter().enumerate() {
        if search.complete_before(segment) {
            break;
        }
        if index > 0 && started.elapsed() > query.budget && search.moved_on(segment) {
            return Ok(search.partial_page(segment));
        }
        if let Err(e) = search.read(segment, dir) {
            tracing::error!(error = %e, file = segment.number, "a log file could not be read");
        }
    }
    Ok(search.page())
}

/// The time in which entries can be listed at all.
fn span(query: &Query, retention: Duration) -> TimeRange {
    let mut range = query.filter.time_range();
    let now = SystemTime::now();
    if let Some(Ok(oldest)) = now.checked_sub(retention).map(Timestamp::try_from) {
        range.not_before(oldest);
    }
    if let Some(Ok(newest)) = now.checked_add(FUTURE).map(Timestamp::try_from) {
        range.not_after(newest);
    }
    if let Some(after) = &query.after {
        match query.order {
            Order::OldestFirst => range.not_before(after.timestamp),
            Order::NewestFirst => range.not_after(after.timestamp),
        }
    }
    range
}

struct Search<'a> {
    query: &'a Query,
    catalog: &'a Catalog,
    range: TimeRange,
    /// The best entries so far: one more than a page holds, which tells whether there is a next page.
    best: BTreeMap<Key, Value>,
}

impl<'a> Search<'a> {
    /// The files that can hold what is asked for, in the order in which to read them.
    fn candidates(&self) -> Vec<&'a Segment> {
        let overlaps = |s: &&'a Segment| {
            s.span.is_some_and(|(first, last)| {
                self.range.from.is_none_or(|from| last >= from)
                    && self.range.until.is_none_or(|until| first <= until)
            })
        };
        let wanted = |s: &&'a Segment| s.logs.keys().any(|name| self.query.wants_log(name));
        let mut found: Vec<&'a Segment> =
            self.catalog.segments.iter().filter(overlaps).filter(wanted).collect();
        match self.query.order {
            Order::OldestFirst => found.sort_by_key(|s| s.span.map(|(first, _)| first)),
            Order::NewestFirst => found.sort_by_key(|s| std::cmp::Reverse(s.span.map(|(_, last)| last))),
        }
        found
    }

    fn is_full(&self) -> bool {
        self.best.len() > self.query.page_size
    }

    /// The entry that the next better one displaces.
    fn worst(&self) -> Option<&Key> {
        match self.query.order {
            Order::OldestFirst => self.best.last_key_value().map(|(key, _)| key),
            Order::NewestFirst => self.best.first_key_value().map(|(key, _)| key),
        }
    }

    /// Whether a time is beyond the worst entry of a full page.
    fn too_far(&self, time: Timestamp) -> bool {
        self.is_full()
            && self.worst().is_some_and(|worst| match self.query.order {
                Order::OldestFirst => time > worst.timestamp,
                Order::NewestFirst => time < worst.timestamp,
            })
    }

    /// Where a file begins, in the direction of the search.
    fn edge(&self, segment: &Segment) -> Option<Timestamp> {
        segment.span.map(|(first, last)| match self.query.order {
            Order::OldestFirst => first,
            Order::NewestFirst => last,
        })
    }

    /// Whether this file, and so every one after it, has nothing better than what was found.
    fn complete_before(&self, segment: &Segment) -> bool {
        self.edge(segment).is_some_and(|edge| self.too_far(edge))
    }

    /// Whether the files read so far cover time that earlier pages had not covered.
    fn moved_on(&self, next: &Segment) -> bool {
        match (&self.query.after, self.edge(next), self.query.order) {
            (None, ..) => true,
            (Some(after), Some(edge), Order::OldestFirst) => edge > after.timestamp,
            (Some(after), Some(edge), Order::NewestFirst) => after_instant(edge) < after.timestamp,
            (_, None, _) => true,
        }
    }

    fn read(&mut self, segment: &Segment, dir: &Path) -> io::Result<()> {
        let mut bytes = Vec::new();
        match File::open(segment.path(dir)) {
            Ok(file) => file.take(segment.len).read_to_end(&mut bytes)?,
            // Deleted for its age or for space since the query began.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut lines = Vec::new();
        let mut offset = 0;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            lines.push((offset, line));
            offset += line.len() as u64;
        }
        if self.query.order == Order::NewestFirst {
            // The newest stand at the end: once the page is full, the rest fails the cheapest test.
            lines.reverse();
        }
        for (offset, line) in lines {
            self.consider(segment.number, offset, line);
        }
        Ok(())
    }

    /// Cheap tests first; the line is parsed only when it may really belong to the page.
    fn consider(&mut self, number: u64, offset: u64, line: &[u8]) {
        let Some(found) = outline(line) else { return };
        let Some(timestamp) = found.timestamp.and_then(parse_rfc3339) else { return };
        if !self.range.contains(timestamp) || self.too_far(timestamp) {
            return;
        }
        let log_name = unescaped(found.log_name.unwrap_or_default());
        if !self.query.wants_log(&log_name) || self.catalog.is_deleted(&log_name, (number, offset)) {
            return;
        }
        let key = key(&found, timestamp, &log_name);
        if !self.query.is_new(&key) || self.best.contains_key(&key) {
            return;
        }
        let Ok(entry) = serde_json::from_slice::<Value>(line) else { return };
        if !self.query.filter.matches(&entry) {
            return;
        }
        self.best.insert(key, entry);
        if self.best.len() > self.query.page_size + 1 {
            match self.query.order {
                Order::OldestFirst => self.best.pop_last(),
                Order::NewestFirst => self.best.pop_first(),
            };
        }
    }

    fn page(self) -> Page {
        let more = self.is_full();
        let (entries, last) = self.ordered();
        let next_page_token = last.filter(|_| more).map(|key| self.query.token(key));
        Page { entries, next_page_token }
    }

    /// The page when the search stops before `next`: only what no unread file can displace.
    fn partial_page(mut self, next: &Segment) -> Page {
        let Some(edge) = self.edge(next) else { return self.page() };
        match self.query.order {
            Order::OldestFirst => self.best.retain(|key, _| key.timestamp < edge),
            Order::NewestFirst => self.best.retain(|key, _| key.timestamp > edge),
        }
        if self.is_full() {
            return self.page();
        }
        let rest = match self.query.order {
            Order::OldestFirst => Key::before(edge),
            Order::NewestFirst => Key::before(after_instant(edge)),
        };
        let token = self.query.token(rest);
        let (entries, _) = self.ordered();
        Page { entries, next_page_token: Some(token) }
    }

    /// The entries of the page in order, and the key of the last.
    fn ordered(&self) -> (Vec<Value>, Option<Key>) {
        let size = self.query.page_size;
        let page: Vec<(&Key, &Value)> = match self.query.order {
            Order::OldestFirst => self.best.iter().take(size).collect(),
            Order::NewestFirst => self.best.iter().rev().take(size).collect(),
        };
        let last = page.last().map(|(key, _)| Key::clone(key));
        (page.into_iter().map(|(_, entry)| entry.clone()).collect(), last)
    }
}

/// The next instant there is.
fn after_instant(time: Timestamp) -> Timestamp {
    Timestamp::from_nanosecond(time.as_nanosecond() + 1).unwrap_or(time)
}

fn key(found: &Outline<'_>, timestamp: Timestamp, log_name: &str) -> Key {
    Key {
        timestamp,
        insert_id: unescaped(found.insert_id.unwrap_or_default()).into_owned(),
        container: container_of(log_name).to_owned(),
    }
}

/// The text of a JSON string from its inside.
fn unescaped(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    serde_json::from_str(&format!("\"{raw}\"")).map_or(Cow::Borrowed(raw), Cow::Owned)
}
