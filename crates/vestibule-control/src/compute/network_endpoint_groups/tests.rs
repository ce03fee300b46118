use serde_json::{Value, json};

use crate::Error;
use crate::compute::testing::World;

const NEGS: &str = "regions/us-central1/networkEndpointGroups";

fn serverless(member: &str, settings: Value) -> Value {
    json!({"name": "neg", "networkEndpointType": "SERVERLESS", member: settings})
}

#[test]
fn a_group_reads_back_as_googles() {
    let world = World::new();
    let mut body = serverless("cloudRun", json!({"service": "s"}));
    body["appEngine"] = Value::Null;
    body["region"] = "projects/demo/global/regions/us-central1".into();
    let operation = world.insert(NEGS, body);
    assert_eq!(operation["operationType"], "compute.regionNetworkEndpointGroups.insert");
    let path = format!("{NEGS}/neg");
    let mut doc = world.get(&path);
    for varying in ["id", "creationTimestamp"] {
        doc.as_object_mut().unwrap().remove(varying).unwrap();
    }
    let region = "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1";
    assert_eq!(
        doc,
        json!({
            "cloudRun": {"service": "s"},
            "kind": "compute#networkEndpointGroup",
            "name": "neg",
            "networkEndpointType": "SERVERLESS",
            "region": region,
            "selfLink": format!("{region}/networkEndpointGroups/neg"),
            "size": 0,
        })
    );
    let operation = world.delete(&path);
    assert_eq!(operation["operationType"], "compute.regionNetworkEndpointGroups.delete");
}

#[test]
fn every_platform_and_every_mask() {
    for (member, settings) in [
        ("cloudRun", json!({"service": "my-internal-service", "tag": "canary"})),
        ("cloudRun", json!({"urlMask": "<service>"})),
        ("cloudRun", json!({"service": "s", "urlMask": "<service>"})),
        ("cloudRun", json!({"urlMask": "<tag>.example.com/<service>"})),
        ("cloudFunction", json!({"function": "My_fn"})),
        ("cloudFunction", json!({"urlMask": "example.com/<function>"})),
        ("appEngine", json!({})),
        ("appEngine", json!({"service": "default", "version": "v1"})),
        ("appEngine", json!({"urlMask": "<service>-dot-app.appspot.com/<version>"})),
    ] {
        let world = World::strict();
        world.insert(NEGS, serverless(member, settings.clone()));
        assert_eq!(world.get(&format!("{NEGS}/neg"))[member], settings);
    }
}

#[test]
fn what_is_refused() {
    let world = World::new();
    let with = |field: &str, value: Value| {
        let mut body = serverless("cloudRun", json!({"service": "s"}));
        body[field] = value;
        body
    };
    for (body, text) in [
        (json!({"name": "neg"}), "Required field 'resource.networkEndpointType' not specified"),
        (
            json!({"name": "neg", "networkEndpointType": "SERVERLESS"}),
            "Required field 'resource.cloudRun' not specified",
        ),
        (
            json!({"name": "neg", "networkEndpointType": "GCE_VM_IP_PORT"}),
            "Invalid value for field 'resource.networkEndpointType': 'GCE_VM_IP_PORT'.",
        ),
        (with("network", json!("global/networks/n")), "Invalid value for field 'resource.network'"),
        (with("defaultPort", json!(80)), "Invalid value for field 'resource.defaultPort': '80'."),
        (with("appEngine", json!({})), "Invalid value for field 'resource.appEngine'"),
        (serverless("cloudRun", json!({})), "Required field 'resource.cloudRun.service' not specified"),
        (
            serverless("cloudRun", json!({"tag": "t"})),
            "Required field 'resource.cloudRun.service' not specified",
        ),
        (
            serverless("cloudRun", json!({"urlMask": "/<tag>"})),
            "Required field 'resource.cloudRun.service' not specified",
        ),
        (
            serverless("cloudRun", json!({"service": "S"})),
            "Invalid value for field 'resource.cloudRun.service': 'S'.",
        ),
        (
            serverless("cloudRun", json!({"urlMask": "/<service"})),
            "Invalid value for field 'resource.cloudRun.urlMask': '/<service'. URL mask contains an invalid",
        ),
        (
            serverless("cloudRun", json!({"urlMask": "/<function>"})),
            "Invalid value for field 'resource.cloudRun.urlMask': '/<function>'.",
        ),
        (
            serverless("cloudFunction", json!({})),
            "Required field 'resource.cloudFunction.function' not specified",
        ),
        (
            serverless("appEngine", json!({"version": "v1"})),
            "Invalid value for field 'resource.appEngine.version': 'v1'.",
        ),
    ] {
        let error = world.try_insert(NEGS, body.clone()).unwrap_err().to_string();
        assert!(error.starts_with(text), "{body}: {error}");
    }
    let psc = json!({"name": "neg", "networkEndpointType": "PRIVATE_SERVICE_CONNECT"});
    assert!(matches!(world.try_insert(NEGS, psc), Err(Error::NotBuilt { .. })));
}

