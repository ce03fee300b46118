//! Requests with two readings, and other malformed ones: refused, the connection closed, and nothing of them, nor of
//! what comes behind them, reaches a backend.

use vestibule_proxy::limits;

use crate::backend::Backend;
use crate::world::{Site, World, endpoints};

/// What would be a request of its own to whoever takes the end of the message to be where it is not.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

struct Case<'a> {
    request: &'a str,
    status: u16,
    body: Option<&'a str>,
}

fn bad(request: &str) -> Case<'_> {
    Case { request, status: 400, body: Some("Bad Request") }
}

fn status(request: &str, status: u16) -> Case<'_> {
    Case { request, status, body: None }
}

/// Sends each with a smuggled request behind it. One answer must come, and then the end.
fn refuse_all(cases: &[Case<'_>]) {
    let backend = Backend::text("fine");
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    for case in cases {
        let mut client = world.connect();
        client.send(format!("{}{SMUGGLED}", case.request));
        let answer = client.response();
        assert_eq!(answer.status(), case.status, "{:?}: {answer:?}", case.request);
        assert!(
            answer.fields("connection").iter().any(|value| value.ends_with("close")),
            "{:?}",
            case.request
        );
        if let Some(body) = case.body {
            assert_eq!(answer.text(), body, "{:?}", case.request);
        }
        assert_eq!(client.rest(), b"", "{:?}: nothing comes behind the answer", case.request);
    }
    assert_eq!(world.get("/after").text(), "fine");
    let seen: Vec<String> = backend.requests().iter().map(|request| request.line().to_owned()).collect();
    assert_eq!(seen, ["GET /after HTTP/1.1"], "nothing else may reach the backend");
}

#[test]
fn lengths_and_codings() {
    let with = |lines: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
    let requests: Vec<(String, u16)> = [
        ("Content-Length: 4\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", 400),
        ("Content-Length: 4\r\nContent-Length: 5", 400),
        ("Content-Length: 4\r\nContent-Length: 4", 400),
        ("Content-Length: 4, 4", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length: ", 400),
        ("Content-Length: 18446744073709551616", 400),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding: ,chunked", 501),
        ("Transfer-Encoding: \x0bchunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
        ("Transfer-Encoding : chunked", 400),
    ]
    .map(|(lines, status)| (with(lines), status))
    .to_vec();
    let cases: Vec<Case<'_>> = requests.iter().map(|(request, code)| status(request, *code)).collect();
    refuse_all(&cases);
}

#[test]
fn chunks() {
    let bodies = [
        "0x2\r\nab\r\n0\r\n\r\n",
        "0_2e\r\n",
        "-0\r\n\r\n",
        "10000000000000000\r\n",
        "2\nab\n0\n\n",
        "2;a\rb\r\nab\r\n0\r\n\r\n",
        "2\r\nabX0\r\n\r\n",
        "2\r\nab\n0\r\n\r\n",
        " 2\r\nab\r\n0\r\n\r\n",
        "2 \r\nab\r\n0\r\n\r\n",
        "\r\n",
        "0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    ];
    let with =
        |body: &&str| format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let requests: Vec<String> = bodies.iter().map(with).collect();
    refuse_all(&requests.iter().map(|request| bad(request)).collect::<Vec<_>>());
}

/// The same, when the backend has begun to read the body: it never sees the end of it.
#[test]
fn a_chunk_that_goes_wrong_later() {
    let backend = Backend::raw(|wire, seen| {
        // Without an answer, so that the body decides.
        if let Some(request) = wire.request() {
            seen(request);
        }
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    while backend.connections() == 0 {
        std::thread::yield_now();
    }
    client.send(format!("0x5\r\nagain\r\n{SMUGGLED}"));
    assert_eq!(client.response().status(), 400);
    assert_eq!(client.rest(), b"");
    while backend.requests().is_empty() {
        std::thread::yield_now();
    }
    let request = backend.request();
    assert!(!request.complete, "{request:?}");
}

#[test]
fn names_and_values() {
    refuse_all(&[
        bad("GET / HTTP/1.1\nHost: a\n\n"),
        bad("GET / HTTP/1.1\r\nHost: a\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: x\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: a\r\nX\x01: x\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
    ]);
}

#[test]
fn hosts() {
    refuse_all(&[
        Case { request: "GET / HTTP/1.1\r\nX: y\r\n\r\n", status: 400, body: Some("") },
        bad("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: \r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"),
        bad("GET / HTTP/1.1\r\nHost: a..b\r\n\r\n"),
    ]);
}

#[test]
fn first_lines() {
    refuse_all(&[
        bad("G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        bad("GET / HTTP/1.32\r\nHost: a\r\n\r\n"),
        bad("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        bad("GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
        bad("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
        bad("GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        bad("GET /\r\n\r\n"),
        status("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        Case { request: "GET / HTTP/1.0\r\nHost: a\r\n\r\n", status: 426, body: Some("Upgrade Required") },
    ]);
}

#[test]
fn sizes() {
    let many = "x: y\r\n".repeat(vestibule_http1::limits::MAX_FIELDS + 1);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(70 * 1024));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(20 * 1024));
    let too_large = Some("Request Header Fields Too Large");
    refuse_all(&[
        Case { request: &many, status: 431, body: too_large },
        Case { request: &large, status: 431, body: too_large },
        status(&long, 414),
    ]);
    // What fits, fits: a head beyond the first buffer, and one that fills it.
    let backend = Backend::text("fine");
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    for size in [limits::SMALL_BUFFER - 100, limits::SMALL_BUFFER, 59 * 1024] {
        let value = "y".repeat(size);
        assert_eq!(world.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n")).text(), "fine");
        assert_eq!(backend.requests().last().unwrap().field("x"), Some(&*value));
    }
}

/// A path that means another path is matched as that path, and forwarded as it was matched.
#[test]
fn paths_are_matched_as_they_are_forwarded() {
    let (open, closed) = (Backend::text("open"), Backend::text("closed"));
    let world = World::new();
    let map = serde_json::json!({
        "defaultService": "s0",
        "hostRules": [{ "hosts": ["*"], "pathMatcher": "m" }],
        "pathMatchers": [{
            "name": "m", "defaultService": "s0",
            "pathRules": [{ "paths": ["/admin", "/admin/*"], "service": "s1" }],
        }],
    });
    let services = [&open, &closed].map(|backend| crate::world::service(endpoints(&[backend.address])));
    world.serve(Site::map(map, services.into()));
    for (path, body, forwarded) in [
        ("/a/../admin", "closed", "/admin"),
        ("/a/%2e%2e/admin/x", "closed", "/admin/x"),
        ("/./admin/x?q=/../", "closed", "/admin/x?q=/../"),
        ("/%61dmin", "closed", "/admin"),
        ("/a/..;x/admin", "closed", "/admin"),
        ("//admin", "open", "//admin"),
        ("/a%2Fadmin", "open", "/a%2Fadmin"),
        ("/Admin", "open", "/Admin"),
    ] {
        assert_eq!(world.get(path).text(), body, "{path}");
        let backend = if body == "open" { &open } else { &closed };
        assert_eq!(backend.requests().last().unwrap().line(), format!("GET {forwarded} HTTP/1.1"));
    }
    assert_eq!(world.get("/%00").status(), 400);
    assert_eq!(world.get("/a/%%32%65%%32%65/admin").status(), 400);
}

/// Who asks for `https` over a plain connection believes it to be safe.
#[test]
fn a_target_with_a_scheme_must_come_over_it() {
    let backend = Backend::text("fine");
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    assert_eq!(world.ask("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n").status(), 403);
    assert!(backend.requests().is_empty());
    assert_eq!(world.ask("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n").text(), "fine");
}

#[test]
fn targets_without_a_path_match_no_route() {
    let backend = Backend::text("fine");
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    for request in ["OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"] {
        let answer = world.ask(request);
        assert_eq!((answer.status(), answer.text()), (404, String::new()), "{request:?}");
    }
    assert!(backend.requests().is_empty());
}

/// However a stream of requests is cut into writes, the backend gets the same requests.
#[test]
fn a_stream_of_requests_means_the_same_however_it_is_cut() {
    let backend = Backend::http(|request| crate::backend::ok(&request.text()));
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let large = "L".repeat(20_000);
    let stream = format!(
        "GET /1?a=b HTTP/1.1\r\nHost: a\r\nX-Odd:  \tvalue \r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
         POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n\
         HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /5 HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n{large}\
         GET /6 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    );
    let expected = [
        ("GET /1?a=b", ""),
        ("POST /2", "hello"),
        ("POST /3", "abcde"),
        ("HEAD /4", ""),
        ("POST /5", &large),
        ("GET /6", ""),
    ];
    let random = &mut fastrand::Rng::with_seed(7);
    for round in 1..=40 {
        let mut client = world.connect();
        let mut rest = stream.as_bytes();
        while !rest.is_empty() {
            let most = if random.bool() { 20 } else { 9_000 };
            let (piece, after) = rest.split_at(random.usize(1..=most).min(rest.len()));
            client.send(piece);
            rest = after;
        }
        let answers = String::from_utf8(client.rest()).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), expected.len());
        let requests = backend.requests();
        assert_eq!(requests.len(), round * expected.len());
        for (request, (line, body)) in requests[requests.len() - expected.len()..].iter().zip(expected) {
            assert_eq!((request.line(), &*request.text()), (&*format!("{line} HTTP/1.1"), body));
        }
        assert_eq!(requests[requests.len() - 6].field("x-odd"), Some("value"));
    }
}

/// Requests that come in one write are answered in their order, each by itself.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend =
        Backend::http(|request| crate::backend::ok(&format!("{} {}", request.line(), request.text())));
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
         POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n\
         \r\nGET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    let answers: Vec<String> = (0..4).map(|_| client.response().text()).collect();
    assert_eq!(
        answers,
        ["GET /1 HTTP/1.1 ", "POST /2 HTTP/1.1 abc", "POST /3 HTTP/1.1 def", "GET /4 HTTP/1.1 "]
    );
    assert_eq!(client.rest(), b"");
    assert_eq!(backend.connections(), 1, "the backend's connection is used again");
}
