//! Making and changing services.

use serde_json::{Value, json};
use vestibule_model::time;

use super::annotation::{
    self, CREATOR, INGRESS, INGRESS_STATUS, LAST_MODIFIER, LOCATION, OPERATION_ID, URLS,
};
use super::name::{self, Kind, Name, Place};
use super::operations::{self, Verb};
use super::wanted::{Replacement, ServerWritten, Wanted, already_exists, metadata, name_in};
use super::{Caller, Run, json as reach, read, revision, status, template, url, validate};
use crate::{ANSWER_WITHIN, Change, Document, Error};

/// Revisions of a service that are kept, as many as Cloud Run keeps. Tests need not make a thousand.
pub(super) const KEEP_REVISIONS: usize = if cfg!(test) { 30 } else { 1000 };

/// What a change made of it.
pub(super) struct Written {
    /// The document as it is now.
    pub(super) document: Value,
    /// The operation, unless nothing changed.
    pub(super) operation: Option<String>,
}

/// Labels and annotations of services that are not for clients to say.
const SERVER: ServerWritten = ServerWritten { labels: &[LOCATION], annotations: annotation::SERVER_WRITTEN };

/// Fills in what was left out of a service, and drops what is not for clients to say.
fn complete(wanted: &mut Wanted, name: &Name) {
    wanted.drop_texts(SERVER);
    wanted.annotations.entry(INGRESS).or_insert_with(|| "all".into());
    for (_, value) in wanted.spec.iter_mut() {
        reach::prune_nulls(value);
    }
    wanted.spec.retain(|member, _| matches!(member.as_str(), "template" | "traffic"));
    template::complete(reach::object_mut(&mut wanted.spec, "template"), &name.project);
    let traffic = wanted.spec.entry("traffic").or_insert(Value::Null);
    if reach::same(traffic, &Value::Null) {
        *traffic = json!([{ "latestRevision": true, "percent": 100 }]);
    }
}

impl Run<'_> {
    /// Makes a service from a v1 document. Returns it, ready if the runtime was quick.
    pub fn create(&self, caller: Caller<'_>, place: Place<'_>, body: Document) -> Result<Value, Error> {
        let name = name_in(place, &body)?;
        let wanted = Wanted::from_v1(body, "Service")?;
        let (written, _) = self.make(caller, &name, wanted)?;
        Ok(self.answer(caller, &name, written))
    }

    /// Replaces a service by a v1 document. `metadata.resourceVersion`, if sent, must be the current one.
    pub fn replace(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        service: &str,
        body: Document,
    ) -> Result<Value, Error> {
        let replacement = Replacement::from_v1(place, body, "Service", service)?;
        let name = name::locate(&self.control.view(), place, Kind::Service, service)?;
        let (wanted, check) = replacement.parts(&name);
        let written = self.rewrite(caller, &name, |_| Ok(wanted), check)?;
        Ok(self.answer(caller, &name, written))
    }

    /// The service as it is after the change has had a moment to take effect.
    fn answer(&self, caller: Caller<'_>, name: &Name, written: Written) -> Value {
        let current =
            if caller.dry_run { None } else { self.control.view().get(&name.key(Kind::Service)).cloned() };
        match current {
            // Unless someone deleted it meanwhile: then what was made is the answer.
            Some(current) => read::service(&current.value),
            None => read::service(&written.document),
        }
    }

    /// Makes a service that must not exist, and waits a moment for the runtime.
    pub(super) fn make(
        &self,
        caller: Caller<'_>,
        name: &Name,
        wanted: Wanted,
    ) -> Result<(Written, Name), Error> {
        let written = self.commit(caller, name, |change| {
            if change.exists(&name.key(Kind::Service)) {
                return Err(already_exists(name));
            }
            write(change, name, None, wanted, caller.email)
        })?;
        Ok((written, name.clone()))
    }

    /// Changes a service that must exist, and waits a moment for the runtime.
    pub(super) fn rewrite(
        &self,
        caller: Caller<'_>,
        name: &Name,
        wanted: impl FnOnce(&Value) -> Result<Wanted, Error>,
        check: impl FnOnce(&Value) -> Result<(), Error>,
    ) -> Result<Written, Error> {
        self.commit(caller, name, |change| {
            let old = change.get(&name.key(Kind::Service)).ok_or_else(|| name.not_found(Kind::Service))?;
            check(&old)?;
            let wanted = wanted(&old)?;
            write(change, name, Some(&old), wanted, caller.email)
        })
    }

    fn commit(
        &self,
        caller: Caller<'_>,
        name: &Name,
        build: impl FnOnce(&mut Change<'_>) -> Result<Written, Error>,
    ) -> Result<Written, Error> {
        if caller.dry_run {
            return build(&mut Change::new(self.control, self.control.view()));
        }
        let (written, revision) = self.control.change(build)?;
        if written.operation.is_some() {
            self.settle(name, revision, ANSWER_WITHIN);
        }
        Ok(written)
    }
}

