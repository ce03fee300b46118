//! The resolution order: server policies, response policies, zones, machines, the world.

use super::*;
use crate::policy::{Action, ResponsePolicy, Rule, ServerPolicy};

/// Where the world answers every name.
const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

fn rule(name: &str, sets: &[(&str, &str)]) -> Rule {
    let sets = sets.iter().map(|(kind, data)| set(name, kind, data)).collect();
    Rule { name: name.parse().unwrap(), action: Action::Answer(sets) }
}

fn bypass(name: &str) -> Rule {
    Rule { name: name.parse().unwrap(), action: Action::Bypass }
}

fn response_policy(network_name: &str, rules: Vec<Rule>) -> Arc<ResponsePolicy> {
    Arc::new(ResponsePolicy::new(vec![network(network_name)], rules))
}

fn server_policy(network_name: &str, servers: &[SocketAddr]) -> ServerPolicy {
    let targets = servers.iter().copied().map(Target::new).collect();
    ServerPolicy { networks: vec![network(network_name)], targets, ..ServerPolicy::default() }
}

/// A port of loopback where nobody answers.
fn nobody() -> SocketAddr {
    std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

async fn ask(resolver: &Resolver, net: &str, name: &str) -> (Rcode, Vec<Ipv4Addr>) {
    let answer = resolver.lookup(&network(net), &name.parse().unwrap(), kind::A).await;
    (answer.rcode, answer.addresses())
}

/// Every step of the order, each seen to come before the next.
#[tokio::test]
async fn the_first_step_that_knows_a_name_answers() {
    let (world, elsewhere) = (stub(WORLD).await, stub(ELSEWHERE).await);
    let resolver = Resolver::new(vec![world]);
    let zones = |net| {
        vec![
            plain(
                "example.com.",
                net,
                &[("www.example.com.", "A", "10.0.0.1"), ("api.example.com.", "A", "10.0.0.2")],
            ),
            plain("p.internal.", net, &[("db.p.internal.", "A", "10.0.0.3")]),
        ]
    };
    resolver.apply(Table {
        generation: 1,
        zones: [zones("n"), zones("m"), zones("down")].concat(),
        server_policies: vec![server_policy("m", &[nobody(), elsewhere]), server_policy("down", &[nobody()])],
        response_policies: vec![
            response_policy(
                "n",
                vec![rule("www.example.com.", &[("A", "10.9.9.9")]), rule("x.org.", &[("A", "10.9.9.8")])],
            ),
            response_policy("m", vec![rule("www.example.com.", &[("A", "10.9.9.9")])]),
        ],
        ..Table::default()
    });
    resolver.set_hosts(&network("n"), &[("vm.z.c.p.internal.".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 5))]);
    let found = |address: [u8; 4]| (Rcode::NoError, vec![Ipv4Addr::from(address)]);
    for (net, name, expected) in [
        ("n", "www.example.com", found([10, 9, 9, 9])),
        ("n", "x.org", found([10, 9, 9, 8])),
        ("n", "api.example.com", found([10, 0, 0, 2])),
        ("n", "db.p.internal", found([10, 0, 0, 3])),
        ("n", "no.p.internal", (Rcode::NxDomain, vec![])),
        ("n", "metadata.google.internal", found([169, 254, 169, 254])),
        ("n", "public.org", found([192, 0, 2, 1])),
        // Nothing else is asked where a server policy says so.
        ("m", "www.example.com", found([198, 51, 100, 9])),
        ("m", "db.p.internal", (Rcode::NxDomain, vec![])),
        ("m", "api.example.com", found([198, 51, 100, 9])),
        ("m", "public.org", found([198, 51, 100, 9])),
        ("down", "www.example.com", (Rcode::ServFail, vec![])),
        ("down", "public.org", (Rcode::ServFail, vec![])),
        ("other", "www.example.com", found([192, 0, 2, 1])),
    ] {
        assert_eq!(ask(&resolver, net, name).await, expected, "{name} from {net}");
    }
}

