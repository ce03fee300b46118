//! What would become of a request, and why: answered from the same compiled objects that serve requests.
//!
//! The documents say which way a request goes as far as the service. What they cannot say (which address a name has,
//! whether the service lets the caller in) is asked of the running system, where there is one.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Serialize;
use vestibule_model::ResourceName;
use vestibule_proxy::snapshot::{Backend, Endpoints, Listener, ServerlessNeg};
use vestibule_run::desired::Service;
use vestibule_run::front::{Ask, Cause, Front, Origin, Refusal, Target};
use vestibule_store::View;
use vestibule_urlmap::{
    AskedUrl, Decision, ForwardDecision, RedirectDecision, RequestView, Trail, normalize,
};
use vestibule_vpc::NetworkId;

use super::compile::{self, Compiler};
use super::health::HealthTable;
use crate::compute::linked;
use crate::vpc::Member;
use crate::{Control, document};

mod firewall;
mod routes;
mod url;

use firewall::Plain;
pub use firewall::Ruling;
use url::Url;

/// Suffix of the default URLs of services.
const RUN_APP: &str = ".run.app";

/// A request that nobody sends.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// `http://host[:port]/path?query`; the scheme may be left out. Or another client without HTTP: `tcp://ip:port`,
    /// `udp://ip:port`, `icmp://ip`.
    pub url: String,
    /// `GET` when empty.
    pub method: String,
    /// Request headers: names and values. `Authorization` counts.
    pub headers: Vec<(String, String)>,
    /// Where the caller stands: `projects/P/global/networks/N`. `None`: the first network in which the address serves.
    pub network: Option<String>,
    /// Connect there, whatever the URL's host is.
    pub address: Option<Ipv4Addr>,
    /// Address of the client that asks. `None`: one in the subnetwork of the destination.
    pub from: Option<Ipv4Addr>,
    /// Its network tags; those of the client that has the address, if none are given.
    pub tags: Vec<String>,
    /// Its service account's email address.
    pub service_account: Option<String>,
}

/// Tells the addresses of a name, as the resolver of a network answers.
pub type Resolve<'l> = &'l dyn Fn(&NetworkId, &str) -> Vec<Ipv4Addr>;

/// Tells the clients that are in a network.
pub type Members<'l> = &'l dyn Fn(&NetworkId) -> Vec<Member>;

/// Parts of the running system that know what no document says.
#[derive(Clone, Copy, Default)]
pub struct Live<'l> {
    /// Lets requests into services.
    pub front: Option<&'l Front>,
    /// Finds names inside networks.
    pub resolve: Option<Resolve<'l>>,
    /// Finds clients inside networks.
    pub members: Option<Members<'l>>,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// An instance of the service gets the request.
    Served,
    /// It reaches another client.
    Delivered,
    /// The client is sent elsewhere.
    Redirected,
    /// The load balancer answers by itself, as the configuration asks it to.
    Answered,
    #[default]
    Refused,
}

/// The way of a request, as far as it got. Members that it did not reach are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub url: String,
    pub outcome: Outcome,
    /// Status of the answer, where it is not the service's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The check that refused the request: `url`, `network`, `dns`, `address`, `forwardingRule`, `globalAccess`, `firewall`, `protocol`, `path`, `fault`, `backend`,
    /// `urlMask`, `service`, `tag`, `ingress`, `identity`, `revision` or `instances`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<&'static str>,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Address of who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What firewall rules say, the sender's side first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub firewall: Vec<Ruling>,
    /// `10.0.0.100:80`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarding_rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_map: Option<String>,
    /// The host pattern. Left out where the map's default serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_matcher: Option<String>,
    /// The path rule's pattern or the route rule's path predicate; `UNMATCHED` for a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_rule: Option<String>,
    /// `Location` of a redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_service: Option<String>,
    /// All that the rule chooses from, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weighted_backend_services: Vec<Share>,
    /// What the backend sees, where it is rewritten: `host/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_endpoint_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_mask: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The revisions that may serve it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Share>,
    /// What else happens on the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One of several that share requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// Its name.
    pub name: String,
    /// 0 to 100.
    pub percent: f64,
}

