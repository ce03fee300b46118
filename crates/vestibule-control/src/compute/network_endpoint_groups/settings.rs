//! What may be said of a group with endpoints.

use vestibule_model::{ResourceName, Scope, region};

use super::EndpointType;
use crate::compute::{linked, subnetworks};
use crate::{Change, Document, Error, document};

/// The network of a group that names none.
const DEFAULT_NETWORK: &str = "default";

/// Checks a group with endpoints, and fills in its network.
pub fn validate(
    change: &Change<'_>,
    name: &ResourceName,
    doc: &mut Document,
    kind: EndpointType,
) -> Result<(), Error> {
    for field in ["cloudRun", "cloudFunction", "appEngine", "pscTargetService", "pscData"] {
        if let Some(value) = doc.get(field) {
            let why = format!("The field cannot be set for network endpoint groups of type {}.", kind.text());
            return Err(Error::invalid(format!("resource.{field}"), document::quoted(value), why));
        }
    }
    document::within(doc, "resource", "defaultPort", 1..=65_535)?;
    if kind != EndpointType::Vm
        && let Some(value) = document::text(doc, "subnetwork")
    {
        let why = format!("The field cannot be set for network endpoint groups of type {}.", kind.text());
        return Err(Error::invalid("resource.subnetwork", value, why));
    }
    resolve(change, name, doc)
}

fn resolve(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    let region = region_of(name).unwrap_or_default().to_owned();
    let subnetwork =
        change.resolve(name, doc, "subnetwork", &Scope::Region(region.clone()), &["subnetworks"])?;
    let of_subnetwork = match &subnetwork {
        Some(subnetwork) => {
            if subnetwork.scope.region_name() != Some(region.as_str()) {
                let why = "The subnetwork must be in the region of the network endpoint group.";
                return Err(Error::invalid("resource.subnetwork", subnetwork, why));
            }
            let stored = change.expect(subnetwork)?;
            let subnetwork_doc = document::object(&stored);
            if !subnetworks::is_private(subnetwork_doc) {
                let why = "The subnetwork must have purpose=PRIVATE.";
                return Err(Error::invalid("resource.subnetwork", subnetwork, why));
            }
            linked(subnetwork_doc, "network")
        }
        None => None,
    };
    if document::text(doc, "network").is_none() {
        let own = of_subnetwork.clone();
        let network = own
            .unwrap_or_else(|| ResourceName::new(&name.project, Scope::Global, "networks", DEFAULT_NETWORK));
        doc.insert("network".into(), network.self_link().into());
    }
    let network = change.resolve(name, doc, "network", &Scope::Global, &["networks"])?;
    if of_subnetwork.is_some() && of_subnetwork != network {
        let why = "The subnetwork must belong to the network of the network endpoint group.";
        return Err(Error::invalid("resource.subnetwork", subnetwork.unwrap_or_else(|| name.clone()), why));
    }
    Ok(())
}

/// The region of a group: its own, or that of its zone.
pub fn region_of(name: &ResourceName) -> Option<&str> {
    match &name.scope {
        Scope::Region(region) => Some(region),
        Scope::Zone(zone) => region::of_zone(zone),
        Scope::Global => None,
    }
}
