//! Transforms: `key.basename()`, `key.date("%Y")`.
//!
//! A transform never fails: what it cannot make sense of becomes its `undefined` text, as a list must not break on one
//! odd row.

use std::collections::BTreeMap;

use base64::Engine as _;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};
use serde_json::Value;

use super::key::{Step, lookup};
use super::python::{repr, text, truthy};

/// One call, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    pub name: String,
    pub positional: Vec<String>,
    pub named: BTreeMap<String, String>,
}

const NAMES: &[&str] = &[
    "always",
    "basename",
    "color",
    "count",
    "date",
    "decode",
    "duration",
    "encode",
    "extract",
    "filter",
    "firstof",
    "flatten",
    "format",
    "if",
    "iso",
    "join",
    "len",
    "list",
    "lower",
    "map",
    "notnull",
    "regex",
    "scope",
    "segment",
    "size",
    "slice",
    "sort",
    "split",
    "sub",
    "synthesize",
    "type_suffix",
    "upper",
    "uri",
    "yesno",
];

pub fn is_transform(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Runs a chain on what a key found. `resource` is the whole resource, for transforms that look elsewhere in it.
pub fn apply(chain: &[Transform], found: Option<Value>, resource: &Value) -> Option<Value> {
    let mut value = found;
    let mut mapped = false;
    for transform in chain {
        if transform.name == "map" {
            mapped = true;
            continue;
        }
        value = match (mapped, value) {
            (true, Some(Value::Array(items))) => Some(
                items
                    .into_iter()
                    .map(|item| transform.run(Some(item), resource).unwrap_or(Value::Null))
                    .collect(),
            ),
            (_, value) => transform.run(value, resource),
        };
        mapped = false;
    }
    value
}

impl Transform {
    fn arg(&self, position: usize, name: &str) -> Option<&str> {
        let named = self.named.get(name).or_else(|| self.positional.get(position));
        named.map(String::as_str)
    }

    fn undefined(&self) -> Option<Value> {
        self.named.get("undefined").map(|text| Value::String(text.clone()))
    }

    fn run(&self, value: Option<Value>, resource: &Value) -> Option<Value> {
        match (self.name.as_str(), value) {
            ("always" | "color" | "synthesize" | "if", value) => value,
            ("yesno", value) => Some(self.yesno(value)),
            ("len", value) => Some(Value::from(length(value.as_ref()))),
            ("firstof", value) => self.firstof(value, resource),
            ("format", None | Some(Value::Null)) => self.undefined(),
            ("format", value) => Some(self.format(value, resource)),
            ("uri", value) => lookup(resource, &[Step::Name("selfLink".into())]).or(value),
            (_, None | Some(Value::Null)) => self.undefined(),
            (name, Some(value)) => self.known(name, value),
        }
    }

    fn known(&self, name: &str, value: Value) -> Option<Value> {
        let string = |text: String| Some(Value::String(text));
        match name {
            "basename" => Some(basename(value)),
            "type_suffix" => string(type_suffix(&text(&value))),
            "scope" => string(self.scope(&text(&value))),
            "segment" => self.segment(&text(&value)),
            "upper" => string(text(&value).to_uppercase()),
            "lower" => string(text(&value).to_lowercase()),
            "list" => string(self.list(&value)),
            "join" => string(elements(&value).join(self.arg(0, "sep").unwrap_or("/"))),
            "split" if value.is_string() => Some(self.split(&value)),
            "split" => None,
            "sort" => Some(sorted(value)),
            "slice" => Some(self.slice(value)),
            "flatten" => string(self.flatten(&value)),
            "extract" => Some(self.extract(&value)),
            "filter" => Some(value),
            "count" => Some(count(&value)),
            "sub" => self.sub(&text(&value)),
            "regex" => self.regex(&value),
            "size" => self.size(&value),
            "encode" => self.encode(&text(&value)),
            "decode" => self.decode(&text(&value)),
            "date" => self.date(&text(&value)),
            "iso" => string(moment(&text(&value))?.strftime("%Y-%m-%dT%H:%M:%S.%3f%:z").to_string()),
            "duration" => self.duration(&text(&value)),
            "notnull" => match value {
                Value::Array(items) => Some(items.into_iter().filter(|item| !item.is_null()).collect()),
                other => Some(other),
            },
            _ => Some(value),
        }
    }

    fn yesno(&self, value: Option<Value>) -> Value {
        let value = value.unwrap_or(Value::Null);
        match (truthy(&value), self.arg(0, "yes"), self.arg(1, "no")) {
            (true, Some(yes), _) => Value::String(yes.to_owned()),
            (true, None, _) => value,
            (false, _, no) => Value::String(no.unwrap_or("No").to_owned()),
        }
    }

    fn firstof(&self, value: Option<Value>, resource: &Value) -> Option<Value> {
        let base = value.as_ref().unwrap_or(resource);
        self.positional.iter().find_map(|name| {
            let key: Vec<Step> = name.split('.').map(|part| Step::Name(part.to_owned())).collect();
            lookup(base, &key).filter(|found| !found.is_null())
        })
    }

    /// `format("{0}-{1}", a, b)`: keys of the value under the key, or of the resource where there is none.
    fn format(&self, value: Option<Value>, resource: &Value) -> Value {
        let Some((pattern, keys)) = self.positional.split_first() else { return Value::Null };
        let base = value.as_ref().unwrap_or(resource);
        let found: Vec<String> = if keys.is_empty() {
            vec![text(base)]
        } else {
            let steps =
                |name: &String| name.split('.').map(|part| Step::Name(part.to_owned())).collect::<Vec<_>>();
            keys.iter().map(|name| text(&lookup(base, &steps(name)).unwrap_or(Value::Null))).collect()
        };
        let mut out = pattern.clone();
        for (index, value) in found.iter().enumerate() {
            out = out.replace(&format!("{{{index}}}"), value).replacen("{}", value, 1);
        }
        Value::String(out)
    }

    /// What stands behind the last `/SCOPE/`; the last segment where none is found.
    fn scope(&self, value: &str) -> String {
        let defaults = ["regions".to_owned(), "zones".to_owned()];
        let scopes: &[String] = if self.positional.is_empty() { &defaults } else { &self.positional };
        for scope in scopes {
            if let Some((_, after)) = value.rsplit_once(&format!("/{scope}/")) {
                return after.to_owned();
            }
        }
        last_segment(value).to_owned()
    }

    fn segment(&self, value: &str) -> Option<Value> {
        let parts: Vec<&str> = value.split('/').collect();
        let index: i64 = self.arg(0, "index").and_then(|i| i.parse().ok()).unwrap_or(-1);
        let position = if index < 0 { parts.len() as i64 + index } else { index };
        let part = usize::try_from(position).ok().and_then(|p| parts.get(p));
        part.map(|part| Value::String((*part).to_owned())).or_else(|| self.undefined())
    }

    fn list(&self, value: &Value) -> String {
        let separator = self.named.get("separator").map_or(",", String::as_str);
        match (value, self.named.get("show").map(String::as_str)) {
            (Value::Object(map), Some("keys")) => map.keys().cloned().collect::<Vec<_>>().join(separator),
            (Value::Object(map), Some("values")) => {
                map.values().map(text).collect::<Vec<_>>().join(separator)
            }
            _ => elements(value).join(separator),
        }
    }

    fn split(&self, value: &Value) -> Value {
        let separator = self.arg(0, "sep").unwrap_or("/");
        text(value).split(separator).map(|part| Value::String(part.to_owned())).collect()
    }

    fn slice(&self, value: Value) -> Value {
        let Value::Array(items) = value else { return value };
        let bounds = self.arg(0, "op").unwrap_or(":");
        let (start, end) = bounds.split_once(':').unwrap_or((bounds, ""));
        let position = |text: &str, default: usize| match text.trim().parse::<i64>() {
            Ok(n) if n < 0 => usize::try_from(items.len() as i64 + n).unwrap_or(0),
            Ok(n) => usize::try_from(n).unwrap_or(0).min(items.len()),
            Err(_) => default,
        };
        let (start, end) = (position(start, 0), position(end, items.len()));
        items.get(start..end.max(start)).unwrap_or_default().to_vec().into()
    }

    fn flatten(&self, value: &Value) -> String {
        let separator = self.named.get("separator").map_or(",", String::as_str);
        match value {
            Value::Array(items) => {
                items.iter().map(|item| elements(item).join(separator)).collect::<Vec<_>>().join(separator)
            }
            other => self.list(other),
        }
    }

    fn extract(&self, value: &Value) -> Value {
        let one = |item: &Value| -> Vec<Value> {
            let steps = |name: &String| name.split('.').map(|p| Step::Name(p.to_owned())).collect::<Vec<_>>();
            self.positional.iter().filter_map(|name| lookup(item, &steps(name))).collect()
        };
        Value::Array(one(value))
    }

    fn sub(&self, value: &str) -> Option<Value> {
        let pattern = regex::Regex::new(self.arg(0, "pattern")?).ok()?;
        // Python writes \1 where Rust writes ${1}.
        let replacement = self.arg(1, "replacement").unwrap_or("");
        let mut rust = String::new();
        let mut chars = replacement.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('\\', Some(d)) if d.is_ascii_digit() => {
                    rust.push_str(&format!("${{{d}}}"));
                    chars.next();
                }
                ('$', _) => rust.push_str("$$"),
                _ => rust.push(c),
            }
        }
        Some(Value::String(pattern.replace_all(value, rust.as_str()).into_owned()))
    }

    fn regex(&self, value: &Value) -> Option<Value> {
        let pattern = regex::Regex::new(self.arg(0, "expression")?).ok()?;
        if pattern.is_match(&text(value)) {
            return self
                .arg(1, "does_match")
                .map(|m| Value::String(m.to_owned()))
                .or_else(|| Some(value.clone()));
        }
        self.arg(2, "nomatch").map(|text| Value::String(text.to_owned()))
    }

    fn size(&self, value: &Value) -> Option<Value> {
        let bytes: f64 = text(value).parse().ok()?;
        let mut amount = bytes;
        let mut unit = "bytes";
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            if amount < 1024.0 {
                break;
            }
            amount /= 1024.0;
            unit = larger;
        }
        Some(Value::String(if unit == "bytes" {
            format!("{bytes} bytes")
        } else {
            format!("{amount:.1} {unit}")
        }))
    }

    fn encode(&self, value: &str) -> Option<Value> {
        match self.arg(0, "encoding")? {
            "base64" => Some(Value::String(base64::engine::general_purpose::STANDARD.encode(value))),
            _ => self.undefined(),
        }
    }

    fn decode(&self, value: &str) -> Option<Value> {
        let bytes = match self.arg(0, "encoding")? {
            "base64" => base64::engine::general_purpose::STANDARD.decode(value).ok()?,
            _ => return self.undefined(),
        };
        String::from_utf8(bytes).ok().map(Value::String)
    }

    fn date(&self, value: &str) -> Option<Value> {
        let time = match moment(value) {
            Some(time) => time,
            None => return self.undefined(),
        };
        let zone = match self.named.get("tz").map(String::as_str) {
            None => None,
            Some("LOCAL") => Some(TimeZone::system()),
            Some(name) => TimeZone::get(name).ok(),
        };
        let time = zone.map_or(time.clone(), |zone| time.with_time_zone(zone));
        let format = self.arg(0, "format").filter(|f| !f.is_empty()).unwrap_or("%Y-%m-%dT%H:%M:%S");
        Some(Value::String(time.strftime(format).to_string()))
    }

    /// How long ago a time was.
    fn duration(&self, value: &str) -> Option<Value> {
        let then = moment(value)?;
        let ago = Timestamp::now().since(then.timestamp()).ok()?;
        let ago =
            ago.round(jiff::SpanRound::new().largest(jiff::Unit::Hour).smallest(jiff::Unit::Second)).ok()?;
        Some(Value::String(ago.to_string()))
    }
}

