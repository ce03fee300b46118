//! Revisions: made with a change of a template, never changed, observed.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use vestibule_model::{id, time};
use vestibule_store::{KeyValue, View};

use super::annotation::{
    CONFIGURATION, CONFIGURATION_GENERATION, CREATOR, LOCATION, MAX_SCALE, ROUTE, SERVICE, SERVICE_UID,
};
use super::json as reach;
use super::name::{Kind, Name, Place, parse_key, prefix};
use super::traffic::Readiness;
use super::{status, template};
use crate::{Change, Error};

/// Instances of a revision at most, where nobody says.
pub(super) const DEFAULT_MAX_SCALE: u32 = 100;
/// Longest name (RFC 1035 section 2.3.4, as it becomes a label of instances).
const MAX_NAME: usize = 63;

/// A new revision of a service.
pub(super) struct New<'a> {
    pub(super) service: &'a Name,
    pub(super) service_uid: &'a str,
    /// The how-manieth it is.
    pub(super) number: u64,
    /// The completed template.
    pub(super) template: &'a Value,
    pub(super) creator: &'a str,
}

/// The name a new revision gets: the one asked for, or `SERVICE-NNNNN-abc`.
pub(super) fn choose_name(
    change: &Change<'_>,
    service: &Name,
    number: u64,
    asked: Option<&str>,
) -> Result<Name, Error> {
    if let Some(asked) = asked {
        let fits = asked
            .strip_prefix(service.name.as_str())
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with('-'));
        if !fits || !vestibule_model::name::is_valid_name(asked) {
            let why = format!(
                "Revision name must be prefixed by the name of the enclosing Service with a trailing -, that is {}-.",
                service.name
            );
            return Err(Error::invalid("spec.template.metadata.name", asked, why));
        }
        return Ok(service.sibling(asked));
    }
    let tail = "-00001-abc".len();
    let base = service.name[..service.name.len().min(MAX_NAME - tail)].trim_end_matches('-');
    loop {
        let name = service.sibling(&format!("{base}-{number:05}-{}", id::letters(3)));
        if !change.exists(&name.key(Kind::Revision)) {
            return Ok(name);
        }
    }
}

/// The document of a new revision.
pub(super) fn document(name: &Name, new: &New<'_>, now: Timestamp) -> Value {
    let service = &new.service.name;
    let number = name.project_number();
    let mut labels = new.template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    for (key, value) in [
        (SERVICE, service.clone()),
        (CONFIGURATION, service.clone()),
        (ROUTE, service.clone()),
        (CONFIGURATION_GENERATION, new.number.to_string()),
        (SERVICE_UID, new.service_uid.to_owned()),
        (LOCATION, name.location.clone()),
    ] {
        labels.insert(key.to_owned(), value.into());
    }
    let mut annotations = new.template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.insert(CREATOR.to_owned(), new.creator.into());
    annotations.entry(MAX_SCALE).or_insert_with(|| DEFAULT_MAX_SCALE.to_string().into());
    let unknown = |kind| status::condition(kind, "Unknown", Some(("Deploying", "Deploying Revision.")), now);
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {
            "name": name.name,
            "namespace": number,
            "selfLink": format!("/apis/serving.knative.dev/v1/namespaces/{number}/revisions/{}", name.name),
            "uid": id::uuid(),
            "resourceVersion": version(now),
            "generation": 1,
            "creationTimestamp": time::rfc3339(now),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Configuration",
                "name": service,
                "uid": new.service_uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": new.template["spec"],
        "status": {
            "observedGeneration": 1,
            "conditions": [unknown("Ready"), unknown("ContainerHealthy"), unknown("ResourcesAvailable")],
            "logUrl": log_url(name, service),
            "serviceName": service,
        },
        // The template it was made from, to tell whether another is the same.
        "vestibule": { "template": new.template },
    })
}

/// A version that rises with every write of a client.
pub(super) fn version(now: Timestamp) -> String {
    id::resource_version(u64::try_from(now.as_microsecond()).unwrap_or_default())
}

fn log_url(revision: &Name, service: &str) -> String {
    let Name { project, name, .. } = revision;
    format!(
        "https://console.cloud.google.com/logs/viewer?project={project}&resource=cloud_run_revision/service_name/\
         {service}/revision_name/{name}&advancedFilter=resource.type%3D%22cloud_run_revision%22%0Aresource.labels.\
         service_name%3D%22{service}%22%0Aresource.labels.revision_name%3D%22{name}%22"
    )
}

/// What is known of a revision.
pub(super) fn readiness(revision: &Value) -> Readiness {
    let Some(ready) = status::find(revision, "Ready") else { return Readiness::Deploying };
    match ready["status"].as_str() {
        Some("True") => Readiness::Ready,
        Some("False") => Readiness::Failed {
            reason: ready["reason"].as_str().unwrap_or_default().to_owned(),
            message: ready["message"].as_str().unwrap_or_default().to_owned(),
        },
        _ => Readiness::Deploying,
    }
}

