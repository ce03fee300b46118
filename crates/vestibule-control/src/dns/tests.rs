//! Zones, records and changes, and what the resolver then answers.

mod inbound;
mod policies;
mod routing;
mod serial;

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use vestibule_dns::wire::Rcode;
use vestibule_dns::{Answer, Resolver, rdata};
use vestibule_vpc::NetworkId;

use super::Caller;
use crate::compute::testing::{PROJECT, World};
use crate::{Document, Error, document};

const NS: &str = "ns-gcp-private.googledomains.com.";
const SOA: &str =
    "ns-gcp-private.googledomains.com. cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300";

const ME: Caller<'_> = Caller { user: "user:me", operation_id: None };

/// A control plane with the networks `n` and `m`, and a resolver that follows it.
struct Cloud {
    world: World,
    resolver: Resolver,
    _reconciler: super::Reconciler,
}

impl Cloud {
    fn new() -> Cloud {
        let world = World::new();
        world.network("n");
        world.network("m");
        let resolver = Resolver::new(Vec::new());
        let reconciler = super::start(world.control.clone(), resolver.clone(), None).unwrap();
        Cloud { world, resolver, _reconciler: reconciler }
    }

    /// What of Cloud DNS needs a network. A network's own default route needs it as well.
    fn users_of(&self, network: &str) -> Vec<String> {
        let key = format!("compute/projects/{PROJECT}/global/networks/{network}");
        let mut users = crate::users(&self.world.control.view(), &key);
        users.retain(|user| user.starts_with("dns/"));
        users
    }

    fn dns(&self) -> super::Dns<'_> {
        self.world.control.dns()
    }

    fn create(&self, body: Value) -> Result<Value, Error> {
        self.dns().create_zone(PROJECT, members(body))
    }

    /// A private zone that the network `n` sees.
    fn zone(&self, name: &str, dns_name: &str) -> Value {
        self.create(private(name, dns_name, &["n"])).expect("accepted")
    }

    fn change(&self, zone: &str, body: Value) -> Result<Value, Error> {
        self.dns().create_change(PROJECT, zone, &members(body))
    }

    fn add(&self, zone: &str, name: &str, kind: &str, data: &[&str]) -> Result<Value, Error> {
        self.dns().create_set(PROJECT, zone, members(set(name, kind, data)))
    }

    fn sets(&self, zone: &str) -> Vec<(String, String)> {
        let mut sets = self.dns().sets(PROJECT, zone, None, None).expect("present");
        sets.sort_by_key(super::set_order);
        let text = |set: &Value, field: &str| set[field].as_str().unwrap().to_owned();
        sets.iter().map(|set| (text(set, "name"), text(set, "type"))).collect()
    }

    fn ask(&self, network: &str, name: &str, kind: &str) -> Answer {
        let network = NetworkId::new(PROJECT, network);
        let kind = rdata::type_number(kind).unwrap();
        self.resolver.lookup_local(&network, &name.parse().unwrap(), kind).expect("answered from zones")
    }

    fn address(&self, network: &str, name: &str) -> Option<Ipv4Addr> {
        self.ask(network, name, "A").addresses().first().copied()
    }
}

fn members(value: Value) -> Document {
    document::object(&value).clone()
}

fn network_url(name: &str) -> String {
    format!("http://127.0.0.1:8470/compute/v1/projects/{PROJECT}/global/networks/{name}")
}

fn private(name: &str, dns_name: &str, networks: &[&str]) -> Value {
    let networks: Vec<Value> = networks.iter().map(|n| json!({ "networkUrl": network_url(n) })).collect();
    json!({
        "name": name, "dnsName": dns_name, "visibility": "private",
        "privateVisibilityConfig": { "networks": networks },
    })
}

fn set(name: &str, kind: &str, data: &[&str]) -> Value {
    json!({ "kind": "dns#resourceRecordSet", "name": name, "type": kind, "ttl": 300, "rrdatas": data })
}

fn text(error: Result<Value, Error>) -> String {
    error.expect_err("refused").to_string()
}

