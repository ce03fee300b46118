//! Maglev's table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", 2016).
//!
//! The candidates take turns to claim places of a table, each in an order of its own. Every candidate ends with a share
//! that differs from the others' by less than a hundredth, a look-up is one read, and when a candidate goes away few
//! places change beside its own.

use super::Candidate;
use crate::hash;

/// Places of the table; a prime, so that every candidate's order visits all of them (Envoy's default).
pub(super) const PLACES: u64 = 65_537;

/// A place that nobody has claimed.
const FREE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Table {
    places: Box<[u32]>,
}

/// A candidate while it claims places.
struct Claimant {
    index: u32,
    offset: u64,
    skip: u64,
    next: u64,
    /// Its weight as a share of the heaviest one's, 0.0 to 1.0, and how much of a claim it has saved up.
    share: f64,
    saved: f64,
}

impl Claimant {
    fn new(index: usize, candidate: &Candidate, heaviest: u32) -> Claimant {
        Claimant {
            index: index as u32,
            offset: hash::pair(candidate.key, 0) % PLACES,
            skip: hash::pair(candidate.key, 1) % (PLACES - 1) + 1,
            next: 0,
            share: f64::from(candidate.weight) / f64::from(heaviest),
            saved: 0.0,
        }
    }

    /// Claims the first place of its order that is free. There is one.
    fn claim(&mut self, places: &mut [u32]) {
        loop {
            let place = ((self.offset + self.next * self.skip) % PLACES) as usize;
            self.next += 1;
            if places[place] == FREE {
                places[place] = self.index;
                return;
            }
        }
    }
}

impl Table {
    /// At least one candidate has a weight.
    pub(super) fn new(candidates: &[Candidate]) -> Table {
        let mut places = vec![FREE; PLACES as usize];
        let heaviest = candidates.iter().map(|candidate| candidate.weight).max().unwrap_or(1).max(1);
        let weighted = candidates.iter().enumerate().filter(|(_, candidate)| candidate.weight > 0);
        let mut claimants: Vec<Claimant> =
            weighted.map(|(index, candidate)| Claimant::new(index, candidate, heaviest)).collect();
        // The order of claims must not depend on the order of candidates.
        claimants.sort_unstable_by_key(|claimant| candidates[claimant.index as usize].key);
        let mut left = PLACES;
        while left > 0 && !claimants.is_empty() {
            for claimant in &mut claimants {
                claimant.saved += claimant.share;
                if claimant.saved >= 1.0 && left > 0 {
                    claimant.saved -= 1.0;
                    claimant.claim(&mut places);
                    left -= 1;
                }
            }
        }
        Table { places: places.into() }
    }

    /// The candidate at this hash; if it was tried, the one at the next place that was not.
    pub(super) fn at(&self, hash: u64, tried: &dyn Fn(usize) -> bool) -> usize {
        let start = (hash % PLACES) as usize;
        let first = self.places[start] as usize;
        if !tried(first) {
            return first;
        }
        let others = self.places[start..].iter().chain(&self.places[..start]);
        others.map(|index| *index as usize).find(|index| !tried(*index)).unwrap_or(first)
    }
}
