use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use vestibule_proxy::ListenerError;
use vestibule_proxy::snapshot::{Backend, DEFAULT_KEEP_ALIVE, Listener, Snapshot};
use vestibule_urlmap::{Decision, RequestView};
use vestibule_vpc::NetworkId;

use super::{Compiler, Fronts, Live, LoadBalancer, Outcome, Question, start};
use crate::compute::testing::World;
use crate::document;

const REGION: &str = "regions/us-central1";

fn link(collection: &str, name: &str) -> String {
    format!("http://127.0.0.1:8470/compute/v1/projects/demo/{REGION}/{collection}/{name}")
}

fn insert(world: &World, collection: &str, body: Value) -> Value {
    world.insert(&format!("{REGION}/{collection}"), body)
}

fn backend(world: &World, name: &str, cloud_run: Value) {
    let neg = format!("{name}-neg");
    let body = json!({"name": neg, "networkEndpointType": "SERVERLESS", "cloudRun": cloud_run});
    insert(world, "networkEndpointGroups", body);
    let body = json!({
        "name": name, "loadBalancingScheme": "INTERNAL_MANAGED", "protocol": "HTTP",
        "backends": [{"group": link("networkEndpointGroups", &neg)}],
        "logConfig": {"enable": true, "sampleRate": 0.5},
    });
    insert(world, "backendServices", body);
}

/// The published set-up up to the target proxies.
fn prepared() -> World {
    let world = World::new();
    world.network("my-vpc");
    world.subnetwork("my-subnet", "my-vpc", "10.0.0.0/24");
    world.try_proxy_only("proxy-only-subnet", "my-vpc", "10.129.0.0/23", "ACTIVE").unwrap();
    backend(&world, "my-internal-backend", json!({"service": "my-internal-service"}));
    backend(&world, "my-api-backend", json!({"service": "api", "tag": "canary"}));
    backend(&world, "my-web-backend", json!({"urlMask": "<service>"}));
    insert(
        &world,
        "urlMaps",
        json!({
            "name": "my-internal-url-map", "defaultService": link("backendServices", "my-internal-backend"),
            "hostRules": [{"hosts": ["*"], "pathMatcher": "my-matcher"}],
            "pathMatchers": [{
                "name": "my-matcher", "defaultService": link("backendServices", "my-internal-backend"),
                "pathRules": [
                    {"paths": ["/api/*"], "service": link("backendServices", "my-api-backend")},
                    {"paths": ["/web/*"], "service": link("backendServices", "my-web-backend")},
                ],
            }],
        }),
    );
    insert(
        &world,
        "targetHttpProxies",
        json!({"name": "my-internal-proxy", "urlMap": "my-internal-url-map"}),
    );
    let made = rcgen::generate_simple_self_signed(vec!["api.internal.example.com".to_owned()]).unwrap();
    let certificate = json!({
        "name": "my-internal-cert", "certificate": made.cert.pem(), "privateKey": made.signing_key.serialize_pem(),
    });
    insert(&world, "sslCertificates", certificate);
    let https = json!({
        "name": "my-internal-https-proxy", "urlMap": "my-internal-url-map", "sslCertificates": ["my-internal-cert"],
        "httpKeepAliveTimeoutSec": 60,
    });
    insert(&world, "targetHttpsProxies", https);
    world
}

fn rule(name: &str, port: &str, target: &str) -> Value {
    json!({
        "name": name, "loadBalancingScheme": "INTERNAL_MANAGED", "network": "global/networks/my-vpc",
        "subnetwork": format!("{REGION}/subnetworks/my-subnet"), "IPAddress": "10.0.0.100", "portRange": port,
        "target": format!("{REGION}/{target}"),
    })
}

fn published() -> World {
    let world = prepared();
    insert(
        &world,
        "forwardingRules",
        rule("my-internal-lb-rule", "80", "targetHttpProxies/my-internal-proxy"),
    );
    insert(
        &world,
        "forwardingRules",
        rule("my-https-rule", "443", "targetHttpsProxies/my-internal-https-proxy"),
    );
    world
}

