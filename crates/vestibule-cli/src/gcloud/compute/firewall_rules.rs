//! `gcloud compute firewall-rules`.

use serde_json::{Map, Value, json};

use super::link::{Kind, Scopes};
use super::networks::NETWORKS;
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group, Rule};
use crate::gcloud::invocation::{Display, Invocation};

pub const FIREWALLS: Kind = Kind { collection: "firewalls", scopes: Scopes::Global, plural: "firewalls" };

const TABLE: Display = Display::computed(
    "table(name,network.basename(),direction,priority,allow:label=ALLOW,deny:label=DENY,disabled)",
    |firewall, name| match name {
        "allow" => shown_rules(firewall.get("allowed")),
        "deny" => shown_rules(firewall.get("denied")),
        _ => None,
    },
);

const NAME: &str = "NAME";

pub fn group() -> Group {
    Group::new("firewall-rules", "List, create, update, and delete firewall rules.")
        .command(
            Command::new("create", "Create a firewall rule.", create)
                .arg(NAME, "The name of the firewall rule.")
                .flag(Flag::text("network", "The network of the rule. Default: default."))
                .flag(Flag::choice(
                    "action",
                    &["ALLOW", "DENY"],
                    "What happens to traffic that --rules names.",
                ))
                .flag(
                    Flag::list("allow", "Traffic to let through, such as tcp:80,icmp.")
                        .metavar("PROTOCOL[:PORT[-PORT]]"),
                )
                .flag(Flag::list("rules", "Traffic that --action is for.").metavar("PROTOCOL[:PORT[-PORT]]"))
                .flag(Flag::choice(
                    "direction",
                    &["INGRESS", "EGRESS", "IN", "OUT"],
                    "Which way the traffic goes. Default: INGRESS.",
                ))
                .flags(settings())
                .rule(Rule::OneOf(vec![vec!["action", "rules"], vec!["allow"]])),
        )
        .command(
            Command::new("update", "Update a firewall rule.", update)
                .arg(NAME, "The name of the firewall rule.")
                .flag(Flag::list("allow", "Traffic to let through.").metavar("PROTOCOL[:PORT[-PORT]]"))
                .flag(Flag::list("rules", "Traffic that the rule is for.").metavar("PROTOCOL[:PORT[-PORT]]"))
                .flags(settings()),
        )
        .command(
            Command::new("delete", "Delete firewall rules.", |inv| verbs::delete(inv, &FIREWALLS, NAME))
                .args(NAME, "The names of the firewall rules."),
        )
        .command(
            Command::new("describe", "Describe a firewall rule.", |inv| {
                verbs::describe(inv, &FIREWALLS, NAME)
            })
            .arg(NAME, "The name of the firewall rule."),
        )
        .command(Command::new("list", "List firewall rules.", list).flags(super::list_flags()))
}

fn settings() -> Vec<Flag> {
    vec![
        Flag::int("priority", "0 (first) to 65535. Default: 1000."),
        Flag::list("source-ranges", "Where ingress may come from.").metavar("CIDR_RANGE"),
        Flag::list("destination-ranges", "Where egress may go to.").metavar("CIDR_RANGE"),
        Flag::list("source-tags", "Tags of sources.").metavar("TAG"),
        Flag::list("target-tags", "Tags of targets.").metavar("TAG"),
        Flag::list("source-service-accounts", "Service accounts of sources.").metavar("EMAIL"),
        Flag::list("target-service-accounts", "Service accounts of targets.").metavar("EMAIL"),
        Flag::toggle("disabled", "Keeps the rule without effect."),
        Flag::toggle("enable-logging", "Logs what the rule decides."),
        Flag::choice(
            "logging-metadata",
            &["exclude-all", "include-all"],
            "What entries tell besides the connection. Default: include-all.",
        ),
        Flag::text("description", "What the rule is for."),
    ]
}

