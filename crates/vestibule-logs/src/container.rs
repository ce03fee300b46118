//! Lines that a container printed, as log entries.
//!
//! Cloud Run makes one entry of every line of stdout and stderr. A line that is a JSON object becomes `jsonPayload`, and
//! members with agreed names are lifted out of it into the entry itself ("structured logging"); any other line becomes
//! `textPayload`.

use crate::json::{self, Object};
use crate::severity::Severity;
use crate::time::{TimeWriter, parse_rfc3339};
use serde_json::{Map, Value};
use std::time::SystemTime;

/// The longest text that an entry carries, in bytes; Cloud Logging refuses entries above 256 KiB. The rest of a longer
/// line is cut off and marked with an ellipsis.
pub const MAX_LINE_BYTES: usize = 250 * 1024;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Log `run.googleapis.com/stdout`.
    Stdout,
    /// Log `run.googleapis.com/stderr`.
    Stderr,
    /// What the platform itself has to say: log `run.googleapis.com/varlog/system`.
    System,
}

impl Stream {
    fn log_id(self) -> &'static str {
        match self {
            Stream::Stdout => "run.googleapis.com%2Fstdout",
            Stream::Stderr => "run.googleapis.com%2Fstderr",
            Stream::System => "run.googleapis.com%2Fvarlog%2Fsystem",
        }
    }
}

/// Which monitored resource a log is about.
struct ResourceOf<'a> {
    project: &'a str,
    kind: &'static str,
}

/// One stream of one container. Make it once an instance, use it for every line.
#[derive(Debug, Clone)]
pub struct ContainerLog {
    /// `logName` and `resource`, formatted.
    prepared: Vec<u8>,
    /// Labels of every entry.
    labels: Vec<(&'static str, String)>,
    times: TimeWriter,
}

impl ContainerLog {
    /// The log of an instance of `service`'s `revision`. `instance` goes into the label `instanceId`.
    pub fn new(
        project: &str,
        location: &str,
        service: &str,
        revision: &str,
        instance: &str,
        stream: Stream,
    ) -> ContainerLog {
        let resource = ResourceOf { project, kind: "cloud_run_revision" };
        let labels = [
            ("project_id", project),
            ("location", location),
            ("service_name", service),
            ("configuration_name", service),
            ("revision_name", revision),
        ];
        ContainerLog::of(resource, &labels, stream).with_label("instanceId", instance)
    }

    /// The log of a task of `job`. Which execution and task it is goes into labels: [`ContainerLog::with_label`].
    pub fn of_job(project: &str, location: &str, job: &str, stream: Stream) -> ContainerLog {
        let resource = ResourceOf { project, kind: "cloud_run_job" };
        let labels = [("project_id", project), ("location", location), ("job_name", job)];
        ContainerLog::of(resource, &labels, stream)
    }

    fn of(resource: ResourceOf<'_>, labels: &[(&str, &str)], stream: Stream) -> ContainerLog {
        let ResourceOf { project, kind } = resource;
        let prepared = json::members(|entry| {
            entry.str("logName", &format!("projects/{project}/logs/{}", stream.log_id()));
            entry.object("resource", |resource| {
                resource.str("type", kind);
                resource.object("labels", |out| {
                    for (name, value) in labels {
                        out.str(name, value);
                    }
                });
            });
        });
        ContainerLog { prepared, labels: Vec::new(), times: TimeWriter::new() }
    }

    /// The same with a label on every entry.
    pub fn with_label(mut self, name: &'static str, value: impl Into<String>) -> ContainerLog {
        self.labels.push((name, value.into()));
        self
    }

    /// Appends the entry of one line to `out`, without a newline. Returns `false` and appends nothing for a line that
    /// is empty but for white space.
    pub fn write(&mut self, out: &mut Vec<u8>, line: &[u8], now: SystemTime) -> bool {
        let line = line.trim_ascii();
        if line.is_empty() {
            return false;
        }
        match structured(line) {
            Some(map) => self.write_structured(out, map, now),
            None => self.write_text(out, line, now),
        }
        true
    }

    /// Appends an entry of the platform's own making: text with a severity.
    pub fn write_message(&mut self, out: &mut Vec<u8>, severity: Severity, text: &str, now: SystemTime) {
        let mut entry = self.begin(out, now);
        entry.str("severity", severity.name().unwrap_or("DEFAULT"));
        entry.str("textPayload", text);
        entry.end();
    }

