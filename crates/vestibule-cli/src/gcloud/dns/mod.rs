//! `gcloud dns`.

mod import;
mod managed_zones;
mod policies;
mod record_sets;
mod rules;
mod transaction;
mod transfer;
mod zone_file;

use serde_json::Value;

use super::error::Failure;
use super::grammar::Group;
use super::invocation::Invocation;

/// Resources a page holds.
const PAGE: u32 = 100;

pub fn group() -> Group {
    Group::new("dns", "Manage your Cloud DNS managed-zones and record-sets.")
        .group(managed_zones::group())
        .group(record_sets::group())
        .group(policies::server_group())
        .group(policies::response_group())
}

/// The path of the project's zones.
fn zones_path(inv: &Invocation<'_>) -> String {
    format!("/dns/v1/projects/{}/managedZones", inv.project())
}

/// The path of a zone.
fn zone_path(inv: &Invocation<'_>, zone: &str) -> String {
    // A link names the zone last.
    let name = zone.rsplit('/').next().unwrap_or(zone);
    format!("{}/{}", zones_path(inv), super::segment(name))
}

/// A name with its final dot.
fn absolute(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

/// All pages of a list.
fn pages(inv: &Invocation<'_>, path: &str, query: &str, field: &str) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    let mut page = String::new();
    loop {
        let answer = inv.api.get(&format!("{path}?alt=json&maxResults={PAGE}{query}{page}"))?;
        if !answer.is_success() {
            return Err(Failure::http(&answer));
        }
        found.extend(answer.body.get(field).and_then(Value::as_array).into_iter().flatten().cloned());
        match answer.body.get("nextPageToken").and_then(Value::as_str).filter(|token| !token.is_empty()) {
            Some(token) => page = format!("&pageToken={}", super::query(token)),
            None => return Ok(found),
        }
    }
}
