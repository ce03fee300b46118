//! What Cloud Run refuses in a service.
//!
//! Field names are those of v1, as gcloud prints them. What is documented but not built here is refused too, by name:
//! a sidecar that silently does not run would be worse than none.

use serde_json::Value;

use super::url::Hosts;
use super::{annotation, json, template};
use crate::{Document, Error};

/// Most requests an instance may take at once.
const MAX_CONCURRENCY: i64 = 1000;
/// Longest request, in seconds.
const MAX_TIMEOUT: i64 = 3600;
/// Longest period and delay of a startup probe, in seconds.
const MAX_STARTUP_SECONDS: i64 = 240;
/// Longest period and delay of a liveness probe, in seconds.
const MAX_LIVENESS_SECONDS: i64 = 3600;
/// Longest description (`Service.description` of v2).
const MAX_DESCRIPTION: usize = 512;
/// Processors that a container may have; below one, any from 0.08.
const CPUS: [u64; 5] = [1000, 2000, 4000, 6000, 8000];
const MIN_CPU: u64 = 80;
/// Memory that four or more processors need.
const MEMORY_FOR_MANY_CPUS: u64 = 2 << 30;
/// Variables that the system sets.
const RESERVED_ENV: [&str; 4] = ["PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"];

const TEMPLATE: &str = "spec.template.spec";

/// Checks a service: its annotations and its completed specification.
pub(super) fn service(annotations: &Document, spec: &Value, hosts: &Hosts) -> Result<(), Error> {
    service_annotations(annotations)?;
    revision_template(&spec["template"])?;
    traffic(json::items(spec, &["traffic"]), hosts)
}

fn service_annotations(annotations: &Document) -> Result<(), Error> {
    let value = |name: &str| annotations.get(name).and_then(Value::as_str);
    let field = |name: &str| format!("metadata.annotations[{name}]");
    if let Some(ingress) = value(annotation::INGRESS) {
        let allowed = ["all", "internal", "internal-and-cloud-load-balancing", "none"];
        if !allowed.contains(&ingress) {
            return Err(Error::invalid(
                field(annotation::INGRESS),
                ingress,
                format!("Must be one of {}.", allowed.join(", ")),
            ));
        }
    }
    if let Some(audiences) = value(annotation::CUSTOM_AUDIENCES)
        && serde_json::from_str::<Vec<String>>(audiences).is_err()
    {
        return Err(Error::invalid(
            field(annotation::CUSTOM_AUDIENCES),
            audiences,
            "Must be a JSON list of strings.",
        ));
    }
    if let Some(description) = value(annotation::DESCRIPTION)
        && description.chars().count() > MAX_DESCRIPTION
    {
        let why = format!("Must have at most {MAX_DESCRIPTION} characters.");
        return Err(Error::invalid(field(annotation::DESCRIPTION), description, why));
    }
    if let Some(mode) = value(annotation::SCALING_MODE)
        && !["automatic", "manual"].contains(&mode)
    {
        return Err(Error::invalid(
            field(annotation::SCALING_MODE),
            mode,
            "Must be one of automatic, manual.",
        ));
    }
    if value(annotation::IAP_ENABLED).is_some_and(annotation::is_true) {
        return Err(Error::not_implemented("run.services.iapEnabled"));
    }
    count(annotations, "metadata", annotation::MANUAL_COUNT, 0)?;
    scale(annotations, "metadata", annotation::SERVICE_MIN, annotation::SERVICE_MAX)
}

/// A pair of annotations with the least and the greatest number of instances.
fn scale(annotations: &Document, parent: &str, min: &str, max: &str) -> Result<(), Error> {
    let least = count(annotations, parent, min, 0)?.unwrap_or(0);
    let Some(most) = count(annotations, parent, max, 1)? else { return Ok(()) };
    if least > most {
        let field = format!("{parent}.annotations[{min}]");
        return Err(Error::invalid(
            field,
            least,
            "Must not be greater than the maximum number of instances.",
        ));
    }
    Ok(())
}

fn count(annotations: &Document, parent: &str, name: &str, least: u32) -> Result<Option<u32>, Error> {
    let Some(value) = annotations.get(name) else { return Ok(None) };
    let text = value.as_str().unwrap_or_default();
    match text.parse::<u32>() {
        Ok(number) if number >= least => Ok(Some(number)),
        _ => Err(Error::invalid(
            format!("{parent}.annotations[{name}]"),
            text,
            format!("Must be an integer of at least {least}."),
        )),
    }
}

