//! The v2 API: another view of the same documents.
//!
//! A v2 document is turned into what a v1 client would have wanted ([`into_v1`]) and goes the same way from there; an
//! answer is made from the v1 document ([`view`]). Where v1 says something in an annotation, v2 has a field for it, and
//! the annotation is hidden; annotations that v2 has no field for are hidden too and survive a v2 update.

mod condition;
mod into_v1;
mod job_into_v1;
mod job_view;
mod jobs;
mod view;

#[cfg(test)]
mod job_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Value, json};

pub(super) use job_view::{execution, job};
pub(super) use view::service;

use super::change::Written;
use super::name::{self, Kind, Name, Place};
use super::operations::{self, Api};
use super::wanted::new_name;
use super::{Caller, Run, json as reach, read, revision};
use crate::{Document, Error, document, mask};

/// A service's id must be shorter (`serviceId` of `projects.locations.services.create`). v1 has no such rule.
const ID_LENGTH_LIMIT: usize = 50;

/// Parts of a service that a client may write.
const WRITABLE: [&str; 16] = [
    "annotations",
    "binaryAuthorization",
    "client",
    "clientVersion",
    "customAudiences",
    "defaultUriDisabled",
    "description",
    "iapEnabled",
    "ingress",
    "invokerIamDisabled",
    "labels",
    "launchStage",
    "scaling",
    "template",
    "traffic",
    "buildConfig",
];

/// How a service is patched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patch<'a> {
    /// `updateMask`: fields to replace. None: all of them.
    pub mask: Option<&'a str>,
    /// `allowMissing`: make the service if there is none.
    pub allow_missing: bool,
    /// `forceNewRevision`: make a revision even if the template is the same.
    pub force_new_revision: bool,
}

impl Run<'_> {
    /// Makes a service. Returns the operation.
    pub fn create_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        service: &str,
        body: Document,
    ) -> Result<Value, Error> {
        let name = new_name(place, service).map_err(|error| renamed("service_id", error))?;
        if service.len() >= ID_LENGTH_LIMIT {
            let why = format!("Must have fewer than {ID_LENGTH_LIMIT} characters.");
            return Err(Error::invalid("service_id", service, why));
        }
        let wanted = into_v1::wanted(body, None)?;
        let (written, name) = self.make(caller, &name, wanted).map_err(into_v2_terms)?;
        self.operation_of(&name, written)
    }

    /// A service.
    pub fn get_v2(&self, place: Place<'_>, service: &str) -> Result<Value, Error> {
        let (name, stored) = read::find(&self.control.view(), place, Kind::Service, service)?;
        Ok(view::service(&name, &stored))
    }

    /// All services, newest first.
    pub fn list_v2(&self, place: Place<'_>) -> Vec<Value> {
        let found = read::all(&self.control.view(), place, Kind::Service);
        found.iter().map(|(name, stored)| view::service(name, stored)).collect()
    }

    /// Changes a service. Returns the operation.
    pub fn patch_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        service: &str,
        body: Document,
        patch: Patch<'_>,
    ) -> Result<Value, Error> {
        let name = match name::locate(&self.control.view(), place, Kind::Service, service) {
            Ok(name) => name,
            Err(Error::NotFound { .. }) if patch.allow_missing => {
                return self.create_v2(caller, place, service, body);
            }
            Err(error) => return Err(error),
        };
        let etag = document::text(&body, "etag").map(str::to_owned);
        let wanted = |old: &Value| {
            let body = match patch.mask {
                Some(mask) => mask::apply(view::service(&name, old), body, mask, &WRITABLE)?,
                None => body,
            };
            let mut wanted = into_v1::wanted(body, Some(old))?;
            wanted.force = patch.force_new_revision;
            Ok(wanted)
        };
        let check = |old: &Value| check_etag(&name, old, etag.as_deref());
        let written = self.rewrite(caller, &name, wanted, check).map_err(into_v2_terms)?;
        self.operation_of(&name, written)
    }

    /// Deletes a service. Returns the operation.
    pub fn delete_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        service: &str,
        etag: Option<&str>,
    ) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, Kind::Service, service)?;
        let (operation, deleted) = self.remove(caller, &name, |old| check_etag(&name, old, etag))?;
        if caller.dry_run {
            return Ok(finished(&name, &operation, Kind::Service, view::service(&name, &deleted)));
        }
        self.operation_in(region(&name), &operation, Api::V2)
    }

    /// A revision of a service. `service` is `-` for any.
    pub fn revision_v2(&self, place: Place<'_>, service: &str, revision: &str) -> Result<Value, Error> {
        let view = self.control.view();
        let (name, stored) = read::find(&view, place, Kind::Revision, revision)?;
        if service != "-" && revision::service_of(&stored) != Some(service) {
            return Err(name.not_found(Kind::Revision));
        }
        Ok(view::revision(&name, &stored, read::parent(&view, &name, &stored).as_deref()))
    }

    /// All revisions of a service, newest first. `service` is `-` for any.
    pub fn revisions_v2(&self, place: Place<'_>, service: &str) -> Result<Vec<Value>, Error> {
        let view = self.control.view();
        if service != "-" {
            name::locate(&view, place, Kind::Service, service)?;
        }
        let found = read::all(&view, place, Kind::Revision);
        let own = found
            .iter()
            .filter(|(_, stored)| service == "-" || revision::service_of(stored) == Some(service));
        Ok(own
            .map(|(name, stored)| view::revision(name, stored, read::parent(&view, name, stored).as_deref()))
            .collect())
    }

    /// Deletes a revision. Returns the operation.
    pub fn delete_revision_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        service: &str,
        revision: &str,
        etag: Option<&str>,
    ) -> Result<Value, Error> {
        let shown = self.revision_v2(place, service, revision)?;
        if etag.is_some_and(|etag| shown["etag"] != etag) {
            return Err(stale(revision));
        }
        let name = name::locate(&self.control.view(), place, Kind::Revision, revision)?;
        self.remove_revision(caller, &name)?;
        Ok(finished(&name, &operations::new_id(), Kind::Revision, shown))
    }

    /// One operation.
    pub fn operation_v2(&self, place: Place<'_>, id: &str) -> Result<Value, Error> {
        self.operation_in(place, id, Api::V2)
    }

    /// All operations of a place, newest first.
    pub fn operations_v2(&self, place: Place<'_>) -> Vec<Value> {
        self.operations_in(place, Api::V2)
    }

    /// Blocks until the operation is done or `limit` has passed, and returns it as it is then.
    pub fn wait_v2(&self, place: Place<'_>, id: &str, limit: Duration) -> Result<Value, Error> {
        self.wait_in(place, id, limit, Api::V2)
    }

    /// The operation of a change: recorded, or, if nothing changed or was to change, finished at once.
    fn operation_of(&self, name: &Name, written: Written) -> Result<Value, Error> {
        if let Some(operation) = &written.operation
            && let Ok(shown) = self.operation_in(region(name), operation, Api::V2)
        {
            return Ok(shown);
        }
        let operation = written.operation.unwrap_or_else(operations::new_id);
        Ok(finished(name, &operation, Kind::Service, view::service(name, &written.document)))
    }
}

