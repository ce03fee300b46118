//! The recent past, for watches.
//!
//! A bounded ring of events. A watcher that fell further behind than the ring reaches is told so and starts again from
//! a view: the store never keeps more than this for a slow reader.

use crate::{Event, Revision};
use std::collections::VecDeque;

/// How many recent events a watch can go back. Only whole commits are kept; one larger than this is not kept at all.
pub const HISTORY_EVENTS: usize = 8192;

/// How many bytes of JSON the recent events may have, for the same reason. A document takes about ten times as much
/// memory as its text, and one that was replaced since is held by nothing but this.
pub const HISTORY_BYTES: usize = 512 * 1024;

/// How much past is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { events: HISTORY_EVENTS, bytes: HISTORY_BYTES }
    }
}

/// An event and the length of its document's text.
pub(crate) struct Weighed {
    pub(crate) event: Event,
    pub(crate) bytes: usize,
}

pub(crate) struct History {
    events: VecDeque<Weighed>,
    /// Of all events together.
    bytes: usize,
    /// Every event after this revision is held.
    floor: Revision,
    head: Revision,
    bounds: Bounds,
}

impl History {
    pub(crate) fn starting_at(revision: Revision, bounds: Bounds) -> History {
        History { events: VecDeque::new(), bytes: 0, floor: revision, head: revision, bounds }
    }

    /// The last revision that was recorded.
    pub(crate) fn head(&self) -> Revision {
        self.head
    }

    /// Records one commit.
    pub(crate) fn push(&mut self, events: Vec<Weighed>, revision: Revision) {
        self.head = revision;
        self.bytes += events.iter().map(|weighed| weighed.bytes).sum::<usize>();
        self.events.extend(events);
        while self.events.len() > self.bounds.events || self.bytes > self.bounds.bytes {
            self.forget_oldest_commit();
        }
    }

    /// Forgets everything: watchers must read a view.
    pub(crate) fn reset(&mut self, revision: Revision) {
        self.events.clear();
        self.bytes = 0;
        self.floor = revision;
        self.head = revision;
    }

    fn forget_oldest_commit(&mut self) {
        let Some(oldest) = self.events.front().map(|oldest| oldest.event.revision) else { return };
        while let Some(forgotten) = self.events.pop_front_if(|oldest_too| oldest_too.event.revision == oldest)
        {
            self.bytes -= forgotten.bytes;
        }
        self.floor = oldest;
    }

    /// Everything after `revision`, or `None` when that is no longer held.
    pub(crate) fn after(&self, revision: Revision) -> Option<Vec<Event>> {
        if revision < self.floor {
            return None;
        }
        let start = self.events.partition_point(|weighed| weighed.event.revision <= revision);
        Some(self.events.range(start..).map(|weighed| weighed.event.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events of ten bytes each.
    fn commit(revision: Revision, n: usize) -> Vec<Weighed> {
        let event = |i: usize| Event { key: format!("k{i}").into(), value: None, revision };
        (0..n).map(|i| Weighed { event: event(i), bytes: 10 }).collect()
    }

    fn bounds(events: usize, bytes: usize) -> Bounds {
        Bounds { events, bytes }
    }

    #[test]
    fn forgets_whole_commits_only() {
        for bounds in [bounds(5, 1000), bounds(1000, 50)] {
            let mut history = History::starting_at(0, bounds);
            history.push(commit(1, 3), 1);
            history.push(commit(2, 3), 2);
            assert!(history.after(0).is_none(), "revision 1 is half gone, so it is all gone");
            assert_eq!(history.after(1).map(|e| e.len()), Some(3));
            assert_eq!(history.after(2).map(|e| e.len()), Some(0));
        }
    }

    #[test]
    fn a_commit_beyond_the_bounds_is_not_held() {
        for bounds in [bounds(2, 1000), bounds(1000, 20)] {
            let mut history = History::starting_at(7, bounds);
            history.push(commit(8, 3), 8);
            assert!(history.after(7).is_none());
            assert_eq!(history.after(8).map(|e| e.len()), Some(0));
            history.push(commit(9, 2), 9);
            assert_eq!(history.after(8).map(|e| e.len()), Some(2), "what is gone weighs nothing");
        }
    }
}
