//! Resources of the newer APIs, `projects/P/locations/L/COLLECTION/ID`, which long-running operations change: what mutual
//! TLS needs of Network Security and Certificate Manager.
//!
//! What they share is here once: names, masks, etags, references, lists, operations. What a resource means is a [`Kind`].
//!
//! Every API has operations of its own at Google, at one path: `…/locations/L/operations/O`. Here all APIs share one port
//! too, so an operation is found by its name, whichever API made it.

mod name;
mod operations;
mod server_tls_policies;
#[cfg(test)]
mod tests;
mod trust_configs;

pub use name::{Name, Place};
pub use server_tls_policies::{SERVER_TLS_POLICIES, attachable, attached, revisions, validation};
pub use trust_configs::TRUST_CONFIGS;

pub(crate) use name::is_relevant;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vestibule_model::fingerprint::hash64;
use vestibule_model::time;

use crate::{ANSWER_WITHIN, Change, Control, Document, Error, document, mask};

/// A kind of resources.
pub trait Kind: Sync {
    fn info(&self) -> &'static Info;

    /// Checks what a client made or changed. The document holds what clients may write, without `null` members.
    fn validate(&self, change: &mut Change<'_>, name: &Name, doc: &Document) -> Result<(), Error>;

    /// What the document refers to.
    fn references(&self, _name: &Name, _doc: &Document) -> Vec<Name> {
        Vec::new()
    }
}

/// What is fixed for a kind.
#[derive(Debug)]
pub struct Info {
    /// Google's name of the API, e.g. `networksecurity`.
    pub service: &'static str,
    pub collection: &'static str,
    /// The message's full name.
    pub message: &'static str,
    /// Parts that a client may write.
    pub writable: &'static [&'static str],
    /// It has an `etag`.
    pub etag: bool,
    /// What an id may be, for the text of a refusal.
    pub id_rule: &'static str,
    pub is_id: fn(&str) -> bool,
}

static KINDS: [&dyn Kind; 2] = [&SERVER_TLS_POLICIES, &TRUST_CONFIGS];

/// The resources of a control plane.
#[derive(Clone, Copy)]
pub struct Located<'c> {
    control: &'c Control,
}

impl Control {
    /// Resources of Network Security and Certificate Manager.
    pub fn located(&self) -> Located<'_> {
        Located { control: self }
    }
}

/// Keys of everything that the document at `key` refers to.
pub(crate) fn references(key: &str, doc: &Document) -> BTreeSet<String> {
    let found = KINDS.into_iter().find_map(|kind| Some((kind, Name::of_key(kind.info(), key)?)));
    let names = found.map(|(kind, name)| kind.references(&name, doc)).unwrap_or_default();
    names.iter().map(Name::key).collect()
}

