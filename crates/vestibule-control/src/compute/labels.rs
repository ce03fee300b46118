//! Labels of compute resources.

use serde_json::Value;

use crate::{Document, Error, document};

/// Most labels of a resource (Google's documented limit).
const MOST: usize = 64;

/// Longest key and longest value, in characters (Google's documented limit).
const LONGEST: usize = 63;

/// Checks the labels of a document or of a `setLabels` body. `path` names the field in errors.
pub fn check(doc: &Document, path: &str) -> Result<(), Error> {
    let Some(Value::Object(labels)) = doc.get("labels") else { return Ok(()) };
    if labels.len() > MOST {
        return Err(Error::invalid(path, labels.len(), format!("There may be at most {MOST} labels.")));
    }
    for (key, value) in labels {
        let starts_well = key.chars().next().is_some_and(|c| c.is_alphabetic() && !c.is_uppercase());
        if !starts_well || !is_label(key) {
            let why = "A label's key must start with a lower-case letter and hold at most 63 lower-case letters, \
                       digits, '_' and '-'.";
            return Err(Error::invalid(path, key, why));
        }
        if !value.as_str().is_some_and(is_label) {
            let why = "A label's value must hold at most 63 lower-case letters, digits, '_' and '-'.";
            return Err(Error::invalid(path, document::quoted(value), why));
        }
    }
    Ok(())
}

/// Letters of every script are fine, as long as they are not upper-case ones.
fn is_label(text: &str) -> bool {
    let fits = |c: char| c == '_' || c == '-' || c.is_alphanumeric() && !c.is_uppercase();
    text.chars().count() <= LONGEST && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_a_label() {
        let check = |labels: Value| check(document::object(&json!({ "labels": labels })), "resource.labels");
        for good in
            [json!({}), json!({"goog-terraform-provisioned": "true"}), json!({"a_1": ""}), json!({"ä": "ß"})]
        {
            assert_eq!(check(good.clone()), Ok(()), "{good}");
        }
        let many: Document = (0..65).map(|at| (format!("k{at}"), Value::from("v"))).collect();
        for bad in [
            json!({"A": "v"}),
            json!({"1": "v"}),
            json!({"": "v"}),
            json!({"k": "V"}),
            json!({"k": "a b"}),
            json!({"k": "v".repeat(64)}),
            json!({"k": 1}),
            Value::Object(many),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}
