//! Templates of revisions: what Cloud Run fills in, and when two of them are the same.
//!
//! What a client left out is written into the stored document, so that every reader sees what runs. One thing is not:
//! a container's name. v1 shows a made-up one, which clients then send back; v2 must not show what nobody chose. So a
//! name that is just the made-up one is not stored, and put in where v1 is shown.

use serde_json::{Map, Value, json};
use vestibule_model::project;

use super::json as reach;
use crate::Document;

/// Port of a container that names none.
pub(super) const DEFAULT_PORT: u64 = 8080;
/// Requests at once that an instance with at least one processor takes.
const DEFAULT_CONCURRENCY: u64 = 80;
/// Request timeout, in seconds.
const DEFAULT_TIMEOUT: u64 = 300;
/// Period and timeout of the startup probe that every revision has which names none, in seconds.
const DEFAULT_PROBE_SECONDS: u64 = 240;
/// `cpu` of a container that sets no limits.
pub(super) const DEFAULT_CPU: &str = "1000m";
/// `memory` of a container that sets no limits.
pub(super) const DEFAULT_MEMORY: &str = "512Mi";

/// Fills in what was left out of a template. Doing it again changes nothing.
pub(super) fn complete(template: &mut Document, project: &str) {
    let spec = reach::object_mut(template, "spec");
    let mut cpu = 0;
    if let Some(Value::Array(containers)) = spec.get_mut("containers") {
        let single = containers.len() == 1;
        for (index, container) in containers.iter_mut().enumerate() {
            let Value::Object(container) = container else { continue };
            complete_container(container, index, single);
        }
        let limits = containers.iter().filter_map(|c| reach::text(c, &["resources", "limits", "cpu"]));
        cpu = limits.filter_map(millis).sum();
    }
    let concurrency = if cpu == 0 || cpu >= 1000 { DEFAULT_CONCURRENCY } else { 1 };
    default_number(spec, "containerConcurrency", concurrency);
    default_number(spec, "timeoutSeconds", DEFAULT_TIMEOUT);
    if spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or_default().is_empty() {
        spec.insert("serviceAccountName".into(), project::default_service_account(project).into());
    }
}

/// Fills in what containers of services and of jobs alike have.
pub(super) fn complete_common(container: &mut Document, index: usize) {
    let made_up = made_up_name(container, index);
    if matches!(container.get("name"), Some(Value::String(name)) if name.is_empty() || *name == made_up) {
        container.remove("name");
    }
    if empty(container.get("resources").and_then(|resources| resources.get("limits"))) {
        let limits = json!({ "cpu": DEFAULT_CPU, "memory": DEFAULT_MEMORY });
        reach::object_mut(container, "resources").insert("limits".into(), limits);
    }
}

fn empty(value: Option<&Value>) -> bool {
    value.is_none_or(|value| reach::same(value, &Value::Null))
}

fn complete_container(container: &mut Document, index: usize, single: bool) {
    complete_common(container, index);
    if single && empty(container.get("ports")) {
        container.insert("ports".into(), json!([{ "name": "http1", "containerPort": DEFAULT_PORT }]));
    }
    if let Some(Value::Array(ports)) = container.get_mut("ports") {
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            default_number(port, "containerPort", DEFAULT_PORT);
            if port.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
                port.insert("name".into(), "http1".into());
            }
        }
    }
    let listens = container.get("ports").is_some_and(|ports| !empty(Some(ports)));
    if listens || container.get("startupProbe").is_some_and(|probe| !empty(Some(probe))) {
        complete_startup_probe(container);
    }
}

fn complete_startup_probe(container: &mut Document) {
    let port = container_port(&Value::Object(container.clone()));
    let probe = reach::object_mut(container, "startupProbe");
    if probe.is_empty() || is_default_probe(probe) {
        *probe = default_probe(port);
        return;
    }
    default_number(probe, "timeoutSeconds", 1);
    default_number(probe, "periodSeconds", 10);
    default_number(probe, "failureThreshold", 3);
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        if let Some(Value::Object(handler)) = probe.get_mut(handler) {
            default_number(handler, "port", port);
        }
    }
}

