//! The nodes of a zone by name.
//!
//! They stand in shards, each a table of its own behind a counted pointer: a copy of the whole shares all shards, and a
//! change copies the one it touches. So one record of a large zone is changed without preparing all the others again,
//! while questions find their node in an ordinary table. Names stand there without the zone's own, in lower case: so they
//! are short, and short ones need no memory elsewhere.

use std::hash::BuildHasher;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Node;
use crate::hash::{Names, Seeded};

/// The labels of a name before the apex. As long as fits into four words.
type Labels = SmallVec<[u8; 23]>;

/// Nodes that a shard should have, in the mean.
const PER_SHARD: usize = 64;
/// How much fuller shards may become before there are more of them.
const GROWTH: usize = 4;
const MAX_SHARDS: usize = 4096;

#[derive(Debug, Clone)]
pub(super) struct Nodes {
    /// A power of two.
    shards: Box<[Arc<Names<Labels, Node>>]>,
    seed: Seeded,
    count: usize,
}

impl Nodes {
    /// Room for so many names.
    pub(super) fn for_names(count: usize) -> Nodes {
        let seed = Seeded::default();
        let shards = (count / PER_SHARD).next_power_of_two().min(MAX_SHARDS);
        let empty = || Arc::new(Names::with_hasher(seed.clone()));
        Nodes { shards: (0..shards).map(|_| empty()).collect(), seed, count: 0 }
    }

    /// Spreads the nodes over more shards, if so many more would make them too full.
    pub(super) fn make_room(&mut self, more: usize) {
        let wanted = self.count + more;
        if wanted <= self.shards.len() * PER_SHARD * GROWTH || self.shards.len() == MAX_SHARDS {
            return;
        }
        let mut wider = Nodes::for_names(wanted);
        for (name, node) in self.shards.iter().flat_map(|shard| shard.iter()) {
            wider.put(name.clone(), node.clone());
        }
        *self = wider;
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Node> {
        self.shards[self.shard(name)].get(name)
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Node> {
        // A shard that has no such node is not copied.
        self.get(name)?;
        let shard = self.shard(name);
        Arc::make_mut(&mut self.shards[shard]).get_mut(name)
    }

    /// A node without records.
    pub(super) fn insert(&mut self, name: &[u8]) {
        self.put(name.into(), Node::default());
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        let shard = self.shard(name);
        if Arc::make_mut(&mut self.shards[shard]).remove(name).is_some() {
            self.count -= 1;
        }
    }

    fn put(&mut self, name: Labels, node: Node) {
        let shard = self.shard(&name);
        if Arc::make_mut(&mut self.shards[shard]).insert(name, node).is_none() {
            self.count += 1;
        }
    }

    /// Bits of the hash that a table does not use itself choose the shard.
    fn shard(&self, name: &[u8]) -> usize {
        (self.seed.hash_one(name) >> 32) as usize & (self.shards.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Vec<u8> {
        let label = format!("host-{n}");
        [&[label.len() as u8], label.as_bytes()].concat()
    }

    #[test]
    fn a_copy_shares_all_but_what_is_changed() {
        let mut first = Nodes::for_names(10_000);
        (0..10_000).for_each(|n| first.insert(&name(n)));
        let fullest = first.shards.iter().map(|shard| shard.len()).max();
        assert!(first.shards.len() == 256 && fullest.is_some_and(|most| most < 2 * PER_SHARD), "{fullest:?}");
        let mut second = first.clone();
        second.remove(&name(7));
        second.get_mut(&name(10_001));
        assert!(first.contains(&name(7)) && !second.contains(&name(7)));
        let shared = first.shards.iter().zip(&second.shards).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!((shared, first.count, second.count), (255, 10_000, 9_999));
    }

    #[test]
    fn a_zone_that_grows_gets_more_shards() {
        let mut nodes = Nodes::for_names(1);
        for n in 0..2_000 {
            nodes.make_room(1);
            nodes.insert(&name(n));
        }
        assert!((8..=32).contains(&nodes.shards.len()), "{}", nodes.shards.len());
        assert!((0..2_000).all(|n| nodes.contains(&name(n))) && nodes.count == 2_000);
    }
}
