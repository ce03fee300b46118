//! Services and revisions as text for people, and as files for `services replace`.

use serde_json::{Map, Value};

use super::service::{CREATOR, Document, LAST_MODIFIER, LOCATION, OPERATION};
use super::traffic;
use crate::gcloud::format::yaml_document;

/// A line of a description: text alone, or a label and its value.
struct Line {
    indent: usize,
    label: String,
    value: Option<String>,
}

/// Lines whose values stand in one column.
#[derive(Default)]
struct Page {
    lines: Vec<Line>,
}

impl Page {
    fn text(&mut self, indent: usize, text: impl Into<String>) {
        self.lines.push(Line { indent, label: text.into(), value: None });
    }

    fn field(&mut self, indent: usize, label: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.lines.push(Line { indent, label: format!("{label}:"), value: Some(value.into()) });
        }
    }

    fn render(&self) -> String {
        let labelled = self.lines.iter().filter(|line| line.value.is_some());
        let column = labelled.map(|line| line.indent + line.label.chars().count()).max().unwrap_or(0) + 1;
        let mut out = String::new();
        for line in &self.lines {
            let head = format!("{}{}", " ".repeat(line.indent), line.label);
            match &line.value {
                Some(value) => out += &format!("{head:column$}{value}\n"),
                None => out += &format!("{head}\n"),
            }
        }
        out
    }
}

