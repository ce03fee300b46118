//! Checks on the names that clients choose.

use vestibule_model::ResourceName;
use vestibule_model::name::{NAME_PATTERN, is_project_id, is_valid_name};
use vestibule_model::{Scope, region};

use crate::{Document, Error, document};

/// The name of a resource that is being made, from its body.
pub fn of_new(
    project: &str,
    scope: &Scope,
    collection: &str,
    body: &Document,
) -> Result<ResourceName, Error> {
    check_place(project, scope)?;
    let name = document::text(body, "name").ok_or_else(|| Error::required("resource.name"))?;
    if !is_valid_name(name) {
        return Err(Error::invalid("resource.name", name, must_match()));
    }
    Ok(ResourceName::new(project, scope.clone(), collection, name))
}

/// Refuses projects whose shape no name of Google's has, and scopes that Google does not have.
fn check_place(project: &str, scope: &Scope) -> Result<(), Error> {
    if !is_project_id(project) {
        return Err(Error::invalid("project", project, "Unknown project id."));
    }
    check_scope(scope)
}

/// Refuses regions and zones that Google does not have: a mistyped one, or a zone for a region, would hold a resource
/// that nothing can ever reach, and looks empty to who asks for what is there.
pub fn check_scope(scope: &Scope) -> Result<(), Error> {
    match scope {
        Scope::Region(region) if region::find(region).is_none() => {
            Err(Error::invalid("region", region, "Unknown region."))
        }
        Scope::Zone(zone) if !region::is_zone(zone) => Err(Error::invalid("zone", zone, "Unknown zone.")),
        _ => Ok(()),
    }
}

fn must_match() -> String {
    format!("Must be a match of regex '{NAME_PATTERN}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_that_google_does_not_have() {
        let body = json!({ "name": "n" });
        let at = |scope: Scope| of_new("demo", &scope, "addresses", document::object(&body)).map(drop);
        assert_eq!(at(Scope::Region("us-central1".into())), Ok(()));
        assert_eq!(at(Scope::Zone("us-central1-a".into())), Ok(()));
        for region in ["us-central1-a", "us-centrl1", "hello", ""] {
            let refused = at(Scope::Region(region.into())).unwrap_err().to_string();
            assert_eq!(refused, format!("Invalid value for field 'region': '{region}'. Unknown region."));
        }
        for zone in ["us-central1", "us-central1-z", "hello"] {
            let refused = at(Scope::Zone(zone.into())).unwrap_err().to_string();
            assert_eq!(refused, format!("Invalid value for field 'zone': '{zone}'. Unknown zone."));
        }
    }

    #[test]
    fn bad_names_have_googles_text() {
        let name = |name: &str| {
            of_new("demo", &Scope::Global, "networks", document::object(&json!({ "name": name })))
        };
        assert!(name("n1").is_ok());
        assert_eq!(
            name("Foo").unwrap_err().to_string(),
            "Invalid value for field 'resource.name': 'Foo'. Must be a match of regex \
             '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'"
        );
        assert_eq!(name("").unwrap_err(), Error::required("resource.name"));
    }
}
