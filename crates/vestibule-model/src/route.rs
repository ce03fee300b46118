//! Which method a request is for.
//!
//! All services share one port, so one tree holds the templates of all of them: a node a path segment, literals
//! before parameters. Where two services have the same path, the one that comes first in [`Service::ALL`] has it.

use crate::generated::Service;
use crate::generated::unserved::UNSERVED;
use crate::schema::{Schema, Type, Violation, ViolationKind, camel, validate_text};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One method of an API.
#[derive(Debug)]
pub struct Method {
    pub service: Service,
    /// Google's id, e.g. `compute.regionUrlMaps.insert`. Unique within a service; `run.projects.locations.list` and
    /// some others exist in two versions.
    pub id: &'static str,
    /// The HTTP method.
    pub verb: &'static str,
    /// The whole path, one parameter a segment: `/v2/projects/{projectsId}/locations/{locationsId}/services`.
    pub template: &'static str,
    /// Parameters that span several segments of the template, written `{+name}` by Google.
    pub joined: &'static [Joined],
    /// In the order of their names. [`STANDARD_PARAMETERS`] come on top.
    pub query: &'static [Query],
    pub request: Option<&'static Schema>,
    pub response: Option<&'static Schema>,
}

/// A parameter made of the segments `from..to` of the template, counted with the empty one before the first slash.
#[derive(Debug)]
pub struct Joined {
    pub name: &'static str,
    pub from: usize,
    pub to: usize,
}

/// A query parameter.
#[derive(Debug)]
pub struct Query {
    pub name: &'static str,
    pub kind: Type,
    pub repeated: bool,
    pub required: bool,
    pub minimum: Option<i64>,
    pub maximum: Option<i64>,
}

/// Query parameters that every method takes (Google's "system parameters"). None changes what we answer.
pub const STANDARD_PARAMETERS: &[&str] = &[
    "access_token",
    "alt",
    "callback",
    "fields",
    "key",
    "oauth_token",
    "prettyPrint",
    "quotaUser",
    "uploadType",
    "upload_protocol",
    "userIp",
    "userProject",
];

impl Method {
    /// The last part of the id, e.g. `insert`.
    pub fn action(&self) -> &'static str {
        self.id.rsplit('.').next().unwrap_or_default()
    }

    /// The part of the id before the action, e.g. `regionUrlMaps`.
    pub fn resource(&self) -> &'static str {
        self.id.rsplit('.').nth(1).unwrap_or_default()
    }

    /// What error messages call the body: compute says `resource`, other APIs say nothing for a request message and
    /// the resource's name in snake case for a resource.
    pub fn body_root(&self) -> String {
        let name = self.request.map_or("", |schema| schema.name);
        if self.service == Service::Compute {
            return "resource".to_owned();
        }
        if name.ends_with("Request") {
            return String::new();
        }
        let start = name.rfind(|c: char| c.is_ascii_digit()).map_or(0, |digit| digit + 1);
        let mut out = String::new();
        for c in name[start..].chars() {
            if c.is_ascii_uppercase() && !out.is_empty() {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    }

    /// The declared query parameter of that name; its spelling in snake case is accepted too, as Google does.
    pub fn query_parameter(&self, name: &str) -> Option<&'static Query> {
        let by_name = |name: &str| self.query.iter().find(|query| query.name == name);
        by_name(name).or_else(|| if name.contains('_') { by_name(&camel(name)) } else { None })
    }

    fn joined_values(&self, segments: &[String]) -> impl Iterator<Item = (&'static str, String)> {
        self.joined.iter().map(|joined| {
            // A slash inside of a segment was `%2F`, and must stay so where slashes separate segments.
            let parts: Vec<String> =
                segments[joined.from..joined.to].iter().map(|s| s.replace('/', "%2F")).collect();
            (joined.name, parts.join("/"))
        })
    }
}

impl Query {
    /// Checks one value of this parameter.
    pub fn check(&self, text: &str) -> Result<(), Violation> {
        validate_text(&self.kind, self.name, text)?;
        let number: Option<i64> = text.parse().ok();
        let outside = number.is_some_and(|n| {
            self.minimum.is_some_and(|minimum| n < minimum) || self.maximum.is_some_and(|maximum| n > maximum)
        });
        if !outside {
            return Ok(());
        }
        let range = match (self.minimum, self.maximum) {
            (Some(minimum), Some(maximum)) => format!("[{minimum}, {maximum}]"),
            (Some(minimum), None) => format!("at least {minimum}"),
            _ => format!("at most {}", self.maximum.unwrap_or_default()),
        };
        let kind = ViolationKind::WrongType {
            expected: format!("values must be within the range: {range}"),
            value: format!("{text:?}"),
        };
        Err(Violation { path: self.name.to_owned(), kind })
    }
}

