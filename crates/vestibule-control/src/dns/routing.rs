//! Record sets whose answer depends on more than the question: `routingPolicy`.
//!
//! A policy is of one kind (`wrr`, `geo` or `primaryBackup`), and each of its items has what that kind chooses by. The
//! location of a `geo` item is a region; who asks stands in the region of their subnetwork. Items may name internal load
//! balancers, whose health decides whether their address is answered; it is found in [`super::balancers`]. What would
//! have to be probed from the internet (`externalEndpoints`, `healthCheck`) is refused.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::Value;
use vestibule_dns::{Liveness, Nearest, Routing, Texts};
use vestibule_model::ResourceName;

use super::{invalid, required};
use crate::{Document, Error, document, vpc};

/// Where fields of policies stand, in texts of what is not built.
const WHAT: &str = "dns.resourceRecordSets.routingPolicy";

/// The one type of load balancer whose health is known here.
const BALANCER_TYPE: &str = "regionalL7ilb";

/// An internal load balancer that answers lead to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Balancer {
    pub(super) project: String,
    pub(super) region: String,
    pub(super) network: ResourceName,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
}

/// Tells what follows the health of a load balancer.
pub(super) type Alive<'a> = dyn FnMut(&Balancer) -> Liveness + 'a;

/// What a record set answers, from its `rrdatas` or from its policy. Checks the policy's shape.
pub(super) fn of(set: &Document, path: &str, alive: &mut Alive<'_>) -> Result<Routing<Texts>, Error> {
    let policy = set.get("routingPolicy").filter(|policy| !policy.is_null());
    let data = document::items(set, "rrdatas");
    match policy {
        Some(_) if !data.is_empty() => {
            Err(invalid(&format!("{path}.routingPolicy"), "rrdatas and routingPolicy"))
        }
        Some(policy) => of_policy(document::object(policy), &format!("{path}.routingPolicy"), alive),
        None => Ok(Routing::Same(Texts { fixed: texts(data), checked: Vec::new() })),
    }
}

/// The kinds of policies. Each is a member of its own.
const KINDS: [&str; 3] = ["wrr", "geo", "primaryBackup"];

fn of_policy(policy: &Document, path: &str, alive: &mut Alive<'_>) -> Result<Routing<Texts>, Error> {
    document::not_built(policy, WHAT, &["healthCheck"])?;
    let given = |kind: &&&str| policy.get(**kind).is_some_and(|given| !given.is_null());
    let mut kinds = KINDS.iter().filter(given);
    let (Some(kind), other) = (kinds.next(), kinds.next()) else { return Err(required(path)) };
    if let Some(other) = other {
        return Err(invalid(path, other));
    }
    let (path, doc) = (format!("{path}.{kind}"), document::object(&policy[*kind]));
    match *kind {
        "wrr" => weighted(doc, &path, alive),
        "geo" => Ok(Routing::Nearest(nearest(doc, &path, alive)?)),
        _ => failover(doc, &path, alive),
    }
}

fn weighted(doc: &Document, path: &str, alive: &mut Alive<'_>) -> Result<Routing<Texts>, Error> {
    let items = document::items(doc, "items");
    if items.is_empty() {
        return Err(required(&format!("{path}.items")));
    }
    let item = |(index, item): (usize, &Value)| {
        let path = format!("{path}.items[{index}]");
        // Clients leave a weight of 0 out.
        let weight = item["weight"].as_f64().unwrap_or_default();
        if weight < 0.0 {
            return Err(invalid(&format!("{path}.weight"), weight));
        }
        Ok((weight, answer(item, &path, alive)?))
    };
    items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Routing::Weighted)
}

/// Every item has a region of its own, and something to answer.
fn nearest(doc: &Document, path: &str, alive: &mut Alive<'_>) -> Result<Nearest<Texts>, Error> {
    let items = document::items(doc, "items");
    if items.is_empty() {
        return Err(required(&format!("{path}.items")));
    }
    let mut known = BTreeSet::new();
    let item = |(index, item): (usize, &Value)| {
        let path = format!("{path}.items[{index}]");
        let location = item["location"].as_str().filter(|location| !location.is_empty());
        let location = location.ok_or_else(|| required(&format!("{path}.location")))?;
        let place = vpc::place(location).filter(|_| known.insert(location.to_owned()));
        let place = place.ok_or_else(|| invalid(&format!("{path}.location"), location))?;
        Ok((place, answer(item, &path, alive)?))
    };
    let items = items.iter().enumerate().map(item).collect::<Result<_, _>>()?;
    Ok(Nearest { items, fenced: document::flag(doc, "enableFencing") })
}

