//! What Cloud Run refuses in the containers and volumes of a template, of a service or of a job.

use std::collections::BTreeMap;

use serde_json::Value;

use super::within;
use crate::Error;
use crate::run::annotation::{
    CONTAINER_DEPENDENCIES, CPU_THROTTLING, EXECUTION_ENVIRONMENT, SECRETS, is_true,
};
use crate::run::{json, pod, template};

/// Most containers of one instance.
const MAX_CONTAINERS: usize = 10;
/// Longest period and delay of a startup probe, in seconds.
const MAX_STARTUP_SECONDS: i64 = 240;
/// Longest period and delay of a liveness probe, in seconds.
const MAX_LIVENESS_SECONDS: i64 = 3600;
/// Processors that a container may have; below one, any from 0.08.
const CPUS: [u64; 5] = [1000, 2000, 4000, 6000, 8000];
const MIN_CPU: u64 = 80;
/// Least and most memory in MiB of a container by its processors: the row of the first number, in thousandths, that it
/// does not exceed (Cloud Run's "minimum CPU and memory" tables).
const MEMORY: [(u64, u64, u64); 7] = [
    (499, 0, 512),
    (999, 0, 1 << 10),
    (1000, 0, 4 << 10),
    (2000, 0, 8 << 10),
    (4000, 2 << 10, 16 << 10),
    (6000, 4 << 10, 24 << 10),
    (8000, 4 << 10, 32 << 10),
];
/// Folders that no volume may hide, nor anything in them.
const SYSTEM_FOLDERS: [&str; 3] = ["/dev", "/proc", "/sys"];
/// Variables that the system sets in services.
const SERVICE_ENV: [&str; 4] = ["PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"];
/// Variables that the system sets in tasks of jobs.
const JOB_ENV: [&str; 5] = [
    "CLOUD_RUN_JOB",
    "CLOUD_RUN_EXECUTION",
    "CLOUD_RUN_TASK_INDEX",
    "CLOUD_RUN_TASK_ATTEMPT",
    "CLOUD_RUN_TASK_COUNT",
];
/// Greatest permission bits of a file.
const MAX_MODE: i64 = 0o777;

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Service,
    Job,
}

impl Kind {
    /// As method names have it.
    fn word(self) -> &'static str {
        match self {
            Kind::Service => "services",
            Kind::Job => "jobs",
        }
    }

    pub(in super::super) fn not_built(self, what: &str) -> Error {
        Error::not_built(format!("run.{}.template.{what}", self.word()))
    }

    /// Refuses members that are documented but not built, unless they say nothing.
    fn refuse(self, value: &Value, members: &[&str], of: &str) -> Result<(), Error> {
        match members.iter().find(|member| !json::same(&value[**member], &Value::Null)) {
            Some(member) => Err(self.not_built(&format!("{of}{member}"))),
            None => Ok(()),
        }
    }
}

/// Checks containers and volumes of a completed template; its specification is at `path`.
pub(in super::super) fn check(path: &str, template: &Value, kind: Kind) -> Result<(), Error> {
    let spec = &template["spec"];
    let members = ["nodeSelector", "sandboxes", "imagePullSecrets", "runtimeClassName"];
    kind.refuse(spec, &members, "")?;
    if spec["enableServiceLinks"] == true {
        return Err(kind.not_built("enableServiceLinks"));
    }
    aliases(template)?;
    let volumes = volumes(path, json::items(spec, &["volumes"]), kind)?;
    let containers = json::items(spec, &["containers"]);
    if containers.is_empty() {
        return Err(Error::required(format!("{path}.containers")));
    }
    for (index, value) in containers.iter().enumerate() {
        let path = format!("{path}.containers[{index}]");
        container(&path, value, kind)?;
        mounts(&format!("{path}.volumeMounts"), json::items(value, &["volumeMounts"]), &volumes)?;
    }
    if containers.len() > 1 {
        several(path, containers, kind)?;
    }
    if kind == Kind::Service {
        parts_of_a_cpu(path, template)?;
    }
    dependencies(template)
}

