//! `gcloud dns`.

mod changes;
mod import;
mod managed_zones;
mod operations;
mod policies;
mod project_info;
mod record_sets;
mod routing;
mod rules;
mod transaction;
mod transfer;
pub mod zone_file;

use serde_json::{Value, json};

use super::error::Failure;
use super::grammar::Group;
use super::invocation::Invocation;

/// Resources a page holds.
const PAGE: u32 = 100;

pub fn group() -> Group {
    Group::new("dns", "Manage your Cloud DNS managed-zones and record-sets.")
        .group(managed_zones::group())
        .group(record_sets::group())
        .group(operations::group())
        .group(project_info::group())
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

/// A resource as gcloud prints it: its lists are left out where they are empty.
fn shown(mut resource: Value) -> Value {
    drop_empty_lists(&mut resource);
    resource
}

fn drop_empty_lists(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| member.as_array().is_none_or(|list| !list.is_empty()));
            members.values_mut().for_each(drop_empty_lists);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty_lists),
        _ => {}
    }
}

/// What gcloud reads of a list under `--limit`, which comes before everything else that is done to it. Only a filter
/// may need to see more.
fn limited(inv: &Invocation<'_>, mut found: Vec<Value>) -> Vec<Value> {
    if let Some(limit) = inv.args.int("limit").filter(|_| !inv.args.has("filter")) {
        found.truncate(usize::try_from(limit).unwrap_or(0));
    }
    found
}

/// Name servers as documents list them: those that are reached by the default way, then those inside the network.
fn name_servers(plain: &[String], private: &[String]) -> Vec<Value> {
    let field = |address: &str| if address.contains(':') { "ipv6Address" } else { "ipv4Address" };
    let server = |ip: &String, path: &str| json!({ field(ip): ip, "forwardingPath": path });
    let plain = plain.iter().map(|ip| server(ip, "default"));
    plain.chain(private.iter().map(|ip| server(ip, "private"))).collect()
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
