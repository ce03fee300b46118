//! Names that are there without a zone: those that Compute Engine and Cloud Run give to every network, and those of
//! its machines.
//!
//! Names of machines under `internal.` and addresses of private ranges belong to the network: what is not there does not
//! exist, and must not be asked of the world.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::name::Name;
use crate::origin::Origin;
use crate::records::RecordSet;
use crate::table::{Authority, Source, Zones};
use crate::zone::ZoneData;

/// Seconds for which an answer about such a name may be kept.
const OWN_TTL: u32 = 300;
/// Seconds for which the name or address of a machine may be kept: machines come and go.
const HOST_TTL: u32 = 30;

/// The zone of machines.
const INTERNAL: &str = "internal.";

/// Zones by their `dnsName`.
type Sets = BTreeMap<String, Vec<RecordSet>>;

/// The zones of a network's machines, where they differ from those of an empty network.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    zones: Vec<(Name, Source)>,
    /// Names by any address, in one zone.
    reverse: Arc<ZoneData>,
}

impl Hosts {
    /// Machines by name. Their addresses get PTR records if they are of a private range; names outside of `internal.`
    /// are left out.
    pub(crate) fn new(hosts: &[(Name, Ipv4Addr)]) -> Hosts {
        let mut zones = Sets::new();
        for (name, address) in hosts {
            put(&mut zones, INTERNAL.to_owned(), &name.to_string(), "A", &address.to_string());
            if let Some(apex) = reverse_zone(*address) {
                put(&mut zones, apex, &reverse_name(*address), "PTR", &name.to_string());
            }
        }
        let pointer = |(name, address): &(Name, Ipv4Addr)| {
            RecordSet::parse(&reverse_name(*address), "PTR", HOST_TTL, &[name.to_string()]).ok()
        };
        let reverse = reverse(hosts.iter().filter_map(pointer).collect());
        Hosts { zones: prepare(zones, Origin::INTERNAL).collect(), reverse: Arc::new(reverse) }
    }

    /// The names of all machines by their addresses.
    pub(crate) fn reverse(&self) -> Arc<ZoneData> {
        self.reverse.clone()
    }

    pub(crate) fn insert_into(&self, zones: &mut Zones) {
        self.zones.iter().for_each(|(apex, source)| zones.insert(apex.clone(), source.clone()));
    }
}

/// A zone of all addresses.
pub(crate) fn reverse(names: Vec<RecordSet>) -> ZoneData {
    let apex = Name::parse("in-addr.arpa.").unwrap_or_else(|_| Name::root());
    ZoneData::new(apex, names)
}

fn put(zones: &mut Sets, apex: String, name: &str, kind: &str, data: &str) {
    zones.entry(apex).or_default().extend(RecordSet::parse(name, kind, HOST_TTL, &[data]));
}

/// What every network can resolve. A private zone of the same name takes its place.
pub(crate) fn of_every_network(run_app: Option<Ipv4Addr>) -> Zones {
    let resolver = crate::RESOLVER;
    let set =
        |name: &str, kind, data: &str| RecordSet::parse(name, kind, OWN_TTL, &[data]).into_iter().collect();
    let metadata = "metadata.google.internal.";
    let mut all = Sets::from([
        (INTERNAL.to_owned(), Vec::new()),
        ("google.internal.".to_owned(), set(metadata, "A", &resolver.to_string())),
        ("254.169.in-addr.arpa.".to_owned(), set(&reverse_name(resolver), "PTR", metadata)),
        ("10.in-addr.arpa.".to_owned(), Vec::new()),
        ("168.192.in-addr.arpa.".to_owned(), Vec::new()),
    ]);
    all.extend((16..32).map(|second| (format!("{second}.172.in-addr.arpa."), Vec::new())));
    let default_urls =
        run_app.map(|address| ("run.app.".to_owned(), set("*.run.app.", "A", &address.to_string())));
    let mut zones = Zones::default();
    // On Google's, default URLs are public names.
    prepare(all, Origin::INTERNAL)
        .chain(prepare(default_urls.into_iter().collect(), Origin::EXTERNAL))
        .for_each(|(apex, source)| zones.insert(apex, source));
    zones
}

fn prepare(zones: Sets, kind: &'static str) -> impl Iterator<Item = (Name, Source)> {
    zones.into_iter().filter_map(move |(apex, sets)| {
        let apex = Name::parse(&apex).ok()?;
        let authority = Arc::new(Authority::Zone(ZoneData::new(apex.clone(), sets)));
        Some((apex, Source { authority, origin: Origin::unnamed(kind) }))
    })
}

fn reverse_name(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
}

/// The zone of an address of a private range (RFC 1918).
fn reverse_zone(address: Ipv4Addr) -> Option<String> {
    match address.octets() {
        [10, ..] => Some("10.in-addr.arpa.".to_owned()),
        [172, second @ 16..32, ..] => Some(format!("{second}.172.in-addr.arpa.")),
        [192, 168, ..] => Some("168.192.in-addr.arpa.".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_addresses_have_a_reverse_zone() {
        for (address, zone) in [
            ([10, 0, 0, 5], Some("10.in-addr.arpa.")),
            ([172, 16, 0, 1], Some("16.172.in-addr.arpa.")),
            ([172, 31, 255, 1], Some("31.172.in-addr.arpa.")),
            ([172, 32, 0, 1], None),
            ([192, 168, 4, 4], Some("168.192.in-addr.arpa.")),
            ([192, 0, 2, 1], None),
        ] {
            assert_eq!(reverse_zone(Ipv4Addr::from(address)).as_deref(), zone, "{address:?}");
        }
    }
}