#[test]
fn a_new_zone_has_its_apex_and_is_answered_at_once() {
    let cloud = Cloud::new();
    let zone = cloud.zone("z", "internal.example.com.");
    assert_eq!(zone["kind"], "dns#managedZone");
    assert_eq!(zone["nameServers"], json!([NS]));
    assert_eq!(zone["cloudLoggingConfig"], json!({ "kind": "dns#managedZoneCloudLoggingConfig" }));
    assert!(zone["id"].as_str().is_some_and(|id| id.parse::<u64>().is_ok()));
    let link = format!("https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/networks/n");
    assert_eq!(zone["privateVisibilityConfig"]["networks"][0]["networkUrl"], link);
    let sets = cloud.dns().sets(PROJECT, "z", None, None).unwrap();
    assert_eq!(sets[0]["rrdatas"], json!([NS]));
    assert_eq!((&sets[1]["rrdatas"], &sets[1]["ttl"]), (&json!([SOA]), &json!(21600)));
    let none = cloud.ask("n", "nope.internal.example.com", "A");
    assert_eq!((none.rcode, none.authority.unwrap().ttl), (Rcode::NxDomain, 300));
    let first = cloud.dns().change_of(PROJECT, "z", "0").unwrap();
    assert_eq!((&first["status"], first["additions"].as_array().unwrap().len()), (&json!("done"), 2));
    assert_eq!(cloud.dns().zone(PROJECT, zone["id"].as_str().unwrap()).unwrap(), zone, "by id too");
}

/// The worked example of Cloud DNS's resolution order.
#[test]
fn the_longest_name_answers_and_other_networks_see_nothing() {
    let cloud = Cloud::new();
    cloud.zone("a", "example.com.");
    cloud.zone("b", "dev.example.com.");
    cloud.add("a", "www.example.com.", "A", &["10.0.0.100"]).unwrap();
    cloud.add("a", "a.dev.example.com.", "A", &["10.0.0.1"]).unwrap();
    assert_eq!(cloud.address("n", "www.example.com"), Some(Ipv4Addr::new(10, 0, 0, 100)));
    assert_eq!(cloud.ask("n", "a.dev.example.com", "A").rcode, Rcode::NxDomain);
    assert_eq!(cloud.ask("m", "www.example.com", "A").rcode, Rcode::ServFail, "nobody above to ask");
    cloud.create(private("c", "example.com.", &["m"])).unwrap();
    assert_eq!(cloud.ask("m", "www.example.com", "A").rcode, Rcode::NxDomain);
}

#[test]
fn zones_are_checked() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    let mut peering_forwarding = private("x", "x.example.", &["n"]);
    peering_forwarding["forwardingConfig"] = json!({ "targetNameServers": [{ "ipv4Address": "10.0.0.53" }] });
    peering_forwarding["peeringConfig"] = json!({ "targetNetwork": { "networkUrl": network_url("m") } });
    let with = |field: &str, value: Value| {
        let mut zone = private("x", "x.example.", &["n"]);
        zone[field] = value;
        zone
    };
    for (body, part) in [
        (json!({ "dnsName": "x.example." }), "'entity.managedZone.name' parameter is required"),
        (json!({ "name": "x" }), "'entity.managedZone.dnsName' parameter is required"),
        (with("name", json!("X_1")), "Invalid value for 'entity.managedZone.name': 'X_1'"),
        (with("dnsName", json!("x.example")), "'entity.managedZone.dnsName': 'x.example'"),
        (with("dnsName", json!(".")), "entity.managedZone.dnsName"),
        (with("dnsName", json!("a..b.")), "entity.managedZone.dnsName"),
        (with("dnsName", json!("x.google.internal.")), "entity.managedZone.dnsName"),
        (with("visibility", json!("public")), "entity.managedZone.privateVisibilityConfig"),
        (with("description", json!("x".repeat(1025))), "entity.managedZone.description"),
        (private("x", "x.example.", &["gone"]), "networks[0].networkUrl"),
        (private("x", "x.example.", &["n", "n"]), "duplicate network"),
        (with("forwardingConfig", json!({})), "targetNameServers' parameter is required"),
        (with("forwardingConfig", json!({ "targetNameServers": [{ "ipv4Address": "x" }] })), "ipv4Address"),
        (with("peeringConfig", json!({ "targetNetwork": {} })), "networkUrl' parameter is required"),
        (
            with("peeringConfig", json!({ "targetNetwork": { "networkUrl": network_url("gone") } })),
            "peeringConfig",
        ),
        (peering_forwarding, "entity.managedZone.peeringConfig"),
        (
            with("reverseLookupConfig", json!({})),
            "Invalid value for 'entity.managedZone.dnsName': 'x.example.'",
        ),
        (
            with("serviceDirectoryConfig", json!({ "namespace": {} })),
            "serviceDirectoryConfig is not supported",
        ),
        (with("dnssecConfig", json!({ "state": "on" })), "dnssecConfig.state is not supported"),
        (
            with("cloudLoggingConfig", json!({ "enableLogging": true })),
            "logged by a DNS policy of the network",
        ),
        (private("z", "x.example.", &["n"]), "'entity.managedZone' named 'z' already exists"),
        (private("z", "example.com.", &["n"]), "'entity.managedZone' named 'z' already exists"),
        (private("x", "EXAMPLE.com.", &["m", "n"]), "already sees the zone 'z'"),
    ] {
        let refused = text(cloud.create(body.clone()));
        assert!(refused.contains(part), "{body}: {refused}");
    }
    assert_eq!(cloud.dns().zones(PROJECT, None).len(), 1, "nothing of it is left");
}

