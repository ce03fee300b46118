//! Managed zones: create, read, change, delete.

use serde_json::{Value, json};
use vestibule_dns::Name;
use vestibule_model::name::is_valid_name;
use vestibule_model::{ResourceName, fingerprint::hash64, id, time};

use super::operations::Caller;
use super::{
    Dns, Zone, changes, find_zone, find_zone_in, invalid, keys, operations, records, required, zone_config,
};
use crate::{Change, Document, Error, compute, document};

/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 1024;

/// Seconds that the records of a new zone may be kept.
const APEX_TTL: u32 = 21_600;

/// The name server of every private zone.
const PRIVATE_SERVER: &str = "ns-gcp-private.googledomains.com.";

/// Members that a zone keeps for life.
const FIXED: [&str; 3] = ["name", "dnsName", "visibility"];

/// Members that only the server writes.
const OURS: [&str; 4] = ["kind", "id", "creationTime", "nameServers"];

impl Dns<'_> {
    /// Creates a zone with its SOA and NS records. The resolver knows it when this returns.
    pub fn create_zone(&self, project: &str, body: Document) -> Result<Value, Error> {
        let (zone, revision) = self.0.change(|change| create(change, project, body))?;
        self.obeyed(revision);
        Ok(zone)
    }

    pub fn zone(&self, project: &str, zone: &str) -> Result<Value, Error> {
        find_zone(&self.0.view(), project, zone).map(|zone| (*zone.document).clone())
    }

    /// All zones of a project by name, or those with this `dnsName`.
    pub fn zones(&self, project: &str, dns_name: Option<&str>) -> Vec<Value> {
        let view = self.0.view();
        let wanted = |zone: &&Value| dns_name.is_none_or(|name| zone["dnsName"].as_str() == Some(name));
        keys::zones(&view, project).map(|kv| &*kv.value).filter(wanted).cloned().collect()
    }

    /// Changes members of a zone (`patch`, RFC 7396), or replaces it (`update`). Returns an operation.
    pub fn change_zone(
        &self,
        project: &str,
        zone: &str,
        caller: &Caller<'_>,
        mut body: Document,
        replace: bool,
    ) -> Result<Value, Error> {
        if let Some(id) = caller.operation_id.filter(|id| id.len() > 128 || id.contains('/')) {
            return Err(invalid("parameters.clientOperationId", id));
        }
        let (id, revision) = self.0.change(|change| {
            let old = find_zone_in(change, project, zone)?;
            let mut new = if replace { Document::new() } else { old.doc().clone() };
            OURS.iter().for_each(|field| drop(body.remove(*field)));
            document::merge(&mut new, body);
            for field in OURS.iter().chain(&FIXED) {
                if let Some(value) = old.doc().get(*field) {
                    document::default(&mut new, field, value.clone());
                }
            }
            let new = checked(change, project, new, Some(&old))?;
            change.put(&old.key, Value::Object(new.clone()));
            Ok(operations::record(change, &old, new, caller))
        })?;
        self.obeyed(revision);
        self.zone_operation(project, zone, &id)
    }

    /// Deletes a zone that holds nothing but its SOA and NS records.
    pub fn delete_zone(&self, project: &str, zone: &str) -> Result<(), Error> {
        let ((), revision) = self.0.change(|change| {
            let zone = find_zone_in(change, project, zone)?;
            let apex = records::apex_keys(&zone);
            if change.view().range(&keys::sets(&zone.key)).any(|kv| !apex.contains(&*kv.key)) {
                let name = document::text(zone.doc(), "name").unwrap_or_default();
                return Err(Error::Named {
                    reason: "containerNotEmpty",
                    message: format!(
                        "The resource named '{name}' cannot be deleted because it contains one or more \
                         'resource records'."
                    ),
                });
            }
            let inside: Vec<String> =
                change.view().range(&format!("{}/", zone.key)).map(|kv| kv.key.to_string()).collect();
            inside.iter().for_each(|key| change.delete(key));
            change.delete(&zone.policy_key());
            change.delete(&zone.key);
            Ok(())
        })?;
        self.obeyed(revision);
        Ok(())
    }
}

fn create(change: &mut Change<'_>, project: &str, mut body: Document) -> Result<Value, Error> {
    document::drop_nulls(&mut body);
    OURS.iter().for_each(|field| drop(body.remove(*field)));
    let name = document::text(&body, "name").ok_or_else(|| required("entity.managedZone.name"))?.to_owned();
    let key = keys::zone(project, &name);
    if change.exists(&key) {
        return Err(Error::AlreadyExists {
            message: format!("The resource 'entity.managedZone' named '{name}' already exists"),
        });
    }
    let mut doc = checked(change, project, body, None)?;
    let servers = name_servers(&doc);
    doc.insert("kind".into(), "dns#managedZone".into());
    doc.insert("id".into(), id::resource_id().into());
    doc.insert("creationTime".into(), time::rfc3339(change.now()).into());
    doc.insert("nameServers".into(), json!(servers));
    let document = Value::Object(doc);
    change.put(&key, document.clone());
    let zone = Zone { key, document: document.clone().into() };
    let records = if zone.is_plain() { apex_records(&zone, &servers) } else { Vec::new() };
    records.iter().for_each(|set| records::put(change, &zone, set));
    changes::record(change, &zone, records, Vec::new());
    Ok(document)
}

