//! The endpoints of a group: attached, detached, listed.
//!
//! They are kept beside the group's own document, under a key of their own, in the order in which they were attached:
//! the group's document stays what its maker sent, and reading it does not read thousands of endpoints.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};
use vestibule_balance::State;
use vestibule_model::ResourceName;
use vestibule_model::name::is_valid_name;
use vestibule_store::View;

use super::EndpointType;
use super::settings::region_of;
use crate::compute::ranges::Range;
use crate::compute::{Call, linked, subnetworks};
use crate::lb::Sources;
use crate::{Change, Control, Document, Error, document, users};

/// Endpoints of one call (Google's limit).
const MAX_AT_ONCE: usize = 500;

/// Endpoints of a zonal group (Google's limit).
const MAX_ZONAL: usize = 10_000;

/// Endpoints of a regional internet group (Google's limit).
const MAX_INTERNET: usize = 256;

/// `maxResults` of a list that does not say, and its most.
const PAGE: usize = 500;

/// An endpoint as it is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkEndpoint {
    /// An address, or a name for `INTERNET_FQDN_PORT`.
    pub host: String,
    /// `None`: the group's default, or what the backend service's protocol has.
    pub port: Option<u16>,
}

impl NetworkEndpoint {
    /// An attached endpoint as it is used.
    pub fn of(item: &Document) -> Option<NetworkEndpoint> {
        let host = document::text(item, "ipAddress").or_else(|| document::text(item, "fqdn"))?.to_owned();
        let port = document::integer(item, "port").and_then(|port| u16::try_from(port).ok());
        Some(NetworkEndpoint { host, port: port.filter(|port| *port > 0) })
    }
}

/// Where the endpoints of a group are kept.
pub fn key(name: &ResourceName) -> String {
    format!("endpoints/{}", name.relative())
}

/// The endpoints of a group as they were attached.
pub fn of<'v>(view: &'v View, name: &ResourceName) -> &'v [Value] {
    view.get(&key(name)).map_or(&[], |stored| document::items(document::object(&stored.value), "items"))
}

/// The endpoints of a group as they are used.
pub fn used(view: &View, name: &ResourceName) -> Vec<NetworkEndpoint> {
    of(view, name).iter().filter_map(|item| NetworkEndpoint::of(document::object(item))).collect()
}

/// Attaches or detaches the endpoints of a body. The group's own document stays as it is.
pub fn act(
    change: &mut Change<'_>,
    name: &ResourceName,
    attach: bool,
    body: &Document,
    doc: Document,
) -> Result<Document, Error> {
    let Some(kind) = EndpointType::of(&doc) else {
        return Err(Error::bad_request(format!(
            "'{name}' is a Serverless network endpoint group and has no endpoints."
        )));
    };
    let given = document::items(body, "networkEndpoints");
    if given.is_empty() {
        return Err(Error::required("networkEndpoints"));
    }
    if given.len() > MAX_AT_ONCE {
        let why = format!("At most {MAX_AT_ONCE} network endpoints can be given at once.");
        return Err(Error::invalid("networkEndpoints", given.len(), why));
    }
    let stored = change.get(&key(name));
    let mut items = stored.map(|stored| document::items(document::object(&stored), "items").to_vec());
    let items = items.get_or_insert_default();
    if attach {
        let place = Place::of(change, name, &doc, kind);
        attach_all(change, &place, given, items)?;
    } else {
        detach_all(kind, &doc, given, items)?;
    }
    change.put(&key(name), json!({ "items": items }));
    Ok(doc)
}

/// What endpoints of a group must fit.
struct Place<'d> {
    kind: EndpointType,
    doc: &'d Document,
    /// The ranges that addresses of clients must be from.
    ranges: Vec<Range>,
}

