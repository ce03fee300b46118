//! What a route makes of a request: redirects, CORS, faults, rewrites, weights, mirrors.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::{Backend, response};
use crate::world::{Site, World, endpoints, service};

/// A map whose only rule has this action.
fn rule(rule: Value) -> Value {
    let mut rule = rule;
    rule["priority"] = json!(1);
    rule.as_object_mut().unwrap().entry("matchRules").or_insert(json!([{ "prefixMatch": "/" }]));
    json!({
        "defaultService": "s0",
        "hostRules": [{ "hosts": ["*"], "pathMatcher": "m" }],
        "pathMatchers": [{ "name": "m", "defaultService": "s0", "routeRules": [rule] }],
    })
}

fn serve(map: Value, backends: &[&Backend]) -> World {
    let world = World::new();
    world.serve(Site::map(
        map,
        backends.iter().map(|backend| service(endpoints(&[backend.address]))).collect(),
    ));
    world
}

#[test]
fn a_redirect_is_answered_without_a_backend() {
    let backend = Backend::text("");
    let map = rule(json!({
        "urlRedirect": { "httpsRedirect": true, "redirectResponseCode": "FOUND" },
        "headerAction": { "responseHeadersToAdd": [{ "headerName": "X-Rule", "headerValue": "r" }] },
    }));
    let world = serve(map, &[&backend]);
    let mut client = world.connect();
    client.send("GET /a/../b?c HTTP/1.1\r\nHost: app.example:8080\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status(), answer.field("location")), (302, Some("https://app.example:8080/b?c")));
    assert_eq!((answer.field("x-rule"), answer.field("content-length")), (Some("r"), Some("0")));
    // The connection goes on, also after a body that nobody wanted but was small.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response().status(), 302);
    client.send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
    assert!(backend.requests().is_empty());
}

#[test]
fn a_preflight_request_is_answered_here_and_others_gain_headers() {
    let backend = Backend::http(|_| response("200 OK", "Access-Control-Allow-Origin: https://wrong\r\n", ""));
    let world = serve(
        rule(json!({ "service": "s0", "routeAction": { "corsPolicy": {
            "allowOrigins": ["https://good"], "allowMethods": ["GET", "PUT"], "allowCredentials": true, "maxAge": 60,
        }}})),
        &[&backend],
    );
    let ask = |method: &str, origin: &str, more: &str| {
        world.ask(format!("{method} / HTTP/1.1\r\nHost: a\r\nOrigin: https://{origin}\r\n{more}\r\n"))
    };
    let answer = ask("OPTIONS", "good", "Access-Control-Request-Method: PUT\r\n");
    assert_eq!((answer.status(), answer.text()), (200, String::new()));
    for (name, value) in [
        ("access-control-allow-origin", "https://good"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,PUT"),
        ("access-control-max-age", "60"),
    ] {
        assert_eq!(answer.field(name), Some(value));
    }
    assert!(backend.requests().is_empty());
    let answer = ask("GET", "good", "");
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://good"));
    assert_eq!(ask("GET", "bad", "").field("access-control-allow-origin"), Some("https://wrong"));
    ask("OPTIONS", "bad", "Access-Control-Request-Method: PUT\r\n");
    ask("OPTIONS", "good", "");
    assert_eq!(backend.requests().len(), 4);
}

#[test]
fn faults_delay_and_abort() {
    let backend = Backend::text("fine");
    let world = serve(
        rule(json!({ "service": "s0", "routeAction": { "faultInjectionPolicy": {
            "delay": { "fixedDelay": { "seconds": "0", "nanos": 50_000_000 }, "percentage": 100 },
            "abort": { "httpStatus": 555, "percentage": 100 },
        }}})),
        &[&backend],
    );
    let start = Instant::now();
    let answer = world.get("/");
    assert_eq!((answer.status(), answer.text()), (555, "fault filter abort".to_owned()));
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert!(backend.requests().is_empty());
}

#[test]
fn a_rewrite_changes_host_and_path_and_says_so() {
    let backend = Backend::text("");
    let world = serve(
        rule(json!({
            "matchRules": [{ "prefixMatch": "/pre/" }], "service": "s0",
            "routeAction": { "urlRewrite": { "hostRewrite": "inner.example", "pathPrefixRewrite": "/new/" } },
        })),
        &[&backend],
    );
    world.get("/pre/x?y=/pre/");
    let request = backend.request();
    assert_eq!(request.line(), "GET /new/x?y=/pre/ HTTP/1.1");
    assert_eq!(request.field("host"), Some("inner.example"));
    assert_eq!(request.field("x-envoy-original-host"), Some("app.example"));
    assert_eq!(request.field("x-envoy-original-path"), Some("/pre/x?y=/pre/"));
}

#[test]
fn weights_share_the_requests() {
    let (heavy, light, none) = (Backend::text("heavy"), Backend::text("light"), Backend::text("none"));
    let weighted =
        |index: usize, weight: u32| json!({ "backendService": format!("s{index}"), "weight": weight });
    let services = [weighted(0, 3), weighted(1, 1), weighted(2, 0)];
    let world = serve(
        rule(json!({ "routeAction": { "weightedBackendServices": services } })),
        &[&heavy, &light, &none],
    );
    let mut client = world.connect();
    for _ in 0..400 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status(), 200);
    }
    let seen = [&heavy, &light, &none].map(|backend| backend.requests().len());
    assert_eq!((seen[0] + seen[1], seen[2]), (400, 0));
    // Six standard deviations around a quarter.
    assert!((48..=152).contains(&seen[1]), "{seen:?}");
}

#[test]
fn a_mirror_gets_a_copy_and_its_answer_is_lost() {
    let (main, mirror) = (Backend::text("main"), Backend::http(|_| response("500 No", "", "mirror")));
    let world = serve(
        rule(
            json!({ "service": "s0", "routeAction": { "requestMirrorPolicy": { "backendService": "s1" } } }),
        ),
        &[&main, &mirror],
    );
    let answer = world.ask("PUT /x HTTP/1.1\r\nHost: main.example\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(answer.text(), "main");
    while mirror.requests().is_empty() {
        std::thread::yield_now();
    }
    let copy = mirror.request();
    assert_eq!((copy.line(), copy.text()), ("PUT /x HTTP/1.1", "hi".to_owned()));
    assert_eq!(copy.field("host"), Some("main.example-shadow"));
}

#[test]
fn a_service_without_a_backend_is_unavailable() {
    let world = World::new();
    world.serve(Site::of(vestibule_proxy::snapshot::Backend::Empty));
    let answer = world.get("/");
    assert_eq!((answer.status(), answer.text()), (503, "no healthy upstream".to_owned()));
    world.serve(Site::of(endpoints(&[])));
    assert_eq!(world.get("/").text(), "no healthy upstream");
}
