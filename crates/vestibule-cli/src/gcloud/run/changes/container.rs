//! What flags change in containers.

use serde_json::{Map, Value, json};

use super::{Shape, annotations, list, object, tidy, volumes};
use crate::gcloud::error::Failure;
use crate::gcloud::files::read_file;
use crate::gcloud::grammar::Args;
use crate::gcloud::invocation::Invocation;

/// Changes each container that the command line names, or the only one.
pub fn all(inv: &Invocation<'_>, document: &mut Value, shape: &Shape) -> Result<(), Failure> {
    remove(inv, document, shape);
    if inv.args.containers().is_empty() {
        return one(inv, &inv.args, document, shape, 0);
    }
    for (name, _) in inv.args.containers() {
        let containers = list(object(document, shape.pod), "containers");
        // A new document begins with one that nobody has named.
        containers.retain(|container| container != &json!({"name": ""}));
        if !containers.iter().any(|container| container["name"] == **name) {
            containers.push(json!({"name": name}));
        }
    }
    for (name, args) in inv.args.containers() {
        let containers = list(object(document, shape.pod), "containers");
        let at = containers.iter().position(|container| container["name"] == **name);
        one(inv, args, document, shape, at.unwrap_or(0))?;
    }
    Ok(())
}

/// `--remove-containers`.
fn remove(inv: &Invocation<'_>, document: &mut Value, shape: &Shape) {
    let Some(removed) = inv.args.list("remove-containers") else { return };
    let is_removed = |name: &str| removed.iter().any(|removed| removed == name);
    let pod = object(document, shape.pod);
    list(pod, "containers").retain(|container| !container["name"].as_str().is_some_and(is_removed));
    annotations::dependencies(document, shape, |all| {
        all.retain(|name, _| !is_removed(name));
        all.values_mut().for_each(|on| on.retain(|name| !is_removed(name)));
    });
}

/// Changes one container.
fn one(
    inv: &Invocation<'_>,
    args: &Args,
    document: &mut Value,
    shape: &Shape,
    at: usize,
) -> Result<(), Failure> {
    let set = variables(inv, args)?;
    let container = container(document, shape, at);
    program(args, container)?;
    environment(args, container, set);
    volumes::secrets(args, document, shape, at)?;
    volumes::mounts(args, self::container(document, shape, at))?;
    probes(args, self::container(document, shape, at));
    depends_on(args, document, shape, at)
}

/// A container by its place, made where it is missing.
pub fn container<'v>(document: &'v mut Value, shape: &Shape, at: usize) -> &'v mut Map<String, Value> {
    let containers = list(object(document, shape.pod), "containers");
    if containers.len() <= at {
        containers.resize(at + 1, json!({}));
    }
    object(&mut containers[at], &[])
}

fn program(args: &Args, container: &mut Map<String, Value>) -> Result<(), Failure> {
    for (flag, field) in [("image", "image"), ("workdir", "workingDir")] {
        match args.text(flag) {
            Some("") => drop(container.remove(field)),
            Some(text) => drop(container.insert(field.into(), json!(text))),
            None => {}
        }
    }
    for flag in ["command", "args"] {
        match args.list(flag) {
            Some([]) => drop(container.remove(flag)),
            Some(words) => drop(container.insert(flag.into(), json!(words))),
            None => {}
        }
    }
    for resource in ["cpu", "memory"] {
        if let Some(amount) = args.text(resource) {
            let resources =
                container.entry("resources").or_insert_with(|| json!({"limits": {}, "requests": {}}));
            object(resources, &["limits"]).insert(resource.into(), json!(amount));
        }
    }
    port(args, container)
}

