//! The hash of names.
//!
//! The standard library's hash withstands keys that an enemy chooses. Names get into our tables only through the API,
//! and strangers can only ask for them; so a seeded multiplication is enough, at a fifth of the cost.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// A map by wire-form names.
pub(crate) type Names<K, V> = HashMap<K, V, Seeded>;

/// An odd number with its bits well mixed (the golden ratio).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes hashers that start from a number of this process.
#[derive(Debug, Clone)]
pub(crate) struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Seeded {
        Seeded(fastrand::u64(..))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// Eight bytes at a time, multiplied to twice their width and folded.
#[derive(Debug)]
pub(crate) struct Folded(u64);

impl Folded {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(FACTOR);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.add(u64::from_le_bytes(last));
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_that_look_alike_are_spread() {
        let seed = Seeded::default();
        let hash = |n: u32| seed.hash_one(format!("host-{n}.internal.example.com").as_bytes());
        let all: HashSet<u64> = (0..10_000).map(hash).collect();
        assert_eq!(all.len(), 10_000);
        // The standard library's map uses the low bits for the place and the top seven to tell neighbours apart.
        let low: HashSet<u64> = all.iter().map(|hash| hash & 0x3fff).collect();
        let top: HashSet<u64> = all.iter().map(|hash| hash >> 57).collect();
        assert!(low.len() > 6_500 && top.len() == 128, "{} {}", low.len(), top.len());
    }
}
