//! Backends that are not there, go away, lie or hang.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use vestibule_proxy::snapshot::BackendService;

use crate::backend::{Backend, ok, response};
use crate::world::{Site, World, endpoints, service};

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn serve(backend: &Backend) -> World {
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    world
}

#[test]
fn a_refused_connection_is_answered_503() {
    let world = World::new();
    world.serve(Site::of(endpoints(&[nobody()])));
    let answer = world.get("/");
    assert_eq!(answer.status(), 503);
    let start =
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    assert!(answer.text().starts_with(start), "{}", answer.text());
    let status = &world.entry()["jsonPayload"]["proxyStatus"];
    assert_eq!(status, r#"error="connection_refused"; details="failed_to_connect_to_backend""#);
}

#[test]
fn another_endpoint_is_tried_whatever_the_method() {
    let backend = Backend::text("fine");
    let world = World::new();
    world.serve(Site::of(endpoints(&[nobody(), backend.address, nobody()])));
    for _ in 0..6 {
        assert_eq!(world.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").text(), "fine");
    }
}

#[test]
fn requests_take_turns_at_endpoints() {
    let backends = [Backend::text("0"), Backend::text("1"), Backend::text("2")];
    let world = World::new();
    world.serve(Site::of(endpoints(&backends.each_ref().map(|backend| backend.address))));
    let mut client = world.connect();
    let mut answers = Vec::new();
    for _ in 0..6 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        answers.push(client.response().text());
    }
    assert_eq!(answers[..3], answers[3..]);
    answers.truncate(3);
    answers.sort();
    assert_eq!(answers, ["0", "1", "2"]);
}

/// The backend closes each connection after one answer, without saying so.
fn forgetful() -> Backend {
    Backend::raw(|wire, seen| {
        if let Some(request) = wire.request() {
            seen(request);
            wire.send(ok("once"));
            // Takes the next request in, and says nothing.
            if let Some(request) = wire.request() {
                seen(request);
            }
        }
    })
}

#[test]
fn an_idempotent_request_survives_a_connection_that_was_closed_meanwhile() {
    let backend = forgetful();
    let world = serve(&backend);
    let mut client = world.connect();
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "once");
    }
    assert_eq!(backend.connections(), 5);
}

#[test]
fn a_post_on_a_connection_that_was_closed_meanwhile_is_not_repeated() {
    let backend = forgetful();
    let world = serve(&backend);
    let mut client = world.connect();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    client.send(post);
    assert_eq!(client.response().text(), "once");
    client.send(post);
    let answer = client.response();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().ends_with("reset reason: connection termination"));
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn a_get_without_an_answer_is_tried_once_more() {
    let count = Arc::new(AtomicUsize::new(0));
    let theirs = count.clone();
    let backend = Backend::raw(move |wire, seen| {
        seen(wire.request().unwrap());
        match theirs.fetch_add(1, Ordering::SeqCst) {
            0 | 2 | 3 => {}
            _ => wire.send(ok("second time")),
        }
    });
    let world = serve(&backend);
    assert_eq!(world.get("/").text(), "second time");
    assert_eq!(world.get("/").status(), 503);
    assert_eq!(backend.requests().len(), 4);
    assert_eq!(world.entries("internal_http_lb_rule", 2).len(), 2, "one entry a request, not an attempt");
}

#[test]
fn a_get_that_is_answered_503_is_tried_once_more_and_a_post_is_not() {
    let count = Arc::new(AtomicUsize::new(0));
    let theirs = count.clone();
    let backend = Backend::http(move |_| match theirs.fetch_add(1, Ordering::SeqCst) {
        0 | 2 => response("503 No", "", "busy"),
        _ => ok("fine"),
    });
    let world = serve(&backend);
    assert_eq!(world.get("/").text(), "fine");
    let answer = world.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!((answer.status(), answer.text()), (503, "busy".to_owned()));
}

#[test]
fn a_retry_policy_counts() {
    let backend = Backend::http(|_| response("500 No", "", "broken"));
    let map = json!({
        "defaultService": "s0",
        "hostRules": [{ "hosts": ["*"], "pathMatcher": "m" }],
        "pathMatchers": [{
            "name": "m", "defaultService": "s0",
            "routeRules": [{
                "priority": 1, "matchRules": [{ "prefixMatch": "/" }], "service": "s0",
                "routeAction": { "retryPolicy": { "numRetries": 2, "retryConditions": ["5xx"] } },
            }],
        }],
    });
    let world = World::new();
    world.serve(Site::map(map, vec![service(endpoints(&[backend.address]))]));
    let answer = world.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!((answer.status(), answer.text()), (500, "broken".to_owned()));
    assert_eq!(backend.requests().len(), 3);
    assert!(backend.requests().iter().all(|request| request.text() == "hi"));
    assert_eq!(backend.connections(), 1, "whole answers leave the connection in order");
}