/// `tcp:80,tcp:443,icmp`.
fn shown_rules(rules: Option<&Value>) -> Option<Value> {
    let rules = rules?.as_array()?;
    let mut shown = Vec::new();
    for rule in rules {
        let protocol = rule.get("IPProtocol").and_then(Value::as_str).unwrap_or_default();
        match rule.get("ports").and_then(Value::as_array).filter(|ports| !ports.is_empty()) {
            Some(ports) => {
                shown.extend(ports.iter().filter_map(Value::as_str).map(|port| format!("{protocol}:{port}")))
            }
            None => shown.push(protocol.to_owned()),
        }
    }
    (!shown.is_empty()).then(|| Value::String(shown.join(",")))
}

fn parsed_rules(rules: &[String]) -> Value {
    let one = |rule: &String| match rule.split_once(':') {
        Some((protocol, ports)) => json!({"IPProtocol": protocol, "ports": [ports]}),
        None => json!({"IPProtocol": rule}),
    };
    rules.iter().map(one).collect()
}

fn apply_settings(inv: &Invocation<'_>, body: &mut Map<String, Value>) {
    let args = &inv.args;
    let lists = [
        ("source-ranges", "sourceRanges"),
        ("destination-ranges", "destinationRanges"),
        ("source-tags", "sourceTags"),
        ("target-tags", "targetTags"),
        ("source-service-accounts", "sourceServiceAccounts"),
        ("target-service-accounts", "targetServiceAccounts"),
    ];
    for (flag, field) in lists {
        if let Some(values) = args.list(flag) {
            body.insert(field.into(), json!(values));
        }
    }
    if let Some(priority) = args.int("priority") {
        body.insert("priority".into(), json!(priority));
    }
    if let Some(on) = args.toggle("disabled") {
        body.insert("disabled".into(), json!(on));
    }
    let mut log = Map::new();
    if let Some(on) = args.toggle("enable-logging") {
        log.insert("enable".into(), json!(on));
    }
    if let Some(metadata) = args.text("logging-metadata") {
        let all = if metadata == "exclude-all" { "EXCLUDE_ALL_METADATA" } else { "INCLUDE_ALL_METADATA" };
        log.insert("metadata".into(), json!(all));
    }
    if !log.is_empty() {
        body.insert("logConfig".into(), log.into());
    }
    if let Some(description) = args.text("description") {
        body.insert("description".into(), json!(description));
    }
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let args = &inv.args;
    let link = FIREWALLS.resolve(inv, args.name(NAME))?;
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert(
        "network".into(),
        json!(NETWORKS.resolve(inv, args.text("network").unwrap_or("default"))?.url(inv.api.base())),
    );
    let direction = match args.text("direction") {
        Some("EGRESS" | "OUT") => "EGRESS",
        _ => "INGRESS",
    };
    body.insert("direction".into(), json!(direction));
    let field = if args.text("action") == Some("DENY") { "denied" } else { "allowed" };
    let rules = args.list("rules").or_else(|| args.list("allow")).unwrap_or_default();
    body.insert(field.into(), parsed_rules(rules));
    apply_settings(inv, &mut body);
    inv.printer.note("Creating firewall...\n..");
    let made = verbs::carry_out(inv, "Created", vec![Change::insert(link, Value::Object(body))])
        .inspect_err(|_| inv.status("failed."))?;
    inv.status("done.");
    inv.show_made(&made, TABLE)
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = FIREWALLS.resolve(inv, inv.args.name(NAME))?;
    let mut body = Map::new();
    apply_settings(inv, &mut body);
    if let Some(rules) = inv.args.list("rules").or_else(|| inv.args.list("allow")) {
        let old = verbs::read(inv, &link)?;
        let field = if old.get("denied").is_some_and(|d| d.as_array().is_some_and(|d| !d.is_empty())) {
            "denied"
        } else {
            "allowed"
        };
        body.insert(field.into(), parsed_rules(rules));
    }
    if body.is_empty() {
        return Err(Failure::new("At least one property must be modified."));
    }
    verbs::update(inv, Change::patch(link, Value::Object(body)))
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let found = verbs::collect(inv, &FIREWALLS)?;
    let advice = inv.is_default_format() && !inv.args.on("uri");
    if !found.is_empty() || !advice {
        inv.list(found, TABLE)?;
    }
    if advice {
        inv.status("\nTo show all fields of the firewall, please show in JSON format: --format=json\nTo show all fields in table format, please see the examples in --help.\n");
    }
    Ok(())
}
