use serde_json::{Value, json};

use crate::Error;
use crate::compute::testing::World;

const MAPS: &str = "regions/us-central1/urlMaps";
const MAP: &str = "regions/us-central1/urlMaps/m";
const LINK: &str = "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1";

fn world_with(world: World) -> World {
    for name in ["web", "api"] {
        let body = json!({"name": name, "loadBalancingScheme": "INTERNAL_MANAGED"});
        world.insert("regions/us-central1/backendServices", body);
    }
    world
}

fn world() -> World {
    world_with(World::new())
}

fn link(service: &str) -> String {
    format!("{LINK}/backendServices/{service}")
}

#[test]
fn a_minimal_map_reads_back_as_googles() {
    let world = world();
    let sent = "http://127.0.0.1:8470/compute/v1/projects/demo/regions/us-central1/backendServices/web";
    world.insert(MAPS, json!({"name": "m", "defaultService": sent, "description": null}));
    let mut doc = world.get(MAP);
    for varying in ["id", "creationTimestamp", "fingerprint"] {
        doc.as_object_mut().unwrap().remove(varying).unwrap();
    }
    assert_eq!(
        doc,
        json!({
            "defaultService": link("web"),
            "kind": "compute#urlMap",
            "name": "m",
            "region": LINK,
            "selfLink": format!("{LINK}/urlMaps/m"),
        })
    );
}

#[test]
fn every_reference_is_made_canonical_and_the_rest_stays_as_sent() {
    let world = world();
    let sent = json!({
        "name": "m", "defaultService": "web",
        "hostRules": [{"hosts": ["*"], "pathMatcher": "p"}],
        "pathMatchers": [{
            "name": "p", "defaultService": "regions/us-central1/backendServices/web",
            "pathRules": [
                {"paths": ["/api/*"], "service": "projects/demo/regions/us-central1/backendServices/api"},
                {"paths": ["/split"], "routeAction": {
                    "weightedBackendServices": [{"backendService": "api", "weight": 100}],
                    "retryPolicy": {"numRetries": 1, "perTryTimeout": {"seconds": "1"}, "retryConditions": ["5xx"]},
                    "timeout": {"seconds": "30", "nanos": 0},
                }},
            ],
        }],
        "tests": [{"host": "h", "path": "/api/x", "service": "api"}],
    });
    world.insert(MAPS, sent);
    let doc = world.get(MAP);
    assert_eq!(
        doc["pathMatchers"],
        json!([{
            "name": "p", "defaultService": link("web"),
            "pathRules": [
                {"paths": ["/api/*"], "service": link("api")},
                {"paths": ["/split"], "routeAction": {
                    "weightedBackendServices": [{"backendService": link("api"), "weight": 100}],
                    "retryPolicy": {
                        "numRetries": 1, "perTryTimeout": {"seconds": "1", "nanos": 0}, "retryConditions": ["5xx"],
                    },
                    "timeout": {"seconds": "30", "nanos": 0},
                }},
            ],
        }])
    );
    assert_eq!(doc["tests"][0]["service"], link("api"));
    assert_eq!(
        world.get("regions/us-central1/backendServices/api")["usedBy"],
        json!([{"reference": format!("{LINK}/urlMaps/m")}])
    );
}

#[test]
fn references_are_checked_both_ways() {
    let world = world();
    assert_eq!(
        world.try_insert(MAPS, json!({"name": "m", "defaultService": "nope"})).unwrap_err().to_string(),
        "The resource 'projects/demo/regions/us-central1/backendServices/nope' was not found"
    );
    let elsewhere = json!({"name": "far", "loadBalancingScheme": "INTERNAL_MANAGED"});
    world.insert("regions/europe-west1/backendServices", elsewhere);
    let far = json!({"name": "m", "defaultService": "regions/europe-west1/backendServices/far"});
    let refused = world.try_insert(MAPS, far).unwrap_err().to_string();
    assert!(refused.starts_with("Invalid value for field 'resource.defaultService'"), "{refused}");
    world.insert(MAPS, json!({"name": "m", "defaultService": "web"}));
    assert_eq!(
        world.try_delete("regions/us-central1/backendServices/web").unwrap_err().to_string(),
        "The backend_service resource 'projects/demo/regions/us-central1/backendServices/web' is already being used \
         by 'projects/demo/regions/us-central1/urlMaps/m'"
    );
    world.try_patch_now(MAP, json!({"defaultService": "api"})).unwrap();
    world.delete("regions/us-central1/backendServices/web");
}

#[test]
fn a_bad_map_is_refused_with_its_field() {
    let world = world();
    for (extra, text) in [
        (json!({}), "Required field 'resource.defaultService' not specified"),
        (
            json!({"defaultService": "web", "hostRules": [{"hosts": ["*"], "pathMatcher": "p"}]}),
            "Invalid value for field 'resource.hostRules[0].pathMatcher': 'p'.",
        ),
        (
            json!({
                "defaultService": "web", "hostRules": [{"hosts": ["a*"], "pathMatcher": "p"}],
                "pathMatchers": [{"name": "p", "defaultService": "web"}],
            }),
            "Invalid value for field 'resource.hostRules[0].hosts[0]': 'a*'.",
        ),
    ] {
        let mut body = extra;
        body["name"] = "m".into();
        let error = world.try_insert(MAPS, body.clone()).unwrap_err().to_string();
        assert!(error.starts_with(text), "{body}: {error}");
    }
    assert!(matches!(world.try_get(MAP), Err(Error::NotFound { .. })));
}

