//! What the flags of `deploy` and `services update` change in a service.
//!
//! A change is a function on the document, so that creating and updating are the same code: one starts from an empty
//! service, the other from the one that was read.

use serde_json::{Map, Value, json};

use crate::gcloud::error::Failure;
use crate::gcloud::files::read_file;
use crate::gcloud::grammar::{self, Flag, Misuse, Rule};
use crate::gcloud::invocation::Invocation;

const INGRESS: &[&str] = &["all", "internal", "internal-and-cloud-load-balancing"];
const EGRESS: &[&str] = &["all", "all-traffic", "private-ranges-only"];

/// The flags that `deploy` and `services update` share.
pub fn flags() -> Vec<Flag> {
    vec![
        Flag::text("image", "The container image, such as gcr.io/cloudrun/hello."),
        Flag::choice(
            "ingress",
            INGRESS,
            "Who may reach the service without its being refused. Default: all.",
        ),
        Flag::text("port", "The port that the container listens on, or default. Default: 8080."),
        Flag::list("command", "The program to run instead of the image's.").metavar("COMMAND"),
        Flag::list("args", "Its arguments.").metavar("ARG"),
        Flag::text("memory", "The memory limit, such as 512Mi."),
        Flag::text("cpu", "The CPU limit, such as 1 or 500m."),
        Flag::text("concurrency", "Requests at once in one instance, or default. Default: 80."),
        Flag::text("timeout", "How long a request may take, such as 300 or 5m. Default: 300 s."),
        Flag::text("min-instances", "Instances of the revision that are kept, or default."),
        Flag::text("max-instances", "The most instances of the revision, or default."),
        Flag::text("min", "Instances of the service that are kept, or default."),
        Flag::text("max", "The most instances of the service, or default."),
        Flag::text("scaling", "auto, or a fixed number of instances."),
        Flag::text("service-account", "Who the service is."),
        Flag::pairs("set-env-vars", "All environment variables."),
        Flag::pairs("update-env-vars", "Environment variables to set."),
        Flag::list("remove-env-vars", "Environment variables to drop.").metavar("KEY"),
        Flag::switch("clear-env-vars", "Drops all environment variables."),
        Flag::text("env-vars-file", "A YAML file with all environment variables."),
        Flag::pairs("set-secrets", "All variables from secrets: NAME=SECRET:VERSION."),
        Flag::pairs("update-secrets", "Variables from secrets to set."),
        Flag::list("remove-secrets", "Variables from secrets to drop.").metavar("KEY"),
        Flag::switch("clear-secrets", "Drops all variables from secrets."),
        Flag::pairs("labels", "Labels to set; as --update-labels."),
        Flag::pairs("update-labels", "Labels to set."),
        Flag::list("remove-labels", "Labels to drop.").metavar("KEY"),
        Flag::switch("clear-labels", "Drops all labels."),
        Flag::text("vpc-connector", "The connector into a VPC network."),
        Flag::switch("clear-vpc-connector", "Drops the connector."),
        Flag::choice("vpc-egress", EGRESS, "Which traffic goes through the VPC network."),
        Flag::text("network", "The VPC network that instances reach directly."),
        Flag::text("subnet", "The subnet that instances take addresses from."),
        Flag::list("network-tags", "Tags of the instances in the network.").metavar("TAG"),
        Flag::switch("clear-network", "Takes the instances out of the network."),
        Flag::choice("execution-environment", &["gen1", "gen2"], "The sandbox."),
        Flag::toggle("cpu-throttling", "Gives CPU only while requests are served."),
        Flag::toggle("cpu-boost", "Gives more CPU while an instance starts."),
        Flag::toggle("session-affinity", "Keeps a client with an instance."),
        Flag::toggle("use-http2", "Speaks HTTP/2 without TLS to the container."),
        Flag::toggle("default-url", "Whether the service has its run.app URL."),
        Flag::toggle("invoker-iam-check", "Whether callers need run.invoker."),
        Flag::list("add-custom-audiences", "Audiences of identity tokens to accept as well.")
            .metavar("AUDIENCE"),
        Flag::list("set-custom-audiences", "All further audiences.").metavar("AUDIENCE"),
        Flag::list("remove-custom-audiences", "Audiences to drop.").metavar("AUDIENCE"),
        Flag::switch("clear-custom-audiences", "Drops all further audiences."),
        Flag::pairs(
            "startup-probe",
            "When an instance has started, such as httpGet.path=/ready,periodSeconds=1.",
        ),
        Flag::pairs("liveness-probe", "Whether an instance still works."),
        Flag::pairs("readiness-probe", "Whether an instance may get requests."),
        Flag::text("description", "What the service is for."),
        Flag::text("revision-suffix", "The end of the new revision's name."),
        Flag::text("tag", "A traffic tag for the new revision."),
        Flag::toggle("traffic", "--no-traffic leaves the traffic with the revisions that have it.")
            .shown_negated(),
        Flag::switch("async", "Return at once."),
    ]
}