impl<'d> Place<'d> {
    fn of(change: &Change<'_>, name: &ResourceName, doc: &'d Document, kind: EndpointType) -> Place<'d> {
        let ranges = if kind == EndpointType::Vm { ranges(change, name, doc) } else { Vec::new() };
        Place { kind, doc, ranges }
    }

    /// Checks an endpoint and gives back what is kept of it.
    fn check(&self, change: &mut Change<'_>, path: &str, item: &Value) -> Result<Document, Error> {
        let item = item.as_object().ok_or_else(|| Error::invalid(path, "", "Must be an object."))?;
        let mut item = item.clone();
        document::drop_nulls(&mut item);
        document::within(&item, path, "port", 0..=65_535)?;
        document::not_built(
            &item,
            "compute.networkEndpointGroups",
            &["ipv6Address", "clientDestinationPort"],
        )?;
        let foreign: &[&str] = match self.kind {
            EndpointType::Vm => &["fqdn"],
            EndpointType::Hybrid | EndpointType::InternetIp => &["fqdn", "instance"],
            EndpointType::InternetName => &["ipAddress", "instance"],
        };
        if let Some(field) = foreign.iter().find(|field| document::text(&item, field).is_some()) {
            let value = item.get(*field).map(document::quoted).unwrap_or_default();
            let why = format!("The field cannot be set for endpoints of type {}.", self.kind.text());
            return Err(Error::invalid(format!("{path}.{field}"), value, why));
        }
        match self.kind {
            EndpointType::Vm => self.check_vm(path, &item)?,
            EndpointType::InternetName => check_name(path, &item)?,
            EndpointType::Hybrid | EndpointType::InternetIp => self.check_address(change, path, &item)?,
        }
        let has_port = document::integer(&item, "port").is_some_and(|port| port > 0);
        if !has_port && !self.doc.contains_key("defaultPort") && !self.kind.is_internet() {
            return Err(Error::required(format!("{path}.port")));
        }
        Ok(item)
    }

    /// Clients of a network are no resources here: a client is whoever holds the address, whatever it is called.
    fn check_vm(&self, path: &str, item: &Document) -> Result<(), Error> {
        let instance =
            document::text(item, "instance").ok_or_else(|| Error::required(format!("{path}.instance")))?;
        let bare = instance.rsplit('/').next().unwrap_or_default();
        if !is_valid_name(bare) {
            return Err(Error::invalid(format!("{path}.instance"), instance, "The name is not valid."));
        }
        let address = address(path, item)?;
        if !self.ranges.iter().any(|range| range.contains(address)) {
            let why = "The IP address must be in a range of the network endpoint group's subnetwork, or of any \
                       subnetwork of its network and region if it names none.";
            return Err(Error::invalid(format!("{path}.ipAddress"), address, why));
        }
        Ok(())
    }

    fn check_address(&self, change: &mut Change<'_>, path: &str, item: &Document) -> Result<(), Error> {
        let address = address(path, item)?;
        let field = format!("{path}.ipAddress");
        if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            return Err(Error::invalid(field, address, "Must be the address of a host."));
        }
        let why = match self.kind {
            EndpointType::Hybrid if address.is_loopback() => {
                "Must be an address that the network is connected to."
            }
            EndpointType::InternetIp if address.is_loopback() || address.is_private() => {
                "Must be an address of the internet."
            }
            _ => return Ok(()),
        };
        change.refuse_or_warn(Error::invalid(field, address, why))
    }
}

fn address(path: &str, item: &Document) -> Result<Ipv4Addr, Error> {
    let field = format!("{path}.ipAddress");
    let text = document::text(item, "ipAddress").ok_or_else(|| Error::required(&field))?;
    text.parse().map_err(|_| Error::invalid(field, text, "Must be an IPv4 address."))
}

/// A name of RFC 1123: at most 253 characters, labels of at most 63.
fn check_name(path: &str, item: &Document) -> Result<(), Error> {
    let field = format!("{path}.fqdn");
    let name = document::text(item, "fqdn").ok_or_else(|| Error::required(&field))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.len() <= 253
        && bare.contains('.')
        && bare.split('.').all(label)
        && bare.parse::<Ipv4Addr>().is_err()
    {
        return Ok(());
    }
    Err(Error::invalid(field, name, "Must be a fully qualified domain name."))
}

/// The ranges of a group's subnetwork, or of all in its network and region.
fn ranges(change: &Change<'_>, name: &ResourceName, doc: &Document) -> Vec<Range> {
    let (only, network) = (linked(doc, "subnetwork"), linked(doc, "network"));
    let region = vestibule_model::Scope::region(region_of(name).unwrap_or_default());
    let all = change.list(&ResourceName::new(&name.project, region, "subnetworks", ""));
    let fits = |(subnetwork, stored): &(ResourceName, std::sync::Arc<Value>)| {
        let doc = document::object(stored);
        match &only {
            Some(only) => subnetwork == only,
            None => linked(doc, "network") == network && subnetworks::is_private(doc),
        }
    };
    let ranges_of = |(_, stored): (ResourceName, std::sync::Arc<Value>)| {
        let doc = document::object(&stored);
        let secondary = document::items(doc, "secondaryIpRanges").iter().map(document::object);
        let all = std::iter::once(doc).chain(secondary);
        all.filter_map(|entry| Range::parse(document::text(entry, "ipCidrRange")?).ok()).collect::<Vec<_>>()
    };
    all.into_iter().filter(fits).flat_map(ranges_of).collect()
}

/// What makes an endpoint the same as another: the client, the address and the port.
fn identity(kind: EndpointType, doc: &Document, item: &Document) -> (String, String, i64) {
    let text = |field| document::text(item, field).unwrap_or_default();
    let host = if kind == EndpointType::InternetName {
        text("fqdn").trim_end_matches('.').to_ascii_lowercase()
    } else {
        text("ipAddress").to_owned()
    };
    let given = document::integer(item, "port").filter(|port| *port > 0);
    let port = given.or_else(|| document::integer(doc, "defaultPort")).unwrap_or_default();
    (text("instance").rsplit('/').next().unwrap_or_default().to_owned(), host, port)
}