fn default_probe(port: u64) -> Document {
    let mut probe = Map::new();
    probe.insert("timeoutSeconds".into(), DEFAULT_PROBE_SECONDS.into());
    probe.insert("periodSeconds".into(), DEFAULT_PROBE_SECONDS.into());
    probe.insert("failureThreshold".into(), 1.into());
    probe.insert("tcpSocket".into(), json!({ "port": port }));
    probe
}

/// Whether a probe is the one we filled in, perhaps for another port: a client that changes the port sends the old
/// probe back, and means the default.
fn is_default_probe(probe: &Document) -> bool {
    let port = probe.get("tcpSocket").and_then(|tcp| tcp.get("port")).and_then(Value::as_u64);
    port.is_some_and(|port| reach::same(&Value::Object(probe.clone()), &Value::Object(default_probe(port))))
}

/// The place of the container that requests go to: the one with a port, else the first.
pub(super) fn ingress(spec: &Value) -> usize {
    let containers = reach::items(spec, &["containers"]);
    containers.iter().position(|container| !reach::items(container, &["ports"]).is_empty()).unwrap_or(0)
}

/// The port that a container listens on.
pub(super) fn container_port(container: &Value) -> u64 {
    let port = reach::items(container, &["ports"]).first().and_then(|port| port["containerPort"].as_u64());
    port.filter(|port| *port != 0).unwrap_or(DEFAULT_PORT)
}

/// Writes a number where there is none, or zero, which in Google's JSON is the same as none.
pub(super) fn default_number(document: &mut Document, member: &str, number: u64) {
    let absent = match document.get(member) {
        None | Some(Value::Null) => true,
        Some(value) => value.as_i64() == Some(0),
    };
    if absent {
        document.insert(member.to_owned(), number.into());
    }
}

/// A template as v1 shows it: with names for all containers.
pub(super) fn shown(template: &Value) -> Value {
    let mut shown = template.clone();
    name_containers(&mut shown["spec"]);
    shown
}

/// Gives containers without a name the made-up one.
pub(super) fn name_containers(spec: &mut Value) {
    let Some(Value::Array(containers)) = spec.get_mut("containers") else { return };
    for (index, container) in containers.iter_mut().enumerate() {
        let Value::Object(container) = container else { continue };
        if !container.contains_key("name") {
            container.insert("name".into(), made_up_name(container, index).into());
        }
    }
}

/// `hello-1` for the first container, of the image `gcr.io/cloudrun/hello:v2`.
fn made_up_name(container: &Document, index: usize) -> String {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let image = image.split('@').next().unwrap_or_default();
    let base = image.rsplit('/').next().unwrap_or_default();
    let base = base.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let clean: String = base.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let clean = clean.trim_matches('-');
    format!("{}-{}", if clean.is_empty() { "container" } else { clean }, index + 1)
}

/// Whether two completed templates describe the same revision. Which tool wrote them does not matter.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    reach::same(&comparable(a), &comparable(b))
}

fn comparable(template: &Value) -> Value {
    use super::annotation::{CLIENT_NAME, CLIENT_VERSION};
    let mut template = shown(template);
    if let Some(Value::Object(annotations)) = template.pointer_mut("/metadata/annotations") {
        annotations.remove(CLIENT_NAME);
        annotations.remove(CLIENT_VERSION);
    }
    if let Some(Value::Object(metadata)) = template.get_mut("metadata") {
        metadata.retain(|member, _| matches!(member.as_str(), "name" | "labels" | "annotations"));
    }
    template
}

/// A processor quantity in thousandths: `1`, `0.5`, `1000m`.
pub(super) fn millis(cpu: &str) -> Option<u64> {
    if let Some(millis) = cpu.strip_suffix('m') {
        return millis.parse().ok();
    }
    let cores: f64 = cpu.parse().ok()?;
    (cores.is_finite() && (0.0..=1000.0).contains(&cores)).then_some((cores * 1000.0).round() as u64)
}

