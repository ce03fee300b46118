//! What is observed of a service: its conditions, and where traffic goes.
//!
//! A change writes [`pending`]: nothing is known yet but that it was accepted. The reconciler writes [`observed`] once
//! the runtime obeys. Both are functions of documents, so writing them again changes nothing.

use jiff::Timestamp;
use serde_json::{Value, json};
use vestibule_model::time;

use super::annotation::{INGRESS, INGRESS_STATUS};
use super::json as reach;
use super::name::Name;
use super::revision;
use super::traffic::{self, Readiness, Resolution, Verdict};
use super::url::{self, Hosts};

/// Reason and message while something is still being done.
const DEPLOYING: (&str, &str) = ("Deploying", "Deploying Revision.");

/// A condition of v1.
pub(super) fn condition(kind: &str, status: &str, why: Option<(&str, &str)>, now: Timestamp) -> Value {
    let mut condition = json!({ "type": kind, "status": status, "lastTransitionTime": time::rfc3339(now) });
    if let Some((reason, message)) = why {
        condition["reason"] = reason.into();
        condition["message"] = message.into();
    }
    condition
}

/// The condition of a type.
pub(super) fn find<'a>(document: &'a Value, kind: &str) -> Option<&'a Value> {
    reach::items(document, &["status", "conditions"]).iter().find(|condition| condition["type"] == kind)
}

/// A new condition that keeps the time of the old one if its status is the same.
pub(super) fn since(old: Option<&Value>, mut new: Value) -> Value {
    if let Some(old) = old.filter(|old| old["status"] == new["status"]) {
        new["lastTransitionTime"] = old["lastTransitionTime"].clone();
    }
    new
}

/// Whether the last change has been decided: ready, or failed.
pub(super) fn is_decided(service: &Value) -> bool {
    let observed = service["status"]["observedGeneration"] == service["metadata"]["generation"];
    observed && find(service, "Ready").is_some_and(|ready| ready["status"] != "Unknown")
}

/// What is known of a service's revisions.
pub(super) struct Facts {
    /// Name and readiness, the oldest first.
    revisions: Vec<(String, Readiness)>,
    hosts: Hosts,
}

impl Facts {
    pub(super) fn new<'a>(service: &Name, revisions: impl IntoIterator<Item = &'a Value>) -> Facts {
        let name =
            |revision: &Value| reach::text(revision, &["metadata", "name"]).unwrap_or_default().to_owned();
        let revisions = revisions.into_iter().map(|r| (name(r), revision::readiness(r))).collect();
        Facts { revisions, hosts: url::hosts(service) }
    }

    fn readiness(&self, name: &str) -> Option<Readiness> {
        self.revisions.iter().find(|(n, _)| n == name).map(|(_, readiness)| readiness.clone())
    }

    /// The newest revision that can serve.
    pub(super) fn latest_ready(&self) -> Option<&str> {
        let mut ready = self.revisions.iter().rev().filter(|(_, readiness)| *readiness == Readiness::Ready);
        ready.next().map(|(name, _)| name.as_str())
    }

    fn resolve(&self, service: &Value) -> Resolution {
        let wanted = reach::items(service, &["spec", "traffic"]);
        traffic::resolve(wanted, self.latest_ready(), |name| self.readiness(name), &self.hosts)
    }

    /// Where traffic goes: as wanted, or where it went before.
    pub(super) fn traffic(&self, service: &Value) -> Vec<Value> {
        self.resolve(service).entries.unwrap_or_else(|| self.previous(service))
    }

    /// Where traffic went before, as far as that still can serve.
    fn previous(&self, service: &Value) -> Vec<Value> {
        let serves = |entry: &&Value| {
            let name = entry["revisionName"].as_str().unwrap_or_default();
            self.readiness(name) == Some(Readiness::Ready)
        };
        reach::items(service, &["status", "traffic"]).iter().filter(serves).cloned().collect()
    }
}