/// Stages a service, and the revision and the operation that come with it. Stages nothing if nothing changes.
fn write(
    change: &mut Change<'_>,
    name: &Name,
    old: Option<&Value>,
    mut wanted: Wanted,
    caller: &str,
) -> Result<Written, Error> {
    complete(&mut wanted, name);
    let hosts = url::hosts(name);
    let spec = Value::Object(wanted.spec.clone());
    validate::service(&wanted.labels, &wanted.annotations, &spec, &hosts)?;
    if let Some(old) = old
        && !wanted.force
        && is_same(old, &wanted, &spec)
    {
        return Ok(Written { document: old.clone(), operation: None });
    }
    let operation = operations::new_id();
    let mut service = document(change, name, old, &wanted, spec, caller, &operation);
    let (created, count) = revision_for(change, name, old, &service, wanted.force, caller)?;
    service["vestibule"] = json!({
        "revisions": count,
        "updateTime": time::rfc3339(change.now()),
    });
    service["status"] = status::pending(&service, name, &created, change.now());
    let generation = service["metadata"]["generation"].as_i64().unwrap_or(1);
    let verb = Verb::Write { generation };
    operations::record(change, Kind::Service, name, &operation, verb, &service);
    change.put(&name.key(Kind::Service), service.clone());
    Ok(Written { document: service, operation: Some(operation) })
}

/// Whether a client asks for what there already is.
fn is_same(old: &Value, wanted: &Wanted, spec: &Value) -> bool {
    wanted.has_texts_of(old, SERVER)
        && reach::same(&old["spec"]["template"], &spec["template"])
        && old["spec"]["traffic"] == spec["traffic"]
}

/// The service's document without its status.
fn document(
    change: &Change<'_>,
    name: &Name,
    old: Option<&Value>,
    wanted: &Wanted,
    spec: Value,
    caller: &str,
    operation: &str,
) -> Value {
    let creator =
        old.and_then(|old| reach::text(old, &["metadata", "annotations", CREATOR])).unwrap_or(caller);
    // Until the runtime obeys, the old ingress is in force.
    let ingress = wanted.annotations.get(INGRESS).and_then(Value::as_str).unwrap_or("all");
    let in_force =
        old.and_then(|old| reach::text(old, &["metadata", "annotations", INGRESS_STATUS])).unwrap_or(ingress);
    let mut annotations = wanted.annotations.clone();
    for (key, value) in [
        (CREATOR, creator.to_owned()),
        (LAST_MODIFIER, caller.to_owned()),
        (INGRESS_STATUS, in_force.to_owned()),
        (URLS, json!(url::hosts(name).urls()).to_string()),
        (OPERATION_ID, operation.to_owned()),
    ] {
        annotations.insert(key.to_owned(), value.into());
    }
    let mut labels = wanted.labels.clone();
    labels.insert(LOCATION.to_owned(), name.location.as_str().into());
    let path = ("serving.knative.dev/v1", "services");
    json!({
        "apiVersion": path.0,
        "kind": "Service",
        "metadata": metadata(change, name, old, path, (labels, annotations)),
        "spec": spec,
        "status": old.map(|old| old["status"].clone()).unwrap_or_default(),
    })
}

/// The newest revision after this change, made if the template changed, and how many the service has had.
fn revision_for(
    change: &mut Change<'_>,
    name: &Name,
    old: Option<&Value>,
    service: &Value,
    force: bool,
    caller: &str,
) -> Result<(String, u64), Error> {
    let template = &service["spec"]["template"];
    let count = old.and_then(|old| old["vestibule"]["revisions"].as_u64()).unwrap_or(0);
    if let Some(old) = old
        && !force
        && template::same(&old["spec"]["template"], template)
    {
        let latest = reach::text(old, &["status", "latestCreatedRevisionName"]).unwrap_or_default();
        return Ok((latest.to_owned(), count));
    }
    let asked = reach::text(template, &["metadata", "name"]);
    let revision = revision::choose_name(change, name, count + 1, asked)?;
    if let Some(existing) = change.get(&revision.key(Kind::Revision)) {
        let own = revision::service_of(&existing) == Some(name.name.as_str());
        if own && template::same(&existing["vestibule"]["template"], template) {
            return Ok((revision.name, count));
        }
        let message =
            format!("Revision named '{}' with different configuration already exists.", revision.name);
        return Err(Error::AlreadyExists { message });
    }
    let uid = reach::text(service, &["metadata", "uid"]).unwrap_or_default();
    let new = revision::New { service: name, service_uid: uid, number: count + 1, template, creator: caller };
    let document = revision::document(&revision, &new, change.now());
    change.put(&revision.key(Kind::Revision), document);
    forget_oldest(change, name, service);
    Ok((revision.name, count + 1))
}

/// Stages the deletion of the oldest revisions beyond those that are kept. What traffic names stays.
fn forget_oldest(change: &mut Change<'_>, name: &Name, service: &Value) {
    let revisions = revision::of_service(change.view(), name);
    // The new one is not among them yet.
    let surplus = (revisions.len() + 1).saturating_sub(KEEP_REVISIONS);
    let named = |revision: &str| {
        let entries = [&["spec", "traffic"], &["status", "traffic"]].map(|path| reach::items(service, path));
        entries.iter().any(|entries| entries.iter().any(|entry| entry["revisionName"] == revision))
    };
    let old = revisions.into_iter().take(surplus).map(|(revision, _)| revision);
    for revision in old.filter(|revision| !named(&revision.name)) {
        change.delete(&revision.key(Kind::Revision));
    }
}
