//! Record sets, one at a time.

use serde_json::Value;
use vestibule_dns::Name;

use super::records::{self, ALONE};
use super::{Dns, Zone, find_zone, find_zone_in, invalid, keys, missing};
use crate::{Change, Document, Error, document};

impl Dns<'_> {
    /// Adds a record set. The resolver knows it when this returns.
    pub fn create_set(&self, project: &str, zone: &str, body: Document) -> Result<Value, Error> {
        let (mut added, revision) = self.0.change(|change| {
            let zone = find_zone_in(change, project, zone)?;
            Ok(records::apply(change, &zone, &[Value::Object(body)], &[], &ALONE)?.0)
        })?;
        self.obeyed(revision);
        Ok(Value::Object(added.pop().unwrap_or_default()))
    }

    pub fn set(&self, project: &str, zone: &str, name: &str, kind: &str) -> Result<Value, Error> {
        let view = self.0.view();
        let zone = find_zone(&view, project, zone)?;
        let found = view.get(&key(&zone, name, kind)).map(|kv| (*kv.value).clone());
        found.ok_or_else(|| missing("name", &format!("{name} ({kind})")))
    }

    /// Record sets of a zone, those of one name or of one name and type.
    pub fn sets(
        &self,
        project: &str,
        zone: &str,
        name: Option<&str>,
        kind: Option<&str>,
    ) -> Result<Vec<Value>, Error> {
        let view = self.0.view();
        let zone = find_zone(&view, project, zone)?;
        let prefix = match name {
            Some(name) => keys::sets_of(&zone.key, &canonical(name)),
            None => keys::sets(&zone.key),
        };
        let wanted = |set: &&Value| kind.is_none_or(|kind| set["type"].as_str() == Some(kind));
        Ok(view.range(&prefix).map(|kv| &*kv.value).filter(wanted).cloned().collect())
    }

    /// Changes members of a record set (RFC 7396); its name and type stay.
    pub fn patch_set(
        &self,
        project: &str,
        zone: &str,
        name: &str,
        kind: &str,
        body: Document,
    ) -> Result<Value, Error> {
        let (mut added, revision) = self.0.change(|change| {
            let zone = find_zone_in(change, project, zone)?;
            let old = stored(change, &zone, name, kind)?;
            let mut new = old.clone();
            // Data and a policy take each other's place.
            for (given, other) in [("rrdatas", "routingPolicy"), ("routingPolicy", "rrdatas")] {
                if body.get(given).is_some_and(|value| !value.is_null()) && !body.contains_key(other) {
                    new.remove(other);
                }
            }
            document::merge(&mut new, body);
            for (field, fixed) in [("name", canonical(name)), ("type", kind.to_owned())] {
                let value = document::text(&new, field).unwrap_or_default();
                if value != fixed && canonical(value) != fixed {
                    return Err(invalid(&format!("entity.resourceRecordSet.{field}"), value));
                }
            }
            Ok(records::apply(change, &zone, &[Value::Object(new)], &[Value::Object(old)], &ALONE)?.0)
        })?;
        self.obeyed(revision);
        Ok(Value::Object(added.pop().unwrap_or_default()))
    }

    pub fn delete_set(&self, project: &str, zone: &str, name: &str, kind: &str) -> Result<(), Error> {
        let (_, revision) = self.0.change(|change| {
            let zone = find_zone_in(change, project, zone)?;
            let old = stored(change, &zone, name, kind)?;
            records::apply(change, &zone, &[], &[Value::Object(old)], &ALONE)
        })?;
        self.obeyed(revision);
        Ok(())
    }
}

/// What orders record sets in lists: the zone's own name first, then names below it next to one another.
pub fn set_order(set: &Value) -> String {
    let name = set["name"].as_str().unwrap_or_default().to_ascii_lowercase();
    let mut labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
    labels.reverse();
    format!("{}\u{1} {}", labels.join("\u{1}"), set["type"].as_str().unwrap_or_default())
}

fn stored(change: &Change<'_>, zone: &Zone, name: &str, kind: &str) -> Result<Document, Error> {
    let found = change.get(&key(zone, name, kind)).map(|set| document::object(&set).clone());
    found.ok_or_else(|| missing("name", &format!("{name} ({kind})")))
}

fn key(zone: &Zone, name: &str, kind: &str) -> String {
    keys::set(&zone.key, &canonical(name), kind)
}

/// A name as keys have it.
fn canonical(name: &str) -> String {
    Name::parse(name).map_or_else(|_| name.to_owned(), |name| name.to_string())
}
