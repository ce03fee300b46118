//! The rules of record sets, and the one way to change them.
//!
//! A change takes away sets and adds sets. All of it is checked first: what is taken away must be there exactly as told,
//! what is added must be right and not be there already, and the zone must hold together afterwards. Replacing is
//! taking away and adding the same name and type in one change. The zone's serial number rises with every change that
//! does not set it itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vestibule_dns::{Liveness, Name, RecordSet, Routing, Texts, rdata};

use super::routing::Alive;
use super::{Zone, invalid, keys, quota, required, routing, serial};
use crate::document::quoted;
use crate::{Change, Document, Error, document};

/// Where a set stands in the request, for texts of errors.
pub(super) struct Place {
    pub(super) additions: &'static str,
    pub(super) deletions: &'static str,
    /// Whether sets stand in lists, so that texts need an index.
    pub(super) listed: bool,
}

/// `changes.create`.
pub(super) const IN_CHANGE: Place =
    Place { additions: "entity.change.additions", deletions: "entity.change.deletions", listed: true };

/// Methods of one record set.
pub(super) const ALONE: Place =
    Place { additions: "entity.resourceRecordSet", deletions: "entity.resourceRecordSet", listed: false };

impl Place {
    fn at(&self, list: &str, index: usize) -> String {
        if self.listed { format!("{list}[{index}]") } else { list.to_owned() }
    }
}

/// A set that was checked.
pub(super) struct Checked {
    pub(super) doc: Document,
    key: String,
    name: Name,
}

/// Checks a change, and stages it. Returns what was added and taken away, as it is stored.
pub(super) fn apply(
    change: &mut Change<'_>,
    zone: &Zone,
    additions: &[Value],
    deletions: &[Value],
    place: &Place,
) -> Result<(Vec<Document>, Vec<Document>), Error> {
    if !zone.is_plain() {
        return Err(invalid(place.additions, "the zone holds no records"));
    }
    quota::check(additions, deletions)?;
    let mut touched: BTreeSet<Name> = BTreeSet::new();
    let mut removed = Vec::with_capacity(deletions.len());
    for (index, set) in deletions.iter().enumerate() {
        let path = place.at(place.deletions, index);
        let (key, name, stored) = deletable(change, zone, document::object(set), &path)?;
        change.delete(&key);
        touched.insert(name);
        removed.push(stored);
    }
    let mut added = Vec::with_capacity(additions.len());
    for (index, set) in additions.iter().enumerate() {
        let path = place.at(place.additions, index);
        let Checked { doc, key, name } = check(zone, document::object(set), &path)?;
        if change.exists(&key) {
            return Err(taken(&doc, place));
        }
        change.put(&key, Value::Object(doc.clone()));
        touched.insert(name);
        added.push(doc);
    }
    for name in &touched {
        check_name(change, zone, name)?;
    }
    check_apex(change, zone, place)?;
    if !added.iter().any(|set| document::text(set, "type") == Some("SOA")) {
        serial::rise(change, zone);
    }
    Ok((added, removed))
}

/// Stages a set that is known to be right.
pub(super) fn put(change: &mut Change<'_>, zone: &Zone, set: &Document) {
    if let Ok(name) = Name::parse(document::text(set, "name").unwrap_or_default()) {
        let kind = document::text(set, "type").unwrap_or_default();
        change.put(&keys::set(&zone.key, &name.to_string(), kind), Value::Object(set.clone()));
    }
}

/// Keys of the two sets that every zone keeps.
pub(super) fn apex_keys(zone: &Zone) -> BTreeSet<String> {
    let Ok(apex) = Name::parse(zone.dns_name()) else { return BTreeSet::new() };
    ["NS", "SOA"].iter().map(|kind| keys::set(&zone.key, &apex.to_string(), kind)).collect()
}

/// Checks one set on its own, and brings it into the form in which it is stored.
pub(super) fn check(zone: &Zone, set: &Document, path: &str) -> Result<Checked, Error> {
    let mut doc = set.clone();
    document::drop_nulls(&mut doc);
    let text = document::text(&doc, "name").ok_or_else(|| required(&format!("{path}.name")))?.to_owned();
    owner(zone, &text, path)?;
    let (name, kind) = check_alone(&mut doc, path)?;
    check_place(zone, &name, &kind, &doc, path)?;
    own_soa(zone, &kind, &mut doc);
    doc.insert("signatureRrdatas".into(), json!([]));
    Ok(Checked { key: keys::set(&zone.key, &name.to_string(), &kind), doc, name })
}

