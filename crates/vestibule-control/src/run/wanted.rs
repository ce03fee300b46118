//! What a client wants a service or a job to be, and the rules of writing that the two share.

use serde_json::{Map, Value, json};
use vestibule_model::{id, time};

use super::name::{self, DEFAULT_LOCATION, Name, Place};
use super::{json as reach, revision};
use crate::{Change, Document, Error};

/// What the v1 API calls itself: services belong to Knative's, jobs to Google's own.
const API_VERSIONS: [&str; 2] = ["serving.knative.dev/v1", "run.googleapis.com/v1"];

/// What a client wants a service or a job to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) labels: Document,
    pub(super) annotations: Document,
    /// `template` and, of a service, `traffic`.
    pub(super) spec: Document,
    /// Make a revision even if the template is the same.
    pub(super) force: bool,
}

impl Wanted {
    /// Reads a v1 document of a kind.
    pub(super) fn from_v1(mut body: Document, expected: &str) -> Result<Wanted, Error> {
        if let Some(kind) = body.get("kind").and_then(Value::as_str)
            && kind != expected
        {
            return Err(Error::invalid("kind", kind, format!("Must be {expected}.")));
        }
        if let Some(version) = body.get("apiVersion").and_then(Value::as_str)
            && !API_VERSIONS.contains(&version)
        {
            let why = format!("Must be one of {}.", API_VERSIONS.join(", "));
            return Err(Error::invalid("apiVersion", version, why));
        }
        let mut metadata = take_object(&mut body, "metadata");
        Ok(Wanted {
            labels: take_object(&mut metadata, "labels"),
            annotations: take_object(&mut metadata, "annotations"),
            spec: take_object(&mut body, "spec"),
            force: false,
        })
    }

    /// Whether a document has these labels and annotations already, but for those that the server writes.
    pub(super) fn has_texts_of(&self, old: &Value, server: ServerWritten) -> bool {
        let own = |map: &Value, server: &[&str]| {
            let mut map = map.as_object().cloned().unwrap_or_default();
            map.retain(|key, _| !server.contains(&key.as_str()));
            Value::Object(map)
        };
        let same = |member: &str, server: &[&str], wanted: &Document| {
            reach::same(&own(&old["metadata"][member], server), &Value::Object(wanted.clone()))
        };
        same("labels", server.labels, &self.labels)
            && same("annotations", server.annotations, &self.annotations)
    }

    /// Drops what is not for clients to say.
    pub(super) fn drop_texts(&mut self, server: ServerWritten) {
        self.labels.retain(|key, _| !server.labels.contains(&key.as_str()));
        self.annotations.retain(|key, _| !server.annotations.contains(&key.as_str()));
    }
}

/// Labels and annotations of a kind that only the server writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerWritten {
    pub(super) labels: &'static [&'static str],
    pub(super) annotations: &'static [&'static str],
}

fn take_object(parent: &mut Document, member: &str) -> Document {
    match parent.remove(member) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// A v1 document that is to stand in the place of another.
pub(super) struct Replacement {
    pub(super) wanted: Wanted,
    /// `metadata.resourceVersion`: what the other must have, if the client says it.
    version: Option<String>,
}

impl Replacement {
    /// Reads the document of a kind that is to replace the one of this name.
    pub(super) fn from_v1(
        place: Place<'_>,
        body: Document,
        kind: &str,
        name: &str,
    ) -> Result<Replacement, Error> {
        check_namespace(place, &body)?;
        if let Some(other) = in_metadata(&body, "name")
            && other != name
        {
            return Err(Error::invalid("metadata.name", other, "The name cannot be changed."));
        }
        let version = in_metadata(&body, "resourceVersion").map(str::to_owned);
        Ok(Replacement { wanted: Wanted::from_v1(body, kind)?, version })
    }

    /// Splits into what is wanted, and the check that the document to replace is the one that the client has read.
    pub(super) fn parts(self, name: &Name) -> (Wanted, impl FnOnce(&Value) -> Result<(), Error>) {
        let Replacement { wanted, version } = self;
        (wanted, move |old: &Value| check_version(name, old, version.as_deref()))
    }
}

fn check_version(name: &Name, old: &Value, sent: Option<&str>) -> Result<(), Error> {
    let current = reach::text(old, &["metadata", "resourceVersion"]).unwrap_or_default();
    match sent {
        Some(sent) if sent != current => Err(Error::Aborted {
            message: format!(
                "Conflict for resource '{}': version '{sent}' was specified but current version is '{current}'.",
                name.name
            ),
        }),
        _ => Ok(()),
    }
}

fn in_metadata<'b>(body: &'b Document, member: &str) -> Option<&'b str> {
    reach::text(body.get("metadata")?, &[member])
}

/// The name that a v1 document of a service or a job to be made gives itself.
pub(super) fn name_in(place: Place<'_>, body: &Document) -> Result<Name, Error> {
    check_namespace(place, body)?;
    new_name(place, in_metadata(body, "name").unwrap_or_default())
}

/// Refuses a document of another project than the one that the call is aimed at. A number is taken as it comes: it is
/// what the project has at Google, and here it has another.
fn check_namespace(place: Place<'_>, body: &Document) -> Result<(), Error> {
    match in_metadata(body, "namespace") {
        Some(other) if other != place.project && !other.bytes().all(|byte| byte.is_ascii_digit()) => {
            let why = format!("Must be the project of the request, {}.", place.project);
            Err(Error::invalid("metadata.namespace", other, why))
        }
        _ => Ok(()),
    }
}

/// The name of a service or a job to be made.
pub(super) fn new_name(place: Place<'_>, name: &str) -> Result<Name, Error> {
    name::check_name(name)?;
    let location = place.location.unwrap_or(DEFAULT_LOCATION);
    name::check_location(location)?;
    Ok(Name::new(place.project, location, name))
}

/// What makes a service or a job that is there already.
pub(super) fn already_exists(name: &Name) -> Error {
    Error::AlreadyExists { message: format!("Resource '{}' already exists.", name.name) }
}

/// The metadata of a service's or a job's next generation. `collection` is the path of the collection in v1, with the
/// API before it (`serving.knative.dev/v1 services`).
pub(super) fn metadata(
    change: &Change<'_>,
    name: &Name,
    old: Option<&Value>,
    (api, collection): (&str, &str),
    (labels, annotations): (Document, Document),
) -> Value {
    let number = name.project_number();
    let before = |field: &str| old.map(|old| old["metadata"][field].clone()).filter(|value| !value.is_null());
    let generation = before("generation").and_then(|generation| generation.as_i64()).unwrap_or(0) + 1;
    json!({
        "name": name.name,
        "namespace": number,
        "selfLink": format!("/apis/{api}/namespaces/{number}/{collection}/{}", name.name),
        "uid": before("uid").unwrap_or_else(|| id::uuid().into()),
        "resourceVersion": revision::version(change.now()),
        "generation": generation,
        "creationTimestamp": before("creationTimestamp").unwrap_or_else(|| time::rfc3339(change.now()).into()),
        "labels": labels,
        "annotations": annotations,
    })
}
