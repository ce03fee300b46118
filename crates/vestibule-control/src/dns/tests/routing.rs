//! Routing policies as the resolver obeys them: by region, and by the health of load balancers.

use std::time::{Duration, Instant};

use vestibule_balance::State;

use super::*;

/// How long the resolver may take to follow the health of an endpoint. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(20);

const REGION: &str = "regions/us-central1";

impl Cloud {
    fn ask_from(&self, from: &str, name: &str) -> Vec<Ipv4Addr> {
        let network = NetworkId::new(PROJECT, "n");
        let (from, name) = (from.parse().ok(), name.parse().unwrap());
        let answer = self.resolver.lookup_local_from(&network, from, &name, 1).unwrap();
        answer.addresses()
    }

    fn routed(&self, name: &str, policy: Value) {
        let body = json!({ "name": name, "type": "A", "ttl": 5, "routingPolicy": policy });
        self.dns().create_set(PROJECT, "z", members(body)).expect("accepted");
    }

    /// Waits until a name has this address.
    fn until(&self, name: &str, address: &str) {
        let deadline = Instant::now() + PATIENCE;
        let wanted: Vec<Ipv4Addr> = vec![address.parse().unwrap()];
        loop {
            let found = self.ask_from("10.0.0.9", name);
            if found == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is {found:?}, not {address}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn who_asks_gets_the_answer_of_the_nearest_region() {
    let cloud = Cloud::new();
    cloud.world.subnetwork("iowa", "n", "10.0.0.0/24");
    cloud.zone("z", "example.com.");
    let item = |region: &str, data: &str| json!({ "location": region, "rrdatas": [data] });
    cloud.routed(
        "geo.example.com.",
        json!({ "geo": { "items": [item("europe-west1", "10.2.0.1"), item("us-central1", "10.1.0.1")] } }),
    );
    assert_eq!(cloud.ask_from("10.0.0.9", "geo.example.com"), [Ipv4Addr::new(10, 1, 0, 1)]);
    assert_eq!(cloud.ask_from("10.7.0.9", "geo.example.com"), [Ipv4Addr::new(10, 2, 0, 1)], "the first");
    // A subnetwork that comes later counts from its first moment.
    let body = json!({
        "name": "angeles", "network": "global/networks/n", "ipCidrRange": "10.7.0.0/24",
        "secondaryIpRanges": [{ "rangeName": "pods", "ipCidrRange": "10.8.0.0/20" }],
    });
    cloud.world.insert("regions/us-west2/subnetworks", body);
    for from in ["10.7.0.9", "10.8.3.3"] {
        assert_eq!(cloud.ask_from(from, "geo.example.com"), [Ipv4Addr::new(10, 1, 0, 1)], "Iowa is nearer");
    }
}

/// A forwarding rule at 10.0.0.100 port 80 of network `n`, and what is behind it: a group of endpoints that a check
/// probes.
fn balancer(world: &World) {
    world.subnetwork("s", "n", "10.0.0.0/24");
    world.try_proxy_only("proxies", "n", "10.129.0.0/23", "ACTIVE").unwrap();
    let check = json!({ "name": "check", "type": "HTTP", "httpHealthCheck": { "port": 80 } });
    world.insert(&format!("{REGION}/healthChecks"), check);
    let group = json!({
        "name": "group", "networkEndpointType": "NON_GCP_PRIVATE_IP_PORT", "defaultPort": 80,
        "network": "global/networks/n",
    });
    world.insert("zones/us-central1-a/networkEndpointGroups", group);
    let endpoints = json!({ "networkEndpoints": [{ "ipAddress": "10.200.0.1", "port": 80 }] });
    world.act("zones/us-central1-a/networkEndpointGroups/group", "attachNetworkEndpoints", endpoints);
    let service = json!({
        "name": "service", "loadBalancingScheme": "INTERNAL_MANAGED", "protocol": "HTTP",
        "healthChecks": [format!("{REGION}/healthChecks/check")],
        "backends": [{
            "group": "zones/us-central1-a/networkEndpointGroups/group", "balancingMode": "RATE",
            "maxRatePerEndpoint": 100,
        }],
    });
    world.insert(&format!("{REGION}/backendServices"), service);
    let map = json!({ "name": "map", "defaultService": format!("{REGION}/backendServices/service") });
    world.insert(&format!("{REGION}/urlMaps"), map);
    let proxy = json!({ "name": "proxy", "urlMap": format!("{REGION}/urlMaps/map") });
    world.insert(&format!("{REGION}/targetHttpProxies"), proxy);
    rule(world);
}

fn rule(world: &World) {
    let rule = json!({
        "name": "rule", "loadBalancingScheme": "INTERNAL_MANAGED", "IPAddress": "10.0.0.100", "portRange": "80",
        "IPProtocol": "TCP", "network": "global/networks/n", "subnetwork": format!("{REGION}/subnetworks/s"),
        "target": format!("{REGION}/targetHttpProxies/proxy"),
    });
    world.insert(&format!("{REGION}/forwardingRules"), rule);
}

#[test]
fn the_health_of_a_load_balancer_decides() {
    let cloud = Cloud::new();
    balancer(&cloud.world);
    cloud.zone("z", "example.com.");
    let targets = json!({ "internalLoadBalancers": [{
        "loadBalancerType": "regionalL7ilb", "ipAddress": "10.0.0.100", "port": "80", "ipProtocol": "tcp",
        "networkUrl": network_url("n"), "project": PROJECT, "region": "us-central1",
    }] });
    let backup = json!({ "items": [{ "location": "us-east1", "rrdatas": ["10.9.9.9"] }] });
    let failover =
        json!({ "primaryBackup": { "primaryTargets": targets.clone(), "backupGeoTargets": backup } });
    cloud.routed("failover.example.com.", failover);
    let items = json!([
        { "location": "us-central1", "healthCheckedTargets": targets },
        { "location": "asia-east1", "rrdatas": ["10.8.8.8"] },
    ]);
    cloud.routed("geo.example.com.", json!({ "geo": { "items": items } }));
    cloud.routed("fenced.example.com.", json!({ "geo": { "items": items, "enableFencing": true } }));
    let expect = |up: bool| {
        cloud.until("failover.example.com", if up { "10.0.0.100" } else { "10.9.9.9" });
        cloud.until("geo.example.com", if up { "10.0.0.100" } else { "10.8.8.8" });
        cloud.until("fenced.example.com", "10.0.0.100");
    };
    // Nobody has probed the endpoint yet.
    expect(false);
    let check = format!("projects/{PROJECT}/{REGION}/healthChecks/check");
    let network = NetworkId::new(PROJECT, "n");
    let health = cloud.world.control.health().of(&format!("{check} 10.200.0.1:80 in {}", network.as_str()));
    health.set(State::Healthy);
    expect(true);
    health.set(State::Unhealthy);
    expect(false);
    health.set(State::Healthy);
    expect(true);
    // Without its rule there is no load balancer, from the moment when the rule is gone.
    cloud.world.delete(&format!("{REGION}/forwardingRules/rule"));
    assert_eq!(cloud.ask_from("10.0.0.9", "failover.example.com"), [Ipv4Addr::new(10, 9, 9, 9)]);
    rule(&cloud.world);
    assert_eq!(cloud.ask_from("10.0.0.9", "failover.example.com"), [Ipv4Addr::new(10, 0, 0, 100)]);
}
