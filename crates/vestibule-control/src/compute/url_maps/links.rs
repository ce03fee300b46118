//! The backend services that a map names: there, in the right place, and spelt in one way.

use serde_json::Value;
use vestibule_model::{ResourceName, compute};
use vestibule_urlmap::check::{self, Reference, Role};

use super::super::backend_services;
use super::super::network_endpoint_groups::is_serverless;
use crate::{Change, Document, Error, document};

const COLLECTIONS: &[&str] = &["backendServices"];

/// Checks every reference of the map `of` and writes its canonical form into `doc`, whose typed view is `map`.
pub fn resolve(
    change: &mut Change<'_>,
    of: &ResourceName,
    map: &compute::UrlMap,
    doc: &mut Document,
) -> Result<(), Error> {
    let mut canonical: Vec<(String, String)> = Vec::new();
    for reference in check::references(map) {
        if let Some(service) = resolve_one(change, of, &reference)? {
            canonical.push((pointer(&reference.field), service.self_link()));
        }
    }
    let mut whole = Value::Object(std::mem::take(doc));
    for (pointer, link) in canonical {
        if let Some(place) = whole.pointer_mut(&pointer) {
            *place = Value::String(link);
        }
    }
    complete_durations(&mut whole);
    if let Value::Object(members) = whole {
        *doc = members;
    }
    Ok(())
}

fn resolve_one(
    change: &mut Change<'_>,
    of: &ResourceName,
    reference: &Reference<'_>,
) -> Result<Option<ResourceName>, Error> {
    let Reference { field, service, role } = reference;
    if *role == Role::Test {
        // A test may expect a service that is not there. It fails, and says so.
        return Ok(ResourceName::parse_with(service, &of.project, &of.scope, COLLECTIONS[0]).ok());
    }
    let name = change.reference(of, field, service, &of.scope, COLLECTIONS)?;
    if name.scope != of.scope {
        let why = "The backend service must be in the region of the URL map.";
        return Err(Error::invalid(field.as_str(), service, why));
    }
    if *role == Role::Mirror && has_serverless(change, &name)? {
        let why =
            "A backend service with Serverless network endpoint groups cannot receive mirrored requests.";
        change.refuse_or_warn(Error::invalid(field.as_str(), service, why))?;
    }
    Ok(Some(name))
}

fn has_serverless(change: &Change<'_>, service: &ResourceName) -> Result<bool, Error> {
    let stored = change.expect(service)?;
    let groups = backend_services::groups(document::object(&stored));
    Ok(groups
        .iter()
        .filter_map(|group| change.find(group))
        .any(|group| is_serverless(document::object(&group))))
}

/// `resource.pathMatchers[0].defaultService` as a JSON pointer (RFC 6901).
fn pointer(field: &str) -> String {
    field.trim_start_matches("resource").replace(['.', '['], "/").replace(']', "")
}

/// Google reads a retry's time limit back with both members.
fn complete_durations(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Object(limit)) = members.get_mut("perTryTimeout") {
                document::default(limit, "nanos", 0);
            }
            members.values_mut().for_each(complete_durations);
        }
        Value::Array(items) => items.iter_mut().for_each(complete_durations),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_pointers() {
        assert_eq!(pointer("resource.defaultService"), "/defaultService");
        assert_eq!(
            pointer(
                "resource.pathMatchers[0].pathRules[12].routeAction.weightedBackendServices[1].backendService"
            ),
            "/pathMatchers/0/pathRules/12/routeAction/weightedBackendServices/1/backendService"
        );
    }
}
