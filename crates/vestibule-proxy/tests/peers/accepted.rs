//! The reviewed differences: a line a difference, `case aspect reason…`, with `*` for anything in the first two.

/// One line of a table.
struct Row {
    case: &'static str,
    aspect: &'static str,
    line: &'static str,
}

/// A table of accepted differences.
pub struct Accepted(Vec<Row>);

impl Accepted {
    /// Panics when a line lacks a part: a difference without a reason is not accepted.
    pub fn read(text: &'static str) -> Accepted {
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let rows = lines.map(|line| {
            let mut words = line.split_whitespace();
            let (case, aspect) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            assert!(words.next().is_some(), "no reason is given: {line}");
            Row { case, aspect, line }
        });
        Accepted(rows.collect())
    }

    /// Panics with every difference that no row accepts, and every row that accepts nothing.
    pub fn check(&self, differences: &[(String, String)]) {
        let mut used = vec![false; self.0.len()];
        let mut report = Vec::new();
        for (case, difference) in differences {
            let aspect = difference.split_whitespace().next().unwrap_or("");
            let found = self.0.iter().position(|row| glob(row.case, case) && glob(row.aspect, aspect));
            match found {
                Some(index) => used[index] = true,
                None => report.push(format!("{case} {difference}")),
            }
        }
        let idle = self.0.iter().zip(used).filter(|(_, used)| !used);
        report.extend(idle.map(|(row, _)| format!("accepts nothing: {}", row.line)));
        assert!(report.is_empty(), "{} differences:\n{}", report.len(), report.join("\n"));
    }
}

/// Whether the text fits a pattern with `*` for anything.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends = (0..=text.len()).filter(|at| text.is_char_boundary(*at));
            ends.any(|at| glob(rest, &text[at..]))
        }),
    }
}

#[test]
fn patterns() {
    for (pattern, text, fits) in [
        ("a", "a", true),
        ("a*", "abc", true),
        ("a*c", "abcc", true),
        ("a*c", "abcd", false),
        ("*", "", true),
        ("b*", "abc", false),
    ] {
        assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
    }
}