#[test]
fn tests_gate_every_change() {
    let world = world();
    let test = |service: &str| json!([{"host": "h", "path": "/x", "service": service}]);
    let refused = world
        .try_insert(MAPS, json!({"name": "m", "defaultService": "web", "tests": test("api")}))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "Invalid value for field 'resource.tests': ''. Test failure: Expect URL 'h/x' to map to service '{}', but \
             actually mapped to '{}'.",
            link("api"),
            link("web")
        )
    );
    world.insert(MAPS, json!({"name": "m", "defaultService": "web", "tests": test("web")}));
    assert!(world.try_patch_now(MAP, json!({"defaultService": "api"})).is_err());
    world.try_patch_now(MAP, json!({"defaultService": "api", "tests": test("api")})).unwrap();
    // A test's service need not exist, and does not keep it from going.
    assert!(world.try_patch_now(MAP, json!({"tests": test("gone")})).is_err());
}

#[test]
fn a_patch_merges_and_a_put_replaces() {
    let world = world();
    world.insert(MAPS, json!({"name": "m", "defaultService": "web", "description": "old"}));
    let patched = world.try_patch_now(MAP, json!({"description": null, "tests": []})).unwrap();
    assert_eq!(patched["operationType"], "patch");
    assert!(world.get(MAP).get("description").is_none());
    let doc = world.get(MAP);
    let put = json!({"name": "m", "defaultService": "api", "fingerprint": doc["fingerprint"]});
    assert_eq!(world.try_update(MAP, put.clone()).unwrap()["operationType"], "update");
    assert_eq!(world.get(MAP)["defaultService"], link("api"));
    assert!(matches!(world.try_update(MAP, put), Err(Error::ConditionNotMet { .. })), "stale");
    assert!(matches!(
        world.try_update(MAP, json!({"name": "m", "defaultService": "api"})),
        Err(Error::ConditionNotMet { .. })
    ));
}

fn validated(world: &World, resource: Value) -> Value {
    world.try_ask(MAP, "validate", json!({ "resource": resource })).unwrap()["result"].clone()
}

#[test]
fn validate_makes_nothing_and_tells_all() {
    let world = world();
    let map = |extra: Value| {
        let mut map = json!({"name": "m", "defaultService": "web"});
        for (field, value) in extra.as_object().unwrap() {
            map[field] = value.clone();
        }
        map
    };
    assert_eq!(
        validated(&world, map(json!({"fingerprint": "abc"}))),
        json!({"loadSucceeded": true, "testPassed": true})
    );
    let broken = validated(&world, map(json!({"defaultService": "nope"})));
    assert_eq!(broken["loadSucceeded"], false);
    assert_eq!(
        broken["loadErrors"],
        json!(["The resource 'projects/demo/regions/us-central1/backendServices/nope' was not found"])
    );
    let failing = validated(&world, map(json!({"tests": [{"host": "h", "path": "/", "service": "api"}]})));
    assert_eq!(failing["loadSucceeded"], true);
    assert_eq!(failing["testPassed"], false);
    assert_eq!(failing["testFailures"][0]["actualService"], link("web"));
    assert!(matches!(world.try_get(MAP), Err(Error::NotFound { .. })));
    assert!(world.try_ask(MAP, "validate", json!({})).is_err());
}

#[test]
fn a_mirror_cannot_be_serverless() {
    for world in [World::strict(), World::new()] {
        let world = world_with(world);
        let neg = json!({"name": "neg", "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "s"}});
        world.insert("regions/us-central1/networkEndpointGroups", neg);
        let attach =
            json!({"backends": [{"group": "projects/demo/regions/us-central1/networkEndpointGroups/neg"}]});
        world.try_patch_now("regions/us-central1/backendServices/api", attach).unwrap();
        let map = json!({
            "name": "m", "defaultService": "web",
            "defaultRouteAction": {"requestMirrorPolicy": {"backendService": "api"}},
        });
        match world.try_insert(MAPS, map) {
            Ok(operation) => assert!(operation["warnings"].is_array()),
            Err(error) => assert!(error.to_string().contains("cannot receive mirrored requests"), "{error}"),
        }
    }
}

#[test]
fn quotas_are_googles_in_google_conformance_only() {
    let rules: Vec<Value> =
        (0..1500).map(|n| json!({"paths": [format!("/p{n}/*")], "service": "api"})).collect();
    let map = json!({
        "name": "m", "defaultService": "web",
        "hostRules": [{"hosts": ["*"], "pathMatcher": "p"}],
        "pathMatchers": [{"name": "p", "defaultService": "web", "pathRules": rules}],
    });
    assert!(
        world_with(World::strict())
            .try_insert(MAPS, map.clone())
            .unwrap_err()
            .to_string()
            .contains("too large")
    );
    world().insert(MAPS, map);
}
