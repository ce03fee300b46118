//! Record sets whose answer depends on more than the question: `routingPolicy`.
//!
//! Weighted policies are obeyed. A policy by location answers as for a client in the location of its first item, and a
//! policy with a backup as long as its primary is up: there is one location here, and no health check for them. A policy
//! is of one kind, and each of its items has what that kind chooses by.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{invalid, required};
use crate::{Document, Error, document};

/// The answers of a record set by weight, from its `rrdatas` or from its policy. Checks the policy's shape.
pub(super) fn groups(set: &Document, path: &str) -> Result<Vec<(f64, Vec<String>)>, Error> {
    let policy = set.get("routingPolicy").filter(|policy| !policy.is_null());
    let data = document::items(set, "rrdatas");
    match policy {
        Some(_) if !data.is_empty() => {
            Err(invalid(&format!("{path}.routingPolicy"), "rrdatas and routingPolicy"))
        }
        Some(policy) => of_policy(policy, &format!("{path}.routingPolicy")),
        None => Ok(vec![(1.0, texts(data))]),
    }
}

/// The kinds of policies. Each is a member of its own.
const KINDS: [&str; 3] = ["wrr", "geo", "primaryBackup"];

fn of_policy(policy: &Value, path: &str) -> Result<Vec<(f64, Vec<String>)>, Error> {
    let mut kinds = KINDS.iter().filter(|kind| policy.get(**kind).is_some_and(|given| !given.is_null()));
    if let (Some(_), Some(other)) = (kinds.next(), kinds.next()) {
        return Err(invalid(path, other));
    }
    let items = |policy: &Value| document::items(document::object(policy), "items").to_vec();
    if let Some(wrr) = policy.get("wrr") {
        let items = items(wrr);
        if items.is_empty() {
            return Err(required(&format!("{path}.wrr.items")));
        }
        // Clients leave a weight of 0 out.
        let weights: Vec<f64> =
            items.iter().map(|item| item["weight"].as_f64().unwrap_or_default()).collect();
        if let Some(negative) = weights.iter().find(|weight| **weight < 0.0) {
            return Err(invalid(&format!("{path}.wrr.items.weight"), negative));
        }
        return Ok(weights.into_iter().zip(items.iter().map(answers)).collect());
    }
    if let Some(geo) = policy.get("geo") {
        let items = items(geo);
        check_locations(&items, &format!("{path}.geo.items"))?;
        if items.is_empty() {
            return Err(required(&format!("{path}.geo.items")));
        }
        // The others are never chosen, but what they say must be right too.
        let weights = std::iter::once(1.0).chain(std::iter::repeat(0.0));
        return Ok(weights.zip(items.iter().map(answers)).collect());
    }
    if let Some(primary) = policy.get("primaryBackup") {
        let targets = primary
            .get("primaryTargets")
            .ok_or_else(|| required(&format!("{path}.primaryBackup.primaryTargets")))?;
        return Ok(vec![(1.0, checked_targets(targets))]);
    }
    Err(required(path))
}

/// Every item has a location of its own, and something to answer.
fn check_locations(items: &[Value], path: &str) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let location = item["location"].as_str().filter(|location| !location.is_empty());
        let location = location.ok_or_else(|| required(&format!("{path}[{index}].location")))?;
        if !known.insert(location) {
            return Err(invalid(&format!("{path}[{index}].location"), location));
        }
        if answers(item).is_empty() {
            return Err(required(&format!("{path}[{index}].rrdatas")));
        }
    }
    Ok(())
}

/// What one item of a policy answers: its data, and the addresses of its load balancers.
fn answers(item: &Value) -> Vec<String> {
    let mut answers = texts(document::items(document::object(item), "rrdatas"));
    answers.extend(checked_targets(&item["healthCheckedTargets"]));
    answers
}

fn checked_targets(targets: &Value) -> Vec<String> {
    let targets = document::object(targets);
    let balancers = document::items(targets, "internalLoadBalancers").iter();
    let mut addresses: Vec<String> =
        balancers.filter_map(|balancer| balancer["ipAddress"].as_str()).map(str::to_owned).collect();
    addresses.extend(texts(document::items(targets, "externalEndpoints")));
    addresses
}

fn texts(items: &[Value]) -> Vec<String> {
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