/// Checks what only matters where there are several containers.
fn several(path: &str, containers: &[Value], kind: Kind) -> Result<(), Error> {
    let path = format!("{path}.containers");
    if containers.len() > MAX_CONTAINERS {
        let why = format!("There may be at most {MAX_CONTAINERS} containers.");
        return Err(Error::invalid(path, containers.len(), why));
    }
    let mut names: Vec<&str> = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        // A container without a name is shown with a made-up one, which is unique.
        let Some(name) = json::text(container, &["name"]) else { continue };
        if names.contains(&name) {
            return Err(Error::invalid(format!("{path}[{index}].name"), name, "The name is given twice."));
        }
        names.push(name);
    }
    if kind == Kind::Job {
        return Ok(());
    }
    let listening = containers.iter().filter(|container| !json::items(container, &["ports"]).is_empty());
    match listening.count() {
        1 => Ok(()),
        count => {
            let why = "Exactly one container must have a port: the one that requests go to.";
            Err(Error::invalid(format!("{path}.ports"), count, why))
        }
    }
}

/// Checks that containers only wait for others, and not for each other.
fn dependencies(template: &Value) -> Result<(), Error> {
    let Some(text) = json::text(template, &["metadata", "annotations", CONTAINER_DEPENDENCIES]) else {
        return Ok(());
    };
    let refuse = |why: &str| {
        let field = format!("spec.template.metadata.annotations[{CONTAINER_DEPENDENCIES}]");
        Err(Error::invalid(field, text, why))
    };
    let Ok(mut waiting) = serde_json::from_str::<BTreeMap<String, Vec<String>>>(text) else {
        return refuse("Must be a JSON object of lists of names.");
    };
    let mut named = template["spec"].clone();
    template::name_containers(&mut named);
    let names: Vec<&str> = json::items(&named, &["containers"])
        .iter()
        .filter_map(|container| container["name"].as_str())
        .collect();
    let known = |name: &String| names.contains(&name.as_str());
    if !waiting.iter().all(|(name, others)| known(name) && others.iter().all(known)) {
        return refuse("Only containers of the template may be named.");
    }
    // Whoever waits for none of those that wait is taken off, until all are, or the rest wait for each other.
    while !waiting.is_empty() {
        let names: Vec<String> = waiting.keys().cloned().collect();
        waiting.retain(|_, others| others.iter().any(|other| names.contains(other)));
        if waiting.len() == names.len() {
            return refuse("Containers must not wait for each other.");
        }
    }
    Ok(())
}

fn aliases(template: &Value) -> Result<(), Error> {
    for (alias, full) in pod::aliases(template) {
        let good = matches!(
            full.split('/').collect::<Vec<_>>().as_slice(),
            ["projects", project, "secrets", secret] if !project.is_empty() && !secret.is_empty()
        );
        if !good || alias.is_empty() {
            let field = format!("spec.template.metadata.annotations[{SECRETS}]");
            return Err(Error::invalid(field, full, "Must be ALIAS:projects/PROJECT/secrets/SECRET."));
        }
    }
    Ok(())
}

/// What must be known of a volume to check mounts of it: its name, and whether it is a secret.
type Volumes<'a> = BTreeMap<&'a str, bool>;

