//! Firewall rules of VPC networks: documents with Google's checks and defaults. What they mean for packets is compiled
//! by [`crate::vpc::firewall`]; where nothing can enforce them, the operation of an enabled rule says so.

use serde_json::Value;
use vestibule_model::ResourceName;
use vestibule_model::name::is_valid_name;

use super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind, linked};
use super::{Call, networks};
use crate::{Change, Document, Error, document};

/// `firewalls`
pub struct Firewalls;

static INFO: Info = Info {
    collection: "firewalls",
    scopes: &[ScopeKind::Global],
    word: "firewall",
    kind: "compute#firewall",
    list_kind: "compute#firewallList",
    aggregated_kind: None,
    fingerprint: Fingerprint::None,
    labels: false,
    methods: Methods::BOTH,
    actions: &[],
    questions: &[],
    output_only: &[],
};

/// Protocols that may be given by name; others by number.
const PROTOCOLS: &[&str] = &["tcp", "udp", "icmp", "esp", "ah", "ipip", "sctp", "all"];

/// Protocols that have ports.
const WITH_PORTS: &[&str] = &["tcp", "udp", "sctp", "6", "17", "132"];

/// Most entries of a list in a rule. A bound on documents rather than a rule of Google's.
const LONGEST_LIST: usize = 5_000;

impl Kind for Firewalls {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        // Input only: never read back.
        doc.remove("params");
        document::default(doc, "network", "global/networks/default");
        validate(change, name, doc)
    }

    fn update(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        old: &Document,
        new: &mut Document,
    ) -> Result<(), Error> {
        new.remove("params");
        if let Some(network) = old.get("network") {
            document::default(new, "network", network.clone());
        }
        validate(change, name, new)?;
        document::unchanged(old, new, "resource", "network")?;
        document::unchanged(old, new, "resource", "direction")
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        linked(doc, "network").into_iter().collect()
    }
}

fn validate(change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    document::within(doc, "resource", "priority", 0..=65_535)?;
    document::default(doc, "priority", 1000);
    document::one_of(doc, "resource", "direction", &["INGRESS", "EGRESS"])?;
    document::default(doc, "direction", "INGRESS");
    validate_rules(doc)?;
    validate_peers(doc)?;
    if let Some(Value::Object(log)) = doc.get("logConfig") {
        let metadata = ["INCLUDE_ALL_METADATA", "EXCLUDE_ALL_METADATA"];
        document::one_of(log, "resource.logConfig", "metadata", &metadata)?;
        if document::flag(log, "enable")
            && let Some(why) = change.control().settings().firewall_log_gap.clone()
        {
            let why = format!("Firewall rules logging is accepted, and no connection is recorded: {why}");
            change.warn("NOT_CRITICAL_ERROR", why);
        }
    }
    change.resolve(name, doc, "network", &networks::SCOPE, &["networks"])?;
    if !document::flag(doc, "disabled")
        && let Some(why) = change.control().settings().firewall_gap.clone()
    {
        change.warn("NOT_CRITICAL_ERROR", format!("Firewall rules are kept and not enforced: {why}"));
    }
    Ok(())
}

fn validate_rules(doc: &Document) -> Result<(), Error> {
    let (allowed, denied) = (document::items(doc, "allowed"), document::items(doc, "denied"));
    let field = match (allowed.is_empty(), denied.is_empty()) {
        (false, true) => "allowed",
        (true, false) => "denied",
        (true, true) => return Err(Error::required("resource.allowed")),
        (false, false) => {
            return Err(Error::bad_request("A firewall rule cannot have both 'allowed' and 'denied'."));
        }
    };
    for (at, rule) in document::items(doc, field).iter().enumerate() {
        validate_rule(document::object(rule), &format!("resource.{field}[{at}]"))?;
    }
    Ok(())
}

