//! The thread that writes.

use super::LogLimits;
use super::handover::{After, release};
use super::ids::InsertIds;
use super::segment::{Catalog, Segment, write_deleted};
use crate::batch::{Batch, Message};
use crate::scan::outline;
use crate::time::{TimeWriter, parse_rfc3339};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// How often files are looked at for their age when nothing is written.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Entries may be dated this far into the future and are still listed. Files are kept as much longer.
pub(super) const FUTURE: Duration = Duration::from_secs(24 * 3600);

pub(super) struct Writer {
    dir: PathBuf,
    limits: LogLimits,
    catalog: Arc<Mutex<Catalog>>,
    /// The file that entries are appended to; `None` until the first one.
    file: Option<File>,
    ids: InsertIds,
    times: TimeWriter,
    /// Whether the last write failed, so that a full disk is reported once and not a thousand times a second.
    failing: bool,
    /// Reused: completed lines on their way to the file.
    lines: Vec<u8>,
}

impl Writer {
    pub(super) fn new(dir: &Path, limits: LogLimits, catalog: Arc<Mutex<Catalog>>) -> io::Result<Writer> {
        let mut writer = Writer {
            dir: dir.to_owned(),
            limits,
            catalog,
            file: None,
            ids: InsertIds::starting_at(Timestamp::now()),
            times: TimeWriter::new(),
            failing: false,
            lines: Vec::new(),
        };
        writer.open_last()?;
        writer.sweep();
        Ok(writer)
    }

    /// Goes on with the last file, if it has room.
    fn open_last(&mut self) -> io::Result<()> {
        let last = self.catalog().segments.last().cloned();
        if let Some(last) = last.filter(|last| last.len < self.limits.segment_bytes()) {
            self.file = Some(open_file(&last.path(&self.dir))?);
        }
        Ok(())
    }

