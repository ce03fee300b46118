//! The backends of a backend service, and what a serverless one forbids.

use serde_json::Value;
use vestibule_model::ResourceName;

use super::super::network_endpoint_groups::{Platform, is_serverless};
use crate::{Change, Document, Error, document};

/// Collections whose resources can be backends.
pub const COLLECTIONS: &[&str] = &["networkEndpointGroups"];

/// The groups behind a stored backend service.
pub fn groups(doc: &Document) -> Vec<ResourceName> {
    let links = document::items(doc, "backends").iter().filter_map(|backend| backend["group"].as_str());
    links.filter_map(|link| ResourceName::parse(link).ok()).collect()
}

/// Resolves every backend's group and fills in defaults. Returns whether there is a serverless group.
pub fn resolve(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<bool, Error> {
    let Some(Value::Array(backends)) = doc.get_mut("backends") else { return Ok(false) };
    let mut groups: Vec<ResourceName> = Vec::new();
    let mut serverless = 0;
    for (index, backend) in backends.iter_mut().enumerate() {
        let path = format!("resource.backends[{index}]");
        let backend =
            backend.as_object_mut().ok_or_else(|| Error::invalid(&path, "", "Must be an object."))?;
        let group = resolve_group(change, name, backend, &path)?;
        if groups.contains(&group) {
            let why = "The group is a backend of the backend service more than once.";
            return Err(Error::invalid(format!("{path}.group"), group.self_link(), why));
        }
        serverless += usize::from(is_serverless(document::object(&*change.expect(&group)?)));
        groups.push(group);
        document::default(backend, "balancingMode", "UTILIZATION");
        document::default(backend, "capacityScaler", 1.0);
    }
    match serverless {
        0 => Ok(false),
        1 if groups.len() == 1 => Ok(true),
        _ => {
            let why = if serverless == groups.len() {
                "A regional backend service can have at most one Serverless network endpoint group."
            } else {
                "A backend service cannot have both Serverless network endpoint groups and other backends."
            };
            let last = groups.last().map(ResourceName::self_link).unwrap_or_default();
            Err(Error::invalid(format!("resource.backends[{}].group", groups.len() - 1), last, why))
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
        return Err(Error::not_implemented("compute.instanceGroups"));
    }
    let group = change.reference(name, &field, text, &name.scope, COLLECTIONS)?;
    if group.project != name.project || group.scope != name.scope {
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
