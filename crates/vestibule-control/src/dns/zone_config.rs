//! Who sees a zone, and who answers for it: the parts of a zone's document that mean something to the resolver.

use serde_json::{Value, json};
use vestibule_dns::{Name, Target};

use super::{binding, invalid, quota, required, servers};
use crate::{Change, Document, Error, document};

/// Where a zone's document is found in texts of errors.
const ENTITY: &str = "entity.managedZone";

/// Checks `visibility` and everything that depends on it, and brings links to networks into their canonical form.
pub(super) fn check(change: &Change<'_>, of: &str, doc: &mut Document) -> Result<(), Error> {
    document::default(doc, "visibility", "public");
    let private = doc.get("visibility") == Some(&json!("private"));
    visibility(change, of, private, doc)?;
    if !private && (doc.contains_key("forwardingConfig") || doc.contains_key("peeringConfig")) {
        return Err(invalid(&format!("{ENTITY}.visibility"), "public"));
    }
    let mut answering = ANSWERING.iter().filter(|field| doc.contains_key(**field));
    if let (Some(_), Some(other)) = (answering.next(), answering.next()) {
        return Err(invalid(&format!("{ENTITY}.{other}"), other));
    }
    reverse_lookup(private, doc)?;
    forwarding(doc)?;
    peering(change, of, doc)?;
    not_built(doc)
}

/// What has others answer for a zone than its record sets. A zone has one of them at most.
const ANSWERING: [&str; 3] = ["forwardingConfig", "peeringConfig", REVERSE];

const REVERSE: &str = "reverseLookupConfig";

/// Whether the names of machines answer for a zone.
pub(super) fn is_reverse_lookup(doc: &Document) -> bool {
    doc.contains_key(REVERSE)
}

/// Whether record sets answer for a zone.
pub(super) fn holds_records(doc: &Document) -> bool {
    !ANSWERING.iter().any(|field| doc.contains_key(*field))
}

/// A reverse lookup zone is private, and about addresses. Machines here have addresses of IPv4.
fn reverse_lookup(private: bool, doc: &mut Document) -> Result<(), Error> {
    if !is_reverse_lookup(doc) {
        return Ok(());
    }
    let name = document::text(doc, "dnsName").unwrap_or_default();
    let arpa = Name::parse("in-addr.arpa.");
    if !private {
        return Err(invalid(&format!("{ENTITY}.visibility"), "public"));
    }
    if !matches!((Name::parse(name), arpa), (Ok(name), Ok(arpa)) if name.is_within(&arpa)) {
        return Err(invalid(&format!("{ENTITY}.dnsName"), name));
    }
    doc.insert(REVERSE.into(), json!({ "kind": "dns#managedZoneReverseLookupConfig" }));
    Ok(())
}

/// Links to all networks in a document, as they stand in it.
pub(super) fn network_links(doc: &Document) -> impl Iterator<Item = &str> {
    seeing(doc).chain(peer(doc))
}

/// Links to the networks that see a zone.
pub(super) fn seeing(doc: &Document) -> impl Iterator<Item = &str> {
    doc.get("privateVisibilityConfig").into_iter().flat_map(|config| binding::links(document::object(config)))
}

/// The link to the network that a peering zone asks.
pub(super) fn peer(doc: &Document) -> Option<&str> {
    doc.get("peeringConfig")?["targetNetwork"]["networkUrl"].as_str()
}

/// The servers that a forwarding zone asks; `None` if it is no such zone.
pub(super) fn targets(doc: &Document) -> Option<Vec<Target>> {
    Some(servers::targets(document::object(doc.get("forwardingConfig")?)))
}

