//! What holds for every kind: receipts, repeated requests, races, and references that never dangle.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};
use vestibule_model::{ResourceName, Scope, time};

use super::ranges::Range;
use super::testing::{PROJECT, World, call, members};
use super::{Call, KEEP_FOR, references};
use crate::{Control, Error, Plane, Settings, document};

const SUBNETS: &str = "regions/us-central1/subnetworks";
const REQUEST: &str = "6a0d1b2c-3d4e-5f60-7182-93a4b5c6d7e8";

fn network(name: &str) -> Value {
    json!({"name": name, "autoCreateSubnetworks": false})
}

fn with_id(id: &str) -> Call {
    Call { request_id: Some(id.into()), ..call() }
}

fn scope_of(operation: &Value) -> Scope {
    match operation["region"].as_str() {
        Some(region) => Scope::region(region.rsplit('/').next().unwrap()),
        None => Scope::Global,
    }
}

// --- receipts -----------------------------------------------------------------------------------------------

#[test]
fn an_operation_has_what_gcloud_and_terraform_need() {
    let world = World::new();
    world.network("n");
    let operation = world.try_subnetwork("s", "n", "10.0.0.0/24").unwrap();
    let name = operation["name"].as_str().unwrap();
    let region = "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1";
    for (field, value) in [
        ("kind", json!("compute#operation")),
        ("operationType", json!("insert")),
        ("status", json!("DONE")),
        ("progress", json!(100)),
        ("targetLink", json!(format!("{region}/subnetworks/s"))),
        ("selfLink", json!(format!("{region}/operations/{name}"))),
        ("region", json!(region)),
        ("user", json!("user:tester@vestibule")),
    ] {
        assert_eq!(operation[field], value, "{field}");
    }
    assert_eq!(operation["targetId"], world.get(&format!("{SUBNETS}/s"))["id"]);
    assert!(operation.get("error").is_none() && operation.get("warnings").is_none());
    for field in ["insertTime", "startTime", "endTime"] {
        assert!(time::parse(operation[field].as_str().unwrap()).is_some(), "{field}");
    }
    let compute = world.control.compute();
    let again = compute.operation(PROJECT, &scope_of(&operation), name).unwrap();
    assert_eq!(again, operation);
    let waited = compute.wait(PROJECT, &scope_of(&operation), name, Duration::from_secs(60)).unwrap();
    assert_eq!(waited, operation);
    let listed = compute.operations(PROJECT, &Scope::region("us-central1"));
    assert_eq!(listed, std::slice::from_ref(&operation));
    compute.delete_operation(PROJECT, &scope_of(&operation), name).unwrap();
    assert!(matches!(compute.operation(PROJECT, &scope_of(&operation), name), Err(Error::NotFound { .. })));
    world.get(&format!("{SUBNETS}/s"));
}

#[test]
fn an_operation_is_done_when_every_plane_has_taken_it_over() {
    let world = World::new();
    let planes = world.control.planes().clone();
    planes.register(Plane::Lb);
    let compute = world.control.compute();
    let first = std::thread::scope(|scope| {
        // Nobody acknowledges: the call gives up waiting and answers a running operation.
        let pending = scope.spawn(|| world.insert("global/networks", network("n")));
        pending.join().unwrap()
    });
    assert_eq!((&first["status"], &first["progress"]), (&json!("RUNNING"), &json!(0)));
    assert!(first.get("endTime").is_none());
    let name = first["name"].as_str().unwrap();
    let brief = compute.wait(PROJECT, &Scope::Global, name, Duration::from_millis(1)).unwrap();
    assert_eq!(brief["status"], "RUNNING");
    let done = std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| compute.wait(PROJECT, &Scope::Global, name, Duration::from_secs(60)).unwrap());
        planes.ack(Plane::Lb, world.control.view().revision());
        waiting.join().unwrap()
    });
    assert_eq!((&done["status"], &done["progress"]), (&json!("DONE"), &json!(100)));
    assert!(done["endTime"].as_str() >= done["startTime"].as_str());
    assert_eq!(compute.operation(PROJECT, &Scope::Global, name).unwrap(), done);
}

