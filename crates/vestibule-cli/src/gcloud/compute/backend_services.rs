//! `gcloud compute backend-services`.

use serde_json::{Map, Value, json};

use super::custom_metrics;
use super::health_checks::HEALTH_CHECKS;
use super::link::{Kind, Link, Scope, Scopes};
use super::network_endpoint_groups::GROUPS;
use super::transfer;
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::files;
use crate::gcloud::grammar::{self, Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};

pub const BACKEND_SERVICES: Kind =
    Kind { collection: "backendServices", scopes: Scopes::RegionOrGlobal, plural: "backend services" };

const TABLE: Display =
    Display::new("table(name,backends[].group.map().scope().list():label=BACKENDS,protocol)");

const AFFINITIES: &[&str] = &[
    "CLIENT_IP",
    "CLIENT_IP_NO_DESTINATION",
    "CLIENT_IP_PORT_PROTO",
    "CLIENT_IP_PROTO",
    "GENERATED_COOKIE",
    "HEADER_FIELD",
    "HTTP_COOKIE",
    "NONE",
    "STRONG_COOKIE_AFFINITY",
];

const POLICIES: &[&str] = &[
    "LEAST_REQUEST",
    "MAGLEV",
    "ORIGINAL_DESTINATION",
    "RANDOM",
    "RING_HASH",
    "ROUND_ROBIN",
    "WEIGHTED_MAGLEV",
    "WEIGHTED_ROUND_ROBIN",
];

const MODES: &[&str] = &["CONNECTION", "CUSTOM_METRICS", "RATE", "UTILIZATION"];

/// Numbers of a backend: flag and field.
const BACKEND_RATES: &[(&str, &str)] = &[
    ("max-rate", "maxRate"),
    ("max-connections", "maxConnections"),
    ("max-connections-per-endpoint", "maxConnectionsPerEndpoint"),
];
const BACKEND_FRACTIONS: &[(&str, &str)] = &[
    ("capacity-scaler", "capacityScaler"),
    ("max-rate-per-endpoint", "maxRatePerEndpoint"),
    ("max-utilization", "maxUtilization"),
];