/// What a path and an HTTP method lead to.
#[derive(Debug)]
pub enum RouteMatch {
    Found(Found),
    /// The path is known, but not with this HTTP method; with these it is.
    MethodNotAllowed(Vec<&'static str>),
    NotFound,
    /// A method of Google's that is not served, by its id, e.g. `compute.instances.insert`.
    Unserved(&'static str),
    /// The path leads to a method, but a parameter's percent-encoding does not yield UTF-8.
    BadEncoding,
}

/// A method and the values of its path parameters.
#[derive(Debug)]
pub struct Found {
    pub method: &'static Method,
    pub params: Params,
}

/// Path parameters by name, percent-decoded: `{+name}` ones under their own name (`projects/p/locations/l`), and every
/// single segment under the name that the flat template gives it (`projectsId`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    /// A parameter's value. Every parameter of the template is present in a match.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Replaces a parameter's value.
    pub fn set(&mut self, name: &'static str, value: String) {
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some(slot) => slot.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// All of them, in the order of the path, joined ones last.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// All methods of all services.
pub fn methods() -> impl Iterator<Item = &'static Method> {
    Service::ALL.iter().flat_map(|service| service.methods())
}

/// One method by service and id.
pub fn method(service: Service, id: &str) -> Option<&'static Method> {
    service.methods().iter().find(|method| method.id == id)
}

/// Finds the method for a request. `path` is the path as it was sent, without the query.
pub fn find(verb: &str, path: &str) -> RouteMatch {
    let segments: Vec<&str> = path.split('/').collect();
    if !path.starts_with('/') {
        return RouteMatch::NotFound;
    }
    let served = TREE.candidates(&segments[1..]);
    let unserved = UNSERVED_TREE.candidates(&segments[1..]);
    let hit = served.iter().find(|hit| hit.payload.verb == verb);
    let other = unserved.iter().find(|hit| hit.payload.0 == verb);
    // Some templates are wide: Service Usage's `/v1/{v1Id}/{v1Id1}/services/{servicesId}` fits App Engine's paths too,
    // and `…/{id}` fits `…/{id}:getIamPolicy`.
    let wider = |hit: &Candidate<&Method>, other: &Candidate<&Outline>| {
        (literals(other.payload.1), other.custom) > (literals(hit.payload.template), hit.custom)
    };
    match (hit, other) {
        (Some(hit), other) if !other.is_some_and(|other| wider(hit, other)) => {
            let method = hit.payload;
            return match params(method, &segments, hit.custom) {
                Some(params) => RouteMatch::Found(Found { method, params }),
                None => RouteMatch::BadEncoding,
            };
        }
        (_, Some(other)) => return RouteMatch::Unserved(other.payload.2),
        _ => {}
    }
    let mut verbs: Vec<&str> = served.iter().map(|hit| hit.payload.verb).collect();
    verbs.sort_unstable();
    verbs.dedup();
    if verbs.is_empty() { RouteMatch::NotFound } else { RouteMatch::MethodNotAllowed(verbs) }
}

/// `custom` is the length of the custom verb at the end of the path, with its colon.
fn params(method: &'static Method, segments: &[&str], custom: usize) -> Option<Params> {
    let mut decoded = Vec::with_capacity(segments.len());
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        let text = if last { &segment[..segment.len() - custom] } else { segment };
        decoded.push(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    }
    let named = method.template.split('/').zip(&decoded).filter_map(|(part, value)| {
        let (name, _) = part.strip_prefix('{')?.split_once('}')?;
        Some((name, value.clone()))
    });
    let mut params: Vec<(&'static str, String)> = named.collect();
    params.extend(method.joined_values(&decoded));
    Some(Params(params))
}

static TREE: LazyLock<Node<&'static Method>> = LazyLock::new(|| {
    let mut root = Node::default();
    methods().for_each(|method| root.insert(method.template, method));
    root
});

/// Verb, template and id of a method that is only known by name.
type Outline = (&'static str, &'static str, &'static str);

static UNSERVED_TREE: LazyLock<Node<&'static Outline>> = LazyLock::new(|| {
    let mut root = Node::default();
    UNSERVED.iter().for_each(|outline| root.insert(outline.1, outline));
    root
});

/// How many segments of a template are no parameters.
fn literals(template: &str) -> usize {
    template.split('/').filter(|part| !part.starts_with('{')).count()
}

