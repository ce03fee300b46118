use std::net::Ipv4Addr;

use serde_json::{Value, json};
use vestibule_vpc::firewall::{Action, Direction, Flow, TCP, UDP, decide};
use vestibule_vpc::{Addresses, FirewallRule, NetworkId};

use super::{Member, firewall, networks, proxy_addresses, region_addresses};
use crate::compute::testing::World;

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

fn network() -> NetworkId {
    NetworkId::new("demo", "n")
}

fn world() -> World {
    let world = World::new();
    world.network("n");
    world
}

fn rule(world: &World, name: &str, more: Value) {
    let mut body = json!({"name": name, "network": "global/networks/n"});
    crate::document::merge(body.as_object_mut().unwrap(), crate::document::object(&more).clone());
    world.insert("global/firewalls", body);
}

fn members() -> [Member; 2] {
    let member = |address, account: &str, tag: &str| Member {
        address,
        service_account: format!("{account}@demo.iam.gserviceaccount.com"),
        tags: vec![tag.to_owned()],
    };
    [member(WEB, "web", "front"), member(DATABASE, "db", "back")]
}

fn rules(world: &World) -> Vec<FirewallRule> {
    firewall(&world.control.view(), &network(), &members())
}

fn set(ips: &[Ipv4Addr]) -> Addresses {
    ips.iter().copied().collect()
}

#[test]
fn a_document_becomes_a_rule() {
    let world = world();
    rule(
        &world,
        "web",
        json!({
            "priority": 7, "sourceRanges": ["10.9.0.77/24", "fd00::/8", "192.0.2.1"],
            "destinationRanges": ["10.0.0.0/24"],
            "allowed": [{"IPProtocol": "TCP", "ports": ["80", "8000-8080"]}, {"IPProtocol": "1"}],
        }),
    );
    let [rule] = rules(&world).try_into().unwrap();
    assert_eq!(
        (&*rule.name, rule.priority, rule.direction, rule.action),
        ("web", 7, Direction::Ingress, Action::Allow)
    );
    assert_eq!(format!("{:?}", rule.sources), "{10.9.0.0-10.9.0.255, 192.0.2.1}");
    assert_eq!(format!("{:?}", rule.destinations), "{10.0.0.0-10.0.0.255}");
    assert_eq!(format!("{:?}", rule.traffic[0].ports.as_ref().unwrap()), "{80, 8000-8080}");
    assert_eq!((rule.traffic[0].protocol, rule.traffic[1].protocol), (Some(TCP), Some(1)));
    assert_eq!(rule.traffic[1].ports, None);
}

#[test]
fn what_is_not_said_means_everyone_and_default_priority() {
    let world = world();
    rule(&world, "open", json!({"allowed": [{"IPProtocol": "all"}]}));
    rule(&world, "shut", json!({"direction": "EGRESS", "denied": [{"IPProtocol": "udp"}]}));
    let [open, shut] = rules(&world).try_into().unwrap();
    assert!(open.sources.is_all() && open.destinations.is_all() && open.priority == 1000);
    assert_eq!((open.traffic[0].protocol, &open.traffic[0].ports), (None, &None));
    assert_eq!(
        (shut.direction, shut.action, shut.traffic[0].protocol),
        (Direction::Egress, Action::Deny, Some(UDP))
    );
}

#[test]
fn tags_and_service_accounts_are_the_clients_that_have_them() {
    let world = world();
    let allowed = json!([{"IPProtocol": "all"}]);
    let account = |name: &str| format!("{name}@demo.iam.gserviceaccount.com");
    rule(&world, "a-tags", json!({"sourceTags": ["front"], "targetTags": ["back"], "allowed": allowed}));
    let accounts = json!({
        "sourceServiceAccounts": [account("db")], "targetServiceAccounts": [account("web"), account("other")],
        "allowed": allowed,
    });
    rule(&world, "b-accounts", accounts);
    let both = json!({"sourceTags": ["front"], "sourceRanges": ["10.9.0.0/32"], "allowed": allowed});
    rule(&world, "c-union", both);
    let egress = json!({"direction": "EGRESS", "targetTags": ["front"], "denied": allowed});
    rule(&world, "d-egress", egress);
    let [tags, accounts, union, egress] = rules(&world).try_into().unwrap();
    assert_eq!((tags.sources, tags.destinations), (set(&[WEB]), set(&[DATABASE])));
    assert_eq!((accounts.sources, accounts.destinations), (set(&[DATABASE]), set(&[WEB])));
    assert_eq!(union.sources, set(&[WEB, Ipv4Addr::new(10, 9, 0, 0)]));
    assert_eq!(egress.sources, set(&[WEB]));
    assert!(egress.destinations.is_all());
}

