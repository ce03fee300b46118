//! Who sees a zone, and who answers for it: the parts of a zone's document that mean something to the resolver.

use std::net::IpAddr;

use serde_json::{Value, json};
use vestibule_model::{ResourceName, Scope, project};

use super::{invalid, required};
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
    if doc.contains_key("forwardingConfig") && doc.contains_key("peeringConfig") {
        return Err(invalid(&format!("{ENTITY}.peeringConfig"), "peeringConfig"));
    }
    forwarding(doc)?;
    peering(change, of, doc)?;
    not_built(doc)
}

/// Links to all networks in a document, as they stand in it.
pub(super) fn network_links(doc: &Document) -> impl Iterator<Item = &str> {
    seeing(doc).chain(peer(doc))
}

/// Links to the networks that see a zone.
pub(super) fn seeing(doc: &Document) -> impl Iterator<Item = &str> {
    let networks = doc
        .get("privateVisibilityConfig")
        .map_or(&[][..], |c| document::items(document::object(c), "networks"));
    networks.iter().filter_map(|network| network["networkUrl"].as_str())
}

/// The link to the network that a peering zone asks.
pub(super) fn peer(doc: &Document) -> Option<&str> {
    doc.get("peeringConfig")?["targetNetwork"]["networkUrl"].as_str()
}

/// The addresses that a forwarding zone asks; `None` if it is no such zone.
pub(super) fn targets(doc: &Document) -> Option<Vec<IpAddr>> {
    let config = doc.get("forwardingConfig")?;
    let servers = document::items(document::object(config), "targetNameServers").iter();
    Some(servers.filter_map(target_address).collect())
}

fn target_address(server: &Value) -> Option<IpAddr> {
    let text = server["ipv4Address"].as_str().or_else(|| server["ipv6Address"].as_str())?;
    text.parse().ok()
}

fn visibility(change: &Change<'_>, of: &str, private: bool, doc: &mut Document) -> Result<(), Error> {
    let place = format!("{ENTITY}.privateVisibilityConfig");
    let Some(Value::Object(mut config)) = doc.remove("privateVisibilityConfig") else { return Ok(()) };
    if !document::items(&config, "gkeClusters").is_empty() {
        return Err(Error::not_implemented("dns.managedZones.privateVisibilityConfig.gkeClusters"));
    }
    config.remove("gkeClusters");
    let Some(Value::Array(mut networks)) = config.remove("networks").filter(|n| n != &json!([])) else {
        // Terraform sends an empty list for public zones, and expects not to get it back.
        return Ok(());
    };
    if !private {
        return Err(invalid(&place, "privateVisibilityConfig"));
    }
    for (index, network) in networks.iter_mut().enumerate() {
        let path = format!("{place}.networks[{index}].networkUrl");
        let link = network["networkUrl"].as_str().ok_or_else(|| required(&path))?;
        let link = resolved(change, of, &path, link)?;
        *network = json!({ "kind": "dns#managedZonePrivateVisibilityConfigNetwork", "networkUrl": link });
    }
    let distinct: std::collections::BTreeSet<String> = networks.iter().map(Value::to_string).collect();
    if distinct.len() < networks.len() {
        return Err(invalid(&format!("{place}.networks"), "duplicate network"));
    }
    config.insert("kind".into(), "dns#managedZonePrivateVisibilityConfig".into());
    config.insert("networks".into(), Value::Array(networks));
    doc.insert("privateVisibilityConfig".into(), Value::Object(config));
    Ok(())
}

/// The canonical link to a network that must exist. Its project may be named by its number.
fn resolved(change: &Change<'_>, of: &str, path: &str, link: &str) -> Result<String, Error> {
    let parsed = ResourceName::parse_with(link, of, &Scope::Global, "networks");
    let mut name =
        parsed.and_then(|name| name.expect_collection(&["networks"])).map_err(|_| invalid(path, link))?;
    name.project = project::resolve(&name.project, [of]).to_owned();
    if change.find(&name).is_none() {
        return Err(invalid(path, link));
    }
    Ok(name.self_link())
}

fn forwarding(doc: &Document) -> Result<(), Error> {
    let Some(config) = doc.get("forwardingConfig") else { return Ok(()) };
    let place = format!("{ENTITY}.forwardingConfig.targetNameServers");
    let servers = document::items(document::object(config), "targetNameServers");
    if servers.is_empty() {
        return Err(required(&place));
    }
    for (index, server) in servers.iter().enumerate() {
        if server["domainName"].is_string() {
            return Err(Error::not_implemented(
                "dns.managedZones.forwardingConfig.targetNameServers.domainName",
            ));
        }
        let (v4, v6) = (server["ipv4Address"].as_str(), server["ipv6Address"].as_str());
        let fits = match (v4, v6) {
            (Some(v4), None) => v4.parse::<std::net::Ipv4Addr>().is_ok(),
            (None, Some(v6)) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            _ => false,
        };
        if !fits {
            let value = v4.or(v6).unwrap_or_default();
            return Err(invalid(&format!("{place}[{index}].ipv4Address"), value));
        }
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
    let link = resolved(change, of, &path, &link)?;
    if let Some(url) =
        doc.get_mut("peeringConfig").and_then(|config| config.pointer_mut("/targetNetwork/networkUrl"))
    {
        *url = Value::String(link);
    }
    Ok(())
}

/// What is documented and would silently do nothing here.
fn not_built(doc: &Document) -> Result<(), Error> {
    document::not_built(doc, "dns.managedZones", &["serviceDirectoryConfig", "reverseLookupConfig"])?;
    let signed =
        doc.get("dnssecConfig").is_some_and(|config| config["state"].as_str().is_some_and(|s| s != "off"));
    if signed {
        return Err(Error::not_implemented("dns.managedZones.dnssecConfig.state"));
    }
    if doc.get("cloudLoggingConfig").is_some_and(|config| config["enableLogging"] == true) {
        return Err(Error::not_implemented("dns.managedZones.cloudLoggingConfig.enableLogging"));
    }
    Ok(())
}
