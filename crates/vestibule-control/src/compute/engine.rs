//! What is the same for every kind of compute resource: the life of a call that changes something.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use vestibule_model::{ResourceName, Scope};

use super::kind::{Fingerprint, Kind, Verb};
use super::operations::Outcome;
use super::read::derived;
use super::{facts, kind_of, labels, names, operations, requests};
use crate::{ANSWER_WITHIN, Change, Control, Document, Error, document};

/// Who calls, and what stands beside the body.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The caller, as the operation's `user` prints it.
    pub user: String,
    /// `requestId`: repeating a call with the same id has no second effect.
    pub request_id: Option<String>,
    /// The other query parameters, e.g. `drainTimeoutSeconds`.
    pub parameters: BTreeMap<String, String>,
}

/// The compute resources of a control plane.
#[derive(Clone, Copy)]
pub struct Compute<'c> {
    pub(super) control: &'c Control,
}

impl Control {
    /// Google's compute resources.
    pub fn compute(&self) -> Compute<'_> {
        Compute { control: self }
    }
}

impl Compute<'_> {
    /// Makes a resource. Returns the operation.
    pub fn insert(
        &self,
        call: &Call,
        project: &str,
        scope: &Scope,
        collection: &str,
        body: Document,
    ) -> Result<Value, Error> {
        let kind = known(collection, scope)?;
        let name = names::of_new(project, scope, collection, &body)?;
        self.operate(call, kind, Verb::Insert, &name, |change| {
            if change.exists(&name.key()) {
                return Err(Error::already_exists(&name));
            }
            change.create(&name, facts::clean(kind.info(), body))
        })
    }

    /// Replaces a resource (PUT). Returns the operation.
    pub fn update(&self, call: &Call, name: &ResourceName, body: Document) -> Result<Value, Error> {
        let kind = known(&name.collection, &name.scope)?;
        if !kind.info().methods.update {
            return Err(no_method(name, "update"));
        }
        self.replace(call, kind, Verb::Update, name, body, |_, body| body)
    }

    /// Merges a patch into a resource (PATCH, RFC 7396). Returns the operation.
    pub fn patch(&self, call: &Call, name: &ResourceName, body: Document) -> Result<Value, Error> {
        let kind = known(&name.collection, &name.scope)?;
        if !kind.info().methods.patch {
            return Err(no_method(name, "patch"));
        }
        self.replace(call, kind, Verb::Patch, name, body, |old, patch| {
            let mut merged = old.clone();
            document::merge(&mut merged, patch);
            merged
        })
    }

    /// Deletes a resource. Returns the operation.
    pub fn delete(&self, call: &Call, name: &ResourceName) -> Result<Value, Error> {
        let kind = known(&name.collection, &name.scope)?;
        self.operate(call, kind, Verb::Delete, name, |change| {
            if !change.exists(&name.key()) && derived(kind, change.view(), name).is_some() {
                let word = kind.info().word;
                let why = format!(
                    "Invalid resource usage: 'The {word} follows from others and cannot be changed.'."
                );
                return Err(Error::bad_request(why));
            }
            let doc = change.expect(name)?;
            kind.delete(change, name, document::object(&doc))?;
            change.delete(&name.key());
            Ok(target_id(document::object(&doc)))
        })
    }

    /// Carries out a verb that changes the resource. Returns the operation.
    pub fn act(&self, call: &Call, name: &ResourceName, verb: &str, body: Document) -> Result<Value, Error> {
        let kind = known(&name.collection, &name.scope)?;
        let info = kind.info();
        let labelling = verb == SET_LABELS && info.labels;
        if !labelling && !info.actions.iter().any(|action| action.verb == verb) {
            return Err(no_method(name, verb));
        }
        self.operate(call, kind, Verb::Act(verb), name, |change| {
            let stored = change.expect(name)?;
            let old = document::object(&stored).clone();
            let new = match labelling {
                true => set_labels(&old, &body)?,
                false => {
                    check_fingerprint(kind, &old, &body, false)?;
                    kind.act(change, call, name, verb, &body, old)?
                }
            };
            Ok(change.replace(kind, name, new))
        })
    }

    /// Answers a verb that changes nothing.
    pub fn ask(&self, call: &Call, name: &ResourceName, verb: &str, body: Document) -> Result<Value, Error> {
        let kind = known(&name.collection, &name.scope)?;
        if !kind.info().questions.contains(&verb) {
            return Err(no_method(name, verb));
        }
        let mut change = Change::new(self.control, self.control.view());
        let doc = change.find(name);
        kind.ask(&mut change, call, name, verb, &body, doc.as_deref().map(document::object))
    }

    fn replace(
        &self,
        call: &Call,
        kind: &'static dyn Kind,
        verb: Verb<'_>,
        name: &ResourceName,
        mut body: Document,
        combine: impl FnOnce(&Document, Document) -> Document,
    ) -> Result<Value, Error> {
        let info = kind.info();
        self.operate(call, kind, verb, name, |change| {
            let stored = change.expect(name)?;
            let old = document::object(&stored);
            check_fingerprint(kind, old, &body, info.fingerprint == Fingerprint::Required)?;
            check_same_name(name, &body)?;
            facts::strip(info, &mut body);
            let mut new = combine(old, body);
            document::drop_nulls(&mut new);
            facts::carry_over(info, old, &mut new);
            new.insert("name".into(), name.name.clone().into());
            if info.labels {
                labels::check(&new, "resource.labels")?;
            }
            kind.update(change, call, name, old, &mut new)?;
            Ok(change.replace(kind, name, new))
        })
    }

    /// The frame around every change: an earlier request's operation, or the change, its operation, the commit, and
    /// the wait for the data planes. `build` returns the target's id.
    fn operate(
        &self,
        call: &Call,
        kind: &'static dyn Kind,
        verb: Verb<'_>,
        target: &ResourceName,
        build: impl FnOnce(&mut Change<'_>) -> Result<String, Error>,
    ) -> Result<Value, Error> {
        let asked = format!("{} {target}", kind.operation_type(verb));
        if let Some(id) = &call.request_id {
            requests::check(id)?;
        }
        let (operation, revision) = self.control.change(|change| {
            if let Some(id) = &call.request_id
                && let Some(earlier) = requests::earlier(change, &target.project, id, &asked)?
            {
                return Ok(earlier);
            }
            let built = build(change).and_then(|id| change.verify().map(|()| id));
            let outcome = match built {
                Ok(id) => Outcome::Made { target_id: id },
                Err(error) if kind.fails_late(verb, &error) => {
                    change.reset();
                    Outcome::Failed { error }
                }
                Err(error) => return Err(error),
            };
            let operation = operations::record(change, call, kind.operation_type(verb), target, outcome);
            if let Some(id) = &call.request_id {
                requests::remember(change, &target.project, id, &asked, &operation);
            }
            Ok(operation)
        })?;
        self.control.planes().wait(revision, ANSWER_WITHIN);
        operations::read(self.control, &operation)
    }
}