#[test]
fn public_zones_and_zones_that_nobody_sees() {
    let cloud = Cloud::new();
    // As Terraform sends it.
    let public = cloud.create(json!({
        "name": "pub", "dnsName": "pub.example.", "visibility": "public", "description": "Managed by Terraform",
        "privateVisibilityConfig": { "networks": [] },
    })).unwrap();
    assert_eq!(public.get("privateVisibilityConfig"), None);
    let servers = public["nameServers"].as_array().unwrap();
    assert!(servers.len() == 4 && servers[0].as_str().unwrap().starts_with("ns-cloud-"));
    cloud.add("pub", "www.pub.example.", "A", &["192.0.2.1"]).unwrap();
    assert_eq!(cloud.address("m", "www.pub.example"), Some(Ipv4Addr::new(192, 0, 2, 1)));
    cloud.create(private("dark", "dark.example.", &[])).unwrap();
    assert_eq!(cloud.ask("n", "dark.example", "SOA").rcode, Rcode::ServFail);
}

#[test]
fn zones_are_changed_and_replaced() {
    let cloud = Cloud::new();
    let before = cloud.zone("z", "example.com.");
    let patch = |body: Value| cloud.dns().change_zone(PROJECT, "z", &ME, members(body), false);
    let operation = patch(json!({ "name": "z", "description": "hello", "labels": { "a": "b" } })).unwrap();
    assert_eq!((&operation["type"], &operation["status"]), (&json!("UPDATE"), &json!("done")));
    assert_eq!((&operation["kind"], &operation["user"]), (&json!("dns#operation"), &json!("user:me")));
    assert_eq!(operation["zoneContext"]["oldValue"], before);
    assert_eq!(operation["zoneContext"]["newValue"]["description"], "hello");
    let id = operation["id"].as_str().unwrap();
    assert_eq!(cloud.dns().zone_operation(PROJECT, "z", id).unwrap(), operation);
    // PUT, with the server's members as Terraform returns them.
    let mut whole = cloud.dns().zone(PROJECT, "z").unwrap();
    whole["id"] = json!("17");
    whole["privateVisibilityConfig"] = json!({ "networks": [{ "networkUrl": network_url("m") }] });
    whole.as_object_mut().unwrap().remove("labels");
    cloud
        .dns()
        .change_zone(PROJECT, "z", &Caller { operation_id: Some("mine"), ..ME }, members(whole), true)
        .unwrap();
    let after = cloud.dns().zone(PROJECT, "z").unwrap();
    assert_eq!((&after["id"], &after["description"]), (&before["id"], &json!("hello")));
    assert_eq!(after.get("labels"), None);
    assert_eq!(cloud.ask("m", "example.com", "NS").rcode, Rcode::NoError);
    assert_eq!(cloud.ask("n", "example.com", "NS").rcode, Rcode::ServFail);
    assert_eq!(cloud.dns().zone_operation(PROJECT, "z", "mine").unwrap()["status"], "done");
    assert_eq!(cloud.dns().zone_operations(PROJECT, "z").unwrap().len(), 2);
    for body in [
        json!({ "name": "y" }),
        json!({ "dnsName": "y.example." }),
        json!({ "visibility": "public", "privateVisibilityConfig": null }),
        json!({ "peeringConfig": { "targetNetwork": { "networkUrl": network_url("n") } } }),
    ] {
        assert!(text(patch(body.clone())).starts_with("Invalid value for 'entity.managedZone"), "{body}");
    }
}

