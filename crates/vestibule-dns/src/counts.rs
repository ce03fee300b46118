//! How many questions were answered, and how.

use std::sync::atomic::{AtomicU64, Ordering};

/// Response codes that fit into a message's header. Extended ones are counted by what is left of them there.
const RCODES: usize = 16;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Answers by transport and response code, and messages that got none.
#[derive(Default)]
pub(crate) struct Counts {
    answers: [[AtomicU64; RCODES]; 2],
    dropped: AtomicU64,
}

/// What is counted in one go, added up where nobody else looks.
#[derive(Default)]
pub(crate) struct Tally {
    answers: [u64; RCODES],
    dropped: u64,
}

impl Tally {
    /// An answer as it is sent, without the length in front of it.
    pub(crate) fn answered(&mut self, message: &[u8]) {
        // The low four bits of the second flag octet (RFC 1035 section 4.1.1).
        if let Some(flags) = message.get(3) {
            self.answers[usize::from(flags & 0x0f)] += 1;
        }
    }

    pub(crate) fn dropped(&mut self) {
        self.dropped += 1;
    }
}

impl Counts {
    pub(crate) fn add(&self, transport: Transport, tally: &Tally) {
        for (sum, count) in self.answers[transport as usize].iter().zip(tally.answers) {
            if count > 0 {
                sum.fetch_add(count, Ordering::Relaxed);
            }
        }
        if tally.dropped > 0 {
            self.dropped.fetch_add(tally.dropped, Ordering::Relaxed);
        }
    }

    /// One answer.
    pub(crate) fn answered(&self, transport: Transport, message: &[u8]) {
        let mut tally = Tally::default();
        tally.answered(message);
        self.add(transport, &tally);
    }

    pub(crate) fn report(&self) -> Report {
        let mut report = Report { dropped: self.dropped.load(Ordering::Relaxed), ..Report::default() };
        for transport in [Transport::Udp, Transport::Tcp] {
            for (rcode, count) in self.answers[transport as usize].iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    report.answers.push((transport, rcode as u8, count));
                }
            }
        }
        report
    }
}

/// What was counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Transport, response code (RFC 6895 section 2.3) and how many answers there were; only those that occurred.
    pub answers: Vec<(Transport, u8, u64)>,
    /// Messages that got no answer because they are none that may have one.
    pub dropped: u64,
    /// Questions that were to be logged and came faster than they could be.
    pub not_logged: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_code() {
        let counts = Counts::default();
        let mut tally = Tally::default();
        tally.answered(&[0, 0, 0x84, 0x03]);
        tally.answered(&[0, 0, 0x84, 0x83]);
        tally.answered(&[]);
        tally.dropped();
        counts.add(Transport::Udp, &tally);
        counts.answered(Transport::Tcp, &[0, 0, 0x84, 0x00]);
        let report = counts.report();
        assert_eq!(report.answers, [(Transport::Udp, 3, 2), (Transport::Tcp, 0, 1)]);
        assert_eq!(report.dropped, 1);
    }
}
