//! What services and templates say in annotations and labels.

use serde_json::{Map, Value, json};

use super::{Shape, object, set_or_default};
use crate::gcloud::error::Failure;
use crate::gcloud::invocation::Invocation;

const METADATA: &[&str] = &["metadata", "annotations"];

/// Annotations of a service itself.
pub fn service(inv: &Invocation<'_>, service: &mut Value) {
    let args = &inv.args;
    let map = object(service, METADATA);
    for (flag, name) in
        [("ingress", "run.googleapis.com/ingress"), ("description", "run.googleapis.com/description")]
    {
        if let Some(value) = args.text(flag) {
            map.insert(name.into(), json!(value));
        }
    }
    for (flag, name) in [("min", "run.googleapis.com/minScale"), ("max", "run.googleapis.com/maxScale")] {
        if let Some(value) = args.text(flag) {
            set_or_default(map, name, value);
        }
    }
    match args.text("scaling") {
        Some("auto") => {
            map.insert("run.googleapis.com/scalingMode".into(), json!("automatic"));
            map.remove("run.googleapis.com/manualInstanceCount");
        }
        Some(count) => {
            map.insert("run.googleapis.com/scalingMode".into(), json!("manual"));
            map.insert("run.googleapis.com/manualInstanceCount".into(), json!(count));
        }
        None => {}
    }
    let inverted = [
        ("default-url", "run.googleapis.com/default-url-disabled"),
        ("invoker-iam-check", "run.googleapis.com/invoker-iam-disabled"),
    ];
    for (flag, name) in inverted {
        match args.toggle(flag) {
            Some(true) => drop(map.remove(name)),
            Some(false) => drop(map.insert(name.into(), json!("true"))),
            None => {}
        }
    }
}

/// Labels stand on the service or job, and on its template.
pub fn labels(inv: &Invocation<'_>, document: &mut Value, shape: &Shape) {
    let args = &inv.args;
    if !args.has_any(&["labels", "update-labels", "remove-labels", "clear-labels"]) {
        return;
    }
    let template = [shape.template, &["metadata", "labels"]].concat();
    for path in [&["metadata", "labels"][..], &template] {
        let map = object(document, path);
        if args.on("clear-labels") {
            map.retain(|name, _| name.contains('/'));
        }
        for name in args.list("remove-labels").unwrap_or_default() {
            map.remove(name);
        }
        for (name, value) in args.pairs("labels").or_else(|| args.pairs("update-labels")).unwrap_or_default()
        {
            map.insert(name.clone(), json!(value));
        }
    }
}

/// Annotations of a template.
pub fn template(inv: &Invocation<'_>, document: &mut Value, shape: &Shape) -> Result<(), Failure> {
    let args = &inv.args;
    let map = object(document, &[shape.template, METADATA].concat());
    let numbers = [
        ("min-instances", "autoscaling.knative.dev/minScale"),
        ("max-instances", "autoscaling.knative.dev/maxScale"),
    ];
    for (flag, name) in numbers {
        if let Some(value) = args.text(flag) {
            set_or_default(map, name, value);
        }
    }
    let texts = [
        ("execution-environment", "run.googleapis.com/execution-environment"),
        ("vpc-connector", "run.googleapis.com/vpc-access-connector"),
        ("vpc-egress", "run.googleapis.com/vpc-access-egress"),
    ];
    for (flag, name) in texts {
        if let Some(value) = args.text(flag) {
            map.insert(name.into(), json!(value));
        }
    }
    if args.on("clear-vpc-connector") {
        map.remove("run.googleapis.com/vpc-access-connector");
        map.remove("run.googleapis.com/vpc-access-egress");
    }
    for (flag, name) in [
        ("cpu-throttling", "run.googleapis.com/cpu-throttling"),
        ("cpu-boost", "run.googleapis.com/startup-cpu-boost"),
    ] {
        if let Some(on) = args.toggle(flag) {
            map.insert(name.into(), json!(if on { "True" } else { "False" }));
        }
    }
    if let Some(on) = args.toggle("deploy-health-check") {
        let disabled = if on { "False" } else { "True" };
        map.insert("run.googleapis.com/health-check-disabled".into(), json!(disabled));
    }
    match args.toggle("session-affinity") {
        Some(true) => drop(map.insert("run.googleapis.com/sessionAffinity".into(), json!("true"))),
        Some(false) => drop(map.remove("run.googleapis.com/sessionAffinity")),
        None => {}
    }
    network_interfaces(inv, map)
}

