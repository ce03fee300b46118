//! The load balancers that record sets lead to, and whether each is up.
//!
//! An internal Application Load Balancer is up while there is a forwarding rule at its address and port, and something
//! behind that may answer: a serverless group, an endpoint that is healthy, or one that nobody probes. A URL map that
//! only redirects needs nothing behind it.

use std::collections::BTreeMap;

use vestibule_dns::Liveness;
use vestibule_model::{ResourceName, Scope};
use vestibule_store::View;

use super::routing::Balancer;
use crate::compute::addresses::Ports;
use crate::compute::backend_services;
use crate::compute::linked;
use crate::{Control, Document, document, references};

/// Every load balancer that some record set leads to.
#[derive(Default)]
pub(super) struct Balancers(BTreeMap<Balancer, Liveness>);

impl Balancers {
    /// What follows a load balancer's health; the same for all who ask.
    pub(super) fn of(&mut self, control: &Control, view: &View, balancer: &Balancer) -> Liveness {
        if let Some(known) = self.0.get(balancer) {
            return known.clone();
        }
        let liveness = Liveness::new(is_up(control, view, balancer));
        self.0.insert(balancer.clone(), liveness.clone());
        liveness
    }

    /// Brings all up to date, and forgets those that no record set leads to any more.
    pub(super) fn refresh(&mut self, control: &Control, view: &View) {
        self.0.retain(|_, liveness| liveness.is_used());
        self.0.iter().for_each(|(balancer, liveness)| liveness.set(is_up(control, view, balancer)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_up(control: &Control, view: &View, balancer: &Balancer) -> bool {
    let Some(rule) = rule(view, balancer) else { return false };
    let services = services(view, rule);
    services.is_empty()
        || services.iter().any(|service| {
            let stored = view.get(&service.key());
            stored.is_some_and(|kv| {
                backend_services::is_up(control, view, service, document::object(&kv.value))
            })
        })
}

/// The forwarding rule of a load balancer.
fn rule<'v>(view: &'v View, balancer: &Balancer) -> Option<&'v Document> {
    let scope = Scope::region(&balancer.region);
    let parent = ResourceName::new(&balancer.project, scope, "forwardingRules", "").parent_key();
    let mut rules = view.range(&parent).map(|kv| document::object(&kv.value));
    let address = balancer.address.to_string();
    rules.find(|rule| {
        document::text(rule, "IPAddress") == Some(&address)
            && linked(rule, "network").as_ref() == Some(&balancer.network)
            && serves(rule, balancer.port)
    })
}

/// Whether a rule serves TCP at a port.
fn serves(rule: &Document, port: u16) -> bool {
    let wanted = Ports { protocol: "TCP".to_owned(), first: port, last: port };
    Ports::of_rule(rule).overlap(&wanted)
}

/// All backend services that a rule leads to.
fn services(view: &View, rule: &Document) -> Vec<ResourceName> {
    let stored = |name: ResourceName| view.get(&name.key());
    let proxy = linked(rule, "target").and_then(stored);
    let map = proxy.and_then(|proxy| linked(document::object(&proxy.value), "urlMap"));
    let Some(map) = map.and_then(stored) else { return Vec::new() };
    let used = references(&map.key, &map.value);
    let names = used.iter().filter_map(|key| ResourceName::from_key(key));
    names.filter(|name| name.collection == "backendServices").collect()
}