fn listeners(compiler: &mut Compiler, world: &World) -> Vec<Arc<Listener>> {
    let compiled = compiler.compile(&world.control.view());
    assert!(compiled.failures.is_empty(), "{:?}", compiled.failures);
    compiled.listeners.into_iter().map(|(_, listener)| listener).collect()
}

fn served_by(listener: &Listener, path: &str) -> String {
    let request = RequestView {
        host: b"h",
        path: path.as_bytes(),
        query: None,
        method: b"GET",
        headers: &(),
        random: 0,
    };
    match listener.routes.url_map.route(&request) {
        Decision::Forward(forward) => listener.routes.services[forward.service].name.to_string(),
        Decision::Redirect(_) => "redirect".to_owned(),
    }
}

#[test]
fn the_published_set_up_compiles() {
    let world = published();
    let mut compiler = Compiler::new(&world.control.view(), world.control.health().clone());
    let listeners = listeners(&mut compiler, &world);
    let [https, http] = listeners.as_slice() else { panic!("two listeners") };
    assert_eq!(http.network, NetworkId::new("demo", "my-vpc"));
    assert_eq!((http.ip, http.port, http.tls.is_some()), (Ipv4Addr::new(10, 0, 0, 100), 80, false));
    assert_eq!((https.ip, https.port, https.tls.is_some()), (Ipv4Addr::new(10, 0, 0, 100), 443, true));
    assert_eq!((&*http.forwarding_rule, &*http.target_proxy), ("my-internal-lb-rule", "my-internal-proxy"));
    assert_eq!(
        (&*http.url_map_name, &*http.region, &*http.project),
        ("my-internal-url-map", "us-central1", "demo")
    );
    assert_eq!((http.keep_alive, https.keep_alive.as_secs()), (DEFAULT_KEEP_ALIVE, 60));
    assert!(Arc::ptr_eq(&http.routes, &https.routes), "both proxies share the map");
    for (path, service) in
        [("/", "my-internal-backend"), ("/api/x", "my-api-backend"), ("/web/x", "my-web-backend")]
    {
        assert_eq!(served_by(http, path), service);
    }
    let negs = http.routes.services.iter().map(|service| match &service.backend {
        Backend::Serverless(neg) => (
            neg.service.as_deref().unwrap_or_default().to_owned(),
            neg.tag.as_deref().unwrap_or_default().to_owned(),
            neg.mask.is_some(),
        ),
        _ => panic!("serverless"),
    });
    let negs: Vec<_> = negs.collect();
    let want = [("my-internal-service", "", false), ("api", "canary", false), ("", "", true)];
    assert_eq!(negs, want.map(|(service, tag, mask)| (service.to_owned(), tag.to_owned(), mask)));
    assert!(http.routes.services[0].log.enable && http.routes.services[0].log.sample_rate == 0.5);
}

#[test]
fn what_did_not_change_is_the_same_object() {
    let world = published();
    let mut compiler = Compiler::new(&world.control.view(), world.control.health().clone());
    let before = listeners(&mut compiler, &world);
    insert(&world, "urlMaps", json!({"name": "other", "defaultService": "my-internal-backend"}));
    world.network("unrelated");
    let same = listeners(&mut compiler, &world);
    assert!(before.iter().zip(&same).all(|(a, b)| Arc::ptr_eq(a, b)));
    world.act(
        &format!("{REGION}/targetHttpProxies/my-internal-proxy"),
        "setUrlMap",
        json!({"urlMap": "other"}),
    );
    let after = listeners(&mut compiler, &world);
    assert!(Arc::ptr_eq(&same[0], &after[0]) && !Arc::ptr_eq(&same[1], &after[1]));
    assert_eq!(&*after[1].url_map_name, "other");
    let service = format!("{REGION}/backendServices/my-api-backend");
    world.try_patch_now(&service, json!({"logConfig": {"enable": false}})).unwrap();
    let patched = listeners(&mut compiler, &world);
    assert!(!Arc::ptr_eq(&after[0], &patched[0]) && Arc::ptr_eq(&after[1], &patched[1]));
    assert!(
        Arc::ptr_eq(&after[0].routes.url_map, &patched[0].routes.url_map),
        "the map itself did not change"
    );
}