/// `services describe`.
pub fn service(value: &Value) -> String {
    let service = Document(value);
    let mut head = Page::default();
    head.field(0, "URL", service.url());
    head.field(0, "Ingress", Some(service.ingress()));
    let place = match service.label(LOCATION) {
        Some(region) => format!("in region {region}"),
        None => format!("in namespace {}", service.namespace().unwrap_or_default()),
    };
    let min = service.annotation("run.googleapis.com/minScale").unwrap_or("0");
    let max = service
        .annotation("run.googleapis.com/maxScale")
        .map_or(String::new(), |max| format!(", Max: {max}"));
    let mut out = format!(
        "{} Service {} {place}\n \n{}{} \n",
        service.glyph(),
        service.name(),
        head.render(),
        traffic::block(value, 0)
    );
    out += &format!("Scaling: Auto (Min: {min}{max})\n \n");
    let when = service
        .condition("Ready")
        .and_then(|c| c.get("lastTransitionTime"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let who = service.annotation(LAST_MODIFIER).unwrap_or_default();
    out += &format!("Last updated on {when} by {who}:\n");
    let mut page = Page::default();
    page.text(2, format!("Revision {}", service.text("/status/latestCreatedRevisionName").unwrap_or("None")));
    let template = value.pointer("/spec/template").unwrap_or(&Value::Null);
    revision_lines(&mut page, template, 2);
    out + &page.render()
}

/// `revisions describe`.
pub fn revision(value: &Value) -> String {
    let revision = Document(value);
    let region = revision.label(LOCATION).unwrap_or_default();
    let mut page = Page::default();
    revision_lines(&mut page, value, 0);
    format!("{} Revision {} in region {region}\n \n{}", revision.glyph(), revision.name(), page.render())
}

fn revision_lines(page: &mut Page, revision: &Value, indent: usize) {
    let spec = revision.get("spec").unwrap_or(&Value::Null);
    for container in spec.get("containers").and_then(Value::as_array).into_iter().flatten() {
        container_lines(page, container, indent);
    }
    let text = |field: &str| spec.get(field).and_then(Value::as_str);
    let number = |field: &str| spec.get(field).and_then(Value::as_i64);
    page.field(indent, "Service account", text("serviceAccountName"));
    page.field(indent, "Concurrency", number("containerConcurrency").map(|n| n.to_string()));
    let annotation = |name: &str| revision.pointer("/metadata/annotations")?.get(name)?.as_str();
    let scales = [
        ("Min instances", "autoscaling.knative.dev/minScale"),
        ("Max instances", "autoscaling.knative.dev/maxScale"),
    ];
    if scales.iter().any(|(_, name)| annotation(name).is_some()) {
        page.text(indent, "Scaling:");
        scales.iter().for_each(|(label, name)| page.field(indent + 2, label, annotation(name)));
    }
    page.field(indent, "Timeout", number("timeoutSeconds").map(|n| format!("{n}s")));
}

fn container_lines(page: &mut Page, container: &Value, indent: usize) {
    let text = |pointer: &str| container.pointer(pointer).and_then(Value::as_str);
    let name = text("/name").filter(|name| !name.is_empty()).unwrap_or("None");
    page.text(indent, format!("Container {name}"));
    let inner = indent + 2;
    page.field(inner, "Image", text("/image"));
    page.field(inner, "Command", words(container.get("command")));
    page.field(inner, "Args", words(container.get("args")));
    page.field(inner, "Port", container.pointer("/ports/0/containerPort").map(Value::to_string));
    page.field(inner, "Memory", text("/resources/limits/memory"));
    page.field(inner, "CPU", text("/resources/limits/cpu"));
    let variables: Vec<&Value> =
        container.get("env").and_then(Value::as_array).into_iter().flatten().collect();
    variable_lines(
        page,
        "Env vars:",
        inner,
        variables.iter().filter(|v| v.get("valueFrom").is_none()),
        |v| v.get("value")?.as_str().map(str::to_owned),
    );
    variable_lines(page, "Secrets:", inner, variables.iter().filter(|v| v.get("valueFrom").is_some()), |v| {
        let reference = v.pointer("/valueFrom/secretKeyRef")?;
        Some(format!("{}:{}", reference.get("name")?.as_str()?, reference.get("key")?.as_str()?))
    });
    for (field, title) in [
        ("startupProbe", "Startup Probe:"),
        ("livenessProbe", "Liveness Probe:"),
        ("readinessProbe", "Readiness Probe:"),
    ] {
        if let Some(probe) = container.get(field) {
            probe_lines(page, probe, title, inner);
        }
    }
}

fn variable_lines<'v>(
    page: &mut Page,
    title: &str,
    indent: usize,
    variables: impl Iterator<Item = &'v &'v Value>,
    shown: fn(&Value) -> Option<String>,
) {
    let mut lines: Vec<(String, String)> = variables
        .map(|v| {
            (
                v.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
                shown(v).unwrap_or_default(),
            )
        })
        .collect();
    if lines.is_empty() {
        return;
    }
    lines.sort();
    page.text(indent, title);
    for (name, value) in lines {
        page.lines.push(Line { indent: indent + 2, label: name, value: Some(value) });
    }
}

fn probe_lines(page: &mut Page, probe: &Value, title: &str, indent: usize) {
    let kinds = [("tcpSocket", "TCP"), ("httpGet", "HTTP"), ("grpc", "GRPC")];
    let Some((field, kind)) = kinds.iter().find(|(field, _)| probe.get(*field).is_some()) else { return };
    let number = |field: &str, default: i64| probe.get(field).and_then(Value::as_i64).unwrap_or(default);
    page.text(indent, title);
    let inner = indent + 2;
    page.text(inner, format!("{kind} every {}s", number("periodSeconds", 10)));
    page.field(inner, "Path", probe.pointer("/httpGet/path").and_then(Value::as_str));
    page.field(inner, "Port", probe.pointer(&format!("/{field}/port")).map(Value::to_string));
    page.field(inner, "Initial delay", Some(format!("{}s", number("initialDelaySeconds", 0))));
    page.field(inner, "Timeout", Some(format!("{}s", number("timeoutSeconds", 1))));
    page.text(inner, format!("Failure threshold: {}", number("failureThreshold", 3)));
}

fn words(list: Option<&Value>) -> Option<String> {
    let list: Vec<&str> = list?.as_array()?.iter().filter_map(Value::as_str).collect();
    (!list.is_empty()).then(|| list.join(" "))
}

/// `services describe --format=export`: without what only the server may say.
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
