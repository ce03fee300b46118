//! The subnetworks that auto mode networks bring with them.

use serde_json::json;
use vestibule_model::{ResourceName, Scope, region};

use super::{linked, networks};
use crate::{Change, Document, document};

/// Second octets of the /20 ranges in 10.0.0.0/8 that Google gives to its regions.
const PUBLISHED: &[(&str, u8)] = &[
    ("us-central1", 128),
    ("europe-west1", 132),
    ("us-west1", 138),
    ("asia-east1", 140),
    ("us-east1", 142),
    ("asia-northeast1", 146),
    ("asia-southeast1", 148),
    ("us-east4", 150),
    ("australia-southeast1", 152),
    ("europe-west2", 154),
    ("europe-west3", 156),
    ("southamerica-east1", 158),
    ("asia-south1", 160),
    ("northamerica-northeast1", 162),
    ("europe-west4", 164),
    ("europe-north1", 166),
    ("us-west2", 168),
    ("asia-east2", 170),
    ("europe-west6", 172),
    ("asia-northeast2", 174),
    ("asia-northeast3", 178),
    ("us-west3", 180),
    ("us-west4", 182),
    ("asia-southeast2", 184),
    ("europe-central2", 186),
    ("northamerica-northeast2", 188),
    ("asia-south2", 190),
    ("australia-southeast2", 192),
    ("southamerica-west1", 194),
    ("europe-west8", 198),
    ("europe-west9", 200),
    ("us-east5", 202),
    ("europe-southwest1", 204),
    ("us-south1", 206),
    ("me-west1", 208),
    ("europe-west12", 210),
    ("me-central1", 212),
    ("europe-west10", 214),
    ("me-central2", 216),
    ("africa-south1", 218),
];

/// The octet of the first region that is in our list and not among the published ones; the next has two more.
const FIRST_UNPUBLISHED: usize = 220;

/// An automatic subnetwork before it is made.
pub struct Automatic {
    pub name: ResourceName,
    pub doc: Document,
}

/// The subnetwork of an auto mode network in one region. It bears the network's name.
pub fn automatic(network: &ResourceName, region: &str) -> Automatic {
    let name =
        ResourceName::new(&network.project, Scope::region(region), "subnetworks", network.name.as_str());
    let doc = json!({"network": network.self_link(), "ipCidrRange": range(region)});
    Automatic { name, doc: document::object(&doc).clone() }
}

/// Whether a subnetwork is one that its network brought: it cannot be deleted alone.
pub fn is_automatic(change: &Change<'_>, name: &ResourceName, doc: &Document) -> bool {
    let Some(network) = linked(doc, "network") else { return false };
    let auto = change.find(&network).is_some_and(|network| networks::is_auto(document::object(&network)));
    auto && name.name == network.name
}

fn range(region: &str) -> String {
    let published = |name: &str| PUBLISHED.iter().find(|(known, _)| *known == name).map(|(_, octet)| *octet);
    let octet = published(region).map_or_else(
        || {
            let unpublished = region::REGIONS.iter().filter(|region| published(region.name).is_none());
            let at = unpublished.map(|region| region.name).position(|name| name == region);
            FIRST_UNPUBLISHED + 2 * at.unwrap_or_default()
        },
        usize::from,
    );
    format!("10.{octet}.0.0/20")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_region_has_a_range_of_its_own_in_the_auto_space() {
        let ranges: BTreeSet<String> = region::REGIONS.iter().map(|region| range(region.name)).collect();
        assert_eq!(ranges.len(), region::REGIONS.len());
        for text in ranges {
            let octet: u8 = text.split('.').nth(1).unwrap().parse().unwrap();
            assert!(octet >= 128, "{text}");
        }
        assert_eq!(range("us-central1"), "10.128.0.0/20");
    }
}
