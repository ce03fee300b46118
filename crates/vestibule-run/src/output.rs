//! What instances print, on its way to the log.
//!
//! Output is read by a thread of its own, so that a program that prints without end keeps nobody else waiting. Such a
//! program cannot fill the memory or the log either: a line has a greatest length, each stream may have so many lines a
//! second, and what the log store cannot take is dropped by its sink. Lines beyond are counted, and the count is
//! logged. The program itself never waits for the log, only for this thread to read, which takes its time with a program
//! that prints too much.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vestibule_logs::container::MAX_LINE_BYTES;
use vestibule_logs::{Batch, ContainerLog, LogSink, Severity, Stream};

use crate::desired::{ExecutionKey, ServiceKey};

/// Lines a second of one stream of one instance, over time.
const LINES_PER_SECOND: u32 = 2_000;
/// Lines that may come at once after a silence.
const LINES_AT_ONCE: u32 = 10_000;
/// How often it is logged that lines were dropped.
const CONFESSION: Duration = Duration::from_secs(1);
/// Bytes read at a time.
const READ: usize = 16 * 1024;
/// Reads in a row before other streams have their turn.
const READS_IN_A_ROW: usize = 8;
/// Pause in reading a stream that has used up its allowance. Its writer waits then, instead of keeping a processor busy
/// with lines that are thrown away.
const FLOOD_PAUSE: Duration = Duration::from_millis(5);

/// Where entries about one instance come from and go to.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) sink: LogSink,
    pub(crate) of: Subject,
    pub(crate) instance_id: Arc<str>,
    /// The container that entries are about, if they are about one.
    pub(crate) container: Option<Arc<str>>,
}

/// What an instance is an instance of, for its log.
#[derive(Clone)]
pub(crate) enum Subject {
    Revision { service: ServiceKey, revision: Arc<str> },
    Task { execution: ExecutionKey, index: u32, attempt: u32 },
}

impl Journal {
    /// The journal of one container of the instance.
    pub(crate) fn of_container(&self, name: &str) -> Journal {
        Journal { container: Some(name.into()), ..self.clone() }
    }

    /// Writes a message of the platform about the instance.
    pub(crate) fn say(&self, severity: Severity, text: &str) {
        let mut batch = Batch::default();
        let mut log = self.log(Stream::System);
        batch.push_with(|out| {
            log.write_message(out, severity, text, SystemTime::now());
            true
        });
        self.sink.try_send(batch);
    }

    fn log(&self, stream: Stream) -> ContainerLog {
        let log = match &self.of {
            Subject::Revision { service: key, revision } => {
                let id = &self.instance_id;
                ContainerLog::new(&key.project, &key.region, &key.name, revision, id, stream)
            }
            Subject::Task { execution: key, index, attempt } => {
                ContainerLog::of_job(&key.project, &key.region, &key.job, stream)
                    .with_label("instanceId", self.instance_id.to_string())
                    .with_label("run.googleapis.com/execution_name", key.name.to_string())
                    .with_label("run.googleapis.com/task_index", index.to_string())
                    .with_label("run.googleapis.com/task_attempt", attempt.to_string())
            }
        };
        match &self.container {
            Some(container) => log.with_label("container_name", container.to_string()),
            None => log,
        }
    }
}

/// Where streams are read: an executor of its own, and how many streams it reads.
#[derive(Clone)]
pub(crate) struct Readers {
    executor: tokio::runtime::Handle,
    open: watch::Sender<usize>,
}

impl Readers {
    /// `open` counts the streams that are being read.
    pub(crate) fn new(executor: tokio::runtime::Handle, open: watch::Sender<usize>) -> Self {
        Self { executor, open }
    }

    /// Reads a stream until its end, or until everything is read once `gone` says that nobody is left to write. What it
    /// returns is done when all of it has been handed to the log.
    pub(crate) fn read(
        &self,
        fd: OwnedFd,
        stream: Stream,
        journal: Journal,
        gone: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let open = self.open.clone();
        open.send_modify(|open| *open += 1);
        self.executor.spawn(async move {
            capture(fd, stream, journal, gone).await;
            open.send_modify(|open| *open -= 1);
        })
    }
}

