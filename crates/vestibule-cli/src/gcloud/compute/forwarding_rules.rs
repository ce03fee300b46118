//! `gcloud compute forwarding-rules`.

use serde_json::{Map, Value, json};

use super::addresses::ADDRESSES;
use super::backend_services::BACKEND_SERVICES;
use super::link::{Kind, Link, Scope, Scopes, basename};
use super::networks::NETWORKS;
use super::subnets::SUBNETS;
use super::target_proxies::{HTTP, HTTPS};
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group, Rule};
use crate::gcloud::invocation::{Display, Invocation};

pub const FORWARDING_RULES: Kind =
    Kind { collection: "forwardingRules", scopes: Scopes::RegionOrGlobal, plural: "forwarding rules" };

const TABLE: Display = Display::new(
    "table(name,region.basename(),IPAddress:label=IP_ADDRESS,IPProtocol:label=IP_PROTOCOL,\
     firstof(target,backendService).scope():label=TARGET)",
);

const NAME: &str = "NAME";

/// gcloud's target flags; those that Vestibule has no resource for are known by name.
const TARGETS: &[&str] = &[
    "backend-service",
    "target-google-apis-bundle",
    "target-grpc-proxy",
    "target-http-proxy",
    "target-https-proxy",
    "target-instance",
    "target-pool",
    "target-service-attachment",
    "target-ssl-proxy",
    "target-tcp-proxy",
    "target-vpn-gateway",
];