#[test]
fn a_map_that_does_not_compile_leaves_the_last_good_one() {
    let world = published();
    let mut compiler = Compiler::new(&world.control.view(), world.control.health().clone());
    let before = listeners(&mut compiler, &world);
    let key = world.name(&format!("{REGION}/urlMaps/my-internal-url-map")).key();
    let broken = json!({"name": "my-internal-url-map", "defaultService": "nonsense"});
    world
        .control
        .change(|change| {
            change.put(&key, broken);
            Ok(())
        })
        .unwrap();
    let after = listeners(&mut compiler, &world);
    assert!(before.iter().zip(&after).all(|(a, b)| Arc::ptr_eq(a, b)));
    let fresh =
        Compiler::new(&world.control.view(), world.control.health().clone()).compile(&world.control.view());
    assert_eq!((fresh.listeners.len(), fresh.failures.len()), (0, 2));
}

#[test]
fn only_global_access_lets_clients_of_other_regions_in() {
    let world = published();
    let body = json!({"name": "far", "network": "global/networks/my-vpc", "ipCidrRange": "10.8.0.0/24"});
    world.insert("regions/europe-west1/subnetworks", body);
    let mut global = rule("global", "81", "targetHttpProxies/my-internal-proxy");
    global["allowGlobalAccess"] = json!(true);
    insert(&world, "forwardingRules", global);
    let mut compiler = Compiler::new(&world.control.view(), world.control.health().clone());
    let lets_in = |listeners: &[Arc<Listener>], ip| {
        let by = |listener: &Arc<Listener>| listener.clients.as_ref().is_none_or(|c| c.contains(ip));
        listeners.iter().map(|listener| (listener.port, by(listener))).collect::<Vec<_>>()
    };
    let (near, far) = (Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::new(10, 8, 0, 7));
    let before = listeners(&mut compiler, &world);
    assert_eq!(lets_in(&before, near), [(81, true), (443, true), (80, true)]);
    assert_eq!(lets_in(&before, far), [(81, true), (443, false), (80, false)]);
    let grown = Ipv4Addr::new(10, 0, 9, 1);
    assert_eq!(lets_in(&before, grown)[2], (80, false));
    world.act(
        &format!("{REGION}/subnetworks/my-subnet"),
        "expandIpCidrRange",
        json!({"ipCidrRange": "10.0.0.0/16"}),
    );
    let after = listeners(&mut compiler, &world);
    assert_eq!(lets_in(&after, grown)[2], (80, true), "a new range of the region");
    assert!(Arc::ptr_eq(&before[0], &after[0]), "not asked, not changed");
}

/// A load balancer that remembers what it serves.
fn recorder() -> (impl LoadBalancer, Arc<Mutex<Snapshot>>, Receiver<u64>) {
    let served = Arc::new(Mutex::new(Snapshot::default()));
    let (applied, generations) = channel();
    let shared = served.clone();
    let balancer = move |snapshot: Snapshot| {
        let _ = applied.send(snapshot.generation);
        *shared.lock().unwrap() = snapshot;
        Ok(())
    };
    (balancer, served, generations)
}