fn validate_rule(rule: &Document, path: &str) -> Result<(), Error> {
    let field = format!("{path}.IPProtocol");
    let protocol = document::text(rule, "IPProtocol").ok_or_else(|| Error::required(&field))?;
    let lower = protocol.to_ascii_lowercase();
    if !PROTOCOLS.contains(&lower.as_str()) && lower.parse::<u8>().is_err() {
        return Err(Error::invalid(field, protocol, "Must be a protocol's name or number."));
    }
    let ports = document::items(rule, "ports");
    if !ports.is_empty() && !WITH_PORTS.contains(&lower.as_str()) {
        let why = format!("The protocol {protocol} has no ports.");
        return Err(Error::invalid(format!("{path}.ports[0]"), document::quoted(&ports[0]), why));
    }
    for (at, port) in ports.iter().enumerate() {
        if !port.as_str().is_some_and(is_port_range) {
            let why = "Must be a port or a range of ports, e.g. 80 or 8000-8080.";
            return Err(Error::invalid(format!("{path}.ports[{at}]"), document::quoted(port), why));
        }
    }
    Ok(())
}

fn is_port_range(text: &str) -> bool {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    matches!((port(first), port(last)), (Some(first), Some(last)) if first <= last)
}

/// Whom a rule is about.
fn validate_peers(doc: &Document) -> Result<(), Error> {
    for field in ["sourceRanges", "destinationRanges"] {
        each(doc, field, "Must be an address range in CIDR notation.", is_any_range)?;
    }
    for field in ["sourceTags", "targetTags"] {
        each(doc, field, "Must be a match of regex '[a-z]([-a-z0-9]*[a-z0-9])?'.", is_valid_name)?;
    }
    for field in ["sourceServiceAccounts", "targetServiceAccounts"] {
        each(doc, field, "Must be a service account's email address.", |text| text.contains('@'))?;
    }
    let has = |field: &str| !document::items(doc, field).is_empty();
    if document::text(doc, "direction") == Some("EGRESS") {
        let ingress_only = ["sourceTags", "sourceServiceAccounts"];
        if let Some(field) = ingress_only.into_iter().find(|field| has(field)) {
            let why = "The field cannot be set on an EGRESS rule.";
            return Err(Error::invalid(format!("resource.{field}"), "", why));
        }
    }
    let by_tag = has("sourceTags") || has("targetTags");
    if by_tag && (has("sourceServiceAccounts") || has("targetServiceAccounts")) {
        return Err(Error::bad_request("A firewall rule cannot have both tags and service accounts."));
    }
    Ok(())
}

fn each(doc: &Document, field: &str, why: &str, good: impl Fn(&str) -> bool) -> Result<(), Error> {
    let items = document::items(doc, field);
    if items.len() > LONGEST_LIST {
        let why = format!("The list has more than {LONGEST_LIST} entries.");
        return Err(Error::invalid(format!("resource.{field}"), items.len(), why));
    }
    match items.iter().enumerate().find(|(_, item)| !item.as_str().is_some_and(&good)) {
        Some((at, item)) => {
            Err(Error::invalid(format!("resource.{field}[{at}]"), document::quoted(item), why))
        }
        None => Ok(()),
    }
}

