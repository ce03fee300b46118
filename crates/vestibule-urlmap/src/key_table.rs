//! A hash table from byte strings, probed with a hash that grows byte by byte.
//!
//! Longest-prefix matching asks for many prefixes of one string. With an ordinary map each probe hashes its prefix
//! from the start; here one pass over the string yields every prefix's hash, so the cost of a match follows the length
//! of the path, never the number of rules. Keys come from the configuration, so nobody can choose them to collide.

/// A running hash. FNV-1a over bytes; the low bits are mixed once more when a slot is chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunningHash(u64);

impl RunningHash {
    pub(crate) const fn new() -> RunningHash {
        RunningHash(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn push(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn of(bytes: impl Iterator<Item = u8>) -> RunningHash {
        let mut hash = RunningHash::new();
        bytes.for_each(|byte| hash.push(byte));
        hash
    }

    fn spread(self) -> u64 {
        let folded = self.0 ^ (self.0 >> 29);
        folded.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
    /// Index into `entries` plus one; 0 is a free slot.
    entry: u32,
}

/// How keys are stored and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keying {
    /// As they are, from the first byte to the last.
    Plain,
    /// As they are, hashed from the last byte to the first.
    Reversed,
    /// Their texts have one byte more at the end, a `*`. So a pattern is stored once, for matching and for logs.
    Starred,
}

impl Keying {
    fn key(self, text: &[u8]) -> &[u8] {
        match self {
            Keying::Starred => text.split_last().map_or(text, |(_, key)| key),
            _ => text,
        }
    }

    fn hash(self, key: &[u8]) -> RunningHash {
        match self {
            Keying::Reversed => RunningHash::of(key.iter().rev().copied()),
            _ => RunningHash::of(key.iter().copied()),
        }
    }
}

/// Byte strings with a value each. Built once, never changed after.
#[derive(Debug)]
pub(crate) struct KeyTable<V> {
    keying: Keying,
    slots: Box<[Slot]>,
    /// Texts and values.
    entries: Vec<(Box<str>, V)>,
    longest: usize,
}

impl<V> Default for KeyTable<V> {
    fn default() -> Self {
        KeyTable { keying: Keying::Plain, slots: Box::default(), entries: Vec::new(), longest: 0 }
    }
}

impl<V> KeyTable<V> {
    /// Builds the table. Texts must be distinct.
    pub(crate) fn build(entries: Vec<(Box<str>, V)>, keying: Keying) -> KeyTable<V> {
        if entries.is_empty() {
            return KeyTable::default();
        }
        let size = (entries.len() * 2).next_power_of_two();
        let mut slots = vec![Slot { tag: 0, entry: 0 }; size].into_boxed_slice();
        let mut longest = 0;
        for (index, (text, _)) in entries.iter().enumerate() {
            let key = keying.key(text.as_bytes());
            longest = longest.max(key.len());
            let (mut at, tag) = place(keying.hash(key), size);
            while slots[at].entry != 0 {
                at = (at + 1) & (size - 1);
            }
            slots[at] = Slot { tag, entry: u32::try_from(index + 1).unwrap_or(u32::MAX) };
        }
        KeyTable { keying, slots, entries, longest }
    }

    /// Length of the longest key in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|(text, _)| self.keying.key(text.as_bytes()))
    }

    /// Text and value of the entry whose key has this hash and pleases `same`.
    pub(crate) fn find(&self, hash: RunningHash, same: impl Fn(&[u8]) -> bool) -> Option<(&str, &V)> {
        let size = self.slots.len();
        if size == 0 {
            return None;
        }
        let (mut at, tag) = place(hash, size);
        loop {
            let slot = self.slots[at];
            if slot.entry == 0 {
                return None;
            }
            if slot.tag == tag
                && let Some((text, value)) = self.entries.get(slot.entry as usize - 1)
                && same(self.keying.key(text.as_bytes()))
            {
                return Some((text, value));
            }
            at = (at + 1) & (size - 1);
        }
    }
}

/// The slot to begin at, and the tag to compare before the key is.
fn place(hash: RunningHash, size: usize) -> (usize, u32) {
    let spread = hash.spread();
    ((spread >> 32) as usize & (size - 1), spread as u32)
}

/// A set of lengths, asked once a byte.
#[derive(Debug, Default)]
pub(crate) struct Lengths {
    words: Vec<u64>,
    longest: usize,
}

impl Lengths {
    pub(crate) fn of<'k>(keys: impl Iterator<Item = &'k [u8]>) -> Lengths {
        let mut set = Lengths::default();
        keys.for_each(|key| set.insert(key.len()));
        set
    }

    fn insert(&mut self, length: usize) {
        if self.words.len() <= length / 64 {
            self.words.resize(length / 64 + 1, 0);
        }
        self.words[length / 64] |= 1 << (length % 64);
        self.longest = self.longest.max(length);
    }

    pub(crate) fn contains(&self, length: usize) -> bool {
        self.words.get(length / 64).is_some_and(|word| word >> (length % 64) & 1 == 1)
    }

    pub(crate) fn longest(&self) -> usize {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_key_and_nothing_else() {
        for (keying, end) in [(Keying::Plain, ""), (Keying::Reversed, ""), (Keying::Starred, "*")] {
            let texts: Vec<_> = (0..5000).map(|n| (format!("/k/{n}{end}").into_boxed_str(), n)).collect();
            let table = KeyTable::build(texts, keying);
            for n in 0..10_000 {
                let key = format!("/k/{n}");
                let found = table.find(keying.hash(key.as_bytes()), |k| k == key.as_bytes());
                let text = format!("{key}{end}");
                assert_eq!(found, (n < 5000).then_some((text.as_str(), &n)), "{keying:?}");
            }
        }
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        assert!(KeyTable::<u32>::default().find(RunningHash::new(), |_| true).is_none());
    }

    #[test]
    fn lengths_remember_what_was_put_in() {
        let set = Lengths::of([&b"a"[..], &[0u8; 64], &[0u8; 200]].into_iter());
        assert!(set.contains(1) && set.contains(64) && set.contains(200));
        assert!(!set.contains(0) && !set.contains(63) && !set.contains(4000));
        assert_eq!(set.longest(), 200);
    }
}