/// Checks a zone's document as a whole. `old` is what it was before.
fn checked(
    change: &Change<'_>,
    project: &str,
    mut doc: Document,
    old: Option<&Zone>,
) -> Result<Document, Error> {
    let text = |field: &str| {
        document::text(&doc, field).ok_or_else(|| required(&format!("entity.managedZone.{field}")))
    };
    let (name, dns_name) = (text("name")?, text("dnsName")?);
    if !is_valid_name(name) {
        return Err(invalid("entity.managedZone.name", name));
    }
    check_dns_name(dns_name)?;
    let description = document::text(&doc, "description").unwrap_or_default();
    if description.chars().count() > MAX_DESCRIPTION {
        return Err(invalid("entity.managedZone.description", description));
    }
    compute::check_labels(&doc, "entity.managedZone.labels")?;
    zone_config::check(change, project, &mut doc)?;
    document::default(&mut doc, "cloudLoggingConfig", json!({ "kind": "dns#managedZoneCloudLoggingConfig" }));
    if let Some(old) = old {
        for field in FIXED {
            if doc.get(field) != old.doc().get(field) {
                let value = document::text(&doc, field).unwrap_or_default();
                return Err(invalid(&format!("entity.managedZone.{field}"), value));
            }
        }
        let plain =
            |doc: &Document| !doc.contains_key("forwardingConfig") && !doc.contains_key("peeringConfig");
        if plain(&doc) != plain(old.doc()) {
            return Err(invalid("entity.managedZone", "a zone's kind cannot be changed"));
        }
    }
    check_rivals(change, &doc, old)?;
    Ok(doc)
}

fn check_dns_name(dns_name: &str) -> Result<(), Error> {
    let wrong = || invalid("entity.managedZone.dnsName", dns_name);
    let name = Name::parse(dns_name).map_err(|_| wrong())?;
    // Names of machines and of the metadata server are the network's own.
    let reserved = Name::parse("google.internal.").is_ok_and(|google| name.is_within(&google));
    let usable =
        dns_name.ends_with('.') && !name.is_root() && !reserved && records::is_plain_name(dns_name, false);
    if usable { Ok(()) } else { Err(wrong()) }
}

/// No network sees two zones of one name.
fn check_rivals(change: &Change<'_>, doc: &Document, old: Option<&Zone>) -> Result<(), Error> {
    let dns_name = |doc: &Document| document::text(doc, "dnsName").map(str::to_ascii_lowercase);
    for link in zone_config::seeing(doc) {
        let Ok(network) = ResourceName::parse(link) else { continue };
        let users = change.users(&network.key());
        let rivals = users.iter().filter(|key| keys::is_zone(key) && old.is_none_or(|old| old.key != **key));
        for rival in rivals.filter_map(|key| change.get(key)) {
            let rival = document::object(&rival);
            let sees = zone_config::seeing(rival).any(|other| other == link);
            if sees && dns_name(rival) == dns_name(doc) {
                let name = document::text(rival, "name").unwrap_or_default();
                return Err(Error::AlreadyExists {
                    message: format!(
                        "The network '{link}' already sees the zone '{name}' with the DNS name '{}'.",
                        document::text(doc, "dnsName").unwrap_or_default()
                    ),
                });
            }
        }
    }
    Ok(())
}

/// The servers that answer for a zone. Public zones are spread over five sets of four.
fn name_servers(doc: &Document) -> Vec<String> {
    if doc.get("visibility") == Some(&json!("private")) {
        return vec![PRIVATE_SERVER.to_owned()];
    }
    let dns_name = document::text(doc, "dnsName").unwrap_or_default();
    let shard = char::from(b'a' + (hash64(dns_name.as_bytes()) % 5) as u8);
    (1..=4).map(|n| format!("ns-cloud-{shard}{n}.googledomains.com.")).collect()
}

/// The records that every zone has from the beginning.
fn apex_records(zone: &Zone, servers: &[String]) -> Vec<Document> {
    let first = servers.first().map_or(PRIVATE_SERVER, String::as_str);
    let soa = format!("{first} cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300");
    let set = |kind: &str, data: Value| {
        let set = json!({
            "kind": "dns#resourceRecordSet", "name": zone.dns_name(), "type": kind, "ttl": APEX_TTL,
            "rrdatas": data, "signatureRrdatas": [],
        });
        document::object(&set).clone()
    };
    vec![set("NS", json!(servers)), set("SOA", json!([soa]))]
}
