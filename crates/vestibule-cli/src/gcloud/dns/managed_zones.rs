//! `gcloud dns managed-zones`.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{absolute, name_servers, pages, shown, zone_path, zones_path};
use crate::gcloud::compute::networks_kind;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::tree::list_flags;

/// How long an update may take.
const LIMIT: Duration = Duration::from_secs(5 * 60);

const TABLE: Display = Display::new("table(name,dnsName,description,visibility)");

const NAME: &str = "ZONE_NAME";

pub fn group() -> Group {
    Group::new("managed-zones", "Manage your Cloud DNS managed-zones.")
        .command(
            Command::new("create", "Create a Cloud DNS managed-zone.", create)
                .arg(NAME, "The name of the zone.")
                .flag(Flag::text("dns-name", "The domain, such as internal.example.com.").metavar("DNS_NAME").required())
                .flag(Flag::choice("visibility", &["private", "public"], "Who sees the zone. Default: public."))
                .flag(Flag::pairs("labels", "Labels."))
                .flags(settings())
                .flag(Flag::switch("managed-reverse-lookup", "Names of machines answer for the zone."))
                .examples(&["gcloud dns managed-zones create internal-zone --dns-name=internal.example.com. --visibility=private --networks=my-vpc"]),
        )
        .command(Command::new("update", "Update an existing Cloud DNS managed-zone.", update).arg(NAME, "The name of the zone.").flags(settings()).flags(label_changes()))
        .command(Command::new("delete", "Delete an empty Cloud DNS managed-zone.", delete).arg(NAME, "The name of the zone."))
        .command(Command::new("describe", "View the details of a Cloud DNS managed-zone.", describe).arg(NAME, "The name of the zone."))
        .command(Command::new("list", "View the list of all your managed-zones.", list).flags(list_flags()))
}

fn settings() -> Vec<Flag> {
    vec![
        Flag::text("description", "What the zone is for."),
        Flag::list("networks", "VPC networks that see a private zone.").metavar("NETWORK"),
        Flag::list("forwarding-targets", "Name servers that answer for the zone.").metavar("IP_ADDRESS"),
        Flag::list("private-forwarding-targets", "The same, always reached through the VPC network.")
            .metavar("IP_ADDRESS"),
        Flag::text("target-network", "The network whose zones answer (DNS peering)."),
        Flag::text("target-project", "The project of that network."),
        Flag::toggle("log-dns-queries", "Logs queries for the zone."),
    ]
}

fn label_changes() -> Vec<Flag> {
    vec![
        Flag::pairs("update-labels", "Labels to set."),
        Flag::list("remove-labels", "Labels to remove.").metavar("KEY"),
        Flag::switch("clear-labels", "Removes all labels."),
    ]
}

/// Writes the settings that were given into a zone.
fn apply(inv: &Invocation<'_>, body: &mut Map<String, Value>) -> Result<(), Failure> {
    let args = &inv.args;
    let base = inv.api.base();
    if let Some(description) = args.text("description") {
        body.insert("description".into(), json!(description));
    }
    if let Some(networks) = args.list("networks") {
        let urls = networks
            .iter()
            .map(|network| Ok(json!({"networkUrl": networks_kind().resolve(inv, network)?.url(base)})));
        let urls: Vec<Value> = urls.collect::<Result<_, Failure>>()?;
        body.insert("privateVisibilityConfig".into(), json!({"networks": urls}));
    }
    if let Some(labels) = args.pairs("labels") {
        let labels: Map<String, Value> = labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        body.insert("labels".into(), Value::Object(labels));
    }
    let list = |flag| args.list(flag).unwrap_or_default();
    let targets = name_servers(list("forwarding-targets"), list("private-forwarding-targets"));
    if !targets.is_empty() {
        body.insert("forwardingConfig".into(), json!({"targetNameServers": targets}));
    }
    if let Some(network) = args.text("target-network") {
        let mut link = networks_kind().resolve(inv, network)?;
        if let Some(project) = args.text("target-project") {
            link.project = project.to_owned();
        }
        body.insert("peeringConfig".into(), json!({"targetNetwork": {"networkUrl": link.url(base)}}));
    }
    if let Some(on) = args.toggle("log-dns-queries") {
        body.insert("cloudLoggingConfig".into(), json!({"enableLogging": on}));
    }
    Ok(())
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let args = &inv.args;
    let name = args.name(NAME);
    let visibility = args.text("visibility").unwrap_or("public");
    if visibility == "private" && !args.has("networks") {
        return Err(Failure::new(
            "Missing required argument [--networks, --gkeclusters]: If --visibility is set to private, a list of networks or list of\n           \
             GKE clusters must be provided.'\n         NOTE: You can provide an empty value (\"\") for private zones that\n          \
             have NO network or GKE clusters binding.\n          ",
        ));
    }
    if visibility == "public" && args.list("networks").is_some_and(|networks| !networks.is_empty()) {
        return Err(Failure::new(
            "Invalid value for [--networks]: If --visibility is set to public (default), setting networks is not allowed.",
        ));
    }
    let mut body = Map::new();
    body.insert("name".into(), json!(name));
    body.insert("dnsName".into(), json!(absolute(args.text("dns-name").unwrap_or_default())));
    body.insert("visibility".into(), json!(visibility));
    apply(inv, &mut body)?;
    if args.on("managed-reverse-lookup") {
        body.insert("reverseLookupConfig".into(), json!({}));
    }
    let answer = inv.api.post(&format!("{}?alt=json", zones_path(inv)), &Value::Object(body))?;
    if !answer.is_success() {
        return Err(Failure::making(&answer, &inv.project()));
    }
    inv.status(&format!("Created [{}{}].", inv.api.base(), zone_path(inv, name)));
    inv.show_made(&[answer.body], Display::NOTHING)
}