impl Change<'_> {
    /// Stages a new compute resource: gives it its identity, lets its kind validate it, seals it. For resources that
    /// other resources bring with them too. Returns its id.
    pub fn create(&mut self, name: &ResourceName, mut doc: Document) -> Result<String, Error> {
        let kind = known(&name.collection, &name.scope)?;
        if kind.info().labels {
            labels::check(&doc, "resource.labels")?;
        }
        facts::identify(kind.info(), self, name, &mut doc);
        kind.insert(self, name, &mut doc)?;
        let id = self.replace(kind, name, doc);
        let staged = self.expect(name)?;
        kind.inserted(self, name, document::object(&staged))?;
        Ok(id)
    }

    /// Stages a changed compute resource without asking its kind. For members that follow from another resource's
    /// change. Returns its id.
    pub fn rewrite(&mut self, name: &ResourceName, doc: Document) -> Result<String, Error> {
        let kind = known(&name.collection, &name.scope)?;
        Ok(self.replace(kind, name, doc))
    }

    fn replace(&mut self, kind: &dyn Kind, name: &ResourceName, mut doc: Document) -> String {
        facts::seal(kind.info(), &mut doc);
        let id = target_id(&doc);
        self.put(&name.key(), Value::Object(doc));
        id
    }

    /// A compute resource, typed.
    pub fn typed<T: serde::de::DeserializeOwned>(&self, name: &ResourceName) -> Result<T, Error> {
        let doc: Arc<Value> = self.expect(name)?;
        document::typed(document::object(&doc))
    }
}

const SET_LABELS: &str = "setLabels";

/// Finds the kind of a collection; one that does not exist in this scope is not built.
fn known(collection: &str, scope: &Scope) -> Result<&'static dyn Kind, Error> {
    kind_of(collection, scope).ok_or_else(|| Error::not_implemented(format!("compute.{collection}")))
}

fn no_method(name: &ResourceName, verb: &str) -> Error {
    Error::not_implemented(format!("compute.{}.{verb}", name.collection))
}

fn target_id(doc: &Document) -> String {
    document::text(doc, "id").unwrap_or_default().to_owned()
}

fn check_same_name(name: &ResourceName, body: &Document) -> Result<(), Error> {
    match document::text(body, "name") {
        Some(other) if other != name.name => {
            Err(Error::invalid("resource.name", other, "The name cannot be changed."))
        }
        _ => Ok(()),
    }
}

fn check_fingerprint(kind: &dyn Kind, old: &Document, body: &Document, required: bool) -> Result<(), Error> {
    if kind.info().fingerprint == Fingerprint::None {
        return Ok(());
    }
    match document::text(body, "fingerprint") {
        None if required => Err(Error::condition_not_met("Missing fingerprint.")),
        Some(sent) if !document::same_bytes(sent, document::text(old, "fingerprint")) => {
            Err(Error::condition_not_met("Invalid fingerprint."))
        }
        _ => Ok(()),
    }
}

fn set_labels(old: &Document, body: &Document) -> Result<Document, Error> {
    let current = document::text(old, "labelFingerprint");
    if let Some(sent) = document::text(body, "labelFingerprint")
        && !document::same_bytes(sent, current)
    {
        let message = "Labels fingerprint either invalid or resource labels have changed";
        return Err(Error::condition_not_met(message));
    }
    labels::check(body, "labels")?;
    let mut new = old.clone();
    match body.get("labels") {
        Some(Value::Object(labels)) if !labels.is_empty() => {
            new.insert("labels".into(), Value::Object(labels.clone()));
        }
        _ => {
            new.remove("labels");
        }
    }
    Ok(new)
}
