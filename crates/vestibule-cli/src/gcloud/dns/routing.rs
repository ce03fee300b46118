//! Routing policies of record sets, on the command line and in tables.

use serde_json::{Map, Value, json};

use super::record_sets::as_data;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Flag, Kind, split_pairs};
use crate::gcloud::invocation::Invocation;

pub fn flags() -> Vec<Flag> {
    vec![
        Flag::choice(
            "routing-policy-type",
            &["FAILOVER", "GEO", "WRR"],
            "How answers are chosen: by location, by weight.",
        ),
        Flag::text("routing-policy-data", "Deprecated: the items, KEY=DATA,DATA;KEY=DATA."),
        Flag::new(
            "routing-policy-item",
            Kind::Repeated,
            "An item: weight=WEIGHT or location=REGION, and rrdatas=DATA;DATA.",
        )
        .metavar("[ROUTING_POLICY_ITEM,...]"),
        Flag::switch("enable-geo-fencing", "Never answers what is meant for another location."),
    ]
}

/// The policy that the command line describes; `None` if it describes none.
pub fn policy(inv: &Invocation<'_>, record_type: &str) -> Result<Option<Value>, Failure> {
    let (kind, key) = match inv.args.text("routing-policy-type") {
        None => return Ok(None),
        Some("WRR") => ("wrr", "weight"),
        Some("GEO") => ("geo", "location"),
        Some(other) => {
            return Err(Failure::new(format!(
                "Vestibule does not implement routing policies of type {other}."
            )));
        }
    };
    let items = match (inv.args.list("routing-policy-item"), inv.args.text("routing-policy-data")) {
        (Some(items), _) => items.iter().map(|text| item(text, key)).collect::<Result<Vec<_>, _>>()?,
        (None, Some(data)) => {
            inv.warn("The `--routing-policy-data` flag is deprecated. Use --routing-policy-item instead.");
            data.split(';').map(deprecated_item).collect::<Result<Vec<_>, _>>()?
        }
        (None, None) => {
            return Err(Failure::new(
                "Exactly one of (--routing-policy-data | --routing-policy-item) must be specified.",
            ));
        }
    };
    let items = items.iter().map(|item| written(item, key, record_type)).collect::<Result<Vec<_>, _>>()?;
    let mut policy = Map::from_iter([("items".to_owned(), Value::Array(items))]);
    if inv.args.on("enable-geo-fencing") && kind == "geo" {
        policy.insert("enableFencing".into(), json!(true));
    }
    Ok(Some(json!({ kind: policy })))
}

/// An item as the command line has it.
#[derive(Debug, PartialEq, Eq)]
struct Item {
    /// A weight or a location.
    key: String,
    data: Vec<String>,
}

/// `weight=1,rrdatas=10.0.0.1;10.0.0.2`
fn item(text: &str, key: &str) -> Result<Item, Failure> {
    let wrong = |why: String| Failure::new(format!("argument --routing-policy-item: {why}"));
    let mut found = Item { key: String::new(), data: Vec::new() };
    for (name, value) in split_pairs(text).map_err(|error| wrong(error.to_string()))? {
        match name.as_str() {
            "rrdatas" => found.data = value.split(';').map(str::to_owned).collect(),
            "weight" | "location" if name == key => found.key = value,
            "weight" | "location" => {
                return Err(wrong("either weight or location, as the type of the policy says".into()));
            }
            "external_endpoints" | "internal_load_balancers" => {
                return Err(Failure::new(format!(
                    "Vestibule does not implement {name} in routing policies."
                )));
            }
            _ => return Err(wrong(format!("valid keys are [location, rrdatas, weight]; received: {name}"))),
        }
    }
    if found.key.is_empty() { Err(wrong(format!("{key} is missing"))) } else { Ok(found) }
}

/// `0.25=10.0.0.1,10.0.0.2`
fn deprecated_item(text: &str) -> Result<Item, Failure> {
    let parts: Vec<&str> = text.split('=').collect();
    let [key, data] = parts.as_slice() else {
        return Err(Failure::new(
            "argument --routing-policy-data: Must specify exactly one \"=\" inside each policy data item",
        ));
    };
    Ok(Item { key: (*key).to_owned(), data: data.split(',').map(str::to_owned).collect() })
}

