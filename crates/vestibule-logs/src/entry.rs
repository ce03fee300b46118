//! What a client may write: `entries.write`.
//!
//! Entries of our own writers are right by construction. Those of a client are checked against the fields of
//! `LogEntry`, get the request's defaults, and leave in the form in which they are stored.

use crate::filter_schema::{self, Kind};
use crate::names::LogName;
use crate::severity::Severity;
use crate::store::InsertIds;
use crate::time::{parse_rfc3339, parse_seconds};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// The largest entry, in bytes of JSON (Cloud Logging's limit of 256 KiB).
pub const MAX_ENTRY_BYTES: usize = 256 * 1024;

/// Keys of labels are cut to this many bytes.
const MAX_LABEL_KEY_BYTES: usize = 512;

/// Values of labels are cut to this many bytes.
const MAX_LABEL_VALUE_BYTES: usize = 64 * 1024;

/// What entries of one request get when they do not say it themselves.
#[derive(Debug, Clone, Default)]
pub struct WriteDefaults {
    /// `logName` of the request.
    pub log_name: Option<String>,
    /// `resource` of the request.
    pub resource: Option<Value>,
    /// `labels` of the request: added where an entry has no label of that key.
    pub labels: Map<String, Value>,
}

/// Why an entry was refused, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEntry {
    /// The entry's place in the request.
    pub index: usize,
    /// The reason.
    pub why: String,
}

/// Checks and completes the entries of one request. Every entry gets `timestamp` and `insertId`; those that had none
/// sort in the order of the list. Refused entries are reported apart: whether the others are written then is for
/// `partialSuccess` to say.
pub fn prepare(
    entries: Vec<Value>,
    defaults: &WriteDefaults,
    now: Timestamp,
) -> (Vec<Value>, Vec<InvalidEntry>) {
    let mut ids = InsertIds::starting_at(now);
    let mut good = Vec::with_capacity(entries.len());
    let mut bad = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        match prepare_one(entry, defaults, now, &mut ids) {
            Ok(entry) => good.push(entry),
            Err(why) => bad.push(InvalidEntry { index, why }),
        }
    }
    (good, bad)
}

fn prepare_one(
    entry: Value,
    defaults: &WriteDefaults,
    now: Timestamp,
    ids: &mut InsertIds,
) -> Result<Value, String> {
    let Value::Object(mut entry) = entry else { return Err("a log entry must be an object".into()) };
    entry.retain(|_, value| !value.is_null());
    check_message(&mut entry, filter_schema::LOG_ENTRY, "")?;
    set_log_name(&mut entry, defaults)?;
    set_resource(&mut entry, defaults)?;
    set_labels(&mut entry, defaults);
    check_payload(&entry)?;
    entry.remove("receiveTimestamp");
    entry.remove("metadata");
    entry.entry("timestamp").or_insert_with(|| Value::String(now.to_string()));
    let id = entry.entry("insertId").or_insert_with(|| Value::String(String::new()));
    if id.as_str() == Some("") {
        *id = Value::String(ids.next());
    }
    let entry = Value::Object(entry);
    let size = entry.to_string().len();
    if size > MAX_ENTRY_BYTES {
        return Err(format!(
            "Log entry with size {size} bytes exceeds maximum size of {MAX_ENTRY_BYTES} bytes"
        ));
    }
    Ok(entry)
}

/// Checks members against the schema and brings numbers into their stored form.
fn check_message(
    map: &mut Map<String, Value>,
    fields: &'static [filter_schema::Field],
    path: &str,
) -> Result<(), String> {
    for (key, value) in map.iter_mut() {
        let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let field = fields.iter().find(|field| field.name == key);
        let field =
            field.ok_or_else(|| format!("Unknown name \"{key}\" at '{place}': Cannot find field."))?;
        check_value(field.kind, field.name, value, &place)?;
    }
    Ok(())
}

