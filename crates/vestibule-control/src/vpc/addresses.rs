//! Whose addresses are whose: those of a region, and those of the proxies in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use vestibule_dns::{Place, Site, Sites};
use vestibule_model::{ResourceName, Scope, region};
use vestibule_store::View;
use vestibule_vpc::{Addresses, NetworkId};

use crate::compute::addresses::DNS_RESOLVER;
use crate::compute::{linked, subnetworks};
use crate::{Document, document, users};

/// The names of a network's subnetworks, by region.
pub fn subnetworks(view: &View, network: &ResourceName) -> Vec<ResourceName> {
    let users = users(view, &network.key());
    users
        .iter()
        .filter_map(|key| ResourceName::from_key(key))
        .filter(|user| user.collection == "subnetworks")
        .collect()
}

/// The addresses that clients in one region of a network can have: all ranges of its subnetworks there. A load
/// balancer without `allowGlobalAccess` serves these and no others.
pub fn region_addresses(view: &View, network: &NetworkId, region: &str) -> Addresses {
    in_region(view, network, region).flat_map(ranges).collect()
}

/// The addresses from which `count` proxies (workers, say) connect to endpoints inside the network: the lowest usable
/// ones of the region's active proxy-only subnetwork, one each. Fewer if it is small, none if there is none.
pub fn proxy_addresses(view: &View, network: &NetworkId, region: &str, count: usize) -> Vec<Ipv4Addr> {
    let active = in_region(view, network, region).find(|doc| subnetworks::is_active(doc));
    let range = active.and_then(|doc| subnetworks::primary_range(doc).ok());
    range.map(|range| range.usable().take(count).collect()).unwrap_or_default()
}

/// The addresses inside of every network at which its resolver answers too: the inbound forwarders of its DNS policy.
pub fn resolver_addresses(view: &View) -> BTreeMap<NetworkId, BTreeSet<Ipv4Addr>> {
    let mut found: BTreeMap<NetworkId, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    let addresses = view.range("compute/projects/").filter(|kv| kv.key.contains("/addresses/"));
    for doc in addresses.map(|kv| document::object(&kv.value)) {
        let place =
            linked(doc, "subnetwork").filter(|_| document::text(doc, "purpose") == Some(DNS_RESOLVER));
        let network =
            place.and_then(|name| linked(document::object(&view.get(&name.key())?.value), "network"));
        let address = document::text(doc, "address").and_then(|text| text.parse().ok());
        if let (Some(network), Some(address)) = (network, address) {
            found.entry(NetworkId::from_relative(&network.relative())).or_default().insert(address);
        }
    }
    found
}

/// Where the addresses of every network are: the ranges of its subnetworks, with their regions.
pub fn sites(view: &View) -> BTreeMap<NetworkId, Arc<Sites>> {
    let mut found: BTreeMap<NetworkId, Vec<Site>> = BTreeMap::new();
    for kv in view.range("compute/projects/").filter(|kv| kv.key.contains("/subnetworks/")) {
        let Some(Scope::Region(region)) = ResourceName::from_key(&kv.key).map(|name| name.scope) else {
            continue;
        };
        let doc = document::object(&kv.value);
        let Some(network) = linked(doc, "network") else { continue };
        let place = place(&region);
        let region: Arc<str> = region.into();
        let site = |(first, last)| Site { first, last, region: region.clone(), place };
        found.entry(NetworkId::from_relative(&network.relative())).or_default().extend(ranges(doc).map(site));
    }
    found.into_iter().map(|(network, sites)| (network, Arc::new(Sites::new(sites)))).collect()
}

/// Where a region is.
pub fn place(region: &str) -> Option<Place> {
    region::find(region).map(|region| Place::new(region.place.0, region.place.1))
}

/// The first and last addresses of a subnetwork's ranges.
fn ranges(doc: &Document) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
    subnetworks::ranges(doc).map(|range| (range.first(), range.last()))
}

/// The documents of a network's subnetworks in a region.
fn in_region<'v>(
    view: &'v View,
    network: &NetworkId,
    region: &str,
) -> impl Iterator<Item = &'v Document> + use<'v> {
    let network = ResourceName::parse(network.as_str()).ok();
    let parent = network.as_ref().map(|network| {
        ResourceName::new(&network.project, Scope::Region(region.to_owned()), "subnetworks", "").parent_key()
    });
    let stored = parent.into_iter().flat_map(|parent| view.range(&parent));
    stored.map(|kv| document::object(&kv.value)).filter(move |doc| linked(doc, "network") == network)
}
