//! Which images the stored state needs, so that pruning spares them.

use std::collections::BTreeSet;

use serde_json::Value;
use vestibule_store::View;

use super::jobs;
use super::name::{Kind, parse_key};

/// What names images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUse {
    /// Revisions, and executions that are not over, as `PROJECT/REGION/NAME`: what each has settled on stays.
    pub owners: BTreeSet<String>,
    /// Images as revisions, services and jobs name them.
    pub references: BTreeSet<String>,
}

impl ImageUse {
    /// Reads a state.
    pub fn of(view: &View) -> ImageUse {
        let mut found = ImageUse::default();
        for kv in view.range("run/projects/") {
            let Some((collection, name)) = parse_key(&kv.key) else { continue };
            let owns = match Kind::of_collection(collection) {
                Some(Kind::Revision) => true,
                Some(Kind::Execution) if jobs::is_over(&kv.value) => continue,
                Some(Kind::Execution) => true,
                Some(Kind::Service | Kind::Job) => false,
                None => continue,
            };
            if owns {
                found.owners.insert(format!("{}/{}/{}", name.project, name.location, name.name));
            }
            images(&kv.value["spec"], &mut found.references);
        }
        found
    }
}

/// The images of every container in a specification, however deep.
fn images(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            let containers = members.get("containers").and_then(Value::as_array).into_iter().flatten();
            into.extend(
                containers.filter_map(|container| Some(container.get("image")?.as_str()?.to_owned())),
            );
            members.values().for_each(|member| images(member, into));
        }
        Value::Array(items) => items.iter().for_each(|item| images(item, into)),
        _ => {}
    }
}
