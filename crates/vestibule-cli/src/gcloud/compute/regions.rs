//! `gcloud compute regions`.

use serde_json::Value;

use super::verbs;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Group};
use crate::gcloud::invocation::{Display, Invocation};

const TABLE: Display = Display::computed(
    "table(name,cpus:label=CPUS,disks:label=DISKS_GB,addresses:label=ADDRESSES,reserved:label=RESERVED_ADDRESSES,status,\
     deprecated.deleted:label=TURNDOWN_DATE)",
    |region, name| {
        let metric = match name {
            "cpus" => "CPUS",
            "disks" => "DISKS_TOTAL_GB",
            "addresses" => "IN_USE_ADDRESSES",
            "reserved" => "STATIC_ADDRESSES",
            _ => return None,
        };
        quota(region, metric)
    },
);

pub fn group() -> Group {
    Group::new("regions", "List regions.")
        .command(Command::new("list", "List regions.", list).flags(super::list_flags()))
        .command(
            Command::new("describe", "Describe a region.", describe).arg("REGION", "The name of the region."),
        )
}

/// `usage/limit`, whole numbers.
fn quota(region: &Value, metric: &str) -> Option<Value> {
    let quotas = region.get("quotas")?.as_array()?;
    let quota = quotas.iter().find(|q| q.get("metric").and_then(Value::as_str) == Some(metric))?;
    let whole = |field: &str| quota.get(field).and_then(Value::as_f64).map(|number| number as i64);
    Some(Value::String(format!("{}/{}", whole("usage")?, whole("limit")?)))
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut found = Vec::new();
    verbs::pages(inv, &format!("/compute/v1/projects/{}/regions", inv.project()), "", &mut found)?;
    inv.list(found, TABLE)
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = inv.api.get(&format!(
        "/compute/v1/projects/{}/regions/{}?alt=json",
        inv.project(),
        inv.args.name("REGION")
    ))?;
    match answer.is_success() {
        true => inv.show(&answer.body, Display::YAML),
        false => Err(Failure::compute(&[answer.error_message()])),
    }
}
