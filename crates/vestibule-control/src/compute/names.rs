//! Checks on the names that clients choose.

use vestibule_model::ResourceName;
use vestibule_model::name::{NAME_PATTERN, is_project_id, is_valid_name};
use vestibule_model::{Scope, name};

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

/// Refuses projects, regions and zones whose shape no name of Google's has. Regions that are not in our list pass:
/// Google opens new ones.
fn check_place(project: &str, scope: &Scope) -> Result<(), Error> {
    if !is_project_id(project) {
        return Err(Error::invalid("project", project, "Unknown project id."));
    }
    match scope {
        Scope::Region(region) if !name::is_valid_name(region) => {
            Err(Error::invalid("region", region, "Unknown region."))
        }
        Scope::Zone(zone) if !name::is_valid_name(zone) => Err(Error::invalid("zone", zone, "Unknown zone.")),
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

    #[test]
    fn regions_need_the_shape_of_one() {
        let body = json!({"name": "s"});
        let at = |scope: Scope| of_new("demo", &scope, "subnetworks", document::object(&body));
        assert!(at(Scope::region("moon-base1")).is_ok());
        assert!(at(Scope::region("..")).is_err());
        assert!(at(Scope::zone("A")).is_err());
    }
}