fn written(item: &Item, key: &str, record_type: &str) -> Result<Value, Failure> {
    let value =
        match key {
            "weight" => {
                let weight = item.key.parse::<f64>().ok().filter(|weight| weight.is_finite());
                json!(weight.ok_or_else(|| Failure::new(format!(
                    "could not convert string to float: '{}'",
                    item.key
                )))?)
            }
            _ => json!(item.key),
        };
    Ok(json!({ key: value, "rrdatas": as_data(record_type, &item.data), "healthCheckedTargets": {} }))
}

/// What tables show as a record set's data.
pub fn shown_data(record: &Value, name: &str) -> Option<Value> {
    if name != "shownData" {
        return None;
    }
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let Some(policy) = record.get("routingPolicy").filter(|_| record.get("rrdatas").is_none()) else {
        return Some(json!(list(&record["rrdatas"]).join(",")));
    };
    let items = |policy: &Value, key: &str| -> Vec<String> {
        let one = |item: &Value| {
            let head = item[key].as_f64().map_or_else(
                || item[key].as_str().unwrap_or_default().to_owned(),
                // As Python writes it: 1.0 and not 1.
                |weight| format!("{weight:?}"),
            );
            format!(
                "{head}: {}",
                [list(&item["rrdatas"]), targets(&item["healthCheckedTargets"])].concat().join(",")
            )
        };
        policy["items"].as_array().into_iter().flatten().map(one).collect()
    };
    let text = if let Some(wrr) = policy.get("wrr") {
        items(wrr, "weight").join("; ")
    } else if let Some(geo) = policy.get("geo") {
        items(geo, "location").join("; ")
    } else {
        let primary = &policy["primaryBackup"];
        let backup = items(&primary["backupGeoTargets"], "location").join(";");
        format!("Primary: {} Backup: {backup}", targets(&primary["primaryTargets"]).join(","))
    };
    Some(json!(text))
}

/// The addresses that are checked before they are answered.
fn targets(targets: &Value) -> Vec<String> {
    let balancers = targets["internalLoadBalancers"].as_array().into_iter().flatten();
    let balancers =
        balancers.filter_map(|balancer| balancer["ipAddress"].as_str()).map(|ip| format!("\"{ip}\""));
    let endpoints = targets["externalEndpoints"].as_array().into_iter().flatten().filter_map(Value::as_str);
    balancers.chain(endpoints.map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_in_both_spellings() {
        let expected = |key: &str| Item { key: key.into(), data: vec!["10.0.0.1".into(), "10.0.0.2".into()] };
        assert_eq!(item("weight=0.5,rrdatas=10.0.0.1;10.0.0.2", "weight").unwrap(), expected("0.5"));
        assert_eq!(deprecated_item("0.5=10.0.0.1,10.0.0.2").unwrap(), expected("0.5"));
        assert_eq!(
            item("location=us-central1,rrdatas=10.0.0.1;10.0.0.2", "location").unwrap(),
            expected("us-central1")
        );
        for (text, key) in
            [("location=x,rrdatas=1", "weight"), ("rrdatas=1", "weight"), ("weight=1,foo=2", "weight")]
        {
            assert!(item(text, key).is_err(), "{text}");
        }
        assert!(deprecated_item("1=2=3").is_err() && deprecated_item("1").is_err());
    }

    #[test]
    fn policies_in_tables() {
        let shown = |record: Value| shown_data(&record, "shownData").unwrap();
        assert_eq!(shown(json!({"rrdatas": ["a", "b"]})), json!("a,b"));
        let items = json!([{"weight": 1, "rrdatas": ["10.0.0.1"]}, {"weight": 0.25, "rrdatas": ["10.0.0.2", "10.0.0.3"]}]);
        assert_eq!(
            shown(json!({"routingPolicy": {"wrr": {"items": items}}})),
            json!("1.0: 10.0.0.1; 0.25: 10.0.0.2,10.0.0.3")
        );
        let items = json!([{"location": "us-central1", "rrdatas": ["10.0.0.1"]}]);
        assert_eq!(
            shown(json!({"routingPolicy": {"geo": {"items": items}}})),
            json!("us-central1: 10.0.0.1")
        );
        let targets = json!({"internalLoadBalancers": [{"ipAddress": "10.0.0.9"}]});
        let policy =
            json!({"primaryBackup": {"primaryTargets": targets, "backupGeoTargets": {"items": items}}});
        assert_eq!(
            shown(json!({"routingPolicy": policy})),
            json!("Primary: \"10.0.0.9\" Backup: us-central1: 10.0.0.1")
        );
    }
}