#[test]
fn a_zone_with_records_stays_and_its_network_too() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    cloud.add("z", "www.example.com.", "A", &["10.0.0.1"]).unwrap();
    let refused = cloud.dns().delete_zone(PROJECT, "z").unwrap_err();
    assert_eq!(
        refused,
        Error::Named {
            reason: "containerNotEmpty",
            message:
                "The resource named 'z' cannot be deleted because it contains one or more 'resource records'."
                    .into()
        }
    );
    let network = format!("compute/projects/{PROJECT}/global/networks/n");
    let removed = cloud.world.control.change(|change| {
        change.delete(&network);
        Ok(())
    });
    assert!(matches!(removed, Err(Error::InUse { .. })), "{removed:?}");
    cloud.dns().delete_set(PROJECT, "z", "WWW.example.com.", "A").unwrap();
    cloud.dns().delete_zone(PROJECT, "z").unwrap();
    assert_eq!(cloud.ask("n", "www.example.com", "A").rcode, Rcode::ServFail);
    let view = cloud.world.control.view();
    assert_eq!(view.range("dns/").count(), 0, "nothing of the zone is left");
    assert_eq!(cloud.users_of("n"), Vec::<String>::new());
    assert_eq!(
        text(cloud.dns().zone(PROJECT, "z")),
        "The 'parameters.managedZone' resource named 'z' does not exist."
    );
}

#[test]
fn record_sets_one_at_a_time() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    let made = cloud.add("z", "api.example.com.", "A", &["10.0.0.100"]).unwrap();
    let mut expected = set("api.example.com.", "A", &["10.0.0.100"]);
    expected["signatureRrdatas"] = json!([]);
    assert_eq!(made, expected);
    assert_eq!(cloud.dns().set(PROJECT, "z", "API.example.com.", "A").unwrap(), expected);
    let patch =
        members(json!({ "name": "api.example.com.", "type": "A", "ttl": 60, "rrdatas": ["10.0.0.101"] }));
    let patched = cloud.dns().patch_set(PROJECT, "z", "api.example.com.", "A", patch).unwrap();
    assert_eq!((&patched["ttl"], &patched["rrdatas"]), (&json!(60), &json!(["10.0.0.101"])));
    assert_eq!(cloud.address("n", "api.example.com"), Some(Ipv4Addr::new(10, 0, 0, 101)));
    let renamed = members(json!({ "name": "other.example.com." }));
    assert!(cloud.dns().patch_set(PROJECT, "z", "api.example.com.", "A", renamed).is_err());
    let only = cloud.dns().sets(PROJECT, "z", Some("api.example.com."), Some("A")).unwrap();
    assert_eq!(only.len(), 1);
    assert!(cloud.dns().sets(PROJECT, "z", Some("api.example.com."), Some("TXT")).unwrap().is_empty());
    assert_eq!(
        text(cloud.add("z", "api.example.com.", "A", &["10.0.0.1"])),
        "The resource 'entity.resourceRecordSet' named 'api.example.com. (A)' already exists"
    );
    assert!(matches!(cloud.dns().set(PROJECT, "z", "no.example.com.", "A"), Err(Error::NotFound { .. })));
    assert!(matches!(
        cloud.dns().delete_set(PROJECT, "z", "no.example.com.", "A"),
        Err(Error::NotFound { .. })
    ));
    assert!(cloud.dns().delete_set(PROJECT, "z", "example.com.", "SOA").is_err(), "the apex stays");
    let sets = cloud.sets("z");
    let names: Vec<&str> = sets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["example.com.", "example.com.", "api.example.com."]);
}

