//! A ring of hashes (consistent hashing after Karger, as in `ketama`).
//!
//! Every candidate stands at many points of a ring; a request goes to the first candidate at or behind its own hash. A
//! candidate that goes away gives its requests to many others. As in Envoy the ring's size is shared by its candidates,
//! so that the others get some points more when one goes, and with them a few of each other's requests.

use super::Candidate;
use crate::hash;

/// Points that a ring has at most (Envoy's default `maximum_ring_size`).
const MAX_POINTS: u64 = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Ring {
    /// Sorted by hash.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// At least one candidate has a weight. A ring has at least `minimum` points, and at least one a candidate.
    pub(super) fn new(candidates: &[Candidate], minimum: u32) -> Ring {
        let total: u64 = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
        let lightest =
            candidates.iter().map(|candidate| u64::from(candidate.weight)).filter(|weight| *weight > 0);
        // The lightest candidate gets a whole point, and the others as many as their weight is of its.
        let least = lightest.min().unwrap_or(1);
        let scale = u64::from(minimum.max(1)).max(total.div_ceil(least)).min(MAX_POINTS);
        let mut points = Vec::new();
        for (index, candidate) in candidates.iter().enumerate() {
            let count = (u128::from(candidate.weight) * u128::from(scale)).div_ceil(u128::from(total.max(1)));
            points.extend((0..count as u64).map(|nth| (hash::pair(candidate.key, nth), index as u32)));
        }
        points.sort_unstable();
        Ring { points: points.into() }
    }

    /// The candidate at this hash; if it was tried, the next one on the ring that was not.
    pub(super) fn at(&self, hash: u64, tried: &dyn Fn(usize) -> bool) -> usize {
        let start = self.points.partition_point(|(point, _)| *point < hash);
        let order =
            self.points[start..].iter().chain(&self.points[..start]).map(|(_, index)| *index as usize);
        let mut first = None;
        for index in order {
            if !tried(index) {
                return index;
            }
            first.get_or_insert(index);
        }
        first.unwrap_or_default()
    }
}
