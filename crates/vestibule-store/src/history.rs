//! The recent past, for watches.
//!
//! A bounded ring of events. A watcher that fell further behind than the ring reaches is told so and starts again from
//! a view: the store never keeps more than this for a slow reader.

use crate::{Event, Revision};
use std::collections::VecDeque;

/// How many recent events a watch can go back. Whole commits are kept, so that slightly more may be held; a commit
/// larger than this is not kept at all.
pub const HISTORY_EVENTS: usize = 8192;

pub(crate) struct History {
    events: VecDeque<Event>,
    /// Every event after this revision is held.
    floor: Revision,
    head: Revision,
    capacity: usize,
}

impl History {
    pub(crate) fn starting_at(revision: Revision, capacity: usize) -> History {
        History { events: VecDeque::new(), floor: revision, head: revision, capacity }
    }

    /// The last revision that was recorded.
    pub(crate) fn head(&self) -> Revision {
        self.head
    }

    /// Records one commit.
    pub(crate) fn push(&mut self, events: Vec<Event>, revision: Revision) {
        self.head = revision;
        self.events.extend(events);
        while self.events.len() > self.capacity {
            self.forget_oldest_commit();
        }
    }

    /// Forgets everything: watchers must read a view.
    pub(crate) fn reset(&mut self, revision: Revision) {
        self.events.clear();
        self.floor = revision;
        self.head = revision;
    }

    fn forget_oldest_commit(&mut self) {
        let Some(oldest) = self.events.front().map(|e| e.revision) else { return };
        while self.events.front().is_some_and(|e| e.revision == oldest) {
            self.events.pop_front();
        }
        self.floor = oldest;
    }

    /// Everything after `revision`, or `None` when that is no longer held.
    pub(crate) fn after(&self, revision: Revision) -> Option<Vec<Event>> {
        if revision < self.floor {
            return None;
        }
        let start = self.events.partition_point(|e| e.revision <= revision);
        Some(self.events.range(start..).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(revision: Revision, n: usize) -> Vec<Event> {
        (0..n).map(|i| Event { key: format!("k{i}").into(), value: None, revision }).collect()
    }

    #[test]
    fn forgets_whole_commits_only() {
        let mut history = History::starting_at(0, 5);
        history.push(commit(1, 3), 1);
        history.push(commit(2, 3), 2);
        assert!(history.after(0).is_none(), "revision 1 is half gone, so it is all gone");
        assert_eq!(history.after(1).map(|e| e.len()), Some(3));
        assert_eq!(history.after(2).map(|e| e.len()), Some(0));
    }

    #[test]
    fn a_commit_beyond_the_capacity_is_not_held() {
        let mut history = History::starting_at(7, 2);
        history.push(commit(8, 3), 8);
        assert!(history.after(7).is_none());
        assert_eq!(history.after(8).map(|e| e.len()), Some(0));
    }
}