/// An IPv4 or IPv6 range or address. Host bits are allowed here: Google masks them away.
fn is_any_range(text: &str) -> bool {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|prefix| prefix <= longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::compute::testing::World;
    use serde_json::json;

    fn body(extra: Value) -> Value {
        let mut body =
            json!({"name": "f", "network": "global/networks/n", "allowed": [{"IPProtocol": "tcp"}]});
        document::merge(body.as_object_mut().unwrap(), document::object(&extra).clone());
        body
    }

    #[test]
    fn defaults_are_filled_in_and_the_rest_is_kept() {
        let world = World::new();
        world.network("n");
        let extra =
            json!({"sourceRanges": ["10.129.0.0/23"], "allowed": [{"IPProtocol": "TCP", "ports": ["80"]}]});
        world.insert("global/firewalls", body(extra));
        let doc = world.get("global/firewalls/f");
        assert_eq!((&doc["priority"], &doc["direction"]), (&json!(1000), &json!("INGRESS")));
        assert_eq!(doc["allowed"], json!([{"IPProtocol": "TCP", "ports": ["80"]}]));
        assert!(doc.get("destinationRanges").is_none() && doc.get("disabled").is_none());
        assert_eq!(doc["network"], "https://www.googleapis.com/compute/v1/projects/demo/global/networks/n");
    }

    #[test]
    fn what_is_refused() {
        let world = World::new();
        world.network("n");
        for (extra, field) in [
            (json!({"priority": 65536}), "resource.priority"),
            (json!({"direction": "SIDEWAYS"}), "resource.direction"),
            (json!({"allowed": [{"IPProtocol": "nope"}]}), "resource.allowed[0].IPProtocol"),
            (json!({"allowed": [{"IPProtocol": "tcp", "ports": ["90-80"]}]}), "resource.allowed[0].ports[0]"),
            (json!({"allowed": [{"IPProtocol": "tcp", "ports": ["+80"]}]}), "resource.allowed[0].ports[0]"),
            (json!({"allowed": [{"IPProtocol": "icmp", "ports": ["80"]}]}), "resource.allowed[0].ports[0]"),
            (json!({"sourceRanges": ["10.0.0.0/8", "10.0.0.0/33"]}), "resource.sourceRanges[1]"),
            (json!({"targetTags": ["Web"]}), "resource.targetTags[0]"),
            (json!({"direction": "EGRESS", "sourceTags": ["web"]}), "resource.sourceTags"),
        ] {
            let error = world.try_insert("global/firewalls", body(extra.clone())).unwrap_err();
            assert!(matches!(&error, Error::Invalid { field: at, .. } if at == field), "{extra} {error}");
        }
        let neither = world.try_insert("global/firewalls", body(json!({"allowed": null})));
        assert_eq!(neither.unwrap_err(), Error::required("resource.allowed"));
        let both = world.try_insert("global/firewalls", body(json!({"denied": [{"IPProtocol": "all"}]})));
        assert!(matches!(both, Err(Error::BadRequest { .. })));
        let lost = world.try_insert("global/firewalls", body(json!({"network": null})));
        assert_eq!(lost.unwrap_err(), Error::not_found("projects/demo/global/networks/default"));
    }

    #[test]
    fn put_replaces_and_patch_merges() {
        let world = World::new();
        world.network("n");
        world.insert("global/firewalls", body(json!({"description": "d", "sourceTags": ["a"]})));
        let path = "global/firewalls/f";
        world.patch(path, json!({"priority": 5, "sourceTags": ["b"]}));
        let doc = world.get(path);
        assert_eq!((&doc["description"], &doc["sourceTags"]), (&json!("d"), &json!(["b"])));
        let operation = world.try_update(path, body(json!({"denied": null}))).unwrap();
        assert_eq!(operation["operationType"], "update");
        let doc = world.get(path);
        assert_eq!(doc["priority"], 1000);
        assert!(doc.get("description").is_none() && doc.get("sourceTags").is_none());
        assert!(world.try_patch(path, json!({"direction": "EGRESS"})).is_err());
    }

    #[test]
    fn what_is_not_enforced_is_said() {
        let settings =
            Settings { firewall_gap: Some("There is no network.".to_owned()), ..Settings::default() };
        let world = World::with_settings(settings);
        world.network("n");
        let operation = world.insert("global/firewalls", body(json!({})));
        let text = "Firewall rules are kept and not enforced: There is no network.";
        assert_eq!(operation["warnings"][0]["message"], text);
        let disabled = world.insert("global/firewalls", body(json!({"name": "g", "disabled": true})));
        assert_eq!(disabled.get("warnings"), None);
        let settings =
            Settings { firewall_log_gap: Some("There is no log.".to_owned()), ..Settings::default() };
        let mute = World::with_settings(settings);
        mute.network("n");
        let operation = mute.insert("global/firewalls", body(json!({"logConfig": {"enable": true}})));
        let text = "Firewall rules logging is accepted, and no connection is recorded: There is no log.";
        assert_eq!(operation["warnings"][0]["message"], text);
        let enforced = World::new();
        enforced.network("n");
        assert_eq!(enforced.insert("global/firewalls", body(json!({}))).get("warnings"), None);
    }

    #[test]
    fn a_firewall_keeps_its_network() {
        let world = World::new();
        world.network("n");
        world.insert("global/firewalls", body(json!({})));
        let operation = world.delete("global/networks/n");
        let text = operation["error"]["errors"][0]["message"].as_str().unwrap();
        assert!(text.ends_with("is already being used by 'projects/demo/global/firewalls/f'"), "{text}");
    }
}
