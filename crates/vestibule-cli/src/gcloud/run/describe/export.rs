//! Documents as files that `replace` takes.

use serde_json::{Map, Value};

use crate::gcloud::format::yaml_document;
use crate::gcloud::run::service::{CREATOR, LAST_MODIFIER, OPERATION};

/// `describe --format=export`: without what only the server may say.
pub fn export(value: &Value) -> String {
    let mut out = Map::new();
    for field in ["apiVersion", "kind"] {
        out.insert(field.into(), value.get(field).cloned().unwrap_or(Value::Null));
    }
    let kept = |pointer: &str, dropped: &[&str]| -> Map<String, Value> {
        let mut map = value.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
        map.retain(|name, _| !dropped.contains(&name.as_str()));
        map
    };
    let mut metadata = Map::new();
    let written_by_client = [
        "run.googleapis.com/client-name",
        "run.googleapis.com/client-version",
        OPERATION,
        CREATOR,
        LAST_MODIFIER,
    ];
    metadata.insert("annotations".into(), Value::Object(kept("/metadata/annotations", &written_by_client)));
    metadata.insert("labels".into(), Value::Object(kept("/metadata/labels", &[])));
    for field in ["name", "namespace"] {
        if let Some(found) = value.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.into(), found.clone());
        }
    }
    out.insert("metadata".into(), Value::Object(metadata));
    out.insert("spec".into(), Value::Object(kept("/spec", &[])));
    yaml_document(&Value::Object(out))
}