/// Checks what needs no zone, and completes the set. Returns its name and type.
pub(super) fn check_alone(doc: &mut Document, path: &str) -> Result<(Name, String), Error> {
    document::drop_nulls(doc);
    let (text, kind) = name_and_type(doc, path)?;
    let name = Name::parse(&text).map_err(|_| invalid(&format!("{path}.name"), &text))?;
    let ttl = document::integer(doc, "ttl").unwrap_or_default();
    let ttl = u32::try_from(ttl).ok().filter(|ttl| *ttl <= i32::MAX as u32);
    let ttl =
        ttl.ok_or_else(|| invalid(&format!("{path}.ttl"), doc.get("ttl").map(quoted).unwrap_or_default()))?;
    check_data(&name, &kind, &routing::of(doc, path, &mut |_| Liveness::new(true))?, path)?;
    doc.insert("kind".into(), "dns#resourceRecordSet".into());
    doc.insert("ttl".into(), ttl.into());
    Ok((name, kind))
}

/// The records of a stored set, for the resolver. `alive` tells what follows the health of a load balancer.
pub(super) fn compile(set: &Document, alive: &mut Alive<'_>) -> Result<RecordSet, Error> {
    let ttl = document::integer(set, "ttl").and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or_default();
    let routing = routing::of(set, "entity", alive)?;
    let text = |field: &str| document::text(set, field).unwrap_or_default();
    RecordSet::routed(text("name"), text("type"), ttl, routing)
        .map_err(|error| Error::internal(error.to_string()))
}

fn name_and_type(set: &Document, path: &str) -> Result<(String, String), Error> {
    let text = |field: &str| {
        let found = document::text(set, field).map(str::to_owned);
        found.ok_or_else(|| required(&format!("{path}.{field}")))
    };
    let (name, kind) = (text("name")?, text("type")?);
    if rdata::type_number(&kind).is_none() {
        return Err(invalid(&format!("{path}.type"), kind));
    }
    Ok((name, kind))
}

/// A name inside of the zone.
fn owner(zone: &Zone, text: &str, path: &str) -> Result<Name, Error> {
    let wrong = || invalid(&format!("{path}.name"), text);
    let name = Name::parse(text).map_err(|_| wrong())?;
    let apex = Name::parse(zone.dns_name()).map_err(|_| wrong())?;
    let fits = text.ends_with('.') && is_plain_name(text, true) && name.is_within(&apex);
    if fits { Ok(name) } else { Err(wrong()) }
}

