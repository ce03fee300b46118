//! From a change to `Ready`: when it is decided, and what it says.

use std::time::Duration;

use serde_json::{Value, json};
use vestibule_run::desired::{Ingress, RevisionState};

use super::{READY, created};
use crate::run::testing::{NUMBER, REGION, World, caller, condition, members, place, service};
use crate::run::{json as reach, status};

#[test]
fn a_new_service_becomes_ready() {
    let world = World::new();
    world.create(service("svc", "gcr.io/cloudrun/hello"));
    let service = world.decided("svc");
    for kind in ["Ready", "ConfigurationsReady", "RoutesReady"] {
        assert_eq!(condition(&service, kind).0, "True", "{kind}");
    }
    let kinds: Vec<&Value> =
        reach::items(&service, &["status", "conditions"]).iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, ["Ready", "ConfigurationsReady", "RoutesReady"]);

    let metadata = &service["metadata"];
    assert_eq!(metadata["namespace"], NUMBER);
    assert_eq!(
        metadata["selfLink"],
        format!("/apis/serving.knative.dev/v1/namespaces/{NUMBER}/services/svc")
    );
    assert_eq!(metadata["generation"], 1);
    assert_eq!(metadata["labels"], json!({"cloud.googleapis.com/location": REGION}));
    let annotations = &metadata["annotations"];
    assert_eq!(annotations["serving.knative.dev/creator"], "me@example.com");
    assert_eq!(annotations["serving.knative.dev/lastModifier"], "me@example.com");
    assert_eq!(annotations["run.googleapis.com/ingress"], "all");
    assert_eq!(annotations["run.googleapis.com/ingress-status"], "all");
    let urls: Vec<String> =
        serde_json::from_str(annotations["run.googleapis.com/urls"].as_str().unwrap()).unwrap();
    assert_eq!(urls[0], format!("https://svc-{NUMBER}.us-central1.run.app"));
    assert_eq!(service["status"]["url"], urls[1].as_str());
    assert_eq!(service["status"]["address"]["url"], urls[1].as_str());

    let revision = created(&service);
    let (number, letters) = revision.strip_prefix("svc-").unwrap().split_once('-').unwrap();
    assert_eq!((number, letters.len()), ("00001", 3));
    assert_eq!(service["status"]["latestReadyRevisionName"], revision.as_str());
    assert_eq!(
        service["status"]["traffic"],
        json!([{"latestRevision": true, "percent": 100, "revisionName": revision}])
    );
    assert_eq!(service["status"]["observedGeneration"], 1);
    assert_eq!(service.get("vestibule"), None);
    let container = &service["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["name"], "hello-1");
    assert_eq!(
        service["spec"]["template"]["metadata"].get("name"),
        None,
        "a made-up revision name is not wanted"
    );
}

#[test]
fn ready_means_that_traffic_obeys() {
    let world = World::new();
    world.create(service("svc", "one"));
    let first = created(&world.decided("svc"));
    for round in 0..20 {
        let image = format!("image-{round}");
        let service = world
            .edit("svc", |body| body["spec"]["template"]["spec"]["containers"][0]["image"] = image.into());
        let revision = created(&service);
        // Whoever sees it ready must find the runtime obeying already.
        let service = world.decided("svc");
        assert_eq!(service["status"]["latestReadyRevisionName"], revision.as_str());
        assert_eq!(world.obeyed("svc"), [format!("{revision}=100")]);
        assert_ne!(revision, first);
    }
}

#[test]
fn a_failed_revision_leaves_traffic_where_it_was() {
    let world = World::new();
    world.create(service("svc", "one"));
    let first = created(&world.decided("svc"));
    world.edit("svc", |body| body["spec"]["template"]["spec"]["containers"][0]["image"] = "missing".into());
    let service = world.decided("svc");
    let second = created(&service);
    let message =
        format!("Revision '{second}' is not ready and cannot serve traffic. Image 'missing' not found.");
    assert_eq!(condition(&service, "Ready"), ("False", "RevisionFailed", message.as_str()));
    assert_eq!(condition(&service, "ConfigurationsReady"), ("False", "RevisionFailed", message.as_str()));
    assert_eq!(condition(&service, "RoutesReady").0, "True");
    assert_eq!(service["status"]["latestReadyRevisionName"], first.as_str());
    assert_eq!(world.obeyed("svc"), [format!("{first}=100")]);
    let desired = world.desired("svc").unwrap();
    assert!(
        desired.revisions.iter().all(|revision| *revision.name == *first),
        "what failed is not tried again"
    );

    let failed = world.control.run().revision(place(), &second).unwrap();
    assert_eq!(condition(&failed, "Ready"), ("False", "ContainerMissing", "Image 'missing' not found."));
    assert_eq!(condition(&failed, "ContainerHealthy").0, "False");

    world.edit("svc", |body| body["spec"]["template"]["spec"]["containers"][0]["image"] = "good".into());
    let service = world.decided("svc");
    assert_eq!(condition(&service, "Ready").0, "True", "the next one heals it");
}