/// Reads a stream until its end, or until everything is read once `gone` says that nobody is left to write.
async fn capture(fd: OwnedFd, stream: Stream, journal: Journal, mut gone: watch::Receiver<bool>) {
    let Ok(pipe) = pipe::Receiver::from_owned_fd(fd) else { return };
    let mut capture = Capture::new(stream, journal);
    loop {
        let open = tokio::select! {
            biased;
            // Something that left the process group may hold the stream open, or write to it, for ever.
            _ = gone.wait_for(|gone| *gone) => false,
            ready = pipe.readable() => ready.is_ok(),
        };
        if !open {
            capture.rest(&pipe);
            break;
        }
        if !capture.drain(&pipe) {
            break;
        }
        if capture.dropped > 0 {
            tokio::time::sleep(FLOOD_PAUSE).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    capture.finish();
}

struct Capture {
    log: ContainerLog,
    journal: Journal,
    lines: Lines,
    allowance: Allowance,
    dropped: u64,
    confessed: Instant,
}

impl Capture {
    fn new(stream: Stream, journal: Journal) -> Self {
        let now = Instant::now();
        Self {
            log: journal.log(stream),
            journal,
            lines: Lines::default(),
            allowance: Allowance { left: LINES_AT_ONCE.into(), at: now },
            dropped: 0,
            confessed: now,
        }
    }

    /// Reads what is there, within limits. `false`: nothing will come any more.
    fn drain(&mut self, pipe: &pipe::Receiver) -> bool {
        let mut buffer = [0; READ];
        for _ in 0..READS_IN_A_ROW {
            match pipe.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.take(&buffer[..length]),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Reads what nobody will add to any more, within the same limits. Asks the kernel itself: tokio answers from what it
    /// has been told so far, and of a program that came and went in a moment it may have been told nothing.
    fn rest(&mut self, pipe: &pipe::Receiver) {
        let mut buffer = [0; READ];
        for _ in 0..READS_IN_A_ROW {
            match rustix::io::read(pipe, &mut buffer[..]) {
                Ok(0) => return,
                Ok(length) => self.take(&buffer[..length]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, data: &[u8]) {
        let now = Instant::now();
        let time = SystemTime::now();
        let mut batch = Batch::default();
        let Self { log, lines, allowance, dropped, .. } = self;
        lines.feed(data, |line| {
            if allowance.take(now) {
                batch.push_with(|out| log.write(out, line, time));
            } else {
                *dropped += 1;
            }
        });
        self.journal.sink.try_send(batch);
        if now - self.confessed >= CONFESSION {
            self.confess();
        }
    }

    fn confess(&mut self) {
        self.confessed = Instant::now();
        if self.dropped > 0 {
            let text = format!("{} lines of output were dropped: too many at once.", self.dropped);
            self.journal.say(Severity::WARNING, &text);
            self.dropped = 0;
        }
    }

    fn finish(&mut self) {
        let mut batch = Batch::default();
        if let Some(line) = self.lines.rest() {
            batch.push_with(|out| self.log.write(out, line, SystemTime::now()));
        }
        self.journal.sink.try_send(batch);
        self.confess();
    }
}

/// Cuts what is read into lines of bounded length.
#[derive(Default)]
struct Lines {
    /// The beginning of a line whose end has not been read. One byte more than the log takes, so that the log sees
    /// that a line was longer.
    partial: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, data: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = data;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.partial.is_empty() {
                each(line);
            } else {
                self.extend(line);
                each(&self.partial);
                // Not cleared: one long line must not cost its size for the life of the instance.
                self.partial = Vec::new();
            }
            rest = after;
        }
        self.extend(rest);
    }

    fn extend(&mut self, part: &[u8]) {
        let room = (MAX_LINE_BYTES + 1).saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// The last line, if it had no end.
    fn rest(&self) -> Option<&[u8]> {
        (!self.partial.is_empty()).then_some(&self.partial)
    }
}

/// So many at once, and so many a second.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(LINES_PER_SECOND);
        self.left = (self.left + earned).min(LINES_AT_ONCE.into());
        self.at = now;
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut lines = Lines::default();
        for part in parts {
            lines.feed(part, |line| all.push(line.to_vec()));
        }
        all.extend(lines.rest().map(<[u8]>::to_vec));
        all
    }

    #[test]
    fn a_line_that_does_not_end_is_bounded() {
        let mut lines = Lines::default();
        for _ in 0..MAX_LINE_BYTES / 1_000 * 3 {
            lines.feed(&[b'x'; 1_000], |_| panic!("no line has ended"));
        }
        assert_eq!(lines.partial.len(), MAX_LINE_BYTES + 1);
        let mut seen = Vec::new();
        lines.feed(b"y\nnext\n", |line| seen.push(line.len()));
        assert_eq!(seen, [MAX_LINE_BYTES + 1, 4]);
        assert_eq!(lines.partial.capacity(), 0);
    }

    #[test]
    fn the_allowance_has_a_burst_and_a_rate() {
        let start = Instant::now();
        let mut allowance = Allowance { left: LINES_AT_ONCE.into(), at: start };
        let granted = |allowance: &mut Allowance, now| (0..100_000).filter(|_| allowance.take(now)).count();
        assert_eq!(granted(&mut allowance, start), LINES_AT_ONCE as usize);
        assert_eq!(granted(&mut allowance, start + Duration::from_secs(1)), LINES_PER_SECOND as usize);
        assert_eq!(granted(&mut allowance, start + Duration::from_secs(1_000)), LINES_AT_ONCE as usize);
    }

    proptest! {
        #[test]
        fn cuts_the_same_however_it_is_read(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cut in any::<prop::sample::Index>(),
        ) {
            let (before, after) = text.split_at(cut.index(text.len() + 1));
            let mut expected: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            // What follows the last line feed is a line only if there is something.
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(lines(&[before, after]), expected);
        }
    }
}
