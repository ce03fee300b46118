//! From documents to what the proxy serves.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use vestibule_health::{Name, Target};
use vestibule_model::fingerprint::hash64;
use vestibule_model::{ResourceName, compute, project};
use vestibule_proxy::snapshot::{Backend, BackendService, Breakers, DEFAULT_KEEP_ALIVE, Listener, Routes};
use vestibule_proxy::tls::Tls;
use vestibule_store::{Changes, KeyValue, View};
use vestibule_urlmap::UrlMap;
use vestibule_urlmap::check::{self, Role};
use vestibule_vpc::NetworkId;

use super::endpoints::{self, Sources};
use super::health::HealthTable;
use super::memo::{Made, Memo};
use super::{service, tls};
use crate::compute::{linked, target_proxies};
use crate::{Document, Error, document, located, vpc};

/// Collections whose documents a snapshot is made from.
const COLLECTIONS: &[&str] = &[
    "forwardingRules",
    "targetHttpProxies",
    "targetHttpsProxies",
    "urlMaps",
    "backendServices",
    "networkEndpointGroups",
    "healthChecks",
    "sslCertificates",
    "sslPolicies",
    "networks",
    "subnetworks",
];

/// Keys of the endpoints of groups.
const ENDPOINTS: &str = "endpoints/";

/// Compiles snapshots, remembering what it compiled before.
#[derive(Default)]
pub struct Compiler {
    /// Keys of all forwarding rules.
    rules: BTreeSet<String>,
    services: Memo<BackendService>,
    /// Who is probed for a backend service.
    probed: Memo<Vec<Target>>,
    breakers: Memo<Breakers>,
    health: HealthTable,
    maps: Memo<CompiledMap>,
    routes: Memo<Routes>,
    tls: Memo<Tls>,
    listeners: Memo<Listener>,
}

/// Everything the load balancer serves.
pub struct Compiled {
    /// Each with the forwarding rule that asks for it, in the order of their keys.
    pub listeners: Vec<(ResourceName, Arc<Listener>)>,
    /// Forwarding rules that cannot be served, with the reason.
    pub failures: Vec<(ResourceName, Error)>,
    /// Whom to probe, each once.
    pub targets: Vec<Target>,
    /// Which names to look up.
    pub names: Vec<Name>,
}

struct CompiledMap {
    map: Arc<UrlMap>,
    /// In the order of the indices that the map answers with.
    services: Vec<ResourceName>,
}

impl Compiler {
    /// A compiler that knows the forwarding rules of this view.
    pub fn new(view: &View, health: HealthTable) -> Compiler {
        Compiler { rules: scan(view), health, ..Compiler::default() }
    }

    /// Takes note of changes. Returns whether they can matter. `view` is at least as new as they are.
    pub fn observe(&mut self, changes: &Changes, view: &View) -> bool {
        let Changes::Events(events) = changes else {
            self.rules = scan(view);
            return true;
        };
        let mut relevant = false;
        for event in events {
            relevant |= event.key.starts_with(ENDPOINTS) || located::is_relevant(&event.key);
            let Some(collection) = collection(&event.key) else { continue };
            relevant |= COLLECTIONS.contains(&collection);
            if collection == COLLECTIONS[0] {
                match event.value {
                    Some(_) => self.rules.insert(event.key.to_string()),
                    None => self.rules.remove(&*event.key),
                };
            }
        }
        relevant
    }

    /// Compiles everything that the view asks for.
    pub fn compile(&mut self, view: &View) -> Compiled {
        let mut compiled =
            Compiled { listeners: Vec::new(), failures: Vec::new(), targets: Vec::new(), names: Vec::new() };
        for key in std::mem::take(&mut self.rules) {
            let rule = ResourceName::from_key(&key);
            if let (Some(rule), Some(stored)) = (rule, view.get(&key)) {
                match self.listener(view, &rule, stored) {
                    Ok(listener) => compiled.listeners.push((rule, listener)),
                    Err(error) => compiled.failures.push((rule, error)),
                }
            }
            self.rules.insert(key);
        }
        self.sweep();
        self.probe(&mut compiled);
        compiled
    }

