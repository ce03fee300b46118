//! Reaching into nested JSON.

use serde_json::{Map, Value};

use crate::Document;

/// The value at a path of members; `null` where there is none.
pub(super) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, member| &value[*member])
}

/// The string at a path; `None` where it is missing, empty or no string.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path).as_str().filter(|text| !text.is_empty())
}

/// The items of the list at a path, none where there is none.
pub(super) fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The string members of the object at a path.
pub(super) fn strings<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let members = at(value, path).as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
}

/// A member that is an object, made if it is not.
pub(super) fn object_mut<'a>(parent: &'a mut Document, member: &str) -> &'a mut Document {
    let slot = parent.entry(member).or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(object) => object,
        _ => unreachable!("it was just made an object"),
    }
}

/// Removes members that are `null`, at every depth, in lists too: to Google's APIs they mean "absent".
pub(super) fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

/// Whether two values say the same: an empty object or list is the same as none.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            let within = |these: &Document, those: &Document| {
                these.iter().all(|(name, value)| same(value, those.get(name).unwrap_or(&Value::Null)))
            };
            within(left, right)
                && right.iter().all(|(name, value)| left.contains_key(name) || empty_deep(value))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (left, right) => {
            left == right || (empty(left) && empty(right)) || (empty_deep(left) && empty_deep(right))
        }
    }
}

/// Whether nothing is said at any depth.
fn empty_deep(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().all(empty_deep),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_the_same() {
        for (a, b) in [
            (json!({}), json!(null)),
            (json!({"a": 1}), json!({"a": 1, "b": {}})),
            (json!({"a": 1, "m": {"labels": {}}}), json!({"a": 1})),
            (json!({"a": 1}), json!({"a": 1, "m": {"labels": {}}})),
            (json!([{"a": {}}]), json!([{}])),
        ] {
            assert!(same(&a, &b) && same(&b, &a), "{a} {b}");
        }
        for (a, b) in [
            (json!({"a": 1}), json!({"a": 2})),
            (json!({"a": 1}), json!({})),
            (json!([1]), json!([])),
            (json!({"a": ""}), json!({})),
            (json!([1, 2]), json!([2, 1])),
        ] {
            assert!(!same(&a, &b) && !same(&b, &a), "{a} {b}");
        }
    }

    #[test]
    fn nulls_go_from_lists_too() {
        let mut value = json!({"a": [{"b": null, "c": {"d": null}}], "e": null});
        prune_nulls(&mut value);
        assert_eq!(value, json!({"a": [{"c": {}}]}));
    }
}
