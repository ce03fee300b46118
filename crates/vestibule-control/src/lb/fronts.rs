//! The entrances to the default URLs, which no document asks for: one on the machine, and a pair in every network.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use vestibule_proxy::snapshot::{Front, FrontAddress};
use vestibule_proxy::tls::Tls;
use vestibule_store::View;
use vestibule_vpc::NetworkId;

/// Where clients of a network find Google's APIs and default URLs: the first address of `private.googleapis.com`
/// (Private Google Access).
pub const GOOGLE_APIS: Ipv4Addr = Ipv4Addr::new(199, 36, 153, 8);

const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// All entrances.
pub struct Fronts {
    machine: Vec<Arc<Front>>,
    network_tls: Option<Arc<Tls>>,
    networks: BTreeMap<NetworkId, [Arc<Front>; 2]>,
}

impl Fronts {
    /// `machine` stand outside of every network; with `network_tls` every network has entrances of its own.
    pub fn new(machine: Vec<Arc<Front>>, network_tls: Option<Arc<Tls>>) -> Fronts {
        Fronts { machine, network_tls, networks: BTreeMap::new() }
    }

    /// The entrances for the networks of this view. One that was there before is the very same object.
    pub(super) fn of(&mut self, view: &View) -> Vec<Arc<Front>> {
        if let Some(tls) = &self.network_tls {
            let wanted = crate::vpc::networks(view);
            self.networks.retain(|network, _| wanted.contains_key(network));
            for network in wanted.into_keys() {
                self.networks.entry(network.clone()).or_insert_with(|| pair(&network, tls));
            }
        }
        self.machine.iter().chain(self.networks.values().flatten()).cloned().collect()
    }
}

fn pair(network: &NetworkId, tls: &Arc<Tls>) -> [Arc<Front>; 2] {
    let at = |port| FrontAddress::Network { network: network.clone(), ip: GOOGLE_APIS, port };
    [Arc::new(Front { at: at(HTTPS), tls: Some(tls.clone()) }), Arc::new(Front { at: at(HTTP), tls: None })]
}
