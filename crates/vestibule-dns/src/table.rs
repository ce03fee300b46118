//! What the resolver is told: every zone and who may see it, whole, with a generation.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use vestibule_vpc::NetworkId;

use crate::name::{Name, suffixes};
use crate::zone::{RecordSet, ZoneData};

/// Seconds for which an answer about names that are there without a zone may be kept.
const OWN_TTL: u32 = 300;

/// Everything the resolver answers from.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The store revision it was compiled from. Rises.
    pub generation: u64,
    /// Shared, so that a change of one zone does not copy and prepare all others again.
    pub zones: Vec<Arc<Zone>>,
    /// Where the default URLs of services (`*.run.app`) are served inside every network, if they are.
    pub run_app: Option<Ipv4Addr>,
}

/// A managed zone.
#[derive(Debug)]
pub struct Zone {
    apex: Name,
    visible: Visibility,
    authority: Arc<Authority>,
}

/// Who may see a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visibility {
    /// These networks (`privateVisibilityConfig`).
    Networks(Vec<NetworkId>),
    /// Everyone whose networks have no zone of their own for the name.
    Public,
}

/// How the names of a zone are answered.
#[derive(Debug, Clone)]
pub enum ZoneKind {
    Plain(Vec<RecordSet>),
    /// `forwardingConfig`: asked of these servers and nobody else.
    Forwarding(Vec<SocketAddr>),
    /// `peeringConfig`: asked again as seen from the target network.
    Peering(NetworkId),
}

impl Zone {
    /// Prepares a zone. `apex` is its `dnsName`.
    pub fn new(apex: Name, visible: Visibility, kind: ZoneKind) -> Zone {
        let authority = Arc::new(match kind {
            ZoneKind::Plain(records) => Authority::Zone(ZoneData::new(apex.clone(), records)),
            ZoneKind::Forwarding(targets) => Authority::Forwarding(targets),
            ZoneKind::Peering(network) => Authority::Peering(network),
        });
        Zone { apex, visible, authority }
    }

    pub fn apex(&self) -> &Name {
        &self.apex
    }

    pub fn visible(&self) -> &Visibility {
        &self.visible
    }
}

/// Zones by apex.
type Zones = HashMap<Name, Arc<Authority>>;

/// A table made ready for questions.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) generation: u64,
    networks: HashMap<NetworkId, Zones>,
    /// The names that Compute Engine and Cloud Run give to every network.
    own: Zones,
    public: Zones,
}

/// Who answers for the names below an apex.
#[derive(Debug)]
pub(crate) enum Authority {
    Zone(ZoneData),
    Forwarding(Vec<SocketAddr>),
    Peering(NetworkId),
}

impl Default for Index {
    fn default() -> Index {
        Index::new(Table::default())
    }
}

impl Index {
    pub(crate) fn new(table: Table) -> Index {
        let mut networks: HashMap<NetworkId, Zones> = HashMap::new();
        let mut public = Zones::new();
        for zone in &table.zones {
            match &zone.visible {
                Visibility::Networks(seeing) => seeing.iter().for_each(|network| {
                    networks
                        .entry(network.clone())
                        .or_default()
                        .insert(zone.apex.clone(), zone.authority.clone());
                }),
                Visibility::Public => {
                    public.insert(zone.apex.clone(), zone.authority.clone());
                }
            }
        }
        Index { generation: table.generation, networks, own: own_zones(table.run_app), public }
    }

    /// The authority whose apex is the longest suffix of the name (Cloud DNS's resolution order): the network's own
    /// zones with what every network has, then public zones.
    pub(crate) fn authority(&self, network: &NetworkId, name: &Name) -> Option<&Authority> {
        let zones = self.networks.get(network);
        let inside = suffixes(name.wire()).find_map(|suffix| {
            let zone = zones.and_then(|zones| zones.get(suffix));
            zone.or_else(|| self.own.get(suffix))
        });
        let found = inside.or_else(|| suffixes(name.wire()).find_map(|suffix| self.public.get(suffix)));
        found.map(|authority| &**authority)
    }
}

/// What every network can resolve without a zone. A private zone of the same name takes its place.
///
/// Names of machines under `internal.` and addresses of private ranges belong to the network: what is not there does
/// not exist, and must not be asked of the world.
fn own_zones(run_app: Option<Ipv4Addr>) -> Zones {
    let resolver = crate::RESOLVER.to_string();
    let mut zones = vec![
        ("internal.".to_owned(), Vec::new()),
        ("google.internal.".to_owned(), vec![("metadata.google.internal.", "A", resolver)]),
        (
            "254.169.in-addr.arpa.".to_owned(),
            vec![("254.169.254.169.in-addr.arpa.", "PTR", "metadata.google.internal.".to_owned())],
        ),
        ("10.in-addr.arpa.".to_owned(), Vec::new()),
        ("168.192.in-addr.arpa.".to_owned(), Vec::new()),
    ];
    zones.extend((16..32).map(|second| (format!("{second}.172.in-addr.arpa."), Vec::new())));
    if let Some(address) = run_app {
        zones.push(("run.app.".to_owned(), vec![("*.run.app.", "A", address.to_string())]));
    }
    let prepared = zones.into_iter().filter_map(|(apex, records)| {
        let apex = Name::parse(&apex).ok()?;
        let set =
            |(name, kind, data): (&str, &str, String)| RecordSet::parse(name, kind, OWN_TTL, &[data]).ok();
        let data = ZoneData::new(apex.clone(), records.into_iter().filter_map(set).collect());
        Some((apex, Arc::new(Authority::Zone(data))))
    });
    prepared.collect()
}