fn port(args: &Args, container: &mut Map<String, Value>) -> Result<(), Failure> {
    match args.text("port") {
        Some("default") => drop(container.remove("ports")),
        Some(text) => {
            let number: i64 = text
                .parse()
                .map_err(|_| Failure::new(format!("argument --port: Invalid int value: [{text}]")))?;
            let ports = container.entry("ports").or_insert_with(|| json!([{}]));
            object(&mut ports[0], &[]).insert("containerPort".into(), json!(number));
        }
        None => {}
    }
    if let Some(on) = args.toggle("use-http2") {
        let ports = container.entry("ports").or_insert_with(|| json!([{"containerPort": 8080}]));
        object(&mut ports[0], &[]).insert("name".into(), json!(if on { "h2c" } else { "http1" }));
    }
    Ok(())
}

/// Changes the list of variables of one sort and leaves the others, in their order.
pub fn change_env(
    container: &mut Map<String, Value>,
    is_ours: fn(&Value) -> bool,
    clear: bool,
    remove: &[String],
    set: Vec<(String, Value)>,
) {
    let variables = list(container, "env");
    let name = |variable: &Value| variable["name"].as_str().unwrap_or_default().to_owned();
    variables.retain(|variable| !(is_ours(variable) && (clear || remove.contains(&name(variable)))));
    for (key, mut value) in set {
        value["name"] = json!(key);
        match variables.iter_mut().find(|variable| name(variable) == key) {
            Some(old) => *old = value,
            None => variables.push(value),
        }
    }
    tidy(container, "env");
}

/// Variables to set.
fn variables(inv: &Invocation<'_>, args: &Args) -> Result<Vec<(String, String)>, Failure> {
    let given = args.pairs("set-env-vars").or_else(|| args.pairs("update-env-vars"));
    let mut set = given.unwrap_or_default().to_vec();
    if let Some(file) = args.text("env-vars-file") {
        let text = read_file(inv, file)?;
        let values: std::collections::BTreeMap<String, String> = serde_yaml_ng::from_str(&text)
            .map_err(|error| Failure::new(format!("argument --env-vars-file: {error}")))?;
        set.extend(values);
    }
    Ok(set)
}

fn environment(args: &Args, container: &mut Map<String, Value>, set: Vec<(String, String)>) {
    let clear = args.has_any(&["set-env-vars", "env-vars-file", "clear-env-vars"]);
    let remove = args.list("remove-env-vars").unwrap_or_default();
    if clear || !remove.is_empty() || !set.is_empty() {
        let set = set.into_iter().map(|(key, value)| (key, json!({"value": value}))).collect();
        change_env(container, |variable| variable.get("valueFrom").is_none(), clear, remove, set);
    }
}

/// `--startup-probe=httpGet.path=/x,periodSeconds=1`: dotted keys become objects, numbers numbers.
fn probes(args: &Args, container: &mut Map<String, Value>) {
    for (flag, field) in [
        ("startup-probe", "startupProbe"),
        ("liveness-probe", "livenessProbe"),
        ("readiness-probe", "readinessProbe"),
    ] {
        let Some(pairs) = args.pairs(flag) else { continue };
        let mut probe = json!({});
        for (key, value) in pairs {
            let mut steps: Vec<&str> = key.split('.').collect();
            let last = steps.pop().unwrap_or_default();
            let value = value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number));
            object(&mut probe, &steps).insert(last.to_owned(), value);
        }
        match pairs.is_empty() {
            true => drop(container.remove(field)),
            false => drop(container.insert(field.into(), probe)),
        }
    }
}

/// `--depends-on`.
fn depends_on(args: &Args, document: &mut Value, shape: &Shape, at: usize) -> Result<(), Failure> {
    let Some(on) = args.list("depends-on") else { return Ok(()) };
    let containers = list(object(document, shape.pod), "containers");
    let names: Vec<String> = containers
        .iter()
        .map(|container| container["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    let name = names.get(at).cloned().unwrap_or_default();
    let missing: Vec<&str> = on.iter().filter(|on| !names.contains(on)).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(Failure::new(format!(
            "--depends_on for container {name} references nonexistent containers: {}.",
            missing.join(",")
        )));
    }
    let mut on = on.to_vec();
    on.sort();
    on.dedup();
    annotations::dependencies(document, shape, |all| drop(all.insert(name, on)));
    Ok(())
}
