//! Files of entries, and what is known of each without reading it.
//!
//! `00000000000000000001.jsonl` holds lines; `00000000000000000001.json`, written when the file is closed, holds what a
//! query wants to know before it opens it. A file without the second is read at the start, and a torn last line is cut
//! off.

use crate::scan::{Outline, outline};
use crate::time::parse_rfc3339;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that remembers which logs were deleted, and up to where.
const DELETED_FILE: &str = "deleted.json";

/// A place in the store: the number of a file, and a byte in it.
pub(super) type Position = (u64, u64);

/// What is written down of a closed file.
#[derive(Serialize, Deserialize)]
struct Summary {
    len: u64,
    /// Empty, or the earliest and the latest timestamp.
    span: Vec<Time>,
    received: Time,
    logs: HashMap<Box<str>, u64>,
}

#[derive(Serialize, Deserialize)]
struct Time(#[serde(with = "crate::time::as_text")] Timestamp);

/// One file of entries.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// How many bytes of the file are whole lines.
    pub(super) len: u64,
    /// The earliest and the latest `timestamp` of its entries.
    pub(super) span: Option<(Timestamp, Timestamp)>,
    /// When the last entry was received.
    pub(super) received: Timestamp,
    /// The names of logs with the position of their last entry.
    pub(super) logs: Arc<HashMap<Box<str>, u64>>,
}

impl Segment {
    pub(super) fn empty(number: u64, now: Timestamp) -> Segment {
        Segment { number, len: 0, span: None, received: now, logs: Arc::default() }
    }

    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{:020}.jsonl", self.number))
    }

    fn summary_path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{:020}.json", self.number))
    }

    /// Takes note of a line that stands at `offset`.
    pub(super) fn note(&mut self, timestamp: Option<Timestamp>, log_name: Option<&str>, offset: u64) {
        if let Some(time) = timestamp {
            self.span =
                Some(self.span.map_or((time, time), |(from, until)| (from.min(time), until.max(time))));
        }
        if let Some(name) = log_name {
            let logs = Arc::make_mut(&mut self.logs);
            match logs.get_mut(name) {
                Some(last) => *last = offset,
                None => {
                    logs.insert(name.into(), offset);
                }
            }
        }
    }

    /// Writes down what is known, once the file will not change any more.
    pub(super) fn close(&self, dir: &Path) -> io::Result<()> {
        let summary = Summary {
            len: self.len,
            span: self.span.map_or(Vec::new(), |(first, last)| vec![Time(first), Time(last)]),
            received: Time(self.received),
            logs: HashMap::clone(&self.logs),
        };
        replace(&self.summary_path(dir), &serde_json::to_vec(&summary)?)
    }

    pub(super) fn delete(&self, dir: &Path) -> io::Result<()> {
        // The summary goes first: a file without one is read again, a summary without a file would be an error.
        remove_if_there(&self.summary_path(dir))?;
        remove_if_there(&self.path(dir))
    }

    fn open(dir: &Path, number: u64) -> io::Result<Segment> {
        let mut segment = Segment::empty(number, Timestamp::UNIX_EPOCH);
        let size = fs::metadata(segment.path(dir))?.len();
        if let Ok(text) = fs::read(segment.summary_path(dir))
            && let Ok(summary) = serde_json::from_slice::<Summary>(&text)
            && summary.len == size
        {
            let span = match summary.span.as_slice() {
                [Time(first), Time(last)] => Some((*first, *last)),
                _ => None,
            };
            return Ok(Segment {
                number,
                len: size,
                span,
                received: summary.received.0,
                logs: summary.logs.into(),
            });
        }
        segment.read(dir)?;
        Ok(segment)
    }

    /// Learns everything from the lines themselves, and cuts off a torn last one.
    fn read(&mut self, dir: &Path) -> io::Result<()> {
        let path = self.path(dir);
        let bytes = fs::read(&path)?;
        let mut offset = 0;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let Some(whole) = line.strip_suffix(b"\n") else { break };
            if let Some(found) = outline(whole) {
                self.note(found.timestamp.and_then(parse_rfc3339), found.log_name, offset);
                let received = received(&found);
                self.received = self.received.max(received.unwrap_or(Timestamp::UNIX_EPOCH));
            }
            offset += line.len() as u64;
        }
        self.len = offset;
        if offset < bytes.len() as u64 {
            tracing::info!(file = %path.display(), bytes = bytes.len() as u64 - offset, "cut off a torn log entry");
            OpenOptions::new().write(true).open(&path)?.set_len(offset)?;
        }
        remove_if_there(&self.summary_path(dir))
    }
}

fn received(found: &Outline<'_>) -> Option<Timestamp> {
    found.receive_timestamp.and_then(parse_rfc3339)
}

/// All files, in the order in which they were begun, and the logs that were deleted.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    pub(super) segments: Vec<Segment>,
    /// Entries of these logs are gone if they stand before the position.
    pub(super) deleted: Arc<BTreeMap<String, Position>>,
}

impl Catalog {
    pub(super) fn open(dir: &Path) -> io::Result<Catalog> {
        let mut numbers = Vec::new();
        for file in fs::read_dir(dir)? {
            let name = file?.file_name();
            let number: Option<u64> =
                name.to_str().and_then(|name| name.strip_suffix(".jsonl")).and_then(|n| n.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        let segments =
            numbers.into_iter().map(|number| Segment::open(dir, number)).collect::<io::Result<_>>()?;
        Ok(Catalog { segments, deleted: Arc::new(read_deleted(dir)?) })
    }

    /// The names of logs with an entry that was not deleted; names may repeat.
    pub(super) fn logs(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().flat_map(move |segment| {
            segment.logs.iter().filter_map(move |(name, last)| {
                let visible = !self.is_deleted(name, (segment.number, *last));
                visible.then_some(&**name)
            })
        })
    }

    pub(super) fn is_deleted(&self, log_name: &str, position: Position) -> bool {
        self.deleted.get(log_name).is_some_and(|until| position < *until)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// Where the next entry will stand.
    pub(super) fn end(&self) -> Position {
        self.segments.last().map_or((0, 0), |segment| (segment.number, segment.len))
    }
}

fn read_deleted(dir: &Path) -> io::Result<BTreeMap<String, Position>> {
    match fs::read(dir.join(DELETED_FILE)) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(e),
    }
}

pub(super) fn write_deleted(dir: &Path, deleted: &BTreeMap<String, Position>) -> io::Result<()> {
    replace(&dir.join(DELETED_FILE), &serde_json::to_vec(deleted)?)
}

/// Replaces a file's content as a whole.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
