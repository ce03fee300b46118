//! Services, revisions and jobs as text for people, and as files for `replace`.

mod container;
mod export;
mod job;
mod page;

use serde_json::Value;

use super::service::{Document, LAST_MODIFIER, LOCATION};
use super::traffic;
use container::{container_lines, network_lines, volume_lines};
pub use export::export;
pub use job::{execution, job, task};
use page::Page;

const MANUAL: &str = "run.googleapis.com/scalingMode";

/// `services describe`.
pub fn service(value: &Value) -> String {
    let service = Document(value);
    let mut head = Page::default();
    head.field(0, "URL", service.url());
    head.field(0, "Ingress", Some(service.ingress()));
    let min = service.annotation("run.googleapis.com/minScale").unwrap_or("0");
    let max = service.annotation("run.googleapis.com/maxScale");
    let manual = service.annotation(MANUAL) == Some("manual");
    let scaling = match (manual, max) {
        (true, _) => {
            let count = service.annotation("run.googleapis.com/manualInstanceCount").unwrap_or_default();
            format!("Manual (Instances: {count})")
        }
        (false, Some(max)) => format!("Auto (Min: {min}, Max: {max})"),
        (false, None) => format!("Auto (Min: {min})"),
    };
    let mut settings = Page::default();
    settings.field(0, "Scaling", Some(scaling));
    settings.field(0, "Description", service.annotation("run.googleapis.com/description"));
    let when = service
        .condition("Ready")
        .and_then(|c| c.get("lastTransitionTime"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let who = service.annotation(LAST_MODIFIER).unwrap_or_default();
    let mut page = Page::default();
    page.text(2, format!("Revision {}", service.text("/status/latestCreatedRevisionName").unwrap_or("None")));
    let template = value.pointer("/spec/template").unwrap_or(&Value::Null);
    if let Some(labels) = labels(template) {
        page.text(2, labels);
    }
    revision_lines(&mut page, template, 2, manual);
    format!(
        "{}{} \n{}{} \n{} \nLast updated on {when} by {who}:\n{}{}",
        header(value, "Service"),
        labels(value).map(|labels| format!("{labels}\n")).unwrap_or_default(),
        head.render(),
        traffic::block(value, 0),
        settings.render(),
        page.render(),
        ready_message(value, "Ready"),
    )
}

/// `revisions describe`.
pub fn revision(value: &Value) -> String {
    let mut page = Page::default();
    revision_lines(&mut page, value, 0, false);
    let labels = labels(value).map(|labels| format!("{labels}\n")).unwrap_or_default();
    format!("{}{labels} \n{}{}", header(value, "Revision"), page.render(), ready_message(value, "Ready"))
}

/// `✔ Service web in region us-central1`.
fn header(value: &Value, kind: &str) -> String {
    let document = Document(value);
    let place = match document.label(LOCATION) {
        Some(region) => format!("region {region}"),
        None => format!("namespace {}", document.namespace().unwrap_or_default()),
    };
    format!("{} {kind} {} in {place}\n", document.glyph(), document.name())
}

/// Labels that the user gave, in one line.
fn labels(value: &Value) -> Option<String> {
    const INTERNAL: [&str; 5] = [
        "client.knative.dev",
        "cloud.googleapis.com",
        "run.googleapis.com",
        "serving.knative.dev",
        "autoscaling.knative.dev",
    ];
    let labels = value.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let own = labels.filter(|(name, _)| !INTERNAL.iter().any(|group| name.starts_with(group)));
    let mut own: Vec<String> =
        own.map(|(name, text)| format!("{name}:{}", text.as_str().unwrap_or_default())).collect();
    own.sort();
    (!own.is_empty()).then(|| own.join(" "))
}

/// What the deciding condition says, in lines of a hundred columns.
fn ready_message(value: &Value, kind: &str) -> String {
    const WIDTH: usize = 100;
    let document = Document(value);
    let message = document.condition(kind).and_then(|condition| condition.get("message")?.as_str());
    match message.filter(|message| !message.is_empty()) {
        Some(message) => page::fill(&format!("{} {message}", document.glyph()), WIDTH),
        None => String::new(),
    }
}

fn revision_lines(page: &mut Page, revision: &Value, indent: usize, manual: bool) {
    let spec = revision.get("spec").unwrap_or(&Value::Null);
    // gcloud tells of dependencies where it describes a revision, not where it describes a service.
    let dependencies = if indent == 0 { revision } else { &Value::Null };
    container_lines(page, dependencies, spec, indent);
    let text = |field: &str| spec.get(field).and_then(Value::as_str);
    let number = |field: &str| spec.get(field).and_then(Value::as_i64);
    page.field(indent, "Service account", text("serviceAccountName"));
    page.field(indent, "Concurrency", number("containerConcurrency").map(|n| n.to_string()));
    let document = Document(revision);
    let scales = [
        ("Min instances", "autoscaling.knative.dev/minScale"),
        ("Max instances", "autoscaling.knative.dev/maxScale"),
    ];
    if !manual && scales.iter().any(|(_, name)| document.annotation(name).is_some()) {
        page.text(indent, "Scaling:");
        scales.iter().for_each(|(label, name)| page.field(indent + 2, label, document.annotation(name)));
    }
    page.field(indent, "Timeout", number("timeoutSeconds").map(|n| format!("{n}s")));
    network_lines(page, revision, indent);
    let h2c = spec.pointer("/containers").and_then(Value::as_array).into_iter().flatten();
    let h2c = h2c.into_iter().any(|container| container["ports"][0]["name"] == "h2c");
    page.field(indent, "HTTP/2 Enabled", h2c.then_some("Enabled"));
    let throttled = document.annotation("run.googleapis.com/cpu-throttling");
    let allocation = throttled.map(|word| match word.eq_ignore_ascii_case("false") {
        true => "CPU is always allocated",
        false => "CPU is only allocated during request processing",
    });
    page.field(indent, "CPU Allocation", allocation);
    let environment = document.annotation("run.googleapis.com/execution-environment");
    let environment = environment.map(|word| match word {
        "gen1" => "First Generation",
        "gen2" => "Second Generation",
        other => other,
    });
    page.field(indent, "Execution Environment", environment);
    page.field(indent, "Session Affinity", document.annotation("run.googleapis.com/sessionAffinity"));
    volume_lines(page, spec, indent);
}