#[test]
fn done_means_that_traffic_obeys() {
    let world = prepared();
    let (balancer, served, generations) = recorder();
    let reconciler =
        start(world.control.clone(), balancer, |_, _| (), Fronts::new(Vec::new(), None)).unwrap();
    assert_eq!(generations.recv(), Ok(world.control.view().revision()), "the state of the start comes first");
    for n in 0..20 {
        let name = format!("r{n}");
        let port = (80 + n).to_string();
        let operation =
            insert(&world, "forwardingRules", rule(&name, &port, "targetHttpProxies/my-internal-proxy"));
        assert_eq!(operation["status"], "DONE");
        assert_eq!(served.lock().unwrap().listeners.len(), n + 1);
    }
    let operation = world.delete(&format!("{REGION}/forwardingRules/r7"));
    assert_eq!(operation["status"], "DONE");
    assert_eq!(served.lock().unwrap().listeners.len(), 19);
    drop(generations);
    drop(reconciler);
}

#[test]
fn changes_of_other_things_are_acknowledged_without_a_snapshot() {
    let world = published();
    let (balancer, _, generations) = recorder();
    let _reconciler =
        start(world.control.clone(), balancer, |_, _| (), Fronts::new(Vec::new(), None)).unwrap();
    let first = generations.recv().unwrap();
    let other =
        json!({"name": "other", "network": "global/networks/my-vpc", "allowed": [{"IPProtocol": "tcp"}]});
    let operation = world.insert("global/firewalls", other);
    assert_eq!(operation["status"], "DONE");
    assert!(generations.try_recv().is_err());
    let patch = json!({"description": "now"});
    world.try_patch_now(&format!("{REGION}/urlMaps/my-internal-url-map"), patch).unwrap();
    assert!(generations.recv().unwrap() > first);
}

#[test]
fn a_listener_that_cannot_be_opened_fails_the_operation() {
    let world = prepared();
    let balancer = |snapshot: Snapshot| {
        let refused = |listener: &Arc<Listener>| ListenerError {
            forwarding_rule: Some(listener.forwarding_rule.clone()),
            network: Some(listener.network.clone()),
            address: (listener.ip, listener.port).into(),
            source: std::io::Error::from_raw_os_error(13),
        };
        let refused: Vec<_> = snapshot.listeners.iter().filter(|l| l.port == 81).map(refused).collect();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    };
    let _reconciler =
        start(world.control.clone(), balancer, |_, _| (), Fronts::new(Vec::new(), None)).unwrap();
    let good = insert(&world, "forwardingRules", rule("good", "80", "targetHttpProxies/my-internal-proxy"));
    assert!(good.get("error").is_none() && good["status"] == "DONE");
    let bad = insert(&world, "forwardingRules", rule("bad", "81", "targetHttpProxies/my-internal-proxy"));
    assert_eq!(bad["status"], "DONE");
    assert_eq!(
        bad["error"]["errors"][0]["message"],
        "The load balancer cannot listen on 10.0.0.100 port 81 of network 'my-vpc': Permission denied (os error 13)"
    );
    let next = insert(&world, "forwardingRules", rule("next", "82", "targetHttpProxies/my-internal-proxy"));
    assert!(next.get("error").is_none(), "another rule's trouble is not its own");
}

fn explain(world: &World, question: Question) -> Value {
    let resolve = |network: &NetworkId, host: &str| match (network.short(), host) {
        ("my-vpc", "api.internal.example.com") => vec![Ipv4Addr::new(10, 0, 0, 100)],
        _ => vec![],
    };
    let explanation =
        world.control.explain(&question, Live { front: None, resolve: Some(&resolve), members: None });
    serde_json::to_value(explanation).unwrap()
}

fn about(url: &str) -> Question {
    Question { url: url.to_owned(), ..Question::default() }
}

