//! Host rules: which path matcher a request's host leads to.
//!
//! An exact host beats a wildcard, a longer wildcard suffix beats a shorter one, `*` is the last resort. Hosts are
//! compared without regard to case and with their port: `example.net` does not match `example.net:8080`, because the
//! load balancers built on Envoy keep the port.

use smallvec::SmallVec;

use crate::key_table::{KeyTable, Keying, Lengths, RunningHash};

/// A compiled set of host patterns. The value of each is the caller's.
#[derive(Debug)]
pub(crate) struct Hosts<V> {
    exact: KeyTable<V>,
    /// Keys are what follows the `*`, hashed from the end.
    suffixes: KeyTable<V>,
    suffix_lengths: Lengths,
    any: Option<V>,
}

/// How a host pattern may look (`HostRule.hosts[]` of the Compute API).
pub(crate) fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    if pattern.is_empty() {
        return Err("Host must not be empty.");
    }
    if pattern.len() > 255 {
        return Err("Host must be at most 255 characters long.");
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        if !(rest.is_empty() || rest.starts_with(['-', '.'])) {
            return Err("Wildcard '*' must be followed by nothing, '-' or '.'.");
        }
        return check_host_text(rest);
    }
    check_host_text(pattern)
}

fn check_host_text(text: &str) -> Result<(), &'static str> {
    if text.contains('*') {
        return Err("Wildcard '*' must be the first character.");
    }
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    if !text.bytes().all(allowed) {
        return Err("Host must be a valid host name or IP address, optionally with a port.");
    }
    Ok(())
}

impl<V> Hosts<V> {
    /// Builds the table; of two equal patterns the first counts.
    pub(crate) fn build(patterns: impl IntoIterator<Item = (String, V)>) -> Hosts<V> {
        let mut seen = std::collections::HashSet::new();
        let (mut exact, mut suffixes, mut any) = (Vec::new(), Vec::new(), None);
        for (pattern, value) in patterns {
            let pattern = pattern.to_ascii_lowercase();
            if !seen.insert(pattern.clone()) {
                continue;
            }
            match pattern.strip_prefix('*') {
                None => exact.push((pattern.into_boxed_str(), value)),
                Some("") => any = Some(value),
                Some(suffix) => suffixes.push((suffix.into(), value)),
            }
        }
        let suffixes = KeyTable::build(suffixes, Keying::Reversed);
        let suffix_lengths = Lengths::of(suffixes.keys());
        Hosts { exact: KeyTable::build(exact, Keying::Plain), suffixes, suffix_lengths, any }
    }

    /// The value of the best pattern for this host, as the client sent it.
    pub(crate) fn find(&self, host: &[u8]) -> Option<&V> {
        if host.iter().any(u8::is_ascii_uppercase) {
            let lower: SmallVec<[u8; 256]> = host.iter().map(u8::to_ascii_lowercase).collect();
            return self.find_lowercase(&lower);
        }
        self.find_lowercase(host)
    }

    fn find_lowercase(&self, host: &[u8]) -> Option<&V> {
        self.find_exact(host).or_else(|| self.find_suffix(host)).or(self.any.as_ref())
    }

    fn find_exact(&self, host: &[u8]) -> Option<&V> {
        if host.len() > self.exact.longest() {
            return None;
        }
        let mut hash = RunningHash::new();
        host.iter().for_each(|&byte| hash.push(byte));
        self.exact.find(hash, |key| key == host).map(|(_, value)| value)
    }

    fn find_suffix(&self, host: &[u8]) -> Option<&V> {
        let mut hash = RunningHash::new();
        let mut best = None;
        for (start, &byte) in host.iter().enumerate().rev() {
            let length = host.len() - start;
            // `*` stands for at least one character.
            if length > self.suffix_lengths.longest() || start == 0 {
                break;
            }
            hash.push(byte);
            if self.suffix_lengths.contains(length) {
                let found = self.suffixes.find(hash, |key| key == &host[start..]);
                best = found.map(|(_, value)| value).or(best);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(patterns: &[&str]) -> Hosts<String> {
        Hosts::build(patterns.iter().map(|p| (p.to_string(), p.to_string())))
    }

    #[test]
    fn worked_examples() {
        let table = [
            ("example.net", "example.net", true),
            ("example.net", "EXAMPLE.net", true),
            ("example.net", "example.net:8080", false),
            ("example.net:8080", "example.net:8080", true),
            ("example.net", "example.net:443", false),
            ("*.example.net", "a.b.example.net", true),
            ("*.example.net", ".example.net", false),
            ("*.example.net", "example.net", false),
            ("*.example.net", "a.example.net:99", false),
            ("*", "anything", true),
            ("*", "", true),
            ("10.0.0.100", "10.0.0.100", true),
        ];
        for (pattern, host, want) in table {
            assert_eq!(hosts(&[pattern]).find(host.as_bytes()).is_some(), want, "{pattern} {host}");
        }
    }

    #[test]
    fn exact_then_longest_suffix_then_star() {
        let hosts = hosts(&["*", "*.ex.example", "*-foo.ex.example", "a-foo.ex.example"]);
        for (host, want) in [
            ("a-foo.ex.example", "a-foo.ex.example"),
            ("b-foo.ex.example", "*-foo.ex.example"),
            ("b.ex.example", "*.ex.example"),
            ("ex.example", "*"),
        ] {
            assert_eq!(hosts.find(host.as_bytes()).map(String::as_str), Some(want));
        }
    }

    #[test]
    fn patterns_are_checked() {
        for good in ["a.b", "*", "*.a", "*-a.b", "h:80", "10.0.0.1", "[::1]:80", "a_b"] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        for bad in ["", "*a", "a*", "*.a*", "a b", "a/b", "http://a"] {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
    }

    fn naive<'p>(patterns: &'p [String], host: &str) -> Option<&'p str> {
        let host = host.to_ascii_lowercase();
        let score = |p: &str| match p.strip_prefix('*') {
            None => (p == host).then_some(usize::MAX),
            Some("") => Some(0),
            Some(s) => (host.len() > s.len() && host.ends_with(s)).then_some(s.len()),
        };
        patterns.iter().filter_map(|p| Some((score(p)?, p.as_str()))).max_by_key(|(n, _)| *n).map(|(_, p)| p)
    }

    proptest! {
        #[test]
        fn equals_a_naive_matcher(
            patterns in proptest::collection::hash_set("([*][.-])?[ab.]{1,4}|[*]", 0..12),
            host in "[abA.-]{0,6}",
        ) {
            let patterns: Vec<String> = patterns.into_iter().collect();
            let table = Hosts::build(patterns.iter().map(|p| (p.clone(), p.clone())));
            prop_assert_eq!(table.find(host.as_bytes()).map(String::as_str), naive(&patterns, &host));
        }
    }
}
