//! Who may write what: names, versions, dry runs, deletion, policies.

use serde_json::{Value, json};
use vestibule_iam::Principal;

use super::{READY, created};
use crate::Error;
use crate::run::Caller;
use crate::run::Guarded::Service;
use crate::run::testing::{PROJECT, REGION, World, caller, members, place, service};

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
    world
        .control
        .run()
        .remove(dry, &crate::run::name::Name::new(PROJECT, REGION, "svc"), |_| Ok(()))
        .unwrap();
    assert_eq!(world.get("svc"), before);
}

#[test]
fn deletion_takes_everything_along() {
    let world = World::new();
    world.create(service("svc", "one"));
    world.decided("svc");
    let request = json!({"policy": {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}});
    world.control.run().set_policy(place(), Service("svc"), &request).unwrap();
    let answer = world.control.run().delete(caller(), place(), "svc").unwrap();
    assert_eq!(answer, json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}));
    assert!(world.desired("svc").is_none(), "nothing serves any more");
    let view = world.control.view();
    let left: Vec<_> =
        view.range("").map(|kv| kv.key.to_string()).filter(|key| !key.contains("/operations/")).collect();
    assert_eq!(left, [] as [String; 0]);
    assert!(matches!(world.control.run().delete(caller(), place(), "svc"), Err(Error::NotFound { .. })));

    world.create(service("svc", "one"));
    let policy = world.control.run().policy(place(), Service("svc"), 3).unwrap();
    assert_eq!(policy, json!({"etag": "ACAB"}), "a new service has no one else's policy");
}

#[test]
fn policies() {
    let world = World::new();
    let run = world.control.run();
    let me = Principal::local();
    let asked = ["run.services.setIamPolicy".to_owned()];
    let held = run.test_permissions(place(), Service("not-yet"), &asked, &me).unwrap();
    assert_eq!(
        held,
        json!({"permissions": asked}),
        "the project's owner may, even before the service exists"
    );
    let stranger = Principal::from_email("x@example.com");
    assert_eq!(run.test_permissions(place(), Service("not-yet"), &asked, &stranger).unwrap(), json!({}));
    assert!(matches!(run.policy(place(), Service("not-yet"), 3), Err(Error::NotFound { .. })));

    world.create(service("svc", "one"));
    let bindings = json!([{"role": "roles/run.invoker", "members": ["allUsers"]}]);
    let set = run
        .set_policy(place(), Service("svc"), &json!({"policy": {"bindings": bindings, "etag": "ACAB"}}))
        .unwrap();
    assert_eq!(set["bindings"], bindings);
    assert_eq!(run.policy(place(), Service("svc"), 1).unwrap(), set);
    let policies = &world.desired("svc").unwrap().policies;
    assert!(
        policies[0].allows("run.routes.invoke", &Principal::Anonymous),
        "it is obeyed when the answer comes"
    );
    assert!(policies[1].allows("run.routes.invoke", &me), "the project's counts too");

    let stale = run.set_policy(place(), Service("svc"), &json!({"policy": {"etag": "ACAB"}}));
    match stale {
        Err(Error::Aborted { message }) => {
            assert!(message.starts_with("There were concurrent policy changes."), "{message}")
        }
        other => panic!("{other:?}"),
    }
    let bad = json!({"policy": {"bindings": [{"role": "invoker", "members": ["allUsers"]}]}});
    assert!(matches!(run.set_policy(place(), Service("svc"), &bad), Err(Error::Invalid { .. })));
    assert!(matches!(
        run.set_policy(place(), Service("nope"), &json!({"policy": {}})),
        Err(Error::NotFound { .. })
    ));
}
