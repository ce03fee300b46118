//! `gcloud compute networks subnets`.

use serde_json::{Map, Value, json};

use super::link::{Kind, Link, Scopes};
use super::networks::NETWORKS;
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group, Rule};
use crate::gcloud::invocation::{Display, Invocation};

pub const SUBNETS: Kind = Kind { collection: "subnetworks", scopes: Scopes::Region, plural: "subnetworks" };

const TABLE: Display = Display::new(
    "table(name,region.basename(),network.basename(),ipCidrRange:label=RANGE,stackType,ipv6AccessType,\
     internalIpv6Prefix,externalIpv6Prefix)",
);

/// `list` has one column more.
const LIST_TABLE: Display = Display::new(
    "table(name,region.basename(),network.basename(),ipCidrRange:label=RANGE,stackType,ipv6AccessType,\
     internalIpv6Prefix,externalIpv6Prefix,utilizationDetails)",
);

const PURPOSES: &[&str] = &[
    "GLOBAL_MANAGED_PROXY",
    "INTERNAL_HTTPS_LOAD_BALANCER",
    "PEER_MIGRATION",
    "PRIVATE",
    "PRIVATE_NAT",
    "PRIVATE_SERVICE_CONNECT",
    "REGIONAL_MANAGED_PROXY",
];

/// Purposes that are no place for machines; they take no access settings.
const PROXY_ONLY: &[&str] =
    &["GLOBAL_MANAGED_PROXY", "INTERNAL_HTTPS_LOAD_BALANCER", "REGIONAL_MANAGED_PROXY"];

pub fn group() -> Group {
    Group::new("subnets", "List, describe, and delete, and update subnetworks.")
        .command(
            Command::new("create", "Define a subnet for a network in custom subnet mode.", create)
                .about("A load balancer of scheme INTERNAL_MANAGED needs one subnet of purpose REGIONAL_MANAGED_PROXY in its network and region.")
                .arg("NAME", "The name of the subnet.")
                .flag(Flag::text("network", "The network of the subnet.").required())
                .flag(Flag::text("range", "The addresses of the subnet, such as 10.0.0.0/24.").metavar("RANGE"))
                .flag(super::region_flag())
                .flag(Flag::text("description", "What the subnet is for."))
                .flag(Flag::choice("purpose", PURPOSES, "What the subnet is for. Default: PRIVATE."))
                .flag(Flag::choice("role", &["ACTIVE", "BACKUP"], "Of a proxy-only subnet: whether it is in use."))
                .flag(Flag::pairs("secondary-range", "Further ranges, by name."))
                .flag(Flag::toggle("enable-private-ip-google-access", "Lets machines without a public address reach Google's APIs."))
                .flag(Flag::toggle("enable-flow-logs", "Records flows."))
                .flag(Flag::choice("stack-type", &["IPV4_ONLY", "IPV4_IPV6", "IPV6_ONLY"], "Which address families the subnet has."))
                .examples(&[
                    "gcloud compute networks subnets create my-subnet --network=my-vpc --range=10.0.0.0/24 --region=us-central1",
                    "gcloud compute networks subnets create proxy-only-subnet --purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE --region=us-central1 --network=my-vpc --range=10.129.0.0/23",
                ]),
        )
        .command(
            Command::new("update", "Update a subnetwork.", update)
                .arg("NAME", "The name of the subnet.")
                .flag(super::region_flag())
                .flag(Flag::choice("role", &["ACTIVE"], "Makes a backup proxy-only subnet the one in use."))
                .flag(Flag::new("drain-timeout", crate::gcloud::grammar::Kind::Duration, "With --role=ACTIVE: how long connections of the old subnet may go on."))
                .flag(Flag::choice("purpose", PURPOSES, "What the subnet is for."))
                .flag(Flag::toggle("enable-private-ip-google-access", "Lets machines without a public address reach Google's APIs."))
                .flag(Flag::toggle("enable-flow-logs", "Records flows."))
                .flag(Flag::pairs("add-secondary-ranges", "Further ranges, by name."))
                .flag(Flag::list("remove-secondary-ranges", "Names of further ranges to drop."))
                .flag(Flag::choice("stack-type", &["IPV4_ONLY", "IPV4_IPV6", "IPV6_ONLY"], "Which address families the subnet has."))
                .rule(Rule::AnyOf(vec![
                    "role", "purpose", "enable-private-ip-google-access", "enable-flow-logs", "add-secondary-ranges",
                    "remove-secondary-ranges", "stack-type",
                ])),
        )
        .command(
            Command::new("expand-ip-range", "Expand the IP range of a subnetwork.", expand)
                .arg("NAME", "The name of the subnet.")
                .flag(super::region_flag())
                .flag(Flag::int("prefix-length", "The length of the new, shorter prefix.").required()),
        )
        .command(
            Command::new("delete", "Delete subnetworks.", |inv| verbs::delete(inv, &SUBNETS, "NAME"))
                .args("NAME", "The names of the subnets.")
                .flag(super::region_flag()),
        )
        .command(
            Command::new("describe", "Describe a subnetwork.", |inv| verbs::describe(inv, &SUBNETS, "NAME"))
                .arg("NAME", "The name of the subnet.")
                .flag(super::region_flag()),
        )
        .command(
            Command::new("list", "List subnetworks.", list)
                .flags(super::list_flags())
                .flag(Flag::list("regions", "Only subnets in these regions.").metavar("REGION"))
                .flag(Flag::text("network", "Only subnets of this network.")),
        )
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let args = &inv.args;
    let link = SUBNETS.resolve(inv, args.name("NAME"))?;
    let network = NETWORKS.resolve(inv, args.text("network").unwrap_or_default())?;
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert("network".into(), json!(network.url(inv.api.base())));
    let texts = [
        ("range", "ipCidrRange"),
        ("description", "description"),
        ("purpose", "purpose"),
        ("role", "role"),
        ("stack-type", "stackType"),
    ];
    for (flag, field) in texts {
        if let Some(value) = args.text(flag) {
            body.insert(field.into(), json!(value));
        }
    }
    if !args.text("purpose").is_some_and(|purpose| PROXY_ONLY.contains(&purpose)) {
        body.insert("privateIpGoogleAccess".into(), json!(args.on("enable-private-ip-google-access")));
    }
    if let Some(on) = args.toggle("enable-flow-logs") {
        body.insert("logConfig".into(), json!({"enable": on}));
    }
    if let Some(ranges) = args.pairs("secondary-range") {
        body.insert("secondaryIpRanges".into(), secondary(ranges));
    }
    verbs::create(inv, link, Value::Object(body), TABLE)
}

