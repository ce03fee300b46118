//! Server policies and response policies.

use super::super::PolicyKind::{self, Response, Server};
use super::*;

impl Cloud {
    fn policy(&self, kind: PolicyKind, body: Value) -> Result<Value, Error> {
        self.dns().create_policy(kind, PROJECT, members(body))
    }

    fn patch(&self, kind: PolicyKind, name: &str, body: Value) -> Result<Value, Error> {
        self.dns().change_policy(kind, PROJECT, name, members(body), false)
    }

    fn rule(&self, body: Value) -> Result<Value, Error> {
        self.dns().create_rule(PROJECT, "r", members(body))
    }

    /// Whether other servers would be asked.
    fn asks_others(&self, network: &str, name: &str) -> bool {
        self.resolver.lookup_local(&NetworkId::new(PROJECT, network), &name.parse().unwrap(), 1).is_none()
    }
}

fn networks(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "networkUrl": network_url(name) })).collect()
}

/// As gcloud sends it.
fn server_policy(name: &str, of: &[&str], servers: &[&str]) -> Value {
    let servers: Vec<Value> = servers.iter().map(|ip| json!({ "ipv4Address": ip })).collect();
    json!({
        "name": name, "description": "d", "enableInboundForwarding": false, "enableLogging": false,
        "dns64Config": { "scope": { "allQueries": false } }, "networks": networks(of),
        "alternativeNameServerConfig": { "targetNameServers": servers },
    })
}

fn response_policy(of: &[&str]) -> Value {
    json!({ "responsePolicyName": "r", "description": "d", "networks": networks(of) })
}

fn answer(name: &str, dns_name: &str, data: &[(&str, &[&str])]) -> Value {
    let sets: Vec<Value> = data
        .iter()
        .map(|(kind, data)| json!({ "name": dns_name, "type": kind, "ttl": 60, "rrdatas": data }))
        .collect();
    json!({ "ruleName": name, "dnsName": dns_name, "localData": { "localDatas": sets } })
}

#[test]
fn a_server_policy_sends_its_networks_elsewhere() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    cloud.add("z", "a.example.com.", "A", &["10.0.0.1"]).unwrap();
    let made = cloud.policy(Server, server_policy("p", &["n"], &["192.0.2.1"])).unwrap();
    assert_eq!((&made["kind"], &made["name"]), (&json!("dns#policy"), &json!("p")));
    assert!(made["id"].as_str().is_some_and(|id| id.parse::<u64>().is_ok()));
    let link = format!("https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/networks/n");
    assert_eq!(made["networks"], json!([{ "kind": "dns#policyNetwork", "networkUrl": link }]));
    assert_eq!(made["alternativeNameServerConfig"]["targetNameServers"][0]["ipv4Address"], "192.0.2.1");
    assert!(cloud.asks_others("n", "a.example.com") && cloud.asks_others("n", "metadata.google.internal"));
    assert!(!cloud.asks_others("m", "metadata.google.internal"));
    assert_eq!(cloud.dns().policy(Server, PROJECT, "p").unwrap(), made);
    assert_eq!(cloud.dns().policies(Server, PROJECT), std::slice::from_ref(&made));
    // Without servers the policy leaves resolution alone.
    let without = json!({ "alternativeNameServerConfig": null, "description": "none" });
    let patched = cloud.patch(Server, "p", without).unwrap();
    assert_eq!((&patched["description"], &patched["id"]), (&json!("none"), &made["id"]));
    assert_eq!(cloud.address("n", "a.example.com"), Some(Ipv4Addr::new(10, 0, 0, 1)));
    // Another network instead, as `gcloud dns policies update` writes it back whole.
    let mut whole = server_policy("p", &["m"], &["192.0.2.1"]);
    whole["id"] = json!("17");
    let replaced = cloud.dns().change_policy(Server, PROJECT, "p", members(whole), true).unwrap();
    assert_eq!(replaced["id"], made["id"]);
    assert!(cloud.asks_others("m", "a.example.com") && !cloud.asks_others("n", "a.example.com"));
}

