//! Label selectors of lists: `key = value, key != value, key in (a, b), key, !key`, as Kubernetes has them.

use serde_json::Value;

use super::json;
use crate::Error;

/// A parsed selector: every requirement must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq)]
struct Requirement {
    key: String,
    /// Values of which one must be there; empty: any value will do.
    values: Vec<String>,
    /// The requirement is that it does not hold.
    negated: bool,
}

impl Selector {
    pub(super) fn parse(text: &str) -> Result<Selector, Error> {
        let parts = split(text).into_iter().filter(|part| !part.trim().is_empty());
        let requirements: Option<Vec<Requirement>> = parts.map(|part| requirement(part.trim())).collect();
        requirements
            .map(Selector)
            .ok_or_else(|| Error::invalid("labelSelector", text, "It is no label selector."))
    }

    /// The one value that a label must have, if there is such.
    pub(super) fn only(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|requirement| match requirement.values.as_slice() {
            [value] if requirement.key == key && !requirement.negated => Some(value.as_str()),
            _ => None,
        })
    }

    /// Whether a document's labels fit.
    pub(super) fn matches(&self, document: &Value) -> bool {
        self.0.iter().all(|requirement| {
            let value = json::at(document, &["metadata", "labels", requirement.key.as_str()]).as_str();
            let holds = match value {
                Some(value) => requirement.values.is_empty() || requirement.values.iter().any(|v| v == value),
                None => false,
            };
            holds != requirement.negated
        })
    }
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_u32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(text: &str) -> Option<Requirement> {
    let of = |key: &str, values: Vec<String>, negated| {
        let key = key.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        (!key.is_empty() && key.chars().all(fits)).then(|| Requirement {
            key: key.to_owned(),
            values,
            negated,
        })
    };
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = text.split_once(operator) {
            return of(key, vec![value.trim().to_owned()], negated);
        }
    }
    if let Some((head, list)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let head = head.trim();
        return match head.strip_suffix(" notin") {
            Some(key) => of(key, values, true),
            None => of(head.strip_suffix(" in")?, values, false),
        };
    }
    match text.strip_prefix('!') {
        Some(key) => of(key, Vec::new(), true),
        None => of(text, Vec::new(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_select() {
        let document = json!({"metadata": {"labels": {"client.knative.dev/nonce": "abc", "env": "prod"}}});
        for (text, expected) in [
            ("", true),
            ("client.knative.dev/nonce = abc", true),
            ("client.knative.dev/nonce=abd", false),
            ("env==prod,client.knative.dev/nonce", true),
            ("env!=prod", false),
            ("other!=x", true),
            ("env in (test, prod)", true),
            ("env notin (test, prod)", false),
            ("env in (test),env", false),
            ("!other", true),
            ("!env", false),
            ("other", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&document), expected, "{text}");
        }
        for bad in ["=x", "a b", "env of (x)", "env in (x"] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }
}
