use std::time::Duration;

use serde_json::{Value, json};
use vestibule_iam::Principal;
use vestibule_run::desired::{Ingress, ProbeKind, Protocol, RevisionState};

use super::testing::{NUMBER, PROJECT, REGION, World, caller, condition, members, place, service};
use super::{Caller, DEFAULT_LOCATION, Place, json as reach, status};
use crate::Error;

const READY: RevisionState = RevisionState::Ready { image_digest: String::new() };

fn created(service: &Value) -> String {
    service["status"]["latestCreatedRevisionName"].as_str().unwrap().to_owned()
}

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
fn gcloud_s_no_traffic_and_tags() {
    let world = World::new();
    world.create(service("svc", "one"));
    let first = created(&world.decided("svc"));
    let mut body = world.get("svc");
    body["spec"]["template"]["metadata"] = json!({"labels": {}, "name": "svc-00002-abc"});
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "two".into();
    body["spec"]["traffic"] =
        json!([{"revisionName": first, "percent": 100}, {"revisionName": "svc-00002-abc", "tag": "canary"}]);
    world.replace("svc", body);
    let service = world.decided("svc");
    assert_eq!(created(&service), "svc-00002-abc");
    assert_eq!(world.obeyed("svc"), [format!("{first}=100"), "svc-00002-abc=0:canary".to_owned()]);
    let tagged = &service["status"]["traffic"][1];
    let url = tagged["url"].as_str().unwrap();
    assert!(url.starts_with("https://canary---svc-") && url.ends_with("-uc.a.run.app"), "{url}");
    let audiences = &world.desired("svc").unwrap().audiences;
    assert!(audiences.iter().any(|audience| audience == url));
    assert!(audiences.contains(&format!("https://canary---svc-{NUMBER}.us-central1.run.app")));

    // Half and half, then all to the latest: no new revision either time.
    let split = json!([{"revisionName": first, "percent": 50}, {"latestRevision": true, "percent": 50}]);
    world.edit("svc", |body| body["spec"]["traffic"] = split);
    world.decided("svc");
    assert_eq!(world.obeyed("svc"), [format!("{first}=50"), "svc-00002-abc=50".to_owned()]);
    world.edit("svc", |body| body["spec"]["traffic"] = json!([{"latestRevision": true, "percent": 100}]));
    let service = world.decided("svc");
    assert_eq!(service["metadata"]["generation"], 4);
    assert_eq!(world.revisions("").len(), 2);
    assert_eq!(world.obeyed("svc"), ["svc-00002-abc=100"]);
    let active =
        |name: &str| condition(&world.control.run().revision(place(), name).unwrap(), "Active").0.to_owned();
    assert_eq!((active(&first), active("svc-00002-abc")), ("False".to_owned(), "True".to_owned()));
}

#[test]
fn traffic_to_a_revision_that_is_not_there_is_refused_and_moves_nothing() {
    let world = World::new();
    world.create(service("svc", "one"));
    let first = created(&world.decided("svc"));
    world.edit("svc", |body| body["spec"]["traffic"] = json!([{"revisionName": "svc-nope", "percent": 100}]));
    let service = world.decided("svc");
    assert_eq!(condition(&service, "Ready").1, "RevisionMissing");
    assert_eq!(condition(&service, "RoutesReady").0, "False");
    assert_eq!(world.obeyed("svc"), [format!("{first}=100")]);
}

#[test]
fn only_a_changed_template_makes_a_revision() {
    let world = World::new();
    world.create(service("svc", "one"));
    world.decided("svc");
    let same = world.edit("svc", |_| {});
    assert_eq!(same["metadata"]["generation"], 1, "nothing was asked for");
    let labelled = world.edit("svc", |body| body["metadata"]["labels"]["team"] = "a".into());
    assert_eq!(labelled["metadata"]["generation"], 2, "a label is a change");
    assert_eq!(world.revisions("").len(), 1, "but no revision");
    world.edit("svc", |body| body["spec"]["template"]["spec"]["containerConcurrency"] = 5.into());
    world.decided("svc");
    assert_eq!(world.revisions("").len(), 2);

    let mut fresh = service("svc", "one");
    fresh["spec"]["template"]["spec"]["containerConcurrency"] = 5.into();
    fresh["metadata"]["labels"]["team"] = "a".into();
    assert_eq!(
        world.replace("svc", fresh)["metadata"]["generation"],
        3,
        "what was left out was filled in already"
    );
}

