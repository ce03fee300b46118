//! Clients that speak HTTP/2.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use http::Request;
use serde_json::json;
use vestibule_proxy::ProxyConfig;
use vestibule_proxy::limits::{HTTP2_SEND_BUFFER, LARGE_BUFFER, MAX_STREAMS, Timeouts};

use crate::backend::{Backend, ok};
use crate::frames::{self, Raw, frame, get};
use crate::h2::Client;
use crate::world::{PORT, Site, World, endpoints};

/// Large enough to fill every window and buffer on its way many times.
const LARGE: usize = 3_000_000;

fn world() -> World {
    World::with(ProxyConfig { clear_http2: true, ..ProxyConfig::default() }, None)
}

fn hasty(limit: Duration) -> World {
    let timeouts = Timeouts { head: limit, tls_handshake: limit, stream_idle: limit };
    World::with(ProxyConfig { timeouts, clear_http2: true, ..ProxyConfig::default() }, None)
}

fn serve(world: &World, backend: &Backend) {
    world.serve(Site::of(endpoints(&[backend.address])));
}

fn client(world: &World) -> Client {
    Client::clear(world.address(PORT))
}

fn raw(world: &World) -> Raw {
    Raw::new(world.connect(), &[])
}

#[test]
fn requests_go_the_way_of_all_requests() {
    let backend = Backend::http(|request| ok(&request.text()));
    let world = world();
    serve(&world, &backend);
    let mut client = client(&world);
    let request =
        Request::post("http://app.example/a/%7eb?c=d").header("cookie", "x=1").header("cookie", "y=2");
    let request = request.header("user-agent", "t").header("content-length", "5").body(()).unwrap();
    let answer = client.ask(request, b"hello").unwrap();
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "hello"));
    assert_eq!((answer.field("via"), answer.field("content-length")), (Some("1.1 google"), Some("5")));
    assert!(answer.field("date").is_some() && answer.field("connection").is_none());

    let seen = backend.request();
    assert_eq!(seen.line(), "POST /a/~b?c=d HTTP/1.1");
    assert_eq!(seen.field("host"), Some("app.example"));
    assert_eq!(seen.field("cookie"), Some("x=1; y=2"));
    assert_eq!((seen.field("content-length"), seen.field("transfer-encoding")), (Some("5"), None));
    assert!(seen.field("x-forwarded-for").is_some_and(|value| value.ends_with(",10.0.0.100")));
    let entry = world.entry();
    assert_eq!(entry["httpRequest"]["protocol"], "HTTP/2");
    assert_eq!(entry["httpRequest"]["requestUrl"], "http://app.example/a/%7eb?c=d");
}

