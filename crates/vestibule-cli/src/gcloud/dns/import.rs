//! The change that brings a file's records into a zone, by gcloud's rules.
//!
//! Records of a name and type that the zone has already are a conflict, unless all that the zone has is to be replaced. The
//! zone's own NS records stay unless asked for, and the name server in the SOA record always does.

use serde_json::{Value, json};

use super::transaction::{next_serial, plain};

/// What the command line wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    /// `--delete-all-existing`
    pub replace_all: bool,
    /// `--replace-origin-ns`
    pub replace_origin_ns: bool,
    /// Not `--skip-soa-update`
    pub update_soa: bool,
}

/// The change from what the zone holds to what the file has; `None` if there is nothing to do. `origin` is the zone's
/// name. An error is the text of a conflict.
pub fn change(
    held: &[Value],
    wanted: &[Value],
    origin: &str,
    wishes: Wishes,
) -> Result<Option<Value>, String> {
    let held: Vec<Value> = held.iter().map(plain).collect();
    if !wishes.replace_all {
        refuse_conflicts(&held, wanted)?;
    }
    let (mut additions, mut deletions) = (Vec::new(), Vec::new());
    for old in &held {
        let is_soa = text(old, "type") == "SOA";
        let stays = text(old, "type") == "NS" && text(old, "name") == origin && !wishes.replace_origin_ns;
        let new = match wanted.iter().find(|record| key(record) == key(old)) {
            Some(new) if is_soa => successor(old, new, wishes),
            Some(new) => (!stays && new != old).then(|| new.clone()),
            None if is_soa => wishes.update_soa.then(|| next_serial(old)),
            None => {
                if wishes.replace_all && !stays {
                    deletions.push(old.clone());
                }
                continue;
            }
        };
        if let Some(new) = new {
            deletions.push(old.clone());
            additions.push(new);
        }
    }
    let is_known = |record: &&Value| held.iter().any(|old| key(old) == key(record));
    additions.extend(wanted.iter().filter(|record| !is_known(record)).cloned());
    if is_nothing(&additions, &deletions) {
        return Ok(None);
    }
    additions.sort_by_key(key);
    deletions.sort_by_key(key);
    Ok(Some(json!({"kind": "dns#change", "additions": additions, "deletions": deletions})))
}

/// Whether a change does nothing, or nothing but raise the serial number.
pub fn is_nothing(additions: &[Value], deletions: &[Value]) -> bool {
    match (additions, deletions) {
        ([], []) => true,
        ([new], [old]) => text(old, "type") == "SOA" && next_serial(old) == *new,
        _ => false,
    }
}

/// Names and types that are there twice, as gcloud lists them.
fn refuse_conflicts(held: &[Value], wanted: &[Value]) -> Result<(), String> {
    let is_wanted = |old: &&Value| wanted.iter().any(|record| key(record) == key(old));
    let mut both: Vec<String> =
        held.iter().filter(is_wanted).map(|record| format!("'{}'", key(record))).collect();
    if both.is_empty() {
        return Ok(());
    }
    both.sort();
    Err(format!("The following records (name type) already exist: [{}]", both.join(", ")))
}

/// The SOA record of the file, with the name server of the old one. One that says nothing new still counts up.
fn successor(old: &Value, new: &Value, wishes: Wishes) -> Option<Value> {
    let data =
        |record: &Value| record.pointer("/rrdatas/0").and_then(Value::as_str).unwrap_or_default().to_owned();
    let server = data(old).split_whitespace().next().unwrap_or_default().to_owned();
    let rest =
        data(new).trim_start().split_once(char::is_whitespace).map(|(_, rest)| rest.trim_start().to_owned());
    let mut next = new.clone();
    next["rrdatas"] = json!([format!("{server} {}", rest.unwrap_or_default())]);
    match next == *old {
        true => wishes.update_soa.then(|| next_serial(old)),
        false => Some(next),
    }
}

fn text<'r>(record: &'r Value, field: &str) -> &'r str {
    record.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// What makes two records the same one.
fn key(record: &Value) -> String {
    format!("{} {}", text(record, "name"), text(record, "type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, kind: &str, ttl: i64, data: &str) -> Value {
        json!({"kind": "dns#resourceRecordSet", "name": name, "type": kind, "ttl": ttl, "rrdatas": [data]})
    }

    fn held() -> Vec<Value> {
        vec![
            record("z.", "NS", 21600, "ns.own."),
            record("z.", "SOA", 21600, "ns.own. host. 7 1 2 3 4"),
            record("a.z.", "A", 60, "10.0.0.1"),
        ]
    }

    /// The change as lines: `+` and `-` with what is added and taken away.
    fn lines(wanted: &[Value], wishes: Wishes) -> Result<Vec<String>, String> {
        let change = change(&held(), wanted, "z.", wishes)?;
        let side = |sign: &str, list: &str| -> Vec<String> {
            let records =
                change.as_ref().and_then(|change| change[list].as_array().cloned()).unwrap_or_default();
            records
                .iter()
                .map(|r| format!("{sign} {} {}", key(r), r["rrdatas"][0].as_str().unwrap()))
                .collect()
        };
        Ok([side("-", "deletions"), side("+", "additions")].concat())
    }

    const PLAIN: Wishes = Wishes { replace_all: false, replace_origin_ns: false, update_soa: true };
    const ALL: Wishes = Wishes { replace_all: true, ..PLAIN };

    #[test]
    fn new_records_come_with_the_next_serial_number() {
        let wanted = [record("b.z.", "A", 60, "10.0.0.2")];
        let counted =
            ["- z. SOA ns.own. host. 7 1 2 3 4", "+ b.z. A 10.0.0.2", "+ z. SOA ns.own. host. 8 1 2 3 4"];
        assert_eq!(lines(&wanted, PLAIN).unwrap(), counted);
        assert_eq!(lines(&wanted, Wishes { update_soa: false, ..PLAIN }).unwrap(), ["+ b.z. A 10.0.0.2"]);
        assert_eq!(lines(&[], PLAIN).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_there_already_is_a_conflict() {
        let wanted =
            [record("z.", "SOA", 1, "ns.other. host. 1 1 1 1 1"), record("a.z.", "A", 60, "10.0.0.1")];
        let conflict = "The following records (name type) already exist: ['a.z. A', 'z. SOA']";
        assert_eq!(lines(&wanted, PLAIN).unwrap_err(), conflict);
    }

    #[test]
    fn all_is_replaced_but_the_zones_own_server() {
        let wanted = [
            record("z.", "SOA", 300, "ns.other. me. 1 1 1 1 1"),
            record("z.", "NS", 300, "ns.other."),
            record("b.z.", "A", 60, "10.0.0.2"),
        ];
        let expected = [
            "- a.z. A 10.0.0.1",
            "- z. SOA ns.own. host. 7 1 2 3 4",
            "+ b.z. A 10.0.0.2",
            "+ z. SOA ns.own. me. 1 1 1 1 1",
        ];
        assert_eq!(lines(&wanted, ALL).unwrap(), expected);
        let with_servers = lines(&wanted, Wishes { replace_origin_ns: true, ..ALL }).unwrap();
        assert!(
            with_servers.contains(&"- z. NS ns.own.".to_owned())
                && with_servers.contains(&"+ z. NS ns.other.".to_owned())
        );
        // An export that comes back changes nothing.
        assert_eq!(lines(&held(), ALL).unwrap(), [""; 0]);
        assert_eq!(lines(&held(), Wishes { update_soa: false, ..ALL }).unwrap(), [""; 0]);
    }
}