    fn begin<'a>(&mut self, out: &'a mut Vec<u8>, now: SystemTime) -> Object<'a> {
        let mut entry = self.begin_untimed(out);
        let value = entry.value("timestamp");
        value.push(b'"');
        self.times.micros(value, now);
        value.push(b'"');
        if !self.labels.is_empty() {
            entry.object("labels", |labels| {
                for (name, value) in &self.labels {
                    labels.str(name, value);
                }
            });
        }
        entry
    }

    fn begin_untimed<'a>(&self, out: &'a mut Vec<u8>) -> Object<'a> {
        let mut entry = Object::begin(out);
        entry.members(&self.prepared);
        entry
    }

    fn write_text(&mut self, out: &mut Vec<u8>, line: &[u8], now: SystemTime) {
        let mut entry = self.begin(out, now);
        if line.len() <= MAX_LINE_BYTES {
            entry.lossy("textPayload", line);
        } else {
            let mut cut = String::from_utf8_lossy(&line[..MAX_LINE_BYTES]).into_owned();
            cut.push('…');
            entry.str("textPayload", &cut);
        }
        entry.end();
    }

    fn write_structured(&mut self, out: &mut Vec<u8>, mut map: Map<String, Value>, now: SystemTime) {
        let mut lifted = lift(&mut map);
        let labels = lifted.entry("labels").or_insert_with(|| Value::Object(Map::new()));
        if let Some(labels) = labels.as_object_mut() {
            for (name, value) in &self.labels {
                labels.insert((*name).to_owned(), Value::String(value.clone()));
            }
        }
        match only_message(&mut map) {
            Some(text) => lifted.insert("textPayload".into(), Value::String(text)),
            None => lifted.insert("jsonPayload".into(), Value::Object(map)),
        };
        let mut entry = self.begin_untimed(out);
        if !lifted.contains_key("timestamp") {
            let value = entry.value("timestamp");
            value.push(b'"');
            self.times.micros(value, now);
            value.push(b'"');
        }
        for (key, value) in &lifted {
            entry.value(key).extend_from_slice(value.to_string().as_bytes());
        }
        entry.end();
    }
}

/// The entry of one line as JSON text; `None` for an empty line. See [`ContainerLog::write`].
pub fn container_line(log: &mut ContainerLog, line: &[u8], now: SystemTime) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(line.len() + 400);
    log.write(&mut out, line, now).then_some(out)
}

/// The line as a JSON object, if it is one and not too long.
fn structured(line: &[u8]) -> Option<Map<String, Value>> {
    if line.first() != Some(&b'{') || line.len() > MAX_LINE_BYTES {
        return None;
    }
    match serde_json::from_slice(line) {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}

/// Takes the members with agreed names out of a payload, as members of the entry. What has the wrong type stays.
fn lift(map: &mut Map<String, Value>) -> Map<String, Value> {
    const PREFIX: &str = "logging.googleapis.com/";
    let mut entry = Map::new();
    let texts = [("trace", "trace"), ("spanId", "spanId"), ("insertId", "insertId")];
    let objects = [("operation", "operation"), ("sourceLocation", "sourceLocation")];
    for (from, to) in texts {
        take(map, &format!("{PREFIX}{from}"), Value::is_string, &mut entry, to);
    }
    for (from, to) in objects {
        take(map, &format!("{PREFIX}{from}"), Value::is_object, &mut entry, to);
    }
    take(map, &format!("{PREFIX}trace_sampled"), Value::is_boolean, &mut entry, "traceSampled");
    let all_text = |v: &Value| v.as_object().is_some_and(|labels| labels.values().all(Value::is_string));
    take(map, &format!("{PREFIX}labels"), all_text, &mut entry, "labels");
    take(map, "httpRequest", Value::is_object, &mut entry, "httpRequest");
    if let Some(severity) = map.get("severity").and_then(Value::as_str).and_then(Severity::from_name) {
        map.remove("severity");
        entry.insert("severity".into(), Value::String(severity.to_string()));
    }
    for key in ["time", "timestamp"] {
        if let Some(time) = map.get(key).and_then(time_of) {
            map.remove(key);
            entry.insert("timestamp".into(), Value::String(time));
        }
    }
    entry
}

fn take(
    map: &mut Map<String, Value>,
    from: &str,
    fits: impl Fn(&Value) -> bool,
    entry: &mut Map<String, Value>,
    to: &str,
) {
    if map.get(from).is_some_and(fits)
        && let Some(value) = map.remove(from)
    {
        entry.insert(to.to_owned(), value);
    }
}

/// A time as text, or as `{"seconds": …, "nanos": …}`.
fn time_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => parse_rfc3339(text).map(|time| time.to_string()),
        Value::Object(parts) => {
            let seconds = parts.get("seconds")?.as_i64()?;
            let nanos = parts.get("nanos").map_or(Some(0), Value::as_i64)?;
            let start = jiff::Timestamp::from_second(seconds).ok()?;
            let time = jiff::Timestamp::from_nanosecond(start.as_nanosecond() + i128::from(nanos)).ok()?;
            (0..1_000_000_000).contains(&nanos).then(|| time.to_string())
        }
        _ => None,
    }
}

