//! Where a request goes: the desired services, prepared for look-up.
//!
//! A table is built once for every change and never altered, so request threads read it without a lock, and a request
//! sees either the old or the new services as a whole.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::affinity;
use crate::desired::{Revision, Service, ServiceKey};
use crate::entries::EntryHead;
use crate::front::Target;
use crate::instance::Instance;
use crate::invoker::Invokers;
use crate::pool::Pool;
use crate::refusal::Refusal;

/// Separates a tag from the rest in the host name of a tagged URL.
const TAG_SEPARATOR: &str = "---";

/// All services that can be entered.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) generation: u64,
    services: HashMap<ServiceKey, Arc<Entry>>,
    hosts: HashMap<Box<str>, Arc<Entry>>,
}

/// A service, prepared.
pub(crate) struct Entry {
    pub(crate) service: Arc<Service>,
    /// Who may invoke it.
    pub(crate) invokers: Invokers,
    /// Routes with a share, each with the sum of the shares up to and with it.
    split: Vec<(u32, Route)>,
    tags: HashMap<Arc<str>, Route>,
    /// Some revision wants session affinity.
    any_sticky: bool,
}

/// A revision that requests can go to.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) revision: Arc<Revision>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) log_head: Arc<EntryHead>,
}

/// A target that exists.
pub(crate) struct Found<'a> {
    pub(crate) entry: &'a Entry,
    /// The tagged revision that was asked for by name.
    pub(crate) tag: Option<&'a Route>,
}

impl Table {
    pub(crate) fn new(generation: u64, entries: Vec<Arc<Entry>>) -> Self {
        let mut table = Self { generation, ..Self::default() };
        for entry in entries {
            let service = &entry.service;
            table.services.insert(service.key.clone(), entry.clone());
            if !service.default_url_disabled {
                let hosts = service.hosts.iter().map(|host| host.to_ascii_lowercase().into_boxed_str());
                table.hosts.extend(hosts.map(|host| (host, entry.clone())));
            }
        }
        table
    }

    /// The entry of this very description of a service.
    pub(crate) fn entry_of(&self, service: &Arc<Service>) -> Option<Arc<Entry>> {
        self.services.get(&service.key).filter(|entry| Arc::ptr_eq(&entry.service, service)).cloned()
    }

    pub(crate) fn find(&self, target: &Target<'_>) -> Result<Found<'_>, Refusal> {
        match *target {
            Target::Service { project, region, service, tag } => {
                let entry = self.services.get(&(project, region, service) as &dyn Name).ok_or_else(|| {
                    Refusal::unknown_service(&format!("service {service:?} in {project}/{region}"))
                })?;
                entry.found(tag)
            }
            Target::Host(host) => self.find_host(host),
        }
    }

    fn find_host(&self, host: &str) -> Result<Found<'_>, Refusal> {
        let name = without_port(host);
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find_plain_host(&name.to_ascii_lowercase());
        }
        self.find_plain_host(name)
    }

    fn find_plain_host(&self, host: &str) -> Result<Found<'_>, Refusal> {
        if let Some(entry) = self.hosts.get(host) {
            return entry.found(None);
        }
        let unknown = || Refusal::unknown_service(&format!("service with the host name {host:?}"));
        let (tag, rest) = host.split_once(TAG_SEPARATOR).ok_or_else(unknown)?;
        self.hosts.get(rest).ok_or_else(unknown)?.found(Some(tag))
    }
}

/// A host without its port. IPv6 literals name no service, so they need no care.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl Entry {
    /// Prepares a service. `route` gives the pool of a revision; what it does not know gets no traffic.
    pub(crate) fn new(service: &Arc<Service>, route: impl Fn(&str) -> Option<Route>) -> Self {
        let mut split = Vec::new();
        let mut tags = HashMap::new();
        let mut sum = 0_u32;
        for target in &service.traffic {
            let Some(route) = route(&target.revision) else { continue };
            if let Some(tag) = &target.tag {
                tags.insert(tag.clone(), route.clone());
            }
            if target.percent > 0 {
                sum = sum.saturating_add(target.percent);
                split.push((sum, route));
            }
        }
        let routes = split.iter().map(|(_, route)| route).chain(tags.values());
        let any_sticky = routes.into_iter().any(|route: &Route| route.revision.session_affinity);
        Self { service: service.clone(), invokers: Invokers::new(service), split, tags, any_sticky }
    }

    /// The instance that the client's cookie names, and its revision. `tag`: only that revision will do.
    pub(crate) fn sticky(
        &self,
        tag: Option<&Route>,
        cookies: Option<&[u8]>,
    ) -> Option<(&Route, Arc<Instance>)> {
        if !self.any_sticky {
            return None;
        }
        let wanted = affinity::wanted(cookies?)?;
        let among = |route: &Route| tag.is_none_or(|tag| tag.revision.name == route.revision.name);
        let routes = self.split.iter().map(|(_, route)| route).chain(self.tags.values());
        let mut routes = routes.filter(|route| route.revision.session_affinity && among(route));
        routes.find_map(|route| Some((route, route.pool.find(|id| affinity::is_meant(id, wanted))?)))
    }

    /// A revision by chance, each as often as its share says.
    pub(crate) fn pick(&self) -> Option<&Route> {
        match self.split.as_slice() {
            [] => None,
            [(_, only)] => Some(only),
            [.., (sum, _)] => self.at(fastrand::u32(..*sum)),
        }
    }

    /// The revision that has the share at `point`.
    fn at(&self, point: u32) -> Option<&Route> {
        let index = self.split.partition_point(|(sum, _)| *sum <= point);
        self.split.get(index).map(|(_, route)| route)
    }

    fn found(&self, tag: Option<&str>) -> Result<Found<'_>, Refusal> {
        let route = match tag {
            Some(tag) => Some(self.tags.get(tag).ok_or_else(|| Refusal::unknown_tag(tag).of(&self.service))?),
            None => None,
        };
        Ok(Found { entry: self, tag: route })
    }
}