fn secondary(ranges: &[(String, String)]) -> Value {
    ranges.iter().map(|(name, range)| json!({"rangeName": name, "ipCidrRange": range})).collect()
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let args = &inv.args;
    let link = SUBNETS.resolve(inv, args.name("NAME"))?;
    if let Some(on) = args.toggle("enable-private-ip-google-access") {
        let body = json!({"privateIpGoogleAccess": on});
        return verbs::update(inv, Change::call(link, "setPrivateIpGoogleAccess", body));
    }
    let old = verbs::read(inv, &link)?;
    let mut body = Map::new();
    body.insert("fingerprint".into(), old.get("fingerprint").cloned().unwrap_or(Value::Null));
    for (flag, field) in [("role", "role"), ("purpose", "purpose"), ("stack-type", "stackType")] {
        if let Some(value) = args.text(flag) {
            body.insert(field.into(), json!(value));
        }
    }
    if let Some(on) = args.toggle("enable-flow-logs") {
        body.insert("logConfig".into(), json!({"enable": on}));
    }
    let removed = args.list("remove-secondary-ranges").unwrap_or_default();
    let added = args.pairs("add-secondary-ranges").unwrap_or_default();
    if !removed.is_empty() || !added.is_empty() {
        let named = |range: &Value| range.get("rangeName").and_then(Value::as_str).map(str::to_owned);
        let kept = old.get("secondaryIpRanges").and_then(Value::as_array).into_iter().flatten();
        let mut ranges: Vec<Value> =
            kept.filter(|range| named(range).is_none_or(|name| !removed.contains(&name))).cloned().collect();
        ranges.extend(secondary(added).as_array().into_iter().flatten().cloned());
        body.insert("secondaryIpRanges".into(), Value::Array(ranges));
    }
    let mut change = Change::patch(link, Value::Object(body));
    if let Some(seconds) = args.int("drain-timeout") {
        change.path = format!("{}?drainTimeoutSeconds={seconds}", change.path);
    }
    verbs::update(inv, change)
}

fn expand(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = SUBNETS.resolve(inv, inv.args.name("NAME"))?;
    let length = inv.args.int("prefix-length").unwrap_or_default();
    let old = verbs::read(inv, &link)?;
    let range = old.get("ipCidrRange").and_then(Value::as_str).unwrap_or_default();
    let wider = widened(range, length)
        .ok_or_else(|| Failure::new(format!("Cannot expand the range [{range}] to /{length}.")))?;
    inv.confirm_or_abort(&format!("The IP range of subnetwork [{}] will be expanded from {range} to {wider}. This operation may take several minutes to complete and cannot be undone.", link.name))?;
    verbs::update(inv, Change::call(link, "expandIpCidrRange", json!({"ipCidrRange": wider})))
}

/// The same network with a shorter prefix, host bits cleared.
fn widened(range: &str, length: i64) -> Option<String> {
    let (address, old) = range.split_once('/')?;
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    let (old, length): (u32, u32) = (old.parse().ok()?, u32::try_from(length).ok()?);
    let mask = u32::MAX.checked_shl(32 - length).filter(|_| length <= old && length > 0)?;
    Some(format!("{}/{length}", std::net::Ipv4Addr::from(u32::from(address) & mask)))
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut found = verbs::collect(inv, &SUBNETS)?;
    if let Some(network) = inv.args.text("network") {
        let wanted = NETWORKS.resolve(inv, network)?;
        let of = |subnet: &Value| Link::parse(subnet.get("network")?.as_str()?, &wanted.project);
        found.retain(|subnet| of(subnet).as_ref() == Some(&wanted));
    }
    inv.list(found, LIST_TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widens() {
        assert_eq!(widened("10.0.1.0/24", 20).as_deref(), Some("10.0.0.0/20"));
        assert_eq!(widened("10.0.0.0/24", 25), None);
        assert_eq!(widened("x", 20), None);
    }
}