#[test]
fn large_bodies_go_both_ways_with_and_without_a_length() {
    let backend = Backend::http(|request| {
        let answer = ok(&request.text());
        if request.field("content-length").is_some() {
            return answer;
        }
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunks = request
            .body
            .chunks(70_000)
            .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        [head.as_bytes(), &chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n"].concat()
    });
    let world = world();
    serve(&world, &backend);
    let mut client = client(&world);
    let body = "0123456789".repeat(LARGE / 10);
    for length in [true, false] {
        let mut request = Request::put("http://app.example/");
        if length {
            request = request.header("content-length", body.len());
        }
        let answer = client.ask(request.body(()).unwrap(), body.as_bytes()).unwrap();
        assert_eq!(answer.field("content-length").is_some(), length);
        assert!(answer.text() == body);
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn streams_do_not_wait_for_each_other() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::http(move |request| {
        if request.line().starts_with("GET /slow") {
            wait.lock().unwrap().recv().unwrap();
        }
        ok(request.line())
    });
    let world = world();
    serve(&world, &backend);
    let mut client = client(&world);
    let (slow, _) = client.start(Request::get("http://app.example/slow").body(()).unwrap(), true);
    for _ in 0..200 {
        assert_eq!(client.get("/fast").unwrap().text(), "GET /fast HTTP/1.1");
    }
    go.send(()).unwrap();
    assert_eq!(client.read(slow).unwrap().text(), "GET /slow HTTP/1.1");
}

#[test]
fn a_head_and_no_content_have_no_body() {
    let backend = Backend::http(|request| match request.line() {
        "HEAD / HTTP/1.1" => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    });
    let world = world();
    serve(&world, &backend);
    let mut client = client(&world);
    let answer = client.ask(Request::head("http://app.example/").body(()).unwrap(), b"").unwrap();
    assert_eq!((answer.field("content-length"), answer.body.len()), (Some("5"), 0));
    let answer = client.get("/").unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
}

#[test]
fn a_backend_that_breaks_off_is_no_clean_end() {
    let backend = Backend::raw(|wire, seen| {
        seen(wire.request().unwrap());
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    });
    let world = world();
    serve(&world, &backend);
    let error = client(&world).get("/").unwrap_err();
    assert!(error.is_reset(), "{error}");
    let entry = world.entry();
    let told = entry["jsonPayload"]["proxyStatus"].as_str().unwrap();
    assert!(told.contains("backend_connection_closed_after_partial_response_sent"), "{told}");
}

#[test]
fn a_client_that_resets_is_noticed_at_once() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let backend = Backend::raw(move |wire, seen| {
        seen(wire.request().unwrap());
        tell.lock().unwrap().send("asked").unwrap();
        assert!(!wire.more());
        tell.lock().unwrap().send("left").unwrap();
    });
    let world = world();
    serve(&world, &backend);
    let mut client = client(&world);
    let (_response, mut stream) = client.start(Request::get("http://app.example/").body(()).unwrap(), true);
    assert_eq!(told.recv().unwrap(), "asked");
    stream.send_reset(h2::Reason::CANCEL);
    assert_eq!(told.recv().unwrap(), "left");
    let entry = world.entry();
    assert_eq!(entry["httpRequest"]["status"], 0);
}

#[test]
fn a_slow_reader_holds_back_the_backend_and_nobody_else() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let backend = Backend::raw(move |wire, _| {
        while let Some(request) = wire.request() {
            if request.line() != "GET /large HTTP/1.1" {
                wire.send(ok("small"));
                continue;
            }
            let mut sent = 0;
            wire.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
            while wire.try_send([0; 10_000]).is_ok() {
                sent += 10_000;
            }
            tell.lock().unwrap().send(sent).unwrap();
            return;
        }
    });
    let world = world();
    serve(&world, &backend);
    let mut client = client(&world);
    let (response, _) = client.start(Request::get("http://app.example/large").body(()).unwrap(), true);
    let response = client.head(response).unwrap();
    assert_eq!(client.get("/small").unwrap().text(), "small");
    let sent: usize = told.recv().unwrap();
    // The kernel holds most of it; what we hold is a buffer, what the stream holds and what the client's window takes.
    assert!(sent < 16_000_000, "{sent} bytes; {LARGE_BUFFER} {HTTP2_SEND_BUFFER}");
    assert_eq!(client.get("/small").unwrap().text(), "small");
    drop(response);
}