#[tokio::test]
async fn the_rule_with_the_longest_name_applies_alone() {
    let resolver = Resolver::new(Vec::new());
    let zone = plain(
        "example.com.",
        "n",
        &[("foo.example.com.", "A", "10.0.0.1"), ("a.b.example.com.", "A", "10.0.0.2")],
    );
    let rules = vec![
        rule("*.example.com.", &[("A", "10.9.0.1")]),
        bypass("foo.example.com."),
        bypass("*.b.example.com."),
        rule("deep.b.example.com.", &[("A", "10.9.0.2")]),
        rule("only6.example.com.", &[("AAAA", "fd00::1")]),
        rule("exact.test.", &[("A", "10.9.0.3")]),
    ];
    let response_policies = vec![response_policy("n", rules)];
    resolver.apply(Table { generation: 1, zones: vec![zone], response_policies, ..Table::default() });
    let found = |address: [u8; 4]| (Rcode::NoError, vec![Ipv4Addr::from(address)]);
    for (name, expected) in [
        ("bar.example.com", found([10, 9, 0, 1])),
        ("BAR.Example.com", found([10, 9, 0, 1])),
        ("x.y.z.example.com", found([10, 9, 0, 1])),
        ("foo.example.com", found([10, 0, 0, 1])),
        ("x.foo.example.com", found([10, 9, 0, 1])),
        ("a.b.example.com", found([10, 0, 0, 2])),
        ("no.b.example.com", (Rcode::NxDomain, vec![])),
        ("deep.b.example.com", found([10, 9, 0, 2])),
        // A wildcard is not for the name that it hangs from.
        ("example.com", (Rcode::NoError, vec![])),
        ("only6.example.com", (Rcode::NoError, vec![])),
        ("exact.test", found([10, 9, 0, 3])),
        ("x.exact.test", (Rcode::ServFail, vec![])),
    ] {
        assert_eq!(ask(&resolver, "n", name).await, expected, "{name}");
    }
    let local = |name: &str| {
        resolver
            .lookup_local(&network("n"), &name.parse().unwrap(), kind::A)
            .map(|answer| answer.authoritative)
    };
    assert_eq!(local("foo.example.com"), Some(true));
    assert_eq!(local("bar.example.com"), Some(false), "a policy is no authority");
    let no_data =
        resolver.lookup_local(&network("n"), &"only6.example.com".parse().unwrap(), kind::A).unwrap();
    assert_eq!(no_data.authority.unwrap().name.to_string(), "only6.example.com.");
}

/// As networks are set up that reach Google's services by private addresses.
#[tokio::test]
async fn an_alias_of_a_rule_is_followed_in_the_same_order() {
    let resolver = Resolver::new(Vec::new());
    let rules = vec![
        rule("*.googleapis.com.", &[("CNAME", "private.googleapis.com.")]),
        rule("private.googleapis.com.", &[("A", "10.9.0.8")]),
        rule("*.example.com.", &[("CNAME", "proxy.example.com.")]),
        rule("*.loop.test.", &[("CNAME", "a.pool.test.")]),
        rule("*.pool.test.", &[("CNAME", "a.loop.test.")]),
    ];
    let response_policies = vec![response_policy("n", rules)];
    let zones = vec![plain("example.com.", "n", &[("proxy.example.com.", "A", "10.0.0.7")])];
    resolver.apply(Table { generation: 1, zones, response_policies, ..Table::default() });
    let found = |address: [u8; 4]| (Rcode::NoError, vec![Ipv4Addr::from(address)]);
    assert_eq!(ask(&resolver, "n", "storage.googleapis.com").await, found([10, 9, 0, 8]));
    assert_eq!(ask(&resolver, "n", "www.example.com").await, found([10, 0, 0, 7]));
    assert_eq!(ask(&resolver, "n", "x.loop.test").await.0, Rcode::ServFail, "and ends");
    let answer = written(&resolver, &question("www.example.com", kind::A), 512);
    assert_eq!((answer[2] & 0x04, answer[7]), (0, 2), "the first name is the policy's");
}