fn check_value(kind: Kind, name: &str, value: &mut Value, place: &str) -> Result<(), String> {
    let wrong = |value: &Value| Err(format!("Invalid value at '{place}': {value}"));
    match kind {
        Kind::Text if value.is_string() => Ok(()),
        Kind::Bool if value.is_boolean() => Ok(()),
        Kind::Time if value.as_str().and_then(parse_rfc3339).is_some() => Ok(()),
        Kind::Duration if value.as_str().and_then(parse_seconds).is_some() => Ok(()),
        Kind::Labels if is_text_map(value) => Ok(()),
        // A payload is a Struct: an object, whatever is in it.
        Kind::Any if value.is_object() => Ok(()),
        Kind::Int => match integer(value) {
            Some(number) => {
                *value = if is_int32(name) { number.into() } else { Value::String(number.to_string()) };
                Ok(())
            }
            None => wrong(value),
        },
        Kind::Severity => match severity(value) {
            Some(severity) => {
                *value = Value::String(severity.to_owned());
                Ok(())
            }
            None => wrong(value),
        },
        Kind::Message(fields) => match value {
            Value::Object(inner) => check_message(inner, fields, place),
            _ => wrong(value),
        },
        Kind::Messages(fields) => match value {
            Value::Array(items) => items.iter_mut().try_for_each(|item| match item {
                Value::Object(inner) => check_message(inner, fields, place),
                _ => wrong(item),
            }),
            _ => wrong(value),
        },
        _ => wrong(value),
    }
}

/// The integer fields that are 32 bits wide and travel as JSON numbers; all others travel as strings.
fn is_int32(name: &str) -> bool {
    matches!(name, "status" | "index" | "totalSplits")
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(digits) => digits.parse().ok(),
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15).map(|f| f as i64)),
        _ => None,
    }
}

fn severity(value: &Value) -> Option<&'static str> {
    let severity = match value {
        Value::String(name) => Severity::from_name(name)?,
        _ => Severity::from_number(u16::try_from(value.as_u64()?).ok()?),
    };
    severity.name()
}

fn is_text_map(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.values().all(Value::is_string))
}

fn set_log_name(entry: &mut Map<String, Value>, defaults: &WriteDefaults) -> Result<(), String> {
    let own = entry.get("logName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name =
        own.or(defaults.log_name.as_deref()).ok_or("Log entry is missing the log name: set 'logName'")?;
    let name = LogName::parse(name)?;
    entry.insert("logName".into(), Value::String(name.to_string()));
    Ok(())
}

fn set_resource(entry: &mut Map<String, Value>, defaults: &WriteDefaults) -> Result<(), String> {
    if !entry.contains_key("resource") {
        let mut resource =
            defaults.resource.clone().ok_or("Log entry is missing the resource: set 'resource'")?;
        match &mut resource {
            Value::Object(map) => check_resource(map)?,
            _ => return Err("Invalid value at 'resource'".into()),
        }
        entry.insert("resource".into(), resource);
    }
    let project = entry.get("logName").and_then(Value::as_str).and_then(project_of).map(str::to_owned);
    let Some(Value::Object(resource)) = entry.get_mut("resource") else { return Ok(()) };
    if resource.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err("Log entry is missing the type of its resource: set 'resource.type'".into());
    }
    let labels = resource.entry("labels").or_insert_with(|| Value::Object(Map::new()));
    if let (Some(project), Some(labels)) = (project, labels.as_object_mut()) {
        labels.entry("project_id").or_insert(Value::String(project));
    }
    Ok(())
}

fn check_resource(map: &mut Map<String, Value>) -> Result<(), String> {
    let resource =
        filter_schema::LOG_ENTRY.iter().find(|field| field.name == "resource").map(|field| field.kind);
    match resource {
        Some(Kind::Message(fields)) => check_message(map, fields, "resource"),
        _ => Ok(()),
    }
}

fn project_of(log_name: &str) -> Option<&str> {
    crate::names::container_of(log_name).strip_prefix("projects/")
}

fn set_labels(entry: &mut Map<String, Value>, defaults: &WriteDefaults) {
    let own = match entry.remove("labels") {
        Some(Value::Object(labels)) => labels,
        _ => Map::new(),
    };
    let mut labels = defaults.labels.clone();
    labels.extend(own);
    if labels.is_empty() {
        return;
    }
    let cut = labels.into_iter().map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        (truncated(&key, MAX_LABEL_KEY_BYTES), Value::String(truncated(value, MAX_LABEL_VALUE_BYTES)))
    });
    entry.insert("labels".into(), Value::Object(cut.collect()));
}