/// A place in the tree: what ends here, and what may follow.
struct Node<T> {
    literals: BTreeMap<&'static str, Node<T>>,
    parameter: Option<Box<Node<T>>>,
    /// With the custom verb, e.g. `setIamPolicy` of `{resource}:setIamPolicy`.
    ends: Vec<(Option<&'static str>, T)>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: BTreeMap::new(), parameter: None, ends: Vec::new() }
    }
}

struct Candidate<T> {
    payload: T,
    /// Bytes of the last segment that belong to the custom verb.
    custom: usize,
}

impl<T: Copy> Node<T> {
    fn insert(&mut self, template: &'static str, payload: T) {
        let mut node = self;
        let mut custom = None;
        for part in template.split('/').skip(1) {
            node = match part.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                Some((_, rest)) => {
                    custom = rest.strip_prefix(':');
                    node.parameter.get_or_insert_default()
                }
                None => {
                    custom = None;
                    node.literals.entry(part).or_default()
                }
            };
        }
        node.ends.push((custom, payload));
    }

    /// Everything whose template fits, the most literal one first.
    fn candidates(&self, segments: &[&str]) -> Vec<Candidate<T>> {
        let mut out = Vec::new();
        self.collect(segments, &mut out);
        out
    }

    fn collect(&self, segments: &[&str], out: &mut Vec<Candidate<T>>) {
        let Some((first, rest)) = segments.split_first() else { return };
        if let Some(next) = self.literals.get(first) {
            match rest.is_empty() {
                true => next.collect_ends(None, out),
                false => next.collect(rest, out),
            }
        }
        let Some(next) = self.parameter.as_deref().filter(|_| !first.is_empty()) else { return };
        match rest.is_empty() {
            true => next.collect_ends(Some(first), out),
            false => next.collect(rest, out),
        }
    }

    /// `parameter` is the last segment where it is a parameter. A colon in it starts a custom verb only if there is
    /// such a verb here; older project ids (`example.com:app`) have colons of their own.
    fn collect_ends(&self, parameter: Option<&str>, out: &mut Vec<Candidate<T>>) {
        let verb = parameter.and_then(|text| text.rsplit_once(':')).map(|(_, verb)| verb);
        let ending = |wanted: Option<&str>, custom: usize| {
            let fitting = self.ends.iter().filter(move |(end, _)| *end == wanted);
            fitting.map(|(_, payload)| Candidate { payload: *payload, custom }).collect::<Vec<_>>()
        };
        let with_verb = verb.map(|verb| ending(Some(verb), verb.len() + 1)).unwrap_or_default();
        out.extend(if with_verb.is_empty() { ending(None, 0) } else { with_verb });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(verb: &str, path: &str) -> Found {
        match find(verb, path) {
            RouteMatch::Found(found) => found,
            other => panic!("{verb} {path}: {other:?}"),
        }
    }

    #[test]
    fn every_template_routes_back_to_its_method() {
        for method in methods() {
            let path = method.template.replace(['{', '}'], "");
            let hit = found(method.verb, &path);
            // Services that share a path here have hosts of their own at Google; the first answers for all.
            let shared = hit.method.template == method.template && hit.method.verb == method.verb;
            assert!(
                shared,
                "{} {path} leads to {} of {:?}, not to {} of {:?}",
                method.verb, hit.method.id, hit.method.service, method.id, method.service
            );
            for (name, value) in hit.params.iter().filter(|(_, value)| !value.contains('/')) {
                assert!(value == name || !method.template.contains(&format!("{{{name}}}")), "{name}={value}");
            }
        }
    }

    #[test]
    fn ids_are_unique_within_a_service() {
        for service in Service::ALL {
            let mut ids: Vec<_> = service.methods().iter().map(|method| method.id).collect();
            let before = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), before, "{service:?}");
        }
    }

    #[test]
    fn calls_that_gcloud_makes() {
        for (verb, path, id) in [
            ("POST", "/compute/v1/projects/demo/regions/us-central1/urlMaps", "compute.regionUrlMaps.insert"),
            (
                "POST",
                "/compute/v1/projects/demo/global/operations/op-1/wait",
                "compute.globalOperations.wait",
            ),
            ("GET", "/compute/v1/projects/demo/aggregated/addresses", "compute.addresses.aggregatedList"),
            (
                "PUT",
                "/apis/serving.knative.dev/v1/namespaces/demo/services/s",
                "run.namespaces.services.replaceService",
            ),
            ("GET", "/v1/projects/demo/locations/-/services", "run.projects.locations.services.list"),
            (
                "POST",
                "/v1/projects/demo/locations/us-central1/operations/o-1:wait",
                "run.projects.locations.operations.wait",
            ),
            (
                "GET",
                "/v1/projects/demo/locations/us-central1/services/s:getIamPolicy",
                "run.projects.locations.services.getIamPolicy",
            ),
            ("GET", "/v1/projects/demo/locations", "run.projects.locations.list"),
            (
                "GET",
                "/dns/v1/projects/demo/managedZones/z/rrsets/api.internal.example.com./A",
                "dns.resourceRecordSets.get",
            ),
            ("POST", "/v2/entries:list", "logging.entries.list"),
            ("GET", "/v1/projects/demo/services/run.googleapis.com", "serviceusage.services.get"),
            ("POST", "/v1/projects/demo/services:batchEnable", "serviceusage.services.batchEnable"),
            ("GET", "/v1/operations/acf.p2-1-2", "serviceusage.operations.get"),
            ("GET", "/v1/projects/demo", "cloudresourcemanager.projects.get"),
            ("POST", "/v1/projects/demo:getIamPolicy", "cloudresourcemanager.projects.getIamPolicy"),
            ("GET", "/v3/effectiveTags", "cloudresourcemanager.effectiveTags.list"),
            (
                "POST",
                "/v1/projects/-/serviceAccounts/sa@demo.iam.gserviceaccount.com:generateIdToken",
                "iamcredentials.projects.serviceAccounts.generateIdToken",
            ),
        ] {
            assert_eq!(found(verb, path).method.id, id, "{verb} {path}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_joined() {
        let hit = found("DELETE", "/v2/projects/demo/logs/run.googleapis.com%2Frequests");
        assert_eq!(hit.params.get("logName"), Some("projects/demo/logs/run.googleapis.com%2Frequests"));
        assert_eq!(hit.params.get("logsId"), Some("run.googleapis.com/requests"));
        let hit = found("GET", "/v1/projects/demo/locations/us-central1/services/s:getIamPolicy");
        assert_eq!(hit.params.get("resource"), Some("projects/demo/locations/us-central1/services/s"));
        assert_eq!(hit.params.get("servicesId"), Some("s"));
        let hit = found("GET", "/dns/v1/projects/demo/managedZones/z/rrsets/*.example.com./A");
        assert_eq!(hit.params.get("name"), Some("*.example.com."));
        let hit = found("POST", "/v1/projects/example.com:app:getIamPolicy");
        assert_eq!(hit.params.get("resource"), Some("example.com:app"));
        let hit = found("GET", "/v1/projects/example.com:app");
        assert_eq!(hit.params.get("projectId"), Some("example.com:app"));
    }

    #[test]
    fn what_leads_nowhere() {
        for path in ["", "/", "/compute/v1", "/compute/v1/projects//global/networks", "compute/v1/projects/p"]
        {
            assert!(matches!(find("GET", path), RouteMatch::NotFound), "{path}");
        }
        assert!(matches!(find("GET", "/compute/v1/projects/p/global/networks/%ff"), RouteMatch::BadEncoding));
        match find("PUT", "/compute/v1/projects/p/global/networks") {
            RouteMatch::MethodNotAllowed(verbs) => assert_eq!(verbs, ["GET", "POST"]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn methods_that_are_not_served_are_known_by_name() {
        for (verb, path, id) in [
            ("POST", "/compute/v1/projects/p/zones/z/instances", "compute.instances.insert"),
            (
                "GET",
                "/v2/projects/p/locations/l/functions/f",
                "cloudfunctions.projects.locations.functions.get",
            ),
            ("POST", "/v1/projects/p/roles", "iam.projects.roles.create"),
        ] {
            assert!(matches!(find(verb, path), RouteMatch::Unserved(found) if found == id), "{path}");
        }
        for (verb, template, id) in UNSERVED {
            let path = template.replace(['{', '}'], "");
            // Two unserved templates may fit the same path; which one is named does not matter.
            assert!(matches!(find(verb, &path), RouteMatch::Unserved(_)), "{verb} {path} of {id}");
        }
    }

    #[test]
    fn query_parameters() {
        let list = method(Service::Compute, "compute.networks.list").unwrap();
        let limit = list.query_parameter("max_results").unwrap();
        assert!(limit.check("500").is_ok());
        assert!(limit.check("-1").is_err());
        assert!(list.query_parameter("colour").is_none());
    }

    #[test]
    fn names_of_bodies() {
        let root = |service, id| method(service, id).unwrap().body_root();
        assert_eq!(root(Service::Compute, "compute.networks.insert"), "resource");
        assert_eq!(root(Service::RunV2, "run.projects.locations.services.create"), "service");
        assert_eq!(root(Service::RunV2, "run.projects.locations.services.setIamPolicy"), "");
        assert_eq!(root(Service::Dns, "dns.managedZones.create"), "managed_zone");
    }
}