#[test]
fn a_policy_goes_after_its_networks_and_rules() {
    let cloud = Cloud::new();
    let view = || cloud.world.control.view();
    cloud.policy(Server, server_policy("p", &["n"], &[])).unwrap();
    cloud.policy(Response, response_policy(&["n"])).unwrap();
    cloud.rule(answer("one", "x.test.", &[("A", &["10.0.0.1"])])).unwrap();
    assert_eq!(cloud.users_of("n").len(), 2, "networks know who needs them");
    let deleted =
        |kind, name| cloud.dns().delete_policy(kind, PROJECT, name).map_err(|error| error.to_string());
    let refused = |name: &str, what: &str| {
        Err(format!(
            "The resource named '{name}' cannot be deleted because it contains one or more '{what}'."
        ))
    };
    assert_eq!(deleted(Server, "p"), refused("p", "networks"));
    assert_eq!(deleted(Response, "r"), refused("r", "networks"));
    // As Terraform detaches them.
    cloud.patch(Server, "p", json!({ "networks": null })).unwrap();
    cloud.patch(Response, "r", json!({ "networks": [] })).unwrap();
    assert_eq!(deleted(Response, "r"), refused("r", "response policy rules"));
    assert_eq!(deleted(Server, "p"), Ok(()));
    cloud.dns().delete_rule(PROJECT, "r", "one").unwrap();
    assert_eq!(deleted(Response, "r"), Ok(()));
    assert_eq!(view().range("dns/").count() + cloud.users_of("n").len(), 0, "nothing is left");
    assert_eq!(
        text(cloud.dns().policy(Response, PROJECT, "r")),
        "The 'parameters.responsePolicy' resource named 'r' does not exist."
    );
    assert!(matches!(cloud.dns().delete_policy(Server, PROJECT, "p"), Err(Error::NotFound { .. })));
}

#[test]
fn policies_are_checked() {
    let cloud = Cloud::new();
    cloud.policy(Server, server_policy("p", &["n"], &[])).unwrap();
    let with = |field: &str, value: Value| {
        let mut policy = server_policy("x", &["m"], &[]);
        policy[field] = value;
        policy
    };
    let servers =
        |server: Value| with("alternativeNameServerConfig", json!({ "targetNameServers": [server] }));
    for (body, part) in [
        (json!({}), "'entity.policy.name' parameter is required"),
        (with("name", json!("X")), "Invalid value for 'entity.policy.name': 'X'"),
        (with("name", json!("p")), "'entity.policy' named 'p' already exists"),
        (with("description", json!("x".repeat(1025))), "entity.policy.description"),
        (server_policy("x", &["gone"], &[]), "entity.policy.networks[0].networkUrl"),
        (server_policy("x", &["m", "m"], &[]), "duplicate network"),
        (server_policy("x", &["m", "n"], &[]), "already bound to another policy"),
        (servers(json!({ "ipv4Address": "10.0.0" })), "targetNameServers[0].ipv4Address': '10.0.0'"),
        (servers(json!({ "ipv4Address": "10.0.0.1", "forwardingPath": "up" })), "forwardingPath': 'up'"),
        (with("enableLogging", json!("no")), "entity.policy.enableLogging': 'no'"),
        (with("enableInboundForwarding", json!("yes")), "entity.policy.enableInboundForwarding': 'yes'"),
    ] {
        let refused = text(cloud.policy(Server, body.clone()));
        assert!(refused.contains(part), "{body}: {refused}");
    }
    assert!(text(cloud.patch(Server, "p", json!({ "name": "q" }))).contains("entity.policy.name': 'q'"));
    // The two kinds do not get in each other's way.
    cloud.policy(Response, response_policy(&["n"])).unwrap();
    let mut second = response_policy(&["n"]);
    second["responsePolicyName"] = json!("s");
    assert!(text(cloud.policy(Response, second)).contains("already bound to another policy"));
    let clusters = json!({ "gkeClusters": [{ "gkeClusterName": "c" }] });
    assert!(text(cloud.patch(Response, "r", clusters)).contains("gkeClusters is not supported"));
    assert_eq!(cloud.dns().policies(Server, PROJECT).len(), 1);
}

#[test]
fn rules_come_before_zones() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    cloud.add("z", "www.example.com.", "A", &["10.0.0.1"]).unwrap();
    cloud.add("z", "free.example.com.", "A", &["10.0.0.2"]).unwrap();
    cloud.policy(Response, response_policy(&["n"])).unwrap();
    let made =
        cloud.rule(answer("all", "*.example.com.", &[("A", &["10.9.0.1"]), ("TXT", &["\"x\""])])).unwrap();
    assert_eq!(made["kind"], "dns#responsePolicyRule");
    let stored = json!({
        "kind": "dns#resourceRecordSet", "name": "*.example.com.", "type": "A", "ttl": 60, "rrdatas": ["10.9.0.1"],
    });
    assert_eq!(made["localData"]["localDatas"][0], stored);
    let behavior =
        json!({ "ruleName": "free", "dnsName": "free.example.com.", "behavior": "bypassResponsePolicy" });
    cloud.rule(behavior).unwrap();
    let address = |name: &str| cloud.address("n", name).map(|address| address.octets());
    assert_eq!(address("www.example.com"), Some([10, 9, 0, 1]));
    assert_eq!(address("free.example.com"), Some([10, 0, 0, 2]));
    assert_eq!(cloud.ask("n", "any.example.com", "MX").records, [], "and nothing else of that name");
    // A rule turns from the one into the other, and back.
    let patch = |name: &str, body: Value| cloud.dns().change_rule(PROJECT, "r", name, members(body), false);
    let free = patch(
        "free",
        json!({ "localData": answer("", "free.example.com.", &[("A", &["10.9.0.2"])])["localData"] }),
    );
    assert_eq!(free.unwrap().get("behavior"), None);
    assert_eq!(address("free.example.com"), Some([10, 9, 0, 2]));
    let all = patch("all", json!({ "behavior": "bypassResponsePolicy" })).unwrap();
    assert_eq!(all.get("localData"), None);
    assert_eq!(address("www.example.com"), Some([10, 0, 0, 1]));
    let rules = cloud.dns().rules(PROJECT, "r").unwrap();
    assert_eq!(
        rules.iter().map(|rule| rule["ruleName"].as_str().unwrap()).collect::<Vec<_>>(),
        ["all", "free"]
    );
    // The policy leaves the network.
    cloud.patch(Response, "r", json!({ "networks": networks(&["m"]) })).unwrap();
    assert_eq!(address("free.example.com"), Some([10, 0, 0, 2]));
    assert_eq!(cloud.address("m", "free.example.com").map(|a| a.octets()), Some([10, 9, 0, 2]));
}

