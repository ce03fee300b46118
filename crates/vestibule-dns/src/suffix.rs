//! Values by name, found by the longest suffix.

use crate::hash::Names;
use crate::name::{Name, labels};

/// What belongs to names and to all names below them.
#[derive(Debug, Clone)]
pub(crate) struct BySuffix<V> {
    values: Names<Name, V>,
    /// A bit for every number of labels that a name here has: only such suffixes are looked up.
    depths: u128,
}

impl<V> Default for BySuffix<V> {
    fn default() -> Self {
        BySuffix { values: Names::default(), depths: 0 }
    }
}

impl<V> BySuffix<V> {
    /// What was there for the name is replaced.
    pub(crate) fn insert(&mut self, name: Name, value: V) {
        self.depths |= 1 << labels(name.wire());
        self.values.insert(name, value);
    }

    /// The value of the name itself, or of the closest one above it.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&V> {
        let mut depth = labels(name);
        let mut rest = name;
        loop {
            if self.depths >> depth & 1 == 1
                && let Some(found) = self.values.get(rest)
            {
                return Some(found);
            }
            let label = usize::from(*rest.first()?);
            depth = depth.checked_sub(1)?;
            rest = rest.get(label + 1..)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_wins() {
        let mut all = BySuffix::default();
        for (name, value) in [("example.com.", 1), ("a.b.example.com.", 2), ("x.org.", 3), ("x.org.", 4)] {
            all.insert(name.parse().unwrap(), value);
        }
        let find = |name: &str| all.find(name.parse::<Name>().unwrap().wire()).copied();
        assert_eq!(find("example.com."), Some(1));
        assert_eq!(find("b.example.com."), Some(1));
        assert_eq!(find("c.a.b.example.com."), Some(2));
        assert_eq!(find("x.org."), Some(4));
        assert_eq!(find("com."), None);
        assert_eq!(find("."), None);
        all.insert(Name::root(), 9);
        let deep = format!("{}com.", "a.".repeat(125));
        assert_eq!(all.find(deep.parse::<Name>().unwrap().wire()), Some(&9));
    }
}