#[test]
fn what_a_plane_could_not_do_ends_the_operation_with_an_error() {
    let world = World::new();
    world.network("n");
    world.subnetwork("other", "n", "10.9.0.0/24");
    let planes = world.control.planes().clone();
    planes.register(Plane::Lb);
    planes.ack(Plane::Lb, world.control.view().revision());
    let compute = world.control.compute();
    let operation = std::thread::scope(|scope| {
        let pending = scope.spawn(|| world.try_subnetwork("s", "n", "10.0.0.0/24").unwrap());
        let revision = loop {
            let view = world.control.view();
            if view.get(&world.name(&format!("{SUBNETS}/s")).key()).is_some() {
                break view.revision();
            }
            std::thread::yield_now();
        };
        let failure = Error::FailedPrecondition { message: "The address cannot be bound.".into() };
        compute.report_failures(&[(world.name(&format!("{SUBNETS}/s")), failure)], revision).unwrap();
        planes.ack(Plane::Lb, revision);
        pending.join().unwrap()
    });
    assert_eq!(operation["status"], "DONE");
    assert_eq!(operation["error"]["errors"][0]["message"], "The address cannot be bound.");
    let settled = compute.operations(PROJECT, &Scope::region("us-central1"));
    assert_eq!(settled.iter().filter(|operation| operation.get("error").is_some()).count(), 1);
}

#[test]
fn old_operations_go_in_passing() {
    let world = World::new();
    world.insert_as(&with_id(REQUEST), "global/networks", network("n")).unwrap();
    let view = world.control.view();
    let old = view.range("compute/projects/demo/global/operations/").next().unwrap();
    let mut doc = document::object(&old.value).clone();
    let long_ago = jiff::Timestamp::now() - KEEP_FOR - SignedDuration::from_secs(1);
    doc.insert("insertTime".into(), time::compute(long_ago).into());
    let key = old.key.to_string();
    let put = |change: &mut crate::Change<'_>| {
        change.put(&key, Value::Object(doc));
        Ok(())
    };
    world.control.change(put).unwrap();

    // The log is read when the control plane opens.
    let store = world.control.store().clone();
    let control = Control::open(store, Settings::default());
    control.compute().insert(&call(), PROJECT, &Scope::Global, "networks", members(network("m"))).unwrap();
    let view = control.view();
    assert!(view.get(&key).is_none());
    assert_eq!(view.range("requests/").count(), 0);
    assert_eq!(view.range("compute/projects/demo/global/operations/").count(), 1);
}

#[test]
fn a_restart_keeps_everything_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Control::open(vestibule_store::Store::open(dir.path()).unwrap(), Settings::default());
    let control = open();
    let insert = |control: &Control, name: &str| {
        control.compute().insert(&call(), PROJECT, &Scope::Global, "networks", members(network(name)))
    };
    let operation = insert(&control, "n").unwrap();
    drop(control);
    let control = open();
    let name = ResourceName::new(PROJECT, Scope::Global, "networks", "n");
    assert_eq!(control.compute().get(&name).unwrap()["name"], "n");
    let name = operation["name"].as_str().unwrap();
    assert_eq!(control.compute().operation(PROJECT, &Scope::Global, name).unwrap()["status"], "DONE");
    assert!(matches!(insert(&control, "n"), Err(Error::AlreadyExists { .. })));
}

// --- repeated requests --------------------------------------------------------------------------------------

#[test]
fn a_repeated_request_has_one_effect_and_one_receipt() {
    let world = World::new();
    let first = world.insert_as(&with_id(REQUEST), "global/networks", network("n")).unwrap();
    assert_eq!(first["clientOperationId"], REQUEST);
    let again = world.insert_as(&with_id(REQUEST), "global/networks", network("n")).unwrap();
    assert_eq!(again, first);
    let upper = REQUEST.to_uppercase();
    assert_eq!(world.insert_as(&with_id(&upper), "global/networks", network("n")).unwrap(), first);

    // A deletion that is repeated does not delete what was made since.
    let delete = "00000000-0000-4000-8000-000000000001";
    let path = world.name("global/networks/n");
    let gone = world.control.compute().delete(&with_id(delete), &path).unwrap();
    world.network("n");
    assert_eq!(world.control.compute().delete(&with_id(delete), &path).unwrap(), gone);
    world.get("global/networks/n");
}