fn visibility(change: &Change<'_>, of: &str, private: bool, doc: &mut Document) -> Result<(), Error> {
    let place = format!("{ENTITY}.privateVisibilityConfig");
    let Some(Value::Object(mut config)) = doc.remove("privateVisibilityConfig") else { return Ok(()) };
    if !document::items(&config, "gkeClusters").is_empty() {
        return Err(Error::not_built("dns.managedZones.privateVisibilityConfig.gkeClusters"));
    }
    config.remove("gkeClusters");
    let Some(Value::Array(mut networks)) = config.remove("networks").filter(|n| n != &json!([])) else {
        // Terraform sends an empty list for public zones, and expects not to get it back.
        return Ok(());
    };
    if !private {
        return Err(invalid(&place, "privateVisibilityConfig"));
    }
    let entry = "dns#managedZonePrivateVisibilityConfigNetwork";
    binding::canonical(change, of, &mut networks, &format!("{place}.networks"), entry)?;
    config.insert("kind".into(), "dns#managedZonePrivateVisibilityConfig".into());
    config.insert("networks".into(), Value::Array(networks));
    doc.insert("privateVisibilityConfig".into(), Value::Object(config));
    Ok(())
}

fn forwarding(doc: &mut Document) -> Result<(), Error> {
    let Some(Value::Object(config)) = doc.get_mut("forwardingConfig") else { return Ok(()) };
    let place = format!("{ENTITY}.forwardingConfig.targetNameServers");
    let targets = document::items(config, "targetNameServers");
    if targets.is_empty() {
        return Err(required(&place));
    }
    quota::check_targets(targets.len())?;
    servers::check(targets, &place, "dns.managedZones.forwardingConfig.targetNameServers")?;
    config.insert("kind".into(), "dns#managedZoneForwardingConfig".into());
    let targets = config.get_mut("targetNameServers").and_then(Value::as_array_mut);
    for target in targets.into_iter().flatten().filter_map(Value::as_object_mut) {
        target.insert("kind".into(), "dns#managedZoneForwardingConfigNameServerTarget".into());
    }
    Ok(())
}

fn peering(change: &Change<'_>, of: &str, doc: &mut Document) -> Result<(), Error> {
    let Some(link) = peer(doc).map(str::to_owned) else {
        return match doc.get("peeringConfig") {
            Some(_) => Err(required(&format!("{ENTITY}.peeringConfig.targetNetwork.networkUrl"))),
            None => Ok(()),
        };
    };
    let path = format!("{ENTITY}.peeringConfig.targetNetwork.networkUrl");
    let link = binding::resolved(change, of, &path, &link)?;
    if let Some(config) = doc.get_mut("peeringConfig") {
        config["kind"] = "dns#managedZonePeeringConfig".into();
        config["targetNetwork"]["kind"] = "dns#managedZonePeeringConfigTargetNetwork".into();
        config["targetNetwork"]["networkUrl"] = link.into();
    }
    Ok(())
}

/// Google logs questions from outside to a public zone, of which there are none here. What a network asks is logged by
/// its policy.
fn logging(doc: &Document) -> Result<(), Error> {
    if doc.get("cloudLoggingConfig").is_none_or(|config| config["enableLogging"] != true) {
        return Ok(());
    }
    if doc.get("visibility") == Some(&json!("private")) {
        let message = format!(
            "Invalid value for '{ENTITY}.cloudLoggingConfig.enableLogging': 'true'. Questions to private zones are \
             logged by a DNS policy of the network (enableLogging)."
        );
        return Err(Error::Named { reason: "invalid", message });
    }
    Err(Error::not_built("dns.managedZones.cloudLoggingConfig.enableLogging"))
}

/// What is documented and would silently do nothing here.
fn not_built(doc: &Document) -> Result<(), Error> {
    document::not_built(doc, "dns.managedZones", &["serviceDirectoryConfig"])?;
    let signed =
        doc.get("dnssecConfig").is_some_and(|config| config["state"].as_str().is_some_and(|s| s != "off"));
    if signed {
        return Err(Error::not_built("dns.managedZones.dnssecConfig.state"));
    }
    logging(doc)
}
