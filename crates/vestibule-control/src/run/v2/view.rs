//! From a v1 document to what a v2 client sees. As everywhere in protocol buffers' JSON, what is false or empty is
//! left out.

use serde_json::{Map, Value, json};

use super::super::annotation as a;
use super::super::json as reach;
use super::super::name::{Kind, Name};
use super::super::pod;
use super::super::revision as rev;
use super::super::{status, template as templates};
use super::condition::{self, condition};
use super::unreserved;
use crate::Document;

/// What a document's etag says in v2.
pub(super) fn etag(stored: &Value) -> String {
    format!("\"{}\"", reach::text(stored, &["metadata", "resourceVersion"]).unwrap_or_default())
}

/// A document that is being filled: nothing empty gets in.
pub(super) struct Sparse(Document);

impl Sparse {
    pub(super) fn new() -> Sparse {
        Sparse(Map::new())
    }

    pub(super) fn set(&mut self, field: &str, value: impl Into<Value>) -> &mut Sparse {
        let value = value.into();
        let empty = match &value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            Value::Number(_) => false,
        };
        if !empty {
            self.0.insert(field.to_owned(), value);
        }
        self
    }

    pub(super) fn value(self) -> Value {
        Value::Object(self.0)
    }

    /// Takes over the fields of another.
    pub(super) fn extend(&mut self, other: Sparse) {
        self.0.extend(other.0);
    }
}

/// The service.
pub(in super::super) fn service(name: &Name, stored: &Value) -> Value {
    let metadata = &stored["metadata"];
    let annotation = |key: &str| reach::text(metadata, &["annotations", key]);
    let is_on = |key: &str| annotation(key).is_some_and(a::is_true);
    let number = |value: &Value| value.as_i64().map(|n| n.to_string());
    let full = |revision: &Value| {
        revision.as_str().map(|r| format!("{}/revisions/{r}", name.relative(Kind::Service)))
    };
    let status = &stored["status"];
    let mut out = Sparse::new();
    out.set("name", name.relative(Kind::Service))
        .set("description", annotation(a::DESCRIPTION))
        .set("uid", metadata["uid"].clone())
        .set("generation", number(&metadata["generation"]))
        .set("labels", unreserved(&metadata["labels"]))
        .set("annotations", unreserved(&metadata["annotations"]))
        .set("createTime", metadata["creationTimestamp"].clone())
        .set("updateTime", update_time(stored))
        .set("creator", annotation(a::CREATOR))
        .set("lastModifier", annotation(a::LAST_MODIFIER))
        .set("client", annotation(a::CLIENT_NAME))
        .set("clientVersion", annotation(a::CLIENT_VERSION))
        .set("ingress", ingress(annotation(a::INGRESS)))
        .set("launchStage", annotation(a::LAUNCH_STAGE).unwrap_or("GA"))
        .set("binaryAuthorization", binary_authorization(&annotation))
        .set("template", template(&stored["spec"]["template"], true))
        .set(
            "traffic",
            reach::items(stored, &["spec", "traffic"]).iter().map(|t| target(t, false)).collect::<Value>(),
        )
        .set("scaling", service_scaling(&annotation))
        .set(
            "customAudiences",
            annotation(a::CUSTOM_AUDIENCES).and_then(|list| serde_json::from_str::<Value>(list).ok()),
        )
        .set("defaultUriDisabled", is_on(a::DEFAULT_URL_DISABLED))
        .set("invokerIamDisabled", is_on(a::INVOKER_IAM_DISABLED))
        .set("iapEnabled", is_on(a::IAP_ENABLED))
        .set("observedGeneration", number(&status["observedGeneration"]))
        .set("terminalCondition", status::find(stored, "Ready").map(condition))
        .set("conditions", condition::all(stored, &["RoutesReady", "ConfigurationsReady"]))
        .set("latestReadyRevision", full(&status["latestReadyRevisionName"]))
        .set("latestCreatedRevision", full(&status["latestCreatedRevisionName"]))
        .set(
            "trafficStatuses",
            reach::items(status, &["traffic"]).iter().map(|t| target(t, true)).collect::<Value>(),
        )
        .set("uri", status["url"].clone())
        .set("urls", annotation(a::URLS).and_then(|list| serde_json::from_str::<Value>(list).ok()))
        .set("reconciling", !status::is_decided(stored))
        .set("etag", etag(stored));
    out.value()
}

