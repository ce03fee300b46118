//! Sets of addresses and of ports, as ranges.

use std::fmt;
use std::net::Ipv4Addr;

/// Something that can be counted through.
pub trait Countable: Copy + Ord {
    const FIRST: Self;
    const LAST: Self;
    /// The one after this, if this is not the last.
    fn next(self) -> Option<Self>;
}

impl Countable for Ipv4Addr {
    const FIRST: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const LAST: Ipv4Addr = Ipv4Addr::BROADCAST;
    fn next(self) -> Option<Ipv4Addr> {
        u32::from(self).checked_add(1).map(Ipv4Addr::from)
    }
}

impl Countable for u16 {
    const FIRST: u16 = 0;
    const LAST: u16 = u16::MAX;
    fn next(self) -> Option<u16> {
        self.checked_add(1)
    }
}

/// A set as the fewest ranges that hold it, rising; both ends of a range belong to it.
///
/// Two sets are equal exactly when they hold the same things, however they were written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Intervals<T>(Box<[(T, T)]>);

/// A set of addresses.
pub type Addresses = Intervals<Ipv4Addr>;
/// A set of ports.
pub type Ports = Intervals<u16>;

impl<T: Countable> Intervals<T> {
    /// The empty set.
    pub fn none() -> Intervals<T> {
        Intervals(Box::default())
    }

    /// The set of everything.
    pub fn all() -> Intervals<T> {
        Intervals(Box::new([(T::FIRST, T::LAST)]))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is_all(&self) -> bool {
        *self.0 == [(T::FIRST, T::LAST)]
    }

    pub fn contains(&self, value: T) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= value);
        after > 0 && value <= self.0[after - 1].1
    }

    /// What is in both.
    pub fn intersection(&self, other: &Intervals<T>) -> Intervals<T> {
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                both.push((first, last));
            }
            if a.1 < b.1 {
                mine.next()
            } else {
                theirs.next()
            };
        }
        Intervals(both.into())
    }

    /// The ranges, rising. There is always something between two of them that belongs to neither.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (T, T)> + '_ {
        self.0.iter().copied()
    }
}

impl Intervals<Ipv4Addr> {
    /// The addresses of `base/prefix`. Bits of `base` beyond the prefix are ignored; a prefix over 32 is 32.
    pub fn network(base: Ipv4Addr, prefix: u8) -> Addresses {
        let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let base = u32::from(base) & !host;
        Intervals(Box::new([(base.into(), (base | host).into())]))
    }
}

impl<T: Countable> Default for Intervals<T> {
    fn default() -> Self {
        Intervals::none()
    }
}

/// Ranges in any order, overlapping or not. A range whose last is before its first is empty.
impl<T: Countable> FromIterator<(T, T)> for Intervals<T> {
    fn from_iter<I: IntoIterator<Item = (T, T)>>(ranges: I) -> Self {
        let mut given: Vec<(T, T)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        given.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(given.len());
        for (first, last) in given {
            match merged.last_mut() {
                Some(before) if before.1.next().is_none_or(|next| first <= next) => {
                    before.1 = before.1.max(last)
                }
                _ => merged.push((first, last)),
            }
        }
        Intervals(merged.into())
    }
}

/// Single things.
impl<T: Countable> FromIterator<T> for Intervals<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        values.into_iter().map(|value| (value, value)).collect()
    }
}

/// Whole sets, united.
impl<T: Countable> FromIterator<Intervals<T>> for Intervals<T> {
    fn from_iter<I: IntoIterator<Item = Intervals<T>>>(sets: I) -> Self {
        sets.into_iter().flat_map(|set| set.0.into_vec()).collect()
    }
}

impl<T: fmt::Display + Eq> fmt::Debug for Intervals<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.0.iter().map(|(first, last)| match first == last {
            true => format!("{first}"),
            false => format!("{first}-{last}"),
        });
        write!(f, "{{{}}}", texts.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn touching_and_overlapping_ranges_are_one() {
        let ports: Ports = [(80, 90), (1, 5), (91, 100), (85, 88), (200, 100)].into_iter().collect();
        assert_eq!(ports.ranges().collect::<Vec<_>>(), [(1, 5), (80, 100)]);
        assert_eq!(format!("{ports:?}"), "{1-5, 80-100}");
        let whole: Ports = [(100, u16::MAX), (0, 99), (u16::MAX, u16::MAX)].into_iter().collect();
        assert!(whole.is_all());
    }

    #[test]
    fn a_prefix_is_a_range() {
        let range = Addresses::network(Ipv4Addr::new(10, 0, 0, 9), 24);
        let ends = range.ranges().next().unwrap();
        assert_eq!(ends, (Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 0, 0, 255)));
        assert!(Addresses::network(Ipv4Addr::BROADCAST, 0).is_all());
        assert!(Addresses::network(Ipv4Addr::LOCALHOST, 32).contains(Ipv4Addr::LOCALHOST));
    }

    fn set() -> impl Strategy<Value = (Vec<(u16, u16)>, Ports)> {
        let range = (0u16..40, 0u16..40).prop_map(|(a, b)| (a, b));
        prop::collection::vec(range, 0..6).prop_map(|ranges| (ranges.clone(), ranges.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_set_holds_what_its_ranges_hold((ranges, set) in set(), (others, other) in set()) {
            let within = |ranges: &[(u16, u16)], v| ranges.iter().any(|(first, last)| (*first..=*last).contains(&v));
            let both = set.intersection(&other);
            for value in 0..45 {
                prop_assert_eq!(set.contains(value), within(&ranges, value));
                prop_assert_eq!(both.contains(value), within(&ranges, value) && within(&others, value));
            }
            let again: Ports = both.ranges().collect();
            prop_assert_eq!(again, both, "an intersection is in its simplest form");
        }
    }
}
