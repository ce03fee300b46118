//! What the machine's networks are made from: which there are, their subnets, their routes, their firewall rules, and whose the
//! addresses inside them are. All of it is read from a view of the store; nothing here keeps state.

mod addresses;
mod firewall;
#[cfg(test)]
mod firewall_model;
mod routes;
#[cfg(test)]
mod tests;

pub use addresses::{place, proxy_addresses, region_addresses, resolver_addresses, sites, subnetworks};
pub use firewall::{Member, firewall};
pub use routes::routes;

use std::collections::BTreeMap;

use serde_json::Value;
use vestibule_model::ResourceName;
use vestibule_store::View;
use vestibule_vpc::{NetworkId, Subnet};

use crate::compute::default_network;

/// Every VPC network with the primary ranges of its subnetworks, but for those that [sleep](default_network::sleeps).
pub fn networks(view: &View) -> BTreeMap<NetworkId, Vec<Subnet>> {
    let mut found = BTreeMap::new();
    for document in view.range("compute/projects/") {
        let Some(relative) = document.key.strip_prefix("compute/") else { continue };
        if relative.contains("/global/networks/") {
            found.entry(NetworkId::from_relative(relative)).or_insert_with(Vec::new);
        } else if relative.contains("/subnetworks/")
            && let Some((network, subnet)) = subnet(&document.value)
        {
            found.entry(network).or_insert_with(Vec::new).push(subnet);
        }
    }
    found.retain(|network: &NetworkId, _| {
        let name = ResourceName::parse(network.as_str());
        !name.is_ok_and(|name| default_network::sleeps(view, &name))
    });
    found
}

/// The longest packet in a network, in bytes. Google's default is 1460.
pub fn mtu(view: &View, network: &NetworkId) -> u32 {
    let stored = view.get(&format!("compute/{network}"));
    let said = stored.and_then(|document| document.value["mtu"].as_u64());
    said.and_then(|mtu| mtu.try_into().ok()).unwrap_or(DEFAULT_MTU)
}

const DEFAULT_MTU: u32 = 1460;

fn subnet(document: &Value) -> Option<(NetworkId, Subnet)> {
    let network = document["network"].as_str()?;
    let network = &network[network.find("projects/")?..];
    let (range, prefix) = document["ipCidrRange"].as_str()?.split_once('/')?;
    let gateway = document["gatewayAddress"].as_str()?.parse().ok()?;
    let subnet = Subnet { range: range.parse().ok()?, prefix: prefix.parse().ok()?, gateway };
    Some((NetworkId::from_relative(network), subnet))
}
