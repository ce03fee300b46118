//! Request log entries of Cloud Run, in the shape in which Cloud Logging holds them.
//!
//! What is the same for all entries of a revision is formatted once, when the revision appears, and copied afterwards:
//! a request's entry is written on the thread that serves the request.

use std::time::{Duration, SystemTime};

use vestibule_logs::json::{Object, members};
use vestibule_logs::time::{TimeWriter, write_duration};

use crate::desired::ServiceKey;

/// Log of requests, URL-encoded as in a log name.
const REQUESTS: &str = "run.googleapis.com%2Frequests";

/// What the log entries of one revision have in common.
#[derive(Debug)]
pub struct EntryHead {
    project: String,
    /// `logName` and `resource`, formatted.
    requests: Vec<u8>,
}

/// A request to write down. Sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// When the request was received.
    pub time: SystemTime,
    pub method: &'a str,
    /// Whole URL, with scheme and host.
    pub url: &'a [u8],
    pub request_size: u64,
    pub status: u16,
    pub response_size: u64,
    pub user_agent: Option<&'a [u8]>,
    pub referer: Option<&'a [u8]>,
    pub remote_ip: &'a str,
    /// Address that served it, if there is one.
    pub server_ip: Option<&'a str>,
    pub latency: Duration,
    /// `HTTP/1.1`, `HTTP/2`.
    pub protocol: &'a str,
    /// [`Lease::instance_id`](crate::front::Lease::instance_id); `None` if no instance saw the request.
    pub instance_id: Option<&'a str>,
    /// Id of the trace, 32 hexadecimal digits.
    pub trace: Option<&'a str>,
    /// [`Refusal::log`](crate::front::Refusal::log), or what else went wrong.
    pub text: Option<&'a str>,
}

impl EntryHead {
    /// For a revision of a service. `revision` is empty for requests that were refused before one was picked.
    pub fn new(service: &ServiceKey, revision: &str) -> Self {
        let labels = [
            ("configuration_name", &*service.name),
            ("location", &*service.region),
            ("project_id", &*service.project),
            ("revision_name", revision),
            ("service_name", &*service.name),
        ];
        let requests = members(|entry| {
            entry.str("logName", &format!("projects/{}/logs/{REQUESTS}", service.project));
            entry.object("resource", |resource| {
                resource.str("type", "cloud_run_revision");
                resource
                    .object("labels", |into| labels.iter().for_each(|(name, value)| into.str(name, value)));
            });
        });
        Self { project: service.project.to_string(), requests }
    }

    /// Appends the entry of a request to the log `run.googleapis.com/requests`, one JSON object.
    pub fn write_request(&self, out: &mut Vec<u8>, clock: &mut TimeWriter, line: &RequestLine<'_>) {
        let mut entry = Object::begin(out);
        entry.members(&self.requests);
        write_time(&mut entry, clock, line.time);
        entry.str("severity", request_severity(line.status));
        if let Some(text) = line.text {
            entry.str("textPayload", text);
        }
        entry.object("httpRequest", |request| write_http(request, line));
        if let Some(instance) = line.instance_id {
            entry.object("labels", |labels| labels.str("instanceId", instance));
        }
        if let Some(trace) = line.trace {
            entry.str("trace", &format!("projects/{}/traces/{trace}", self.project));
        }
        entry.end();
    }
}

/// INFO for success, WARNING for what the client did wrong, ERROR for what the service did.
fn request_severity(status: u16) -> &'static str {
    match status {
        ..400 => "INFO",
        400..500 => "WARNING",
        500.. => "ERROR",
    }
}

fn write_time(entry: &mut Object<'_>, clock: &mut TimeWriter, time: SystemTime) {
    let out = entry.value("timestamp");
    out.push(b'"');
    clock.micros(out, time);
    out.push(b'"');
}

fn write_http(request: &mut Object<'_>, line: &RequestLine<'_>) {
    request.str("requestMethod", line.method);
    request.lossy("requestUrl", line.url);
    request.int64("requestSize", line.request_size);
    request.number("status", line.status.into());
    request.int64("responseSize", line.response_size);
    if let Some(agent) = line.user_agent {
        request.lossy("userAgent", agent);
    }
    if let Some(referer) = line.referer {
        request.lossy("referer", referer);
    }
    request.str("remoteIp", line.remote_ip);
    if let Some(server) = line.server_ip {
        request.str("serverIp", server);
    }
    let out = request.value("latency");
    out.push(b'"');
    write_duration(out, line.latency);
    out.push(b'"');
    request.str("protocol", line.protocol);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn head() -> EntryHead {
        let key = ServiceKey { project: "demo".into(), region: "us-central1".into(), name: "svc".into() };
        EntryHead::new(&key, "svc-00001-abc")
    }

    fn resource() -> Value {
        json!({"type": "cloud_run_revision", "labels": {
            "service_name": "svc", "location": "us-central1", "revision_name": "svc-00001-abc",
            "configuration_name": "svc", "project_id": "demo",
        }})
    }

    #[test]
    fn a_request() {
        let line = RequestLine {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000),
            method: "GET",
            url: b"http://10.0.0.100/a?b=\"c\"",
            request_size: 44,
            status: 503,
            response_size: 512,
            user_agent: Some(b"curl/8"),
            referer: None,
            remote_ip: "10.0.0.5",
            server_ip: None,
            latency: Duration::from_micros(7_911),
            protocol: "HTTP/1.1",
            instance_id: Some("abc"),
            trace: Some("0123456789abcdef0123456789abcdef"),
            text: Some("no"),
        };
        let mut out = Vec::new();
        head().write_request(&mut out, &mut TimeWriter::new(), &line);
        let entry: Value = serde_json::from_slice(&out).unwrap();
        let expected = json!({
            "logName": "projects/demo/logs/run.googleapis.com%2Frequests",
            "resource": resource(),
            "timestamp": "1970-01-01T00:00:01.500000Z",
            "severity": "ERROR",
            "textPayload": "no",
            "httpRequest": {
                "requestMethod": "GET", "requestUrl": "http://10.0.0.100/a?b=\"c\"", "requestSize": "44",
                "status": 503, "responseSize": "512", "userAgent": "curl/8", "remoteIp": "10.0.0.5",
                "latency": "0.007911s", "protocol": "HTTP/1.1",
            },
            "labels": {"instanceId": "abc"},
            "trace": "projects/demo/traces/0123456789abcdef0123456789abcdef",
        });
        assert_eq!(entry, expected);
    }

    #[test]
    fn severity_follows_the_status() {
        let severities = [0, 200, 302, 400, 404, 429, 500, 504].map(request_severity);
        assert_eq!(severities, ["INFO", "INFO", "INFO", "WARNING", "WARNING", "WARNING", "ERROR", "ERROR"]);
    }
}
