//! Turns by weight: the earliest deadline first.
//!
//! Every candidate has a moment of virtual time at which its next turn is due; taking a turn moves it on by the inverse
//! of its weight. So a candidate of weight 3 has three turns for every one of a candidate of weight 1, spread evenly
//! and not in a row. With equal weights that is plain round robin, which needs no queue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Candidate;

/// Virtual time that a candidate of weight 1 waits between two turns.
const PERIOD: u64 = 1 << 32;

/// Whose turn it is.
#[derive(Debug)]
pub(super) enum Turns {
    Equal { members: Box<[usize]>, next: usize },
    Weighted { queue: BinaryHeap<Reverse<(u64, usize)>>, periods: Box<[u64]> },
}

impl Turns {
    /// At least one candidate has a weight.
    pub(super) fn new(candidates: &[Candidate], random: u64) -> Turns {
        let members: Box<[usize]> =
            (0..candidates.len()).filter(|index| candidates[*index].weight > 0).collect();
        let mut weights = members.iter().map(|index| candidates[*index].weight);
        let first = weights.next().unwrap_or_default();
        if weights.all(|weight| weight == first) {
            let next = super::scaled(random, members.len() as u64) as usize;
            return Turns::Equal { members, next };
        }
        let periods: Box<[u64]> =
            candidates.iter().map(|candidate| PERIOD / u64::from(candidate.weight.max(1))).collect();
        let start = |index: &usize| {
            let offset = super::scaled(crate::hash::pair(random, *index as u64), periods[*index]);
            Reverse((offset, *index))
        };
        let queue = members.iter().map(start).collect();
        Turns::Weighted { queue, periods }
    }

    /// The next one; those that were tried lose their turn while there are others.
    pub(super) fn next(&mut self, tried: &dyn Fn(usize) -> bool) -> usize {
        match self {
            Turns::Equal { members, next } => {
                let mut found = members[*next % members.len()];
                for step in 0..members.len() {
                    let index = members[(*next + step) % members.len()];
                    if !tried(index) {
                        found = index;
                        *next += step;
                        break;
                    }
                }
                *next = (*next + 1) % members.len();
                found
            }
            Turns::Weighted { queue, periods } => {
                let mut found = None;
                for _ in 0..queue.len() {
                    let Some(Reverse((due, index))) = queue.pop() else { break };
                    queue.push(Reverse((due.wrapping_add(periods[index]), index)));
                    found.get_or_insert(index);
                    if !tried(index) {
                        found = Some(index);
                        break;
                    }
                }
                // The queue is never empty; virtual time has room for 2^32 turns of weight 1 and starts anew with
                // every change of members.
                found.unwrap_or_default()
            }
        }
    }
}
