//! The resolver's reconciler: keeps it answering what the documents say.
//!
//! One thread follows the store. When a zone or a policy changed, that one is prepared again, and when records changed, the
//! names that they have; a whole new table, in which everything else is the very same objects, is handed to the resolver,
//! and then the revision is acknowledged. [`start`] applies the state it finds before it returns: after a restart the
//! resolver answers before the API does. The health of load balancers that record sets lead to is no part of the table:
//! it changes in place, and is looked at now and then where there are any.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use vestibule_dns::{
    Name, RecordSet, Resolver, ResponsePolicy, ServerPolicy, Sites, Table, Visibility, Zone, ZoneKind,
};
use vestibule_model::ResourceName;
use vestibule_store::{Changes, KeyValue, View, Watch};
use vestibule_vpc::NetworkId;

use super::balancers::Balancers;
use super::policies::{self, PolicyKind};
use super::routing::Balancer;
use super::{keys, records, rules, zone_config};
use crate::{Conformance, Control, Document, Plane, document, vpc};

/// How long the reconciler sleeps when nothing happens. It then looks whether it should end.
const IDLE: Duration = Duration::from_millis(500);
/// How soon record sets follow the health of what they lead to. Probes are seconds apart.
const HEALTH_PERIOD: Duration = Duration::from_millis(100);

/// A running reconciler. Dropping it ends its thread; the resolver goes on as it was.
pub struct Reconciler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reconciler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the resolver's reconciler had panicked");
        }
    }
}

/// Applies the present state and starts the reconciler. From now on operations wait for the resolver. `run_app` is where
/// the default URLs of services are served inside every network, if they are.
pub fn start(control: Control, resolver: Resolver, run_app: Option<Ipv4Addr>) -> io::Result<Reconciler> {
    control.planes().register(Plane::Dns);
    let view = control.view();
    let watch = control.store().watch(view.revision());
    let mut follower = Follower {
        control,
        resolver,
        run_app,
        zones: BTreeMap::new(),
        server_policies: BTreeMap::new(),
        response_policies: BTreeMap::new(),
        sites: BTreeMap::new(),
        balancers: Balancers::default(),
        epoch: 0,
    };
    follower.prepare_all(&view);
    follower.publish(&view);
    follower.control.planes().ack(Plane::Dns, view.revision());
    let stop = Arc::new(AtomicBool::new(false));
    let thread = std::thread::Builder::new().name("dns-reconciler".to_owned()).spawn({
        let stop = Arc::clone(&stop);
        move || follower.follow(watch, &stop)
    })?;
    Ok(Reconciler { stop, thread: Some(thread) })
}

struct Follower {
    control: Control,
    resolver: Resolver,
    run_app: Option<Ipv4Addr>,
    /// Prepared zones by key.
    zones: BTreeMap<String, Arc<Zone>>,
    /// Those that change anything, by key.
    server_policies: BTreeMap<String, ServerPolicy>,
    response_policies: BTreeMap<String, Arc<ResponsePolicy>>,
    sites: BTreeMap<NetworkId, Arc<Sites>>,
    balancers: Balancers,
    /// What was known of endpoints when the load balancers were looked at.
    epoch: u64,
}