/// Killed in the middle of an answer: the client must see that it is not the whole.
#[test]
fn a_truncated_answer_never_ends_cleanly() {
    for start in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
    ] {
        let backend = Backend::raw(move |wire, _| {
            wire.request().unwrap();
            wire.send(start);
        });
        let world = serve(&backend);
        let answer = world.get("/");
        assert_eq!(
            (answer.status(), answer.text(), answer.complete),
            (200, "half".to_owned(), false),
            "{start:?}"
        );
        let entry = world.entry();
        assert_eq!(
            entry["jsonPayload"]["proxyStatus"],
            r#"error="connection_terminated"; details="backend_connection_closed_after_partial_response_sent""#
        );
        assert_eq!(entry["httpRequest"]["status"], 200);
    }
}

#[test]
fn a_malformed_answer_is_502_and_its_connection_is_not_used_again() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(200 * 1024));
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2xx OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "nonsense\r\n\r\n",
        &huge,
    ] {
        let answer = answer.to_owned();
        let backend = Backend::http(move |_| answer.clone().into_bytes());
        let world = serve(&backend);
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
        for count in 1..=2 {
            let answer = world.ask(post);
            assert_eq!(answer.status(), 502, "{answer:?}");
            assert_eq!(backend.connections(), count);
        }
        let entry = &world.entries("internal_http_lb_rule", 2)[0];
        assert_eq!(entry["jsonPayload"]["proxyStatus"], r#"error="http_protocol_error""#);
    }
}

#[test]
fn bytes_behind_an_answer_are_never_the_next_answer() {
    let backend = Backend::http(|_| [ok("mine"), ok("stray")].concat());
    let world = serve(&backend);
    let mut client = world.connect();
    for count in 1..=3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "mine");
        assert_eq!(backend.connections(), count);
    }
}

/// The backend takes the request and says nothing.
fn silent() -> Backend {
    Backend::raw(|wire, seen| {
        seen(wire.request().unwrap());
        wire.rest();
    })
}

#[test]
fn a_silent_backend_is_504_in_time_and_is_left() {
    let backend = silent();
    let world = World::new();
    let limit = Duration::from_millis(150);
    let slow = BackendService { timeout: limit, ..service(endpoints(&[backend.address])) };
    world.serve(Site::map(json!({ "defaultService": "s0" }), vec![slow]));
    let start = Instant::now();
    let answer = world.get("/");
    assert_eq!((answer.status(), answer.text()), (504, "upstream request timeout".to_owned()));
    assert!(start.elapsed() >= limit);
    assert_eq!(
        world.entry()["jsonPayload"]["proxyStatus"],
        r#"error="http_response_timeout"; details="backend_timeout""#
    );
    assert_eq!(backend.requests().len(), 1, "the time is up, so there is no other attempt");
}

#[test]
fn a_timeout_in_the_middle_of_an_answer_cuts_it() {
    let backend = Backend::raw(|wire, _| {
        wire.request().unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        wire.rest();
    });
    let world = World::new();
    let slow =
        BackendService { timeout: Duration::from_millis(150), ..service(endpoints(&[backend.address])) };
    world.serve(Site::map(json!({ "defaultService": "s0" }), vec![slow]));
    let answer = world.get("/");
    assert_eq!((answer.text(), answer.complete), ("half".to_owned(), false));
}

#[test]
fn each_attempt_may_have_a_limit_of_its_own() {
    let count = Arc::new(AtomicUsize::new(0));
    let theirs = count.clone();
    let backend = Backend::raw(move |wire, seen| {
        seen(wire.request().unwrap());
        if theirs.fetch_add(1, Ordering::SeqCst) == 0 {
            wire.rest();
        } else {
            wire.send(ok("quick"));
        }
    });
    let map = json!({
        "defaultService": "s0",
        "hostRules": [{ "hosts": ["*"], "pathMatcher": "m" }],
        "pathMatchers": [{
            "name": "m", "defaultService": "s0",
            "routeRules": [{
                "priority": 1, "matchRules": [{ "prefixMatch": "/" }], "service": "s0",
                "routeAction": { "retryPolicy": {
                    "numRetries": 1, "retryConditions": ["5xx"], "perTryTimeout": { "nanos": 100_000_000 },
                }},
            }],
        }],
    });
    let world = World::new();
    world.serve(Site::map(map, vec![service(endpoints(&[backend.address]))]));
    assert_eq!(world.get("/").text(), "quick");
}

/// A client that leaves takes its request with it.
#[test]
fn a_client_that_leaves_ends_its_request() {
    let ended = Arc::new(AtomicUsize::new(0));
    let theirs = ended.clone();
    let backend = Backend::raw(move |wire, seen| {
        seen(wire.request().unwrap());
        wire.rest();
        theirs.fetch_add(1, Ordering::SeqCst);
    });
    let world = serve(&backend);
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while backend.requests().is_empty() {
        std::thread::yield_now();
    }
    drop(client);
    while ended.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let entry = world.entry();
    assert_eq!(entry["httpRequest"]["status"], 0);
    assert_eq!(entry["jsonPayload"]["proxyStatus"], r#"details="client_disconnected_before_any_response""#);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_ends_its_request() {
    let backend = Backend::raw(|wire, seen| {
        if let Some(request) = wire.request() {
            seen(request);
        }
    });
    let world = serve(&backend);
    let mut client = world.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nstart");
    while backend.connections() == 0 {
        std::thread::yield_now();
    }
    drop(client);
    while backend.requests().is_empty() {
        std::thread::yield_now();
    }
    assert!(!backend.request().complete);
}
