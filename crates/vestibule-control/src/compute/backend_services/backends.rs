//! The backends of a backend service, and what a serverless one forbids.

use serde_json::Value;
use vestibule_model::ResourceName;

use super::super::network_endpoint_groups::{self, EndpointType, Platform, is_serverless};
use crate::{Change, Document, Error, document};

/// Collections whose resources can be backends.
pub const COLLECTIONS: &[&str] = &["networkEndpointGroups"];

/// The groups behind a stored backend service.
pub fn groups(doc: &Document) -> Vec<ResourceName> {
    let links = document::items(doc, "backends").iter().filter_map(|backend| backend["group"].as_str());
    links.filter_map(|link| ResourceName::parse(link).ok()).collect()
}

/// What stands behind a backend service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    Nothing,
    Serverless,
    /// Groups with endpoints inside a network, or connected to one.
    Endpoints,
    /// Groups with endpoints on the internet.
    Internet,
}

/// Resolves every backend's group and fills in defaults. Returns what kind the groups are of.
pub fn resolve(change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<Behind, Error> {
    let Some(Value::Array(backends)) = doc.get_mut("backends") else { return Ok(Behind::Nothing) };
    let mut groups: Vec<ResourceName> = Vec::new();
    let mut kinds = Vec::new();
    let mut network = None;
    let alone = backends.len() == 1;
    for (index, backend) in backends.iter_mut().enumerate() {
        let path = format!("resource.backends[{index}]");
        let backend =
            backend.as_object_mut().ok_or_else(|| Error::invalid(&path, "", "Must be an object."))?;
        let group = resolve_group(change, name, backend, &path)?;
        if groups.contains(&group) {
            let why = "The group is a backend of the backend service more than once.";
            return Err(Error::invalid(format!("{path}.group"), group.self_link(), why));
        }
        let stored = change.expect(&group)?;
        let group_doc = document::object(&stored);
        kinds.push(kind_of(group_doc));
        check_network(&mut network, group_doc, &path, &group)?;
        if !is_serverless(group_doc) {
            check_balancing(change, backend, &path, group_doc, alone)?;
        }
        groups.push(group);
        document::default(backend, "balancingMode", "UTILIZATION");
        document::default(backend, "capacityScaler", 1.0);
    }
    let Some(first) = kinds.first().copied() else { return Ok(Behind::Nothing) };
    let refuse = |index: usize, why: &str| {
        let link = groups.get(index).map(ResourceName::self_link).unwrap_or_default();
        Err(Error::invalid(format!("resource.backends[{index}].group"), link, why))
    };
    if let Some(other) = kinds.iter().position(|kind| *kind != first) {
        let why = match kinds.contains(&Behind::Serverless) {
            true => {
                "A backend service cannot have both Serverless network endpoint groups and other backends."
            }
            false => {
                "A backend service cannot have both internet network endpoint groups and other backends."
            }
        };
        // Named is the last one, as Google names it for serverless groups.
        return refuse(if kinds.contains(&Behind::Serverless) { groups.len() - 1 } else { other }, why);
    }
    if first == Behind::Serverless && groups.len() > 1 {
        let why = "A regional backend service can have at most one Serverless network endpoint group.";
        return refuse(groups.len() - 1, why);
    }
    Ok(first)
}

fn kind_of(group: &Document) -> Behind {
    match EndpointType::of(group) {
        None => Behind::Serverless,
        Some(kind) if kind.is_internet() => Behind::Internet,
        Some(_) => Behind::Endpoints,
    }
}

/// All groups with endpoints must be of one network.
fn check_network(
    known: &mut Option<ResourceName>,
    group: &Document,
    path: &str,
    name: &ResourceName,
) -> Result<(), Error> {
    let Some(network) = crate::compute::linked(group, "network") else { return Ok(()) };
    match known {
        Some(known) if *known != network => {
            let why = "All network endpoint groups of a backend service must be of the same network.";
            Err(Error::invalid(format!("{path}.group"), name.self_link(), why))
        }
        _ => {
            *known = Some(network);
            Ok(())
        }
    }
}

/// How much a group with endpoints may be given.
fn check_balancing(
    change: &mut Change<'_>,
    backend: &Document,
    path: &str,
    group: &Document,
    alone: bool,
) -> Result<(), Error> {
    let kind = group.get("networkEndpointType").map(document::quoted).unwrap_or_default();
    let modes = ["RATE", "UTILIZATION", "CONNECTION", "CUSTOM_METRICS", "IN_FLIGHT"];
    document::one_of(backend, path, "balancingMode", &modes)?;
    for field in ["maxRate", "maxConnections", "maxConnectionsPerEndpoint"] {
        document::within(backend, path, field, 1..=i64::from(i32::MAX))?;
    }
    let number = |field: &str| backend.get(field).and_then(Value::as_f64);
    let refuse = |field: &str, why: String| {
        let value = backend.get(field).map(document::quoted).unwrap_or_default();
        Error::invalid(format!("{path}.{field}"), value, why)
    };
    let per_endpoint = number("maxRatePerEndpoint");
    if per_endpoint.is_some_and(|rate| rate <= 0.0) {
        return Err(refuse("maxRatePerEndpoint", "Must be greater than 0.".into()));
    }
    if let Some(scaler) = number("capacityScaler")
        && scaler != 0.0
        && !(0.1..=1.0).contains(&scaler)
    {
        return Err(refuse("capacityScaler", "Must be 0.0, or between 0.1 and 1.0 inclusive.".into()));
    }
    if number("capacityScaler") == Some(0.0) && alone {
        let why = "The only backend of a backend service cannot have a capacityScaler of 0.";
        change.refuse_or_warn(refuse("capacityScaler", why.into()))?;
    }
    for field in ["maxRatePerInstance", "maxConnectionsPerInstance"] {
        if number(field).is_some_and(|value| value != 0.0) {
            let why = format!(
                "The field is for instance groups, and not for network endpoint groups of type {kind}."
            );
            return Err(refuse(field, why));
        }
    }
    let mode = document::text(backend, "balancingMode").unwrap_or("UTILIZATION");
    let has_rate = per_endpoint.is_some() || number("maxRate").is_some();
    if mode != "RATE" && has_rate {
        let field = if per_endpoint.is_some() { "maxRatePerEndpoint" } else { "maxRate" };
        return Err(refuse(field, format!("Cannot be set with balancing mode {mode}.")));
    }
    if kind_of(group) == Behind::Internet {
        return Ok(());
    }
    match mode {
        "RATE" if has_rate => Ok(()),
        "RATE" => {
            let why = "Balancing mode RATE needs maxRate or maxRatePerEndpoint.";
            change.refuse_or_warn(refuse("balancingMode", why.into()))
        }
        "CUSTOM_METRICS" | "IN_FLIGHT" => {
            Err(Error::not_built(format!("compute.regionBackendServices.backends.balancingMode {mode}")))
        }
        _ => {
            let why = format!(
                "Balancing mode {mode} is not supported for network endpoint groups of type {kind} behind an \
                 application load balancer."
            );
            change.refuse_or_warn(refuse("balancingMode", why))
        }
    }
}

fn resolve_group(
    change: &Change<'_>,
    name: &ResourceName,
    backend: &mut Document,
    path: &str,
) -> Result<ResourceName, Error> {
    let field = format!("{path}.group");
    let text = document::text(backend, "group").ok_or_else(|| Error::required(&field))?;
    if text.contains("/instanceGroups/") {
        return Err(Error::not_built("compute.instanceGroups"));
    }
    let group = change.reference(name, &field, text, &name.scope, COLLECTIONS)?;
    let region = network_endpoint_groups::region_of(&group);
    if group.project != name.project || region.is_none() || region != name.scope.region_name() {
        let why = "The network endpoint group must be in the project and region of the backend service.";
        return Err(Error::invalid(field, text, why));
    }
    backend.insert("group".into(), group.self_link().into());
    Ok(group)
}

/// What cannot be said of a backend service with a serverless group, as Google words it.
pub fn check_serverless(change: &mut Change<'_>, doc: &Document) -> Result<(), Error> {
    const BEHIND: &str = "is not supported for a backend service with Serverless network endpoint groups.";
    if let Some(name) = document::text(doc, "portName").filter(|name| *name != super::settings::PORT_NAME) {
        return Err(Error::invalid("resource.portName", name, format!("Port name {BEHIND}")));
    }
    if !document::items(doc, "healthChecks").is_empty() {
        let why =
            "A backend service cannot have a healthcheck with Serverless network endpoint group backends.";
        return Err(Error::invalid("resource.healthChecks", "", why));
    }
    check_serverless_backend(document::items(doc, "backends").first().map(document::object))?;
    check_platform(change, doc)?;
    // Google refuses these; here they have no effect, and the operation says so.
    let timeout = document::integer(doc, "timeoutSec").unwrap_or(super::settings::TIMEOUT);
    if timeout != super::settings::TIMEOUT {
        let error = Error::invalid("resource.timeoutSec", timeout, format!("Timeout sec {BEHIND}"));
        change.refuse_or_warn(error)?;
    }
    let affinity = document::text(doc, "sessionAffinity").filter(|affinity| *affinity != "NONE");
    if let Some(affinity) = affinity {
        let error =
            Error::invalid("resource.sessionAffinity", affinity, format!("Session affinity {BEHIND}"));
        change.refuse_or_warn(error)?;
    }
    for (field, words) in [
        ("localityLbPolicy", "Locality load balancing policy"),
        ("outlierDetection", "Outlier detection"),
        ("consistentHash", "Consistent hash"),
        ("circuitBreakers", "Circuit breakers"),
    ] {
        if let Some(value) = doc.get(field) {
            let error = Error::invalid(
                format!("resource.{field}"),
                document::quoted(value),
                format!("{words} {BEHIND}"),
            );
            change.refuse_or_warn(error)?;
        }
    }
    Ok(())
}

fn check_serverless_backend(backend: Option<&Document>) -> Result<(), Error> {
    const GROUPS: &str = "is not supported for Serverless network endpoint groups.";
    let Some(backend) = backend else { return Ok(()) };
    let refuse = |field: &str, words: &str| {
        let value = backend.get(field).map(document::quoted).unwrap_or_default();
        Err(Error::invalid(format!("resource.backends[0].{field}"), value, format!("{words} {GROUPS}")))
    };
    // UTILIZATION is what clients that always send a mode send, Terraform among them.
    if document::text(backend, "balancingMode").is_some_and(|mode| mode != "UTILIZATION") {
        return refuse("balancingMode", "Balancing mode");
    }
    for (field, words) in [
        ("maxUtilization", "Max utilization"),
        ("maxRate", "Max rate"),
        ("maxRatePerInstance", "Max rate per instance"),
        ("maxRatePerEndpoint", "Max rate per endpoint"),
        ("maxConnections", "Max connections"),
        ("maxConnectionsPerInstance", "Max connections per instance"),
        ("maxConnectionsPerEndpoint", "Max connections per endpoint"),
        ("maxInFlightRequests", "Max in flight requests"),
        ("maxInFlightRequestsPerInstance", "Max in flight requests per instance"),
        ("maxInFlightRequestsPerEndpoint", "Max in flight requests per endpoint"),
        ("failover", "Failover"),
    ] {
        let off = |value: &Value| *value == Value::Bool(false) || value.as_f64() == Some(0.0);
        if backend.get(field).is_some_and(|value| !off(value)) {
            return refuse(field, words);
        }
    }
    Ok(())
}

/// App Engine and first-generation functions are for external load balancers only.
fn check_platform(change: &mut Change<'_>, doc: &Document) -> Result<(), Error> {
    for group in groups(doc) {
        let stored = change.expect(&group)?;
        let platform = Platform::of(document::object(&stored));
        if platform.is_some_and(|platform| platform != Platform::CloudRun) {
            let why = "Invalid load balancing scheme for regional backend service with Serverless network endpoint group.";
            change.refuse_or_warn(Error::invalid("resource.loadBalancingScheme", super::SCHEME, why))?;
        }
    }
    Ok(())
}
