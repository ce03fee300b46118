use serde_json::json;
use std::net::Ipv4Addr;

use super::{Claim, Ports, allocate};
use crate::compute::testing::World;
use crate::{Control, Error};

const ADDRESSES: &str = "regions/us-central1/addresses";

fn world() -> World {
    let world = World::new();
    world.network("n");
    world.subnetwork("s", "n", "10.0.0.0/29");
    world
}

fn reserve(world: &World, name: &str, address: Option<&str>) -> Result<String, Error> {
    let mut body =
        json!({"name": name, "addressType": "INTERNAL", "subnetwork": "regions/us-central1/subnetworks/s"});
    if let Some(address) = address {
        body["address"] = address.into();
    }
    world.try_insert(ADDRESSES, body)?;
    Ok(world.get(&format!("{ADDRESSES}/{name}"))["address"].as_str().unwrap().to_owned())
}

/// What a forwarding rule would be told.
fn claim_rule(control: &Control, world: &World, address: &str, port: u16) -> Result<Ipv4Addr, Error> {
    let subnetwork = world.name("regions/us-central1/subnetworks/s");
    let ports = Ports { protocol: "TCP".into(), first: port, last: port };
    let wanted = address.parse().ok();
    control
        .change(|change| allocate(change, &subnetwork, "resource.IPAddress", wanted, Claim::Rule(ports)))
        .map(|(address, _)| address)
}

#[test]
fn a_minimal_address_reads_back_as_googles() {
    let world = world();
    reserve(&world, "a", None).unwrap();
    let doc = world.get("regions/us-central1/addresses/a");
    for (field, value) in [
        ("address", json!("10.0.0.2")),
        ("addressType", json!("INTERNAL")),
        ("networkTier", json!("PREMIUM")),
        ("purpose", json!("GCE_ENDPOINT")),
        ("status", json!("RESERVED")),
        (
            "subnetwork",
            json!("https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1/subnetworks/s"),
        ),
    ] {
        assert_eq!(doc[field], value, "{field}");
    }
    assert!(doc["labelFingerprint"].is_string());
    assert!(doc.get("network").is_none() && doc.get("users").is_none());
}

#[test]
fn the_lowest_free_address_is_taken_until_there_is_none() {
    let world = world();
    assert_eq!(reserve(&world, "a", Some("10.0.0.3")).unwrap(), "10.0.0.3");
    assert_eq!(reserve(&world, "b", None).unwrap(), "10.0.0.2");
    assert_eq!(reserve(&world, "c", None).unwrap(), "10.0.0.4");
    assert_eq!(reserve(&world, "d", None).unwrap(), "10.0.0.5");
    let body =
        json!({"name": "e", "addressType": "INTERNAL", "subnetwork": "regions/us-central1/subnetworks/s"});
    let operation = world.insert(ADDRESSES, body);
    assert_eq!(operation["status"], "DONE");
    assert_eq!(
        operation["error"]["errors"][0],
        json!({
            "code": "IP_SPACE_EXHAUSTED_WITH_DETAILS",
            "message": "IP space of 'projects/demo/regions/us-central1/subnetworks/s' is exhausted. Insufficient free \
                        IP addresses in the IP range '10.0.0.0/29'. Consider expanding the current subnet IP range to \
                        include more IP addresses.",
        })
    );
    assert!(world.try_get("regions/us-central1/addresses/e").is_err());
    world.delete("regions/us-central1/addresses/b");
    assert_eq!(reserve(&world, "e", None).unwrap(), "10.0.0.2");
}

#[test]
fn what_is_refused() {
    let world = world();
    reserve(&world, "a", Some("10.0.0.4")).unwrap();
    for address in ["10.0.0.0", "10.0.0.1", "10.0.0.6", "10.0.0.7", "10.0.1.2", "300.0.0.1", "fd00::1"] {
        assert!(matches!(reserve(&world, "b", Some(address)), Err(Error::Invalid { .. })), "{address}");
    }
    let taken = reserve(&world, "b", Some("10.0.0.4")).unwrap_err();
    assert_eq!(
        taken.to_string(),
        "IP_IN_USE_BY_ANOTHER_RESOURCE - IP '10.0.0.4' is already being used by another resource."
    );
    let subnetwork = "regions/us-central1/subnetworks/s";
    for (body, not_built) in [
        (json!({"name": "b", "address": "10.0.0.5"}), true),
        (json!({"name": "b", "addressType": "EXTERNAL"}), true),
        (
            json!({"name": "b", "addressType": "INTERNAL", "subnetwork": subnetwork, "ipVersion": "IPV6"}),
            true,
        ),
        (json!({"name": "b", "addressType": "INTERNAL", "subnetwork": subnetwork, "prefixLength": 24}), true),
        (json!({"name": "b", "addressType": "INTERNAL"}), false),
        (
            json!({"name": "b", "addressType": "INTERNAL", "subnetwork": subnetwork, "purpose": "NAT_AUTO"}),
            false,
        ),
    ] {
        let error = world.try_insert(ADDRESSES, body.clone()).unwrap_err();
        assert_eq!(matches!(error, Error::NotBuilt { .. }), not_built, "{body} {error}");
    }
}

#[test]
fn proxies_keep_their_subnetwork_to_themselves() {
    let world = world();
    world.try_proxy_only("p", "n", "10.129.0.0/23", "ACTIVE").unwrap();
    let body =
        json!({"name": "a", "addressType": "INTERNAL", "subnetwork": "regions/us-central1/subnetworks/p"});
    let refused = world.try_insert(ADDRESSES, body).unwrap_err();
    assert!(refused.to_string().contains("must have purpose=PRIVATE: only the proxies of"), "{refused}");
    let subnetwork = world.name("regions/us-central1/subnetworks/p");
    for wanted in [None, Some(std::net::Ipv4Addr::new(10, 129, 0, 9))] {
        let refused = world.control.lease_vm(&subnetwork, wanted).unwrap_err().to_string();
        assert!(refused.contains("only the proxies of load balancers have addresses in it"), "{refused}");
    }
}