impl Follower {
    fn follow(mut self, mut watch: Watch, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let changes = watch.next(if self.balancers.is_empty() { IDLE } else { HEALTH_PERIOD });
            // At least as new as the watch. What it has beyond is not acknowledged, and comes next.
            let view = self.control.view();
            if changes.as_ref().is_some_and(|changes| self.prepare_changed(&view, changes)) {
                self.publish(&view);
            }
            self.look_at_balancers(&view, changes.as_ref());
            self.control.planes().ack(Plane::Dns, watch.revision());
        }
    }

    /// Follows the load balancers that record sets lead to.
    fn look_at_balancers(&mut self, view: &View, changes: Option<&Changes>) {
        let epoch = self.control.health().epoch().get();
        let touched = changes.is_some_and(|changes| changes.touch("compute/"));
        if !self.balancers.is_empty() && (touched || epoch != self.epoch) {
            self.epoch = epoch;
            self.balancers.refresh(&self.control, view);
        }
    }

    /// Prepares what a batch of changes touched. Tells whether that was anything.
    fn prepare_changed(&mut self, view: &View, changes: &Changes) -> bool {
        let Changes::Events(events) = changes else {
            self.prepare_all(view);
            return true;
        };
        let moved = events.iter().any(|event| event.key.contains("/subnetworks/"));
        if moved {
            self.sites = vpc::sites(view);
        }
        let (mut whole, mut names) = (BTreeSet::new(), BTreeMap::<&str, BTreeSet<&str>>::new());
        for event in events {
            match keys::name_of_set(&event.key) {
                Some((zone, name)) => drop(names.entry(zone).or_default().insert(name)),
                // The history of changes means nothing to the resolver, and every change writes to it.
                None if keys::is_zone(&event.key) => drop(whole.insert(event.key.as_ref())),
                None => whole.extend(keys::policy_of(&event.key).map(|(policy, _)| policy)),
            }
        }
        names.retain(|zone, _| !whole.contains(zone));
        whole.iter().for_each(|key| self.prepare(view, key));
        names.iter().for_each(|(zone, names)| self.prepare_names(view, zone, names));
        moved || !(whole.is_empty() && names.is_empty())
    }

    /// Prepares some names of a zone, and leaves the others as they are.
    fn prepare_names(&mut self, view: &View, key: &str, names: &BTreeSet<&str>) {
        let read = |name: &&str| {
            let sets = self.record_sets(view, &keys::sets_of(key, name));
            Some((Name::parse(name).ok()?, sets))
        };
        let read = names.iter().map(read).collect::<Option<Vec<_>>>();
        let changed = self.zones.get(key).zip(read).and_then(|(zone, names)| zone.changed(&names));
        match changed {
            Some(zone) => replace(&mut self.zones, key, Some(Arc::new(zone))),
            None => self.prepare(view, key),
        }
    }

    fn prepare_all(&mut self, view: &View) {
        self.zones.clear();
        self.server_policies.clear();
        self.response_policies.clear();
        self.sites = vpc::sites(view);
        let all: Vec<String> =
            keys::all_zones(view).chain(keys::all_policies(view)).map(|kv| kv.key.to_string()).collect();
        all.iter().for_each(|key| self.prepare(view, key));
    }

    /// `key` is a zone's or a policy's, which may be gone.
    fn prepare(&mut self, view: &View, key: &str) {
        let found = view.get(key).map(|kv| document::object(&kv.value));
        match keys::policy_kind(key) {
            None => {
                let zone = found.and_then(|doc| self.compile(view, key, doc));
                replace(&mut self.zones, key, zone.map(Arc::new));
            }
            Some(PolicyKind::Server) => {
                // Every client here speaks IPv4 alone, and Google translates for nobody who does.
                let translate = self.control.settings().conformance == Conformance::Permissive;
                let policy = found.and_then(|doc| policies::compile_server_policy(doc, translate));
                replace(&mut self.server_policies, key, policy);
            }
            Some(PolicyKind::Response) => {
                let policy = found.map(|doc| Arc::new(rules::compile(view, key, doc)));
                replace(&mut self.response_policies, key, policy);
            }
        }
    }

    fn publish(&self, view: &View) {
        self.resolver.apply(Table {
            generation: view.revision(),
            zones: self.zones.values().cloned().collect(),
            server_policies: self.server_policies.values().cloned().collect(),
            response_policies: self.response_policies.values().cloned().collect(),
            sites: self.sites.clone(),
            run_app: self.run_app,
        });
    }

    /// One zone for the resolver. What cannot be read, which nothing should have let in, is left out and told.
    fn compile(&mut self, view: &View, key: &str, doc: &Document) -> Option<Zone> {
        let apex = Name::parse(document::text(doc, "dnsName")?).ok()?;
        let visible = match document::text(doc, "visibility") {
            Some("private") => Visibility::Networks(zone_config::seeing(doc).filter_map(network).collect()),
            _ => Visibility::Public,
        };
        let kind = if let Some(peer) = zone_config::peer(doc) {
            ZoneKind::Peering(network(peer)?)
        } else if let Some(targets) = zone_config::targets(doc) {
            ZoneKind::Forwarding(targets)
        } else if zone_config::is_reverse_lookup(doc) {
            ZoneKind::Machines
        } else {
            ZoneKind::Plain(self.record_sets(view, &keys::sets(key)))
        };
        Some(Zone::new(apex, visible, kind).named(document::text(doc, "name").unwrap_or_default()))
    }

    /// All record sets under a prefix. What cannot be read is left out and told.
    fn record_sets(&mut self, view: &View, prefix: &str) -> Vec<RecordSet> {
        let (control, balancers) = (&self.control, &mut self.balancers);
        let mut alive = |balancer: &Balancer| balancers.of(control, view, balancer);
        let read = |kv: &KeyValue| {
            let compiled = records::compile(document::object(&kv.value), &mut alive);
            compiled
                .inspect_err(|error| tracing::error!(key = &*kv.key, context = error.context(), "unreadable"))
                .ok()
        };
        view.range(prefix).filter_map(read).collect()
    }
}

fn replace<V>(all: &mut BTreeMap<String, V>, key: &str, value: Option<V>) {
    match value {
        Some(value) => all.insert(key.to_owned(), value),
        None => all.remove(key),
    };
}

pub(super) fn network(link: &str) -> Option<NetworkId> {
    ResourceName::parse(link).ok().map(|name| NetworkId::from_relative(&name.relative()))
}