pub(super) fn update_time(stored: &Value) -> Value {
    let written = &stored["vestibule"]["updateTime"];
    if written.is_null() { stored["metadata"]["creationTimestamp"].clone() } else { written.clone() }
}

fn ingress(ingress: Option<&str>) -> &'static str {
    match ingress {
        Some("internal") => "INGRESS_TRAFFIC_INTERNAL_ONLY",
        Some("internal-and-cloud-load-balancing") => "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
        Some("none") => "INGRESS_TRAFFIC_NONE",
        _ => "INGRESS_TRAFFIC_ALL",
    }
}

fn binary_authorization<'a>(annotation: &impl Fn(&str) -> Option<&'a str>) -> Value {
    let mut out = Sparse::new();
    match annotation(a::BINARY_AUTHORIZATION) {
        Some("default") => out.set("useDefault", true),
        policy => out.set("policy", policy),
    };
    out.set("breakglassJustification", annotation(a::BREAKGLASS));
    out.value()
}

fn service_scaling<'a>(annotation: &impl Fn(&str) -> Option<&'a str>) -> Value {
    let number = |key: &str| annotation(key).and_then(|text| text.parse::<i64>().ok());
    let mut out = Sparse::new();
    out.set("minInstanceCount", number(a::SERVICE_MIN).filter(|n| *n != 0))
        .set("maxInstanceCount", number(a::SERVICE_MAX))
        .set("manualInstanceCount", number(a::MANUAL_COUNT))
        .set(
            "scalingMode",
            match annotation(a::SCALING_MODE) {
                Some("manual") => Some("MANUAL"),
                Some("automatic") => Some("AUTOMATIC"),
                _ => None,
            },
        );
    out.value()
}

/// An entry of `traffic`, or of `trafficStatuses`, which has URLs.
fn target(target: &Value, observed: bool) -> Value {
    let latest = target["latestRevision"].as_bool().unwrap_or(false);
    let kind = if latest { "LATEST" } else { "REVISION" };
    let mut out = Sparse::new();
    out.set("type", format!("TRAFFIC_TARGET_ALLOCATION_TYPE_{kind}"));
    if !latest {
        out.set("revision", target["revisionName"].clone());
    }
    out.set("percent", target["percent"].clone()).set("tag", target["tag"].clone());
    if observed {
        out.set("uri", target["url"].clone());
    }
    out.value()
}

/// A template. Names that nobody chose are shown for revisions only.
fn template(template: &Value, as_wanted: bool) -> Value {
    let metadata = &template["metadata"];
    let annotation = |key: &str| reach::text(metadata, &["annotations", key]);
    let spec = &template["spec"];
    let mut out = Sparse::new();
    if as_wanted {
        out.set("revision", metadata["name"].clone());
    }
    out.set("labels", unreserved(&metadata["labels"]))
        .set("annotations", unreserved(&metadata["annotations"]))
        .set("scaling", scaling(&annotation))
        .set("vpcAccess", vpc_access(&annotation))
        .set("timeout", spec["timeoutSeconds"].as_i64().map(|seconds| format!("{seconds}s")))
        .set("serviceAccount", spec["serviceAccountName"].clone())
        .set("containers", service_containers(template, &annotation))
        .set("volumes", volumes(template))
        .set("executionEnvironment", execution_environment(&annotation))
        .set("maxInstanceRequestConcurrency", spec["containerConcurrency"].clone())
        .set("sessionAffinity", annotation(a::SESSION_AFFINITY).is_some_and(a::is_true))
        .set("healthCheckDisabled", annotation(a::HEALTH_CHECK_DISABLED).is_some_and(a::is_true))
        .set("client", annotation(a::CLIENT_NAME))
        .set("clientVersion", annotation(a::CLIENT_VERSION));
    out.value()
}

