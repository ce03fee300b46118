//! Did you mean: how alike two words are.

/// At and above this share of common characters a word is worth suggesting.
const ALIKE: f64 = 0.6;

/// The candidate most like `word`, if one is alike enough; of equals, the last in the alphabet.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(&str, f64)> = None;
    for candidate in candidates {
        let score = likeness(word, candidate);
        if score >= ALIKE && best.is_none_or(|(held, top)| score > top || (score == top && candidate > held))
        {
            best = Some((candidate, score));
        }
    }
    best.map(|(candidate, _)| candidate)
}

/// Ratcliff and Obershelp's measure: twice the characters in common blocks over all characters, 0 to 1.
pub fn likeness(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    match a.len() + b.len() {
        0 => 1.0,
        total => 2.0 * common(&a, &b) as f64 / total as f64,
    }
}

/// Characters in the longest common block and, left and right of it, in theirs.
fn common(a: &[char], b: &[char]) -> usize {
    let (start_a, start_b, length) = longest_block(a, b);
    if length == 0 {
        return 0;
    }
    length + common(&a[..start_a], &b[..start_b]) + common(&a[start_a + length..], &b[start_b + length..])
}

fn longest_block(a: &[char], b: &[char]) -> (usize, usize, usize) {
    let mut best = (0, 0, 0);
    let mut previous = vec![0usize; b.len() + 1];
    for (i, x) in a.iter().enumerate() {
        let mut current = vec![0usize; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            if x == y {
                let length = previous[j] + 1;
                current[j + 1] = length;
                if length > best.2 {
                    best = (i + 1 - length, j + 1 - length, length);
                }
            }
        }
        previous = current;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_gcloud_suggests() {
        assert_eq!(closest("--foo", ["--bar", "--format"]), Some("--format"));
        assert_eq!(closest("--bar", ["--range", "--format"]), None);
        assert_eq!(
            closest("internal-and-gclb", ["all", "internal", "internal-and-cloud-load-balancing"]),
            Some("internal-and-cloud-load-balancing")
        );
        assert_eq!(closest("foo", ["auto", "custom", "legacy"]), None);
    }
}