#[test]
fn what_is_too_much_is_told() {
    let backend = Backend::text("fine");
    let world = world();
    serve(&world, &backend);
    let mut client = client(&world);
    let long = "x".repeat(50_000);
    for (request, status) in [
        (Request::get("http://app.example/").header("a", &long).header("b", &long), 431),
        (Request::get(format!("http://app.example/{long}")), 414),
    ] {
        let answer = client.ask(request.body(()).unwrap(), b"").unwrap();
        assert_eq!(answer.status.as_u16(), status);
    }
    let many = (0..101)
        .fold(Request::get("http://app.example/"), |request, i| request.header(format!("x-{i}"), "1"));
    assert_eq!(client.ask(many.body(()).unwrap(), b"").unwrap().status.as_u16(), 431);
    assert_eq!(client.get("/").unwrap().text(), "fine");
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn an_idle_connection_is_ended_in_two_steps() {
    let backend = Backend::text("fine");
    let world = world();
    let site = Site { keep_alive: Duration::from_millis(200), ..Site::of(endpoints(&[backend.address])) };
    world.serve(site);
    let mut client = raw(&world);
    client.send(frame(frames::SETTINGS, frames::ACK, 0, []));
    client.send(frame(frames::HEADERS, 5, 1, get("/", &[])));
    assert_eq!(client.await_stream(1).kind, frames::HEADERS);
    let first = client.await_kind(frames::GOAWAY);
    assert_eq!((first.last_stream(), first.code()), (0x7fff_ffff, 0));
    // What was on its way is still served.
    client.send(frame(frames::HEADERS, 5, 3, get("/", &[])));
    let ping = client.await_kind(frames::PING);
    client.send(frame(frames::PING, frames::ACK, 0, ping.payload));
    let second = client.await_kind(frames::GOAWAY);
    assert_eq!((second.last_stream(), second.code()), (3, 0));
    assert!(std::iter::from_fn(|| client.next()).any(|f| f.stream == 3 && f.flags & frames::END_STREAM != 0));
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn draining_lets_streams_finish() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::http(move |_| {
        wait.lock().unwrap().recv().unwrap();
        ok("late")
    });
    let mut world = world();
    serve(&world, &backend);
    let mut client = raw(&world);
    client.send(frame(frames::HEADERS, 5, 1, get("/", &[])));
    while backend.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let proxy = world.take_proxy();
    let draining = std::thread::spawn(move || {
        let start = Instant::now();
        proxy.drain(Duration::from_secs(20));
        start.elapsed()
    });
    assert_eq!(client.await_kind(frames::GOAWAY).last_stream(), 0x7fff_ffff);
    go.send(()).unwrap();
    assert!(std::iter::from_fn(|| client.next()).any(|f| f.stream == 1 && f.flags & frames::END_STREAM != 0));
    assert!(draining.join().unwrap() < Duration::from_secs(15));
}

#[test]
fn the_clear_preface_is_refused_unless_wanted() {
    let backend = Backend::text("fine");
    let world = World::new();
    serve(&world, &backend);
    assert_eq!(world.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), 505);
    // And where it is wanted, HTTP/1.1 is still served, however its bytes are cut.
    let world = self::world();
    serve(&world, &backend);
    assert_eq!(world.get("/").text(), "fine");
    let mut client = world.connect();
    for piece in ["P", "U", "T / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n"] {
        client.send(piece);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.response().text(), "fine");
}

#[test]
fn a_late_preface_or_body_ends() {
    let backend = Backend::text("fine");
    let world = hasty(Duration::from_millis(200));
    serve(&world, &backend);
    let mut silent = world.connect();
    silent.send("PRI * HT");
    silent.rest();
    let mut client = raw(&world);
    let length = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
        ("content-length", "9"),
    ];
    client.send(frame(frames::HEADERS, frames::END_HEADERS, 1, frames::block(&length)));
    let answer = client.await_stream(1);
    assert_eq!(answer.kind, frames::HEADERS);
    assert!(backend.requests().is_empty());
    // The connection that said too little is in the log as well.
    let entries = world.entries("internal_http_lb_rule", 2);
    assert!(entries.iter().all(|entry| entry["httpRequest"]["status"] == 408), "{entries:#?}");
}

#[test]
fn redirects_and_our_own_answers_are_whole() {
    let world = world();
    let map =
        json!({ "defaultUrlRedirect": { "hostRedirect": "b.example", "redirectResponseCode": "FOUND" } });
    world.serve(Site::map(map, Vec::new()));
    let answer = client(&world).get("/x?y").unwrap();
    assert_eq!(answer.status.as_u16(), 302);
    assert_eq!(answer.field("location"), Some("http://b.example/x?y"));
}

#[test]
fn more_streams_than_allowed_are_refused_alone() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::http(move |_| {
        wait.lock().unwrap().recv().unwrap();
        ok("fine")
    });
    let world = world();
    serve(&world, &backend);
    let mut client = raw(&world);
    for stream in 0..=MAX_STREAMS {
        client.send(frame(frames::HEADERS, 5, stream * 2 + 1, get("/", &[])));
    }
    let refused = client.await_kind(frames::RST_STREAM);
    assert_eq!((refused.stream, refused.code()), (MAX_STREAMS * 2 + 1, frames::REFUSED_STREAM));
    (0..MAX_STREAMS).for_each(|_| go.send(()).unwrap());
    let mut ended = 0;
    while ended < MAX_STREAMS {
        ended += u32::from(client.next().is_some_and(|f| f.kind == frames::DATA && f.flags & 1 != 0));
    }
    assert_eq!(backend.requests().len(), MAX_STREAMS as usize);
}
