//! Field masks: which parts of a resource a patch replaces.

use serde_json::{Map, Value};

use crate::{Document, Error};

/// What clients may write of the current resource, with the fields that `mask` names taken from `body`. `writable` are the
/// parts that they may write.
pub(crate) fn apply(
    current: Value,
    body: Document,
    mask: &str,
    writable: &[&str],
) -> Result<Document, Error> {
    let paths: Vec<&str> = mask.split(',').map(str::trim).filter(|path| !path.is_empty()).collect();
    if paths.contains(&"*") {
        return Ok(body);
    }
    let mut merged = match current {
        Value::Object(current) => current,
        _ => Map::new(),
    };
    merged.retain(|field, _| writable.contains(&field.as_str()));
    let body = Value::Object(body);
    for path in paths {
        let steps = steps(path);
        let first = steps.first().map(String::as_str).unwrap_or_default();
        if !writable.contains(&first) {
            return Err(Error::invalid("update_mask", path, "It names no field that can be updated."));
        }
        set(&mut merged, &body, &steps);
    }
    Ok(merged)
}

/// The steps of a path in camel case. Keys of labels and annotations are data and stay as they are, dots and all.
fn steps(path: &str) -> Vec<String> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let (step, tail) = rest.split_once('.').unwrap_or((rest, ""));
        steps.push(camel(step));
        let is_map = matches!(step, "labels" | "annotations");
        match tail {
            "" => return steps,
            tail if is_map => {
                steps.push(tail.to_owned());
                return steps;
            }
            tail => rest = tail,
        }
    }
}

fn camel(step: &str) -> String {
    let mut parts = step.split('_');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut chars = part.chars();
        out.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
}

/// Takes the value at a path from one document into another; one that is not there is removed.
fn set(target: &mut Document, source: &Value, steps: &[String]) {
    let Some((step, rest)) = steps.split_first() else { return };
    let value = source.get(step).unwrap_or(&Value::Null);
    if rest.is_empty() {
        match value {
            Value::Null => target.remove(step),
            value => target.insert(step.clone(), value.clone()),
        };
        return;
    }
    let inner = target.entry(step.as_str()).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = inner {
        set(inner, value, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied(mask: &str) -> Result<Value, Error> {
        let current = json!({"name": "n", "labels": {"a.b": "1", "c": "2"}, "description": "old",
            "template": {"scaling": {"minInstanceCount": 1, "maxInstanceCount": 2}, "timeout": "1s"}});
        let body = json!({"labels": {"a.b": "9"}, "template": {"scaling": {"maxInstanceCount": 5}}});
        let Value::Object(body) = body else { panic!() };
        apply(current, body, mask, &["labels", "description", "template"]).map(Value::Object)
    }

    #[test]
    fn only_what_is_named_changes() {
        let merged = applied("template.scaling.max_instance_count, labels.a.b,description").unwrap();
        assert_eq!(
            merged,
            json!({"labels": {"a.b": "9", "c": "2"},
                "template": {"scaling": {"minInstanceCount": 1, "maxInstanceCount": 5}, "timeout": "1s"}})
        );
        let scaling = applied("template.scaling").unwrap();
        assert_eq!(scaling["template"], json!({"scaling": {"maxInstanceCount": 5}, "timeout": "1s"}));
        assert_eq!(applied("*").unwrap()["template"], json!({"scaling": {"maxInstanceCount": 5}}));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        for path in ["uid", "generation", "colour", "templates.timeout"] {
            assert!(applied(path).is_err(), "{path}");
        }
    }
}
