//! What health checks with logging found out, as the entries of health check logging.
//!
//! An entry is written when an endpoint becomes healthy or ceases to be, as on Google's. Formatting happens on the
//! prober's thread; an entry that finds the log's queue full is dropped and counted.

use std::net::SocketAddr;

use serde_json::{Value, json};
use vestibule_balance::State;
use vestibule_health::{Finding, Kind, Reach, Resource};
use vestibule_logs::time::TimeWriter;
use vestibule_logs::{Batch, LogSink, json::Object};

/// Writes a finding down. Never waits.
pub fn write(logs: &LogSink, finding: &Finding<'_>) {
    let Some(resource) = &finding.target.log else { return };
    let payload = json!({ "healthCheckProbeResult": result(finding) });
    let mut batch = Batch::with_capacity(1024);
    batch.push_with(|out| {
        entry(out, resource, finding, &payload);
        true
    });
    logs.try_send(batch);
}

fn entry(out: &mut Vec<u8>, resource: &Resource, finding: &Finding<'_>, payload: &Value) {
    let project = &resource.project;
    let mut entry = Object::begin(out);
    entry.str("logName", &format!("projects/{project}/logs/compute.googleapis.com%2Fhealthchecks"));
    entry.object("resource", |told| {
        told.str("type", "gce_network_endpoint_group");
        told.object("labels", |labels| {
            labels.str("project_id", project);
            labels.str("location", &resource.location);
            labels.str("network_endpoint_group_id", &resource.group_id);
        });
    });
    entry.str("severity", "INFO");
    let time = entry.value("timestamp");
    time.push(b'"');
    TimeWriter::new().micros(time, finding.at);
    time.push(b'"');
    entry.value("jsonPayload").extend_from_slice(payload.to_string().as_bytes());
    entry.end();
}

fn result(finding: &Finding<'_>) -> Value {
    let check = &finding.target.check;
    let mut time = Vec::new();
    TimeWriter::new().micros(&mut time, finding.at);
    let mut result = json!({
        "healthCheckProtocol": protocol(&check.kind),
        "previousHealthState": state(finding.before),
        "healthState": state(finding.after),
        "previousDetailedHealthState": finding.before_detailed,
        "detailedHealthState": finding.detailed,
        "probeCompletionTimestamp": String::from_utf8_lossy(&time),
        "probeRequest": request(&check.kind),
        "probeResultText": finding.failure.unwrap_or_default(),
        "responseLatency": format!("{:.6}s", finding.took.as_secs_f64()),
    });
    match &finding.target.reach {
        Reach::Network { from, to, .. } => {
            result["probeSourceIp"] = json!(from);
            aim(&mut result, (*to).into());
        }
        Reach::Machine(address) => aim(&mut result, *address),
        Reach::Name(name, port) => {
            result["targetIp"] = json!(name);
            result["targetPort"] = json!(port);
        }
    }
    result
}

fn aim(result: &mut Value, address: SocketAddr) {
    result["ipAddress"] = json!(address.ip());
    result["targetIp"] = json!(address.ip());
    result["targetPort"] = json!(address.port());
}

/// The API knows two states; who was not probed yet is not healthy.
fn state(state: State) -> &'static str {
    if state == State::Healthy { "HEALTHY" } else { "UNHEALTHY" }
}

fn protocol(kind: &Kind) -> &'static str {
    match kind {
        Kind::Tcp(_) => "TCP",
        Kind::Ssl(_) => "SSL",
        Kind::Http(_) => "HTTP",
        Kind::Https(_) => "HTTPS",
        Kind::Http2(_) => "HTTP2",
        Kind::Grpc { .. } => "GRPC",
        Kind::GrpcTls { .. } => "GRPC_WITH_TLS",
    }
}

/// What a probe asks for: a path, a text or a service.
fn request(kind: &Kind) -> &str {
    match kind {
        Kind::Tcp(text) | Kind::Ssl(text) => &text.request,
        Kind::Http(http) | Kind::Https(http) | Kind::Http2(http) => &http.path,
        Kind::Grpc { service } | Kind::GrpcTls { service } => service,
    }
}
