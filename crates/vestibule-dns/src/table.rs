//! What the resolver is told: every zone and policy and who may see it, whole, with a generation.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use vestibule_vpc::NetworkId;

use crate::hosts::{self, Hosts};
use crate::name::Name;
use crate::origin::Origin;
use crate::place::Sites;
use crate::policy::{ResponsePolicy, Rules, ServerPolicy, Target};
use crate::records::RecordSet;
use crate::suffix::BySuffix;
use crate::zone::ZoneData;

/// Everything the resolver answers from.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The store revision it was compiled from. Rises.
    pub generation: u64,
    /// Shared, so that a change of one zone does not copy and prepare all others again.
    pub zones: Vec<Arc<Zone>>,
    /// A network has at most one.
    pub server_policies: Vec<ServerPolicy>,
    /// A network has at most one.
    pub response_policies: Vec<Arc<ResponsePolicy>>,
    /// Where the addresses of each network are.
    pub sites: BTreeMap<NetworkId, Arc<Sites>>,
    /// Where the default URLs of services (`*.run.app`) are served inside every network, if they are.
    pub run_app: Option<Ipv4Addr>,
}

/// A managed zone.
#[derive(Debug)]
pub struct Zone {
    apex: Name,
    name: Arc<str>,
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
    /// `reverseLookupConfig`: the names of the network's machines, by their addresses. The apex must be within
    /// `in-addr.arpa.`.
    Machines,
}

impl Zone {
    /// Prepares a zone. `apex` is its `dnsName`.
    pub fn new(apex: Name, visible: Visibility, kind: ZoneKind) -> Zone {
        let authority = Arc::new(match kind {
            ZoneKind::Plain(records) => Authority::Zone(ZoneData::new(apex.clone(), records)),
            ZoneKind::Forwarding(targets) => Authority::Forwarding(targets.into()),
            ZoneKind::Peering(network) => Authority::Peering(network),
            ZoneKind::Machines => Authority::Machines,
        });
        let name = Arc::default();
        Zone { apex, name, visible, authority }
    }

    /// The same with its short name, which logs tell.
    pub fn named(self, name: &str) -> Zone {
        Zone { name: name.into(), ..self }
    }

    /// The same zone with other records for some names: those that are told are all that these names have. What does not
    /// change is shared, so a change costs the same in a zone of ten names and of ten thousand. `None` for a zone that
    /// holds no records.
    pub fn changed(&self, names: &[(Name, Vec<RecordSet>)]) -> Option<Zone> {
        let Authority::Zone(data) = &*self.authority else { return None };
        let authority = Arc::new(Authority::Zone(data.changed(names)));
        let (apex, name, visible) = (self.apex.clone(), self.name.clone(), self.visible.clone());
        Some(Zone { apex, name, visible, authority })
    }

    pub fn apex(&self) -> &Name {
        &self.apex
    }

    pub fn visible(&self) -> &Visibility {
        &self.visible
    }

    fn source(&self) -> Source {
        let kind = match (&*self.authority, &self.visible) {
            (Authority::Forwarding(_), _) => Origin::FORWARDING_ZONE,
            (Authority::Peering(_), _) => Origin::PEERING_ZONE,
            (_, Visibility::Networks(_)) => Origin::PRIVATE_ZONE,
            (_, Visibility::Public) => Origin::PUBLIC_ZONE,
        };
        Source { authority: self.authority.clone(), origin: Origin::new(kind, &self.name) }
    }
}

/// Zones by apex.
pub(crate) type Zones = BySuffix<Source>;

/// Who answers for the names below an apex, and what logs call it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) authority: Arc<Authority>,
    pub(crate) origin: Origin,
}

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
    pub(crate) alternative: Option<(Arc<[Target]>, Origin)>,
    pub(crate) rules: Option<(Arc<Rules>, Origin)>,
    /// Its questions are logged.
    pub(crate) log: bool,
    /// Its clients reach addresses of IPv4 by those of IPv6.
    pub(crate) dns64: bool,
    pub(crate) sites: Option<Arc<Sites>>,
    /// Its private zones, and the names that Compute Engine and Cloud Run give to every network. The longer apex counts,
    /// and of two equal ones the private zone.
    inside: Zones,
    public: Arc<Zones>,
    /// The names of its machines by their addresses, public ones too; `None` if there are none.
    pub(crate) machines: Option<Arc<ZoneData>>,
}

/// Who answers for the names below an apex.
#[derive(Debug)]
pub(crate) enum Authority {
    Zone(ZoneData),
    Forwarding(Arc<[Target]>),
    Peering(NetworkId),
    /// The names of the network's machines, by their addresses.
    Machines,
}

impl Index {
    pub(crate) fn new(table: &Table, hosts: &BTreeMap<NetworkId, Hosts>) -> Index {
        let mut public = Zones::default();
        for zone in table.zones.iter().filter(|zone| zone.visible == Visibility::Public) {
            public.insert(zone.apex.clone(), zone.source());
        }
        let everyone = View {
            inside: hosts::of_every_network(table.run_app),
            machines: Some(Arc::new(hosts::reverse(Vec::new()))),
            public: Arc::new(public),
            ..View::default()
        };
        let mut networks: HashMap<NetworkId, View> = HashMap::new();
        let mut of = |network: &NetworkId, apply: &dyn Fn(&mut View)| match networks.get_mut(network) {
            Some(view) => apply(view),
            None => apply(networks.entry(network.clone()).or_insert(everyone.clone())),
        };
        for (network, hosts) in hosts {
            of(network, &|view| {
                hosts.insert_into(&mut view.inside);
                view.machines = Some(hosts.reverse());
            });
        }
        for zone in &table.zones {
            let Visibility::Networks(seeing) = &zone.visible else { continue };
            for network in seeing {
                of(network, &|view| view.inside.insert(zone.apex.clone(), zone.source()));
            }
        }
        for policy in &table.server_policies {
            for network in &policy.networks {
                of(network, &|view| view.obey(policy));
            }
        }
        for policy in &table.response_policies {
            for network in policy.networks() {
                let origin = Origin::new(Origin::RESPONSE_POLICY, policy.name());
                of(network, &|view| view.rules = Some((policy.rules(), origin.clone())));
            }
        }
        for (network, sites) in &table.sites {
            of(network, &|view| view.sites = Some(sites.clone()));
        }
        let networks = networks.into_iter().map(|(network, view)| (network, Arc::new(view))).collect();
        Index { generation: table.generation, networks, elsewhere: Arc::new(everyone) }
    }

    pub(crate) fn view(&self, network: &NetworkId) -> &Arc<View> {
        self.networks.get(network).unwrap_or(&self.elsewhere)
    }
}

impl View {
    fn obey(&mut self, policy: &ServerPolicy) {
        let origin = Origin::new(Origin::FORWARDING_POLICY, &policy.name);
        self.alternative = (!policy.targets.is_empty()).then(|| (policy.targets.clone(), origin));
        (self.log, self.dns64) = (policy.log, policy.dns64);
    }

    /// Who answers for a name: the network's own zones with what every network has, then public zones.
    pub(crate) fn source(&self, name: &[u8]) -> Option<&Source> {
        self.inside.find(name).or_else(|| self.public.find(name))
    }
}