/// The message, when nothing else is left of the payload.
fn only_message(map: &mut Map<String, Value>) -> Option<String> {
    if map.len() != 1 {
        return None;
    }
    match map.get_mut("message") {
        Some(Value::String(text)) => Some(std::mem::take(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, UNIX_EPOCH};

    fn entry(line: &str) -> Value {
        let mut log = ContainerLog::new("p", "us-central1", "s", "s-00001", "i-1", Stream::Stdout);
        let now = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        serde_json::from_slice(&container_line(&mut log, line.as_bytes(), now).unwrap()).unwrap()
    }

    #[test]
    fn a_plain_line_is_text() {
        let entry = entry("hello \"you\"\n");
        assert_eq!(entry["textPayload"], "hello \"you\"");
        assert_eq!(entry["logName"], "projects/p/logs/run.googleapis.com%2Fstdout");
        assert_eq!(entry["resource"]["labels"]["revision_name"], "s-00001");
        assert_eq!(entry["labels"], json!({"instanceId": "i-1"}));
        assert_eq!(entry["timestamp"], "2026-01-01T00:00:00.000000Z");
        assert!(entry.get("severity").is_none());
    }

    #[test]
    fn agreed_members_are_lifted() {
        let line = json!({
            "severity": "error", "message": "boom", "time": "2026-01-02T01:00:00+01:00", "user": 7,
            "httpRequest": {"status": 500},
            "logging.googleapis.com/trace": "projects/p/traces/1", "logging.googleapis.com/spanId": "2",
            "logging.googleapis.com/trace_sampled": true, "logging.googleapis.com/labels": {"a": "b"},
            "logging.googleapis.com/operation": {"id": "o"}, "logging.googleapis.com/insertId": "mine",
            "logging.googleapis.com/sourceLocation": {"file": "f.rs", "line": "1"},
        });
        let entry = entry(&line.to_string());
        assert_eq!(entry["jsonPayload"], json!({"message": "boom", "user": 7}));
        assert_eq!(entry["severity"], "ERROR");
        assert_eq!(entry["timestamp"], "2026-01-02T00:00:00Z");
        assert_eq!((&entry["trace"], &entry["spanId"]), (&json!("projects/p/traces/1"), &json!("2")));
        assert_eq!(entry["traceSampled"], true);
        assert_eq!(entry["labels"], json!({"a": "b", "instanceId": "i-1"}));
        assert_eq!(entry["operation"]["id"], "o");
        assert_eq!(entry["sourceLocation"]["file"], "f.rs");
        assert_eq!((&entry["insertId"], &entry["httpRequest"]["status"]), (&json!("mine"), &json!(500)));
    }

    #[test]
    fn a_message_alone_is_text() {
        let entry =
            entry(r#"{"severity":"INFO","message":"hi","timestamp":{"seconds":1767225600,"nanos":5}}"#);
        assert_eq!(entry["textPayload"], "hi");
        assert_eq!(entry["timestamp"], "2026-01-01T00:00:00.000000005Z");
        assert!(entry.get("jsonPayload").is_none());
    }

    #[test]
    fn what_has_the_wrong_type_stays_in_the_payload() {
        let entry =
            entry(r#"{"severity":"LOUD","message":1,"time":"noon","logging.googleapis.com/labels":{"a":1}}"#);
        assert_eq!(
            entry["jsonPayload"],
            json!({"severity": "LOUD", "message": 1, "time": "noon", "logging.googleapis.com/labels": {"a": 1}})
        );
    }

    #[test]
    fn odd_lines() {
        let mut log = ContainerLog::new("p", "l", "s", "r", "i", Stream::Stderr);
        assert_eq!(container_line(&mut log, b" \r\n", SystemTime::now()), None);
        assert_eq!(entry("{not json")["textPayload"], "{not json");
        assert_eq!(entry("[1]")["textPayload"], "[1]");
        let long = entry(&"x".repeat(MAX_LINE_BYTES + 10));
        assert!(long["textPayload"].as_str().unwrap().ends_with("x…"));
        let broken = container_line(&mut log, b"a\xffb", SystemTime::now()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&broken).unwrap()["textPayload"], "a\u{fffd}b");
    }

    #[test]
    fn the_platform_has_messages_of_its_own() {
        let mut log = ContainerLog::new("p", "l", "s", "r", "i", Stream::System);
        let mut out = Vec::new();
        log.write_message(&mut out, Severity::ERROR, "out of memory", SystemTime::now());
        let entry: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&entry["severity"], &entry["textPayload"]), (&json!("ERROR"), &json!("out of memory")));
        assert_eq!(entry["logName"], "projects/p/logs/run.googleapis.com%2Fvarlog%2Fsystem");
    }
}
