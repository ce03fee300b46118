//! What is read: lists, places, routes, configurations, and what the runtime is told.

use std::time::Duration;

use serde_json::{Value, json};
use vestibule_run::desired::{Ingress, ProbeKind, Protocol};

use super::created;
use crate::Error;
use crate::run::testing::{NUMBER, PROJECT, REGION, World, caller, condition, members, place, service};
use crate::run::{DEFAULT_LOCATION, Place, json as reach};

#[test]
fn lists_are_newest_first_and_can_be_narrowed() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        let mut body = service(name, "one");
        body["spec"]["template"]["metadata"]["labels"]["client.knative.dev/nonce"] =
            format!("nonce{name}").into();
        body["metadata"]["labels"]["app"] = name.into();
        world.create(body);
    }
    let names = |list: &[Value]| -> Vec<String> {
        list.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let list = |selector: &str| names(&world.control.run().list(place(), selector).unwrap().items);
    assert_eq!(list(""), ["c", "b", "a"]);
    assert_eq!(list("app in (a, c)"), ["c", "a"]);
    let found = world.revisions("client.knative.dev/nonce = nonceb");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["metadata"]["labels"]["serving.knative.dev/service"], "b");
    assert_eq!(world.revisions("serving.knative.dev/service=c").len(), 1);
    assert!(world.control.run().list(place(), "a b").is_err());

    let abroad = Place::new(PROJECT, Some("europe-west1"));
    world.control.run().create(caller(), abroad, members(service("a", "one"))).unwrap();
    let everywhere = world.control.run().list(Place::new(PROJECT, Some("-")), "").unwrap();
    assert_eq!(names(&everywhere.items), ["a", "c", "b", "a"]);
    assert_eq!(list("").len(), 3);
}

#[test]
fn without_a_region_a_service_is_found_where_it_is() {
    let world = World::new();
    let nowhere = Place::new(PROJECT, None);
    let abroad = Place::new(PROJECT, Some("europe-west1"));
    world.control.run().create(caller(), abroad, members(service("far", "one"))).unwrap();
    let location = |service: &Value| service["metadata"]["labels"]["cloud.googleapis.com/location"].clone();
    assert_eq!(location(&world.control.run().get(nowhere, "far").unwrap()), "europe-west1");
    let made = world.control.run().create(caller(), nowhere, members(service("here", "one"))).unwrap();
    assert_eq!(location(&made), DEFAULT_LOCATION);
    world.control.run().create(caller(), nowhere, members(service("far", "one"))).unwrap();
    assert_eq!(location(&world.control.run().get(nowhere, "far").unwrap()), DEFAULT_LOCATION);
    let moon = Place::new(PROJECT, Some("moon-base1"));
    assert!(matches!(
        world.control.run().create(caller(), moon, members(service("x", "one"))),
        Err(Error::NotFound { .. })
    ));

    let operation =
        reach::text(&made, &["metadata", "annotations", "run.googleapis.com/operation-id"]).unwrap();
    assert!(
        world.control.run().wait(abroad, operation, Duration::ZERO).is_ok(),
        "an operation's id is enough"
    );
}