pub fn group() -> Group {
    Group::new("backend-services", "List, create, and delete backend services.")
        .command(
            Command::new("create", "Create a backend service.", create)
                .about("It has no backends until `add-backend` gives it some.")
                .arg("BACKEND_SERVICE_NAME", "The name of the backend service.")
                .flags(super::scope_flags())
                .flag(Flag::choice(
                    "load-balancing-scheme",
                    &["EXTERNAL", "EXTERNAL_MANAGED", "INTERNAL", "INTERNAL_MANAGED", "INTERNAL_SELF_MANAGED"],
                    "The kind of load balancer. Default: EXTERNAL.",
                ))
                .flags(settings())
                .examples(&["gcloud compute backend-services create my-internal-backend --load-balancing-scheme=INTERNAL_MANAGED --protocol=HTTP --region=us-central1"]),
        )
        .command(
            Command::new("update", "Update a backend service.", update)
                .arg("BACKEND_SERVICE_NAME", "The name of the backend service.")
                .flags(super::scope_flags())
                .flags(settings())
                .flag(Flag::switch("no-health-checks", "Drops all health checks."))
                .flag(Flag::switch(custom_metrics::CLEAR, "Drops all custom metrics."))
                .flag(Flag::switch("no-custom-request-headers", "Drops all custom request headers."))
                .flag(Flag::switch("no-custom-response-headers", "Drops all custom response headers."))
                .examples(&["gcloud compute backend-services update my-internal-backend --enable-logging --logging-sample-rate=1.0 --region=us-central1"]),
        )
        .command(
            Command::new("add-backend", "Add a backend to a backend service.", add_backend)
                .arg("BACKEND_SERVICE_NAME", "The name of the backend service.")
                .flags(super::scope_flags())
                .flags(group_flags())
                .flags(backend_settings())
                .examples(&["gcloud compute backend-services add-backend my-internal-backend --network-endpoint-group=my-serverless-neg --network-endpoint-group-region=us-central1 --region=us-central1"]),
        )
        .command(
            Command::new("update-backend", "Update an existing backend in a backend service.", update_backend)
                .arg("BACKEND_SERVICE_NAME", "The name of the backend service.")
                .flags(super::scope_flags())
                .flag(Flag::text("network-endpoint-group", "The group whose settings change.").required())
                .flag(Flag::text("network-endpoint-group-zone", "The group's zone."))
                .flags(backend_settings()),
        )
        .command(
            Command::new("remove-backend", "Remove a backend from a backend service.", remove_backend)
                .arg("BACKEND_SERVICE_NAME", "The name of the backend service.")
                .flags(super::scope_flags())
                .flags(group_flags()),
        )
        .command(
            Command::new("delete", "Delete backend services.", |inv| {
                // The one `delete` of compute that gcloud words this way.
                verbs::delete(inv, &BACKEND_SERVICES, "BACKEND_SERVICE_NAME")
                    .map_err(|failure| failure.beginning("Some requests did not succeed:"))
            })
                .args("BACKEND_SERVICE_NAME", "The names of the backend services.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("describe", "Describe a backend service.", |inv| verbs::describe(inv, &BACKEND_SERVICES, "BACKEND_SERVICE_NAME"))
                .arg("BACKEND_SERVICE_NAME", "The name of the backend service.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("list", "List backend services.", |inv| verbs::list(inv, &BACKEND_SERVICES, TABLE))
                .flags(super::list_scope_flags()),
        )
        .command(
            Command::new("get-health", "Get backend health statuses from a backend service.", get_health)
                .arg("BACKEND_SERVICE_NAME", "The name of the backend service.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("export", "Export a backend service.", |inv| transfer::export(inv, &BACKEND_SERVICES, "BACKEND_SERVICE_NAME"))
                .arg("BACKEND_SERVICE_NAME", "The name of the backend service.")
                .flags(super::scope_flags())
                .flag(files::destination_flag()),
        )
        .command(
            Command::new("import", "Import a backend service.", |inv| transfer::import(inv, &transfer::BACKEND_SERVICE, "BACKEND_SERVICE_NAME"))
                .arg("BACKEND_SERVICE_NAME", "The name of the backend service.")
                .flags(super::scope_flags())
                .flag(files::source_flag()),
        )
}

/// Settings that `create` and `update` share.
fn settings() -> Vec<Flag> {
    let mut flags = vec![
        Flag::text("protocol", "How backends are spoken to: HTTP, HTTPS, HTTP2, H2C, TCP, … Default: HTTP."),
        Flag::text("description", "What the backend service is for."),
        Flag::text("port-name", "The named port of instance groups."),
        Flag::new("timeout", grammar::Kind::Duration, "How long a backend has to answer. Default: 30 s."),
        Flag::new(
            "connection-draining-timeout",
            grammar::Kind::Duration,
            "How long a removed backend may finish its requests.",
        ),
        Flag::list("health-checks", "The health checks.").metavar("HEALTH_CHECK"),
        Flag::text("health-checks-region", "The region of the health checks."),
        Flag::switch("global-health-checks", "The health checks are global."),
        Flag::toggle("enable-logging", "Writes a log entry for each request."),
        Flag::new(
            "logging-sample-rate",
            grammar::Kind::Float,
            "The share of requests that are logged, 0 to 1. Default: 1.",
        ),
        Flag::choice(
            "logging-optional",
            &["CUSTOM", "EXCLUDE_ALL_OPTIONAL", "INCLUDE_ALL_OPTIONAL"],
            "Which optional fields entries have.",
        ),
        Flag::list("logging-optional-fields", "Optional fields of entries, with --logging-optional=CUSTOM."),
        Flag::choice("session-affinity", AFFINITIES, "What keeps a client with a backend."),
        Flag::int("affinity-cookie-ttl", "How long the affinity cookie lives, seconds."),
        Flag::choice("locality-lb-policy", POLICIES, "How a backend is picked."),
        Flag::new(
            "custom-request-header",
            grammar::Kind::Repeated,
            "A header for backends, such as 'X-Name: value'.",
        ),
        Flag::new(
            "custom-response-header",
            grammar::Kind::Repeated,
            "A header for clients, such as 'X-Name: value'.",
        ),
    ];
    flags.extend(custom_metrics::flags());
    flags
}

fn group_flags() -> Vec<Flag> {
    vec![
        Flag::text("network-endpoint-group", "The network endpoint group.").required(),
        Flag::text("network-endpoint-group-region", "The group's region. Default: the backend service's."),
        Flag::text("network-endpoint-group-zone", "The group's zone."),
        Flag::switch("global-network-endpoint-group", "The group is global."),
    ]
}

fn backend_settings() -> Vec<Flag> {
    let mut flags = vec![
        Flag::choice("balancing-mode", MODES, "How load is measured."),
        Flag::text("description", "What the backend is for."),
        Flag::toggle("failover", "Makes the backend one for failover."),
    ];
    flags.extend(BACKEND_RATES.iter().map(|(flag, _)| Flag::int(flag, "A limit of the backend.")));
    flags.extend(
        BACKEND_FRACTIONS
            .iter()
            .map(|(flag, _)| Flag::new(flag, grammar::Kind::Float, "A limit of the backend.")),
    );
    flags
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = BACKEND_SERVICES.resolve(inv, inv.args.name("BACKEND_SERVICE_NAME"))?;
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert(
        "loadBalancingScheme".into(),
        json!(inv.args.text("load-balancing-scheme").unwrap_or("EXTERNAL")),
    );
    body.insert("protocol".into(), json!("HTTP"));
    body.insert("timeoutSec".into(), json!(30));
    if link.scope == Scope::Global {
        body.insert("portName".into(), json!("http"));
    }
    apply_settings(inv, &link, &mut body)?;
    verbs::create(inv, link, Value::Object(body), TABLE)
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let asked = settings().iter().any(|flag| inv.args.has(flag.name));
    let clearing = [
        "no-health-checks",
        "no-custom-request-headers",
        "no-custom-response-headers",
        custom_metrics::CLEAR,
    ];
    if !asked && !inv.args.has_any(&clearing) {
        return Err(Failure::new("At least one property must be modified."));
    }
    let link = BACKEND_SERVICES.resolve(inv, inv.args.name("BACKEND_SERVICE_NAME"))?;
    let old = verbs::read(inv, &link)?;
    let mut body = old.as_object().cloned().unwrap_or_default();
    apply_settings(inv, &link, &mut body)?;
    if inv.args.on("no-health-checks") {
        body.insert("healthChecks".into(), json!([]));
    }
    for (field, clear) in [
        ("customRequestHeaders", "no-custom-request-headers"),
        ("customResponseHeaders", "no-custom-response-headers"),
    ] {
        // Sent also when there are none: a patch could not clear them otherwise.
        if inv.args.on(clear) || !body.contains_key(field) {
            body.insert(field.into(), json!([]));
        }
    }
    let bare = |body: &Map<String, Value>| {
        let mut body = body.clone();
        body.retain(|_, value| value.as_array().is_none_or(|items| !items.is_empty()));
        body
    };
    if bare(&body) == bare(old.as_object().unwrap_or(&Map::new())) && !inv.args.has_any(&clearing) {
        inv.status(&format!("No change requested; skipping update for [{}].", link.name));
        return inv.show_made(&[old], Display::NOTHING);
    }
    verbs::update(inv, Change::patch(link, Value::Object(body)))
}

/// Writes the settings that were given into a backend service.
fn apply_settings(inv: &Invocation<'_>, link: &Link, body: &mut Map<String, Value>) -> Result<(), Failure> {
    let args = &inv.args;
    let texts = [
        ("protocol", "protocol"),
        ("description", "description"),
        ("port-name", "portName"),
        ("session-affinity", "sessionAffinity"),
        ("locality-lb-policy", "localityLbPolicy"),
    ];
    for (flag, field) in texts {
        if let Some(value) = args.text(flag) {
            body.insert(
                field.into(),
                json!(if flag == "protocol" { value.to_uppercase() } else { value.to_owned() }),
            );
        }
    }
    for (flag, field) in [("timeout", "timeoutSec"), ("affinity-cookie-ttl", "affinityCookieTtlSec")] {
        if let Some(value) = args.int(flag) {
            body.insert(field.into(), json!(value));
        }
    }
    if let Some(seconds) = args.int("connection-draining-timeout") {
        body.insert("connectionDraining".into(), json!({"drainingTimeoutSec": seconds}));
    }
    for (flag, field) in [
        ("custom-request-header", "customRequestHeaders"),
        ("custom-response-header", "customResponseHeaders"),
    ] {
        if let Some(headers) = args.list(flag) {
            body.insert(field.into(), json!(headers));
        }
    }
    if let Some(checks) = args.list("health-checks") {
        let scope = match args.text("health-checks-region") {
            Some(region) => Scope::Region(super::link::basename(region).to_owned()),
            None if args.on("global-health-checks") => Scope::Global,
            None => link.scope.clone(),
        };
        let urls =
            checks.iter().map(|check| Ok(json!(HEALTH_CHECKS.at(inv, &scope, check)?.url(inv.api.base()))));
        body.insert("healthChecks".into(), Value::Array(urls.collect::<Result<_, Failure>>()?));
    }
    apply_logging(inv, body);
    custom_metrics::apply(inv, body)
}

fn apply_logging(inv: &Invocation<'_>, body: &mut Map<String, Value>) {
    let args = &inv.args;
    if !args.has_any(&[
        "enable-logging",
        "logging-sample-rate",
        "logging-optional",
        "logging-optional-fields",
    ]) {
        return;
    }
    let entry = body.entry("logConfig").or_insert_with(|| json!({}));
    let Value::Object(config) = entry else { return };
    if let Some(on) = args.toggle("enable-logging") {
        config.insert("enable".into(), json!(on));
    }
    if let Some(rate) = args.float("logging-sample-rate") {
        config.insert("sampleRate".into(), json!(rate));
    }
    if let Some(mode) = args.text("logging-optional") {
        config.insert("optionalMode".into(), json!(mode));
    }
    if let Some(fields) = args.list("logging-optional-fields") {
        config.insert("optionalFields".into(), json!(fields));
    }
}

/// The backend service and the group that `add-backend` and its kin name. Either may lend the other its region.
fn service_and_group(inv: &Invocation<'_>) -> Result<(Link, Link), Failure> {
    let args = &inv.args;
    let name = args.name("BACKEND_SERVICE_NAME");
    let group_region = args.text("network-endpoint-group-region");
    let service = match (group_region, args.has_any(&["region", "global"])) {
        (Some(region), false) => {
            BACKEND_SERVICES.at(inv, &Scope::Region(super::link::basename(region).to_owned()), name)?
        }
        _ => BACKEND_SERVICES.resolve(inv, name)?,
    };
    let scope = match (group_region, args.text("network-endpoint-group-zone")) {
        (Some(region), _) => Scope::Region(super::link::basename(region).to_owned()),
        (None, Some(zone)) => Scope::Zone(super::link::basename(zone).to_owned()),
        (None, None) if args.on("global-network-endpoint-group") => Scope::Global,
        (None, None) => service.scope.clone(),
    };
    let group = GROUPS.at(inv, &scope, args.text("network-endpoint-group").unwrap_or_default())?;
    Ok((service, group))
}

fn backends(service: &Value) -> Vec<Value> {
    service.get("backends").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn is_for(backend: &Value, group: &Link) -> bool {
    let link = backend.get("group").and_then(Value::as_str).and_then(|url| Link::parse(url, &group.project));
    link.as_ref() == Some(group)
}

fn place(link: &Link) -> (&'static str, String) {
    match &link.scope {
        Scope::Global => ("scope", "global".into()),
        Scope::Region(name) => ("region", name.clone()),
        Scope::Zone(name) => ("zone", name.clone()),
    }
}

fn add_backend(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (link, group) = service_and_group(inv)?;
    let mut service = verbs::read(inv, &link)?;
    let mut all = backends(&service);
    if all.iter().any(|backend| is_for(backend, &group)) {
        let (kind, place) = place(&group);
        return Err(Failure::new(format!(
            "Backend [{}] in {kind} [{place}] already exists in backend service [{}].",
            group.name, link.name
        )));
    }
    let mut backend = Map::new();
    backend.insert("group".into(), json!(group.url(inv.api.base())));
    apply_backend_settings(inv, &mut backend);
    all.push(Value::Object(backend));
    service["backends"] = Value::Array(all);
    verbs::update(inv, Change::put(link, service))
}

fn update_backend(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (link, group) = service_and_group(inv)?;
    let mut service = verbs::read(inv, &link)?;
    let mut all = backends(&service);
    match all.iter_mut().find(|backend| is_for(backend, &group)) {
        Some(Value::Object(backend)) => apply_backend_settings(inv, backend),
        _ => return Err(no_such_backend(&group, &link)),
    }
    service["backends"] = Value::Array(all);
    verbs::update(inv, Change::patch(link, service))
}

fn remove_backend(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (link, group) = service_and_group(inv)?;
    let mut service = verbs::read(inv, &link)?;
    let mut all = backends(&service);
    let before = all.len();
    all.retain(|backend| !is_for(backend, &group));
    if all.len() == before {
        return Err(no_such_backend(&group, &link));
    }
    if let Value::Object(map) = &mut service {
        match all.is_empty() {
            true => drop(map.remove("backends")),
            false => drop(map.insert("backends".into(), Value::Array(all))),
        }
    }
    verbs::update(inv, Change::put(link, service))
}

fn no_such_backend(group: &Link, service: &Link) -> Failure {
    let (kind, place) = place(group);
    Failure::new(format!(
        "Backend [{}] in {kind} [{place}] is not a backend of backend service [{}].",
        group.name, service.name
    ))
}

fn apply_backend_settings(inv: &Invocation<'_>, backend: &mut Map<String, Value>) {
    let args = &inv.args;
    for (flag, field) in [("balancing-mode", "balancingMode"), ("description", "description")] {
        if let Some(value) = args.text(flag) {
            backend.insert(field.into(), json!(value));
        }
    }
    if let Some(on) = args.toggle("failover") {
        backend.insert("failover".into(), json!(on));
    }
    for (flag, field) in BACKEND_RATES {
        if let Some(value) = args.int(flag) {
            backend.insert((*field).into(), json!(value));
        }
    }
    for (flag, field) in BACKEND_FRACTIONS {
        if let Some(value) = args.float(flag) {
            backend.insert((*field).into(), json!(value));
        }
    }
}

fn get_health(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = BACKEND_SERVICES.resolve(inv, inv.args.name("BACKEND_SERVICE_NAME"))?;
    let service = verbs::read(inv, &link)?;
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for backend in backends(&service) {
        let group = backend.get("group").cloned().unwrap_or(Value::Null);
        let answer =
            inv.api.post(&format!("{}/getHealth?alt=json", link.path()), &json!({"group": group}))?;
        match answer.is_success() {
            true => found.push(json!({"backend": group, "status": answer.body})),
            false => errors.push(answer.error_message()),
        }
    }
    inv.show_made(&found, Display::YAML)?;
    if errors.is_empty() { Ok(()) } else { Err(Failure::compute(&errors)) }
}