/// A request on its way.
struct Traveller<'q> {
    question: &'q Question,
    live: Live<'q>,
    url: Url<'q>,
    /// Why firewall rules are not enforced here.
    gap: Option<String>,
    health: &'q HealthTable,
    story: Explanation,
}

/// The way ended before a service was reached.
struct End;

impl Control {
    /// Tells what would become of a request now.
    pub fn explain(&self, question: &Question, live: Live<'_>) -> Explanation {
        let story = Explanation { url: question.url.clone(), ..Explanation::default() };
        let plain = Plain::parse(&question.url);
        // What has no URL has no need of one.
        let Some(url) = Url::parse(if plain.is_some() { "plain" } else { &question.url }) else {
            return Explanation {
                refused_by: Some("url"),
                reason: Some("This is no http or https URL.".to_owned()),
                ..story
            };
        };
        if let Some(why) = no_network(&self.view(), question.network.as_deref()) {
            return Explanation { refused_by: Some("network"), reason: Some(why), ..story };
        }
        let gap = self.settings().firewall_gap.clone();
        let mut traveller = Traveller { question, live, url, gap, health: self.health(), story };
        let view = self.view();
        // The story says how it ended.
        let _ = match plain {
            Some(to) => traveller.plain(&view, to),
            None => traveller.travel(&view),
        };
        traveller.story
    }
}

/// Why nobody can stand in the network that the question names.
fn no_network(view: &View, wanted: Option<&str>) -> Option<String> {
    let wanted = match ResourceName::parse(wanted?).and_then(|name| name.expect_collection(&["networks"])) {
        Ok(wanted) => wanted,
        Err(error) => return Some(format!("{error}.")),
    };
    if view.get(&wanted.key()).is_some() {
        return None;
    }
    let networks = view.range(&wanted.parent_key());
    let names: Vec<String> =
        networks.filter_map(|kv| ResourceName::from_key(&kv.key)).map(|other| other.name).collect();
    let others = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Some(format!("Project {} has no network {}; it has {others}.", wanted.project, wanted.name))
}

