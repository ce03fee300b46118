//! Inbound forwarding: which addresses it reserves.

use super::super::PolicyKind::Server;
use super::*;

const REGION: &str = "regions/us-central1";

impl Cloud {
    fn inbound(&self, name: &str, of: &[&str], on: bool) -> Result<Value, Error> {
        let networks: Vec<Value> = of.iter().map(|n| json!({ "networkUrl": network_url(n) })).collect();
        let body =
            json!({ "name": name, "description": "d", "enableInboundForwarding": on, "networks": networks });
        self.dns().create_policy(Server, PROJECT, members(body))
    }

    fn patched(&self, body: Value) {
        self.dns().change_policy(Server, PROJECT, "p", members(body), false).expect("accepted");
    }

    /// Subnetwork and address of every forwarder.
    fn forwarders(&self) -> Vec<(String, String)> {
        let name = self.world.name(&format!("{REGION}/addresses/x"));
        let all = self.world.control.compute().list(PROJECT, &name.scope, "addresses");
        let ours = all.iter().filter(|address| address["purpose"] == "DNS_RESOLVER");
        let last = |text: &Value| text.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let mut found: Vec<_> =
            ours.map(|address| (last(&address["subnetwork"]), last(&address["address"]))).collect();
        found.sort();
        found
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(subnetwork, address)| ((*subnetwork).into(), (*address).into())).collect()
}

#[test]
fn every_subnetwork_has_one_address_as_long_as_the_policy_wants_it() {
    let cloud = Cloud::new();
    cloud.world.subnetwork("a", "n", "10.0.0.0/24");
    cloud.world.subnetwork("b", "n", "10.0.1.0/24");
    cloud.world.subnetwork("other", "m", "10.0.0.0/24");
    cloud.world.try_proxy_only("proxies", "n", "10.129.0.0/23", "ACTIVE").unwrap();
    let held = cloud.world.name(&format!("{REGION}/subnetworks/b"));
    cloud.world.control.lease_vm(&held, None).unwrap();
    assert_eq!(cloud.inbound("p", &["n"], true).unwrap()["enableInboundForwarding"], true);
    assert_eq!(cloud.forwarders(), pairs(&[("a", "10.0.0.2"), ("b", "10.0.1.3")]), "not of proxies");
    // A subnetwork that comes later, and one that goes.
    cloud.world.subnetwork("c", "n", "10.0.2.0/24");
    cloud.world.delete(&format!("{REGION}/subnetworks/a"));
    assert_eq!(cloud.forwarders(), pairs(&[("b", "10.0.1.3"), ("c", "10.0.2.2")]));
    cloud.patched(json!({ "description": "e" }));
    assert_eq!(cloud.forwarders(), pairs(&[("b", "10.0.1.3"), ("c", "10.0.2.2")]), "they stay as they are");
    let networks = json!([{ "networkUrl": network_url("m") }]);
    cloud.patched(json!({ "networks": networks }));
    assert_eq!(cloud.forwarders(), pairs(&[("other", "10.0.0.2")]), "another network has them now");
    cloud.patched(json!({ "enableInboundForwarding": false }));
    assert_eq!(cloud.forwarders(), []);
    cloud.patched(json!({ "enableInboundForwarding": true }));
    cloud.patched(json!({ "networks": [] }));
    assert_eq!(cloud.forwarders(), []);
    cloud.dns().delete_policy(Server, PROJECT, "p").unwrap();
}

#[test]
fn the_addresses_are_nobody_elses() {
    let cloud = Cloud::new();
    cloud.world.subnetwork("a", "n", "10.0.0.0/24");
    cloud.inbound("p", &["n"], true).unwrap();
    let name = cloud.world.name(&format!("{REGION}/addresses/x"));
    let listed = cloud.world.control.compute().list(PROJECT, &name.scope, "addresses");
    let path = format!("{REGION}/addresses/{}", listed[0]["name"].as_str().unwrap());
    let refused = cloud.world.try_delete(&path).unwrap_err().to_string();
    assert!(refused.contains("already being used by 'projects/demo/policies/p'"), "{refused}");
    let client = cloud.world.name(&format!("{REGION}/subnetworks/a"));
    assert!(cloud.world.control.lease_vm(&client, "10.0.0.2".parse().ok()).is_err());
    let body = json!({
        "name": "mine", "addressType": "INTERNAL", "purpose": "DNS_RESOLVER",
        "subnetwork": format!("{REGION}/subnetworks/a"),
    });
    let refused = cloud.world.try_insert(&format!("{REGION}/addresses"), body).unwrap_err().to_string();
    assert!(refused.contains("purpose"), "{refused}");
}

/// A policy is bound as a whole or not at all.
#[test]
fn a_full_subnetwork_refuses_the_policy() {
    let cloud = Cloud::new();
    cloud.world.subnetwork("wide", "n", "10.0.0.0/24");
    cloud.world.subnetwork("full", "n", "10.0.1.0/29");
    let full = cloud.world.name(&format!("{REGION}/subnetworks/full"));
    for _ in 0..4 {
        cloud.world.control.lease_vm(&full, None).unwrap();
    }
    assert!(matches!(cloud.inbound("p", &["n"], true), Err(Error::IpSpaceExhausted { .. })));
    assert_eq!(cloud.forwarders(), []);
    assert!(cloud.dns().policy(Server, PROJECT, "p").is_err());
    cloud.inbound("p", &["n"], false).unwrap();
}