/// The parts of a [`ServiceKey`], so that a look-up needs no owned key.
trait Name {
    fn parts(&self) -> (&str, &str, &str);
}

impl Name for ServiceKey {
    fn parts(&self) -> (&str, &str, &str) {
        (&self.project, &self.region, &self.name)
    }
}

impl Name for (&str, &str, &str) {
    fn parts(&self) -> (&str, &str, &str) {
        *self
    }
}

// The same as what `ServiceKey` derives, which hashes its three strings one after another.
impl Hash for dyn Name + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn Name + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Name + '_ {}

impl<'a> Borrow<dyn Name + 'a> for ServiceKey {
    fn borrow(&self) -> &(dyn Name + 'a) {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::TrafficTarget;
    use crate::testing;

    fn entry(traffic: &[(&str, u32, Option<&str>)]) -> Entry {
        let mut service = testing::service("svc");
        service.traffic = traffic
            .iter()
            .map(|(revision, percent, tag)| TrafficTarget {
                revision: (*revision).into(),
                percent: *percent,
                tag: tag.map(Into::into),
            })
            .collect();
        service.hosts = vec!["svc-abc-uc.a.run.app".into(), "svc-1.us-central1.run.app".into()];
        Entry::new(&Arc::new(service), |name| (name != "gone").then(|| testing::route(name)))
    }

    fn revision(found: Result<Found<'_>, Refusal>) -> Option<Arc<str>> {
        found.unwrap().tag.map(|route| route.revision.name.clone())
    }

    #[test]
    fn the_split_follows_the_shares() {
        let entry =
            entry(&[("a", 90, None), ("gone", 0, None), ("b", 10, Some("blue")), ("c", 0, Some("c"))]);
        let names: Vec<_> =
            (0..100).map(|point| entry.at(point).unwrap().revision.name.to_string()).collect();
        assert_eq!(names.iter().filter(|name| *name == "a").count(), 90);
        assert_eq!(names.iter().filter(|name| *name == "b").count(), 10);
        fastrand::seed(1);
        let picks = (0..10_000).filter(|_| &*entry.pick().unwrap().revision.name == "b").count();
        assert!((800..1_200).contains(&picks), "{picks}");
    }

    #[test]
    fn nothing_with_a_share_is_nothing_to_pick() {
        assert!(entry(&[("gone", 100, None), ("c", 0, Some("c"))]).pick().is_none());
    }

    #[test]
    fn finds_by_name_and_by_host() {
        let table = Table::new(1, vec![Arc::new(entry(&[("a", 100, None), ("b", 0, Some("blue"))]))]);
        let by_name = |service, tag| table.find(&Target::Service { project: "p", region: "r", service, tag });
        assert_eq!(revision(by_name("svc", None)), None);
        assert_eq!(revision(by_name("svc", Some("blue"))).as_deref(), Some("b"));
        assert_eq!(by_name("svc", Some("red")).err().unwrap().status, 404);
        assert_eq!(by_name("other", None).err().unwrap().status, 404);
        for host in ["svc-abc-uc.a.run.app", "SVC-abc-uc.a.run.app:443", "svc-1.us-central1.run.app"] {
            assert_eq!(revision(table.find(&Target::Host(host))), None, "{host}");
        }
        for host in ["blue---svc-abc-uc.a.run.app", "blue---svc-1.us-central1.run.app:80"] {
            assert_eq!(revision(table.find(&Target::Host(host))).as_deref(), Some("b"), "{host}");
        }
        for host in ["", "a.run.app", "red---svc-abc-uc.a.run.app", "blue---x", "svc", ":80", "[::1]:80"] {
            assert_eq!(table.find(&Target::Host(host)).err().unwrap().status, 404, "{host}");
        }
    }

    #[test]
    fn a_default_url_that_is_switched_off_does_not_exist() {
        let mut entry = entry(&[("a", 100, None)]);
        let mut service = (*entry.service).clone();
        service.default_url_disabled = true;
        entry.service = Arc::new(service);
        let table = Table::new(1, vec![Arc::new(entry)]);
        assert_eq!(table.find(&Target::Host("svc-abc-uc.a.run.app")).err().unwrap().status, 404);
        let by_name = Target::Service { project: "p", region: "r", service: "svc", tag: None };
        assert!(table.find(&by_name).is_ok());
    }
}
