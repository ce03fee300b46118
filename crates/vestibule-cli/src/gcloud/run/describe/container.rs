//! Containers, their volumes and their network.

use std::collections::BTreeMap;

use serde_json::Value;

use super::page::{Line, Page};
use crate::gcloud::run::service::Document;

/// All containers of a pod. `holder` has its annotations, `pod` the containers and the volumes.
pub fn container_lines(page: &mut Page, holder: &Value, pod: &Value, indent: usize) {
    let dependencies: BTreeMap<String, Vec<String>> = Document(holder)
        .annotation("run.googleapis.com/container-dependencies")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut containers: Vec<&Value> =
        pod.get("containers").and_then(Value::as_array).into_iter().flatten().collect();
    containers.sort_by_key(|container| container["name"].as_str().unwrap_or_default());
    for container in containers {
        one(page, container, pod, indent);
        let on = container["name"].as_str().and_then(|name| dependencies.get(name));
        if let Some(on) = on {
            // Too long a label for the column that the others share.
            page.text(indent + 2, format!("Container Dependencies: {}", on.join(", ")));
        }
    }
}

fn one(page: &mut Page, container: &Value, pod: &Value, indent: usize) {
    let text = |pointer: &str| container.pointer(pointer).and_then(Value::as_str);
    let name = text("/name").filter(|name| !name.is_empty()).unwrap_or("None");
    page.text(indent, format!("Container {name}"));
    let inner = indent + 2;
    page.field(inner, "Image", text("/image"));
    page.field(inner, "Command", words(container.get("command")));
    page.field(inner, "Args", words(container.get("args")));
    page.field(inner, "Working Directory", text("/workingDir"));
    page.field(inner, "Port", container.pointer("/ports/0/containerPort").map(Value::to_string));
    page.field(inner, "Memory", text("/resources/limits/memory"));
    page.field(inner, "CPU", text("/resources/limits/cpu"));
    environment_lines(page, container, inner);
    mount_lines(page, container, pod, inner);
    secret_lines(page, container, pod, inner);
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

fn environment_lines(page: &mut Page, container: &Value, indent: usize) {
    let variables = container.get("env").and_then(Value::as_array).into_iter().flatten();
    let literal = variables.filter(|variable| variable.get("valueFrom").is_none());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    map_lines(page, "Env vars:", indent, literal.map(|v| (text(&v["name"]), text(&v["value"]))).collect());
}

/// Names and values under a title, by name.
fn map_lines(page: &mut Page, title: &str, indent: usize, mut lines: Vec<(String, String)>) {
    if lines.is_empty() {
        return;
    }
    lines.sort();
    page.text(indent, title);
    for (name, value) in lines {
        page.lines.push(Line { indent: indent + 2, label: name, value: Some(value) });
    }
}

fn mounts(container: &Value) -> impl Iterator<Item = (&str, &str)> {
    let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    mounts.filter_map(|mount| Some((mount.get("mountPath")?.as_str()?, mount.get("name")?.as_str()?)))
}

fn volume<'v>(pod: &'v Value, name: &str) -> Option<&'v Value> {
    pod.get("volumes")?.as_array()?.iter().find(|volume| volume["name"] == *name)
}

/// Variables and folders that hold secrets.
fn secret_lines(page: &mut Page, container: &Value, pod: &Value, indent: usize) {
    let variables = container.get("env").and_then(Value::as_array).into_iter().flatten();
    let of_variable = |variable: &Value| {
        let reference = variable.pointer("/valueFrom/secretKeyRef")?;
        let shown = format!("{}:{}", reference.get("name")?.as_str()?, reference.get("key")?.as_str()?);
        Some((variable.get("name")?.as_str()?.to_owned(), shown))
    };
    let of_mount = |(path, name): (&str, &str)| {
        let secret = volume(pod, name)?.get("secret")?;
        let version = secret.pointer("/items/0/key").and_then(Value::as_str);
        let version = version.map(|version| format!(":{version}")).unwrap_or_default();
        Some((path.to_owned(), format!("{}{version}", secret.get("secretName")?.as_str()?)))
    };
    let lines = variables.filter_map(of_variable).chain(mounts(container).filter_map(of_mount));
    map_lines(page, "Secrets:", indent, lines.collect());
}

/// What a volume is, as name and value; nothing for secrets, which are shown apart.
fn kind_of(volume: &Value) -> Vec<(&'static str, String)> {
    let text = |pointer: &str| volume.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    if volume.get("emptyDir").is_some() {
        vec![("type", "in-memory".to_owned())]
    } else if volume.get("nfs").is_some() {
        vec![
            ("type", "nfs".to_owned()),
            ("location", format!("{}:{}", text("/nfs/server"), text("/nfs/path"))),
        ]
    } else {
        Vec::new()
    }
}

fn mount_lines(page: &mut Page, container: &Value, pod: &Value, indent: usize) {
    let kind = |name: &str| volume(pod, name).map(kind_of).unwrap_or_default();
    let mut shown: Vec<(&str, &str)> = mounts(container).filter(|(_, name)| !kind(name).is_empty()).collect();
    if shown.is_empty() {
        return;
    }
    shown.sort_unstable();
    page.text(indent, "Volume Mounts:");
    for (path, name) in shown {
        page.text(indent + 2, path);
        page.field(indent + 4, "name", Some(name));
        kind(name).into_iter().for_each(|(label, value)| page.field(indent + 4, label, Some(value)));
    }
}

/// All volumes of a pod but those of secrets.
pub fn volume_lines(page: &mut Page, pod: &Value, indent: usize) {
    let volumes = pod.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let mut shown: Vec<&Value> = volumes.filter(|volume| !kind_of(volume).is_empty()).collect();
    if shown.is_empty() {
        return;
    }
    shown.sort_by_key(|volume| volume["name"].as_str().unwrap_or_default());
    page.text(indent, "Volumes:");
    for volume in shown {
        page.text(indent + 2, volume["name"].as_str().unwrap_or_default());
        kind_of(volume).into_iter().for_each(|(label, value)| page.field(indent + 4, label, Some(value)));
        let limit = volume.pointer("/emptyDir/sizeLimit").and_then(Value::as_str);
        page.field(indent + 4, "size-limit", limit);
        let read_only = volume.pointer("/nfs/readOnly").and_then(Value::as_bool);
        page.field(indent + 4, "read-only", read_only.filter(|only| *only).map(|_| "True"));
    }
}

/// How instances reach the VPC.
pub fn network_lines(page: &mut Page, holder: &Value, indent: usize) {
    let document = Document(holder);
    let connector = document.annotation("run.googleapis.com/vpc-access-connector");
    let interfaces: Option<Value> = document
        .annotation("run.googleapis.com/network-interfaces")
        .and_then(|text| serde_json::from_str(text).ok());
    if connector.is_none() && interfaces.is_none() {
        return;
    }
    page.text(indent, "VPC access:");
    page.field(indent + 2, "Connector", connector);
    if connector.is_none() {
        let interface = interfaces.as_ref().and_then(|all| all.get(0)).unwrap_or(&Value::Null);
        page.field(indent + 2, "Network", interface["network"].as_str());
        page.field(indent + 2, "Subnet", interface["subnetwork"].as_str());
    }
    page.field(indent + 2, "Egress", document.annotation("run.googleapis.com/vpc-access-egress"));
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
