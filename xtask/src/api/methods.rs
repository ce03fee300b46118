//! The method table: one constant a method.

use super::naming::{identifier, pascal};
use super::schemas::kind;
use super::selection::Selection;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

type Failure = Box<dyn std::error::Error>;

pub fn generate(selection: &Selection, document: &Value) -> Result<String, Failure> {
    let service_path = document["servicePath"].as_str().unwrap_or_default();
    let mut table = String::new();
    for method in document["methods"].as_array().ok_or("no methods")? {
        table.push_str(&entry(selection, service_path, method)?);
    }
    Ok(format!(
        "#[allow(unused_imports)]\nuse super::{}_schemas as s;\nuse super::Service;\nuse crate::route::Method;\n\
         #[allow(unused_imports)]\nuse crate::route::{{Joined, Query}};\n#[allow(unused_imports)]\n\
         use crate::schema::Type as T;\n\npub static METHODS: &[Method] = &[\n{table}];\n",
        selection.module
    ))
}

fn entry(selection: &Selection, service_path: &str, method: &Value) -> Result<String, Failure> {
    let text = |key: &str| method[key].as_str().unwrap_or_default();
    let path = format!("/{service_path}{}", text("path"));
    let flat = template(service_path, method);
    let parameters = method["parameters"].as_object().ok_or("no parameters")?;
    let schema = |key: &str| match method[key]["$ref"].as_str() {
        Some(name) => format!("Some(&s::{})", identifier(name)),
        None => "None".to_owned(),
    };
    Ok(format!(
        "    Method {{\n        service: Service::{}, id: {:?}, verb: {:?},\n        template: {flat:?},\n        \
         joined: &[{}],\n        query: &[{}],\n        request: {}, response: {},\n    }},\n",
        pascal(selection.module),
        text("id"),
        text("httpMethod"),
        joined(&path, &flat, parameters)?,
        query(parameters)?,
        schema("request"),
        schema("response"),
    ))
}

/// The whole path with one parameter a segment.
fn template(service_path: &str, method: &Value) -> String {
    let path = method["flatPath"].as_str().or(method["path"].as_str()).unwrap_or_default();
    format!("/{service_path}{path}")
}

/// The table of methods that are only known by name: verb, template and id. Paths that something serves, and those that
/// an earlier document has, are left out.
pub fn unserved<'d>(documents: impl Iterator<Item = &'d Value>) -> Result<String, Failure> {
    let mut taken = BTreeSet::new();
    let mut others = Vec::new();
    for document in documents {
        let service_path = document["servicePath"].as_str().unwrap_or_default();
        let entry = |method: &Value| {
            let verb = method["httpMethod"].as_str().unwrap_or_default().to_owned();
            (verb, template(service_path, method), method["id"].to_string())
        };
        let list = |key: &str| document[key].as_array().ok_or_else(|| format!("no {key}"));
        taken.extend(list("methods")?.iter().map(entry).map(|(verb, path, _)| (verb, shape(&path))));
        others.extend(list("unserved")?.iter().map(entry));
    }
    let mut table = String::new();
    for (verb, template, id) in others {
        if taken.insert((verb.clone(), shape(&template))) {
            table.push_str(&format!("    ({verb:?}, {template:?}, {id}),\n"));
        }
    }
    Ok(format!("\n/// Verb, template and id.\npub static UNSERVED: &[(&str, &str, &str)] = &[\n{table}];\n"))
}

/// A template without the names of its parameters: what decides whether two collide.
fn shape(template: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in template.chars() {
        inside = inside && c != '}';
        if !inside {
            out.push(c);
        }
        inside = inside || c == '{';
    }
    out
}

/// The `{+name}` parameters: which segments of the flat template make each of them up.
fn joined(path: &str, flat: &str, parameters: &Map<String, Value>) -> Result<String, Failure> {
    let mut out = Vec::new();
    let mut skip = 0; // segments that earlier joined parameters have more in `flat` than in `path`
    for (index, segment) in path.split('/').enumerate() {
        let Some((name, _)) = segment.strip_prefix("{+").and_then(|rest| rest.split_once('}')) else {
            continue;
        };
        let pattern = parameters[name]["pattern"].as_str().unwrap_or_default();
        let length = pattern.replace("[^/]", "x").matches('/').count() + 1;
        let from = index + skip;
        let to = from + length;
        if to > flat.split('/').count() {
            return Err(format!("{path}: {name} does not fit {flat}").into());
        }
        skip += length - 1;
        out.push(format!("Joined {{ name: {name:?}, from: {from}, to: {to} }}"));
    }
    Ok(out.join(", "))
}

fn query(parameters: &Map<String, Value>) -> Result<String, Failure> {
    let mut out = Vec::new();
    for (name, parameter) in parameters {
        if parameter["location"] != "query" {
            continue;
        }
        let mut bare = parameter.clone();
        if let Some(bare) = bare.as_object_mut() {
            bare.remove("repeated");
        }
        let number = |key: &str| match parameter[key].as_str() {
            Some(value) => format!("Some({value})"),
            None => "None".to_owned(),
        };
        out.push(format!(
            "\n            Query {{ name: {name:?}, kind: {}, repeated: {}, required: {}, minimum: {}, maximum: {} }}",
            kind(&bare)?,
            parameter["repeated"] == true,
            parameter["required"] == true,
            number("minimum"),
            number("maximum"),
        ));
    }
    Ok(out.join(","))
}