fn revision_template(template: &Value) -> Result<(), Error> {
    template_annotations(template["metadata"]["annotations"].as_object())?;
    let spec = &template["spec"];
    let containers = match json::items(spec, &["containers"]) {
        [] => return Err(Error::required(format!("{TEMPLATE}.containers"))),
        [one] => one,
        _ => return Err(Error::not_implemented("run.services.template.containers (sidecars)")),
    };
    not_built(
        spec,
        &["volumes", "nodeSelector", "sandboxes", "imagePullSecrets", "runtimeClassName"],
        "template",
    )?;
    container(&format!("{TEMPLATE}.containers[0]"), containers, spec["containerConcurrency"].as_i64())?;
    within(&spec["containerConcurrency"], &format!("{TEMPLATE}.containerConcurrency"), 1..=MAX_CONCURRENCY)?;
    within(&spec["timeoutSeconds"], &format!("{TEMPLATE}.timeoutSeconds"), 1..=MAX_TIMEOUT)
}

fn template_annotations(annotations: Option<&Document>) -> Result<(), Error> {
    let Some(annotations) = annotations else { return Ok(()) };
    for name in [annotation::CLOUDSQL, annotation::ENCRYPTION_KEY, annotation::CONTAINER_DEPENDENCIES] {
        if annotations.get(name).and_then(Value::as_str).is_some_and(|value| !value.is_empty()) {
            return Err(Error::not_implemented(format!("run.services.template.annotations[{name}]")));
        }
    }
    scale(annotations, "spec.template.metadata", annotation::MIN_SCALE, annotation::MAX_SCALE)
}

/// Refuses members that are documented but not built, unless they say nothing.
fn not_built(value: &Value, members: &[&str], of: &str) -> Result<(), Error> {
    match members.iter().find(|member| !json::same(&value[**member], &Value::Null)) {
        Some(member) => Err(Error::not_implemented(format!("run.services.{of}.{member}"))),
        None => Ok(()),
    }
}

fn container(path: &str, container: &Value, concurrency: Option<i64>) -> Result<(), Error> {
    let field = |member: &str| format!("{path}.{member}");
    not_built(
        container,
        &["volumeMounts", "envFrom", "sandboxLauncher", "workingDir"],
        "template.containers",
    )?;
    let image = container["image"].as_str().unwrap_or_default();
    if image.is_empty() {
        return Err(Error::required(field("image")));
    }
    if image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::invalid(field("image"), image, "Unsupported image format."));
    }
    if let Some(name) = container["name"].as_str()
        && !vestibule_model::name::is_valid_name(name)
    {
        return Err(Error::invalid(field("name"), name, "Must be a DNS label."));
    }
    ports(&field("ports"), json::items(container, &["ports"]))?;
    env(&field("env"), json::items(container, &["env"]))?;
    limits(&field("resources.limits"), &container["resources"]["limits"], concurrency)?;
    probe(&field("startupProbe"), &container["startupProbe"], MAX_STARTUP_SECONDS)?;
    probe(&field("livenessProbe"), &container["livenessProbe"], MAX_LIVENESS_SECONDS)?;
    probe(&field("readinessProbe"), &container["readinessProbe"], MAX_LIVENESS_SECONDS)
}

fn ports(path: &str, ports: &[Value]) -> Result<(), Error> {
    if ports.len() > 1 {
        return Err(Error::invalid(path, ports.len(), "Only one port may be declared."));
    }
    for port in ports {
        within(&port["containerPort"], &format!("{path}[0].containerPort"), 1..=65535)?;
        let name = port["name"].as_str().unwrap_or_default();
        if !["http1", "h2c"].contains(&name) {
            return Err(Error::invalid(format!("{path}[0].name"), name, "Must be one of http1, h2c."));
        }
        if let Some(protocol) = json::text(port, &["protocol"])
            && protocol != "TCP"
        {
            return Err(Error::invalid(format!("{path}[0].protocol"), protocol, "Must be TCP."));
        }
    }
    Ok(())
}

fn env(path: &str, variables: &[Value]) -> Result<(), Error> {
    let mut reserved = Vec::new();
    for (index, variable) in variables.iter().enumerate() {
        let name = variable["name"].as_str().unwrap_or_default();
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Error::invalid(
                format!("{path}[{index}].name"),
                name,
                "Must be the name of a variable.",
            ));
        }
        if RESERVED_ENV.contains(&name) {
            reserved.push(name);
        }
        if variables[..index].iter().any(|earlier| earlier["name"] == name) {
            return Err(Error::invalid(format!("{path}[{index}].name"), name, "The name is given twice."));
        }
        if !json::same(&variable["valueFrom"], &Value::Null) {
            return Err(Error::not_implemented("run.services.template.containers.env.valueFrom"));
        }
    }
    if reserved.is_empty() {
        return Ok(());
    }
    let names = reserved.join(", ");
    let why = format!(
        "The following reserved env names were provided: {names}. These values are automatically set by the system."
    );
    Err(Error::invalid(path, names, why))
}