fn scaling<'a>(annotation: &impl Fn(&str) -> Option<&'a str>) -> Value {
    let number = |key: &str| annotation(key).and_then(|text| text.parse::<i64>().ok());
    let share =
        |key: &str| annotation(key).and_then(|text| serde_json::from_str::<serde_json::Number>(text).ok());
    let mut out = Sparse::new();
    out.set("minInstanceCount", number(a::MIN_SCALE).filter(|n| *n != 0))
        .set("maxInstanceCount", number(a::MAX_SCALE).unwrap_or(i64::from(rev::DEFAULT_MAX_SCALE)))
        .set("concurrencyUtilization", share(a::CONCURRENCY_TARGET).map(Value::Number))
        .set("cpuUtilization", share(a::CPU_TARGET).map(Value::Number));
    out.value()
}

pub(super) fn execution_environment<'a>(
    annotation: &impl Fn(&str) -> Option<&'a str>,
) -> Option<&'static str> {
    match annotation(a::EXECUTION_ENVIRONMENT)? {
        "gen1" => Some("EXECUTION_ENVIRONMENT_GEN1"),
        "gen2" => Some("EXECUTION_ENVIRONMENT_GEN2"),
        _ => None,
    }
}

pub(super) fn vpc_access<'a>(annotation: &impl Fn(&str) -> Option<&'a str>) -> Value {
    let mut out = Sparse::new();
    let interfaces =
        annotation(a::NETWORK_INTERFACES).and_then(|list| serde_json::from_str::<Value>(list).ok());
    out.set("connector", annotation(a::VPC_CONNECTOR)).set("networkInterfaces", interfaces);
    if out.0.is_empty() {
        return Value::Null;
    }
    let egress = match annotation(a::VPC_EGRESS) {
        Some("all-traffic" | "all") => "ALL_TRAFFIC",
        _ => "PRIVATE_RANGES_ONLY",
    };
    out.set("egress", egress);
    out.value()
}

/// The containers of a service's template.
fn service_containers<'a>(template: &Value, annotation: &impl Fn(&str) -> Option<&'a str>) -> Value {
    containers(template, |resources| {
        resources
            .set("cpuIdle", annotation(a::CPU_THROTTLING).is_none_or(a::is_true))
            .set("startupCpuBoost", annotation(a::STARTUP_CPU_BOOST).is_some_and(a::is_true));
    })
}

/// The containers of a template, of a service or a job. `more` adds to their resources.
pub(super) fn containers(template: &Value, more: impl Fn(&mut Sparse)) -> Value {
    let spec = &template["spec"];
    let mut named = spec.clone();
    templates::name_containers(&mut named);
    let dependencies = pod::dependencies(template);
    let of = |(at, container): (usize, &Value)| {
        let mut out = container_without_resources(template, container);
        let mut resources = Sparse::new();
        resources.set("limits", container["resources"]["limits"].clone());
        more(&mut resources);
        out.set("resources", resources.value());
        let name = named["containers"][at]["name"].as_str().unwrap_or_default();
        out.set("dependsOn", dependencies.get(name).map(|names| json!(names)));
        out.value()
    };
    reach::items(spec, &["containers"]).iter().enumerate().map(of).collect()
}

fn container_without_resources(template: &Value, container: &Value) -> Sparse {
    let mut out = Sparse::new();
    for field in [
        "name",
        "image",
        "command",
        "args",
        "ports",
        "workingDir",
        "volumeMounts",
        "startupProbe",
        "livenessProbe",
        "readinessProbe",
    ] {
        out.set(field, container[field].clone());
    }
    let env = reach::items(container, &["env"]).iter().map(|v| variable(template, v)).collect::<Value>();
    out.set("env", env);
    out
}

