//! Reading and changing JSON documents.
//!
//! A document keeps what the client sent, as it was sent: Terraform and gcloud compare what they read with what they
//! wrote. So nothing here normalises a value in passing; it drops `null` members, which mean "absent" to Google's
//! APIs, and applies RFC 7396 merge patches.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;

/// A JSON object.
pub type Document = Map<String, Value>;

/// The object in `value`, or an empty one.
pub fn object(value: &Value) -> &Document {
    static EMPTY: std::sync::LazyLock<Document> = std::sync::LazyLock::new(Document::new);
    value.as_object().unwrap_or(&EMPTY)
}

/// A string member; `None` where it is missing, empty or no string.
pub fn text<'a>(doc: &'a Document, field: &str) -> Option<&'a str> {
    doc.get(field)?.as_str().filter(|text| !text.is_empty())
}

/// A boolean member, `false` where it is missing.
pub fn flag(doc: &Document, field: &str) -> bool {
    doc.get(field).and_then(Value::as_bool).unwrap_or(false)
}

/// The members of an array, none where it is missing.
pub fn items<'a>(doc: &'a Document, field: &str) -> &'a [Value] {
    doc.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// An integer, written as a JSON number or as a decimal string.
pub fn integer(doc: &Document, field: &str) -> Option<i64> {
    match doc.get(field)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Sets a member that the client left out.
pub fn default(doc: &mut Document, field: &str, value: impl Into<Value>) {
    if !doc.contains_key(field) {
        doc.insert(field.to_owned(), value.into());
    }
}

/// The typed view of a document.
pub fn typed<T: DeserializeOwned>(doc: &Document) -> Result<T, Error> {
    T::deserialize(doc).map_err(|error| Error::bad_request(format!("Invalid JSON payload received. {error}")))
}

/// Compares bytes by their base64 in either alphabet, padded or not: Google writes one, its clients send the other back.
pub fn same_bytes(sent: &str, current: Option<&str>) -> bool {
    let plain = |text: &str| text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    current.is_some_and(|current| plain(sent) == plain(current))
}

/// Removes members that are `null`, at every depth outside arrays.
pub fn drop_nulls(doc: &mut Document) {
    doc.retain(|_, value| !value.is_null());
    for value in doc.values_mut() {
        if let Value::Object(inner) = value {
            drop_nulls(inner);
        }
    }
}

/// Applies a JSON merge patch (RFC 7396): objects merge, `null` removes, everything else replaces.
pub fn merge(target: &mut Document, patch: Document) {
    for (field, change) in patch {
        match change {
            Value::Null => {
                target.remove(&field);
            }
            Value::Object(change) => match target.get_mut(&field) {
                Some(Value::Object(inner)) => merge(inner, change),
                _ => {
                    let mut fresh = Document::new();
                    merge(&mut fresh, change);
                    target.insert(field, Value::Object(fresh));
                }
            },
            change => {
                target.insert(field, change);
            }
        }
    }
}

/// How a value is printed inside an error text: strings bare, objects and lists as indented JSON without its line
/// ends (`{  "enable": false}`), all else as JSON.
pub fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => {
            serde_json::to_string_pretty(value).unwrap_or_default().replace('\n', "")
        }
        other => other.to_string(),
    }
}

/// Refuses a text outside a closed list. Absent is fine. `path` is `resource.` and the JSON path of `field`'s parent.
pub fn one_of(doc: &Document, path: &str, field: &str, allowed: &[&str]) -> Result<(), Error> {
    match doc.get(field) {
        None => Ok(()),
        Some(Value::String(text)) if allowed.contains(&text.as_str()) => Ok(()),
        Some(other) => Err(Error::invalid(
            format!("{path}.{field}"),
            quoted(other),
            format!("Must be one of {}.", allowed.join(", ")),
        )),
    }
}

/// Refuses an integer outside a range. Absent is fine. `path` as for [`one_of`].
pub fn within(
    doc: &Document,
    path: &str,
    field: &str,
    allowed: std::ops::RangeInclusive<i64>,
) -> Result<(), Error> {
    let Some(value) = doc.get(field) else { return Ok(()) };
    if integer(doc, field).is_some_and(|number| allowed.contains(&number)) {
        return Ok(());
    }
    let why = format!("Must be between {} and {}.", allowed.start(), allowed.end());
    Err(Error::invalid(format!("{path}.{field}"), quoted(value), why))
}

/// Refuses fields that are documented but not built, unless they say "off": absent, `false`, `""`, `[]` or `{}`.
pub fn not_built(doc: &Document, what: &str, fields: &[&str]) -> Result<(), Error> {
    let on = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Number(_) => true,
    };
    match fields.iter().find(|field| doc.get(**field).is_some_and(on)) {
        Some(field) => Err(Error::not_built(format!("{what}.{field}"))),
        None => Ok(()),
    }
}

/// Refuses a change of a field. `path` as for [`one_of`].
pub fn unchanged(old: &Document, new: &Document, path: &str, field: &str) -> Result<(), Error> {
    if old.get(field) == new.get(field) {
        return Ok(());
    }
    let value = new.get(field).map(quoted).unwrap_or_default();
    Err(Error::invalid(format!("{path}.{field}"), value, "The field cannot be changed."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn doc(value: Value) -> Document {
        object(&value).clone()
    }

    #[test]
    fn merge_follows_rfc_7396() {
        // The cases of the RFC's appendix A whose target and patch are both objects.
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut merged = doc(target);
            merge(&mut merged, doc(patch.clone()));
            assert_eq!(Value::Object(merged), result, "{patch}");
        }
    }

    #[test]
    fn nulls_go_and_empty_objects_stay() {
        let mut document = doc(json!({"a": null, "b": {"c": null}, "d": [null]}));
        drop_nulls(&mut document);
        assert_eq!(Value::Object(document), json!({"b": {}, "d": [null]}));
    }

    #[test]
    fn integers_come_in_two_spellings() {
        let document = doc(json!({"a": 5, "b": "7", "c": true}));
        assert_eq!(integer(&document, "a"), Some(5));
        assert_eq!(integer(&document, "b"), Some(7));
        assert_eq!(integer(&document, "c"), None);
    }
}