fn attach_all(
    change: &mut Change<'_>,
    place: &Place<'_>,
    given: &[Value],
    items: &mut Vec<Value>,
) -> Result<(), Error> {
    let identity_of = |item: &Document| identity(place.kind, place.doc, item);
    let mut known: HashSet<_> = items.iter().map(|item| identity_of(document::object(item))).collect();
    for (index, item) in given.iter().enumerate() {
        let path = format!("networkEndpoints[{index}]");
        let item = place.check(change, &path, item)?;
        if !known.insert(identity_of(&item)) {
            let why = "The network endpoint is already attached to the network endpoint group.";
            return Err(Error::invalid(path, document::quoted(&Value::Object(item)), why));
        }
        items.push(Value::Object(item));
    }
    let most = if place.kind.is_internet() { MAX_INTERNET } else { MAX_ZONAL };
    if items.len() > most {
        let why = format!("A network endpoint group can have at most {most} endpoints.");
        return Err(Error::invalid("networkEndpoints", given.len(), why));
    }
    Ok(())
}

fn detach_all(
    kind: EndpointType,
    doc: &Document,
    given: &[Value],
    items: &mut Vec<Value>,
) -> Result<(), Error> {
    for (index, wanted) in given.iter().enumerate() {
        let wanted_identity = identity(kind, doc, document::object(wanted));
        // The name of the client may be left out.
        let is_wanted = |item: &Value| {
            let (instance, host, port) = identity(kind, doc, document::object(item));
            let (name, wanted_host, wanted_port) = &wanted_identity;
            host == *wanted_host && port == *wanted_port && (name.is_empty() || *name == instance)
        };
        let at = items.iter().position(is_wanted).ok_or_else(|| {
            let why = "The network endpoint is not attached to the network endpoint group.";
            Error::invalid(format!("networkEndpoints[{index}]"), document::quoted(wanted), why)
        })?;
        items.remove(at);
    }
    Ok(())
}

/// `listNetworkEndpoints`, a page at a time; with `healthStatus` `SHOW` it tells what is known of their health.
pub fn list(
    change: &mut Change<'_>,
    call: &Call,
    name: &ResourceName,
    body: &Document,
    doc: &Document,
) -> Result<Value, Error> {
    let view = change.view();
    let mut answer = Map::new();
    answer.insert("kind".into(), "compute#networkEndpointGroupsListNetworkEndpoints".into());
    answer.insert("id".into(), format!("{name}/{}", super::LIST_ENDPOINTS).into());
    let all = of(view, name);
    let parameter =
        |field: &str| call.parameters.get(field).map(String::as_str).filter(|text| !text.is_empty());
    let number = |field: &str, what: &str| {
        let bad = |text| Error::invalid(field, text, what);
        parameter(field).map(|text| text.parse::<usize>().map_err(|_| bad(text))).transpose()
    };
    let most = number("maxResults", "Must be between 0 and 500.")?.unwrap_or(PAGE).clamp(1, PAGE);
    let start = number("pageToken", "Invalid value for page token.")?.unwrap_or(0).min(all.len());
    let users: Vec<ResourceName> = match document::text(body, "healthStatus") {
        Some("SHOW") => {
            users(view, &name.key()).iter().filter_map(|key| ResourceName::from_key(key)).collect()
        }
        _ => Vec::new(),
    };
    let services: Vec<Sources<'_>> = users
        .iter()
        .filter(|user| user.collection == "backendServices")
        .filter_map(|user| Sources::of(view, user, document::object(&view.get(&user.key())?.value)))
        .collect();
    let end = all.len().min(start + most);
    let items: Vec<Value> = all[start..end]
        .iter()
        .map(|item| {
            let mut listed = json!({"networkEndpoint": item});
            let healths = healths(change.control(), &services, doc, item);
            if !healths.is_empty() {
                listed["healths"] = healths.into();
            }
            listed
        })
        .collect();
    if !items.is_empty() {
        answer.insert("items".into(), items.into());
    }
    if end < all.len() {
        answer.insert("nextPageToken".into(), end.to_string().into());
    }
    Ok(answer.into())
}

/// What is known of an endpoint's health, for every backend service that probes it.
fn healths(control: &Control, services: &[Sources<'_>], group: &Document, item: &Value) -> Vec<Value> {
    let Some(endpoint) = NetworkEndpoint::of(document::object(item)) else { return Vec::new() };
    let health = |sources: &Sources<'_>| {
        let key = sources.probe_key(group, &endpoint)?;
        let state = match control.health().state(&key) {
            Some(State::Healthy) => "HEALTHY",
            Some(State::Unhealthy) => "UNHEALTHY",
            Some(State::Unknown) | None => "UNKNOWN",
        };
        Some(json!({
            "backendService": {"backendService": sources.service().self_link()},
            "healthCheck": {"healthCheck": sources.check()?.self_link()},
            "healthState": state,
        }))
    };
    services.iter().filter_map(health).collect()
}
