//! What the resolver is told: every zone and policy and who may see it, whole, with a generation.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use vestibule_vpc::NetworkId;

use crate::hosts::{self, Hosts};
use crate::name::Name;
use crate::policy::{ResponsePolicy, Rules, ServerPolicy, Target};
use crate::suffix::BySuffix;
use crate::zone::{RecordSet, ZoneData};

/// Everything the resolver answers from.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The store revision it was compiled from. Rises.
    pub generation: u64,
    /// Shared, so that a change of one zone does not copy and prepare all others again.
    pub zones: Vec<Arc<Zone>>,
    /// Outbound server policies. A network has at most one.
    pub server_policies: Vec<ServerPolicy>,
    /// A network has at most one.
    pub response_policies: Vec<Arc<ResponsePolicy>>,
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
    Forwarding(Vec<Target>),
    /// `peeringConfig`: asked again as seen from the target network.
    Peering(NetworkId),
}

impl Zone {
    /// Prepares a zone. `apex` is its `dnsName`.
    pub fn new(apex: Name, visible: Visibility, kind: ZoneKind) -> Zone {
        let authority = Arc::new(match kind {
            ZoneKind::Plain(records) => Authority::Zone(ZoneData::new(apex.clone(), records)),
            ZoneKind::Forwarding(targets) => Authority::Forwarding(targets.into()),
            ZoneKind::Peering(network) => Authority::Peering(network),
        });
        Zone { apex, visible, authority }
    }

    /// The same zone with other records for some names: those that are told are all that these names have. What does not
    /// change is shared, so a change costs the same in a zone of ten names and of ten thousand. `None` for a zone that
    /// holds no records.
    pub fn changed(&self, names: &[(Name, Vec<RecordSet>)]) -> Option<Zone> {
        let Authority::Zone(data) = &*self.authority else { return None };
        let authority = Arc::new(Authority::Zone(data.changed(names)));
        Some(Zone { apex: self.apex.clone(), visible: self.visible.clone(), authority })
    }

    pub fn apex(&self) -> &Name {
        &self.apex
    }

    pub fn visible(&self) -> &Visibility {
        &self.visible
    }
}

/// Zones by apex.
pub(crate) type Zones = BySuffix<Arc<Authority>>;

/// A table made ready for questions.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) generation: u64,
    networks: HashMap<NetworkId, Arc<View>>,
    /// What networks see of which the table tells nothing.
    elsewhere: Arc<View>,
}

/// All that a network sees, in the order of Cloud DNS's name resolution.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Where everything is asked instead, if the network has an outbound server policy.
    pub(crate) alternative: Option<Arc<[Target]>>,
    pub(crate) rules: Option<Arc<Rules>>,
    /// Its private zones, and the names that Compute Engine and Cloud Run give to every network. The longer apex counts,
    /// and of two equal ones the private zone.
    inside: Zones,
    public: Arc<Zones>,
}

/// Who answers for the names below an apex.
#[derive(Debug)]
pub(crate) enum Authority {
    Zone(ZoneData),
    Forwarding(Arc<[Target]>),
    Peering(NetworkId),
}

impl Index {
    pub(crate) fn new(table: &Table, hosts: &BTreeMap<NetworkId, Hosts>) -> Index {
        let mut public = Zones::default();
        for zone in table.zones.iter().filter(|zone| zone.visible == Visibility::Public) {
            public.insert(zone.apex.clone(), zone.authority.clone());
        }
        let everyone = View {
            inside: hosts::of_every_network(table.run_app),
            public: Arc::new(public),
            ..View::default()
        };
        let mut networks: HashMap<NetworkId, View> = HashMap::new();
        let mut of = |network: &NetworkId, apply: &dyn Fn(&mut View)| match networks.get_mut(network) {
            Some(view) => apply(view),
            None => apply(networks.entry(network.clone()).or_insert(everyone.clone())),
        };
        for (network, hosts) in hosts {
            of(network, &|view| hosts.insert_into(&mut view.inside));
        }
        for zone in &table.zones {
            let Visibility::Networks(seeing) = &zone.visible else { continue };
            for network in seeing {
                of(network, &|view| view.inside.insert(zone.apex.clone(), zone.authority.clone()));
            }
        }
        for policy in &table.server_policies {
            for network in &policy.networks {
                of(network, &|view| view.alternative = Some(policy.targets.clone()));
            }
        }
        for policy in &table.response_policies {
            for network in policy.networks() {
                of(network, &|view| view.rules = Some(policy.rules()));
            }
        }
        let networks = networks.into_iter().map(|(network, view)| (network, Arc::new(view))).collect();
        Index { generation: table.generation, networks, elsewhere: Arc::new(everyone) }
    }

    pub(crate) fn view(&self, network: &NetworkId) -> &Arc<View> {
        self.networks.get(network).unwrap_or(&self.elsewhere)
    }
}

impl View {
    /// Who answers for a name: the network's own zones with what every network has, then public zones.
    pub(crate) fn authority(&self, name: &[u8]) -> Option<&Authority> {
        self.inside.find(name).or_else(|| self.public.find(name)).map(|found| &**found)
    }
}
