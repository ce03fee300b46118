//! Entries of the load balancer's log.

use serde_json::{Value, json};
use vestibule_proxy::snapshot::{Backend as Group, BackendService, LogConfig, Optional};

use crate::backend::{Backend, response};
use crate::world::{Site, World, endpoints, service};

#[test]
fn an_entry_tells_the_whole_story() {
    let backend = Backend::http(|_| response("201 Created", "", "12345"));
    let world = World::new();
    let map = json!({
        "defaultService": "s0",
        "hostRules": [{ "hosts": ["app.example"], "pathMatcher": "m" }],
        "pathMatchers": [{
            "name": "m", "defaultService": "s0", "pathRules": [{ "paths": ["/video/hd/*"], "service": "s0" }],
        }],
    });
    world.serve(Site::map(map, vec![service(endpoints(&[backend.address]))]));
    let request = "PUT /video/hd/x?y=\"1\" HTTP/1.1\r\nHost: app.example\r\nUser-Agent: t\"\\\r\nReferer: r\r\n\
                   Content-Length: 4\r\n\r\nbody";
    let mut client = world.connect();
    client.send(request);
    let answer = client.response();
    let sent = answer.head.len() + 4 + answer.body.len();
    let remote = client.stream.local_addr().unwrap().to_string();

    let mut entry = world.entry();
    let latency = entry["httpRequest"]["latency"].take();
    let latency: f64 = latency.as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap();
    assert!((0.0..20.0).contains(&latency));
    for gone in ["insertId", "receiveTimestamp", "timestamp"] {
        assert!(entry[gone].take().is_string(), "{gone}");
    }
    let expected = json!({
        "logName": "projects/p/logs/loadbalancing.googleapis.com%2Frequests",
        "resource": { "type": "internal_http_lb_rule", "labels": {
            "project_id": "p", "region": "us-central1", "network_name": "vpc", "forwarding_rule_name": "fr",
            "target_proxy_name": "tp", "url_map_name": "um", "matched_url_path_rule": "/video/hd/*",
            "backend_name": "neg", "backend_type": "NETWORK_ENDPOINT_GROUP", "backend_scope": "us-central1",
            "backend_scope_type": "REGION", "backend_target_name": "bs", "backend_target_type": "BACKEND_SERVICE",
        }},
        "httpRequest": {
            "requestMethod": "PUT", "requestUrl": "http://app.example/video/hd/x?y=\"1\"",
            "requestSize": request.len().to_string(), "status": 201, "responseSize": sent.to_string(),
            "userAgent": "t\"\\", "referer": "r", "remoteIp": remote, "serverIp": backend.address.to_string(),
            "latency": null, "protocol": "HTTP/1.1",
        },
        "jsonPayload": {
            "@type": "type.googleapis.com/google.cloud.loadbalancing.type.LoadBalancerLogEntry",
            "backendTargetProjectNumber": "projects/123456789012",
        },
        "severity": "INFO", "insertId": null, "receiveTimestamp": null, "timestamp": null,
    });
    assert_eq!(entry, expected);
}

#[test]
fn failures_are_warnings_with_their_cause() {
    let world = World::new();
    world.serve(Site::of(Group::Empty));
    world.get("/");
    world.get("/%00");
    world.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    world.ask("nonsense\r\n\r\n");
    let entries = world.entries("internal_http_lb_rule", 4);
    let told = |entry: &Value| {
        let status = entry["httpRequest"]["status"].as_u64().unwrap();
        assert_eq!(entry["severity"], "WARNING");
        assert_eq!(entry["resource"]["labels"]["matched_url_path_rule"], "UNMATCHED");
        assert_eq!(entry["resource"]["labels"]["backend_type"], "UNKNOWN");
        (status, entry["jsonPayload"]["proxyStatus"].as_str().unwrap().to_owned())
    };
    let expected = [
        (503, r#"error="destination_unavailable"; details="failed_to_pick_backend""#),
        (400, r#"error="http_request_error""#),
        (404, r#"error="destination_not_found"; details="route_not_found""#),
        (400, r#"error="http_request_error""#),
    ];
    assert_eq!(entries.iter().map(told).collect::<Vec<_>>(), expected.map(|(s, p)| (s, p.to_owned())));
}

#[test]
fn only_what_is_asked_for_is_logged() {
    let backend = Backend::text("fine");
    let world = World::new();
    let with = |enable, sample_rate| BackendService {
        log: LogConfig { enable, sample_rate, optional: Optional::default() },
        ..service(endpoints(&[backend.address]))
    };
    let map = |service: BackendService| Site::map(json!({ "defaultService": "s0" }), vec![service]);
    let mut client = None;
    for (enable, rate, count) in [(false, 1.0, 50), (true, 0.0, 50), (true, 0.5, 200)] {
        world.serve(map(with(enable, rate)));
        let client = client.get_or_insert_with(|| world.connect());
        for _ in 0..count {
            client.send("GET /sampled HTTP/1.1\r\nHost: a\r\n\r\n");
            client.response();
        }
    }
    world.serve(map(with(true, 1.0)));
    world.get("/last");
    // Entries keep their order, so with the last one all are there.
    let names = ["projects/p".to_owned()];
    let found = loop {
        let request = vestibule_logs::store::ListRequest {
            resource_names: &names,
            page_size: 1000,
            ..Default::default()
        };
        let found = world.logs.list(&vestibule_logs::Query::new(&request).unwrap()).unwrap().entries;
        if found.iter().any(|entry| entry["httpRequest"]["requestUrl"] == "http://app.example/last") {
            break found;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let sampled =
        found.iter().filter(|entry| entry["httpRequest"]["requestUrl"] == "http://a/sampled").count();
    // Six standard deviations around a half.
    assert!((58..=142).contains(&sampled), "{sampled}");
}

#[test]
fn a_redirect_is_not_logged() {
    let backend = Backend::text("fine");
    let world = World::new();
    let map = json!({
        "defaultService": "s0",
        "hostRules": [{ "hosts": ["old.example"], "pathMatcher": "m" }],
        "pathMatchers": [{ "name": "m", "defaultUrlRedirect": { "hostRedirect": "new.example" } }],
    });
    world.serve(Site::map(map, vec![service(endpoints(&[backend.address]))]));
    assert_eq!(world.ask("GET / HTTP/1.1\r\nHost: old.example\r\n\r\n").status(), 301);
    world.get("/");
    assert_eq!(world.entry()["httpRequest"]["requestUrl"], "http://app.example/");
}