    /// Collects who is probed: the endpoints of every backend service that is served.
    fn probe(&self, compiled: &mut Compiled) {
        let mut seen = HashSet::new();
        let targets = self.probed.values().flat_map(|targets| targets.iter());
        compiled.targets = targets.filter(|target| seen.insert(target.key.clone())).cloned().collect();
        compiled.names = self.health.sweep(|key| seen.contains(key));
    }

    /// What one forwarding rule serves.
    pub(super) fn listener_of(
        view: &View,
        health: &HealthTable,
        rule: &ResourceName,
    ) -> Result<Arc<Listener>, Error> {
        let stored = view.get(&rule.key()).ok_or_else(|| Error::not_found(rule))?;
        Compiler { health: health.clone(), ..Compiler::default() }.listener(view, rule, stored)
    }

    fn sweep(&mut self) {
        self.services.sweep();
        self.probed.sweep();
        self.breakers.sweep();
        self.maps.sweep();
        self.routes.sweep();
        self.tls.sweep();
        self.listeners.sweep();
    }

    fn listener(
        &mut self,
        view: &View,
        rule: &ResourceName,
        stored: &KeyValue,
    ) -> Result<Arc<Listener>, Error> {
        let target = link(stored, "target")?;
        let proxy = view.get(&target.key()).ok_or_else(|| Error::not_found(&target))?;
        let map = link(proxy, "urlMap")?;
        let routes = self.routes(view, &map)?;
        let tls = match target.collection.as_str() {
            "targetHttpsProxies" => Some(self.tls(view, &target, proxy)?),
            _ => None,
        };
        let encryption = tls.as_ref().map_or(0, |tls| tls.number);
        let network = NetworkId::from_relative(&link(stored, "network")?.relative());
        let region = rule.scope.region_name().unwrap_or_default();
        let global = document::flag(document::object(&stored.value), "allowGlobalAccess");
        let clients = (!global).then(|| vpc::region_addresses(view, &network, region));
        let from = hash64(format!("{clients:?}").as_bytes());
        let stamp = vec![stored.modified, proxy.modified, routes.number, encryption, from];
        let made = self.listeners.get(&stored.key, stamp, || {
            let doc = document::object(&stored.value);
            let (routes, tls) = (routes.value, tls.map(|tls| tls.value));
            let keep_alive = document::integer(document::object(&proxy.value), "httpKeepAliveTimeoutSec");
            let keep_alive =
                keep_alive.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
            let (ip, port) = address(doc).ok_or_else(|| Error::internal(format!("{rule} has no address")))?;
            Ok(Listener {
                network,
                ip,
                port,
                region: region.into(),
                project: rule.project.as_str().into(),
                project_number: project::project_number(&rule.project).to_string().into(),
                clients: clients.map(Arc::new),
                forwarding_rule: rule.name.as_str().into(),
                target_proxy: target.name.as_str().into(),
                url_map_name: map.name.as_str().into(),
                keep_alive: keep_alive.unwrap_or(DEFAULT_KEEP_ALIVE),
                tls,
                routes,
            })
        })?;
        Ok(made.value)
    }

    fn tls(&mut self, view: &View, target: &ResourceName, proxy: &KeyValue) -> Result<Made<Tls>, Error> {
        let names = target_proxies::certificates(document::object(&proxy.value));
        let policy = linked(document::object(&proxy.value), "sslPolicy");
        let revisions = names.iter().map(|name| view.get(&name.key()).map_or(0, |kv| kv.created));
        // The order of certificates is in the proxy's document; what only the document says of other things does not
        // matter, so its revision is left out as long as the list is the same.
        let mut stamp: Vec<u64> = revisions.collect();
        stamp.push(hash64(names.iter().map(ResourceName::key).collect::<Vec<_>>().join("\n").as_bytes()));
        let policy_revision = |name: &ResourceName| view.get(&name.key()).map(|kv| kv.modified);
        stamp.push(policy.as_ref().and_then(policy_revision).unwrap_or(0));
        let clients = target_proxies::server_tls_policy(target, document::object(&proxy.value));
        stamp.extend(clients.iter().flat_map(|policy| located::revisions(view, policy)));
        self.tls.get(&target.key(), stamp, || tls::compile(view, &names, policy.as_ref(), clients.as_ref()))
    }