impl Located<'_> {
    /// Makes a resource, and answers with the operation.
    pub fn create(
        &self,
        kind: &dyn Kind,
        place: Place<'_>,
        id: &str,
        body: Document,
    ) -> Result<Value, Error> {
        let info = kind.info();
        place.check()?;
        if !(info.is_id)(id) {
            let message = format!("Invalid resource ID '{id}': {}", info.id_rule);
            return Err(Error::BadRequest { message });
        }
        let name = Name::new(info, place, id);
        self.change("create", &name, |change| {
            if change.exists(&name.key()) {
                return Err(Error::AlreadyExists { message: format!("Resource '{name}' already exists") });
            }
            let now = time::rfc3339(change.now());
            Ok(Some(finished(change, kind, &name, body, &now)?))
        })
    }

    /// One resource.
    pub fn get(&self, kind: &dyn Kind, place: Place<'_>, id: &str) -> Result<Value, Error> {
        let name = Name::new(kind.info(), place, id);
        let view = self.control.view();
        view.get(&name.key()).map(|stored| (*stored.value).clone()).ok_or_else(|| name.not_found())
    }

    /// All resources of a place; of the location `-`, of every place.
    pub fn list(&self, kind: &dyn Kind, place: Place<'_>) -> Vec<Value> {
        let view = self.control.view();
        let prefix = name::prefix(kind.info().service, place);
        let found = view.range(&prefix).filter(|kv| Name::of_key(kind.info(), &kv.key).is_some());
        found.map(|stored| (*stored.value).clone()).collect()
    }

    /// Changes the fields that `mask` names; without one, all. Answers with the operation.
    pub fn patch(
        &self,
        kind: &dyn Kind,
        place: Place<'_>,
        id: &str,
        body: Document,
        mask: Option<&str>,
    ) -> Result<Value, Error> {
        let name = Name::new(kind.info(), place, id);
        self.change("update", &name, |change| {
            let old = change.get(&name.key()).ok_or_else(|| name.not_found())?;
            check_etag(&old, document::text(&body, "etag"))?;
            let created = old["createTime"].as_str().unwrap_or_default().to_owned();
            let mask = mask.map(str::trim).filter(|mask| !mask.is_empty()).unwrap_or("*");
            let merged = mask::apply((*old).clone(), body, mask, kind.info().writable)?;
            Ok(Some(finished(change, kind, &name, merged, &created)?))
        })
    }

    /// Deletes a resource that nothing refers to, and answers with the operation.
    pub fn delete(
        &self,
        kind: &dyn Kind,
        place: Place<'_>,
        id: &str,
        etag: Option<&str>,
    ) -> Result<Value, Error> {
        let name = Name::new(kind.info(), place, id);
        self.change("delete", &name, |change| {
            let old = change.get(&name.key()).ok_or_else(|| name.not_found())?;
            check_etag(&old, etag)?;
            if let Some(user) = change.users(&name.key()).first() {
                let user = user.split_once('/').map_or(user.as_str(), |(_, user)| user);
                let message =
                    format!("The resource '{name}' is being used by '{user}' and cannot be deleted.");
                return Err(Error::FailedPrecondition { message });
            }
            change.delete(&name.key());
            Ok(None)
        })
    }

    /// Carries out a change of one resource: `build` makes its new document, or none if it goes.
    fn change(
        &self,
        verb: &str,
        name: &Name,
        build: impl FnOnce(&mut Change<'_>) -> Result<Option<Value>, Error>,
    ) -> Result<Value, Error> {
        let (key, revision) = self.control.change(|change| {
            let made = build(change)?;
            if let Some(made) = &made {
                change.put(&name.key(), made.clone());
            }
            Ok(operations::record(change, name, verb, made))
        })?;
        self.control.planes().wait(revision, ANSWER_WITHIN);
        operations::read(self.control, &key)
    }
}

/// The document of a resource that a client made or changed.
fn finished(
    change: &mut Change<'_>,
    kind: &dyn Kind,
    name: &Name,
    mut doc: Document,
    created: &str,
) -> Result<Value, Error> {
    let info = kind.info();
    document::drop_nulls(&mut doc);
    doc.retain(|member, _| info.writable.contains(&member.as_str()));
    crate::compute::check_labels(&doc, "labels")?;
    kind.validate(change, name, &doc)?;
    if info.etag {
        // Of what clients write alone: a file that was exported can be imported again and again.
        let etag = hash64(Value::Object(doc.clone()).to_string().as_bytes());
        doc.insert("etag".into(), json!(format!("{etag:016x}")));
    }
    doc.insert("name".into(), name.to_string().into());
    doc.insert("createTime".into(), created.into());
    doc.insert("updateTime".into(), time::rfc3339(change.now()).into());
    Ok(Value::Object(doc))
}

fn check_etag(stored: &Value, sent: Option<&str>) -> Result<(), Error> {
    match sent.filter(|sent| !sent.is_empty()) {
        Some(sent) if stored["etag"] != sent => Err(Error::Aborted {
            message: format!("The etag '{sent}' is not the current one of the resource."),
        }),
        _ => Ok(()),
    }
}