fn limits(path: &str, limits: &Value, concurrency: Option<i64>) -> Result<(), Error> {
    for (name, value) in json::strings(limits, &[]) {
        let field = format!("{path}.{name}");
        match name {
            "cpu" => {
                let cpu = template::millis(value).unwrap_or(0);
                let part = (MIN_CPU..1000).contains(&cpu);
                if !part && !CPUS.contains(&cpu) {
                    return Err(Error::invalid(
                        field,
                        value,
                        "Must be 1, 2, 4, 6 or 8, or between 0.08 and 1.",
                    ));
                }
                if part && concurrency.is_some_and(|concurrency| concurrency > 1) {
                    return Err(Error::invalid(
                        field,
                        value,
                        "Total cpu < 1 is not supported with concurrency > 1.",
                    ));
                }
            }
            "memory" => {
                if template::bytes(value).is_none_or(|bytes| bytes == 0) {
                    return Err(Error::invalid(field, value, "Must be a quantity such as 512Mi."));
                }
            }
            _ => {
                return Err(Error::not_implemented(format!(
                    "run.services.template.containers.resources.limits.{name}"
                )));
            }
        }
    }
    let cpu = json::text(limits, &["cpu"]).and_then(template::millis).unwrap_or(0);
    if let Some(memory) = json::text(limits, &["memory"])
        && cpu >= 4000
        && template::bytes(memory).unwrap_or(0) < MEMORY_FOR_MANY_CPUS
    {
        return Err(Error::invalid(
            format!("{path}.memory"),
            memory,
            "4 or more CPUs need at least 2Gi of memory.",
        ));
    }
    Ok(())
}

fn probe(path: &str, probe: &Value, longest: i64) -> Result<(), Error> {
    if probe.is_null() {
        return Ok(());
    }
    let field = |member: &str| format!("{path}.{member}");
    not_built(probe, &["exec"], "template.containers.probe")?;
    let handlers =
        ["httpGet", "tcpSocket", "grpc"].iter().filter(|handler| probe[**handler].is_object()).count();
    if handlers != 1 {
        return Err(Error::invalid(
            path,
            handlers,
            "Exactly one of httpGet, tcpSocket and grpc must be set.",
        ));
    }
    if let Some(host) = json::text(probe, &["httpGet", "host"]) {
        return Err(Error::invalid(field("httpGet.host"), host, "A host is not supported."));
    }
    within(&probe["initialDelaySeconds"], &field("initialDelaySeconds"), 0..=longest)?;
    within(&probe["periodSeconds"], &field("periodSeconds"), 1..=longest)?;
    within(&probe["timeoutSeconds"], &field("timeoutSeconds"), 1..=longest)?;
    within(&probe["failureThreshold"], &field("failureThreshold"), 1..=i64::from(i32::MAX))?;
    within(&probe["successThreshold"], &field("successThreshold"), 1..=1)?;
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        within(&probe[handler]["port"], &field(&format!("{handler}.port")), 1..=65535)?;
    }
    match (probe["periodSeconds"].as_i64(), probe["timeoutSeconds"].as_i64()) {
        (Some(period), Some(timeout)) if timeout > period => {
            Err(Error::invalid(field("timeoutSeconds"), timeout, "Must not be longer than periodSeconds."))
        }
        _ => Ok(()),
    }
}

/// Refuses a number outside a range. Absent is fine.
fn within(value: &Value, field: &str, allowed: std::ops::RangeInclusive<i64>) -> Result<(), Error> {
    match value {
        Value::Null => Ok(()),
        value if value.as_i64().is_some_and(|number| allowed.contains(&number)) => Ok(()),
        value => {
            let why = format!("Must be between {} and {}.", allowed.start(), allowed.end());
            Err(Error::invalid(field, value, why))
        }
    }
}

fn traffic(targets: &[Value], hosts: &Hosts) -> Result<(), Error> {
    let mut sum = 0;
    let mut tags: Vec<&str> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let field = |member: &str| format!("spec.traffic[{index}].{member}");
        let latest = target["latestRevision"].as_bool().unwrap_or(false);
        match (latest, json::text(target, &["revisionName"])) {
            (true, Some(name)) => {
                let why = "Must be empty if latestRevision is true.";
                return Err(Error::invalid(field("revisionName"), name, why));
            }
            (false, None) => {
                let why = "One of revisionName and latestRevision must be set.";
                return Err(Error::invalid(field("revisionName"), "", why));
            }
            _ => {}
        }
        if let Some(name) = json::text(target, &["configurationName"]) {
            return Err(Error::invalid(field("configurationName"), name, "Must be empty."));
        }
        within(&target["percent"], &field("percent"), 0..=100)?;
        sum += target["percent"].as_i64().unwrap_or(0);
        if let Some(tag) = json::text(target, &["tag"]) {
            hosts.check_tag(&field("tag"), tag)?;
            if tags.contains(&tag) {
                return Err(Error::invalid(field("tag"), tag, "A tag must be unique."));
            }
            tags.push(tag);
        }
    }
    if sum != 100 {
        return Err(Error::invalid("spec.traffic", sum, "Traffic percentages must add up to 100."));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