/// Rules between them.
pub fn rules() -> Vec<Rule> {
    vec![
        Rule::Exclusive(vec![
            vec!["set-env-vars"],
            vec!["env-vars-file"],
            vec!["clear-env-vars"],
            vec!["update-env-vars", "remove-env-vars"],
        ]),
        Rule::Exclusive(vec![
            vec!["set-secrets"],
            vec!["clear-secrets"],
            vec!["update-secrets", "remove-secrets"],
        ]),
        Rule::Exclusive(vec![vec!["labels"], vec!["update-labels"]]),
    ]
}

/// Whether any of the flags above asks for a change (waiting or not is none).
pub fn any_asked(inv: &Invocation<'_>) -> bool {
    let changes = flags().into_iter().filter(|flag| !matches!(flag.name, "async" | "traffic" | "tag"));
    changes.into_iter().any(|flag| inv.args.has(flag.name)) || inv.args.has("tag") || inv.args.has("traffic")
}

/// Applies all flags but those for the revision's name and the traffic.
pub fn apply(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    service_annotations(inv, service);
    labels(inv, service);
    template_annotations(inv, service)?;
    template_spec(inv, service)?;
    container(inv, service)?;
    environment(inv, service)?;
    secrets(inv, service)?;
    audiences(inv, service);
    probes(inv, service)
}