const INTERFACES: &str = "run.googleapis.com/network-interfaces";

fn network_interfaces(inv: &Invocation<'_>, map: &mut Map<String, Value>) -> Result<(), Failure> {
    let args = &inv.args;
    if args.on("clear-network") {
        map.remove(INTERFACES);
    }
    if !args.has_any(&["network", "subnet", "network-tags"]) {
        return Ok(());
    }
    let held =
        map.get(INTERFACES).and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let held = held.and_then(|list| list.get(0).cloned()).unwrap_or_else(|| json!({}));
    let mut parts = Vec::new();
    for (flag, field) in [("network", "network"), ("subnet", "subnetwork")] {
        let value = args.text(flag).map(str::to_owned);
        if let Some(value) = value.or_else(|| held.get(field)?.as_str().map(str::to_owned)) {
            parts.push(format!("{}: {}", json!(field), json!(value)));
        }
    }
    let tags = args.list("network-tags").map(|tags| json!(tags)).or_else(|| held.get("tags").cloned());
    if let Some(tags) = tags {
        let tags: Vec<String> = tags.as_array().into_iter().flatten().map(Value::to_string).collect();
        parts.push(format!("\"tags\": [{}]", tags.join(", ")));
    }
    map.insert(INTERFACES.into(), json!(format!("[{{{}}}]", parts.join(", "))));
    Ok(())
}

const AUDIENCES: &str = "run.googleapis.com/custom-audiences";

/// Further audiences of identity tokens.
pub fn audiences(inv: &Invocation<'_>, service: &mut Value) {
    let args = &inv.args;
    let flags =
        ["add-custom-audiences", "set-custom-audiences", "remove-custom-audiences", "clear-custom-audiences"];
    if !args.has_any(&flags) {
        return;
    }
    let map = object(service, METADATA);
    let held = map
        .get(AUDIENCES)
        .and_then(Value::as_str)
        .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    let mut all = if args.has_any(&["set-custom-audiences", "clear-custom-audiences"]) {
        Vec::new()
    } else {
        held.unwrap_or_default()
    };
    let removed = args.list("remove-custom-audiences").unwrap_or_default();
    all.retain(|audience| !removed.contains(audience));
    for flag in ["set-custom-audiences", "add-custom-audiences"] {
        for audience in args.list(flag).unwrap_or_default() {
            if !all.contains(audience) {
                all.push(audience.clone());
            }
        }
    }
    match all.is_empty() {
        true => drop(map.remove(AUDIENCES)),
        false => drop(map.insert(AUDIENCES.into(), json!(json!(all).to_string()))),
    }
}

const DEPENDENCIES: &str = "run.googleapis.com/container-dependencies";

/// Changes what is said about which container starts after which.
pub fn dependencies(
    document: &mut Value,
    shape: &Shape,
    change: impl FnOnce(&mut std::collections::BTreeMap<String, Vec<String>>),
) {
    let map = object(document, &[shape.template, METADATA].concat());
    let held = map.get(DEPENDENCIES).and_then(Value::as_str);
    let mut all = held.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    change(&mut all);
    all.retain(|_, on| !on.is_empty());
    match all.is_empty() {
        true => drop(map.remove(DEPENDENCIES)),
        false => drop(map.insert(DEPENDENCIES.into(), json!(json!(all).to_string()))),
    }
}
