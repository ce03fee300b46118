//! From the containers and volumes of a template to what the runtime should start.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use vestibule_run::desired::{
    Container, Mount, Probe, ProbeKind, SecretEnv, SecretFile, SecretRef, Volume, VolumeSource,
};

use super::annotation::{CONTAINER_DEPENDENCIES, SECRETS};
use super::name::Name;
use super::{json, template};

/// Permission bits of a secret's file, where nobody says. `SecretVolumeSource.defaultMode`.
const DEFAULT_MODE: u32 = 0o444;
/// Bits that a secret's file never has. `SecretVolumeSource.defaultMode`.
const UMASK: u32 = 0o222;

/// A template that is to be read: of a revision, or of the tasks of a job.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// Whose it is.
    pub(super) of: &'a Name,
    /// A document with the template's metadata and specification.
    pub(super) document: &'a Value,
    /// Where the specification is in what clients write, for messages.
    pub(super) path: &'static str,
}

/// All containers of a template, in its order. `port` is the one for requests; a job has none.
pub(super) fn containers(source: Source<'_>, port: Option<u16>) -> Vec<Container> {
    let mut named = source.document["spec"].clone();
    template::name_containers(&mut named);
    let dependencies = dependencies(source.document);
    let ingress = template::ingress(&named);
    let containers = json::items(&named, &["containers"]).iter().enumerate();
    let compiled = containers.map(|(index, value)| {
        let mut container = container(source, index, value, port.unwrap_or_default());
        if let Some(port) = port
            && index == ingress
        {
            container.startup_probe.get_or_insert_with(|| Probe::default_tcp(port));
        }
        container.depends_on = dependencies.get(&container.name).cloned().unwrap_or_default();
        container
    });
    compiled.collect()
}

