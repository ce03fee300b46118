//! Partial answers: the `fields` parameter (`items(name,id),nextPageToken`, `services/name`).
//!
//! A mask is a list of paths; `/` goes one level down, parentheses share a prefix, `*` is every member. Lists are
//! passed through to their items. What a mask does not name is left out; a name that is not there selects nothing.

use std::collections::BTreeMap;

use serde_json::Value;
use vestibule_control::Error;

/// How deep a mask may nest. No answer is deeper.
const MAX_DEPTH: usize = 32;

/// Selected members; an empty mask below a name selects all of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mask(BTreeMap<String, Mask>);

/// Cuts `value` down to what the mask selects.
pub(crate) fn select(mask: &str, value: &mut Value) -> Result<(), Error> {
    let parsed = Parser { rest: mask }.list(0).filter(|(_, rest)| rest.is_empty());
    let Some((mask, _)) = parsed else {
        return Err(Error::invalid("fields", mask, "Invalid field selection."));
    };
    mask.apply(value);
    Ok(())
}

impl Mask {
    fn apply(&self, value: &mut Value) {
        if self.0.is_empty() {
            return;
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.apply(item)),
            Value::Object(members) => {
                let all = self.0.get("*");
                members.retain(|name, _| all.is_some() || self.0.contains_key(name));
                for (name, member) in members.iter_mut() {
                    if let Some(below) = self.0.get(name).or(all) {
                        below.apply(member);
                    }
                }
            }
            _ => {}
        }
    }

    fn merge(&mut self, name: String, below: Mask) {
        match self.0.get_mut(&name) {
            None => drop(self.0.insert(name, below)),
            // One of them selects all of it.
            Some(before) if before.0.is_empty() || below.0.is_empty() => before.0.clear(),
            Some(before) => below.0.into_iter().for_each(|(name, mask)| before.merge(name, mask)),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// A list of paths up to the end or a closing parenthesis, and what is left.
    fn list(mut self, depth: usize) -> Option<(Mask, &'a str)> {
        let mut mask = Mask::default();
        loop {
            let (name, below) = self.path(depth)?;
            mask.merge(name, below);
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => return Some((mask, self.rest)),
            }
        }
    }

    fn path(&mut self, depth: usize) -> Option<(String, Mask)> {
        let end = self.rest.find([',', '/', '(', ')']).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        let name = name.trim();
        if name.is_empty() || depth > MAX_DEPTH {
            return None;
        }
        self.rest = rest;
        let below = if let Some(rest) = rest.strip_prefix('/') {
            self.rest = rest;
            let (name, below) = self.path(depth + 1)?;
            Mask(BTreeMap::from([(name, below)]))
        } else if let Some(rest) = rest.strip_prefix('(') {
            let (below, rest) = Parser { rest }.list(depth + 1)?;
            self.rest = rest.strip_prefix(')')?;
            below
        } else {
            Mask::default()
        };
        Some((name.to_owned(), below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selected(mask: &str) -> Value {
        let mut value = json!({
            "kind": "list",
            "items": [{"id": "1", "name": "a", "nested": {"x": 1, "y": 2}}, {"id": "2"}],
            "nextPageToken": "t"
        });
        select(mask, &mut value).unwrap();
        value
    }

    #[test]
    fn masks() {
        assert_eq!(selected("nextPageToken"), json!({"nextPageToken": "t"}));
        assert_eq!(selected("items/name,kind"), json!({"kind": "list", "items": [{"name": "a"}, {}]}));
        assert_eq!(
            selected("items(id,nested/x)"),
            json!({"items": [{"id": "1", "nested": {"x": 1}}, {"id": "2"}]})
        );
        assert_eq!(
            selected("items/id,items/name"),
            json!({"items": [{"id": "1", "name": "a"}, {"id": "2"}]})
        );
        assert_eq!(selected("items,items/id"), selected("items"));
        assert_eq!(selected("*")["kind"], "list");
        assert_eq!(selected("missing"), json!({}));
        assert_eq!(selected("items/*/x")["items"][0]["nested"], json!({"x": 1}));
    }

    #[test]
    fn malformed_masks_are_refused() {
        let deep = "a/".repeat(100) + "a";
        for mask in ["", ",", "a,", "a(", "a(b", "a)", "a//b", "(a)", deep.as_str()] {
            assert!(select(mask, &mut json!({})).is_err(), "{mask}");
        }
    }
}