#[test]
fn an_explanation_follows_the_whole_way() {
    let world = published();
    let mut got = explain(&world, about("http://api.internal.example.com/api/../web/shop/cart?x=1"));
    got.as_object_mut().unwrap().remove("notes");
    assert_eq!(
        got,
        json!({
            "url": "http://api.internal.example.com/api/../web/shop/cart?x=1",
            "outcome": "served",
            "network": "my-vpc",
            "client": "10.0.0.2",
            "firewall": [{"direction": "EGRESS", "action": "ALLOW"}],
            "address": "10.0.0.100:80",
            "forwardingRule": "my-internal-lb-rule",
            "targetProxy": "my-internal-proxy",
            "urlMap": "my-internal-url-map",
            "hostRule": "*",
            "pathMatcher": "my-matcher",
            "pathRule": "/web/*",
            "backendService": "my-web-backend",
            "networkEndpointGroup": "my-web-backend-neg",
            "urlMask": "<service>",
            "service": "web",
        })
    );
    let got = explain(&world, about("https://10.0.0.100/api/x"));
    assert_eq!(
        (&got["forwardingRule"], &got["service"], &got["tag"]),
        (&json!("my-https-rule"), &json!("api"), &json!("canary"))
    );
    assert_eq!(explain(&world, about("http://10.0.0.100/"))["pathRule"], "UNMATCHED");
}

#[test]
fn an_explanation_names_the_check_that_refuses() {
    let world = published();
    let map = json!({"defaultUrlRedirect": {"httpsRedirect": true}, "name": "to-https"});
    insert(&world, "urlMaps", map);
    insert(&world, "targetHttpProxies", json!({"name": "to-https", "urlMap": "to-https"}));
    insert(&world, "forwardingRules", rule("redirect", "8080", "targetHttpProxies/to-https"));
    insert(&world, "backendServices", json!({"name": "empty", "loadBalancingScheme": "INTERNAL_MANAGED"}));
    insert(&world, "urlMaps", json!({"name": "empty", "defaultService": "empty"}));
    insert(&world, "targetHttpProxies", json!({"name": "empty", "urlMap": "empty"}));
    insert(&world, "forwardingRules", rule("empty", "8081", "targetHttpProxies/empty"));
    let faulty = json!({
        "name": "faulty", "defaultService": "empty",
        "defaultRouteAction": {"faultInjectionPolicy": {"abort": {"httpStatus": 418, "percentage": 100.0}}},
    });
    insert(&world, "urlMaps", faulty);
    insert(&world, "targetHttpProxies", json!({"name": "faulty", "urlMap": "faulty"}));
    insert(&world, "forwardingRules", rule("faulty", "8082", "targetHttpProxies/faulty"));
    for (url, check, status) in [
        ("ftp://x/", json!("url"), Value::Null),
        ("http://nobody.example/", json!("dns"), Value::Null),
        ("http://10.0.0.101/", json!("forwardingRule"), Value::Null),
        ("http://10.0.0.100:81/", json!("forwardingRule"), Value::Null),
        ("http://api.internal.example.com:81/", json!("forwardingRule"), Value::Null),
        ("https://10.0.0.100:80/", json!("protocol"), Value::Null),
        ("http://10.0.0.100/%00", json!("path"), json!(400)),
        ("http://10.0.0.100:8081/", json!("backend"), json!(503)),
        ("http://10.0.0.100:8082/", json!("fault"), json!(418)),
    ] {
        let got = explain(&world, about(url));
        assert_eq!((&got["outcome"], &got["refusedBy"]), (&json!("refused"), &check), "{url}: {got}");
        assert_eq!(got.get("status").cloned().unwrap_or_default(), status, "{url}");
        assert!(got["reason"].is_string(), "{url}");
    }
    let got = explain(&world, about("http://10.0.0.100:8080/a?b"));
    assert_eq!((&got["outcome"], &got["status"]), (&json!("redirected"), &json!(301)));
    assert_eq!(got["location"], "https://10.0.0.100:8080/a?b");
    let elsewhere = Question {
        network: Some("projects/demo/global/networks/other".into()),
        ..about("http://10.0.0.100/")
    };
    let got = explain(&world, elsewhere);
    assert_eq!(got["refusedBy"], "network");
    let why = got["reason"].as_str().unwrap();
    assert!(why.starts_with("Project demo has no network other; it has my-vpc"), "{why}");
    let by_address =
        Question { address: Some(Ipv4Addr::new(10, 0, 0, 100)), ..about("http://anything.example/api/x") };
    assert_eq!(explain(&world, by_address)["service"], "api");
}

