//! Limits, and how a project tells them.

use serde_json::{Value, json};
use vestibule_model::project::project_number;

use crate::{Error, document};

const SETS_PER_CHANGE: usize = 1000;
const RECORDS_PER_SET: usize = 100;
const DATA_PER_CHANGE: usize = 100_000;
const NETWORKS_PER_POLICY: usize = 100;
const TARGETS: usize = 50;
const RULES_PER_POLICY: usize = 10_000;

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
            "targetNameServersPerManagedZone": TARGETS,
            "policies": 100,
            "networksPerPolicy": NETWORKS_PER_POLICY,
            "targetNameServersPerPolicy": TARGETS,
            "responsePolicies": 100,
            "networksPerResponsePolicy": NETWORKS_PER_POLICY,
            "responsePolicyRulesPerResponsePolicy": RULES_PER_POLICY,
            "whitelistedKeySpecs": [],
        },
    })
}

/// Checks the size of a change.
pub(super) fn check(additions: &[Value], deletions: &[Value]) -> Result<(), Error> {
    let sets = "record sets may be added, and as many deleted, in one change";
    within(additions.len().max(deletions.len()), SETS_PER_CHANGE, sets)?;
    let data = |set: &Value| document::items(document::object(set), "rrdatas").to_vec();
    let longest = additions.iter().map(|set| data(set).len()).max().unwrap_or(0);
    within(longest, RECORDS_PER_SET, "records are allowed in one record set")?;
    let texts = additions.iter().flat_map(data);
    let size: usize = texts.map(|text| text.as_str().map_or(0, str::len)).sum();
    within(size, DATA_PER_CHANGE, "bytes of record data may be added in one change")
}

/// Checks how many networks a policy is bound to.
pub(super) fn check_networks(count: usize) -> Result<(), Error> {
    within(count, NETWORKS_PER_POLICY, "networks may be bound to one policy")
}

/// Checks how many name servers are asked for one zone, or by one policy.
pub(super) fn check_targets(count: usize) -> Result<(), Error> {
    within(count, TARGETS, "target name servers are allowed")
}

/// Checks how many rules a response policy has.
pub(super) fn check_rules(count: usize) -> Result<(), Error> {
    within(count, RULES_PER_POLICY, "rules are allowed in one response policy")
}

fn within(count: usize, most: usize, what: &str) -> Result<(), Error> {
    if count <= most {
        return Ok(());
    }
    Err(Error::ResourceExhausted { message: format!("Quota exceeded: at most {most} {what}.") })
}