/// Cuts text to a number of bytes, ellipsis included, at a character's end.
fn truncated(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

fn check_payload(entry: &Map<String, Value>) -> Result<(), String> {
    let payloads = ["textPayload", "jsonPayload", "protoPayload"];
    let given: Vec<_> = payloads.iter().filter(|name| entry.contains_key(**name)).collect();
    match given.as_slice() {
        [] => Err("Log entry has no payload: set one of textPayload, jsonPayload and protoPayload".into()),
        [_] => Ok(()),
        [first, second, ..] => Err(format!(
            "Invalid value (oneof), oneof field 'payload' is already set by '{first}'. Cannot set '{second}'."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn one(entry: Value) -> Result<Value, String> {
        let (mut good, bad) = prepare(vec![entry], &WriteDefaults::default(), now());
        match bad.into_iter().next() {
            Some(invalid) => Err(invalid.why),
            None => Ok(good.remove(0)),
        }
    }

    fn minimal(extra: Value) -> Value {
        let mut entry =
            json!({"logName": "projects/p/logs/x", "resource": {"type": "global"}, "textPayload": "t"});
        entry.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        entry
    }

    #[test]
    fn an_entry_is_completed() {
        let entry =
            one(minimal(json!({"severity": 400, "httpRequest": {"status": "503", "requestSize": 44}})))
                .unwrap();
        assert_eq!(entry["timestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(entry["severity"], "WARNING");
        assert_eq!(entry["httpRequest"], json!({"status": 503, "requestSize": "44"}));
        assert_eq!(entry["resource"]["labels"]["project_id"], "p");
        assert!(!entry["insertId"].as_str().unwrap().is_empty());
    }

    #[test]
    fn defaults_fill_what_is_missing_only() {
        let defaults = WriteDefaults {
            log_name: Some("/projects/p/logs/a%2Fb".into()),
            resource: Some(json!({"type": "gce_instance", "labels": {"zone": "z"}})),
            labels: json!({"k": "default", "other": "x"}).as_object().unwrap().clone(),
        };
        let entries = vec![
            json!({"jsonPayload": {"n": 1}, "labels": {"k": "own"}}),
            json!({"textPayload": "t", "logName": "projects/q/logs/y", "resource": {"type": "global"}}),
        ];
        let (good, bad) = prepare(entries, &defaults, now());
        assert_eq!(bad, []);
        assert_eq!(good[0]["logName"], "projects/p/logs/a%2Fb");
        assert_eq!(good[0]["labels"], json!({"k": "own", "other": "x"}));
        assert_eq!(good[0]["resource"]["type"], "gce_instance");
        assert_eq!(good[1]["logName"], "projects/q/logs/y");
        assert!(good[0]["insertId"].as_str() < good[1]["insertId"].as_str(), "in the order of the list");
    }

    #[test]
    fn wrong_entries_are_refused_one_by_one() {
        for (entry, why) in [
            (json!([]), "must be an object"),
            (json!({"textPayload": "t", "resource": {"type": "global"}}), "missing the log name"),
            (json!({"textPayload": "t", "logName": "projects/p/logs/x"}), "missing the resource"),
            (minimal(json!({"logName": "nonsense"})), "Invalid log name"),
            (minimal(json!({"resource": {"labels": {}}})), "type of its resource"),
            (minimal(json!({"severity": "LOUD"})), "'severity'"),
            (minimal(json!({"severity": 450})), "'severity'"),
            (minimal(json!({"timestamp": "noon"})), "'timestamp'"),
            (minimal(json!({"labels": {"a": 1}})), "'labels'"),
            (minimal(json!({"jsonPayload": {}})), "oneof"),
            (minimal(json!({"thud": 1})), "Cannot find field"),
            (minimal(json!({"httpRequest": {"thud": 1}})), "'httpRequest.thud'"),
            (minimal(json!({"httpRequest": {"status": 1.5}})), "'httpRequest.status'"),
            (minimal(json!({"httpRequest": {"latency": "1m"}})), "'httpRequest.latency'"),
            (json!({"logName": "projects/p/logs/x", "resource": {"type": "global"}}), "no payload"),
            (minimal(json!({"textPayload": "x".repeat(MAX_ENTRY_BYTES)})), "exceeds maximum size"),
        ] {
            let error = one(entry.clone()).expect_err(&entry.to_string());
            assert!(error.contains(why), "{entry}: {error}");
        }
        let (good, bad) = prepare(vec![json!(1), minimal(json!({}))], &WriteDefaults::default(), now());
        assert_eq!((good.len(), bad[0].index), (1, 0));
    }

    #[test]
    fn labels_are_cut() {
        let entry = one(minimal(json!({"labels": {"k".repeat(600): "ü".repeat(40_000)}}))).unwrap();
        let labels = entry["labels"].as_object().unwrap();
        let (key, value) = labels.iter().next().unwrap();
        assert_eq!(key.len(), MAX_LABEL_KEY_BYTES);
        let value = value.as_str().unwrap();
        assert!(value.len() <= MAX_LABEL_VALUE_BYTES && value.ends_with("ü…"));
    }
}