#[test]
fn a_request_id_stands_for_one_request() {
    let world = World::new();
    world.insert_as(&with_id(REQUEST), "global/networks", network("n")).unwrap();
    let other = world.insert_as(&with_id(REQUEST), "global/networks", network("m"));
    assert!(matches!(other, Err(Error::Invalid { field, .. }) if field == "requestId"));
    let bad = world.insert_as(&with_id("not-a-uuid"), "global/networks", network("m"));
    assert!(matches!(bad, Err(Error::Invalid { field, .. }) if field == "requestId"));
    // A refused request leaves nothing behind: corrected, it may be sent again under its id.
    let id = "00000000-0000-4000-8000-000000000002";
    assert!(world.insert_as(&with_id(id), "global/networks", network("n")).is_err());
    world.delete("global/networks/n");
    world.insert_as(&with_id(id), "global/networks", network("n")).unwrap();
}

#[test]
fn a_failed_operation_is_repeated_as_it_was() {
    let world = World::new();
    world.network("n");
    world.subnetwork("s", "n", "10.0.0.0/24");
    let path = world.name("global/networks/n");
    let failed = world.control.compute().delete(&with_id(REQUEST), &path).unwrap();
    assert_eq!(failed["targetId"], world.get("global/networks/n")["id"]);
    world.delete(&format!("{SUBNETS}/s"));
    assert_eq!(world.control.compute().delete(&with_id(REQUEST), &path).unwrap(), failed);
}

// --- races --------------------------------------------------------------------------------------------------

#[test]
fn of_racing_patches_exactly_one_wins() {
    let world = World::new();
    world.network("n");
    world.subnetwork("s", "n", "10.0.0.0/24");
    let path = format!("{SUBNETS}/s");
    for round in 0..20 {
        let fingerprint = world.get(&path)["fingerprint"].clone();
        let start = Barrier::new(4);
        let won: Vec<usize> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4)
                .map(|racer| {
                    let patch =
                        json!({"description": format!("{round}-{racer}"), "fingerprint": fingerprint});
                    let (world, path, start) = (&world, &path, &start);
                    scope.spawn(move || {
                        start.wait();
                        match world.try_patch(path, patch) {
                            Ok(_) => true,
                            Err(Error::ConditionNotMet { .. }) => false,
                            Err(other) => panic!("{other}"),
                        }
                    })
                })
                .collect();
            let outcomes: Vec<bool> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
            (0..4).filter(|racer| outcomes[*racer]).collect()
        });
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(world.get(&path)["description"], format!("{round}-{}", won[0]));
    }
}

#[test]
fn of_racing_inserts_of_overlapping_ranges_exactly_one_wins() {
    let world = World::new();
    world.network("n");
    let start = Barrier::new(4);
    let made = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|racer| {
                let (world, start) = (&world, &start);
                scope.spawn(move || {
                    start.wait();
                    let range = format!("10.0.0.0/{}", 16 + racer);
                    world.try_subnetwork(&format!("s{racer}"), "n", &range).is_ok()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).filter(|made| *made).count()
    });
    assert_eq!(made, 1);
}

#[test]
fn a_refused_change_leaves_no_trace() {
    let world = World::new();
    world.network("n");
    let before = world.control.view();
    assert!(world.try_subnetwork("s", "n", "127.0.0.0/16").is_err());
    assert!(world.try_delete("global/networks/nope").is_err());
    assert_eq!(world.control.view().revision(), before.revision());
}

// --- documents ----------------------------------------------------------------------------------------------

