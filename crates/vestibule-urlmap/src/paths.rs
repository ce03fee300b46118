//! Path rules: an exact path wins, else the longest `/…/*` prefix.
//!
//! The cost of a match follows the length of the path: one pass hashes it, prefixes are probed only where a `/` stands
//! and only at lengths that some rule has. 100,000 rules cost what 10 do.

use smallvec::SmallVec;

use crate::key_table::{KeyTable, Keying, Lengths, RunningHash};

/// Compiled path patterns. Each leads to a value and remembers how much of the path it matched.
#[derive(Debug)]
pub(crate) struct Paths<V> {
    exact: KeyTable<V>,
    /// Keys are patterns without their `*`: they end with `/`.
    prefixes: KeyTable<V>,
    prefix_lengths: Lengths,
}

/// A path rule that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathHit<'p, V> {
    /// As it was written.
    pub(crate) pattern: &'p str,
    pub(crate) value: V,
    /// Bytes of the path that the pattern stands for, its `*` not counted.
    pub(crate) matched: usize,
}

/// How a path pattern may look (`PathRule.paths[]` of the Compute API).
pub(crate) fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    if !pattern.starts_with('/') {
        return Err("Path must begin with '/'.");
    }
    if pattern.len() > 1024 {
        return Err("Path must be at most 1024 characters long.");
    }
    if pattern.contains(['?', '#']) {
        return Err("Path must not contain '?' or '#'.");
    }
    match pattern.find('*') {
        None => Ok(()),
        Some(star) if star + 1 == pattern.len() && pattern[..star].ends_with('/') => Ok(()),
        Some(_) => Err("Wildcard '*' is only allowed at the end, following a '/'."),
    }
}

impl<V> Paths<V> {
    /// Builds the table; of two equal patterns the first counts.
    pub(crate) fn build(patterns: impl IntoIterator<Item = (String, V)>) -> Paths<V> {
        let mut seen = std::collections::HashSet::new();
        let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
        for (pattern, value) in patterns {
            if !seen.insert(pattern.clone()) {
                continue;
            }
            let patterns = if pattern.ends_with("/*") { &mut prefixes } else { &mut exact };
            patterns.push((pattern.into_boxed_str(), value));
        }
        let prefixes = KeyTable::build(prefixes, Keying::Starred);
        let prefix_lengths = Lengths::of(prefixes.keys());
        Paths { exact: KeyTable::build(exact, Keying::Plain), prefixes, prefix_lengths }
    }
}

impl<V: Copy> Paths<V> {
    /// The value of the best pattern for a normalised path without its query.
    pub(crate) fn find(&self, path: &[u8]) -> Option<PathHit<'_, V>> {
        let may_be_exact = path.len() <= self.exact.longest();
        let reach = if may_be_exact { path.len() } else { path.len().min(self.prefix_lengths.longest()) };
        let mut hash = RunningHash::new();
        let mut stops: SmallVec<[(usize, RunningHash); 24]> = SmallVec::new();
        for (at, &byte) in path[..reach].iter().enumerate() {
            hash.push(byte);
            if byte == b'/' && self.prefix_lengths.contains(at + 1) {
                stops.push((at + 1, hash));
            }
        }
        if may_be_exact && let Some((pattern, &value)) = self.exact.find(hash, |key| key == path) {
            return Some(PathHit { pattern, value, matched: path.len() });
        }
        stops.iter().rev().find_map(|&(length, hash)| {
            let (pattern, &value) = self.prefixes.find(hash, |key| key == &path[..length])?;
            Some(PathHit { pattern, value, matched: length })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(patterns: &[&str], path: &str) -> Option<String> {
        let paths = Paths::build(patterns.iter().enumerate().map(|(n, p)| (p.to_string(), n)));
        paths.find(path.as_bytes()).map(|hit| patterns[hit.value].to_string())
    }

    #[test]
    fn worked_examples() {
        let rules = ["/video/hd", "/video/hd/*", "/video/sd", "/video/sd/*"];
        for (path, want) in [
            ("/video", None),
            ("/video/examples", None),
            ("/", None),
            ("/video/hd", Some("/video/hd")),
            ("/video/hd/movie1", Some("/video/hd/*")),
            ("/video/hd/movies/movie2", Some("/video/hd/*")),
            ("/video/sd/show2", Some("/video/sd/*")),
            ("/VIDEO/hd/x", None),
        ] {
            assert_eq!(find(&rules, path).as_deref(), want, "{path}");
        }
        assert_eq!(find(&["/video/*"], "/video/").as_deref(), Some("/video/*"));
        assert_eq!(find(&["/video/*"], "/video"), None);
        assert_eq!(find(&["/*", "/a/*"], "/a").as_deref(), Some("/*"));
    }

    #[test]
    fn matched_is_the_pattern_without_its_star() {
        let paths = Paths::build([("/a/*".to_string(), 0)]);
        assert_eq!(paths.find(b"/a/c"), Some(PathHit { pattern: "/a/*", value: 0, matched: 3 }));
    }

    #[test]
    fn patterns_are_checked() {
        for good in ["/", "/*", "/a", "/a/", "/a/*", "/a/b%20c"] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "*", "/a*", "/a/*/b", "/a/**", "/a?b", "/a#b"] {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
    }

    fn naive<'p>(patterns: &'p [String], path: &str) -> Option<&'p String> {
        let exact = patterns.iter().find(|p| *p == path);
        let prefix =
            patterns.iter().filter(|p| p.strip_suffix('*').is_some_and(|stem| path.starts_with(stem)));
        exact.or_else(|| prefix.max_by_key(|p| p.len()))
    }

    proptest! {
        #[test]
        fn equals_a_naive_matcher(
            patterns in proptest::collection::hash_set("/([ab]{0,2}/){0,4}([ab]|[*])?", 0..24),
            path in "/([ab]{0,2}/){0,5}[ab]{0,2}",
        ) {
            let patterns: Vec<String> = patterns.into_iter().collect();
            let paths = Paths::build(patterns.iter().enumerate().map(|(n, p)| (p.clone(), n)));
            let found = paths.find(path.as_bytes()).map(|hit| &patterns[hit.value]);
            prop_assert_eq!(found, naive(&patterns, &path));
        }
    }
}
