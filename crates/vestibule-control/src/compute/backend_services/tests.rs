use serde_json::{Value, json};

use crate::Error;
use crate::compute::testing::World;

const SERVICES: &str = "regions/us-central1/backendServices";
const SERVICE: &str = "regions/us-central1/backendServices/b";
const REGION_LINK: &str = "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1";

fn neg(world: &World, name: &str, member: &str, settings: Value) {
    let body = json!({"name": name, "networkEndpointType": "SERVERLESS", member: settings});
    world.insert("regions/us-central1/networkEndpointGroups", body);
}

fn world() -> World {
    let world = World::new();
    neg(&world, "neg", "cloudRun", json!({"service": "s"}));
    world
}

fn body(extra: Value) -> Value {
    let mut body = json!({"name": "b", "loadBalancingScheme": "INTERNAL_MANAGED", "protocol": "HTTP"});
    for (field, value) in extra.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

fn attached(extra: Value) -> Value {
    let mut body = body(json!({"backends": [{"group": format!("{REGION_LINK}/networkEndpointGroups/neg")}]}));
    for (field, value) in extra.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

#[test]
fn a_minimal_service_reads_back_as_googles() {
    let world = world();
    let operation = world.insert(SERVICES, body(json!({"timeoutSec": 30})));
    assert_eq!(operation["operationType"], "insert");
    let mut doc = world.get(SERVICE);
    for varying in ["id", "creationTimestamp", "fingerprint"] {
        doc.as_object_mut().unwrap().remove(varying).unwrap();
    }
    assert_eq!(
        doc,
        json!({
            "affinityCookieTtlSec": 0,
            "connectionDraining": {"drainingTimeoutSec": 0},
            "description": "",
            "kind": "compute#backendService",
            "loadBalancingScheme": "INTERNAL_MANAGED",
            "name": "b",
            "port": 80,
            "portName": "http",
            "protocol": "HTTP",
            "region": REGION_LINK,
            "selfLink": format!("{REGION_LINK}/backendServices/b"),
            "sessionAffinity": "NONE",
            "timeoutSec": 30,
        })
    );
}

/// What gcloud's `add-backend` does: read, add, write everything back.
#[test]
fn a_group_is_attached_by_replacing_and_detached_again() {
    let world = world();
    world.insert(SERVICES, body(json!({"timeoutSec": 30})));
    let mut doc = world.get(SERVICE);
    doc["backends"] = json!([{"group": "http://127.0.0.1:1/compute/v1/projects/demo/regions/us-central1/networkEndpointGroups/neg"}]);
    let operation = world.try_update(SERVICE, doc).unwrap();
    assert_eq!(operation["operationType"], "update");
    let mut doc = world.get(SERVICE);
    assert_eq!(
        doc["backends"],
        json!([{
            "group": format!("{REGION_LINK}/networkEndpointGroups/neg"),
            "balancingMode": "UTILIZATION", "capacityScaler": 1.0,
        }])
    );
    let neg = "regions/us-central1/networkEndpointGroups/neg";
    assert_eq!(
        world.try_delete(neg).unwrap_err().to_string(),
        "The network_endpoint_group resource 'projects/demo/regions/us-central1/networkEndpointGroups/neg' is already \
         being used by 'projects/demo/regions/us-central1/backendServices/b'"
    );
    doc.as_object_mut().unwrap().remove("backends");
    world.try_update(SERVICE, doc).unwrap();
    world.delete(neg);
}

/// What Terraform sends, and what must come back for an empty second plan.
#[test]
fn terraforms_backend_reads_back_as_sent() {
    let world = World::strict();
    neg(&world, "neg", "cloudRun", json!({"service": "s"}));
    world.insert(
        SERVICES,
        body(json!({
            "connectionDraining": {"drainingTimeoutSec": 300}, "iap": null, "region": "projects/demo/global/regions/r",
            "backends": [{
                "group": "projects/demo/regions/us-central1/networkEndpointGroups/neg",
                "balancingMode": "UTILIZATION", "capacityScaler": 0,
            }],
        })),
    );
    let doc = world.get(SERVICE);
    assert_eq!(doc["backends"][0]["capacityScaler"], 0);
    assert_eq!(doc["connectionDraining"]["drainingTimeoutSec"], 300);
    for invented in ["localityLbPolicy", "portName", "iap", "logConfig", "network", "maxUtilization"] {
        assert!(doc.get(invented).is_none(), "{invented}");
    }
    // The whole object, as an update sends it.
    let put = json!({
        "name": "b", "loadBalancingScheme": "INTERNAL_MANAGED", "fingerprint": doc["fingerprint"],
        "protocol": "HTTP", "timeoutSec": 30, "sessionAffinity": "NONE", "iap": null,
        "connectionDraining": {"drainingTimeoutSec": 300}, "backends": doc["backends"],
        "logConfig": {"enable": true, "sampleRate": 0.5},
    });
    world.try_update(SERVICE, put).unwrap();
    assert_eq!(world.get(SERVICE)["logConfig"]["sampleRate"], 0.5);
}

#[test]
fn what_a_serverless_group_forbids() {
    let world = world();
    let backend = |extra: Value| {
        let mut backend = json!({"group": format!("{REGION_LINK}/networkEndpointGroups/neg")});
        for (field, value) in extra.as_object().unwrap() {
            backend[field] = value.clone();
        }
        attached(json!({"backends": [backend]}))
    };
    for (body, text) in [
        (
            backend(json!({"balancingMode": "RATE"})),
            "Invalid value for field 'resource.backends[0].balancingMode': 'RATE'. Balancing mode is not supported for \
             Serverless network endpoint groups.",
        ),
        (
            backend(json!({"maxUtilization": 0.8})),
            "Invalid value for field 'resource.backends[0].maxUtilization': '0.8'. Max utilization is not supported \
             for Serverless network endpoint groups.",
        ),
        (
            attached(json!({"portName": "my-port"})),
            "Invalid value for field 'resource.portName': 'my-port'. Port name is not supported for a backend service \
             with Serverless network endpoint groups.",
        ),
        (
            attached(json!({"loadBalancingScheme": "INTERNAL"})),
            "Invalid value for field 'resource.loadBalancingScheme': 'INTERNAL'. Invalid load balancing scheme for \
             regional backend service with Serverless network endpoint group.",
        ),
    ] {
        assert_eq!(world.try_insert(SERVICES, body).unwrap_err().to_string(), text);
    }
    world.insert("regions/us-central1/healthChecks", json!({"name": "h", "type": "HTTP"}));
    assert_eq!(
        world.try_insert(SERVICES, attached(json!({"healthChecks": ["h"]}))).unwrap_err().to_string(),
        "Invalid value for field 'resource.healthChecks': ''. A backend service cannot have a healthcheck with \
         Serverless network endpoint group backends."
    );
}

#[test]
fn what_google_refuses_and_we_warn_of() {
    for extra in [
        json!({"timeoutSec": 60}),
        json!({"sessionAffinity": "CLIENT_IP"}),
        json!({"localityLbPolicy": "RING_HASH"}),
        json!({"outlierDetection": {"consecutiveErrors": 5}}),
    ] {
        let strict = World::strict();
        neg(&strict, "neg", "cloudRun", json!({"service": "s"}));
        assert!(
            matches!(strict.try_insert(SERVICES, attached(extra.clone())), Err(Error::Invalid { .. })),
            "{extra}"
        );
        let operation = world().insert(SERVICES, attached(extra.clone()));
        assert_eq!(operation["warnings"][0]["code"], "SCHEMA_VALIDATION_IGNORED", "{extra}");
    }
    let strict = World::strict();
    neg(&strict, "neg", "cloudRun", json!({"service": "s"}));
    assert_eq!(
        strict.try_insert(SERVICES, attached(json!({"timeoutSec": 60}))).unwrap_err().to_string(),
        "Invalid value for field 'resource.timeoutSec': '60'. Timeout sec is not supported for a backend service with \
         Serverless network endpoint groups."
    );
}

#[test]
fn functions_and_app_engine_are_for_external_load_balancers() {
    for (member, settings) in [("appEngine", json!({})), ("cloudFunction", json!({"function": "f"}))] {
        let strict = World::strict();
        neg(&strict, "neg", member, settings.clone());
        let refused = strict.try_insert(SERVICES, attached(json!({}))).unwrap_err();
        assert!(refused.to_string().contains("Invalid load balancing scheme for regional"), "{refused}");
        let world = World::new();
        neg(&world, "neg", member, settings);
        assert!(world.insert(SERVICES, attached(json!({})))["warnings"].is_array());
    }
}

#[test]
fn backends_are_checked() {
    let world = world();
    neg(&world, "second", "cloudRun", json!({"service": "s"}));
    world.insert(
        "regions/europe-west1/networkEndpointGroups",
        json!({"name": "far", "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "s"}}),
    );
    let groups = |groups: &[&str]| {
        let backends: Vec<Value> = groups.iter().map(|group| json!({"group": group})).collect();
        body(json!({"backends": backends}))
    };
    let region = |name: &str| format!("regions/us-central1/networkEndpointGroups/{name}");
    let (one, two) = (region("neg"), region("second"));
    for (body, text) in [
        (groups(&[""]), "Required field 'resource.backends[0].group' not specified"),
        (groups(&[&one, &two]), "Invalid value for field 'resource.backends[1].group'"),
        (groups(&[&one, &one]), "Invalid value for field 'resource.backends[1].group'"),
        (
            groups(&["regions/europe-west1/networkEndpointGroups/far"]),
            "Invalid value for field 'resource.backends[0].group'",
        ),
        (groups(&["regions/us-central1/urlMaps/u"]), "Invalid value for field 'resource.backends[0].group'"),
        (
            groups(&[&region("nope")]),
            "The resource 'projects/demo/regions/us-central1/networkEndpointGroups/nope' was not found",
        ),
    ] {
        let error = world.try_insert(SERVICES, body.clone()).unwrap_err().to_string();
        assert!(error.starts_with(text), "{body}: {error}");
    }
}

#[test]
fn settings_are_checked() {
    let world = world();
    for (extra, field) in [
        (json!({"protocol": "TCP"}), "resource.protocol"),
        (json!({"timeoutSec": 0}), "resource.timeoutSec"),
        (json!({"sessionAffinity": "MAYBE"}), "resource.sessionAffinity"),
        (json!({"affinityCookieTtlSec": 1_209_601}), "resource.affinityCookieTtlSec"),
        (json!({"localityLbPolicy": "BEST"}), "resource.localityLbPolicy"),
        (json!({"consistentHash": {"minimumRingSize": "1"}}), "resource.consistentHash"),
        (
            json!({"connectionDraining": {"drainingTimeoutSec": 3601}}),
            "resource.connectionDraining.drainingTimeoutSec",
        ),
        (json!({"logConfig": {"enable": true, "sampleRate": 1.5}}), "resource.logConfig.sampleRate"),
        (json!({"logConfig": {"enable": true, "optionalMode": "SOME"}}), "resource.logConfig.optionalMode"),
        (
            json!({"logConfig": {"enable": true, "optionalFields": ["tls.cipher"]}}),
            "resource.logConfig.optionalFields",
        ),
        (json!({"customRequestHeaders": ["a: b", "host: c"]}), "resource.customRequestHeaders[1]"),
        (json!({"customResponseHeaders": ["a: {what}"]}), "resource.customResponseHeaders[0]"),
    ] {
        let error = world.try_insert(SERVICES, body(extra.clone())).unwrap_err();
        assert!(matches!(&error, Error::Invalid { field: at, .. } if at == field), "{extra} {error}");
    }
    for extra in [
        json!({"enableCDN": true}),
        json!({"iap": {"enabled": true}}),
        json!({"loadBalancingScheme": "EXTERNAL_MANAGED"}),
    ] {
        let refused = world.try_insert(SERVICES, body(extra.clone()));
        assert!(matches!(refused, Err(Error::NotBuilt { .. })), "{extra}");
    }
    let off = json!({"enableCDN": false, "customRequestHeaders": [], "iap": {"enabled": false}, "securityPolicy": ""});
    world.insert(SERVICES, body(off));
}

#[test]
fn a_stale_fingerprint_is_refused() {
    let world = world();
    world.insert(SERVICES, body(json!({})));
    let stale = world.get(SERVICE)["fingerprint"].clone();
    world.try_patch_now(SERVICE, json!({"logConfig": {"enable": true}})).unwrap();
    let refused = world.try_patch(SERVICE, json!({"timeoutSec": 5, "fingerprint": stale})).unwrap_err();
    assert!(matches!(refused, Error::ConditionNotMet { .. }));
    assert!(matches!(world.try_patch(SERVICE, json!({})), Err(Error::ConditionNotMet { .. })));
    let doc = world.get(SERVICE);
    assert_eq!(
        doc["logConfig"],
        json!({"enable": true, "sampleRate": 1.0, "optionalMode": "EXCLUDE_ALL_OPTIONAL"})
    );
    assert!(world.try_patch_now(SERVICE, json!({"loadBalancingScheme": "INTERNAL"})).is_err());
}

#[test]
fn health_of_a_serverless_group_is_empty() {
    let world = world();
    world.insert(SERVICES, attached(json!({})));
    let group = format!("{REGION_LINK}/networkEndpointGroups/neg");
    assert_eq!(
        world.try_ask(SERVICE, "getHealth", json!({"group": group})).unwrap(),
        json!({"kind": "compute#backendServiceGroupHealth"})
    );
    neg(&world, "second", "cloudRun", json!({"service": "s"}));
    let other = json!({"group": format!("{REGION_LINK}/networkEndpointGroups/second")});
    assert!(matches!(world.try_ask(SERVICE, "getHealth", other), Err(Error::Invalid { .. })));
    assert_eq!(world.try_ask(SERVICE, "getHealth", json!({})), Err(Error::required("resource.group")));
}

#[test]
fn a_secret_is_never_read_back() {
    let world = world();
    world.insert(
        SERVICES,
        body(json!({"iap": {"enabled": false, "oauth2ClientId": "", "oauth2ClientSecret": ""}})),
    );
    assert_eq!(
        world.get(SERVICE)["iap"],
        json!({
            "enabled": false, "oauth2ClientId": "",
            "oauth2ClientSecretSha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        })
    );
}

/// A world with a health check and two groups with endpoints, one in the network `other`.
fn with_endpoints(world: &World) {
    for network in ["n", "other"] {
        world.network(network);
    }
    world.insert("regions/us-central1/healthChecks", json!({"name": "hc", "type": "TCP"}));
    for (name, network) in [("g1", "n"), ("g2", "n"), ("g3", "other")] {
        let body = json!({
            "name": name, "networkEndpointType": "GCE_VM_IP_PORT", "network": format!("global/networks/{network}"),
        });
        world.insert("zones/us-central1-a/networkEndpointGroups", body);
    }
    let internet = json!({
        "name": "net", "networkEndpointType": "INTERNET_FQDN_PORT", "network": "global/networks/n",
    });
    world.insert("regions/us-central1/networkEndpointGroups", internet);
}

fn zonal(name: &str) -> String {
    format!(
        "https://www.googleapis.com/compute/v1/projects/demo/zones/us-central1-a/networkEndpointGroups/{name}"
    )
}

fn service(backends: Value, more: Value) -> Value {
    let mut body = json!({
        "name": "b", "loadBalancingScheme": "INTERNAL_MANAGED", "healthChecks": ["regions/us-central1/healthChecks/hc"],
        "backends": backends,
    });
    crate::document::merge(body.as_object_mut().unwrap(), crate::document::object(&more).clone());
    body
}

fn rate(name: &str) -> Value {
    json!({"group": zonal(name), "balancingMode": "RATE", "maxRatePerEndpoint": 100.0})
}

#[test]
fn groups_with_endpoints_behind_a_backend_service() {
    let world = World::strict();
    with_endpoints(&world);
    let more = json!({
        "localityLbPolicy": "RING_HASH", "sessionAffinity": "HEADER_FIELD",
        "consistentHash": {"httpHeaderName": "x-user", "minimumRingSize": "2048"},
        "outlierDetection": {"consecutiveErrors": 2, "baseEjectionTime": {"seconds": "7"}},
        "circuitBreakers": {"maxRequests": 10},
    });
    world.insert(
        "regions/us-central1/backendServices",
        service(json!([rate("g1"), rate("g2")]), more.clone()),
    );
    let doc = world.get("regions/us-central1/backendServices/b");
    for (field, value) in more.as_object().unwrap() {
        assert_eq!(doc[field], *value);
    }
    assert_eq!(doc["backends"][1]["maxRatePerEndpoint"], 100.0);
    let in_use = world.try_delete("zones/us-central1-a/networkEndpointGroups/g1").unwrap_err().to_string();
    assert!(in_use.contains("is already being used by"), "{in_use}");
    let health = world
        .try_ask("regions/us-central1/backendServices/b", "getHealth", json!({"group": zonal("g1")}))
        .unwrap();
    assert_eq!(health, json!({"kind": "compute#backendServiceGroupHealth"}));
}

#[test]
fn what_is_refused_of_groups_with_endpoints() {
    let none = || json!({});
    for (backends, more, text) in [
        (json!([rate("g1")]), json!({"healthChecks": []}), "must have a health check"),
        (json!([rate("g1"), rate("g3")]), none(), "must be of the same network"),
        (json!([{"group": zonal("g1")}]), none(), "Balancing mode UTILIZATION is not supported"),
        (
            json!([{"group": zonal("g1"), "balancingMode": "RATE"}]),
            none(),
            "needs maxRate or maxRatePerEndpoint",
        ),
        (
            json!([{"group": zonal("g1"), "balancingMode": "UTILIZATION", "maxRate": 5}]),
            none(),
            "Cannot be set with balancing mode UTILIZATION",
        ),
        (
            json!([{"group": zonal("g1"), "balancingMode": "RATE", "maxRate": 5, "capacityScaler": 0.05}]),
            none(),
            "Must be 0.0, or between 0.1 and 1.0",
        ),
        (
            json!([{"group": zonal("g1"), "balancingMode": "RATE", "maxRate": 5, "capacityScaler": 0.0}]),
            none(),
            "The only backend",
        ),
        (json!([rate("g1")]), json!({"sessionAffinity": "HEADER_FIELD"}), "consistentHash.httpHeaderName"),
        (json!([rate("g1")]), json!({"sessionAffinity": "HTTP_COOKIE"}), "consistentHash.httpCookie.name"),
        (
            json!([rate("g1")]),
            json!({"strongSessionAffinityCookie": {"name": "c"}}),
            "can only be set with sessionAffinity STRONG_COOKIE_AFFINITY",
        ),
        (json!([rate("g1")]), json!({"outlierDetection": {"maxEjectionPercent": 101}}), "maxEjectionPercent"),
        (json!([rate("g1")]), json!({"circuitBreakers": {"maxRequests": -1}}), "circuitBreakers.maxRequests"),
        (json!([rate("g1")]), json!({"localityLbPolicy": "ORIGINAL_DESTINATION"}), "ORIGINAL_DESTINATION"),
    ] {
        let world = World::strict();
        with_endpoints(&world);
        let body = service(backends, more);
        let error = world.try_insert("regions/us-central1/backendServices", body.clone()).unwrap_err();
        assert!(format!("{error} {error:?}").contains(text), "{body}: {error:?}");
    }
}