/// Labels are changed first, on their own. Whoever names no change gets none.
fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = inv.args.name(NAME);
    let path = zone_path(inv, name);
    if inv.args.has_any(&["update-labels", "remove-labels", "clear-labels"]) {
        let zone = inv.api.get(&format!("{path}?alt=json"))?;
        if !zone.is_success() {
            return Err(Failure::http(&zone));
        }
        let mut zone = zone.body;
        zone["labels"] = Value::Object(changed_labels(inv, &zone));
        write(inv, "PUT", &path, &zone)?;
    }
    let mut body = Map::new();
    apply(inv, &mut body)?;
    if body.is_empty() {
        return Ok(());
    }
    body.insert("name".into(), json!(name));
    write(inv, "PATCH", &path, &Value::Object(body))
}

fn changed_labels(inv: &Invocation<'_>, zone: &Value) -> Map<String, Value> {
    let mut labels = match inv.args.on("clear-labels") {
        true => Map::new(),
        false => zone.get("labels").and_then(Value::as_object).cloned().unwrap_or_default(),
    };
    for key in inv.args.list("remove-labels").unwrap_or_default() {
        labels.remove(key);
    }
    for (key, value) in inv.args.pairs("update-labels").unwrap_or_default() {
        labels.insert(key.clone(), json!(value));
    }
    labels
}

/// Changes a zone, and waits until it is so.
fn write(inv: &Invocation<'_>, method: &str, path: &str, body: &Value) -> Result<(), Failure> {
    let answer = inv.api.call(method, &format!("{path}?alt=json"), Some(body))?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    let name = inv.args.name(NAME);
    inv.status(&format!("Updating managed zone [{name}]..."));
    wait(inv, path, &answer.body)?;
    inv.status(".....done.");
    Ok(())
}

/// Waits for a zone's operation.
fn wait(inv: &Invocation<'_>, zone: &str, operation: &Value) -> Result<(), Failure> {
    let Some(id) = operation.get("id").and_then(Value::as_str) else { return Ok(()) };
    let is_done = |operation: &Value| operation.get("status").and_then(Value::as_str) == Some("done");
    let start = Instant::now();
    loop {
        let answer = inv.api.get(&format!("{zone}/operations/{id}?alt=json"))?;
        if !answer.is_success() {
            return Err(Failure::http(&answer));
        }
        if is_done(&answer.body) {
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            return Err(Failure::new(format!(
                "The update did not finish within {} minutes.",
                LIMIT.as_secs() / 60
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn delete(inv: &Invocation<'_>) -> Result<(), Failure> {
    let path = zone_path(inv, inv.args.name(NAME));
    let answer = inv.api.call("DELETE", &format!("{path}?alt=json"), None)?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    inv.status(&format!("Deleted [{}{path}].", inv.api.base()));
    Ok(())
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = inv.api.get(&format!("{}?alt=json", zone_path(inv, inv.args.name(NAME))))?;
    match answer.is_success() {
        true => inv.show(&shown(answer.body), Display::YAML),
        false => Err(Failure::http(&answer)),
    }
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let found = pages(inv, &zones_path(inv), "", "managedZones")?;
    let base = format!("{}{}", inv.api.base(), zones_path(inv));
    inv.list_with_uri(found, TABLE, &|zone| Some(format!("{base}/{}", zone.get("name")?.as_str()?)))
}