#[test]
fn the_client_cannot_write_what_is_the_servers() {
    let world = World::new();
    let body = json!({
        "name": "n", "autoCreateSubnetworks": false, "id": "7", "kind": "x", "selfLink": "x", "selfLinkWithId": "x",
        "creationTimestamp": "x", "subnetworks": ["x"], "peerings": [], "region": "x", "description": null,
    });
    world.insert("global/networks", body);
    let doc = world.get("global/networks/n");
    assert_eq!(doc["kind"], "compute#network");
    assert_ne!(doc["id"], "7");
    assert!(time::parse(doc["creationTimestamp"].as_str().unwrap()).is_some());
    for absent in ["subnetworks", "peerings", "region", "description", "fingerprint"] {
        assert!(doc.get(absent).is_none(), "{absent}");
    }
    world.patch("global/networks/n", json!({"id": "8", "selfLink": "y", "kind": "z"}));
    assert_eq!(world.get("global/networks/n"), doc);
    assert!(world.try_patch("global/networks/n", json!({"name": "m"})).is_err());
}

#[test]
fn what_does_not_exist_is_not_implemented_or_not_found() {
    let world = World::new();
    let unknown = world.try_insert("global/routers", json!({"name": "r"}));
    assert_eq!(unknown.unwrap_err(), Error::not_implemented("compute.routers"));
    world.network("n");
    let verb = world.try_act("global/networks/n", "addPeering", json!({}));
    assert_eq!(verb.unwrap_err(), Error::not_implemented("compute.networks.addPeering"));
    let put = world.try_update("global/networks/n", network("n"));
    assert_eq!(put.unwrap_err(), Error::not_implemented("compute.networks.update"));
    assert_eq!(
        world.try_get("global/networks/m").unwrap_err().to_string(),
        "The resource 'projects/demo/global/networks/m' was not found"
    );
    assert_eq!(
        world.try_delete("global/networks/m").unwrap_err(),
        Error::not_found("projects/demo/global/networks/m")
    );
}

#[test]
fn aggregated_lists_name_every_scope_with_something_in_it() {
    let world = World::new();
    world.network("n");
    world.subnetwork("b", "n", "10.0.0.0/24");
    world.subnetwork("a", "n", "10.0.1.0/24");
    let far = json!({"name": "c", "network": "global/networks/n", "ipCidrRange": "10.0.2.0/24"});
    world.insert("regions/asia-east1/subnetworks", far);
    let found = world.control.compute().aggregated(PROJECT, "subnetworks");
    let names: Vec<(String, Vec<&str>)> = found
        .iter()
        .map(|(scope, docs)| {
            (scope.to_string(), docs.iter().map(|doc| doc["name"].as_str().unwrap()).collect())
        })
        .collect();
    assert_eq!(
        names,
        [("regions/asia-east1".to_owned(), vec!["c"]), ("regions/us-central1".to_owned(), vec!["a", "b"])]
    );
    assert!(world.control.compute().aggregated("other", "subnetworks").is_empty());
}

// --- references never dangle --------------------------------------------------------------------------------