/// As `gcloud dns record-sets transaction` does it.
#[test]
fn a_change_is_whole_and_replaces_by_deleting_and_adding() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    let soa = |serial: u32| {
        let mut soa = set("example.com.", "SOA", &[&SOA.replace(" 1 ", &format!(" {serial} "))]);
        soa["ttl"] = json!(21600);
        soa
    };
    let body = json!({
        "additions": [soa(2), set("web.example.com.", "A", &["10.0.0.102"])],
        "deletions": [soa(1)],
    });
    let change = cloud.change("z", body).unwrap();
    assert_eq!(
        (&change["kind"], &change["id"], &change["status"]),
        (&json!("dns#change"), &json!("1"), &json!("done"))
    );
    assert_eq!(change["additions"][1]["name"], "web.example.com.");
    assert_eq!(cloud.address("n", "web.example.com"), Some(Ipv4Addr::new(10, 0, 0, 102)));
    let answered = cloud.ask("n", "example.com", "SOA").records[0].data.clone();
    assert_eq!(answered[answered.len() - 20..][..4], 2u32.to_be_bytes(), "the serial rises");
    // The second addition is wrong, so the first is not there either.
    let half = json!({ "additions": [set("good.example.com.", "A", &["10.0.0.1"]), set("bad.example.com.", "A", &["x"])] });
    assert!(text(cloud.change("z", half)).contains("entity.change.additions[1].rrdatas"));
    assert!(cloud.dns().set(PROJECT, "z", "good.example.com.", "A").is_err());
    let list = cloud.dns().changes(PROJECT, "z").unwrap();
    let mut ids: Vec<&str> = list.iter().map(|change| change["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["0", "1"], "a refused change is none");
}

#[test]
fn changes_are_checked() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    cloud.add("z", "www.example.com.", "A", &["10.0.0.1", "10.0.0.2"]).unwrap();
    cloud.add("z", "alias.example.com.", "CNAME", &["www.example.com."]).unwrap();
    let add = |set: Value| json!({ "additions": [set] });
    let delete = |set: Value| json!({ "deletions": [set] });
    let with = |field: &str, value: Value| {
        let mut set = set("x.example.com.", "A", &["10.0.0.1"]);
        set[field] = value;
        set
    };
    for (body, part) in [
        (json!({}), "The 'entity.change' parameter is required"),
        (
            add(with("name", json!("x.example.org."))),
            "Invalid value for 'entity.change.additions[0].name': 'x.example.org.'",
        ),
        (add(with("name", json!("x.example.com"))), "entity.change.additions[0].name"),
        (add(with("name", json!("a*b.example.com."))), "entity.change.additions[0].name"),
        (add(with("type", json!("WKS"))), "entity.change.additions[0].type"),
        (add(with("ttl", json!(-1))), "entity.change.additions[0].ttl': '-1'"),
        (add(with("rrdatas", json!([]))), "rrdatas' parameter is required"),
        (add(with("rrdatas", json!(["10.0.0.1", "10.0.0.1"]))), "entity.change.additions[0].rrdatas"),
        (add(with("rrdatas", json!(["10.0.0"]))), "entity.change.additions[0].rrdatas': '10.0.0'"),
        (add(with("routingPolicy", json!({ "wrr": { "items": [] } }))), "routingPolicy"),
        (
            add(set("www.example.com.", "A", &["10.0.0.9"])),
            "The resource 'entity.change.additions[www.example.com.][A]' named 'www.example.com. (A)' already exists",
        ),
        (add(set("alias.example.com.", "A", &["10.0.0.9"])), "CNAME"),
        (add(set("www.example.com.", "CNAME", &["x.example.com."])), "CNAME"),
        (add(set("example.com.", "CNAME", &["x.example.com."])), "CNAME"),
        (add(set("two.example.com.", "CNAME", &["x.example.com.", "y.example.com."])), "CNAME"),
        (add(set("sub.example.com.", "SOA", &[SOA])), "entity.change.additions[0].type"),
        (
            delete(set("gone.example.com.", "A", &["10.0.0.1"])),
            "The 'entity.change.deletions[0]' resource named 'gone.example.com. (A)' does not exist.",
        ),
        (
            delete(set("www.example.com.", "A", &["10.0.0.1"])),
            "Precondition not met for 'entity.change.deletions[0]'",
        ),
    ] {
        let refused = text(cloud.change("z", body.clone()));
        assert!(refused.contains(part), "{body}: {refused}");
    }
    let mut apex = set("example.com.", "NS", &[NS]);
    apex["ttl"] = json!(21600);
    assert!(text(cloud.change("z", delete(apex))).contains("example.com. (NS)"));
    // In another order and spelling it is the same set.
    cloud.change("z", delete(set("WWW.example.com.", "A", &["10.0.0.2", "10.0.0.1"]))).unwrap();
    let both = json!({
        "deletions": [set("alias.example.com.", "CNAME", &["WWW.example.com."])],
        "additions": [set("alias.example.com.", "A", &["10.0.0.3"])],
    });
    cloud.change("z", both).unwrap();
    assert_eq!(cloud.address("n", "alias.example.com"), Some(Ipv4Addr::new(10, 0, 0, 3)));
    let many: Vec<Value> =
        (0..1001).map(|n| set(&format!("h{n}.example.com."), "A", &["10.0.0.1"])).collect();
    assert!(matches!(cloud.change("z", json!({ "additions": many })), Err(Error::ResourceExhausted { .. })));
}

