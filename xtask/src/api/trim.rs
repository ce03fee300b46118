//! Cuts a discovery document down to the methods we serve and the schemas these reach.
//!
//! The result keeps Google's own vocabulary (`$ref`, `items`, `additionalProperties`, …) but no prose; the only thing
//! read out of descriptions is whether a field is output only, which compute says nowhere else.

use super::selection::Selection;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

type Failure = Box<dyn std::error::Error>;

/// Members of a schema or parameter that validation and generation use.
const KEPT: &[&str] = &["type", "format", "$ref", "enum", "pattern", "minimum", "maximum", "default"];

pub fn trim(document: &Value, selection: &Selection) -> Result<Value, Failure> {
    let mut all = Vec::new();
    collect_methods(document, "", &mut all);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let (served, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| selection.serves(name));
    if served.is_empty() && !selection.methods.is_empty() {
        return Err(format!("{}: the selection matches no method", selection.document).into());
    }
    let methods: Vec<Value> = served.iter().map(|(_, method)| trim_method(method)).collect();
    let unserved: Vec<Value> = others.iter().map(|(_, method)| outline(method)).collect();
    let mut names = BTreeSet::new();
    for method in &methods {
        for part in ["request", "response"] {
            reach(&method[part], document, &mut names)?;
        }
    }
    for root in selection.types {
        reach(&json!({ "$ref": root }), document, &mut names)?;
    }
    let mut schemas: Map<String, Value> =
        names.iter().map(|name| (name.clone(), trim_schema(&document["schemas"][name]))).collect();
    for (schema, field, kind) in selection.extra {
        let properties = schemas.get_mut(*schema).and_then(|schema| schema["properties"].as_object_mut());
        let properties = properties.ok_or_else(|| format!("no schema {schema} to extend"))?;
        if properties.insert((*field).to_owned(), serde_json::from_str(kind)?).is_some() {
            return Err(format!("{schema}.{field} is in Google's document by now").into());
        }
    }
    Ok(json!({
        "name": document["name"],
        "version": document["version"],
        "revision": document["revision"],
        "rootUrl": document["rootUrl"],
        "servicePath": document["servicePath"],
        "methods": methods,
        "unserved": unserved,
        "schemas": schemas,
    }))
}

/// One line a method and one a schema: readable differences when Google's documents move.
pub fn to_text(trimmed: &Value) -> String {
    let mut out = String::from("{\n");
    for key in ["name", "version", "revision", "rootUrl", "servicePath"] {
        out.push_str(&format!("\"{key}\": {},\n", trimmed[key]));
    }
    for key in ["methods", "unserved"] {
        let lines: Vec<String> =
            trimmed[key].as_array().into_iter().flatten().map(Value::to_string).collect();
        out.push_str(&format!("\"{key}\": [\n{}\n],\n", lines.join(",\n")));
    }
    let lines: Vec<String> = trimmed["schemas"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, schema)| format!("\"{name}\": {schema}"))
        .collect();
    out.push_str(&format!("\"schemas\": {{\n{}\n}}\n}}\n", lines.join(",\n")));
    out
}

/// Every method with its name inside of the service, e.g. `urlMaps.get`.
fn collect_methods<'d>(node: &'d Value, prefix: &str, out: &mut Vec<(String, &'d Value)>) {
    for (name, method) in node["methods"].as_object().into_iter().flatten() {
        out.push((format!("{prefix}{name}"), method));
    }
    for (name, resource) in node["resources"].as_object().into_iter().flatten() {
        collect_methods(resource, &format!("{prefix}{name}."), out);
    }
}

/// What is kept of a method that is not served.
fn outline(method: &Value) -> Value {
    let path = method.get("flatPath").unwrap_or(&method["path"]);
    json!({ "id": method["id"], "httpMethod": method["httpMethod"], "flatPath": path })
}

fn trim_method(method: &Value) -> Value {
    let mut out = Map::new();
    for key in ["id", "httpMethod", "path", "flatPath"] {
        if let Some(value) = method.get(key) {
            out.insert(key.to_owned(), value.clone());
        }
    }
    for key in ["request", "response"] {
        if let Some(reference) = method[key].get("$ref") {
            out.insert(key.to_owned(), json!({ "$ref": reference }));
        }
    }
    let parameters: Map<String, Value> = method["parameters"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, parameter)| {
            let mut kept = keep(parameter);
            for key in ["location", "required", "repeated"] {
                if let Some(value) = parameter.get(key) {
                    kept.insert(key.to_owned(), value.clone());
                }
            }
            (name.clone(), Value::Object(kept))
        })
        .collect();
    out.insert("parameters".to_owned(), Value::Object(parameters));
    Value::Object(out)
}

fn trim_schema(schema: &Value) -> Value {
    let mut out = keep(schema);
    if let Some(properties) = schema["properties"].as_object() {
        let trimmed = properties.iter().map(|(name, property)| (name.clone(), trim_schema(property)));
        out.insert("properties".to_owned(), Value::Object(trimmed.collect()));
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            out.insert(key.to_owned(), trim_schema(&schema[key]));
        }
    }
    if is_output_only(schema) {
        out.insert("readOnly".to_owned(), Value::Bool(true));
    }
    Value::Object(out)
}

fn keep(schema: &Value) -> Map<String, Value> {
    KEPT.iter().filter_map(|key| Some(((*key).to_owned(), schema.get(*key)?.clone()))).collect()
}

fn is_output_only(schema: &Value) -> bool {
    let description = schema["description"].as_str().unwrap_or_default();
    let lower = description.trim_start().get(..13).unwrap_or_default().to_ascii_lowercase();
    schema["readOnly"] == true || lower.starts_with("output only") || lower.starts_with("[output only]")
}

fn reach(node: &Value, document: &Value, names: &mut BTreeSet<String>) -> Result<(), Failure> {
    match node {
        Value::Object(members) => {
            if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                let schema = document["schemas"].get(name).ok_or_else(|| format!("no schema {name}"))?;
                if names.insert(name.to_owned()) {
                    reach(schema, document, names)?;
                }
            }
            members.values().try_for_each(|member| reach(member, document, names))
        }
        Value::Array(items) => items.iter().try_for_each(|item| reach(item, document, names)),
        _ => Ok(()),
    }
}