#[derive(Debug, Clone)]
enum Step {
    Network(u8),
    Subnetwork { name: u8, network: u8, range: u8, prefix: u8 },
    Secondary { name: u8, range: u8, prefix: u8 },
    Expand { name: u8, prefix: u8 },
    Address { name: u8, subnetwork: u8 },
    Firewall { name: u8, network: u8 },
    Delete { collection: u8, name: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (name, range, prefix) = (0u8..3, 0u8..8, 22u8..29);
    prop_oneof![
        name.clone().prop_map(Step::Network),
        (name.clone(), name.clone(), range.clone(), prefix.clone())
            .prop_map(|(name, network, range, prefix)| Step::Subnetwork { name, network, range, prefix }),
        (name.clone(), range, prefix.clone()).prop_map(|(name, range, prefix)| Step::Secondary {
            name,
            range,
            prefix
        }),
        (name.clone(), prefix).prop_map(|(name, prefix)| Step::Expand { name, prefix }),
        (name.clone(), name.clone()).prop_map(|(name, subnetwork)| Step::Address { name, subnetwork }),
        (name.clone(), name.clone()).prop_map(|(name, network)| Step::Firewall { name, network }),
        (0u8..4, name).prop_map(|(collection, name)| Step::Delete { collection, name }),
    ]
}

/// A range without host bits, at one of a few places that are apt to collide.
fn range(at: u8, prefix: u8) -> String {
    let base = u32::from_be_bytes([10, 0, at, 0]) & (u32::MAX << (32 - u32::from(prefix)));
    format!("{}/{prefix}", std::net::Ipv4Addr::from(base))
}

/// Whether the step was accepted does not matter; what holds afterwards does.
fn take(world: &World, step: Step) {
    let subnetwork = |name: u8| format!("{SUBNETS}/s{name}");
    let outcome = match step {
        Step::Network(name) => world.try_insert("global/networks", network(&format!("n{name}"))),
        Step::Subnetwork { name, network, range: at, prefix } => {
            world.try_subnetwork(&format!("s{name}"), &format!("n{network}"), &range(at, prefix))
        }
        Step::Secondary { name, range: at, prefix } => match world.try_get(&subnetwork(name)) {
            Ok(_) => {
                let ranges = json!([{"rangeName": "r", "ipCidrRange": range(at, prefix)}]);
                world.try_patch_now(&subnetwork(name), json!({"secondaryIpRanges": ranges}))
            }
            Err(error) => Err(error),
        },
        Step::Expand { name, prefix } => match world.try_get(&subnetwork(name)) {
            Ok(doc) => {
                let at = doc["ipCidrRange"].as_str().unwrap().split('.').nth(2).unwrap().parse().unwrap();
                let body = json!({"ipCidrRange": range(at, prefix)});
                world.try_act(&subnetwork(name), "expandIpCidrRange", body)
            }
            Err(error) => Err(error),
        },
        Step::Address { name, subnetwork: s } => {
            let body =
                json!({"name": format!("a{name}"), "addressType": "INTERNAL", "subnetwork": subnetwork(s)});
            world.try_insert("regions/us-central1/addresses", body)
        }
        Step::Firewall { name, network } => {
            let body = json!({
                "name": format!("f{name}"), "network": format!("global/networks/n{network}"),
                "allowed": [{"IPProtocol": "tcp"}],
            });
            world.try_insert("global/firewalls", body)
        }
        Step::Delete { collection, name } => world.try_delete(&match collection {
            0 => format!("global/networks/n{name}"),
            1 => subnetwork(name),
            2 => format!("regions/us-central1/addresses/a{name}"),
            _ => format!("global/firewalls/f{name}"),
        }),
    };
    if let Err(error @ (Error::Internal { .. } | Error::Unavailable { .. } | Error::Aborted { .. })) = outcome
    {
        panic!("{error:?}");
    }
}

/// Every reference leads somewhere, and the index of references says exactly what the documents say.
fn check_references(world: &World) {
    let view = world.control.view();
    let mut expected: Vec<String> = Vec::new();
    for kv in view.range("compute/") {
        for target in references(&kv.key, document::object(&kv.value)) {
            assert!(view.get(&target).is_some(), "{} refers to {target}", kv.key);
            expected.push(format!("uses/{target}//{}", kv.key));
        }
    }
    expected.sort();
    let index: Vec<String> = view.range("uses/").map(|kv| kv.key.to_string()).collect();
    assert_eq!(index, expected);
}

fn check_ranges(world: &World) {
    let mut by_network: BTreeMap<String, Vec<Range>> = BTreeMap::new();
    for doc in world.control.compute().list(PROJECT, &Scope::region("us-central1"), "subnetworks") {
        let taken = by_network.entry(doc["network"].to_string()).or_default();
        let secondary = document::items(document::object(&doc), "secondaryIpRanges");
        let texts =
            std::iter::once(&doc).chain(secondary).map(|holder| holder["ipCidrRange"].as_str().unwrap());
        taken.extend(texts.map(|text| Range::parse(text).unwrap()));
    }
    for taken in by_network.values() {
        for (at, range) in taken.iter().enumerate() {
            assert!(taken[..at].iter().all(|other| !other.overlaps(range)), "{taken:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ranges_never_overlap_and_references_never_dangle(steps in proptest::collection::vec(step(), 1..40)) {
        let world = World::new();
        (0..2).for_each(|name| world.network(&format!("n{name}")));
        for step in steps {
            take(&world, step);
        }
        check_references(&world);
        check_ranges(&world);
    }
}