fn volumes<'a>(path: &str, volumes: &'a [Value], kind: Kind) -> Result<Volumes<'a>, Error> {
    let mut known = Volumes::new();
    for (index, volume) in volumes.iter().enumerate() {
        let field = |member: &str| format!("{path}.volumes[{index}].{member}");
        let name = volume["name"].as_str().unwrap_or_default();
        if !vestibule_model::name::is_valid_name(name) {
            return Err(Error::invalid(field("name"), name, "Must be a DNS label."));
        }
        kind.refuse(volume, &["configMap", "csi", "nfs", "filestore"], "volumes.")?;
        let (memory, secret) = (&volume["emptyDir"], &volume["secret"]);
        match (memory.is_object(), secret.is_object()) {
            (true, false) => {
                if memory["medium"].as_str() == Some("Disk") {
                    return Err(kind.not_built("volumes.emptyDir.medium (Disk)"));
                }
                if let Some(limit) = json::text(memory, &["sizeLimit"])
                    && template::bytes(limit).is_none_or(|bytes| bytes == 0)
                {
                    return Err(Error::invalid(
                        field("emptyDir.sizeLimit"),
                        limit,
                        "Must be a quantity such as 512Mi.",
                    ));
                }
            }
            (false, true) => secret_volume(&field("secret"), secret)?,
            _ => {
                return Err(Error::invalid(field("name"), name, "Exactly one kind of volume must be given."));
            }
        }
        if known.insert(name, secret.is_object()).is_some() {
            return Err(Error::invalid(field("name"), name, "The name is given twice."));
        }
    }
    Ok(known)
}

fn secret_volume(path: &str, secret: &Value) -> Result<(), Error> {
    if json::text(secret, &["secretName"]).is_none() {
        return Err(Error::required(format!("{path}.secretName")));
    }
    within(&secret["defaultMode"], &format!("{path}.defaultMode"), 0..=MAX_MODE)?;
    let mut paths: Vec<&str> = Vec::new();
    for (index, item) in json::items(secret, &["items"]).iter().enumerate() {
        let field = |member: &str| format!("{path}.items[{index}].{member}");
        let file = item["path"].as_str().unwrap_or_default();
        let relative = !file.starts_with('/') && !file.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !relative {
            return Err(Error::invalid(field("path"), file, "Must be a relative path without '..'."));
        }
        if paths.contains(&file) {
            return Err(Error::invalid(field("path"), file, "The path is given twice."));
        }
        paths.push(file);
        if json::text(item, &["key"]).is_none() {
            return Err(Error::required(field("key")));
        }
        within(&item["mode"], &field("mode"), 0..=MAX_MODE)?;
    }
    Ok(())
}

fn mounts(path: &str, mounts: &[Value], volumes: &Volumes<'_>) -> Result<(), Error> {
    let mut paths: Vec<&str> = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let field = |member: &str| format!("{path}[{index}].{member}");
        let name = mount["name"].as_str().unwrap_or_default();
        let Some(is_secret) = volumes.get(name) else {
            return Err(Error::invalid(field("name"), name, "There is no such volume."));
        };
        let at = mount["mountPath"].as_str().unwrap_or_default();
        let absolute = at.len() > 1 && at.starts_with('/') && !at.contains([':', '\0']);
        if !absolute || at.split('/').any(|part| part == "..") {
            return Err(Error::invalid(field("mountPath"), at, "Must be an absolute path without ':'."));
        }
        let hides = |folder: &&&str| {
            at.strip_prefix(**folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(folder) = SYSTEM_FOLDERS.iter().find(hides) {
            let why = format!("Must not be {folder} or anything in it.");
            return Err(Error::invalid(field("mountPath"), at, why));
        }
        if paths.contains(&at) {
            return Err(Error::invalid(field("mountPath"), at, "The path is given twice."));
        }
        paths.push(at);
        if let Some(sub_path) = json::text(mount, &["subPath"]) {
            if *is_secret {
                return Err(Error::invalid(field("subPath"), sub_path, "It is not supported for secrets."));
            }
            if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
                return Err(Error::invalid(
                    field("subPath"),
                    sub_path,
                    "Must be a relative path without '..'.",
                ));
            }
        }
    }
    Ok(())
}