#[test]
fn it_has_no_endpoints() {
    let world = World::new();
    world.insert(NEGS, serverless("cloudRun", json!({"service": "s"})));
    let path = format!("{NEGS}/neg");
    assert!(world.try_act(&path, "attachNetworkEndpoints", json!({"networkEndpoints": []})).is_err());
    let listed = world.try_ask(&path, "listNetworkEndpoints", json!({})).unwrap();
    assert!(listed.get("items").is_none());
    assert!(world.try_ask(&format!("{NEGS}/other"), "listNetworkEndpoints", json!({})).is_err());
}

const ZONAL: &str = "zones/us-central1-a/networkEndpointGroups";

/// A network with a subnetwork of 10.0.0.0/24 and a zonal group in it.
fn with_group() -> World {
    let world = World::new();
    world.network("n");
    world.subnetwork("s", "n", "10.0.0.0/24");
    let body = json!({
        "name": "g", "networkEndpointType": "GCE_VM_IP_PORT", "network": "global/networks/n", "defaultPort": 80,
        "subnetwork": "regions/us-central1/subnetworks/s",
    });
    world.insert(ZONAL, body);
    world
}

fn vm(name: &str, ip: &str, port: Option<u16>) -> Value {
    let mut endpoint = json!({"instance": name, "ipAddress": ip});
    if let Some(port) = port {
        endpoint["port"] = port.into();
    }
    endpoint
}

fn group() -> String {
    format!("{ZONAL}/g")
}

fn attach(world: &World, endpoints: Value) -> Result<Value, Error> {
    world.try_act(&group(), "attachNetworkEndpoints", json!({ "networkEndpoints": endpoints }))
}

fn listed(world: &World) -> Vec<Value> {
    let answer = world.try_ask(&group(), "listNetworkEndpoints", json!({})).unwrap();
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().map(|mut item| item["networkEndpoint"].take()).collect()
}

#[test]
fn a_zonal_group_reads_back_with_its_network_and_size() {
    let world = with_group();
    attach(&world, json!([vm("vm1", "10.0.0.5", None), vm("vm2", "10.0.0.6", Some(8080))])).unwrap();
    let doc = world.get(&group());
    let base = "https://www.googleapis.com/compute/v1/projects/demo";
    assert_eq!(doc["network"], format!("{base}/global/networks/n"));
    assert_eq!(doc["subnetwork"], format!("{base}/regions/us-central1/subnetworks/s"));
    assert_eq!(doc["zone"], format!("{base}/zones/us-central1-a"));
    assert_eq!((&doc["size"], &doc["defaultPort"]), (&json!(2), &json!(80)));
    assert_eq!(listed(&world), [vm("vm1", "10.0.0.5", None), vm("vm2", "10.0.0.6", Some(8080))]);
    let gone = json!({"networkEndpoints": [{"ipAddress": "10.0.0.5", "port": 80}]});
    let operation = world.act(&group(), "detachNetworkEndpoints", gone.clone());
    assert_eq!(operation["operationType"], "detachNetworkEndpoints");
    assert!(operation["zone"].as_str().unwrap().ends_with("zones/us-central1-a"));
    assert_eq!(listed(&world).len(), 1);
    let again = world.try_act(&group(), "detachNetworkEndpoints", gone).unwrap_err().to_string();
    assert!(again.contains("is not attached"), "{again}");
    world.delete(&group());
    assert!(world.control.view().range("endpoints/").next().is_none());
}

#[test]
fn endpoints_that_a_group_cannot_have() {
    let world = with_group();
    attach(&world, json!([vm("vm1", "10.0.0.5", Some(80))])).unwrap();
    for (endpoint, text) in [
        (vm("vm1", "10.0.0.5", None), "The network endpoint is already attached"),
        (
            vm("vm1", "10.0.1.5", None),
            "'networkEndpoints[0].ipAddress': '10.0.1.5'. The IP address must be in a range",
        ),
        (vm("VM", "10.0.0.6", None), "'networkEndpoints[0].instance': 'VM'"),
        (json!({"ipAddress": "10.0.0.6"}), "Required field 'networkEndpoints[0].instance'"),
        (json!({"instance": "vm1"}), "Required field 'networkEndpoints[0].ipAddress'"),
        (json!({"instance": "vm1", "fqdn": "a.b"}), "'networkEndpoints[0].fqdn': 'a.b'"),
        (vm("vm1", "10.0.0.6", Some(0)), ""),
    ] {
        let result = attach(&world, json!([endpoint]));
        match text {
            "" => assert!(result.is_ok()),
            _ => assert!(result.unwrap_err().to_string().contains(text), "{endpoint}"),
        }
    }
    assert!(attach(&world, json!([])).unwrap_err().to_string().contains("networkEndpoints"));
    let many: Vec<Value> = (0..501).map(|n| vm("vm1", "10.0.0.7", Some(1000 + n))).collect();
    assert!(attach(&world, many.into()).unwrap_err().to_string().contains("At most 500"));
    // All or nothing.
    let half = json!([vm("vm1", "10.0.0.8", Some(1)), vm("vm1", "10.9.0.8", Some(1))]);
    assert!(attach(&world, half).is_err());
    assert_eq!(listed(&world).len(), 2);
}