#[test]
fn an_explanation_knows_more_than_refusals() {
    let world = published();
    let map = json!({
        "name": "split",
        "defaultRouteAction": {
            "weightedBackendServices": [
                {"backendService": "my-api-backend", "weight": 75},
                {"backendService": "my-internal-backend", "weight": 25},
            ],
            "urlRewrite": {"hostRewrite": "in.example", "pathPrefixRewrite": "/v1/"},
            "corsPolicy": {"allowOrigins": ["*"], "allowMethods": ["GET"]},
        },
    });
    insert(&world, "urlMaps", map);
    insert(&world, "targetHttpProxies", json!({"name": "split", "urlMap": "split"}));
    insert(&world, "forwardingRules", rule("split", "8080", "targetHttpProxies/split"));
    let got = explain(&world, about("http://10.0.0.100:8080/x"));
    assert_eq!(got["rewrittenUrl"], "in.example/v1/x");
    assert_eq!(
        got["weightedBackendServices"],
        json!([{"name": "my-api-backend", "percent": 75.0}, {"name": "my-internal-backend", "percent": 25.0}])
    );
    let preflight = Question {
        method: "OPTIONS".into(),
        headers: vec![
            ("Origin".into(), "https://a".into()),
            ("Access-Control-Request-Method".into(), "GET".into()),
        ],
        ..about("http://10.0.0.100:8080/x")
    };
    assert_eq!(world.control.explain(&preflight, Live::default()).outcome, Outcome::Answered);
    let got = explain(&world, about("https://hello-abc-uc.a.run.app/x"));
    assert!(
        got.get("forwardingRule").is_none() && got["notes"].as_array().is_some_and(|notes| notes.len() == 2)
    );
}

/// What is said of a way, with two clients in the network: a web server and a database.
fn explain_among(world: &World, question: Question) -> Value {
    let member = |host: u8, tag: &str| crate::vpc::Member {
        address: std::net::Ipv4Addr::new(10, 0, 0, host),
        service_account: String::new(),
        tags: vec![tag.to_owned()],
    };
    let members = |_: &NetworkId| vec![member(2, "web"), member(3, "db")];
    let live = Live { front: None, resolve: None, members: Some(&members) };
    serde_json::to_value(world.control.explain(&question, live)).unwrap()
}

#[test]
fn static_routes_on_the_way() {
    let world = published();
    let route = |name: &str, range: &str, hop: &str| {
        let doc =
            json!({"name": name, "network": "global/networks/my-vpc", "destRange": range, "nextHopIp": hop});
        world.insert("global/routes", doc);
    };
    let about_beyond = |address: &str| {
        let url = format!("tcp://{address}:80");
        explain_among(&world, Question { from: "10.0.0.2".parse().ok(), ..about(&url) })
    };
    assert_eq!(about_beyond("192.0.2.5")["refusedBy"], "address");
    route("beyond", "192.0.2.0/24", "10.0.0.3");
    route("gone", "198.51.100.0/24", "10.0.0.9");
    let led = about_beyond("192.0.2.5");
    assert_eq!(
        (&led["refusedBy"], &led["notes"][0]),
        (&json!("firewall"), &json!("A static route to 192.0.2.0/24 leads to 10.0.0.3."))
    );
    let all = json!([{"IPProtocol": "all"}]);
    world.insert(
        "global/firewalls",
        json!({"name": "f", "network": "global/networks/my-vpc", "allowed": all}),
    );
    assert_eq!(about_beyond("192.0.2.5")["outcome"], "delivered");
    assert_eq!(about_beyond("198.51.100.5")["refusedBy"], "route");
    assert_eq!(about_beyond("203.0.113.5")["refusedBy"], "address");
}