#[test]
fn a_subnetwork_with_addresses_stays() {
    let world = world();
    reserve(&world, "a", None).unwrap();
    assert_eq!(
        world.try_delete("regions/us-central1/subnetworks/s").unwrap_err().to_string(),
        "The subnetwork resource 'projects/demo/regions/us-central1/subnetworks/s' is already being used by \
         'projects/demo/regions/us-central1/addresses/a'"
    );
}

#[test]
fn labels_are_set_with_their_fingerprint() {
    let world = world();
    reserve(&world, "a", None).unwrap();
    let path = "regions/us-central1/addresses/a";
    let before = world.get(path)["labelFingerprint"].clone();
    let labels = json!({"labels": {"k": "v"}, "labelFingerprint": before});
    assert_eq!(world.act(path, "setLabels", labels.clone())["operationType"], "setLabels");
    assert_eq!(world.get(path)["labels"], json!({"k": "v"}));
    assert!(matches!(world.try_act(path, "setLabels", labels), Err(Error::ConditionNotMet { .. })));
    let clear = json!({"labels": {}, "labelFingerprint": world.get(path)["labelFingerprint"]});
    world.act(path, "setLabels", clear);
    assert_eq!(world.get(path)["labelFingerprint"], before);
}

#[test]
fn clients_have_what_nobody_reserved() {
    let world = world();
    reserve(&world, "a", Some("10.0.0.2")).unwrap();
    let subnetwork = world.name("regions/us-central1/subnetworks/s");
    let lease = world.control.lease_vm(&subnetwork, None).unwrap();
    assert_eq!(lease.address, Ipv4Addr::new(10, 0, 0, 3));
    assert_eq!(lease.network, world.name("global/networks/n"));
    assert!(world.control.lease_vm(&subnetwork, Some(lease.address)).is_err());
    assert!(matches!(reserve(&world, "b", Some("10.0.0.3")), Err(Error::IpInUse { .. })));
    assert!(matches!(claim_rule(&world.control, &world, "10.0.0.3", 80), Err(Error::IpInUse { .. })));
    assert!(claim_rule(&world.control, &world, "10.0.0.2", 80).is_ok());
    world.delete("regions/us-central1/addresses/a");
    assert!(matches!(world.try_delete("regions/us-central1/subnetworks/s"), Err(Error::InUse { .. })));
    world.control.vms().release(&lease);
    world.delete("regions/us-central1/subnetworks/s");
}

#[test]
fn a_client_may_ask_for_a_reserved_address_and_uses_it_then() {
    let world = world();
    reserve(&world, "a", Some("10.0.0.4")).unwrap();
    let shared = json!({
        "name": "shared", "addressType": "INTERNAL", "subnetwork": "regions/us-central1/subnetworks/s",
        "address": "10.0.0.5", "purpose": "SHARED_LOADBALANCER_VIP",
    });
    world.insert(ADDRESSES, shared);
    let subnetwork = world.name("regions/us-central1/subnetworks/s");
    assert!(world.control.lease_vm(&subnetwork, Some(Ipv4Addr::new(10, 0, 0, 5))).is_err());
    let lease = world.control.lease_vm(&subnetwork, Some(Ipv4Addr::new(10, 0, 0, 4))).unwrap();
    assert!(world.control.lease_vm(&subnetwork, Some(lease.address)).is_err(), "it is in use");
    assert!(matches!(claim_rule(&world.control, &world, "10.0.0.4", 80), Err(Error::IpInUse { .. })));
    let path = "regions/us-central1/addresses/a";
    let instance = "projects/demo/zones/us-central1-a/instances/vm-10-0-0-4";
    let users = [format!("https://www.googleapis.com/compute/v1/{instance}")];
    assert_eq!((&world.get(path)["status"], &world.get(path)["users"]), (&json!("IN_USE"), &json!(users)));
    assert!(world.try_delete(path).unwrap_err().to_string().ends_with(&format!("by '{instance}'")));
    world.control.vms().release(&lease);
    assert_eq!(world.get(path)["status"], "RESERVED");
    world.delete(path);
}

#[test]
fn nobody_gets_the_gateway_of_a_range_that_grew_downwards() {
    let world = World::new();
    world.network("n");
    world.subnetwork("s", "n", "10.0.0.8/29");
    let path = "regions/us-central1/subnetworks/s";
    world.act(path, "expandIpCidrRange", json!({"ipCidrRange": "10.0.0.0/28"}));
    assert_eq!(world.get(path)["gatewayAddress"], "10.0.0.9");
    assert!(matches!(reserve(&world, "gateway", Some("10.0.0.9")), Err(Error::Invalid { .. })));
    let got: Vec<String> = (0..11).map(|at| reserve(&world, &format!("a{at}"), None).unwrap()).collect();
    assert!(!got.contains(&"10.0.0.9".to_owned()), "{got:?}");
    assert_eq!(got.last().unwrap(), "10.0.0.13");
}

#[test]
fn ports_overlap_within_a_protocol() {
    let ports = |text: &str| Ports::parse("tcp", text).unwrap();
    assert!(ports("80").overlap(&ports("80-80")));
    assert!(ports("80-90").overlap(&ports("85")));
    assert!(!ports("80").overlap(&ports("443")));
    assert!(!ports("80").overlap(&Ports::parse("UDP", "80").unwrap()));
    for bad in ["", "0", "80-79", "x", "65536", "80-"] {
        assert_eq!(Ports::parse("TCP", bad), None, "{bad}");
    }
}