#[test]
fn rules_are_checked() {
    let cloud = Cloud::new();
    assert!(
        text(cloud.rule(answer("one", "x.test.", &[])))
            .contains("'parameters.responsePolicy' resource named 'r'")
    );
    cloud.policy(Response, response_policy(&["n"])).unwrap();
    cloud.rule(answer("one", "x.test.", &[("A", &["10.0.0.1"])])).unwrap();
    let a: (&str, &[&str]) = ("A", &["10.0.0.1"]);
    let mut misnamed = answer("two", "y.test.", &[a]);
    misnamed["localData"]["localDatas"][0]["name"] = json!("z.test.");
    let mut both = answer("two", "y.test.", &[a]);
    both["behavior"] = json!("bypassResponsePolicy");
    for (body, part) in [
        (json!({ "dnsName": "y.test." }), "'entity.responsePolicyRule.ruleName' parameter is required"),
        (json!({ "ruleName": "two" }), "'entity.responsePolicyRule.dnsName' parameter is required"),
        (answer("Two", "y.test.", &[a]), "entity.responsePolicyRule.ruleName"),
        (answer("one", "y.test.", &[a]), "named 'one' already exists"),
        (answer("two", "X.test.", &[a]), "named 'X.test.' already exists"),
        (answer("two", "y.test", &[a]), "entity.responsePolicyRule.dnsName': 'y.test'"),
        (answer("two", "a.*.test.", &[a]), "entity.responsePolicyRule.dnsName"),
        (answer("two", ".", &[a]), "entity.responsePolicyRule.dnsName"),
        (answer("two", "y.test.", &[]), "localDatas' parameter is required"),
        (answer("two", "y.test.", &[("NS", &["ns.test."])]), "localDatas[0].type': 'NS'"),
        (answer("two", "y.test.", &[a, a]), "localDatas[1].type': 'A'"),
        (answer("two", "y.test.", &[("A", &["10.0.0"])]), "localDatas[0].rrdatas': '10.0.0'"),
        (answer("two", "y.test.", &[a, ("CNAME", &["x.test."])]), "CNAME"),
        (misnamed, "localDatas[0].name': 'z.test.'"),
        (both, "entity.responsePolicyRule.behavior"),
        (json!({ "ruleName": "two", "dnsName": "y.test.", "behavior": "drop" }), "behavior': 'drop'"),
    ] {
        let refused = text(cloud.rule(body.clone()));
        assert!(refused.contains(part), "{body}: {refused}");
    }
    assert_eq!(cloud.dns().rules(PROJECT, "r").unwrap().len(), 1);
    assert!(matches!(cloud.dns().rule(PROJECT, "r", "two"), Err(Error::NotFound { .. })));
}

#[test]
fn policies_are_obeyed_after_a_restart() {
    let cloud = Cloud::new();
    cloud.policy(Response, response_policy(&["n"])).unwrap();
    cloud.rule(answer("one", "x.test.", &[("A", &["10.0.0.1"])])).unwrap();
    cloud.policy(Server, server_policy("p", &["m"], &["192.0.2.1"])).unwrap();
    let resolver = Resolver::new(Vec::new());
    let _second = super::super::start(cloud.world.control.clone(), resolver.clone(), None).unwrap();
    let ask = |network: &str| {
        let network = NetworkId::new(PROJECT, network);
        resolver.lookup_local(&network, &"x.test.".parse().unwrap(), 1).map(|answer| answer.addresses())
    };
    assert_eq!((ask("n"), ask("m")), (Some(vec![Ipv4Addr::new(10, 0, 0, 1)]), None));
}