pub fn group() -> Group {
    Group::new("forwarding-rules", "Read and manipulate traffic forwarding rules to load balancers.")
        .command(
            Command::new("create", "Create a forwarding rule to direct network traffic to a load balancer.", create)
                .about(
                    "A proxy named without --target-http-proxy-region is a global one, as in gcloud. Without --address a free \
                     address of the subnet is taken.",
                )
                .arg(NAME, "The name of the forwarding rule.")
                .flags(super::scope_flags())
                .flags(target_flags())
                .flag(Flag::choice(
                    "load-balancing-scheme",
                    &["EXTERNAL", "EXTERNAL_MANAGED", "INTERNAL", "INTERNAL_MANAGED", "INTERNAL_SELF_MANAGED"],
                    "The kind of load balancer. Default: EXTERNAL.",
                ))
                .flag(Flag::text("network", "The network that the address is in."))
                .flag(Flag::text("subnet", "The subnet that the address is taken from."))
                .flag(Flag::text("subnet-region", "The subnet's region. Default: the rule's."))
                .flag(Flag::text("address", "The address, as a number or as the name of a reserved one."))
                .flag(Flag::text("address-region", "The region of the reserved address. Default: the rule's."))
                .flag(Flag::switch("global-address", "The reserved address is global."))
                .flag(Flag::list("ports", "The port, or a range such as 80-81.").metavar("PORT | PORT-PORT"))
                .flag(Flag::text("port-range", "As --ports; deprecated.").metavar("PORT | PORT-PORT"))
                .flag(Flag::choice("ip-protocol", &["AH", "ESP", "ICMP", "L3_DEFAULT", "SCTP", "TCP", "UDP"], "The protocol. Default: TCP."))
                .flag(Flag::choice("ip-version", &["IPV4", "IPV6"], "The version of a new address."))
                .flag(Flag::choice("network-tier", &["PREMIUM", "STANDARD"], "The tier of an external address."))
                .flag(Flag::toggle("allow-global-access", "Clients of other regions may use the rule."))
                .flag(Flag::text("service-label", "The first label of an internal name for the rule."))
                .flag(Flag::text("description", "What the rule is for."))
                .rule(Rule::OneOf(TARGETS.iter().map(|target| vec![*target]).collect()))
                .examples(&[
                    "gcloud compute forwarding-rules create my-internal-lb-rule --load-balancing-scheme=INTERNAL_MANAGED --network=my-vpc --subnet=my-subnet --address=10.0.0.100 --ports=80 --region=us-central1 --target-http-proxy=my-internal-proxy --target-http-proxy-region=us-central1",
                ]),
        )
        .command(
            Command::new("set-target", "Modify a forwarding rule to direct network traffic to a new target.", set_target)
                .arg(NAME, "The name of the forwarding rule.")
                .flags(super::scope_flags())
                .flags(target_flags())
                .rule(Rule::OneOf(TARGETS.iter().map(|target| vec![*target]).collect())),
        )
        .command(
            Command::new("update", "Update a forwarding rule.", update)
                .arg(NAME, "The name of the forwarding rule.")
                .flags(super::scope_flags())
                .flag(Flag::toggle("allow-global-access", "Clients of other regions may use the rule."))
                .flag(Flag::pairs("update-labels", "Labels to set."))
                .flag(Flag::list("remove-labels", "Labels to drop.").metavar("KEY"))
                .flag(Flag::switch("clear-labels", "Drops all labels."))
                .rule(Rule::AnyOf(vec!["allow-global-access", "update-labels", "remove-labels", "clear-labels"])),
        )
        .command(
            Command::new("delete", "Delete forwarding rules.", |inv| verbs::delete(inv, &FORWARDING_RULES, NAME))
                .args(NAME, "The names of the forwarding rules.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("describe", "Describe a forwarding rule.", |inv| verbs::describe(inv, &FORWARDING_RULES, NAME))
                .arg(NAME, "The name of the forwarding rule.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("list", "List forwarding rules.", |inv| verbs::list(inv, &FORWARDING_RULES, TABLE))
                .flags(super::list_scope_flags()),
        )
}

fn target_flags() -> Vec<Flag> {
    vec![
        Flag::text("target-http-proxy", "The target HTTP proxy."),
        Flag::text("target-http-proxy-region", "Its region. Without it the proxy is a global one."),
        Flag::switch("global-target-http-proxy", "The proxy is global."),
        Flag::text("target-https-proxy", "The target HTTPS proxy."),
        Flag::text("target-https-proxy-region", "Its region. Without it the proxy is a global one."),
        Flag::switch("global-target-https-proxy", "The proxy is global."),
        Flag::text("backend-service", "The backend service of a rule without a proxy."),
        Flag::text("backend-service-region", "Its region. Default: the rule's."),
        Flag::switch("global-backend-service", "The backend service is global."),
    ]
}

/// What the rule points at: the field and the reference.
fn target(inv: &Invocation<'_>, rule: &Link) -> Result<(&'static str, String), Failure> {
    let region = |flag: &str| inv.args.text(flag).map(|r| Scope::Region(basename(r).to_owned()));
    for (flag, kind) in [("target-http-proxy", &HTTP), ("target-https-proxy", &HTTPS)] {
        if let Some(name) = inv.args.text(flag) {
            let scope = region(&format!("{flag}-region")).unwrap_or(Scope::Global);
            return Ok(("target", kind.at(inv, &scope, name)?.url(inv.api.base())));
        }
    }
    let name = inv.args.text("backend-service").unwrap_or_default();
    let scope = match region("backend-service-region") {
        Some(scope) => scope,
        None if inv.args.on("global-backend-service") => Scope::Global,
        None => rule.scope.clone(),
    };
    Ok(("backendService", BACKEND_SERVICES.at(inv, &scope, name)?.url(inv.api.base())))
}

/// The rule, which takes its region from its proxy when it names none itself.
fn resolve(inv: &Invocation<'_>) -> Result<Link, Failure> {
    let name = inv.args.name(NAME);
    let lent = ["target-http-proxy-region", "target-https-proxy-region", "backend-service-region"];
    let lent = lent.iter().find_map(|flag| inv.args.text(flag));
    match lent {
        Some(region) if !inv.args.has_any(&["region", "global"]) => {
            FORWARDING_RULES.at(inv, &Scope::Region(basename(region).to_owned()), name)
        }
        _ => FORWARDING_RULES.resolve(inv, name),
    }
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let args = &inv.args;
    let link = resolve(inv)?;
    let (field, url) = target(inv, &link)?;
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert(field.into(), json!(url));
    body.insert(
        "loadBalancingScheme".into(),
        json!(args.text("load-balancing-scheme").unwrap_or("EXTERNAL")),
    );
    if let Some(network) = args.text("network") {
        body.insert("network".into(), json!(NETWORKS.resolve(inv, network)?.url(inv.api.base())));
    }
    if let Some(subnet) = args.text("subnet") {
        let scope =
            args.text("subnet-region").map_or(link.scope.clone(), |r| Scope::Region(basename(r).to_owned()));
        body.insert("subnetwork".into(), json!(SUBNETS.at(inv, &scope, subnet)?.url(inv.api.base())));
    }
    if let Some(address) = address(inv, &link)? {
        body.insert("IPAddress".into(), json!(address));
    }
    insert_ports(inv, field, &mut body)?;
    let texts = [
        ("ip-protocol", "IPProtocol"),
        ("ip-version", "ipVersion"),
        ("network-tier", "networkTier"),
        ("service-label", "serviceLabel"),
        ("description", "description"),
    ];
    for (flag, field) in texts {
        if let Some(value) = args.text(flag) {
            body.insert(field.into(), json!(value));
        }
    }
    if let Some(on) = args.toggle("allow-global-access") {
        body.insert("allowGlobalAccess".into(), json!(on));
    }
    verbs::create(inv, link, Value::Object(body), Display::NOTHING)
}

/// `--address`: a number stays one, a name becomes a reference.
fn address(inv: &Invocation<'_>, rule: &Link) -> Result<Option<String>, Failure> {
    let Some(given) = inv.args.text("address") else { return Ok(None) };
    let number = given.split('/').next().unwrap_or(given).parse::<std::net::IpAddr>();
    if number.is_ok() {
        return Ok(Some(given.to_owned()));
    }
    let scope = match inv.args.text("address-region") {
        Some(region) => Scope::Region(basename(region).to_owned()),
        None if inv.args.on("global-address") => Scope::Global,
        None => rule.scope.clone(),
    };
    Ok(Some(ADDRESSES.at(inv, &scope, given)?.url(inv.api.base())))
}

/// A proxy has one range of ports; a backend service has a list.
fn insert_ports(inv: &Invocation<'_>, field: &str, body: &mut Map<String, Value>) -> Result<(), Failure> {
    if let Some(range) = inv.args.text("port-range") {
        inv.warn(&format!("The --port-range flag is deprecated. Use equivalent --ports={range} flag."));
        body.insert("portRange".into(), json!(range));
    }
    let Some(ports) = inv.args.list("ports") else { return Ok(()) };
    match (field, ports) {
        ("backendService", [all]) if all.eq_ignore_ascii_case("all") => {
            drop(body.insert("allPorts".into(), json!(true)))
        }
        ("backendService", ports) => drop(body.insert("ports".into(), json!(ports))),
        (_, ports) => drop(body.insert("portRange".into(), json!(one_range(ports)?))),
    }
    Ok(())
}

/// `80`, `80-81`, or consecutive ones such as `80,81`, as one range.
fn one_range(ports: &[String]) -> Result<String, Failure> {
    let wrong = || Failure::new("Invalid value for [--ports]: Must specify consecutive ports at this time.");
    // Which numbers are ports is for the API to say.
    let mut bounds: Vec<(u32, u32)> = Vec::new();
    for part in ports {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        bounds.push((low.trim().parse().map_err(|_| wrong())?, high.trim().parse().map_err(|_| wrong())?));
    }
    bounds.sort_unstable();
    let gap = bounds.windows(2).any(|pair| pair[1].0 > pair[0].1.saturating_add(1));
    match (bounds.first(), bounds.iter().map(|b| b.1).max()) {
        (Some((low, _)), Some(high)) if !gap => {
            Ok(if *low == high { low.to_string() } else { format!("{low}-{high}") })
        }
        _ => Err(wrong()),
    }
}

fn set_target(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = resolve(inv)?;
    let (field, url) = target(inv, &link)?;
    let change = match field {
        "target" => Change::call(link, "setTarget", json!({"target": url})),
        _ => Change::patch(link, json!({"backendService": url})),
    };
    verbs::update(inv, change)
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let args = &inv.args;
    let link = FORWARDING_RULES.resolve(inv, args.name(NAME))?;
    let old = verbs::read(inv, &link)?;
    let mut changes = Vec::new();
    if let Some(on) = args.toggle("allow-global-access") {
        changes.push(Change::patch(link.clone(), json!({"allowGlobalAccess": on, "name": link.name})));
    }
    if args.has_any(&["update-labels", "remove-labels", "clear-labels"]) {
        let mut labels = match args.on("clear-labels") {
            true => Map::new(),
            false => old.get("labels").and_then(Value::as_object).cloned().unwrap_or_default(),
        };
        for key in args.list("remove-labels").unwrap_or_default() {
            labels.remove(key);
        }
        for (key, value) in args.pairs("update-labels").unwrap_or_default() {
            labels.insert(key.clone(), json!(value));
        }
        let body = json!({"labels": labels, "labelFingerprint": old.get("labelFingerprint")});
        changes.push(Change::call(link, "setLabels", body));
    }
    let made = verbs::carry_out(inv, "Updated", changes)?;
    inv.show_made(&made, Display::NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_make_one_range() {
        let range =
            |ports: &[&str]| one_range(&ports.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).ok();
        assert_eq!(range(&["80"]).as_deref(), Some("80"));
        assert_eq!(range(&["80-82"]).as_deref(), Some("80-82"));
        assert_eq!(range(&["81", "80"]).as_deref(), Some("80-81"));
        assert_eq!(range(&["80", "443"]), None);
        assert_eq!(range(&["x"]), None);
    }
}