#[test]
fn firewall_rules_on_the_way() {
    let world = published();
    let rule = |name: &str, body: Value| {
        let mut doc = json!({"name": name, "network": "global/networks/my-vpc"});
        document::merge(doc.as_object_mut().unwrap(), document::object(&body).clone());
        world.insert("global/firewalls", doc);
    };
    let from = |url: &str, from: &str| Question { from: from.parse().ok(), ..about(url) };
    let implied = json!({"direction": "EGRESS", "action": "ALLOW"});

    let open = explain_among(&world, about("http://10.0.0.100/api/x"));
    assert_eq!((&open["firewall"], &open["outcome"]), (&json!([implied]), &json!("served")));
    let shut = explain_among(&world, from("tcp://10.0.0.3:5432", "10.0.0.2"));
    assert_eq!(shut["refusedBy"], "firewall");
    assert_eq!(shut["firewall"], json!([implied, {"direction": "INGRESS", "action": "DENY"}]));

    let tcp = |port: &str| json!([{"IPProtocol": "tcp", "ports": [port]}]);
    rule("web-to-db", json!({"sourceTags": ["web"], "targetTags": ["db"], "allowed": tcp("5432")}));
    let let_in = explain_among(&world, from("tcp://10.0.0.3:5432", "10.0.0.2"));
    assert_eq!(
        (&let_in["outcome"], &let_in["firewall"][1]["rule"]),
        (&json!("delivered"), &json!("web-to-db"))
    );
    assert_eq!(let_in["firewall"][1]["priority"], 1000);
    let stranger = explain_among(&world, about("tcp://10.0.0.3:5432"));
    assert_eq!((&stranger["refusedBy"], &stranger["client"]), (&json!("firewall"), &json!("10.0.0.4")));
    let tagged = Question { tags: vec!["web".to_owned()], ..about("tcp://10.0.0.3:5432") };
    assert_eq!(explain_among(&world, tagged)["outcome"], "delivered");
    assert_eq!(explain_among(&world, from("http://10.0.0.3:5432/", "10.0.0.2"))["outcome"], "delivered");
    assert_eq!(explain_among(&world, from("udp://10.0.0.3:5432", "10.0.0.2"))["refusedBy"], "firewall");
    assert_eq!(explain_among(&world, from("tcp://10.0.0.9:1", "10.0.0.2"))["refusedBy"], "address");

    rule("no-lb", json!({"direction": "EGRESS", "priority": 5, "targetTags": ["web"], "denied": tcp("80")}));
    let denied = explain_among(&world, from("http://10.0.0.100/", "10.0.0.2"));
    let by = json!([{"direction": "EGRESS", "action": "DENY", "rule": "no-lb", "priority": 5}]);
    assert_eq!((&denied["refusedBy"], &denied["firewall"]), (&json!("firewall"), &by));
    assert_eq!(explain_among(&world, from("http://10.0.0.100/", "10.0.0.3"))["outcome"], "served");
    let far = explain_among(&world, from("http://10.0.0.100/", "10.1.0.2"));
    assert_eq!(far["refusedBy"], "globalAccess");
}

