//! Limits, and how a project tells them.

use serde_json::{Value, json};
use vestibule_model::project::project_number;

use crate::{Error, document};

const SETS_PER_CHANGE: usize = 1000;
const RECORDS_PER_SET: usize = 100;
const DATA_PER_CHANGE: usize = 100_000;

/// Answers `projects.get`.
pub fn project(id: &str) -> Value {
    json!({
        "kind": "dns#project",
        "id": id,
        "number": project_number(id).to_string(),
        "quota": {
            "kind": "dns#quota",
            "managedZones": 10_000,
            "rrsetsPerManagedZone": 10_000,
            "rrsetAdditionsPerChange": SETS_PER_CHANGE,
            "rrsetDeletionsPerChange": SETS_PER_CHANGE,
            "totalRrdataSizePerChange": DATA_PER_CHANGE,
            "resourceRecordsPerRrset": RECORDS_PER_SET,
            "networksPerManagedZone": 100,
            "managedZonesPerNetwork": 10_000,
            "targetNameServersPerManagedZone": 50,
            "whitelistedKeySpecs": [],
        },
    })
}

/// Checks the size of a change.
pub(super) fn check(additions: &[Value], deletions: &[Value]) -> Result<(), Error> {
    let too_much = |what: &str, most: usize| {
        Err(Error::ResourceExhausted { message: format!("Quota exceeded: at most {most} {what}.") })
    };
    if additions.len() > SETS_PER_CHANGE || deletions.len() > SETS_PER_CHANGE {
        return too_much("record sets may be added, and as many deleted, in one change", SETS_PER_CHANGE);
    }
    let data = |set: &Value| document::items(document::object(set), "rrdatas").to_vec();
    if additions.iter().any(|set| data(set).len() > RECORDS_PER_SET) {
        return too_much("records are allowed in one record set", RECORDS_PER_SET);
    }
    let texts = additions.iter().flat_map(data);
    let size: usize = texts.map(|text| text.as_str().map_or(0, str::len)).sum();
    if size > DATA_PER_CHANGE {
        too_much("bytes of record data may be added in one change", DATA_PER_CHANGE)
    } else {
        Ok(())
    }
}
