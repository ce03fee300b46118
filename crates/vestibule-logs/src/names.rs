//! Names of logs: `projects/P/logs/ID`, where ID is URL-encoded.

use std::fmt;

/// Log ids must be shorter than this many characters.
const MAX_LOG_ID: usize = 512;

/// A log's name, taken apart and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogName {
    /// Who holds the log: `projects/P`, `folders/F`, `organizations/O` or `billingAccounts/B`.
    pub container: String,
    /// The log's id, decoded.
    pub id: String,
}

impl LogName {
    /// Takes a name apart. A leading slash is dropped. The error says what is wrong, for people.
    pub fn parse(name: &str) -> Result<LogName, String> {
        let wrong =
            || format!("Invalid log name: \"{name}\"; expected \"projects/[PROJECT_ID]/logs/[LOG_ID]\"");
        let trimmed = name.strip_prefix('/').unwrap_or(name);
        let (container, encoded) = trimmed.split_once("/logs/").ok_or_else(wrong)?;
        if !is_container(container) || encoded.is_empty() || encoded.contains('/') {
            return Err(wrong());
        }
        let id = decode(encoded).ok_or_else(wrong)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.');
        if id.chars().count() >= MAX_LOG_ID || !id.chars().all(allowed) {
            return Err(format!(
                "Invalid log id in \"{name}\": it must be shorter than {MAX_LOG_ID} characters of letters, digits and \"/_-.\""
            ));
        }
        Ok(LogName { container: container.to_owned(), id })
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/logs/{}", self.container, self.id.replace('/', "%2F"))
    }
}

/// Whether this names something that holds logs.
pub(crate) fn is_container(name: &str) -> bool {
    let Some((kind, id)) = name.split_once('/') else { return false };
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    matches!(kind, "projects" | "folders" | "organizations" | "billingAccounts")
        && !id.is_empty()
        && id.chars().all(plain)
}

/// The container of an encoded log name, without checking the rest.
pub(crate) fn container_of(log_name: &str) -> &str {
    log_name.split_once("/logs/").map_or("", |(container, _)| container)
}

/// The decoded id of an encoded log name.
pub(crate) fn id_of(log_name: &str) -> Option<String> {
    decode(log_name.split_once("/logs/")?.1)
}

/// Undoes URL encoding.
fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let name = LogName::parse("/projects/p/logs/run.googleapis.com%2Fstdout").unwrap();
        assert_eq!((name.container.as_str(), name.id.as_str()), ("projects/p", "run.googleapis.com/stdout"));
        assert_eq!(name.to_string(), "projects/p/logs/run.googleapis.com%2Fstdout");
        assert_eq!(id_of(&name.to_string()).as_deref(), Some("run.googleapis.com/stdout"));
    }

    #[test]
    fn wrong_names_are_refused() {
        let long = format!("projects/p/logs/{}", "x".repeat(512));
        for bad in [
            "",
            "x",
            "projects/p",
            "projects/p/logs/",
            "projects/p/logs/a/b",
            "things/p/logs/x",
            "projects//logs/x",
            "projects/p/logs/a%2",
            "projects/p/logs/a%20b",
            "projects/a/b/logs/x",
            &long,
        ] {
            assert!(LogName::parse(bad).is_err(), "{bad}");
        }
        assert!(LogName::parse(&format!("projects/p/logs/{}", "x".repeat(511))).is_ok());
    }
}