/// Whether a name is made of what Cloud DNS allows: letters, digits, `-`, `_` and, in names of reverse zones, `/`. A
/// `*` may stand only alone and in front.
pub(super) fn is_plain_name(text: &str, wildcard: bool) -> bool {
    let rest = if wildcard { text.strip_prefix("*.").unwrap_or(text) } else { text };
    rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

fn check_data(name: &Name, kind: &str, routing: &Routing<Texts>, path: &str) -> Result<(), Error> {
    let place = format!("{path}.rrdatas");
    for answer in routing.answers() {
        let checked = answer.checked.iter().map(|(text, _)| text);
        // On Google's too, load balancers are for addresses alone.
        if !answer.checked.is_empty() && !matches!(kind, "A" | "AAAA") {
            return Err(invalid(&format!("{path}.routingPolicy"), "healthCheckedTargets"));
        }
        let texts: Vec<&String> = answer.fixed.iter().chain(checked).collect();
        if texts.is_empty() {
            return Err(required(&place));
        }
        let mut distinct = BTreeSet::new();
        for text in &texts {
            let data = rdata::parse(kind, text).map_err(|_| invalid(&place, text))?;
            if !distinct.insert(data) {
                return Err(invalid(&place, text));
            }
        }
        match kind {
            "CNAME" if texts.len() != 1 => return Err(alias_conflict(&name.to_string())),
            "SOA" if texts.len() != 1 => return Err(invalid(&format!("{path}.type"), kind)),
            _ => {}
        }
    }
    Ok(())
}

/// An alias cannot be at a zone's own name, and an SOA record nowhere else. The SOA record is the same for everybody.
fn check_place(zone: &Zone, name: &Name, kind: &str, doc: &Document, path: &str) -> Result<(), Error> {
    let is_apex = Name::parse(zone.dns_name()).is_ok_and(|apex| apex == *name);
    match kind {
        "CNAME" if is_apex => Err(alias_conflict(&name.to_string())),
        "SOA" if !is_apex => Err(invalid(&format!("{path}.type"), kind)),
        "SOA" if doc.contains_key("routingPolicy") => Err(invalid(&format!("{path}.routingPolicy"), kind)),
        _ => Ok(()),
    }
}

/// The first name in an SOA record is always the zone's own server.
fn own_soa(zone: &Zone, kind: &str, doc: &mut Document) {
    let Some(server) = zone.document["nameServers"][0].as_str().filter(|_| kind == "SOA") else { return };
    if let Some(Value::String(data)) = doc.get_mut("rrdatas").and_then(|data| data.get_mut(0))
        && let Some((_, rest)) = data.trim_start().split_once(char::is_whitespace)
    {
        *data = format!("{server} {}", rest.trim_start());
    }
}

/// A set that is to go: it must be stored just so.
fn deletable(
    change: &Change<'_>,
    zone: &Zone,
    set: &Document,
    path: &str,
) -> Result<(String, Name, Document), Error> {
    let (text, kind) = name_and_type(set, path)?;
    let name = owner(zone, &text, path)?;
    let key = keys::set(&zone.key, &name.to_string(), &kind);
    let stored = change.get(&key).ok_or_else(|| Error::NotFound {
        message: format!("The '{path}' resource named '{text} ({kind})' does not exist."),
    })?;
    let stored = document::object(&stored).clone();
    if !same(&stored, set, &kind) {
        return Err(Error::condition_not_met(format!("Precondition not met for '{path}'")));
    }
    Ok((key, name, stored))
}

/// Whether a set is told as it is stored: the same TTL, and the same data in any order.
fn same(stored: &Document, told: &Document, kind: &str) -> bool {
    if document::integer(stored, "ttl") != document::integer(told, "ttl") {
        return false;
    }
    if stored.contains_key("routingPolicy")
        || told.get("routingPolicy").is_some_and(|policy| !policy.is_null())
    {
        return stored.get("routingPolicy") == told.get("routingPolicy");
    }
    let texts = |set: &Document| -> Vec<String> {
        document::items(set, "rrdatas").iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (stored, mut told) = (texts(stored), texts(told));
    if stored.len() != told.len() {
        return false;
    }
    stored.iter().all(|text| match told.iter().position(|other| rdata::same(kind, text, other)) {
        Some(at) => {
            told.swap_remove(at);
            true
        }
        None => false,
    })
}

fn taken(set: &Document, place: &Place) -> Error {
    let text = |field: &str| document::text(set, field).unwrap_or_default();
    let (name, kind) = (text("name"), text("type"));
    let what = if place.listed {
        format!("{}[{name}][{kind}]", place.additions)
    } else {
        place.additions.to_owned()
    };
    Error::AlreadyExists { message: format!("The resource '{what}' named '{name} ({kind})' already exists") }
}

/// An alias has no other records beside it (RFC 1034, section 3.6.2).
fn check_name(change: &Change<'_>, zone: &Zone, name: &Name) -> Result<(), Error> {
    let prefix = keys::sets_of(&zone.key, &name.to_string());
    let kinds: Vec<String> =
        change.range(&prefix).into_iter().map(|(key, _)| key[prefix.len()..].to_owned()).collect();
    let alias = kinds.iter().any(|kind| kind == "CNAME");
    if alias && kinds.len() > 1 { Err(alias_conflict(&name.to_string())) } else { Ok(()) }
}

pub(super) fn alias_conflict(name: &str) -> Error {
    Error::Named {
        reason: "cnameResourceRecordSetConflict",
        message: format!(
            "The resource record set '{name} (CNAME)' is invalid because a CNAME record set has exactly one record, \
             cannot be at the zone's apex, and cannot share its DNS name with any other record set."
        ),
    }
}

/// A zone keeps its SOA and NS records: they can be replaced, not taken away.
fn check_apex(change: &Change<'_>, zone: &Zone, place: &Place) -> Result<(), Error> {
    match apex_keys(zone).iter().find(|key| !change.exists(key)) {
        None => Ok(()),
        Some(key) => {
            let kind = key.rsplit('/').next().unwrap_or_default();
            Err(invalid(place.deletions, format!("{} ({kind})", zone.dns_name())))
        }
    }
}
