//! A control plane with a runtime that only pretends, for tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vestibule_run::desired::{Desired, Execution, RevisionReport, RevisionState, Service};
use vestibule_store::Store;

use super::{Caller, Place, operations, reconcile, status};
use crate::{Control, Document, Error, Settings};

pub(super) const PROJECT: &str = "demo";
pub(super) const NUMBER: &str = "496268734596";
pub(super) const REGION: &str = "us-central1";

/// Longest time that a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the pretending runtime does with a revision, by its image: `missing` fails, `slow` stays as it is until the
/// test decides, anything else becomes ready at once.
pub(super) struct World {
    pub(super) control: Control,
    seen: Arc<Mutex<Option<Desired>>>,
    _reconciler: reconcile::Reconciler,
    _dir: TempDir,
}

impl World {
    pub(super) fn new() -> World {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(dir.path()).expect("a fresh store");
        let control = Control::open(store, Settings::default());
        let seen: Arc<Mutex<Option<Desired>>> = Arc::default();
        let runtime = {
            let (control, seen) = (control.clone(), Arc::clone(&seen));
            move |desired: Desired| {
                *seen.lock().unwrap() = Some(desired.clone());
                pretend(&control, &desired);
            }
        };
        let _reconciler = reconcile::start(control.clone(), runtime).expect("a thread");
        World { control, seen, _reconciler, _dir: dir }
    }

    /// What the runtime was told of a service last.
    pub(super) fn desired(&self, service: &str) -> Option<Arc<Service>> {
        let seen = self.seen.lock().unwrap();
        seen.as_ref()?.services.iter().find(|s| *s.key.name == *service).cloned()
    }

    /// The executions that the runtime is told to run as of now.
    pub(super) fn executions(&self) -> Vec<Arc<Execution>> {
        assert!(self.control.planes().wait(self.control.view().revision(), PATIENCE), "told in time");
        let seen = self.seen.lock().unwrap();
        seen.as_ref().map(|desired| desired.executions.clone()).unwrap_or_default()
    }

    /// Shares of a service's traffic as the runtime obeys it, `revision=percent[:tag]`.
    pub(super) fn obeyed(&self, service: &str) -> Vec<String> {
        let service = self.desired(service).expect("the service is desired");
        let text = |t: &vestibule_run::desired::TrafficTarget| match &t.tag {
            Some(tag) => format!("{}={}:{tag}", t.revision, t.percent),
            None => format!("{}={}", t.revision, t.percent),
        };
        service.traffic.iter().map(text).collect()
    }

    /// Decides a slow revision.
    pub(super) fn report(&self, service: &str, revision: &str, state: RevisionState) {
        let service = self.desired(service).expect("the service is desired").key.clone();
        let report = RevisionReport { service, revision: revision.into(), state };
        reconcile::record(&self.control, &report).expect("recorded");
    }

    pub(super) fn create(&self, body: Value) -> Value {
        self.try_create(body).expect("accepted")
    }

    pub(super) fn try_create(&self, body: Value) -> Result<Value, Error> {
        self.control.run().create(caller(), place(), members(body))
    }

    pub(super) fn replace(&self, service: &str, body: Value) -> Value {
        self.try_replace(service, body).expect("accepted")
    }

    pub(super) fn try_replace(&self, service: &str, body: Value) -> Result<Value, Error> {
        self.control.run().replace(caller(), place(), service, members(body))
    }

    /// Reads, changes and writes back, as gcloud does.
    pub(super) fn edit(&self, service: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let mut body = self.get(service);
        edit(&mut body);
        self.replace(service, body)
    }

    pub(super) fn get(&self, service: &str) -> Value {
        self.control.run().get(place(), service).expect("it exists")
    }

    /// The service once its last change has been decided.
    pub(super) fn decided(&self, service: &str) -> Value {
        operations::wait_for(&self.control, PATIENCE, |_| Some(self.get(service)).filter(status::is_decided))
            .expect("decided in time")
    }

    pub(super) fn revisions(&self, selector: &str) -> Vec<Value> {
        self.control.run().revisions(place(), selector).expect("a good selector").items
    }
}

fn pretend(control: &Control, desired: &Desired) {
    for service in &desired.services {
        for revision in service.revisions.iter().filter(|revision| !revision.proven) {
            let state = match revision.container.image.as_str() {
                "slow" => continue,
                "missing" => RevisionState::Failed {
                    reason: "ContainerMissing".to_owned(),
                    message: "Image 'missing' not found.".to_owned(),
                },
                image => RevisionState::Ready { image_digest: format!("{image}@sha256:00") },
            };
            let report =
                RevisionReport { service: service.key.clone(), revision: revision.name.clone(), state };
            reconcile::record(control, &report).expect("recorded");
        }
    }
}

pub(super) fn caller() -> Caller<'static> {
    Caller { email: "me@example.com", dry_run: false }
}

pub(super) fn place() -> Place<'static> {
    Place::new(PROJECT, Some(REGION))
}

pub(super) fn members(value: Value) -> Document {
    match value {
        Value::Object(members) => members,
        other => panic!("{other}"),
    }
}

/// A service of one image, as gcloud would send it.
pub(super) fn service(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": PROJECT, "labels": {}, "annotations": {}},
        "spec": {"template": {
            "metadata": {"labels": {"client.knative.dev/nonce": "abcdefghij"}},
            "spec": {"containers": [{"image": image, "name": ""}], "nodeSelector": {}},
        }},
        "status": {"address": {}},
    })
}

/// Status, reason and message of a condition.
pub(super) fn condition<'a>(document: &'a Value, kind: &str) -> (&'a str, &'a str, &'a str) {
    let condition = status::find(document, kind).unwrap_or(&Value::Null);
    let text = |member: &str| condition[member].as_str().unwrap_or_default();
    (text("status"), text("reason"), text("message"))
}