/// A memory quantity in bytes: `512Mi`, `1G`, `1073741824`.
pub(super) fn bytes(memory: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((memory.strip_suffix(suffix)?, *unit)))
        .unwrap_or((memory, 1));
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(template: Value) -> Value {
        let Value::Object(mut template) = template else { panic!() };
        complete(&mut template, "demo");
        let once = Value::Object(template.clone());
        complete(&mut template, "demo");
        assert_eq!(Value::Object(template), once, "completing again changes nothing");
        once
    }

    #[test]
    fn a_bare_template_gets_every_default() {
        let template =
            completed(json!({"spec": {"containers": [{"image": "gcr.io/cloudrun/hello", "name": ""}]}}));
        assert_eq!(
            template["spec"],
            json!({
                "containers": [{
                    "image": "gcr.io/cloudrun/hello",
                    "ports": [{"name": "http1", "containerPort": 8080}],
                    "resources": {"limits": {"cpu": "1000m", "memory": "512Mi"}},
                    "startupProbe": {
                        "timeoutSeconds": 240, "periodSeconds": 240, "failureThreshold": 1, "tcpSocket": {"port": 8080},
                    },
                }],
                "containerConcurrency": 80,
                "timeoutSeconds": 300,
                "serviceAccountName": "496268734596-compute@developer.gserviceaccount.com",
            })
        );
        assert_eq!(shown(&template)["spec"]["containers"][0]["name"], "hello-1");
    }

    #[test]
    fn what_was_said_stays() {
        let said = json!({"spec": {
            "containers": [{
                "image": "x:1", "name": "web",
                "ports": [{"name": "h2c", "containerPort": 9000}],
                "resources": {"limits": {"memory": "1Gi"}},
                "startupProbe": {"httpGet": {"path": "/up", "port": 9001}, "timeoutSeconds": 5, "periodSeconds": 7, "failureThreshold": 9},
            }],
            "containerConcurrency": 5, "timeoutSeconds": 60, "serviceAccountName": "a@b",
        }});
        assert_eq!(completed(said.clone()), said);
    }

    #[test]
    fn a_probe_is_filled_in_and_follows_the_port() {
        let probe = |container: Value| {
            completed(json!({"spec": {"containers": [container]}}))["spec"]["containers"][0]["startupProbe"]
                .clone()
        };
        assert_eq!(
            probe(json!({"image": "x", "startupProbe": {"httpGet": {"path": "/"}}})),
            json!({"httpGet": {"path": "/", "port": 8080}, "timeoutSeconds": 1, "periodSeconds": 10, "failureThreshold": 3})
        );
        let sent_back = json!({"image": "x", "ports": [{"containerPort": 9090}],
            "startupProbe": {"timeoutSeconds": 240, "periodSeconds": 240, "failureThreshold": 1, "tcpSocket": {"port": 8080}}});
        assert_eq!(probe(sent_back)["tcpSocket"]["port"], 9090);
    }

    #[test]
    fn less_than_one_processor_takes_one_request() {
        let concurrency = |cpu: &str| {
            let container = json!({"image": "x", "resources": {"limits": {"cpu": cpu, "memory": "512Mi"}}});
            completed(json!({"spec": {"containers": [container]}}))["spec"]["containerConcurrency"].clone()
        };
        assert_eq!(concurrency("0.5"), 1);
        assert_eq!(concurrency("500m"), 1);
        assert_eq!(concurrency("2"), 80);
    }

    #[test]
    fn sent_back_templates_are_the_same() {
        let stored = completed(
            json!({"metadata": {"labels": {}}, "spec": {"containers": [{"image": "a/b:1"}], "nodeSelector": {}}}),
        );
        let back = completed(shown(&stored));
        assert!(same(&stored, &back));
        let mut tool = back.clone();
        tool["metadata"] = json!({"annotations": {"run.googleapis.com/client-name": "gcloud"}});
        assert!(same(&stored, &tool));
        for (path, value) in
            [("/spec/containerConcurrency", json!(1)), ("/spec/containers/0/image", json!("a/b:2"))]
        {
            let mut other = back.clone();
            *other.pointer_mut(path).unwrap() = value;
            assert!(!same(&stored, &other), "{path}");
        }
        let mut named = back.clone();
        named["metadata"] = json!({"name": "svc-1"});
        assert!(!same(&stored, &named));
    }

    #[test]
    fn quantities() {
        assert_eq!(millis("1"), Some(1000));
        assert_eq!(millis("250m"), Some(250));
        assert_eq!(millis("0.08"), Some(80));
        assert_eq!(millis("x"), None);
        assert_eq!(millis("-1"), None);
        assert_eq!(bytes("512Mi"), Some(512 << 20));
        assert_eq!(bytes("1G"), Some(1_000_000_000));
        assert_eq!(bytes("1Xi"), None);
        assert_eq!(bytes("99999999999Ti"), None);
    }
}