#[test]
fn old_revisions_are_forgotten_unless_traffic_names_them() {
    use super::change::KEEP_REVISIONS;
    let world = World::new();
    world.create(service("svc", "one"));
    let first = created(&world.decided("svc"));
    world.edit("svc", |body| {
        body["spec"]["traffic"] =
            json!([{"latestRevision": true, "percent": 100}, {"revisionName": first, "tag": "first"}]);
    });
    for round in 0..KEEP_REVISIONS + 3 {
        let image = format!("image-{round}");
        world.edit("svc", |body| {
            body["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        });
    }
    let service = world.decided("svc");
    assert_eq!(condition(&service, "Ready").0, "True");
    let kept = world.revisions("");
    let names: Vec<&str> =
        kept.iter().map(|revision| revision["metadata"]["name"].as_str().unwrap()).collect();
    assert!(names.len() <= KEEP_REVISIONS + 1, "{}", names.len());
    assert_eq!(names.last(), Some(&first.as_str()), "the tagged one stays");
    assert!(!names.iter().any(|name| name.starts_with("svc-00002-")));
}

#[test]
fn a_stale_write_loses() {
    let world = World::new();
    world.create(service("svc", "one"));
    let read = world.decided("svc");
    let mut first = read.clone();
    first["metadata"]["labels"]["a"] = "1".into();
    world.replace("svc", first);
    let mut second = read.clone();
    second["metadata"]["labels"]["b"] = "1".into();
    match world.try_replace("svc", second.clone()) {
        Err(Error::Aborted { message }) => {
            let version = read["metadata"]["resourceVersion"].as_str().unwrap();
            assert!(
                message
                    .starts_with(&format!("Conflict for resource 'svc': version '{version}' was specified")),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    second["metadata"]["resourceVersion"] = Value::Null;
    assert!(world.try_replace("svc", second).is_ok(), "without a version nothing is compared");
}

#[test]
fn a_deployment_s_own_progress_is_no_conflict() {
    let world = World::new();
    let accepted = world.create(service("svc", "slow"));
    world.report("svc", &created(&accepted), READY);
    world.decided("svc");
    let mut body = accepted;
    body["metadata"]["labels"]["a"] = "1".into();
    assert!(world.try_replace("svc", body).is_ok());
}

#[test]
fn names() {
    let world = World::new();
    world.create(service("svc", "one"));
    match world.try_create(service("svc", "one")) {
        Err(Error::AlreadyExists { message }) => assert_eq!(message, "Resource 'svc' already exists."),
        other => panic!("{other:?}"),
    }
    assert!(matches!(world.try_create(service("Svc", "one")), Err(Error::Invalid { .. })));
    assert!(matches!(world.try_create(service("", "one")), Err(Error::Required { .. })));
    assert!(matches!(world.try_replace("other", service("svc", "one")), Err(Error::Invalid { .. })));
    match world.try_replace("nope", service("nope", "one")) {
        Err(Error::NotFound { message }) => assert_eq!(
            message,
            "Resource 'nope' of kind 'SERVICE' in region 'us-central1' in project 'demo' does not exist."
        ),
        other => panic!("{other:?}"),
    }
    let mut named = service("svc", "two");
    named["spec"]["template"]["metadata"]["name"] = "other-1".into();
    assert!(matches!(world.try_replace("svc", named), Err(Error::Invalid { .. })));
    let first = created(&world.decided("svc"));
    let mut taken = service("svc", "two");
    taken["spec"]["template"]["metadata"]["name"] = first.as_str().into();
    match world.try_replace("svc", taken) {
        Err(Error::AlreadyExists { message }) => {
            assert_eq!(
                message,
                format!("Revision named '{first}' with different configuration already exists.")
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = World::new();
    let dry = Caller { dry_run: true, ..caller() };
    let would = world.control.run().create(dry, place(), members(service("svc", "one"))).unwrap();
    assert_eq!(would["metadata"]["generation"], 1);
    assert!(world.control.run().get(place(), "svc").is_err());
    let mut bad = service("svc", "one");
    bad["spec"]["template"]["spec"]["timeoutSeconds"] = 9999.into();
    assert!(world.control.run().create(dry, place(), members(bad)).is_err());

    world.create(service("svc", "one"));
    let before = world.decided("svc");
    world.control.run().replace(dry, place(), "svc", members(service("svc", "two"))).unwrap();
    world.control.run().remove(dry, &super::name::Name::new(PROJECT, REGION, "svc"), |_| Ok(())).unwrap();
    assert_eq!(world.get("svc"), before);
}

#[test]
fn deletion_takes_everything_along() {
    let world = World::new();
    world.create(service("svc", "one"));
    world.decided("svc");
    let request = json!({"policy": {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}});
    world.control.run().set_policy(place(), "svc", &request).unwrap();
    let answer = world.control.run().delete(caller(), place(), "svc").unwrap();
    assert_eq!(answer, json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}));
    assert!(world.desired("svc").is_none(), "nothing serves any more");
    let view = world.control.view();
    let left: Vec<_> =
        view.range("").map(|kv| kv.key.to_string()).filter(|key| !key.contains("/operations/")).collect();
    assert_eq!(left, [] as [String; 0]);
    assert!(matches!(world.control.run().delete(caller(), place(), "svc"), Err(Error::NotFound { .. })));

    world.create(service("svc", "one"));
    let policy = world.control.run().policy(place(), "svc", 3).unwrap();
    assert_eq!(policy, json!({"etag": "ACAB"}), "a new service has no one else's policy");
}

#[test]
fn a_revision_in_use_stays() {
    let world = World::new();
    world.create(service("svc", "one"));
    let first = created(&world.decided("svc"));
    let delete = |name: &str| world.control.run().delete_revision(caller(), place(), name);
    assert!(matches!(delete(&first), Err(Error::FailedPrecondition { .. })));
    world.edit("svc", |body| body["spec"]["template"]["spec"]["containers"][0]["image"] = "two".into());
    world.decided("svc");
    assert!(delete(&first).is_ok());
    assert!(matches!(delete(&first), Err(Error::NotFound { .. })));
    assert_eq!(condition(&world.get("svc"), "Ready").0, "True");
}

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
fn policies() {
    let world = World::new();
    let run = world.control.run();
    let me = Principal::local();
    let asked = ["run.services.setIamPolicy".to_owned()];
    let held = run.test_permissions(place(), "not-yet", &asked, &me).unwrap();
    assert_eq!(
        held,
        json!({"permissions": asked}),
        "the project's owner may, even before the service exists"
    );
    let stranger = Principal::from_email("x@example.com");
    assert_eq!(run.test_permissions(place(), "not-yet", &asked, &stranger).unwrap(), json!({}));
    assert!(matches!(run.policy(place(), "not-yet", 3), Err(Error::NotFound { .. })));

    world.create(service("svc", "one"));
    let bindings = json!([{"role": "roles/run.invoker", "members": ["allUsers"]}]);
    let set =
        run.set_policy(place(), "svc", &json!({"policy": {"bindings": bindings, "etag": "ACAB"}})).unwrap();
    assert_eq!(set["bindings"], bindings);
    assert_eq!(run.policy(place(), "svc", 1).unwrap(), set);
    let policies = &world.desired("svc").unwrap().policies;
    assert!(
        policies[0].allows("run.routes.invoke", &Principal::Anonymous),
        "it is obeyed when the answer comes"
    );
    assert!(policies[1].allows("run.routes.invoke", &me), "the project's counts too");

    let stale = run.set_policy(place(), "svc", &json!({"policy": {"etag": "ACAB"}}));
    match stale {
        Err(Error::Aborted { message }) => {
            assert!(message.starts_with("There were concurrent policy changes."), "{message}")
        }
        other => panic!("{other:?}"),
    }
    let bad = json!({"policy": {"bindings": [{"role": "invoker", "members": ["allUsers"]}]}});
    assert!(matches!(run.set_policy(place(), "svc", &bad), Err(Error::Invalid { .. })));
    assert!(matches!(run.set_policy(place(), "nope", &json!({"policy": {}})), Err(Error::NotFound { .. })));
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

#[test]
fn manual_scaling_shares_instances_by_traffic() {
    let world = World::new();
    world.create(service("svc", "one"));
    let first = created(&world.decided("svc"));
    world.edit("svc", |body| {
        body["metadata"]["annotations"]["run.googleapis.com/scalingMode"] = "manual".into();
        body["metadata"]["annotations"]["run.googleapis.com/manualInstanceCount"] = "5".into();
        body["spec"]["template"]["spec"]["containers"][0]["image"] = "two".into();
        body["spec"]["traffic"] =
            json!([{"revisionName": first, "percent": 30}, {"latestRevision": true, "percent": 70}]);
    });
    world.decided("svc");
    let desired = world.desired("svc").unwrap();
    let counts: Vec<_> = desired.revisions.iter().map(|r| (r.min_instances, r.max_instances)).collect();
    assert_eq!(counts, [(2, 2), (4, 4)]);
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
            service: super::desired(&control.view()).services[0].key.clone(),
            revision: created(&made).as_str().into(),
            state: READY,
        };
        super::reconcile::record(&control, &report).unwrap();
        created(&made)
    };
    let control = open();
    let (tell, seen) = std::sync::mpsc::channel();
    let reconciler = super::reconcile::start(control.clone(), move |desired| {
        let _ = tell.send(desired);
    })
    .unwrap();
    let desired = seen.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(*desired.services[0].traffic[0].revision, *told);
    assert!(desired.services[0].revisions[0].proven);
    let decided = super::operations::wait_for(&control, Duration::from_secs(20), |_| {
        control.run().get(place(), "svc").ok().filter(status::is_decided)
    });
    assert_eq!(condition(&decided.unwrap(), "Ready").0, "True");
    drop(reconciler);
}
