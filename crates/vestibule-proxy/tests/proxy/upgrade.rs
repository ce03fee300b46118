//! WebSockets: bytes both ways after the backend agreed, and not before.

use std::io::Read;
use std::net::Shutdown;
use std::time::Duration;

use serde_json::json;
use vestibule_proxy::snapshot::BackendService;

use crate::backend::{Backend, ok, response};
use crate::world::{Site, World, endpoints, service};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                   Sec-WebSocket-Key: k\r\n\r\n";

const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: v\r\n\r\n";

/// Agrees, and echoes until its client ends its direction.
fn echo() -> Backend {
    Backend::raw(|wire, seen| {
        seen(wire.request().unwrap());
        wire.send(format!("{AGREE}hello"));
        let mut echoed = std::mem::take(&mut wire.read);
        loop {
            wire.send(&echoed);
            let mut buffer = [0; 4096];
            let count = wire.stream.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            echoed = buffer[..count].to_vec();
        }
        // Its own direction goes on after the client's has ended.
        wire.send("goodbye");
        wire.finish();
    })
}

#[test]
fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    let backend = echo();
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    // A client that does not wait for the answer loses nothing.
    client.send(format!("{ASK}early"));
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: v", "via: 1.1 google"] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(client.take(10), b"helloearly");
    for word in ["one", "\0\r\n\r\ntwo"] {
        client.send(word);
        assert_eq!(client.take(word.len()), word.as_bytes());
    }
    let large = vec![b'x'; 1 << 20];
    let mut stream = client.stream.try_clone().unwrap();
    let sent = large.clone();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &sent).unwrap());
    assert!(client.take(large.len()) == large);
    writing.join().unwrap();
    client.finish();
    assert_eq!(client.rest(), b"goodbye");
    let request = backend.request();
    assert_eq!((request.field("connection"), request.field("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(request.field("sec-websocket-key"), Some("k"));
    let entry = world.entry();
    assert_eq!(entry["httpRequest"]["status"], 101);
}

#[test]
fn a_backend_that_ends_ends_the_client() {
    let backend = Backend::raw(|wire, _| {
        wire.request().unwrap();
        wire.send(AGREE);
        wire.stream.shutdown(Shutdown::Both).unwrap();
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send(ASK);
    client.head().unwrap();
    assert_eq!(client.rest(), b"");
    client.finish();
}

#[test]
fn a_backend_that_does_not_agree_is_asked_an_ordinary_request() {
    let backend = Backend::http(|_| response("403 No", "", "no"));
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send(ASK);
    assert_eq!(client.response().text(), "no");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "no");
}

/// No protocol but WebSocket is switched to, and what follows a request is a request as long as nobody agreed.
#[test]
fn nothing_is_tunnelled_before_an_agreement() {
    let backend = Backend::http(|request| ok(request.line()));
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n\
         GET /2 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let answers: Vec<String> = (0..3).map(|_| client.response().text()).collect();
    assert_eq!(answers, ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1", "GET /3 HTTP/1.1"]);
    let requests = backend.requests();
    assert_eq!(requests[0].field("upgrade").or(requests[0].field("http2-settings")), None);
}

#[test]
fn the_timeout_of_the_service_bounds_it() {
    let backend = Backend::raw(|wire, _| {
        wire.request().unwrap();
        wire.send(AGREE);
        wire.rest();
    });
    let world = World::new();
    let short =
        BackendService { timeout: Duration::from_millis(150), ..service(endpoints(&[backend.address])) };
    world.serve(Site::map(json!({ "defaultService": "s0" }), vec![short]));
    let mut client = world.connect();
    client.send(ASK);
    client.head().unwrap();
    assert_eq!(client.rest(), b"");
}