#[test]
fn the_soa_keeps_naming_our_own_server() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    let body = members(json!({ "rrdatas": ["ns.evil.example. hostmaster.example. 9 1 2 3 60"] }));
    let patched = cloud.dns().patch_set(PROJECT, "z", "example.com.", "SOA", body).unwrap();
    assert_eq!(patched["rrdatas"], json!([format!("{NS} hostmaster.example. 9 1 2 3 60")]));
    assert_eq!(cloud.ask("n", "x.example.com", "A").authority.unwrap().ttl, 60);
}

#[test]
fn policies_are_echoed_and_weights_obeyed() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    let policy = json!({ "wrr": { "items": [
        { "weight": 1.0, "rrdatas": ["10.0.0.1"] },
        { "weight": 0.0, "rrdatas": ["10.0.0.2"] },
    ] } });
    let body = json!({ "name": "w.example.com.", "type": "A", "ttl": 5, "routingPolicy": policy });
    let made = cloud.dns().create_set(PROJECT, "z", members(body.clone())).unwrap();
    assert_eq!(made["routingPolicy"], policy);
    assert_eq!(made.get("rrdatas"), None);
    for _ in 0..50 {
        assert_eq!(cloud.address("n", "w.example.com"), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }
    cloud.change("z", json!({ "deletions": [body] })).unwrap();
    assert_eq!(cloud.address("n", "w.example.com"), None);
}

#[test]
fn data_and_a_policy_take_each_others_place() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    cloud.add("z", "w.example.com.", "A", &["10.0.0.1"]).unwrap();
    let patch = |body: Value| cloud.dns().patch_set(PROJECT, "z", "w.example.com.", "A", members(body));
    let geo = json!({ "geo": { "items": [
        { "location": "us-central1", "rrdatas": ["10.0.0.2"] },
        { "location": "europe-west1", "rrdatas": ["10.0.0.3"] },
    ] } });
    let patched = patch(json!({ "routingPolicy": geo })).unwrap();
    assert_eq!((&patched["routingPolicy"], patched.get("rrdatas")), (&geo, None));
    assert_eq!(cloud.address("n", "w.example.com"), Some(Ipv4Addr::new(10, 0, 0, 2)));
    let patched = patch(json!({ "rrdatas": ["10.0.0.4"] })).unwrap();
    assert_eq!((patched.get("routingPolicy"), &patched["rrdatas"]), (None, &json!(["10.0.0.4"])));
    assert_eq!(cloud.address("n", "w.example.com"), Some(Ipv4Addr::new(10, 0, 0, 4)));
    assert!(text(patch(json!({ "rrdatas": ["10.0.0.4"], "routingPolicy": geo }))).contains("routingPolicy"));
}

