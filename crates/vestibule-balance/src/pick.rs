//! The next endpoint, by the policies that `localityLbPolicy` names.
//!
//! A [`Picker`] is made for the endpoints that may be picked at the moment, and made anew when those change. It belongs
//! to one thread: no two workers share one, so picking needs no lock, and with several workers "round robin" is one
//! each, from a start of its own.

mod maglev;
mod ring;
mod turns;

use maglev::Table;
use ring::Ring;
use turns::Turns;

/// `localityLbPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// One after the other, by weight. The default without session affinity.
    #[default]
    RoundRobin,
    /// The same, by weights that follow from what endpoints report of their load: [`crate::load`].
    WeightedRoundRobin,
    /// The one with fewer requests under way of two that are drawn.
    LeastRequest,
    Random,
    /// A ring with at least that many points (`consistentHash.minimumRingSize`).
    RingHash {
        minimum: u32,
    },
    /// Maglev's table. The default with session affinity.
    Maglev,
}

impl Policy {
    /// Requests that are placed by a hash stay with an endpoint.
    pub fn hashes(self) -> bool {
        matches!(self, Policy::RingHash { .. } | Policy::Maglev)
    }
}

/// An endpoint that may be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// A hash of its identity, the same in every process: hashing policies place it by that.
    pub key: u64,
    /// Its share of requests beside the others'. 0 is never picked.
    pub weight: u32,
}

/// What a pick may depend on.
pub struct Ask<'a> {
    /// What the request is placed by; without it hashing policies draw.
    pub hash: Option<u64>,
    /// A fresh random number.
    pub random: u64,
    /// Requests under way at a candidate, by its index.
    pub load: &'a dyn Fn(usize) -> u32,
    /// Candidates that have been tried for this request, by index: others come first.
    pub tried: &'a dyn Fn(usize) -> bool,
}

/// Picks among some candidates.
#[derive(Debug)]
pub struct Picker {
    candidates: Box<[Candidate]>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Nobody,
    Turns(Turns),
    /// With sums of weights where those differ.
    LeastRequest(Option<Box<[u64]>>),
    /// Sums of weights up to and with each candidate.
    Random(Box<[u64]>),
    Ring(Ring),
    Maglev(Table),
}

impl Picker {
    /// `random` is where a round begins.
    pub fn new(policy: Policy, candidates: &[Candidate], random: u64) -> Picker {
        let usable = candidates.iter().any(|candidate| candidate.weight > 0);
        let way = match policy {
            _ if !usable => Way::Nobody,
            Policy::RoundRobin | Policy::WeightedRoundRobin => Way::Turns(Turns::new(candidates, random)),
            Policy::LeastRequest if all_equal(candidates) => Way::LeastRequest(None),
            Policy::LeastRequest => Way::LeastRequest(Some(sums(candidates))),
            Policy::Random => Way::Random(sums(candidates)),
            Policy::RingHash { minimum } => Way::Ring(Ring::new(candidates, minimum)),
            Policy::Maglev => Way::Maglev(Table::new(candidates)),
        };
        Picker { candidates: candidates.into(), way }
    }

    /// The index of the next candidate. One that was tried already only if all were. `None`: there is nobody.
    pub fn pick(&mut self, ask: &Ask<'_>) -> Option<usize> {
        let random = ask.random;
        let found = match &mut self.way {
            Way::Nobody => return None,
            Way::Turns(turns) => turns.next(ask.tried),
            Way::LeastRequest(None) => least(&self.candidates, ask),
            Way::LeastRequest(Some(sums)) => least_by_weight(&self.candidates, sums, ask),
            Way::Random(sums) => drawn(sums, random),
            Way::Ring(ring) => ring.at(ask.hash.unwrap_or(random), ask.tried),
            Way::Maglev(table) => table.at(ask.hash.unwrap_or(random), ask.tried),
        };
        Some(if (ask.tried)(found) { self.untried_after(found, ask).unwrap_or(found) } else { found })
    }

    /// The first candidate behind this one that was not tried.
    fn untried_after(&self, from: usize, ask: &Ask<'_>) -> Option<usize> {
        let count = self.candidates.len();
        let mut others = (1..count).map(|step| (from + step) % count);
        others.find(|index| self.candidates[*index].weight > 0 && !(ask.tried)(*index))
    }
}

fn sums(candidates: &[Candidate]) -> Box<[u64]> {
    let add = |sum: &mut u64, candidate: &Candidate| {
        *sum += u64::from(candidate.weight);
        Some(*sum)
    };
    candidates.iter().scan(0, add).collect()
}

/// The candidate whose weight a random number falls into.
fn drawn(sums: &[u64], random: u64) -> usize {
    let total = sums.last().copied().unwrap_or_default();
    let at = scaled(random, total);
    sums.partition_point(|sum| *sum <= at)
}

/// A random number below `limit`.
fn scaled(random: u64, limit: u64) -> u64 {
    ((u128::from(random) * u128::from(limit)) >> 64) as u64
}

/// The less busy of two that are drawn (the power of two choices).
fn least(candidates: &[Candidate], ask: &Ask<'_>) -> usize {
    let count = candidates.len() as u64;
    let first = scaled(ask.random, count) as usize;
    // The second is another one, drawn by the bits that the first left.
    let step = 1 + scaled(ask.random.rotate_left(32), count.saturating_sub(1).max(1)) as usize;
    let second = (first + step) % candidates.len();
    let busy = |index: usize| ((ask.tried)(index), (ask.load)(index));
    if busy(second) < busy(first) { second } else { first }
}

/// The less busy for its weight of two that are drawn by weight.
fn least_by_weight(candidates: &[Candidate], sums: &[u64], ask: &Ask<'_>) -> usize {
    let (first, second) = (drawn(sums, ask.random), drawn(sums, crate::hash::pair(ask.random, 1)));
    let busy = |index: usize| {
        let load = u64::from((ask.load)(index)) << 32;
        ((ask.tried)(index), load / u64::from(candidates[index].weight.max(1)))
    };
    if busy(second) < busy(first) { second } else { first }
}

fn all_equal(candidates: &[Candidate]) -> bool {
    candidates.windows(2).all(|two| two[0].weight == two[1].weight)
}

#[cfg(test)]
mod tests;