fn region(name: &Name) -> Place<'_> {
    Place { project: &name.project, location: Some(&name.location) }
}

/// An operation that is done before anyone could ask for it.
fn finished(name: &Name, operation: &str, kind: Kind, mut response: Value) -> Value {
    response["@type"] = format!("type.googleapis.com/google.cloud.run.v2.{}", kind.message()).into();
    json!({
        "name": format!("projects/{}/locations/{}/operations/{operation}", name.project, name.location),
        "metadata": response,
        "done": true,
        "response": response,
    })
}

fn check_etag(name: &Name, old: &Value, sent: Option<&str>) -> Result<(), Error> {
    match sent {
        Some(sent) if sent != view::etag(old) => Err(stale(&name.name)),
        _ => Ok(()),
    }
}

fn stale(name: &str) -> Error {
    Error::Aborted { message: format!("Conflict for resource '{name}': the etag is not the current one.") }
}

/// An error about another field.
fn renamed(to: &str, error: Error) -> Error {
    match error {
        Error::Invalid { value, why, .. } => Error::Invalid { field: to.to_owned(), value, why },
        Error::Required { .. } => Error::required(to),
        other => other,
    }
}

/// An error in terms of v2's fields.
fn into_v2_terms(error: Error) -> Error {
    match error {
        Error::Invalid { field, value, why } => Error::Invalid { field: field_of_v2(field), value, why },
        Error::Required { field } => Error::Required { field: field_of_v2(field) },
        other => other,
    }
}

/// What v2 calls a field of v1.
fn field_of_v2(field: String) -> String {
    if let Some((_, annotation)) = field.split_once("metadata.annotations[")
        && let Some(own) = into_v1::field_of(annotation.trim_end_matches(']'))
    {
        return own.to_owned();
    }
    let prefixes = [
        ("spec.template.spec.template.spec.", "template.template."),
        ("spec.template.metadata.name", "template.revision"),
        ("spec.template.metadata.", "template."),
        ("spec.template.spec.", "template."),
        ("spec.traffic", "traffic"),
        ("metadata.", ""),
    ];
    let replaced = prefixes.iter().find_map(|(v1, v2)| Some(format!("{v2}{}", field.strip_prefix(v1)?)));
    let field = replaced.unwrap_or(field);
    if field.contains("Probe.") {
        return field;
    }
    let named = [
        ("containerConcurrency", "maxInstanceRequestConcurrency"),
        ("timeoutSeconds", "timeout"),
        ("revisionName", "revision"),
    ];
    named.iter().fold(field, |field, (v1, v2)| field.replace(v1, v2))
}

/// The string members of an object without those in namespaces that v2 keeps for itself.
fn unreserved(value: &Value) -> Document {
    let own = reach::strings(value, &[]).filter(|(key, _)| !super::annotation::is_reserved(key));
    own.map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}