fn container(path: &str, container: &Value, kind: Kind) -> Result<(), Error> {
    let field = |member: &str| format!("{path}.{member}");
    kind.refuse(container, &["envFrom", "sandboxLauncher", "securityContext"], "containers.")?;
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
    if let Some(folder) = json::text(container, &["workingDir"])
        && !folder.starts_with('/')
    {
        return Err(Error::invalid(field("workingDir"), folder, "Must be an absolute path."));
    }
    ports(&field("ports"), json::items(container, &["ports"]), kind)?;
    env(&field("env"), json::items(container, &["env"]), kind)?;
    limits(&field("resources.limits"), &container["resources"]["limits"], kind)?;
    if kind == Kind::Job {
        kind.refuse(container, &["livenessProbe", "readinessProbe"], "containers.")?;
    }
    probe(&field("startupProbe"), &container["startupProbe"], MAX_STARTUP_SECONDS, kind)?;
    startup_time(&field("startupProbe"), &container["startupProbe"])?;
    probe(&field("livenessProbe"), &container["livenessProbe"], MAX_LIVENESS_SECONDS, kind)?;
    probe(&field("readinessProbe"), &container["readinessProbe"], MAX_LIVENESS_SECONDS, kind)
}

fn ports(path: &str, ports: &[Value], kind: Kind) -> Result<(), Error> {
    if kind == Kind::Job && !ports.is_empty() {
        return Err(Error::invalid(path, ports.len(), "A job has no ports."));
    }
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

fn env(path: &str, variables: &[Value], kind: Kind) -> Result<(), Error> {
    let of_system: &[&str] = if kind == Kind::Job { &JOB_ENV } else { &SERVICE_ENV };
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
        if of_system.contains(&name) {
            reserved.push(name);
        }
        if variables[..index].iter().any(|earlier| earlier["name"] == name) {
            return Err(Error::invalid(format!("{path}[{index}].name"), name, "The name is given twice."));
        }
        secret_variable(&format!("{path}[{index}]"), variable, kind)?;
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

fn secret_variable(path: &str, variable: &Value, kind: Kind) -> Result<(), Error> {
    let from = &variable["valueFrom"];
    if json::same(from, &Value::Null) {
        return Ok(());
    }
    kind.refuse(from, &["configMapKeyRef"], "containers.env.valueFrom.")?;
    if let Some(value) = json::text(variable, &["value"]) {
        return Err(Error::invalid(format!("{path}.value"), value, "Must be empty if valueFrom is set."));
    }
    for member in ["name", "key"] {
        if json::text(from, &["secretKeyRef", member]).is_none() {
            return Err(Error::required(format!("{path}.valueFrom.secretKeyRef.{member}")));
        }
    }
    Ok(())
}

/// What an instance with less than one processor can do: one request at a time, a processor only meanwhile, and the first
/// execution environment.
fn parts_of_a_cpu(path: &str, template: &Value) -> Result<(), Error> {
    let spec = &template["spec"];
    let containers = json::items(spec, &["containers"]);
    let texts = || containers.iter().filter_map(|c| json::text(c, &["resources", "limits", "cpu"]));
    let total: u64 = texts().filter_map(template::millis).sum();
    // A container that says nothing has a whole one.
    if texts().count() < containers.len() || total >= 1000 {
        return Ok(());
    }
    let annotation = |name: &str| json::text(template, &["metadata", "annotations", name]);
    let why = if spec["containerConcurrency"].as_i64().is_some_and(|concurrency| concurrency > 1) {
        "concurrency > 1"
    } else if annotation(CPU_THROTTLING).is_some_and(|throttled| !is_true(throttled)) {
        "cpu always allocated"
    } else if annotation(EXECUTION_ENVIRONMENT) == Some("gen2") {
        "execution environment gen2"
    } else {
        return Ok(());
    };
    let field = format!("{path}.containers[0].resources.limits.cpu");
    let why = format!("Total cpu < 1 is not supported with {why}.");
    Err(Error::invalid(field, texts().collect::<Vec<_>>().join(" + "), why))
}

fn limits(path: &str, limits: &Value, kind: Kind) -> Result<(), Error> {
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
            }
            "memory" => {
                if template::bytes(value).is_none_or(|bytes| bytes == 0) {
                    return Err(Error::invalid(field, value, "Must be a quantity such as 512Mi."));
                }
            }
            _ => return Err(kind.not_built(&format!("containers.resources.limits.{name}"))),
        }
    }
    memory_fits(path, limits)
}