#[test]
fn rules_about_nobody_of_other_networks_or_disabled_are_left_out() {
    let world = world();
    world.network("other");
    let allowed = json!([{"IPProtocol": "all"}]);
    rule(&world, "nobody", json!({"targetTags": ["nobody"], "allowed": allowed}));
    rule(&world, "six", json!({"sourceRanges": ["fd00::/8"], "allowed": allowed}));
    rule(&world, "off", json!({"disabled": true, "allowed": allowed}));
    world.insert(
        "global/firewalls",
        json!({"name": "o", "network": "global/networks/other", "allowed": allowed}),
    );
    assert_eq!(rules(&world), []);
    assert_eq!(firewall(&world.control.view(), &NetworkId::new("demo", "other"), &[]).len(), 1);
}

#[test]
fn the_rules_decide_as_google_documents_it() {
    let world = world();
    rule(
        &world,
        "allow-web",
        json!({"targetTags": ["front"], "allowed": [{"IPProtocol": "tcp", "ports": ["80"]}]}),
    );
    let internal =
        json!({"sourceRanges": ["10.0.0.0/8"], "priority": 65534, "allowed": [{"IPProtocol": "tcp"}]});
    rule(&world, "allow-internal", internal);
    rule(
        &world,
        "deny-db",
        json!({"sourceTags": ["front"], "targetTags": ["back"], "denied": [{"IPProtocol": "tcp"}]}),
    );
    let rules = rules(&world);
    let by = |source, destination, port| {
        let flow = Flow { source, destination, protocol: TCP, port };
        decide(&rules, Direction::Ingress, &flow).1.map(|rule| rule.name.to_string())
    };
    let outside = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(by(outside, WEB, 80).as_deref(), Some("allow-web"));
    assert_eq!(by(outside, WEB, 81), None);
    assert_eq!(by(DATABASE, WEB, 81).as_deref(), Some("allow-internal"));
    assert_eq!(by(WEB, DATABASE, 5432).as_deref(), Some("deny-db"));
}

#[test]
fn a_region_is_the_ranges_of_its_subnetworks() {
    let world = world();
    world.network("other");
    let subnetwork = |region: &str, body: Value| world.insert(&format!("regions/{region}/subnetworks"), body);
    let network = "global/networks/n";
    subnetwork("us-central1", json!({"name": "a", "network": network, "ipCidrRange": "10.0.0.0/24"}));
    subnetwork(
        "us-central1",
        json!({
            "name": "b", "network": network, "ipCidrRange": "10.0.1.0/24",
            "secondaryIpRanges": [{"rangeName": "pods", "ipCidrRange": "10.7.0.0/16"}],
        }),
    );
    subnetwork("europe-west1", json!({"name": "c", "network": network, "ipCidrRange": "10.1.0.0/24"}));
    subnetwork(
        "us-central1",
        json!({"name": "d", "network": "global/networks/other", "ipCidrRange": "10.2.0.0/24"}),
    );
    let view = world.control.view();
    let of = |region| format!("{:?}", region_addresses(&view, &self::network(), region));
    assert_eq!(of("us-central1"), "{10.0.0.0-10.0.1.255, 10.7.0.0-10.7.255.255}");
    assert_eq!(of("europe-west1"), "{10.1.0.0-10.1.0.255}");
    assert_eq!(of("asia-east1"), "{}");
    assert_eq!(networks(&view)[&self::network()].len(), 3);
}

#[test]
fn proxies_take_the_lowest_addresses_of_the_active_subnetwork() {
    let world = world();
    let of = |count| proxy_addresses(&world.control.view(), &network(), "us-central1", count);
    world.subnetwork("s", "n", "10.0.0.0/24");
    assert_eq!(of(2), [Ipv4Addr::UNSPECIFIED; 0]);
    world.try_proxy_only("p", "n", "10.129.0.0/26", "ACTIVE").unwrap();
    world.try_proxy_only("q", "n", "10.130.0.0/26", "BACKUP").unwrap();
    assert_eq!(of(2), [Ipv4Addr::new(10, 129, 0, 2), Ipv4Addr::new(10, 129, 0, 3)]);
    assert_eq!(of(1000).len(), 60);
    world.try_patch_now("regions/us-central1/subnetworks/q", json!({"role": "ACTIVE"})).unwrap();
    assert_eq!(of(1), [Ipv4Addr::new(10, 130, 0, 2)]);
    let elsewhere = proxy_addresses(&world.control.view(), &network(), "europe-west1", 1);
    assert_eq!(elsewhere, [Ipv4Addr::UNSPECIFIED; 0]);
}
