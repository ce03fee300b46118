//! Projects, regions and zones: read only, and derived from their names alone.

use serde_json::{Value, json};
use vestibule_model::fingerprint::hash64;
use vestibule_model::name::{SELF_LINK_PREFIX, region_link, zone_link};
use vestibule_model::region::{self, Region};
use vestibule_model::{fingerprint, project};

use super::Compute;
use crate::Error;

/// When everything that always was came to be: Compute's general availability.
const CREATED: &str = "2013-12-03T00:00:00.000-07:00";

/// The id of something that is not stored: stable, and distinct for distinct names.
fn id(name: &str) -> String {
    (hash64(name.as_bytes()) >> 1).to_string()
}

impl Compute<'_> {
    /// `projects.get`
    pub fn project(&self, project: &str) -> Value {
        json!({
            "kind": "compute#project",
            "id": project::project_number(project).to_string(),
            "creationTimestamp": CREATED,
            "name": project,
            "selfLink": format!("{SELF_LINK_PREFIX}projects/{project}"),
            "defaultServiceAccount": project::default_service_account(project),
            "defaultNetworkTier": "PREMIUM",
            "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
            "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": fingerprint(&json!({}))},
            "quotas": [],
        })
    }

    /// `regions.list`
    pub fn regions(&self, project: &str) -> Vec<Value> {
        region::REGIONS.iter().map(|region| region_document(project, region)).collect()
    }

    /// `regions.get`
    pub fn region(&self, project: &str, name: &str) -> Result<Value, Error> {
        region::find(name)
            .map(|region| region_document(project, region))
            .ok_or_else(|| Error::not_found(format!("projects/{project}/regions/{name}")))
    }

    /// `zones.list`
    pub fn zones(&self, project: &str) -> Vec<Value> {
        let zones = region::REGIONS.iter().flat_map(Region::zone_names);
        zones.map(|zone| zone_document(project, &zone)).collect()
    }

    /// `zones.get`
    pub fn zone(&self, project: &str, name: &str) -> Result<Value, Error> {
        let known = region::is_zone(name).then(|| zone_document(project, name));
        known.ok_or_else(|| Error::not_found(format!("projects/{project}/zones/{name}")))
    }
}

fn region_document(project: &str, region: &Region) -> Value {
    let zones: Vec<String> = region.zone_names().map(|zone| zone_link(project, &zone)).collect();
    json!({
        "kind": "compute#region",
        "id": id(region.name),
        "creationTimestamp": CREATED,
        "name": region.name,
        "description": region.name,
        "status": "UP",
        "zones": zones,
        "quotas": [],
        "selfLink": region_link(project, region.name),
        "supportsPzs": false,
    })
}

fn zone_document(project: &str, zone: &str) -> Value {
    let region = region::of_zone(zone).unwrap_or_default();
    json!({
        "kind": "compute#zone",
        "id": id(zone),
        "creationTimestamp": CREATED,
        "name": zone,
        "description": zone,
        "status": "UP",
        "region": region_link(project, region),
        "selfLink": zone_link(project, zone),
        "supportsPzs": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::testing::World;

    #[test]
    fn regions_know_their_zones_and_zones_their_region() {
        let world = World::new();
        let compute = world.control.compute();
        let region = compute.region("demo", "us-central1").unwrap();
        assert_eq!(region["zones"][0], zone_link("demo", "us-central1-a"));
        assert_eq!(compute.zone("demo", "us-central1-f").unwrap()["region"], region["selfLink"]);
        assert!(matches!(compute.zone("demo", "us-central1-z"), Err(Error::NotFound { .. })));
        assert!(matches!(compute.region("demo", "nowhere1"), Err(Error::NotFound { .. })));
        assert!(compute.zones("demo").len() > compute.regions("demo").len());
    }
}
