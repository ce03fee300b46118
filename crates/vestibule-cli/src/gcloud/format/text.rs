//! The small printers: csv, value, list, flattened text, json.

use serde_json::Value;

use super::expression::{Column, Format};
use super::python;
use super::transform::elements;

/// One cell of `value` and `csv`: lists and dictionaries joined.
pub fn joined(value: Option<&Value>, delimiter: &str) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(value @ (Value::Array(_) | Value::Object(_))) => elements(value).join(delimiter),
        Some(value) => python::text(value),
    }
}

/// `value(...)`: cells separated by tabs.
pub fn value(format: &Format, rows: &[Vec<Option<Value>>]) -> String {
    let separator = format.attributes.get("separator").map_or("\t", String::as_str);
    let delimiter = format.attributes.get("delimiter").map_or(";", String::as_str);
    let line = |row: &Vec<Option<Value>>| {
        row.iter().map(|cell| joined(cell.as_ref(), delimiter)).collect::<Vec<_>>().join(separator) + "\n"
    };
    rows.iter().map(line).collect()
}

/// `csv(...)`.
pub fn csv(format: &Format, columns: &[Column], rows: &[Vec<Option<Value>>]) -> String {
    let separator = format.attributes.get("separator").map_or(",", String::as_str);
    let delimiter = format.attributes.get("delimiter").map_or(";", String::as_str);
    let mut out = String::new();
    if !format.off("heading") {
        let heading = |c: &Column| c.label.clone().unwrap_or_else(|| c.heading().to_lowercase());
        out += &(columns.iter().map(heading).collect::<Vec<_>>().join(separator) + "\n");
    }
    let quoted = |cell: String| {
        let special = cell.contains(['"', '\n', '\r']) || cell.contains(separator);
        if special { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
    };
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| quoted(joined(cell.as_ref(), delimiter))).collect();
        out += &(cells.join(separator) + "\n");
    }
    out
}

/// `list`: ` - key: value`, or values alone under a projection.
pub fn list(format: &Format, rows: &[Vec<(String, Option<Value>)>], labelled: bool) -> String {
    let mut out = format.attributes.get("title").map_or(String::new(), |title| format!("{title}\n"));
    for row in rows {
        let shown = row.iter().filter_map(|(name, value)| value.as_ref().map(|v| (name, v)));
        for (index, (name, value)) in shown.enumerate() {
            let start = if index == 0 { " - " } else { "   " };
            match labelled {
                true => out += &format!("{start}{name}: {}\n", python::text(value)),
                false => out += &format!("{start}{}\n", python::text(value)),
            }
        }
    }
    out
}

/// `text` and `flattened`: `a.b[0]: value`, one line a leaf.
pub fn flattened(format: &Format, resources: &[Value]) -> String {
    let mut out = String::new();
    for resource in resources {
        let mut lines = Vec::new();
        leaves(resource, String::new(), &mut lines);
        let width = lines.iter().map(|(name, _)| name.chars().count() + 1).max().unwrap_or(0);
        if !format.on("no-separator") {
            out += "---\n";
        }
        for (name, value) in lines {
            out += &format!("{:width$} {value}\n", format!("{name}:"));
        }
    }
    out
}

fn leaves(value: &Value, name: String, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for key in keys {
                let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                leaves(&map[key], inner, into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(i, item)| leaves(item, format!("{name}[{i}]"), into));
        }
        Value::Null => {}
        Value::String(text) if text.contains('\n') => {
            into.push((name, Value::String(text.clone()).to_string()))
        }
        other => into.push((name, python::text(other))),
    }
}

/// `json`: two blanks a level, keys in order, characters as they are.
pub fn json(value: &Value, level: usize) -> String {
    let (inner, outer) = ("  ".repeat(level + 1), "  ".repeat(level));
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let entry = |key: &&String| {
                format!("{inner}{}: {}", Value::from(key.as_str()), json(&map[*key], level + 1))
            };
            format!("{{\n{}\n{outer}}}", keys.iter().map(entry).collect::<Vec<_>>().join(",\n"))
        }
        Value::Array(items) if !items.is_empty() => {
            let entries: Vec<String> =
                items.iter().map(|item| format!("{inner}{}", json(item, level + 1))).collect();
            format!("[\n{}\n{outer}]", entries.join(",\n"))
        }
        Value::Object(_) => "{}".into(),
        Value::Array(_) => "[]".into(),
        other => other.to_string(),
    }
}