#[tokio::test]
async fn a_peering_zone_starts_again_in_the_other_networks_order() {
    let elsewhere = stub(ELSEWHERE).await;
    let resolver = Resolver::new(Vec::new());
    resolver.apply(Table {
        generation: 1,
        zones: vec![
            zone("shared.", "n", ZoneKind::Peering(network("m"))),
            plain("shared.", "m", &[("a.shared.", "A", "10.0.0.1"), ("b.shared.", "A", "10.0.0.2")]),
            zone("out.", "n", ZoneKind::Peering(network("away"))),
        ],
        server_policies: vec![server_policy("away", &[elsewhere])],
        response_policies: vec![response_policy("m", vec![rule("b.shared.", &[("A", "10.9.9.9")])])],
        ..Table::default()
    });
    let found = |address: Ipv4Addr| (Rcode::NoError, vec![address]);
    assert_eq!(ask(&resolver, "n", "a.shared").await, found(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(ask(&resolver, "n", "b.shared").await, found(Ipv4Addr::new(10, 9, 9, 9)));
    assert_eq!(ask(&resolver, "n", "x.out").await, found(ELSEWHERE));
}

fn pointer(resolver: &Resolver, net: &str, name: &str) -> Option<String> {
    let answer = resolver.lookup_local(&network(net), &name.parse().unwrap(), kind::PTR)?;
    Some(
        answer
            .records
            .first()
            .map_or_else(|| format!("{:?}", answer.rcode), |r| Name::from_wire(&r.data).to_string()),
    )
}

#[tokio::test]
async fn machines_have_names_and_their_addresses_lead_back() {
    let resolver = Resolver::new(Vec::new());
    let vm = "vm-10-0-0-5.us-central1-a.c.p.internal.";
    let address = Ipv4Addr::new(10, 0, 0, 5);
    resolver.set_hosts(&network("n"), &[(vm.parse().unwrap(), address)]);
    resolver.set_hosts(
        &network("m"),
        &[("vm-192-0-2-7.z.c.p.internal.".parse().unwrap(), Ipv4Addr::new(192, 0, 2, 7))],
    );
    assert_eq!(ask(&resolver, "n", vm).await, (Rcode::NoError, vec![address]));
    assert_eq!(ask(&resolver, "n", "z.c.p.internal").await.0, Rcode::NxDomain);
    assert_eq!(
        ask(&resolver, "n", "us-central1-a.c.p.internal").await,
        (Rcode::NoError, vec![]),
        "lies between"
    );
    assert_eq!(ask(&resolver, "m", vm).await.0, Rcode::NxDomain, "another network's");
    let reverse = "5.0.0.10.in-addr.arpa";
    assert_eq!(pointer(&resolver, "n", reverse).as_deref(), Some(vm));
    assert_eq!(pointer(&resolver, "m", reverse).as_deref(), Some("NxDomain"));
    let metadata = pointer(&resolver, "n", "254.169.254.169.in-addr.arpa");
    assert_eq!(metadata.as_deref(), Some("metadata.google.internal."));
    assert_eq!(ask(&resolver, "m", "vm-192-0-2-7.z.c.p.internal").await.1, [Ipv4Addr::new(192, 0, 2, 7)]);
    // A zone with a longer name takes names and addresses over, and a table leaves the machines as they are.
    let zones = vec![
        plain("c.p.internal.", "n", &[("other.c.p.internal.", "A", "10.7.7.7")]),
        plain("0.0.10.in-addr.arpa.", "n", &[("6.0.0.10.in-addr.arpa.", "PTR", "six.example.")]),
    ];
    resolver.apply(Table { generation: 1, zones, ..Table::default() });
    assert_eq!(ask(&resolver, "n", vm).await.0, Rcode::NxDomain);
    assert_eq!(pointer(&resolver, "n", reverse).as_deref(), Some("NxDomain"));
    assert_eq!(pointer(&resolver, "n", "6.0.0.10.in-addr.arpa").as_deref(), Some("six.example."));
    resolver.apply(Table::default());
    assert_eq!(ask(&resolver, "n", vm).await.1, [address]);
    resolver.set_hosts(&network("n"), &[]);
    assert_eq!(ask(&resolver, "n", vm).await.0, Rcode::NxDomain);
}

/// The flag speaks of the first name of the answer.
#[test]
fn only_names_of_our_own_zones_are_answered_with_authority() {
    let resolver = Resolver::new(Vec::new());
    let zones = vec![plain("example.com.", "n", &[("loop.example.com.", "CNAME", "loop.example.com.")])];
    resolver.apply(Table { generation: 1, zones, ..Table::default() });
    let flags = |name: &str| {
        let answer = written(&resolver, &question(name, kind::A), 512);
        (answer[2] & 0x04 != 0, answer[3] & 0xf)
    };
    assert_eq!(flags("no.example.com"), (true, Rcode::NxDomain as u8));
    assert_eq!(flags("loop.example.com"), (false, Rcode::ServFail as u8));
    assert_eq!(flags("example.org"), (false, Rcode::ServFail as u8));
}

/// Machines have names by private addresses everywhere; a reverse lookup zone has those of others too, and comes before
/// what would hide them.
#[test]
fn a_reverse_lookup_zone_knows_machines_by_any_address() {
    let resolver = Resolver::new(Vec::new());
    let zones = vec![
        zone("64.100.in-addr.arpa.", "n", ZoneKind::Machines),
        plain("10.in-addr.arpa.", "n", &[]),
        zone("0.10.in-addr.arpa.", "n", ZoneKind::Machines),
        zone("64.100.in-addr.arpa.", "empty", ZoneKind::Machines),
    ];
    resolver.apply(Table { generation: 1, zones, ..Table::default() });
    let vm = |name: &str| format!("{name}.c.p.internal").parse::<Name>().unwrap();
    let hosts = [
        (vm("a"), Ipv4Addr::new(100, 64, 0, 1)),
        (vm("b"), Ipv4Addr::new(10, 0, 0, 1)),
        (vm("c"), Ipv4Addr::new(10, 1, 0, 1)),
    ];
    resolver.set_hosts(&network("n"), &hosts);
    for (net, name, found) in [
        ("n", "1.0.64.100.in-addr.arpa", Some("a.c.p.internal.")),
        ("n", "2.0.64.100.in-addr.arpa", None),
        ("n", "1.0.0.10.in-addr.arpa", Some("b.c.p.internal.")),
        ("n", "1.0.1.10.in-addr.arpa", None),
        ("empty", "1.0.64.100.in-addr.arpa", None),
    ] {
        let answer = resolver.lookup_local(&network(net), &name.parse().unwrap(), kind::PTR).unwrap();
        let names: Vec<String> =
            answer.records.iter().map(|record| crate::rdata::text(record.kind, &record.data)).collect();
        let rcode = if found.is_some() { Rcode::NoError } else { Rcode::NxDomain };
        assert_eq!(
            (answer.rcode, names),
            (rcode, found.map(str::to_owned).into_iter().collect()),
            "{name} in {net}"
        );
    }
}