/// The object at `pointer`, made where it is missing.
pub fn object<'v>(value: &'v mut Value, path: &[&str]) -> &'v mut Map<String, Value> {
    let mut place = value;
    for step in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[*step];
    }
    if !place.is_object() {
        *place = json!({});
    }
    match place {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

const METADATA: &[&str] = &["metadata", "annotations"];
const TEMPLATE: &[&str] = &["spec", "template", "metadata", "annotations"];
const SPEC: &[&str] = &["spec", "template", "spec"];

/// Sets an entry, or drops it for the word `default`.
fn set_or_default(map: &mut Map<String, Value>, name: &str, value: &str) {
    match value {
        "default" => drop(map.remove(name)),
        value => drop(map.insert(name.to_owned(), json!(value))),
    }
}

fn service_annotations(inv: &Invocation<'_>, service: &mut Value) {
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

/// Labels stand on the service and on its revisions.
fn labels(inv: &Invocation<'_>, service: &mut Value) {
    let args = &inv.args;
    if !args.has_any(&["labels", "update-labels", "remove-labels", "clear-labels"]) {
        return;
    }
    for path in [&["metadata", "labels"][..], &["spec", "template", "metadata", "labels"][..]] {
        let map = object(service, path);
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

fn template_annotations(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    let args = &inv.args;
    let map = object(service, TEMPLATE);
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

fn template_spec(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    let args = &inv.args;
    let spec = object(service, SPEC);
    if let Some(account) = args.text("service-account") {
        spec.insert("serviceAccountName".into(), json!(account));
    }
    if let Some(concurrency) = args.text("concurrency") {
        match concurrency {
            "default" => drop(spec.remove("containerConcurrency")),
            number => match number.parse::<u32>() {
                Ok(at_once @ 1..) => drop(spec.insert("containerConcurrency".into(), json!(at_once))),
                _ => {
                    let why = "must be an integer greater than 0 or \"default\".";
                    let message = format!("argument --concurrency: Bad value [{number}]: {why}");
                    return Err(Misuse::plain(&inv.path, message).into());
                }
            },
        }
    }
    if let Some(timeout) = args.text("timeout") {
        let seconds = grammar::parse_duration(timeout)
            .map_err(|error| Failure::new(format!("argument --timeout: {error}")))?;
        spec.insert("timeoutSeconds".into(), json!(seconds));
    }
    Ok(())
}

fn whole(flag: &str, text: &str) -> Result<i64, Failure> {
    text.parse().map_err(|_| Failure::new(format!("argument --{flag}: Invalid int value: [{text}]")))
}

/// The first container.
fn first_container(service: &mut Value) -> &mut Map<String, Value> {
    let spec = object(service, SPEC);
    let list = spec.entry("containers").or_insert_with(|| json!([{}]));
    if list.as_array().is_none_or(Vec::is_empty) {
        *list = json!([{}]);
    }
    object(&mut list[0], &[])
}

fn container(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    let args = &inv.args;
    let container = first_container(service);
    if let Some(image) = args.text("image") {
        container.insert("image".into(), json!(image));
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
    port(inv, container)
}

fn port(inv: &Invocation<'_>, container: &mut Map<String, Value>) -> Result<(), Failure> {
    let args = &inv.args;
    if args.text("port") == Some("default") {
        container.remove("ports");
    } else if let Some(number) = args.text("port") {
        let number = whole("port", number)?;
        let ports = container.entry("ports").or_insert_with(|| json!([{}]));
        object(&mut ports[0], &[]).insert("containerPort".into(), json!(number));
    }
    if let Some(on) = args.toggle("use-http2") {
        let ports = container.entry("ports").or_insert_with(|| json!([{"containerPort": 8080}]));
        object(&mut ports[0], &[]).insert("name".into(), json!(if on { "h2c" } else { "http1" }));
    }
    Ok(())
}

/// Changes the list of variables of one sort and leaves the others, in their order.
fn change_env(
    service: &mut Value,
    is_ours: fn(&Value) -> bool,
    clear: bool,
    remove: &[String],
    set: Vec<(String, Value)>,
) {
    let container = first_container(service);
    let mut variables = container.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |variable: &Value| variable.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    variables.retain(|variable| !(is_ours(variable) && (clear || remove.contains(&name(variable)))));
    for (key, mut value) in set {
        value["name"] = json!(key);
        match variables.iter_mut().find(|variable| name(variable) == key) {
            Some(old) => *old = value,
            None => variables.push(value),
        }
    }
    match variables.is_empty() {
        true => drop(container.remove("env")),
        false => drop(container.insert("env".into(), Value::Array(variables))),
    }
}

fn environment(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    let args = &inv.args;
    let mut set: Vec<(String, String)> =
        args.pairs("set-env-vars").or_else(|| args.pairs("update-env-vars")).unwrap_or_default().to_vec();
    if let Some(file) = args.text("env-vars-file") {
        let text = read_file(inv, file)?;
        let values: std::collections::BTreeMap<String, String> = serde_yaml_ng::from_str(&text)
            .map_err(|error| Failure::new(format!("argument --env-vars-file: {error}")))?;
        set.extend(values);
    }
    let clear = args.has_any(&["set-env-vars", "env-vars-file", "clear-env-vars"]);
    let remove = args.list("remove-env-vars").unwrap_or_default();
    if clear || !remove.is_empty() || !set.is_empty() {
        let set = set.into_iter().map(|(key, value)| (key, json!({"value": value}))).collect();
        change_env(service, |variable| variable.get("valueFrom").is_none(), clear, remove, set);
    }
    Ok(())
}

fn secrets(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    let args = &inv.args;
    let pairs = args.pairs("set-secrets").or_else(|| args.pairs("update-secrets")).unwrap_or_default();
    let mut set = Vec::new();
    for (name, reference) in pairs {
        if name.starts_with('/') {
            return Err(Failure::new(format!(
                "Vestibule does not mount secrets as files: [{name}]. Name a variable instead."
            )));
        }
        let (secret, version) = reference.rsplit_once(':').ok_or_else(|| {
            Failure::new(format!(
                "No secret version specified for {name}. Use {name}:latest to reference the latest version."
            ))
        })?;
        set.push((name.clone(), json!({"valueFrom": {"secretKeyRef": {"key": version, "name": secret}}})));
    }
    let clear = args.has_any(&["set-secrets", "clear-secrets"]);
    let remove = args.list("remove-secrets").unwrap_or_default();
    if clear || !remove.is_empty() || !set.is_empty() {
        change_env(service, |variable| variable.get("valueFrom").is_some(), clear, remove, set);
    }
    Ok(())
}

const AUDIENCES: &str = "run.googleapis.com/custom-audiences";

fn audiences(inv: &Invocation<'_>, service: &mut Value) {
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

/// `--startup-probe=httpGet.path=/x,periodSeconds=1`: dotted keys become objects, numbers numbers.
fn probes(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    for (flag, field) in [
        ("startup-probe", "startupProbe"),
        ("liveness-probe", "livenessProbe"),
        ("readiness-probe", "readinessProbe"),
    ] {
        let Some(pairs) = inv.args.pairs(flag) else { continue };
        let mut probe = json!({});
        for (key, value) in pairs {
            let mut steps: Vec<&str> = key.split('.').collect();
            let last = steps.pop().unwrap_or_default();
            let value = value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number));
            object(&mut probe, &steps).insert(last.to_owned(), value);
        }
        let container = first_container(service);
        match pairs.is_empty() {
            true => drop(container.remove(field)),
            false => drop(container.insert(field.into(), probe)),
        }
    }
    Ok(())
}