fn container(source: Source<'_>, index: usize, container: &Value, port: u16) -> Container {
    let texts = |member: &str| -> Vec<String> {
        json::items(container, &[member]).iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let limits = json::strings(container, &["resources", "limits"]);
    let mut limits: BTreeMap<String, String> = limits.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    for (resource, default) in [("cpu", template::DEFAULT_CPU), ("memory", template::DEFAULT_MEMORY)] {
        limits.entry(resource.to_owned()).or_insert_with(|| default.to_owned());
    }
    let (env, secret_env) = env(source, index, container);
    Container {
        name: container["name"].as_str().unwrap_or_default().to_owned(),
        image: container["image"].as_str().unwrap_or_default().to_owned(),
        command: texts("command"),
        args: texts("args"),
        working_dir: json::text(container, &["workingDir"]).map(str::to_owned),
        env,
        secret_env,
        limits,
        mounts: json::items(container, &["volumeMounts"]).iter().map(mount).collect(),
        startup_probe: probe(&container["startupProbe"], port),
        liveness_probe: probe(&container["livenessProbe"], port),
        readiness_probe: probe(&container["readinessProbe"], port),
        depends_on: Vec::new(),
    }
}

/// Variables with values, and variables with secrets.
fn env(source: Source<'_>, index: usize, container: &Value) -> (Vec<(String, String)>, Vec<SecretEnv>) {
    let (mut plain, mut secret) = (Vec::new(), Vec::new());
    for (at, variable) in json::items(container, &["env"]).iter().enumerate() {
        let Some(name) = variable["name"].as_str() else { continue };
        let reference = &variable["valueFrom"]["secretKeyRef"];
        if let Some(secret_name) = json::text(reference, &["name"]) {
            let field =
                format!("{}.containers[{index}].env[{at}].value_from.secret_key_ref.name", source.path);
            let secret_ref = secret_ref(source, secret_name, &reference["key"]);
            secret.push(SecretEnv { name: name.to_owned(), secret: secret_ref, field });
        } else {
            let value = variable["value"].as_str().unwrap_or_default();
            plain.push((name.to_owned(), value.to_owned()));
        }
    }
    (plain, secret)
}

/// What a secret's name in a template leads to: `projects/P/secrets/S`, an alias of the annotation, or a secret of the
/// same project.
fn secret_ref(source: Source<'_>, name: &str, version: &Value) -> SecretRef {
    let full = match aliases(source.document).find(|(alias, _)| *alias == name) {
        Some((_, full)) => full,
        None => name,
    };
    let (project, secret) = match full.split('/').collect::<Vec<_>>().as_slice() {
        ["projects", project, "secrets", secret] => (*project, *secret),
        _ => (source.of.project.as_str(), full),
    };
    let version = version.as_str().filter(|version| !version.is_empty()).unwrap_or("latest");
    SecretRef { project: project.to_owned(), secret: secret.to_owned(), version: version.to_owned() }
}

/// The aliases of a template: `ALIAS:projects/P/secrets/S`, separated by commas.
pub(super) fn aliases(document: &Value) -> impl Iterator<Item = (&str, &str)> {
    let list = json::text(document, &["metadata", "annotations", SECRETS]).unwrap_or_default();
    list.split(',').filter_map(|entry| entry.trim().split_once(':'))
}

/// Names of containers by the name of the container that waits for them.
pub(super) fn dependencies(document: &Value) -> BTreeMap<String, Vec<String>> {
    let list = json::text(document, &["metadata", "annotations", CONTAINER_DEPENDENCIES]);
    list.and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
}

fn mount(mount: &Value) -> Mount {
    let text = |member: &str| mount[member].as_str().unwrap_or_default().to_owned();
    Mount {
        volume: text("name"),
        path: text("mountPath"),
        read_only: mount["readOnly"].as_bool().unwrap_or(false),
        sub_path: text("subPath"),
    }
}

/// All volumes of a template.
pub(super) fn volumes(source: Source<'_>) -> Vec<Volume> {
    let volumes = json::items(source.document, &["spec", "volumes"]).iter().enumerate();
    let compiled = volumes.map(|(index, volume)| {
        let source = match &volume["secret"] {
            secret @ Value::Object(_) => VolumeSource::Secret(files(source, index, secret)),
            _ => {
                let limit = json::text(volume, &["emptyDir", "sizeLimit"]);
                VolumeSource::Memory { size_limit: limit.and_then(template::bytes) }
            }
        };
        Volume { name: volume["name"].as_str().unwrap_or_default().to_owned(), source }
    });
    compiled.collect()
}

/// The files of a secret volume. Without items, one with the secret's name and newest version.
fn files(source: Source<'_>, index: usize, secret: &Value) -> Vec<SecretFile> {
    let name = secret["secretName"].as_str().unwrap_or_default();
    let field = format!("{}.volumes[{index}].secret.secret_name", source.path);
    let mode = |value: &Value| value.as_u64().filter(|mode| *mode > 0).map(|mode| mode as u32 & !UMASK);
    let default_mode = mode(&secret["defaultMode"]).unwrap_or(DEFAULT_MODE);
    let file = |path: &str, version: &Value, mode| SecretFile {
        path: path.to_owned(),
        secret: secret_ref(source, name, version),
        mode,
        field: field.clone(),
    };
    match json::items(secret, &["items"]) {
        [] => vec![file(name.rsplit('/').next().unwrap_or(name), &Value::Null, default_mode)],
        items => {
            let of_item = |item: &Value| {
                let path = item["path"].as_str().unwrap_or_default();
                file(path, &item["key"], mode(&item["mode"]).unwrap_or(default_mode))
            };
            items.iter().map(of_item).collect()
        }
    }
}

/// A probe, if there is one. `port` is probed where it names none.
fn probe(probe: &Value, port: u16) -> Option<Probe> {
    let seconds = |member: &str, default: u64| Duration::from_secs(probe[member].as_u64().unwrap_or(default));
    let own_port = |handler: &str| {
        let own = probe[handler]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        own.filter(|port| *port != 0).unwrap_or(port)
    };
    let kind = if probe["httpGet"].is_object() {
        let header = |header: &Value| {
            let value = header["value"].as_str().unwrap_or_default().to_owned();
            Some((header["name"].as_str()?.to_owned(), value))
        };
        ProbeKind::Http {
            port: own_port("httpGet"),
            path: json::text(probe, &["httpGet", "path"]).unwrap_or("/").to_owned(),
            headers: json::items(probe, &["httpGet", "httpHeaders"]).iter().filter_map(header).collect(),
        }
    } else if probe["grpc"].is_object() {
        let service = json::text(probe, &["grpc", "service"]).unwrap_or_default().to_owned();
        ProbeKind::Grpc { port: own_port("grpc"), service }
    } else if probe["tcpSocket"].is_object() {
        ProbeKind::Tcp { port: own_port("tcpSocket") }
    } else {
        return None;
    };
    let threshold = probe["failureThreshold"].as_u64().unwrap_or(3);
    Some(Probe {
        kind,
        initial_delay: seconds("initialDelaySeconds", 0),
        period: seconds("periodSeconds", 10),
        timeout: seconds("timeoutSeconds", 1),
        failure_threshold: u32::try_from(threshold).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests;
