//! What of a head goes on, what ends here, and what the load balancer adds.

use serde_json::json;

use crate::backend::{Backend, ok, response};
use crate::world::{Site, World, endpoints, service};

/// What a backend gets of this request.
fn received(request: &str) -> crate::wire::Message {
    let backend = Backend::text("");
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    assert_eq!(world.ask(request).status(), 200);
    backend.request()
}

#[test]
fn a_request_gains_its_way_and_keeps_the_rest() {
    let request =
        received("GET /a?b=c HTTP/1.1\r\nHost: App.Example:8080\r\nUser-Agent: t\r\nACCEPT: */*\r\n\r\n");
    assert_eq!(
        request.head,
        "GET /a?b=c HTTP/1.1\r\nhost: App.Example:8080\r\nuser-agent: t\r\naccept: */*\r\n\
         x-forwarded-for: 127.0.0.1,10.0.0.100\r\nx-forwarded-proto: http\r\nvia: 1.1 google"
    );
}

#[test]
fn what_the_client_claims_stays_in_front_but_for_the_scheme() {
    let request = received(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\nVia: 1.1 x\r\n\r\n",
    );
    assert_eq!(request.field("x-forwarded-for"), Some("1.2.3.4, 5.6.7.8,127.0.0.1,10.0.0.100"));
    assert_eq!(request.field("x-forwarded-proto"), Some("http"));
    assert_eq!(request.fields("via"), ["1.1 x", "1.1 google"]);
}

#[test]
fn an_absolute_target_overrides_the_host() {
    let request = received("GET http://other.example:81?q HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((request.line(), request.field("host")), ("GET /?q HTTP/1.1", Some("other.example:81")));
}

#[test]
fn hop_by_hop_fields_end_here() {
    let request = received(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Auth, host, x-forwarded-for, via\r\nX-Auth: secret\r\n\
         X-Forwarded-For: 6.6.6.6\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: x\r\nProxy-Connection: close\r\n\
         Proxy-Authorization: Basic x\r\nProxy-Authenticate: y\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-Stays: 1\r\n\r\n",
    );
    for gone in [
        "connection",
        "x-auth",
        "keep-alive",
        "te",
        "trailer",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "upgrade",
        "transfer-encoding",
    ] {
        assert_eq!(request.field(gone), None, "{gone}");
    }
    assert_eq!(request.field("x-stays"), Some("1"));
    assert_eq!(request.field("host"), Some("a"));
    // Ours are added after what the client could take away.
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1,10.0.0.100"));
    assert_eq!(request.field("via"), Some("1.1 google"));
}

#[test]
fn a_response_loses_what_is_of_its_hop_and_gains_via_and_date() {
    let backend = Backend::http(|_| {
        response(
            "200 Fine",
            "Server: s\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-End: e\r\n",
            "body",
        )
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let answer = world.get("/");
    assert_eq!(answer.line(), "HTTP/1.1 200 Fine");
    assert_eq!((answer.field("server"), answer.field("x-end")), (Some("s"), Some("e")));
    assert_eq!((answer.field("via"), answer.field("content-length")), (Some("1.1 google"), Some("4")));
    assert!(answer.field("date").is_some_and(|date| date.ends_with(" GMT")));
    for gone in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
}

#[test]
fn a_backends_own_date_stays() {
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let backend = Backend::http(move |_| response("200 OK", date, ""));
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    assert_eq!(world.get("/").field("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
}

/// The levels in their order: weighted service, route rule, path matcher, URL map.
#[test]
fn header_actions_apply_from_the_inside_out() {
    let add = |side: &str, value: &str, replace: bool| json!({ format!("{side}HeadersToAdd"): [{ "headerName": "X-Level", "headerValue": value, "replace": replace }] });
    let map = json!({
        "defaultService": "s0",
        "headerAction": {
            "requestHeadersToAdd": [
                { "headerName": "X-Level", "headerValue": "map" , "replace": false },
                { "headerName": "X-Client", "headerValue": "{client_ip_address}:{server_port}" },
                { "headerName": "X-Over", "headerValue": "map" },
            ],
            "requestHeadersToRemove": ["X-Remove"],
            "responseHeadersToAdd": [{ "headerName": "X-Out", "headerValue": "map" }],
            "responseHeadersToRemove": ["X-Secret"],
        },
        "hostRules": [{ "hosts": ["*"], "pathMatcher": "m" }],
        "pathMatchers": [{
            "name": "m", "defaultService": "s0", "headerAction": add("request", "matcher", false),
            "routeRules": [{
                "priority": 1, "matchRules": [{ "prefixMatch": "/" }], "headerAction": add("request", "rule", false),
                "routeAction": { "weightedBackendServices": [{
                    "backendService": "s0", "weight": 1, "headerAction": add("request", "weighted", false),
                }]},
            }],
        }],
    });
    let backend = Backend::http(|_| response("200 OK", "X-Secret: 1\r\nX-Out: backend\r\n", ""));
    let world = World::new();
    world.serve(Site::map(map, vec![service(endpoints(&[backend.address]))]));
    let answer =
        world.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Remove: 1\r\nX-Over: client\r\nX-Level: client\r\n\r\n");
    let request = backend.request();
    assert_eq!(request.fields("x-level"), ["client", "weighted", "rule", "matcher", "map"]);
    assert_eq!(request.field("x-remove"), None);
    assert_eq!(request.field("x-over"), Some("map"));
    assert_eq!(request.field("x-client"), Some("127.0.0.1:8080"));
    assert_eq!((answer.field("x-out"), answer.field("x-secret")), (Some("map"), None));
}

#[test]
fn a_head_answer_has_a_length_and_no_body() {
    let backend = Backend::http(|request| {
        let answer = ok("four");
        // A HEAD has the head of the GET.
        let end = if request.line().starts_with("HEAD") { answer.len() - 4 } else { answer.len() };
        answer[..end].to_vec()
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head().unwrap();
    assert!(head.contains("content-length: 4"), "{head}");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "four");
}

#[test]
fn bodiless_statuses_have_no_body() {
    let backend = Backend::http(|request| {
        let status = request.line().split(['/', ' ']).nth(2).unwrap().to_owned();
        let fields = if status == "304" { "ETag: x\r\nContent-Length: 7\r\n" } else { "" };
        format!("HTTP/1.1 {status} S\r\n{fields}\r\n").into_bytes()
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    for (path, length) in [("/204", None), ("/304", Some("7")), ("/204", None)] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.response();
        assert_eq!(
            (answer.field("content-length"), answer.field("transfer-encoding")),
            (length, None),
            "{path}"
        );
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn interim_responses_are_relayed() {
    let backend = Backend::raw(|wire, seen| {
        seen(wire.request().unwrap());
        wire.send(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
        );
        wire.send(ok("done"));
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().unwrap(), "HTTP/1.1 103 Early Hints\r\nlink: </a>");
    assert_eq!(client.head().unwrap(), "HTTP/1.1 102 Processing");
    assert_eq!(client.response().text(), "done");
}