/// Writes what was observed into a revision. Returns whether that was news.
pub(super) fn observe(
    revision: &mut Value,
    readiness: &Readiness,
    image_digest: Option<&str>,
    now: Timestamp,
) -> bool {
    let before = revision["status"].clone();
    let conditions: Vec<Value> = ["Ready", "ContainerHealthy", "ResourcesAvailable"]
        .into_iter()
        .map(|kind| {
            let new = match readiness {
                Readiness::Ready => status::condition(kind, "True", None, now),
                Readiness::Deploying => {
                    status::condition(kind, "Unknown", Some(("Deploying", "Deploying Revision.")), now)
                }
                // What failed is the container or its image; there was room for it.
                Readiness::Failed { .. } if kind == "ResourcesAvailable" => {
                    status::condition(kind, "True", None, now)
                }
                Readiness::Failed { reason, message } => {
                    status::condition(kind, "False", Some((reason, message)), now)
                }
            };
            status::since(status::find(revision, kind), new)
        })
        .collect();
    revision["status"]["conditions"] = Value::Array(conditions);
    if let Some(digest) = image_digest {
        revision["status"]["imageDigest"] = digest.into();
    }
    revision["status"] != before
}

/// A revision as v1 shows it. `service` tells whether it is in use.
pub(super) fn shown(revision: &Value, service: Option<&Value>) -> Value {
    let mut shown = revision.clone();
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("vestibule");
    }
    template::name_containers(&mut shown["spec"]);
    let active = active(revision, service);
    if let Some(Value::Array(conditions)) = shown.pointer_mut("/status/conditions") {
        conditions.insert(1.min(conditions.len()), active);
    }
    shown
}

/// The condition that tells whether requests can reach the revision.
fn active(revision: &Value, service: Option<&Value>) -> Value {
    let name = reach::text(revision, &["metadata", "name"]).unwrap_or_default();
    let entries = service.map_or(&[][..], |service| reach::items(service, &["status", "traffic"]));
    let reached = entries.iter().any(|entry| {
        entry["revisionName"] == name
            && (entry["percent"].as_u64().unwrap_or(0) > 0 || entry["tag"].is_string())
    });
    // Nobody wrote down when it came into use or fell out of it: the service's last change is not far off.
    let at = service
        .and_then(|service| status::find(service, "RoutesReady"))
        .or_else(|| status::find(revision, "Ready"))
        .and_then(|condition| reach::text(condition, &["lastTransitionTime"]))
        .and_then(time::parse)
        .unwrap_or_default();
    match readiness(revision) {
        Readiness::Ready if reached => status::condition("Active", "True", None, at),
        Readiness::Ready => {
            let mut retired =
                status::condition("Active", "False", Some(("Retired", "Revision retired.")), at);
            retired["severity"] = "Info".into();
            retired
        }
        _ => status::condition("Active", "Unknown", None, at),
    }
}

/// The service that a revision belongs to.
pub(super) fn service_of(revision: &Value) -> Option<&str> {
    reach::text(revision, &["metadata", "labels", SERVICE])
}

/// The how-manieth revision of its service it is.
pub(super) fn number(revision: &Value) -> u64 {
    let number = reach::text(revision, &["metadata", "labels", CONFIGURATION_GENERATION]);
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// All revisions of a service in a committed state, the oldest first.
pub(super) fn of_service(view: &View, service: &Name) -> Vec<(Name, Arc<Value>)> {
    let place = Place { project: &service.project, location: Some(&service.location) };
    let range = format!("{}{}/", prefix(place), Kind::Revision.collection());
    let own = |value: &Value| service_of(value) == Some(service.name.as_str());
    let mut found: Vec<(Name, Arc<Value>)> = view
        .range(&range)
        .filter(|kv| own(&kv.value))
        .map(|kv| (service.sibling(kv.key.rsplit('/').next().unwrap_or_default()), kv.value.clone()))
        .collect();
    found.sort_by_key(|(_, revision)| number(revision));
    found
}

/// A service and all its revisions as they are stored, the oldest first.
pub(super) struct Bundle {
    pub(super) name: Name,
    pub(super) service: KeyValue,
    pub(super) revisions: Vec<(Name, KeyValue)>,
}

impl Bundle {
    pub(super) fn revision_documents(&self) -> impl Iterator<Item = &Value> {
        self.revisions.iter().map(|(_, revision)| &*revision.value)
    }
}

/// All services of all projects with their revisions, in one pass.
pub(super) fn bundles(view: &View) -> Vec<Bundle> {
    let mut revisions: HashMap<Name, Vec<(Name, KeyValue)>> = HashMap::new();
    let mut bundles = Vec::new();
    for kv in view.range("run/projects/") {
        match parse_key(&kv.key) {
            Some(("services", name)) => {
                bundles.push(Bundle { name, service: kv.clone(), revisions: Vec::new() })
            }
            Some(("revisions", name)) => {
                if let Some(service) = service_of(&kv.value) {
                    revisions.entry(name.sibling(service)).or_default().push((name, kv.clone()));
                }
            }
            _ => {}
        }
    }
    for bundle in &mut bundles {
        bundle.revisions = revisions.remove(&bundle.name).unwrap_or_default();
        bundle.revisions.sort_by_key(|(_, revision)| number(&revision.value));
    }
    bundles
}