    /// Looks at the directory anew, in which another process may have written.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        *self.catalog() = Catalog::open(&self.dir)?;
        self.open_last()
    }

    /// Works until told to stop, or until every sender is gone.
    pub(super) fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(SWEEP_INTERVAL) {
                Ok(Message::Entries(batch)) => {
                    // Nobody waits for the outcome; `write` has reported it.
                    let _ = self.write(&batch);
                }
                Ok(Message::Append(batch, reply)) => {
                    let _ = reply.send(self.write(&batch).map_err(|e| e.to_string()));
                }
                Ok(Message::Flush(reply)) => {
                    let _ = reply.send(());
                }
                Ok(Message::DeleteLog(name, reply)) => {
                    let _ = reply.send(self.delete_log(&name).map_err(|e| e.to_string()));
                }
                Ok(Message::Release(asked)) => match release(self, messages, asked) {
                    After::Resumed => {}
                    After::Stopped => return,
                },
                Err(RecvTimeoutError::Timeout) => self.sweep(),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&mut self, batch: &Batch) -> io::Result<()> {
        let result = self.try_write(batch);
        match &result {
            Err(e) if !self.failing => tracing::error!(error = %e, "log entries could not be written"),
            Ok(()) if self.failing => tracing::info!("log entries can be written again"),
            _ => {}
        }
        self.failing = result.is_err();
        result
    }

    fn try_write(&mut self, batch: &Batch) -> io::Result<()> {
        let now = SystemTime::now();
        let mut segment = self.current_segment(now)?;
        let before = segment.len;
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        let completed = self.complete(batch, now, &mut segment, &mut lines);
        let written = completed.and_then(|()| self.append(&lines, before));
        segment.len = before + lines.len() as u64;
        self.lines = lines;
        written?;
        if let Some(current) = self.catalog().segments.last_mut() {
            *current = segment;
        }
        self.shrink();
        Ok(())
    }

    /// What is known of the current file; begins the next one when it is full.
    fn current_segment(&mut self, now: SystemTime) -> io::Result<Segment> {
        let last = self.catalog().segments.last().cloned();
        let full = |segment: &Segment| segment.len >= self.limits.segment_bytes();
        match last {
            Some(last) if self.file.is_some() && !full(&last) => Ok(last),
            Some(last) if self.file.is_some() => {
                if let Some(file) = self.file.take() {
                    file.sync_data()?;
                }
                last.close(&self.dir)?;
                self.begin(last.number + 1, now)
            }
            Some(last) => {
                last.close(&self.dir)?;
                self.begin(last.number + 1, now)
            }
            None => self.begin(1, now),
        }
    }

    fn begin(&mut self, number: u64, now: SystemTime) -> io::Result<Segment> {
        let segment = Segment::empty(number, timestamp(now));
        self.file = Some(open_file(&segment.path(&self.dir))?);
        self.catalog().segments.push(segment.clone());
        Ok(segment)
    }

    /// Adds to every line what it lacks, and takes note of it.
    fn complete(
        &mut self,
        batch: &Batch,
        now: SystemTime,
        segment: &mut Segment,
        lines: &mut Vec<u8>,
    ) -> io::Result<()> {
        let received = timestamp(now);
        self.ids.advance(received);
        segment.received = received;
        for line in lines_of(batch.bytes()) {
            let Some(found) = outline(line) else {
                tracing::warn!("a log entry that is no JSON object was left out");
                continue;
            };
            let timestamp = match found.timestamp {
                Some(text) => parse_rfc3339(text),
                None => Some(received),
            };
            segment.note(timestamp, found.log_name, segment.len + lines.len() as u64);
            let end = line.iter().rposition(|b| *b == b'}').unwrap_or(line.len());
            lines.extend_from_slice(&line[..end]);
            let mut separator = if found.empty { "" } else { "," };
            if found.insert_id.is_none() {
                write!(lines, "{separator}\"insertId\":\"{}\"", self.ids.next())?;
                separator = ",";
            }
            if found.timestamp.is_none() {
                write!(lines, "{separator}\"timestamp\":\"")?;
                self.times.nanos(lines, now);
                lines.push(b'"');
                separator = ",";
            }
            if found.receive_timestamp.is_none() {
                write!(lines, "{separator}\"receiveTimestamp\":\"")?;
                self.times.nanos(lines, now);
                lines.push(b'"');
            }
            lines.extend_from_slice(b"}\n");
        }
        Ok(())
    }

    /// Appends whole lines, or nothing: what a failed write left behind is cut off again.
    fn append(&mut self, lines: &[u8], before: u64) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("no log file is open")) };
        let Err(error) = file.write_all(lines) else { return Ok(()) };
        if file.set_len(before).is_err() {
            // The next write begins a new file; the torn line here is cut off at the next start.
            self.file = None;
        }
        Err(error)
    }

    /// Deletes the oldest files while there is too much.
    fn shrink(&mut self) {
        loop {
            let oldest = {
                let catalog = self.catalog();
                let too_much = catalog.bytes() > self.limits.max_bytes && catalog.segments.len() > 1;
                catalog.segments.first().filter(|_| too_much).cloned()
            };
            let Some(oldest) = oldest else { return };
            if !self.remove(&oldest) {
                return;
            }
        }
    }

    /// Deletes files whose entries are all too old to be listed.
    fn sweep(&mut self) {
        let keep = self.limits.retention.saturating_add(FUTURE);
        let Some(oldest_kept) = SystemTime::now().checked_sub(keep).map(timestamp) else { return };
        let old: Vec<Segment> =
            self.catalog().segments.iter().filter(|s| s.received < oldest_kept).cloned().collect();
        for segment in old {
            let current = self.catalog().segments.last().is_some_and(|last| last.number == segment.number);
            if current {
                self.file = None;
            }
            if !self.remove(&segment) {
                return;
            }
        }
    }

    fn remove(&self, segment: &Segment) -> bool {
        if let Err(e) = segment.delete(&self.dir) {
            tracing::error!(error = %e, file = segment.number, "an old log file could not be deleted");
            return false;
        }
        self.catalog().segments.retain(|s| s.number != segment.number);
        true
    }

    /// `false` when the log has no entries.
    fn delete_log(&mut self, name: &str) -> io::Result<bool> {
        let (end, mut deleted, oldest) = {
            let catalog = self.catalog();
            if !catalog.logs().any(|log| log == name) {
                return Ok(false);
            }
            let oldest = catalog.segments.first().map_or(0, |s| s.number);
            (catalog.end(), BTreeMap::clone(&catalog.deleted), oldest)
        };
        // Marks that no file reaches back to have done their work.
        deleted.retain(|_, (number, _)| *number >= oldest);
        deleted.insert(name.to_owned(), end);
        write_deleted(&self.dir, &deleted)?;
        self.catalog().deleted = Arc::new(deleted);
        Ok(true)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Writer {
    /// Spares the next start the reading of the current file.
    pub(super) fn close(&mut self) {
        let Some(file) = self.file.take() else { return };
        let last = self.catalog().segments.last().cloned();
        if file.sync_data().is_ok()
            && let Some(last) = last
            && let Err(e) = last.close(&self.dir)
        {
            tracing::warn!(error = %e, "the summary of a log file could not be written");
        }
    }
}

/// The lines of a batch that are not empty, without their ends.
fn lines_of(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]);
    let lines = ends.map(move |end| &bytes[std::mem::replace(&mut start, end + 1)..end]);
    lines.filter(|line| !line.is_empty())
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}