#[test]
fn routing_policies_are_checked() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    let make = |policy: Value| {
        let body = json!({ "name": "w.example.com.", "type": "A", "ttl": 5, "routingPolicy": policy });
        text(cloud.dns().create_set(PROJECT, "z", members(body)))
    };
    let item = |location: &str, data: &str| json!({ "location": location, "rrdatas": [data] });
    let geo = |items: Value| json!({ "geo": { "items": items } });
    let balancer = |changed: Value| {
        let mut target = json!({
            "loadBalancerType": "regionalL7ilb", "ipAddress": "10.0.0.100", "port": "80", "ipProtocol": "tcp",
            "networkUrl": network_url("n"), "project": PROJECT, "region": "us-central1",
        });
        document::merge(target.as_object_mut().unwrap(), members(changed));
        json!({ "internalLoadBalancers": [target] })
    };
    let wrr =
        |targets: Value| json!({ "wrr": { "items": [{ "weight": 1.0, "healthCheckedTargets": targets }] } });
    let primary = |targets: Value| json!({ "primaryBackup": { "primaryTargets": targets } });
    for (policy, part) in [
        (json!({}), "routingPolicy"),
        (json!({ "wrr": { "items": [] } }), "wrr.items"),
        (json!({ "wrr": { "items": [{ "weight": -1.0, "rrdatas": ["10.0.0.1"] }] } }), "weight"),
        (json!({ "wrr": { "items": [{ "weight": 1.0, "rrdatas": [] }] } }), "rrdatas"),
        (geo(json!([])), "geo.items"),
        (geo(json!([{ "rrdatas": ["10.0.0.1"] }])), "geo.items[0].location"),
        (geo(json!([item("us-east1", "10.0.0.1"), item("us-east1", "10.0.0.2")])), "geo.items[1].location"),
        (geo(json!([item("us-east1", "10.0.0.1"), item("us-east4", "no address")])), "no address"),
        (geo(json!([item("moon1", "10.0.0.1")])), "geo.items[0].location': 'moon1'"),
        (json!({ "wrr": { "items": [] }, "geo": { "items": [] } }), "geo"),
        (json!({ "primaryBackup": {} }), "primaryTargets"),
        (primary(balancer(json!({}))), "backupGeoTargets' parameter is required"),
        (
            wrr(balancer(json!({ "loadBalancerType": "regionalL4ilb" }))),
            "loadBalancerType regionalL4ilb is not",
        ),
        (
            wrr(balancer(json!({ "loadBalancerType": "x" }))),
            "internalLoadBalancers[0].loadBalancerType': 'x'",
        ),
        (wrr(balancer(json!({ "ipProtocol": "udp" }))), "ipProtocol': 'udp'"),
        (wrr(balancer(json!({ "ipAddress": "x" }))), "ipAddress': 'x'"),
        (wrr(balancer(json!({ "port": "0" }))), "port': '0'"),
        (wrr(balancer(json!({ "port": null }))), "port' parameter is required"),
        (wrr(balancer(json!({ "region": null }))), "region' parameter is required"),
        (wrr(balancer(json!({ "networkUrl": "x" }))), "networkUrl': 'x'"),
        (wrr(json!({ "externalEndpoints": ["192.0.2.1"] })), "externalEndpoints is not supported"),
        (json!({ "healthCheck": "x", "wrr": {} }), "routingPolicy.healthCheck is not supported"),
    ] {
        let told = make(policy.clone());
        assert!(told.contains(part), "{policy}: {told}");
    }
}