fn variable(template: &Value, variable: &Value) -> Value {
    let reference = &variable["valueFrom"]["secretKeyRef"];
    if reference.is_null() {
        return variable.clone();
    }
    let reference = json!({ "secret": secret(template, &reference["name"]), "version": reference["key"] });
    json!({ "name": variable["name"], "valueSource": { "secretKeyRef": reference } })
}

/// A secret's name: v2 has no aliases.
fn secret(template: &Value, name: &Value) -> Value {
    let alias = name.as_str().and_then(|name| pod::aliases(template).find(|(alias, _)| *alias == name));
    alias.map_or_else(|| name.clone(), |(_, full)| full.into())
}

/// The volumes of a template.
pub(super) fn volumes(template: &Value) -> Value {
    let of = |volume: &Value| {
        let mut out = Sparse::new();
        out.set("name", volume["name"].clone());
        if let memory @ Value::Object(_) = &volume["emptyDir"] {
            let mut source = Sparse::new();
            let medium = match memory["medium"].as_str() {
                Some("Memory") => Some("MEMORY"),
                Some("Disk") => Some("DISK"),
                _ => None,
            };
            source.set("medium", medium).set("sizeLimit", memory["sizeLimit"].clone());
            // Even an empty one says something.
            out.0.insert("emptyDir".into(), source.value());
        }
        if let from @ Value::Object(_) = &volume["secret"] {
            let item = |item: &Value| {
                let mut out = Sparse::new();
                out.set("path", item["path"].clone())
                    .set("version", item["key"].clone())
                    .set("mode", item["mode"].clone());
                out.value()
            };
            let mut source = Sparse::new();
            source
                .set("secret", secret(template, &from["secretName"]))
                .set("items", reach::items(from, &["items"]).iter().map(item).collect::<Value>())
                .set("defaultMode", from["defaultMode"].clone());
            out.set("secret", source.value());
        }
        out.value()
    };
    reach::items(template, &["spec", "volumes"]).iter().map(of).collect()
}

/// A revision; `service` tells whether it is in use.
pub(super) fn revision(name: &Name, stored: &Value, service: Option<&Value>) -> Value {
    let shown = rev::shown(stored, service);
    let metadata = &stored["metadata"];
    let parent = rev::service_of(stored).unwrap_or_default();
    let mut named = stored["spec"].clone();
    templates::name_containers(&mut named);
    let mut out = Sparse::new();
    out.set("name", format!("{}/revisions/{}", name.sibling(parent).relative(Kind::Service), name.name))
        .set("uid", metadata["uid"].clone())
        .set("generation", "1")
        .set("createTime", metadata["creationTimestamp"].clone())
        .set("updateTime", metadata["creationTimestamp"].clone())
        .set("creator", reach::text(metadata, &["annotations", a::CREATOR]))
        .set("launchStage", "GA")
        .set("service", parent)
        .set(
            "conditions",
            condition::all(&shown, &["Ready", "Active", "ContainerHealthy", "ResourcesAvailable"]),
        )
        .set("observedGeneration", "1")
        .set("logUri", stored["status"]["logUrl"].clone())
        .set("reconciling", rev::readiness(stored) == super::super::traffic::Readiness::Deploying)
        .set("etag", etag(stored));
    if let Some(digest) = reach::text(stored, &["status", "imageDigest"]) {
        let container = named["containers"][0]["name"].clone();
        out.set("containerStatuses", json!([{ "name": container, "imageDigest": digest }]));
    }
    let described = json!({ "metadata": metadata, "spec": named });
    if let Value::Object(described) = template(&described, false) {
        out.0.extend(described);
    }
    out.value()
}