#[test]
fn pages_of_endpoints() {
    let world = with_group();
    let all: Vec<Value> = (0..5).map(|n| vm("vm1", "10.0.0.7", Some(1000 + n))).collect();
    attach(&world, all.into()).unwrap();
    let page = |token: &str| {
        let mut call = crate::compute::testing::call();
        call.parameters.insert("maxResults".into(), "2".into());
        call.parameters.insert("pageToken".into(), token.into());
        let name = world.name(&group());
        world.control.compute().ask(&call, &name, "listNetworkEndpoints", crate::Document::new()).unwrap()
    };
    assert_eq!((page("")["items"].as_array().unwrap().len(), &page("")["nextPageToken"]), (2, &json!("2")));
    assert_eq!((page("4")["items"].as_array().unwrap().len(), page("4").get("nextPageToken")), (1, None));
}

#[test]
fn groups_of_endpoints_that_are_refused() {
    let world = World::strict();
    world.network("n");
    world.network("other");
    world.subnetwork("s", "n", "10.0.0.0/24");
    let with = |kind: &str, field: &str, value: Value| {
        let mut body = json!({"name": "g", "networkEndpointType": kind, "network": "global/networks/n"});
        body[field] = value;
        body
    };
    let sub = || json!("regions/us-central1/subnetworks/s");
    for (parent, body, text) in [
        (ZONAL, with("SERVERLESS", "cloudRun", json!({"service": "s"})), "is not allowed in zonal scope"),
        (ZONAL, with("INTERNET_IP_PORT", "defaultPort", json!(80)), "is not allowed in zonal scope"),
        (NEGS, with("GCE_VM_IP_PORT", "defaultPort", json!(80)), "is not allowed in regional scope"),
        (ZONAL, with("GCE_VM_IP_PORT", "defaultPort", json!(65_536)), "'resource.defaultPort': '65536'"),
        (ZONAL, with("NON_GCP_PRIVATE_IP_PORT", "subnetwork", sub()), "'resource.subnetwork'"),
        (ZONAL, with("GCE_VM_IP_PORT", "cloudRun", json!({"service": "s"})), "'resource.cloudRun'"),
    ] {
        let error = world.try_insert(parent, body.clone()).unwrap_err().to_string();
        assert!(error.contains(text), "{body} {error}");
    }
    let mut foreign = with("GCE_VM_IP_PORT", "subnetwork", sub());
    foreign["network"] = "global/networks/other".into();
    assert!(world.try_insert(ZONAL, foreign).unwrap_err().to_string().contains("must belong to the network"));
    let internal = with("GCE_VM_IP", "defaultPort", json!(80));
    assert!(matches!(world.try_insert(ZONAL, internal), Err(Error::NotBuilt { .. })));
    world.insert(NEGS, with("INTERNET_IP_PORT", "defaultPort", json!(80)));
    let private = json!({"networkEndpoints": [{"ipAddress": "127.0.0.1", "port": 80}]});
    let error =
        world.try_act(&format!("{NEGS}/g"), "attachNetworkEndpoints", private).unwrap_err().to_string();
    assert!(error.contains("Must be an address of the internet."), "{error}");
}

#[test]
fn names_of_the_internet() {
    let world = World::new();
    world.network("n");
    let body =
        json!({"name": "g", "networkEndpointType": "INTERNET_FQDN_PORT", "network": "global/networks/n"});
    world.insert(NEGS, body);
    let attach = |fqdn: &str| {
        let body = json!({"networkEndpoints": [{"fqdn": fqdn}]});
        world.try_act(&format!("{NEGS}/g"), "attachNetworkEndpoints", body)
    };
    assert!(attach("api.example.com").is_ok());
    for bad in ["", "example", "-a.example.com", "a..b", "10.0.0.1", "a b.c", "API.example.com."] {
        assert!(attach(bad).is_err(), "{bad}");
    }
}
