//! Values of flags: lists, dictionaries, numbers, durations.

use std::fmt;

/// Why a value is not one; the words gcloud uses after `argument --flag: `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError(pub String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits `a,b,c`. A value that starts with `^D^` is split at `D` instead of the comma (`^:^a,b:c` is `a,b` and `c`).
/// An empty value is an empty list; empty parts are dropped.
pub fn split_list(value: &str) -> Vec<String> {
    let (delimiter, rest) = delimiter(value);
    rest.split(delimiter).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Splits `k=v,k=v`. A part without `=` continues the value before it only where a custom delimiter was given; else
/// it is an error.
pub fn split_pairs(value: &str) -> Result<Vec<(String, String)>, ValueError> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in split_list(value) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(ValueError(format!(
                "Bad syntax for dict arg: [{part}]. Please see `gcloud topic flags-file` or `gcloud topic escaping` for \
                 information on providing list or dictionary flag values with special characters."
            )));
        };
        match pairs.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value.to_owned(),
            None => pairs.push((key.to_owned(), value.to_owned())),
        }
    }
    Ok(pairs)
}

fn delimiter(value: &str) -> (&str, &str) {
    let escaped = value.strip_prefix('^').and_then(|rest| rest.split_once('^'));
    match escaped {
        Some((delimiter, rest)) if !delimiter.is_empty() => (delimiter, rest),
        _ => (",", value),
    }
}

/// `90`, `90s`, `1m30s`, `2h`, `1d`: whole seconds.
pub fn parse_duration(value: &str) -> Result<u64, ValueError> {
    let error = |why: String| Err(ValueError(format!("Failed to parse duration: {why}")));
    if let Ok(seconds) = value.parse::<u64>() {
        return Ok(seconds);
    }
    let mut total = 0u64;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = tail.split_at(letters);
        let Ok(number) = number.parse::<u64>() else {
            return error(format!("Duration unit '{tail}' must be preceded by a number"));
        };
        let seconds = match unit.to_ascii_lowercase().as_str() {
            "" | "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 604_800,
            _ => return error(format!("Unknown duration unit '{unit}'")),
        };
        if letters == 0 && !after.is_empty() {
            return error(format!("Unknown duration unit '{after}'"));
        }
        total = number.checked_mul(seconds).and_then(|n| total.checked_add(n)).unwrap_or(u64::MAX);
        rest = after;
    }
    if value.is_empty() { error("Duration string cannot be empty".into()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(split_list("a,b,,c"), ["a", "b", "c"]);
        assert_eq!(split_list("^:^a,b:c"), ["a,b", "c"]);
        assert_eq!(split_list("^--^a--b"), ["a", "b"]);
        assert_eq!(split_list("^a"), ["^a"]);
        assert!(split_list("").is_empty());
    }

    #[test]
    fn pairs() {
        let pairs = split_pairs("/api/*=my-api,/web/*=b=c").unwrap();
        assert_eq!(pairs, [("/api/*".into(), "my-api".into()), ("/web/*".into(), "b=c".into())]);
        assert_eq!(split_pairs("a=1,a=2").unwrap(), [("a".into(), "2".into())]);
        assert!(split_pairs("a").unwrap_err().0.starts_with("Bad syntax for dict arg: [a]."));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("60"), Ok(60));
        assert_eq!(parse_duration("60s"), Ok(60));
        assert_eq!(parse_duration("1h30m"), Ok(5400));
        assert_eq!(
            parse_duration("xx").unwrap_err().0,
            "Failed to parse duration: Duration unit 'xx' must be preceded by a number"
        );
        assert!(parse_duration("5y").is_err());
        assert!(parse_duration("").is_err());
    }
}
