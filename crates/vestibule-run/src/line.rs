//! The line of requests that wait for a slot: first come, first served, each with an end to its patience.
//!
//! Only the keeper of a revision touches it, so it is plain data. Who leaves early (the client went away) is noticed
//! when its turn comes, or when [`Line::drop_cancelled`] is called.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::instance::Lease;
use crate::refusal::Refusal;

/// A request that waits.
pub(crate) struct Waiter {
    /// When it began to wait.
    pub(crate) since: Instant,
    /// When the request's own time is over.
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Result<Lease, Refusal>>,
}

impl Waiter {
    /// Ends the wait. If the waiter has left, a lease in the answer goes back by being dropped.
    pub(crate) fn answer(self, answer: Result<Lease, Refusal>) {
        drop(self.reply.send(answer));
    }
}

/// Requests that wait, in the order in which they came.
#[derive(Default)]
pub(crate) struct Line {
    next: u64,
    waiting: BTreeMap<u64, Waiter>,
    /// By deadline, because requests need not have come in the order of their deadlines.
    deadlines: BTreeSet<(Instant, u64)>,
}

impl Line {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn push(&mut self, waiter: Waiter) {
        self.deadlines.insert((waiter.deadline, self.next));
        self.waiting.insert(self.next, waiter);
        self.next += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Waiter> {
        let (number, waiter) = self.waiting.pop_first()?;
        self.deadlines.remove(&(waiter.deadline, number));
        Some(waiter)
    }

    /// The first whose own deadline has passed.
    pub(crate) fn pop_overdue(&mut self, now: Instant) -> Option<Waiter> {
        let (deadline, number) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.deadlines.pop_first();
        self.waiting.remove(&number)
    }

    /// The first if it has waited for as long as anyone may.
    pub(crate) fn pop_waited(&mut self, now: Instant, limit: Duration) -> Option<Waiter> {
        let (_, first) = self.waiting.first_key_value()?;
        if first.since + limit > now { None } else { self.pop() }
    }

    /// When the next one's patience ends, if no one may wait longer than `limit`.
    pub(crate) fn next_end(&self, limit: Duration) -> Option<Instant> {
        let (_, first) = self.waiting.first_key_value()?;
        let waited = first.since + limit;
        Some(self.deadlines.first().map_or(waited, |(deadline, _)| waited.min(*deadline)))
    }

    /// Removes those who left. Tells how many.
    pub(crate) fn drop_cancelled(&mut self) -> usize {
        let before = self.len();
        let deadlines = &mut self.deadlines;
        self.waiting.retain(|number, waiter| {
            let stays = !waiter.reply.is_closed();
            if !stays {
                deadlines.remove(&(waiter.deadline, *number));
            }
            stays
        });
        before - self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Reply = oneshot::Receiver<Result<Lease, Refusal>>;

    fn waiter(since: Instant, deadline: u64) -> (Waiter, Reply) {
        let (reply, receiver) = oneshot::channel();
        (Waiter { since, deadline: since + Duration::from_secs(deadline), reply }, receiver)
    }

    #[test]
    fn first_come_first_served() {
        let start = Instant::now();
        let mut line = Line::default();
        let mut replies = Vec::new();
        for second in 0..3 {
            let (waiter, reply) = waiter(start + Duration::from_secs(second), 100);
            line.push(waiter);
            replies.push(reply);
        }
        let order: Vec<_> = std::iter::from_fn(|| line.pop()).map(|waiter| waiter.since).collect();
        assert!(order.is_sorted() && order.len() == 3);
        assert!(line.deadlines.is_empty());
    }

    #[test]
    fn patience_ends_by_deadline_or_by_limit() {
        let start = Instant::now();
        let limit = Duration::from_secs(10);
        let mut line = Line::default();
        let (long, _long) = waiter(start, 300);
        let (short, _short) = waiter(start, 5);
        line.push(long);
        line.push(short);
        assert_eq!(line.next_end(limit), Some(start + Duration::from_secs(5)));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(line.pop_overdue(after(4)).is_none());
        assert_eq!(line.pop_overdue(after(5)).unwrap().deadline, after(5));
        assert!(line.pop_overdue(after(5)).is_none());
        assert_eq!(line.next_end(limit), Some(after(10)));
        assert!(line.pop_waited(after(9), limit).is_none());
        assert!(line.pop_waited(after(10), limit).is_some());
        assert_eq!(line.next_end(limit), None);
        assert!(line.is_empty());
    }

    #[test]
    fn who_left_is_removed() {
        let start = Instant::now();
        let mut line = Line::default();
        let (stays, _reply) = waiter(start, 300);
        let (leaves, left) = waiter(start, 300);
        line.push(leaves);
        line.push(stays);
        drop(left);
        assert_eq!(line.drop_cancelled(), 1);
        assert_eq!(line.len(), 1);
        assert_eq!(line.deadlines.len(), 1);
    }
}