/// A time as Google's APIs write it, in the zone it is written in.
pub fn moment(value: &str) -> Option<ZonedDateTime> {
    if let Ok(offset) = jiff::fmt::temporal::DateTimeParser::new().parse_timestamp(value) {
        let zone =
            jiff::fmt::temporal::Pieces::parse(value).ok().and_then(|pieces| pieces.to_numeric_offset());
        let zone = zone.map_or(TimeZone::UTC, TimeZone::fixed);
        return Some(offset.to_zoned_datetime(zone));
    }
    let date: jiff::civil::DateTime = value.parse().ok()?;
    date.to_zoned_datetime(TimeZone::UTC).ok()
}

/// A time in a filter: a time as above, or a duration such as `-P1D` from now.
pub fn moment_or_duration(value: &str) -> Option<Timestamp> {
    if let Some(time) = moment(value) {
        return Some(time.timestamp());
    }
    if !value.trim_start_matches(['-', '+']).starts_with('P') {
        return None;
    }
    let span: Span = value.parse().ok()?;
    Some(ZonedDateTime::now().checked_add(span).ok()?.timestamp())
}

fn length(value: Option<&Value>) -> usize {
    match value {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        Some(Value::String(text)) => text.chars().count(),
        _ => 0,
    }
}

fn last_segment(value: &str) -> &str {
    value.rsplit('/').next().unwrap_or(value)
}

fn basename(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(basename).collect(),
        Value::String(text) => Value::String(last_segment(&text).to_owned()),
        other => other,
    }
}

/// `backendServices/web`: the last two segments.
fn type_suffix(value: &str) -> String {
    let mut parts = value.rsplitn(3, '/');
    match (parts.next(), parts.next()) {
        (Some(name), Some(kind)) => format!("{kind}/{name}"),
        _ => value.to_owned(),
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(mut items) => {
            items.sort_by_key(text);
            Value::Array(items)
        }
        other => other,
    }
}

fn count(value: &Value) -> Value {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for item in elements(value) {
        *counts.entry(item).or_default() += 1;
    }
    counts.into_iter().map(|(k, v)| (k, Value::from(v))).collect()
}

/// The parts of a value as text: elements of a list, `k=v` of a dictionary, the value itself.
pub fn elements(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| format!("{k}={}", text(v))).collect(),
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        other => vec![repr(other)],
    }
}