/// Checks memory against processors. What is not said is what it would be.
fn memory_fits(path: &str, limits: &Value) -> Result<(), Error> {
    let said =
        |name: &'static str, default: &'static str| json::text(limits, &[name]).unwrap_or(default).to_owned();
    let (cpu, memory) = (said("cpu", template::DEFAULT_CPU), said("memory", template::DEFAULT_MEMORY));
    let (millis, bytes) = (template::millis(&cpu).unwrap_or(0), template::bytes(&memory).unwrap_or(0));
    let Some((_, least, most)) = MEMORY.iter().find(|(upto, ..)| millis <= *upto) else { return Ok(()) };
    if (least << 20..=most << 20).contains(&bytes) {
        return Ok(());
    }
    let bounds = match least {
        0 => format!("at most {most}Mi"),
        least => format!("between {least}Mi and {most}Mi inclusive"),
    };
    let why = format!("Invalid value specified for memory. For {cpu} CPU, memory must be {bounds}.");
    Err(Error::invalid(format!("{path}.memory"), memory, why))
}

/// All tries of a startup probe together must end in time.
fn startup_time(path: &str, probe: &Value) -> Result<(), Error> {
    let number = |member: &str, default: i64| probe[member].as_i64().filter(|n| *n != 0).unwrap_or(default);
    let total = number("periodSeconds", 10).saturating_mul(number("failureThreshold", 3));
    if probe.is_null() || total <= MAX_STARTUP_SECONDS {
        return Ok(());
    }
    let why =
        format!("failureThreshold times periodSeconds must not be more than {MAX_STARTUP_SECONDS} seconds.");
    Err(Error::invalid(format!("{path}.failureThreshold"), total, why))
}

fn probe(path: &str, probe: &Value, longest: i64, kind: Kind) -> Result<(), Error> {
    if probe.is_null() {
        return Ok(());
    }
    let field = |member: &str| format!("{path}.{member}");
    kind.refuse(probe, &["exec"], "containers.probe.")?;
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
    if let Some(scheme) = json::text(probe, &["httpGet", "scheme"]) {
        return Err(Error::invalid(field("httpGet.scheme"), scheme, "A scheme is not supported."));
    }
    within(&probe["initialDelaySeconds"], &field("initialDelaySeconds"), 0..=longest)?;
    within(&probe["periodSeconds"], &field("periodSeconds"), 1..=longest)?;
    within(&probe["timeoutSeconds"], &field("timeoutSeconds"), 1..=longest)?;
    within(&probe["failureThreshold"], &field("failureThreshold"), 1..=i64::from(i32::MAX))?;
    within(&probe["successThreshold"], &field("successThreshold"), 1..=1)?;
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        within(&probe[handler]["port"], &field(&format!("{handler}.port")), 1..=65535)?;
    }
    // Elsewhere it is the port for requests that is probed where none is named.
    let nameless = |handler: &&&str| probe[**handler].is_object() && probe[**handler]["port"].is_null();
    if kind == Kind::Job
        && let Some(handler) = ["httpGet", "tcpSocket", "grpc"].iter().find(nameless)
    {
        return Err(Error::required(field(&format!("{handler}.port"))));
    }
    match (probe["periodSeconds"].as_i64(), probe["timeoutSeconds"].as_i64()) {
        (Some(period), Some(timeout)) if timeout > period => {
            Err(Error::invalid(field("timeoutSeconds"), timeout, "Must not be longer than periodSeconds."))
        }
        _ => Ok(()),
    }
}
