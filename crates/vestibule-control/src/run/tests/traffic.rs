//! Revisions, and how traffic is shared among them.

use serde_json::json;

use super::created;
use crate::Error;
use crate::run::testing::{NUMBER, World, caller, condition, place, service};

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
    use crate::run::change::KEEP_REVISIONS;
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