#[test]
fn what_the_runtime_is_told() {
    let world = World::new();
    let mut body = service("svc", "one");
    body["metadata"]["annotations"] = json!({
        "run.googleapis.com/ingress": "internal-and-cloud-load-balancing",
        "run.googleapis.com/custom-audiences": r#"["https://api.internal"]"#,
        "run.googleapis.com/default-url-disabled": "true",
        "run.googleapis.com/invoker-iam-disabled": "true",
        "run.googleapis.com/minScale": "4",
    });
    body["spec"]["template"] = json!({
        "metadata": {"annotations": {"autoscaling.knative.dev/minScale": "1", "autoscaling.knative.dev/maxScale": "3"}},
        "spec": {
            "containerConcurrency": 7, "timeoutSeconds": 9, "serviceAccountName": "caller@demo.iam.gserviceaccount.com",
            "containers": [{
                "image": "one", "command": ["run"], "args": ["-v"],
                "env": [{"name": "A", "value": "b"}, {"name": "C"}],
                "ports": [{"name": "h2c", "containerPort": 9000}],
                "resources": {"limits": {"memory": "1Gi"}},
                "startupProbe": {"httpGet": {"path": "/up"}, "periodSeconds": 3, "timeoutSeconds": 2, "failureThreshold": 4, "initialDelaySeconds": 1},
            }],
        },
    });
    world.create(body);
    world.decided("svc");
    let service = world.desired("svc").unwrap();
    assert_eq!(service.ingress, Ingress::InternalAndCloudLoadBalancing);
    assert!(service.invoker_check_disabled && service.default_url_disabled);
    assert!(service.audiences.contains(&"https://api.internal".to_owned()));
    assert_eq!(&*service.project_number, NUMBER);
    assert!(service.hosts.contains(&format!("svc-{NUMBER}.us-central1.run.app")));
    let revision = &service.revisions[0];
    assert_eq!(
        (revision.container.image.as_str(), revision.port, revision.protocol),
        ("one", 9000, Protocol::H2c)
    );
    assert_eq!(
        (revision.container.command.as_slice(), revision.container.args.as_slice()),
        (&["run".to_owned()][..], &["-v".to_owned()][..])
    );
    assert_eq!(revision.container.env, [("A".to_owned(), "b".to_owned()), ("C".to_owned(), String::new())]);
    assert_eq!((revision.concurrency, revision.timeout), (7, Duration::from_secs(9)));
    assert_eq!((revision.min_instances, revision.max_instances), (3, 3), "four are wanted and three allowed");
    assert_eq!(revision.service_account, "caller@demo.iam.gserviceaccount.com");
    assert_eq!(revision.container.name, "one-1");
    assert_eq!(
        (revision.container.limits["cpu"].as_str(), revision.container.limits["memory"].as_str()),
        ("1000m", "1Gi")
    );
    let probe = revision.container.startup_probe.as_ref().unwrap();
    assert_eq!(probe.kind, ProbeKind::Http { port: 9000, path: "/up".into(), headers: vec![] });
    assert_eq!((probe.period.as_secs(), probe.timeout.as_secs(), probe.failure_threshold), (3, 2, 4));
    assert_eq!(probe.initial_delay.as_secs(), 1);
}

#[test]
fn routes_and_configurations_are_parts_of_a_service() {
    let world = World::new();
    world.create(service("svc", "one"));
    let service = world.decided("svc");
    let run = world.control.run();
    let route = run.route(place(), "svc").unwrap();
    assert_eq!(
        (&route["kind"], &route["status"]["traffic"]),
        (&json!("Route"), &service["status"]["traffic"])
    );
    assert_eq!(condition(&route, "Ready").0, "True");
    let configuration = run.configuration(place(), "svc").unwrap();
    assert_eq!(configuration["spec"]["template"], service["spec"]["template"]);
    assert_eq!(
        configuration["status"]["latestReadyRevisionName"],
        service["status"]["latestReadyRevisionName"]
    );
    assert_eq!(run.routes(place(), "serving.knative.dev/service = svc").unwrap().items, [route]);
    assert_eq!(run.configurations(place(), "").unwrap().items, [configuration]);
    assert!(run.locations(PROJECT).iter().any(|location| location["locationId"] == REGION));
}

#[test]
fn a_revision_tells_all_about_itself() {
    let world = World::new();
    world.create(service("svc", "gcr.io/cloudrun/hello"));
    let name = created(&world.decided("svc"));
    let revision = world.control.run().revision(place(), &name).unwrap();
    let labels = &revision["metadata"]["labels"];
    for (label, value) in [
        ("client.knative.dev/nonce", "abcdefghij"),
        ("serving.knative.dev/service", "svc"),
        ("serving.knative.dev/configuration", "svc"),
        ("serving.knative.dev/configurationGeneration", "1"),
        ("serving.knative.dev/route", "svc"),
        ("cloud.googleapis.com/location", REGION),
    ] {
        assert_eq!(labels[label], value, "{label}");
    }
    assert_eq!(revision["status"]["imageDigest"], "gcr.io/cloudrun/hello@sha256:00");
    assert_eq!(revision["spec"]["containers"][0]["name"], "hello-1");
    assert_eq!(revision["metadata"]["annotations"]["autoscaling.knative.dev/maxScale"], "100");
    let kinds: Vec<&Value> =
        reach::items(&revision, &["status", "conditions"]).iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, ["Ready", "Active", "ContainerHealthy", "ResourcesAvailable"]);
    assert_eq!(revision.get("vestibule"), None);
}