#[test]
fn what_hinders_a_deployment_is_told_before_what_hinders_traffic() {
    let world = World::new();
    world.create(service("svc", "one"));
    world.decided("svc");
    world.edit("svc", |body| body["spec"]["traffic"] = json!([{"revisionName": "svc-nope", "percent": 100}]));
    let service = world.decided("svc");
    let (status, reason, message) = condition(&service, "Ready");
    assert_eq!((status, reason), ("False", "RevisionMissing"), "{message}");
    world.edit("svc", |body| body["spec"]["template"]["spec"]["containers"][0]["image"] = "missing".into());
    let service = world.decided("svc");
    assert_eq!(condition(&service, "Ready").1, "RevisionFailed", "{service}");
    assert_eq!(condition(&service, "RoutesReady").1, "RevisionMissing");
}

#[test]
fn a_first_revision_that_fails_fails_everything() {
    let world = World::new();
    world.create(service("svc", "missing"));
    let service = world.decided("svc");
    for kind in ["Ready", "ConfigurationsReady", "RoutesReady"] {
        assert_eq!(condition(&service, kind).0, "False", "{kind}");
    }
    assert!(world.obeyed("svc").is_empty());
}

#[test]
fn nothing_is_decided_before_the_runtime_says_so() {
    let world = World::new();
    let service = world.create(service("svc", "slow"));
    assert_eq!(condition(&service, "Ready"), ("Unknown", "Deploying", "Deploying Revision."));
    assert_eq!(service["status"]["observedGeneration"], 1);
    let revision = created(&service);
    let desired = world.desired("svc").unwrap();
    assert_eq!((desired.revisions.len(), desired.revisions[0].proven), (1, false));
    let operation =
        reach::text(&service, &["metadata", "annotations", "run.googleapis.com/operation-id"]).unwrap();
    let running = world.control.run().operation(place(), operation).unwrap();
    assert_eq!(running.get("done"), None);

    let waiting = std::thread::spawn({
        let (control, operation) = (world.control.clone(), operation.to_owned());
        move || control.run().wait(place(), &operation, Duration::from_secs(20)).unwrap()
    });
    world.report("svc", &revision, READY);
    let done = waiting.join().unwrap();
    assert_eq!(done["done"], true);
    assert_eq!(done["name"], format!("projects/demo/locations/us-central1/operations/{operation}"));
    assert_eq!(condition(&done["response"], "Ready").0, "True");
    assert_eq!(done["response"]["@type"], "type.googleapis.com/google.cloud.run.v1.Service");
    assert_eq!(world.obeyed("svc"), [format!("{revision}=100")], "what it says is so");
    assert!(world.desired("svc").unwrap().revisions[0].proven);
}

#[test]
fn late_reports_harm_nothing() {
    let world = World::new();
    let first = created(&world.create(service("svc", "slow")));
    world.report("svc", &first, READY);
    world.decided("svc");
    world.report("svc", &first, RevisionState::Failed { reason: "X".into(), message: "late".into() });
    world.report("svc", &first, RevisionState::Deploying);
    world.report("svc", "svc-gone", READY);
    assert_eq!(condition(&world.get("svc"), "Ready").0, "True");
}

#[test]
fn what_was_ready_is_ready_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        crate::Control::open(vestibule_store::Store::open(dir.path()).unwrap(), crate::Settings::default())
    };
    let told = {
        let control = open();
        let made = control.run().create(caller(), place(), members(service("svc", "one"))).unwrap();
        assert!(!status::is_decided(&made), "no runtime, no decision, and no waiting for one");
        let report = vestibule_run::desired::RevisionReport {
            service: crate::run::desired(&control.view()).services[0].key.clone(),
            revision: created(&made).as_str().into(),
            state: READY,
        };
        crate::run::reconcile::record(&control, &report).unwrap();
        created(&made)
    };
    let control = open();
    let (tell, seen) = std::sync::mpsc::channel();
    let reconciler = crate::run::reconcile::start(control.clone(), move |desired| {
        let _ = tell.send(desired);
    })
    .unwrap();
    let desired = seen.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(*desired.services[0].traffic[0].revision, *told);
    assert!(desired.services[0].revisions[0].proven);
    let decided = crate::run::operations::wait_for(&control, Duration::from_secs(20), |_| {
        control.run().get(place(), "svc").ok().filter(status::is_decided)
    });
    assert_eq!(condition(&decided.unwrap(), "Ready").0, "True");
    drop(reconciler);
}

#[test]
fn ingress_is_in_force_when_it_says_so() {
    let world = World::new();
    world.create(service("svc", "one"));
    world.decided("svc");
    let service = world.edit("svc", |body| {
        body["metadata"]["annotations"]["run.googleapis.com/ingress"] = "internal".into()
    });
    assert_eq!(service["metadata"]["annotations"]["run.googleapis.com/ingress-status"], "internal");
    assert_eq!(world.desired("svc").unwrap().ingress, Ingress::Internal);
}
