//! Where a forwarding rule stands: subnetwork, address, port.

use std::net::Ipv4Addr;

use vestibule_model::{ResourceName, Scope};

use super::super::addresses::{Claim, Ports, allocate};
use super::super::kind::linked;
use super::super::{networks, subnetworks};
use crate::{Change, Document, Error, document};

/// The network and subnetwork of a rule.
pub struct Place {
    pub network: ResourceName,
    pub subnetwork: ResourceName,
}

/// Reads protocol and port, and writes them as they are read back: `TCP` and `80-80`.
pub fn port(doc: &mut Document) -> Result<Ports, Error> {
    document::one_of(doc, "resource", "IPProtocol", &["TCP"])?;
    document::default(doc, "IPProtocol", "TCP");
    let field = "resource.portRange";
    let text = document::text(doc, "portRange").ok_or_else(|| Error::required(field))?;
    let ports = Ports::parse("TCP", text)
        .ok_or_else(|| Error::invalid(field, text, "Must be a port between 1 and 65535."))?;
    if ports.first != ports.last {
        return Err(Error::invalid(field, text, "The forwarding rule must have exactly one port."));
    }
    doc.insert("portRange".into(), range_text(&ports).into());
    Ok(ports)
}

/// The port range as it is read back, if the document has a sound one.
pub fn written_range(doc: &Document) -> Option<String> {
    Ports::parse("TCP", document::text(doc, "portRange")?).map(|ports| range_text(&ports))
}

fn range_text(ports: &Ports) -> String {
    format!("{}-{}", ports.first, ports.last)
}

/// Resolves network and subnetwork, each from the other where it is missing.
pub fn subnetwork(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<Place, Error> {
    let network = change.resolve(name, doc, "network", &networks::SCOPE, &["networks"])?;
    let subnetwork = change.resolve(name, doc, "subnetwork", &name.scope, &["subnetworks"])?;
    let place = match (network, subnetwork) {
        (network, Some(subnetwork)) => {
            let theirs = subnetworks::network_of(document::object(&*change.expect(&subnetwork)?))?;
            if let Some(network) = network.filter(|network| *network != theirs) {
                let message =
                    format!("Subnetwork \"{subnetwork}\" is not valid for Network \"{}\".", network.name);
                return Err(Error::bad_request(message));
            }
            Place { network: theirs, subnetwork }
        }
        (network, None) => {
            let network = network.unwrap_or_else(|| {
                ResourceName::new(name.project.clone(), Scope::Global, "networks", "default")
            });
            let subnetwork = automatic(change, name, &network)?;
            Place { network, subnetwork }
        }
    };
    check_subnetwork(change, name, &place.subnetwork)?;
    doc.insert("network".into(), place.network.self_link().into());
    doc.insert("subnetwork".into(), place.subnetwork.self_link().into());
    Ok(place)
}

/// The subnetwork of an auto mode network in the rule's region.
fn automatic(
    change: &Change<'_>,
    name: &ResourceName,
    network: &ResourceName,
) -> Result<ResourceName, Error> {
    let stored = change.expect(network)?;
    if !networks::is_auto(document::object(&stored)) {
        let why = "Subnetwork must be specified for a custom subnet mode network.";
        return Err(Error::invalid("resource.subnetwork", "", why));
    }
    let subnetwork = name.sibling("subnetworks", &network.name);
    change.expect(&subnetwork)?;
    Ok(subnetwork)
}

fn check_subnetwork(
    change: &Change<'_>,
    name: &ResourceName,
    subnetwork: &ResourceName,
) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::invalid("resource.subnetwork", subnetwork.self_link(), why));
    if subnetwork.scope != name.scope {
        return refuse("The subnetwork must be in the region of the forwarding rule.");
    }
    if !subnetworks::is_private(document::object(&*change.expect(subnetwork)?)) {
        return refuse("Forwarding rule's subnetwork must have purpose=PRIVATE.");
    }
    Ok(())
}

/// Finds the rule's address: the literal or reserved one it asks for, or the lowest that is free.
pub fn address(
    change: &mut Change<'_>,
    name: &ResourceName,
    place: &Place,
    doc: &Document,
    ports: Ports,
) -> Result<Ipv4Addr, Error> {
    let field = "resource.IPAddress";
    let wanted = match document::text(doc, "IPAddress") {
        None => None,
        Some(text) => Some(match text.parse::<Ipv4Addr>() {
            Ok(literal) => literal,
            Err(_) if text.contains(':') && !text.contains('/') => {
                return Err(Error::not_built("compute.forwardingRules with an IPv6 address"));
            }
            Err(_) => reserved(change, name, place, text)?,
        }),
    };
    allocate(change, &place.subnetwork, field, wanted, Claim::Rule(ports))
}

/// The literal of a reserved address.
fn reserved(change: &Change<'_>, name: &ResourceName, place: &Place, text: &str) -> Result<Ipv4Addr, Error> {
    let field = "resource.IPAddress";
    let looks_numeric = text.split('.').count() == 4 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if looks_numeric {
        return Err(Error::invalid(field, text, "Invalid IP address specified."));
    }
    let address = change.reference(name, field, text, &name.scope, &["addresses"])?;
    let stored = change.expect(&address)?;
    let stored = document::object(&stored);
    if linked(stored, "subnetwork").as_ref() != Some(&place.subnetwork) {
        let why = "The address must be reserved in the subnetwork of the forwarding rule.";
        return Err(Error::invalid(field, text, why));
    }
    let literal = document::text(stored, "address").and_then(|literal| literal.parse().ok());
    literal.ok_or_else(|| Error::internal(format!("{address} has no address")))
}
