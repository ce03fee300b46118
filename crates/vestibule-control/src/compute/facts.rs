//! The members that every compute document has and only the server writes.

use serde_json::Value;
use vestibule_model::name::{SELF_LINK_PREFIX, region_link, zone_link};
use vestibule_model::{ResourceName, Scope, fingerprint, id, time};

use super::Info;
use super::kind::Fingerprint;
use crate::{Change, Document, document};

/// Server fields of every kind.
const EVERYWHERE: &[&str] =
    &["kind", "id", "creationTimestamp", "selfLink", "selfLinkWithId", "region", "zone", "labelFingerprint"];

/// Kinds whose documents carry `selfLinkWithId`.
const WITH_ID_LINK: &[&str] = &["compute#network", "compute#forwardingRule"];

/// What the client may say: `null`s mean "absent", and server fields are ignored.
pub fn clean(info: &Info, mut body: Document) -> Document {
    document::drop_nulls(&mut body);
    strip(info, &mut body);
    body
}

/// Removes every member that only the server writes, and the fingerprint.
pub fn strip(info: &Info, doc: &mut Document) {
    doc.retain(|field, _| !is_server_field(info, field) && field != "fingerprint");
}

/// Copies every member that only the server writes from one document to another.
pub fn carry_over(info: &Info, from: &Document, to: &mut Document) {
    for (field, value) in from.iter().filter(|(field, _)| is_server_field(info, field)) {
        to.insert(field.clone(), value.clone());
    }
}

fn is_server_field(info: &Info, field: &str) -> bool {
    EVERYWHERE.contains(&field) || info.output_only.contains(&field)
}

/// Gives a new document its identity.
pub fn identify(info: &Info, change: &Change<'_>, name: &ResourceName, doc: &mut Document) {
    let id = id::resource_id();
    if WITH_ID_LINK.contains(&info.kind) {
        let link = format!("{SELF_LINK_PREFIX}{}/{id}", name.parent_relative());
        doc.insert("selfLinkWithId".into(), link.into());
    }
    doc.insert("kind".into(), info.kind.into());
    doc.insert("id".into(), id.into());
    doc.insert("name".into(), name.name.clone().into());
    doc.insert("creationTimestamp".into(), time::compute(change.now()).into());
    doc.insert("selfLink".into(), name.self_link().into());
    match &name.scope {
        Scope::Global => {}
        Scope::Region(region) => {
            doc.insert("region".into(), region_link(&name.project, region).into());
        }
        Scope::Zone(zone) => {
            doc.insert("zone".into(), zone_link(&name.project, zone).into());
        }
    }
}

/// Brings the fingerprints up to date with what the document says.
pub fn seal(info: &Info, doc: &mut Document) {
    if info.labels {
        let labels = doc.get("labels").cloned().unwrap_or_else(|| Value::Object(Document::new()));
        doc.insert("labelFingerprint".into(), fingerprint(&labels).into());
    }
    if info.fingerprint != Fingerprint::None {
        doc.remove("fingerprint");
        let current = of_document(doc);
        doc.insert("fingerprint".into(), current.into());
    }
}

fn of_document(doc: &mut Document) -> String {
    let whole = Value::Object(std::mem::take(doc));
    let current = fingerprint(&whole);
    if let Value::Object(members) = whole {
        *doc = members;
    }
    current
}
