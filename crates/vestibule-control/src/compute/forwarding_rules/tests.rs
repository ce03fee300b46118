use serde_json::{Value, json};

use crate::Error;
use crate::compute::testing::World;

const RULES: &str = "regions/us-central1/forwardingRules";
const LINK: &str = "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1";

fn prepared(world: World) -> World {
    world.network("vpc");
    world.subnetwork("s", "vpc", "10.0.0.0/24");
    world.try_proxy_only("proxies", "vpc", "10.129.0.0/23", "ACTIVE").unwrap();
    world.insert(
        "regions/us-central1/backendServices",
        json!({"name": "b", "loadBalancingScheme": "INTERNAL_MANAGED"}),
    );
    world.insert("regions/us-central1/urlMaps", json!({"name": "m", "defaultService": "b"}));
    for name in ["p", "p2"] {
        world.insert("regions/us-central1/targetHttpProxies", json!({"name": name, "urlMap": "m"}));
    }
    world
}

fn world() -> World {
    prepared(World::new())
}

/// What gcloud sends, with changes. `null` leaves a member out.
fn body(name: &str, extra: Value) -> Value {
    let host = "http://127.0.0.1:8470/compute/v1/projects/demo";
    let mut body = json!({
        "name": name, "IPAddress": "10.0.0.100", "loadBalancingScheme": "INTERNAL_MANAGED", "portRange": "80",
        "network": format!("{host}/global/networks/vpc"),
        "subnetwork": format!("{host}/regions/us-central1/subnetworks/s"),
        "target": format!("{host}/regions/us-central1/targetHttpProxies/p"),
    });
    for (field, value) in extra.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

fn path(name: &str) -> String {
    format!("{RULES}/{name}")
}

#[test]
fn a_rule_reads_back_as_googles() {
    let world = world();
    world.insert(RULES, body("r", json!({})));
    let mut doc = world.get(&path("r"));
    let id = doc["id"].as_str().unwrap().to_owned();
    for varying in ["id", "creationTimestamp", "fingerprint", "labelFingerprint"] {
        doc.as_object_mut().unwrap().remove(varying).unwrap();
    }
    assert_eq!(
        doc,
        json!({
            "IPAddress": "10.0.0.100",
            "IPProtocol": "TCP",
            "description": "",
            "kind": "compute#forwardingRule",
            "loadBalancingScheme": "INTERNAL_MANAGED",
            "name": "r",
            "network": "https://www.googleapis.com/compute/v1/projects/demo/global/networks/vpc",
            "networkTier": "PREMIUM",
            "portRange": "80-80",
            "region": LINK,
            "selfLink": format!("{LINK}/forwardingRules/r"),
            "selfLinkWithId": format!("{LINK}/forwardingRules/{id}"),
            "subnetwork": format!("{LINK}/subnetworks/s"),
            "target": format!("{LINK}/targetHttpProxies/p"),
        })
    );
}

#[test]
fn addresses_are_literal_reserved_or_free() {
    let world = world();
    let reserve = |name: &str, address: &str, purpose: &str| {
        let body = json!({
            "name": name, "addressType": "INTERNAL", "subnetwork": "regions/us-central1/subnetworks/s",
            "address": address, "purpose": purpose,
        });
        world.insert("regions/us-central1/addresses", body);
    };
    reserve("low", "10.0.0.2", "GCE_ENDPOINT");
    reserve("vip", "10.0.0.50", "SHARED_LOADBALANCER_VIP");
    let made = |name: &str, address: Value, port: &str| {
        world.insert(RULES, body(name, json!({"IPAddress": address, "portRange": port})));
        world.get(&path(name))["IPAddress"].as_str().unwrap().to_owned()
    };
    assert_eq!(made("free", Value::Null, "80"), "10.0.0.3");
    assert_eq!(made("by-name", json!("vip"), "80"), "10.0.0.50");
    assert_eq!(made("by-link", json!(format!("{LINK}/addresses/vip")), "443"), "10.0.0.50");
    assert_eq!(made("by-literal", json!("10.0.0.50"), "8080-8080"), "10.0.0.50");
    let users = world.get("regions/us-central1/addresses/vip")["users"].as_array().unwrap().len();
    assert_eq!(users, 3);
    assert!(matches!(world.try_delete("regions/us-central1/addresses/vip"), Err(Error::InUse { .. })));
}

#[test]
fn one_address_and_port_serve_once() {
    let world = world();
    world.insert(RULES, body("r", json!({})));
    assert_eq!(
        world.try_insert(RULES, body("again", json!({}))).unwrap_err().to_string(),
        "IP_IN_USE_BY_ANOTHER_RESOURCE - IP '10.0.0.100' is already being used by another resource."
    );
    world.insert(RULES, body("https", json!({"portRange": "443"})));
    world.delete(&path("r"));
    world.insert(RULES, body("again", json!({})));
}

#[test]
fn an_exhausted_subnetwork_fails_the_operation() {
    let world = world();
    world.subnetwork("tiny", "vpc", "10.1.0.0/29");
    let ask = |name: &str| {
        body(name, json!({"IPAddress": null, "subnetwork": "regions/us-central1/subnetworks/tiny"}))
    };
    for name in ["a", "b", "c", "d"] {
        world.insert(RULES, ask(name));
    }
    let operation = world.insert(RULES, ask("e"));
    assert_eq!(operation["error"]["errors"][0]["code"], "IP_SPACE_EXHAUSTED_WITH_DETAILS");
    assert_eq!(operation["status"], "DONE");
    assert!(matches!(world.try_get(&path("e")), Err(Error::NotFound { .. })));
}

#[test]
fn a_proxy_only_subnetwork_is_required() {
    let world = World::new();
    world.network("bare");
    world.subnetwork("bare-s", "bare", "10.9.0.0/24");
    let world = prepared(world);
    let bare = body(
        "r",
        json!({
            "network": "global/networks/bare", "subnetwork": "regions/us-central1/subnetworks/bare-s", "IPAddress": null,
        }),
    );
    assert_eq!(
        world.try_insert(RULES, bare).unwrap_err().to_string(),
        "Invalid value for field 'resource.target': \
         'http://127.0.0.1:8470/compute/v1/projects/demo/regions/us-central1/targetHttpProxies/p'. An active \
         proxy-only subnetwork is required in the same region and VPC as the forwarding rule."
    );
    world.insert(RULES, body("r", json!({})));
    assert_eq!(
        world.try_delete("regions/us-central1/subnetworks/proxies").unwrap_err().to_string(),
        "The subnetwork resource 'projects/demo/regions/us-central1/subnetworks/proxies' is already being used by \
         'projects/demo/regions/us-central1/forwardingRules/r'"
    );
}

#[test]
fn network_and_subnetwork_follow_from_each_other() {
    let world = world();
    world.insert(RULES, body("r", json!({"network": null})));
    assert_eq!(
        world.get(&path("r"))["network"],
        "https://www.googleapis.com/compute/v1/projects/demo/global/networks/vpc"
    );
    world.network("other");
    for (extra, text) in [
        (
            json!({"network": "global/networks/other"}),
            "Subnetwork \"projects/demo/regions/us-central1/subnetworks/s\" is not valid for Network \"other\".",
        ),
        (
            json!({"subnetwork": null}),
            "Invalid value for field 'resource.subnetwork': ''. Subnetwork must be specified for a custom subnet mode \
             network.",
        ),
        (
            json!({"network": null, "subnetwork": null}),
            "The resource 'projects/demo/global/networks/default' was not found",
        ),
        (
            json!({"subnetwork": "regions/us-central1/subnetworks/proxies", "IPAddress": null}),
            "Invalid value for field 'resource.subnetwork': \
             'https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1/subnetworks/proxies'. \
             Forwarding rule's subnetwork must have purpose=PRIVATE.",
        ),
    ] {
        assert_eq!(
            world.try_insert(RULES, body("x", extra.clone())).unwrap_err().to_string(),
            text,
            "{extra}"
        );
    }
    world.insert("global/networks", json!({"name": "default", "autoCreateSubnetworks": true}));
    world.try_proxy_only("default-proxies", "default", "10.200.0.0/23", "ACTIVE").unwrap_err();
    world.try_proxy_only("default-proxies", "default", "192.168.0.0/23", "ACTIVE").unwrap();
    world.insert(RULES, body("auto", json!({"network": null, "subnetwork": null, "IPAddress": null})));
    assert_eq!(world.get(&path("auto"))["subnetwork"], format!("{LINK}/subnetworks/default"));
}

#[test]
fn what_is_refused() {
    let world = world();
    for (extra, text) in [
        (json!({"target": null}), "Required field 'resource.target' not specified"),
        (json!({"portRange": null}), "Required field 'resource.portRange' not specified"),
        (json!({"portRange": "80-81"}), "Invalid value for field 'resource.portRange': '80-81'."),
        (json!({"portRange": "0"}), "Invalid value for field 'resource.portRange': '0'."),
        (json!({"portRange": "http"}), "Invalid value for field 'resource.portRange': 'http'."),
        (json!({"IPProtocol": "UDP"}), "Invalid value for field 'resource.IPProtocol': 'UDP'."),
        (json!({"ports": ["80"]}), "Invalid value for field 'resource.ports'"),
        (json!({"backendService": "b"}), "Invalid value for field 'resource.backendService': 'b'."),
        (json!({"allPorts": true}), "Invalid value for field 'resource.allPorts': 'true'."),
        (
            json!({"target": "regions/us-central1/urlMaps/m"}),
            "Invalid value for field 'resource.target': 'regions/us-central1/urlMaps/m'.",
        ),
        (
            json!({"target": "global/targetHttpProxies/p"}),
            "The resource 'projects/demo/global/targetHttpProxies/p' was not found",
        ),
        (json!({"IPAddress": "10.0.1.1"}), "Invalid value for field 'resource.IPAddress': '10.0.1.1'."),
        (json!({"IPAddress": "10.0.0.1"}), "Invalid value for field 'resource.IPAddress': '10.0.0.1'."),
        (json!({"IPAddress": "10.0.0.300"}), "Invalid value for field 'resource.IPAddress': '10.0.0.300'."),
        (
            json!({"IPAddress": "nope"}),
            "The resource 'projects/demo/regions/us-central1/addresses/nope' was not found",
        ),
    ] {
        let error = world.try_insert(RULES, body("x", extra.clone())).unwrap_err().to_string();
        assert!(error.starts_with(text), "{extra}: {error}");
    }
    for extra in [
        json!({"loadBalancingScheme": null}),
        json!({"loadBalancingScheme": "INTERNAL"}),
        json!({"ipVersion": "IPV6"}),
        json!({"IPAddress": "fd00::1"}),
    ] {
        let refused = world.try_insert(RULES, body("x", extra.clone()));
        assert!(matches!(refused, Err(Error::NotBuilt { .. })), "{extra}");
    }
}

#[test]
fn the_target_is_exchanged() {
    let world = world();
    world.insert(RULES, body("r", json!({})));
    let operation = world.act(
        &path("r"),
        "setTarget",
        json!({"target": "projects/demo/regions/us-central1/targetHttpProxies/p2"}),
    );
    assert_eq!(operation["operationType"], "SetTarget");
    assert_eq!(world.get(&path("r"))["target"], format!("{LINK}/targetHttpProxies/p2"));
    world.delete("regions/us-central1/targetHttpProxies/p");
    assert!(matches!(world.try_delete("regions/us-central1/targetHttpProxies/p2"), Err(Error::InUse { .. })));
    assert!(
        world.try_act(&path("r"), "setTarget", json!({"target": "global/targetHttpProxies/p2"})).is_err()
    );
    assert!(world.try_act(&path("r"), "setTarget", json!({})).is_err());
}

#[test]
fn a_patch_changes_little() {
    let world = world();
    world.insert(RULES, body("r", json!({})));
    world.patch(&path("r"), json!({"name": "r", "description": "hello", "portRange": "80"}));
    assert_eq!(world.get(&path("r"))["description"], "hello");
    world.patch(&path("r"), json!({"network": "projects/demo/global/networks/vpc"}));
    for fixed in [
        json!({"IPAddress": "10.0.0.7"}),
        json!({"portRange": "81"}),
        json!({"target": format!("{LINK}/targetHttpProxies/p2")}),
        json!({"loadBalancingScheme": "INTERNAL"}),
    ] {
        assert!(matches!(world.try_patch(&path("r"), fixed.clone()), Err(Error::Invalid { .. })), "{fixed}");
    }
    let operation = world.patch(&path("r"), json!({"name": "r", "allowGlobalAccess": true}));
    assert_eq!(operation["warnings"][0]["code"], "SCHEMA_VALIDATION_IGNORED");
    assert_eq!(world.get(&path("r"))["allowGlobalAccess"], true);
    let strict = prepared(World::strict());
    strict.insert(RULES, body("r", json!({"allowGlobalAccess": false})));
    assert!(strict.try_patch(&path("r"), json!({"allowGlobalAccess": true})).is_err());
}

#[test]
fn labels_need_the_current_fingerprint() {
    let world = world();
    world.insert(RULES, body("r", json!({"labels": {"a": "b"}})));
    let fingerprint = world.get(&path("r"))["labelFingerprint"].clone();
    let operation =
        world.act(&path("r"), "setLabels", json!({"labels": {"a": "c"}, "labelFingerprint": fingerprint}));
    assert_eq!((&operation["operationType"], &operation["status"]), (&json!("setLabels"), &json!("DONE")));
    let stale = json!({"labels": {}, "labelFingerprint": fingerprint});
    assert_eq!(
        world.try_act(&path("r"), "setLabels", stale).unwrap_err().to_string(),
        "Labels fingerprint either invalid or resource labels have changed"
    );
    assert_eq!(world.get(&path("r"))["labels"], json!({"a": "c"}));
}