#[test]
fn peering_and_forwarding_zones_hold_no_records() {
    let cloud = Cloud::new();
    cloud.create(private("target", "shared.example.", &["m"])).unwrap();
    cloud.add("target", "a.shared.example.", "A", &["10.7.7.7"]).unwrap();
    let mut peering = private("peer", "shared.example.", &["n"]);
    peering["peeringConfig"] = json!({ "targetNetwork": { "networkUrl": network_url("m") } });
    let made = cloud.create(peering).unwrap();
    let kind = "dns#managedZonePeeringConfigTargetNetwork";
    assert_eq!(
        made["peeringConfig"],
        json!({
            "kind": "dns#managedZonePeeringConfig",
            "targetNetwork": {
                "kind": kind,
                "networkUrl": format!("https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/networks/m"),
            },
        })
    );
    assert_eq!(cloud.address("n", "a.shared.example"), Some(Ipv4Addr::new(10, 7, 7, 7)));
    let mut forwarding = private("fwd", "corp.example.", &["n"]);
    forwarding["forwardingConfig"] = json!({ "targetNameServers": [{ "ipv4Address": "127.0.0.1" }] });
    let made = cloud.create(forwarding).unwrap();
    let kind = "dns#managedZoneForwardingConfigNameServerTarget";
    assert_eq!(
        made["forwardingConfig"],
        json!({
            "kind": "dns#managedZoneForwardingConfig",
            "targetNameServers": [{ "kind": kind, "ipv4Address": "127.0.0.1" }],
        })
    );
    for zone in ["peer", "fwd"] {
        assert_eq!(cloud.sets(zone), []);
        assert!(cloud.add(zone, "x.corp.example.", "A", &["10.0.0.1"]).is_err());
        cloud.dns().delete_zone(PROJECT, zone).unwrap();
    }
}

#[test]
fn a_restart_serves_the_same_before_anything_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let store = vestibule_store::Store::open(dir.path()).unwrap();
        crate::Control::open(store, crate::Settings::default())
    };
    let control = open();
    let body = json!({ "name": "z", "dnsName": "example.com.", "visibility": "public" });
    control.dns().create_zone(PROJECT, members(body)).unwrap();
    control.dns().create_set(PROJECT, "z", members(set("a.example.com.", "A", &["10.0.0.1"]))).unwrap();
    drop(control);
    let (control, resolver) = (open(), Resolver::new(Vec::new()));
    let reconciler = super::start(control, resolver.clone(), None).unwrap();
    let network = NetworkId::new(PROJECT, "n");
    let answer = resolver.lookup_local(&network, &"a.example.com".parse().unwrap(), 1).unwrap();
    assert_eq!(answer.addresses(), [Ipv4Addr::new(10, 0, 0, 1)]);
    drop(reconciler);
    assert_eq!(
        resolver.lookup_local(&network, &"a.example.com".parse().unwrap(), 1),
        Some(answer),
        "and goes on"
    );
}

#[test]
fn racing_changes_of_one_record_leave_one_winner() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    cloud.add("z", "n.example.com.", "A", &["10.0.0.0"]).unwrap();
    let won: usize = std::thread::scope(|scope| {
        let race = |n: u8| {
            let cloud = &cloud;
            scope.spawn(move || {
                let body = json!({
                    "deletions": [set("n.example.com.", "A", &["10.0.0.0"])],
                    "additions": [set("n.example.com.", "A", &[&format!("10.0.0.{n}")])],
                });
                usize::from(cloud.change("z", body).is_ok())
            })
        };
        let racers: Vec<_> = (1..5).map(race).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
}

#[test]
fn a_reverse_lookup_zone_holds_no_records() {
    let cloud = Cloud::new();
    let mut body = private("rev", "64.100.in-addr.arpa.", &["n"]);
    body["reverseLookupConfig"] = json!({});
    let made = cloud.create(body).unwrap();
    assert_eq!(made["reverseLookupConfig"], json!({ "kind": "dns#managedZoneReverseLookupConfig" }));
    assert_eq!(cloud.sets("rev"), []);
    let refused = cloud.add("rev", "1.0.64.100.in-addr.arpa.", "PTR", &["x.example."]);
    assert!(text(refused).contains("holds no records"));
    let vm = ("vm.c.demo.internal".parse().unwrap(), Ipv4Addr::new(100, 64, 0, 1));
    cloud.resolver.set_hosts(&NetworkId::new(PROJECT, "n"), &[vm]);
    assert_eq!(cloud.ask("n", "1.0.64.100.in-addr.arpa", "PTR").records.len(), 1);
    cloud.dns().delete_zone(PROJECT, "rev").unwrap();
}