/// The status of a service whose change was just accepted; `latest_created` is its newest revision.
pub(super) fn pending(service: &Value, name: &Name, latest_created: &str, now: Timestamp) -> Value {
    let url = url::hosts(name).primary_url();
    let mut status = json!({
        "observedGeneration": service["metadata"]["generation"],
        "latestCreatedRevisionName": latest_created,
        "url": url,
        "address": { "url": url },
        "conditions": [],
    });
    let old = &service["status"];
    for kept in ["latestReadyRevisionName", "traffic"] {
        if !old[kept].is_null() {
            status[kept] = old[kept].clone();
        }
    }
    let unknown = |kind| since(find(service, kind), condition(kind, "Unknown", Some(DEPLOYING), now));
    let conditions = ["Ready", "ConfigurationsReady", "RoutesReady"].map(unknown);
    status["conditions"] = Value::Array(conditions.into());
    status
}

/// Writes what is so into a service, now that the runtime obeys. Returns whether that was news.
pub(super) fn observe(service: &mut Value, facts: &Facts, now: Timestamp) -> bool {
    let before = service.clone();
    let created =
        reach::text(service, &["status", "latestCreatedRevisionName"]).unwrap_or_default().to_owned();
    let resolution = facts.resolve(service);
    let traffic = facts.traffic(service);
    let configurations = configurations_ready(&created, facts, now);
    let routes = routes_ready(&resolution, &configurations, now);
    let ready = overall([&configurations, &routes]);
    let conditions: Vec<Value> = [ready, configurations, routes]
        .into_iter()
        .map(|new| {
            let kind = new["type"].as_str().unwrap_or_default().to_owned();
            since(find(&before, &kind), new)
        })
        .collect();
    let status = &mut service["status"];
    status["conditions"] = Value::Array(conditions);
    if let Some(ready) = facts.latest_ready() {
        status["latestReadyRevisionName"] = ready.into();
    }
    if !traffic.is_empty() {
        status["traffic"] = Value::Array(traffic);
    }
    let ingress = reach::text(service, &["metadata", "annotations", INGRESS]).unwrap_or("all").to_owned();
    service["metadata"]["annotations"][INGRESS_STATUS] = ingress.into();
    *service != before
}

/// Whether the newest revision can serve.
fn configurations_ready(created: &str, facts: &Facts, now: Timestamp) -> Value {
    const KIND: &str = "ConfigurationsReady";
    match facts.readiness(created) {
        Some(Readiness::Ready) => condition(KIND, "True", None, now),
        Some(Readiness::Failed { message, .. }) => {
            let message = format!("Revision '{created}' is not ready and cannot serve traffic. {message}");
            condition(KIND, "False", Some(("RevisionFailed", &message)), now)
        }
        Some(Readiness::Deploying) => condition(KIND, "Unknown", Some(DEPLOYING), now),
        // It was deleted since; nothing is being deployed.
        None => condition(KIND, "True", None, now),
    }
}

/// Whether traffic goes where it should.
fn routes_ready(resolution: &Resolution, configurations: &Value, now: Timestamp) -> Value {
    const KIND: &str = "RoutesReady";
    match &resolution.verdict {
        Verdict::Obeyed => condition(KIND, "True", None, now),
        Verdict::Refused { reason, message } => condition(KIND, "False", Some((reason, message)), now),
        // What it waits for has failed, and nothing else is being deployed.
        Verdict::Waiting if configurations["status"] == "False" => {
            let mut condition = configurations.clone();
            condition["type"] = KIND.into();
            condition
        }
        Verdict::Waiting => condition(KIND, "Unknown", Some(DEPLOYING), now),
    }
}

/// `Ready`: that of the newest revision until it can serve, since nothing else says why a deployment hangs or fails; then
/// that of the routes.
fn overall([configurations, routes]: [&Value; 2]) -> Value {
    let mut ready = if configurations["status"] == "True" { routes } else { configurations }.clone();
    ready["type"] = "Ready".into();
    ready
}