impl Traveller<'_> {
    fn travel(&mut self, view: &View) -> Result<(), End> {
        let host = self.url.host.to_ascii_lowercase();
        if self.question.address.is_none() && host.ends_with(RUN_APP) {
            return self.default_url();
        }
        let Some((rule, listener)) = self.listener(view)? else { return Ok(()) };
        self.story.network = Some(listener.network.short().to_owned());
        self.story.address = Some(format!("{}:{}", listener.ip, listener.port));
        self.pass_to(view, &listener)?;
        self.story.forwarding_rule = Some(rule.name);
        self.story.target_proxy = Some(listener.target_proxy.to_string());
        self.story.url_map = Some(listener.url_map_name.to_string());
        if listener.tls.is_some() != self.url.https {
            let (proxy, asked) = if self.url.https { ("HTTP", "https") } else { ("HTTPS", "http") };
            let why = format!("The target proxy speaks {proxy} on this port, and the URL says {asked}.");
            return self.refuse("protocol", None, why);
        }
        let path = match normalize::path(self.url.path.as_bytes()) {
            Ok(path) => path.into_owned(),
            Err(rejected) => return self.refuse("path", Some(400), format!("The {rejected}.")),
        };
        self.route(view, &listener, &path)
    }

    fn refuse<T>(
        &mut self,
        check: &'static str,
        status: Option<u16>,
        why: impl Into<String>,
    ) -> Result<T, End> {
        self.story.outcome = Outcome::Refused;
        self.story.refused_by = Some(check);
        self.story.status = status;
        self.story.reason = Some(why.into());
        Err(End)
    }

    /// Finds the forwarding rule of the URL's address and port. `None`: the request went to another client.
    fn listener(&mut self, view: &View) -> Result<Option<(ResourceName, Arc<Listener>)>, End> {
        let literal = self.question.address.or_else(|| self.url.host.parse().ok());
        let rules = rules_in(view, self.question.network.as_deref());
        let port = self.url.port;
        let found = match literal {
            Some(address) => rules.iter().find(|rule| (rule.address, rule.port) == (address, port)),
            None => rules.iter().find(|rule| rule.port == port && self.has_address(rule)),
        };
        let Some(found) = found else {
            let client = match self.literal() {
                Some(to) if !rules.iter().any(|rule| rule.address == to.address) => {
                    self.reach_client(view, to)?
                }
                _ => false,
            };
            return if client { Ok(None) } else { self.no_listener(literal, &rules) };
        };
        match Compiler::listener_of(view, self.health, &found.name) {
            Ok(listener) => Ok(Some((found.name.clone(), listener))),
            Err(error) => self.refuse("forwardingRule", None, error.to_string()),
        }
    }

    /// Whether the URL's host has the rule's address in the rule's network.
    fn has_address(&self, rule: &Rule) -> bool {
        self.live.resolve.is_some_and(|resolve| resolve(&rule.network, self.url.host).contains(&rule.address))
    }

    fn no_listener<T>(&mut self, literal: Option<Ipv4Addr>, rules: &[Rule]) -> Result<T, End> {
        let (host, port) = (self.url.host.to_owned(), self.url.port);
        let place =
            self.question.network.as_deref().map_or_else(String::new, |network| format!(" in {network}"));
        let Some(address) = literal else {
            let named = |rule: &&Rule| self.has_address(rule);
            if let Some(rule) = rules.iter().find(named) {
                let why = format!(
                    "{host} is {}, where no forwarding rule serves port {port}{place}.",
                    rule.address
                );
                return self.refuse("forwardingRule", None, why);
            }
            return self.refuse("dns", None, format!("{host} is no address of a forwarding rule{place}."));
        };
        let there = rules.iter().find(|rule| rule.address == address);
        let why = match there {
            Some(rule) => format!("{address} serves port {}, not {port}{place}.", rule.port),
            None => format!("No forwarding rule has the address {address}{place}."),
        };
        self.refuse("forwardingRule", None, why)
    }

    fn route(&mut self, view: &View, listener: &Listener, path: &[u8]) -> Result<(), End> {
        let method = if self.question.method.is_empty() { "GET" } else { &self.question.method };
        let authority = self.header("host").unwrap_or(self.url.authority).to_owned();
        let request = RequestView {
            host: authority.as_bytes(),
            path,
            query: self.url.query.map(str::as_bytes),
            method: method.as_bytes(),
            headers: &self.question.headers,
            random: 0,
        };
        match listener.routes.url_map.route(&request) {
            Decision::Redirect(redirect) => self.redirect(&redirect, &request),
            Decision::Forward(forward) => self.forward(view, listener, &forward, &request),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.question.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn follow(&mut self, trail: &Trail<'_>) {
        self.story.host_rule = trail.host.map(str::to_owned);
        self.story.path_matcher = trail.path_matcher.map(str::to_owned);
        self.story.path_rule = Some(trail.label().to_owned());
    }

    fn redirect(&mut self, redirect: &RedirectDecision<'_>, request: &RequestView<'_>) -> Result<(), End> {
        self.follow(&redirect.trail);
        let mut location = Vec::new();
        let asked =
            AskedUrl { https: self.url.https, host: request.host, path: request.path, query: request.query };
        redirect.location(asked, &mut location);
        self.story.outcome = Outcome::Redirected;
        self.story.status = Some(redirect.status());
        self.story.location = Some(String::from_utf8_lossy(&location).into_owned());
        Ok(())
    }

    fn forward(
        &mut self,
        view: &View,
        listener: &Listener,
        forward: &ForwardDecision<'_>,
        request: &RequestView<'_>,
    ) -> Result<(), End> {
        self.follow(&forward.trail);
        if let Some(cors) = forward.action.cors() {
            let value = |name: &str| self.header(name).map(str::as_bytes);
            let preflight =
                cors.preflight(request.method, value("origin"), value("access-control-request-method"));
            if preflight.is_some() {
                self.story.outcome = Outcome::Answered;
                self.story.status = Some(200);
                self.story.reason = Some("The route's CORS policy answers preflight requests.".to_owned());
                return Ok(());
            }
        }
        self.note_faults(forward)?;
        let name = |index: usize| listener.routes.services.get(index).map(|service| service.name.to_string());
        let shares = forward.action.services();
        if shares.len() > 1 {
            let shares = shares.into_iter().filter_map(|(index, share)| Some((name(index)?, share)));
            self.story.weighted_backend_services =
                shares.map(|(name, share)| Share { name, percent: share * 100.0 }).collect();
        }
        self.story.backend_service = name(forward.service);
        self.note_rewrite(forward, request);
        if forward.action.mirror().is_some() {
            self.story.notes.push("Copies of such requests go to the mirror backend service.".to_owned());
        }
        match listener.routes.services.get(forward.service).map(|service| &service.backend) {
            Some(Backend::Serverless(neg)) => self.serverless(neg, request),
            Some(Backend::Endpoints(endpoints)) => self.endpoints(view, endpoints),
            Some(Backend::Empty) | None => {
                self.refuse("backend", Some(503), "The backend service has no backend.")
            }
        }
    }

    fn endpoints(&mut self, view: &View, endpoints: &Endpoints) -> Result<(), End> {
        let names: Vec<&str> = endpoints.groups.iter().map(|group| &*group.name).collect();
        self.story.network_endpoint_group = Some(names.join(", "));
        self.pass_to_endpoints(view, endpoints)?;
        let all = endpoints.endpoints.len();
        let good =
            endpoints.endpoints.iter().filter(|endpoint| endpoint.weight > 0 && endpoint.health.is_good());
        let good = good.count();
        self.story.notes.push(format!("{good} of {all} endpoints are healthy and may get requests."));
        if good == 0 {
            let why = if all == 0 { "The backend has no endpoints." } else { "No endpoint is healthy." };
            return self.refuse("health", Some(503), why);
        }
        self.story.outcome = Outcome::Served;
        Ok(())
    }

    fn note_faults(&mut self, forward: &ForwardDecision<'_>) -> Result<(), End> {
        let Some(fault) = forward.action.fault() else { return Ok(()) };
        if let Some(delay) = fault.delay(0) {
            self.story
                .notes
                .push(format!("Requests of this route may be held for {} s.", delay.as_secs_f64()));
        }
        // What hits even the highest draw hits every request.
        match (fault.abort(u64::MAX), fault.abort(0)) {
            (Some(status), _) => {
                self.refuse("fault", Some(status), "Every request of this route is aborted.")
            }
            (None, Some(status)) => {
                self.story.notes.push(format!("A share of this route's requests is aborted with {status}."));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note_rewrite(&mut self, forward: &ForwardDecision<'_>, request: &RequestView<'_>) {
        let host = forward.rewritten_host();
        let mut path = Vec::new();
        let changed = forward.rewrite_path(request.path, &mut path);
        if !changed {
            path.extend_from_slice(request.path);
        }
        if changed || host.is_some() {
            let host = host.map_or_else(|| String::from_utf8_lossy(request.host).into_owned(), str::to_owned);
            self.story.rewritten_url = Some(format!("{host}{}", String::from_utf8_lossy(&path)));
        }
    }

    /// The mask sees the URL as the client sent it, after normalisation.
    fn serverless(&mut self, neg: &ServerlessNeg, request: &RequestView<'_>) -> Result<(), End> {
        self.story.network_endpoint_group = Some(neg.name.to_string());
        let (mut service, mut tag) =
            (neg.service.as_deref().map(str::to_owned), neg.tag.as_deref().map(str::to_owned));
        if let Some(mask) = &neg.mask {
            self.story.url_mask = Some(mask.as_str().to_owned());
            let Some(found) = mask.extract(request.host, request.path) else {
                return self.refuse("urlMask", Some(404), "The URL does not fit the group's URL mask.");
            };
            service = found.service.map(|text| text.into_owned()).or(service);
            tag = found.tag.map(|text| text.into_owned()).or(tag);
        }
        let Some(service) = service else {
            return self.refuse("urlMask", Some(404), "Neither the group nor the URL names a service.");
        };
        self.story.service = Some(service.clone());
        self.story.tag.clone_from(&tag);
        let target = Target::Service {
            project: &neg.project,
            region: &neg.region,
            service: &service,
            tag: tag.as_deref(),
        };
        self.enter(target, Origin::InternalLoadBalancer, request.path, tag.as_deref())
    }

    /// A request to the default URL of a service passes every load balancer by.
    fn default_url(&mut self) -> Result<(), End> {
        let host = self.url.host.to_owned();
        let origin = if self.question.network.is_some() { Origin::Vpc } else { Origin::External };
        self.story.notes.push("The default URL of a service passes every load balancer by.".to_owned());
        let path = self.url.path.to_owned();
        self.enter(Target::Host(&host), origin, path.as_bytes(), None)
    }

    fn enter(
        &mut self,
        target: Target<'_>,
        origin: Origin,
        path: &[u8],
        tag: Option<&str>,
    ) -> Result<(), End> {
        self.story.outcome = Outcome::Served;
        let Some(front) = self.live.front else {
            self.story.notes.push("Whether the service lets the request in was not asked.".to_owned());
            return Ok(());
        };
        let path = String::from_utf8_lossy(path).into_owned();
        let ask = Ask {
            target,
            origin,
            authorization: self.header("authorization").map(str::as_bytes),
            serverless_authorization: self.header("x-serverless-authorization").map(str::as_bytes),
            path: &path,
            cookies: self.header("cookie").map(str::as_bytes),
        };
        match front.admit(&ask) {
            Ok(admitted) => {
                self.describe(&admitted.service, tag);
                Ok(())
            }
            Err(refusal) => self.turned_away(&refusal, tag),
        }
    }

    fn describe(&mut self, service: &Service, tag: Option<&str>) {
        self.story.service = Some(service.key.name.to_string());
        let wanted = |target: &&vestibule_run::desired::TrafficTarget| match tag {
            Some(_) => target.tag.as_deref() == tag,
            None => target.percent > 0,
        };
        let share = |target: &vestibule_run::desired::TrafficTarget| Share {
            name: target.revision.to_string(),
            percent: if tag.is_some() { 100.0 } else { f64::from(target.percent) },
        };
        self.story.revisions = service.traffic.iter().filter(wanted).map(share).collect();
    }

    fn turned_away(&mut self, refusal: &Refusal, tag: Option<&str>) -> Result<(), End> {
        if let Some(service) = &refusal.service {
            self.describe(service, tag);
        }
        let check = match refusal.cause {
            Cause::UnknownService => "service",
            Cause::UnknownTag => "tag",
            Cause::Ingress => "ingress",
            Cause::NoToken | Cause::BadToken | Cause::NotAllowed => "identity",
            Cause::NoRevision => "revision",
            _ => "instances",
        };
        self.refuse(check, Some(refusal.status), refusal.log.clone())
    }
}

/// Where a forwarding rule listens.
struct Rule {
    name: ResourceName,
    network: NetworkId,
    address: Ipv4Addr,
    port: u16,
}

/// All forwarding rules of a network, or of every network.
fn rules_in(view: &View, network: Option<&str>) -> Vec<Rule> {
    let read = |key: &str| -> Option<Rule> {
        let doc = document::object(&view.get(key)?.value);
        let (address, port) = compile::address(doc)?;
        let theirs = linked(doc, "network")?.relative();
        if network.is_some_and(|wanted| wanted != theirs) {
            return None;
        }
        let network = NetworkId::from_relative(&theirs);
        Some(Rule { name: ResourceName::from_key(key)?, network, address, port })
    };
    compile::scan(view).iter().filter_map(|key| read(key)).collect()
}