fn failover(doc: &Document, path: &str, alive: &mut Alive<'_>) -> Result<Routing<Texts>, Error> {
    let place = format!("{path}.primaryTargets");
    let checked = targets(doc.get("primaryTargets").unwrap_or(&Value::Null), &place, alive)?;
    if checked.is_empty() {
        return Err(required(&place));
    }
    let place = format!("{path}.backupGeoTargets");
    let backup = doc.get("backupGeoTargets").ok_or_else(|| required(&place))?;
    let backup = nearest(document::object(backup), &place, alive)?;
    let trickle = doc.get("trickleTraffic").and_then(Value::as_f64).unwrap_or_default();
    if !(0.0..=1.0).contains(&trickle) {
        return Err(invalid(&format!("{path}.trickleTraffic"), trickle));
    }
    Ok(Routing::Failover { primary: Texts { fixed: Vec::new(), checked }, backup, trickle })
}

/// What one item of a policy answers: its data, and the addresses of its load balancers.
fn answer(item: &Value, path: &str, alive: &mut Alive<'_>) -> Result<Texts, Error> {
    let fixed = texts(document::items(document::object(item), "rrdatas"));
    let checked = targets(&item["healthCheckedTargets"], &format!("{path}.healthCheckedTargets"), alive)?;
    match fixed.is_empty() && checked.is_empty() {
        true => Err(required(&format!("{path}.rrdatas"))),
        false => Ok(Texts { fixed, checked }),
    }
}

fn targets(targets: &Value, path: &str, alive: &mut Alive<'_>) -> Result<Vec<(String, Liveness)>, Error> {
    let targets = document::object(targets);
    document::not_built(targets, &format!("{WHAT}.healthCheckedTargets"), &["externalEndpoints"])?;
    let balancers = document::items(targets, "internalLoadBalancers").iter().enumerate();
    let checked = balancers.map(|(index, target)| {
        let target = document::object(target);
        let balancer = balancer(target, &format!("{path}.internalLoadBalancers[{index}]"))?;
        Ok((balancer.address.to_string(), alive(&balancer)))
    });
    checked.collect()
}

fn balancer(target: &Document, path: &str) -> Result<Balancer, Error> {
    let at = |field: &str| format!("{path}.{field}");
    let text = |field: &str| document::text(target, field).ok_or_else(|| required(&at(field)));
    match text("loadBalancerType")? {
        BALANCER_TYPE => {}
        other @ ("globalL7ilb" | "regionalL4ilb") => {
            let place = format!("{WHAT}.healthCheckedTargets.internalLoadBalancers.loadBalancerType");
            return Err(Error::not_built(format!("{place} {other}")));
        }
        other => return Err(invalid(&at("loadBalancerType"), other)),
    }
    match document::text(target, "ipProtocol") {
        None | Some("tcp") => {}
        Some(other) => return Err(invalid(&at("ipProtocol"), other)),
    }
    let address = text("ipAddress")?;
    let network = text("networkUrl")?;
    let named = ResourceName::parse(network).and_then(|name| name.expect_collection(&["networks"]));
    let port = match target.get("port") {
        Some(Value::String(port)) => port.parse().ok(),
        Some(Value::Number(port)) => port.as_u64().and_then(|port| port.try_into().ok()),
        _ => return Err(required(&at("port"))),
    };
    Ok(Balancer {
        project: text("project")?.to_owned(),
        region: text("region")?.to_owned(),
        network: named.map_err(|_| invalid(&at("networkUrl"), network))?,
        address: address.parse().map_err(|_| invalid(&at("ipAddress"), address))?,
        port: port.filter(|port| *port != 0).ok_or_else(|| {
            invalid(&at("port"), target.get("port").map(document::quoted).unwrap_or_default())
        })?,
    })
}

fn texts(items: &[Value]) -> Vec<String> {
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