/// Has port 8080 of the virtual IP serve the endpoints of a new group.
fn serve_endpoints(world: &World, group: Value, endpoints: Vec<Value>) {
    let zone = "zones/us-central1-a/networkEndpointGroups";
    let mut doc = json!({"name": "vms", "network": "global/networks/my-vpc"});
    document::merge(doc.as_object_mut().unwrap(), document::object(&group).clone());
    world.insert(zone, doc);
    world
        .try_act(&format!("{zone}/vms"), "attachNetworkEndpoints", json!({"networkEndpoints": endpoints}))
        .unwrap();
    insert(world, "healthChecks", json!({"name": "hc", "type": "TCP", "tcpHealthCheck": {"port": 8000}}));
    let service = json!({
        "name": "vms", "loadBalancingScheme": "INTERNAL_MANAGED", "protocol": "HTTP",
        "healthChecks": [link("healthChecks", "hc")],
        "backends": [{
            "group": format!("projects/demo/{zone}/vms"), "balancingMode": "RATE", "maxRatePerEndpoint": 10,
        }],
    });
    insert(world, "backendServices", service);
    insert(world, "urlMaps", json!({"name": "vms", "defaultService": link("backendServices", "vms")}));
    insert(world, "targetHttpProxies", json!({"name": "vms", "urlMap": "vms"}));
    insert(world, "forwardingRules", rule("vms", "8080", "targetHttpProxies/vms"));
}

#[test]
fn a_static_route_brings_hybrid_endpoints_into_the_network() {
    let world = published();
    let group = json!({"networkEndpointType": "NON_GCP_PRIVATE_IP_PORT"});
    serve_endpoints(&world, group, vec![json!({"ipAddress": "192.0.2.5", "port": 8000})]);
    let asked = || explain_among(&world, about("http://10.0.0.100:8080/"))["refusedBy"].clone();
    assert_eq!(asked(), "health", "the machine reaches it, and no firewall rule is asked");
    let route = |name: &str, range: &str, hop: Value| {
        let mut doc = json!({"name": name, "network": "global/networks/my-vpc", "destRange": range});
        document::merge(doc.as_object_mut().unwrap(), document::object(&hop).clone());
        world.insert("global/routes", doc);
    };
    route("beyond", "192.0.2.0/24", json!({"nextHopIp": "10.0.0.3"}));
    assert_eq!(asked(), "firewall", "a client leads to it");
    route("out", "192.0.2.5/32", json!({"nextHopGateway": "global/gateways/default-internet-gateway"}));
    assert_eq!(asked(), "health", "a narrower route leads out again");
}

#[test]
fn the_proxies_need_an_ingress_rule_to_reach_endpoints() {
    let world = published();
    let group = json!({
        "networkEndpointType": "GCE_VM_IP_PORT", "subnetwork": "regions/us-central1/subnetworks/my-subnet",
    });
    let endpoint = |n| json!({"ipAddress": format!("10.0.0.{n}"), "port": 8000, "instance": "i"});
    serve_endpoints(&world, group, vec![endpoint(2), endpoint(3)]);
    let asked = || explain_among(&world, about("http://10.0.0.100:8080/"));
    let allow = |name: &str, extra: Value| {
        let mut doc = json!({
            "name": name, "network": "global/networks/my-vpc", "sourceRanges": ["10.129.0.0/23"],
            "allowed": [{"IPProtocol": "tcp", "ports": ["8000"]}],
        });
        document::merge(doc.as_object_mut().unwrap(), document::object(&extra).clone());
        world.insert("global/firewalls", doc);
    };

    let shut = asked();
    assert_eq!((&shut["refusedBy"], &shut["status"]), (&json!("firewall"), &json!(503)), "{shut}");
    assert_eq!(shut["firewall"][1], json!({"direction": "INGRESS", "action": "DENY"}));
    let why = shut["reason"].as_str().unwrap();
    assert!(why.starts_with("2 of 2 endpoints") && why.contains("allows tcp:8000 from"), "{why}");
    allow("some", json!({"targetTags": ["web"]}));
    let half = asked();
    assert_ne!(half["refusedBy"], "firewall");
    assert!(half["notes"][0].as_str().unwrap().starts_with("1 of 2 endpoints"), "{half}");
    allow("from-proxies", json!({}));
    let open = asked();
    let by = json!({"direction": "INGRESS", "action": "ALLOW", "rule": "from-proxies", "priority": 1000});
    assert!(open["firewall"].as_array().unwrap().contains(&by), "{open}");
    assert!(!open["notes"].to_string().contains("cannot be reached"), "{open}");
}