    fn routes(&mut self, view: &View, map: &ResourceName) -> Result<Made<Routes>, Error> {
        let stored = view.get(&map.key()).ok_or_else(|| Error::not_found(map))?;
        let compiled = self.maps.get(&stored.key, vec![stored.modified], || compile_map(stored))?;
        let services = compiled.value.services.iter().map(|name| self.service(view, name));
        let services = services.collect::<Result<Vec<_>, Error>>()?;
        let mut stamp = vec![compiled.number];
        stamp.extend(services.iter().map(|service| service.number));
        self.routes.get(&stored.key, stamp, || {
            let services = services.into_iter().map(|service| service.value).collect();
            Ok(Routes { url_map: compiled.value.map.clone(), services })
        })
    }

    fn service(&mut self, view: &View, name: &ResourceName) -> Result<Made<BackendService>, Error> {
        let stored = view.get(&name.key()).ok_or_else(|| Error::not_found(name))?;
        let doc = document::object(&stored.value);
        let Some(sources) = Sources::of(view, name, doc) else {
            let group = service::group(view, stored);
            let stamp = vec![stored.modified, group.as_ref().map_or(0, |(_, group)| group.modified)];
            return self
                .services
                .get(&stored.key, stamp, || service::serverless_backend(name, stored, group));
        };
        // What counts against limits goes on counting when something else of the backend service changes.
        let breakers = match endpoints::limits(doc) {
            Some(limits) => {
                let stamp = vec![hash64(format!("{limits:?}").as_bytes())];
                Some(self.breakers.get(&stored.key, stamp, || Ok(Breakers::new(limits)))?.value)
            }
            None => None,
        };
        let stamp = [vec![stored.modified], sources.stamp()].concat();
        self.probed.get(&stored.key, stamp.clone(), || Ok(sources.targets(&self.health)))?;
        self.services.get(&stored.key, stamp, || {
            let endpoints = sources.compile(&self.health, breakers);
            service::compile(name, stored, Backend::Endpoints(Arc::new(endpoints)))
        })
    }
}

fn compile_map(stored: &KeyValue) -> Result<CompiledMap, Error> {
    let doc: compute::UrlMap = document::typed(document::object(&stored.value))?;
    let mut services: Vec<ResourceName> = Vec::new();
    let mut indices: HashMap<&str, usize> = HashMap::new();
    for reference in check::references(&doc).into_iter().filter(|reference| reference.role != Role::Test) {
        if let Ok(name) = ResourceName::parse(reference.service) {
            indices.entry(reference.service).or_insert_with(|| {
                services.push(name);
                services.len() - 1
            });
        }
    }
    let map = UrlMap::compile(&doc, |link| indices.get(link).copied());
    let map = map.map_err(|error| Error::internal(format!("{} does not compile: {error}", stored.key)))?;
    Ok(CompiledMap { map: Arc::new(map), services })
}

/// Address and port of a stored forwarding rule.
pub(super) fn address(rule: &Document) -> Option<(std::net::Ipv4Addr, u16)> {
    let ip = document::text(rule, "IPAddress")?.parse().ok()?;
    let port = document::text(rule, "portRange")?.split('-').next()?.parse().ok()?;
    Some((ip, port))
}

/// The resource that a stored document names.
fn link(stored: &KeyValue, field: &str) -> Result<ResourceName, Error> {
    let found = linked(document::object(&stored.value), field);
    found.ok_or_else(|| Error::internal(format!("{} has no {field}", stored.key)))
}

/// The collection of a compute resource's key.
fn collection(key: &str) -> Option<&str> {
    key.strip_prefix("compute/")?.rsplit('/').nth(1)
}

/// Keys of all forwarding rules.
pub(super) fn scan(view: &View) -> BTreeSet<String> {
    let rules = view.range("compute/projects/").filter(|kv| collection(&kv.key) == Some(COLLECTIONS[0]));
    rules.map(|kv| kv.key.to_string()).collect()
}
