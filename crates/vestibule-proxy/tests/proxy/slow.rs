//! Clients that take their time.

use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::wire::Wire;
use crate::world::{Site, World, endpoints};

const LIMIT: Duration = Duration::from_millis(200);

fn serve(backend: &Backend) -> World {
    let world = World::hasty(LIMIT);
    world.serve(Site::of(endpoints(&[backend.address])));
    world
}

#[test]
fn a_head_that_does_not_end_is_408_and_one_that_does_not_begin_is_closed() {
    let backend = Backend::text("fine");
    let world = serve(&backend);
    let start = Instant::now();
    let (mut silent, mut begun) = (world.connect(), world.connect());
    begun.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow");
    let answer = begun.response();
    assert_eq!((answer.status(), answer.field("connection")), (408, Some("close")));
    assert_eq!(begun.rest(), b"");
    assert_eq!(silent.rest(), b"");
    assert!(start.elapsed() >= LIMIT);
    assert!(backend.requests().is_empty());
}

/// One byte at a time does not buy more time.
#[test]
fn trickling_does_not_help() {
    let backend = Backend::text("fine");
    let world = serve(&backend);
    let mut client = world.connect();
    let start = Instant::now();
    while client.try_send("x").is_ok() && start.elapsed() < LIMIT * 50 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(start.elapsed() < LIMIT * 50, "the connection was closed");
}

#[test]
fn an_idle_connection_may_idle_longer_than_a_head_may_take() {
    let backend = Backend::text("fine");
    let world = serve(&backend);
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response();
    std::thread::sleep(LIMIT * 2);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "fine");
}

#[test]
fn a_body_that_stalls_is_408() {
    let backend = Backend::raw(|wire, _| {
        wire.rest();
    });
    let world = serve(&backend);
    // One that is held until it is whole, and one that is passed on as it comes.
    for length in [100, 100_000] {
        let mut client = world.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nstart"));
        assert_eq!(client.response().status(), 408, "{length}");
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn a_reader_that_stalls_is_cut_off_and_its_backend_let_go() {
    let backend = Backend::raw(|wire, seen| {
        seen(wire.request().unwrap());
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk =
            [format!("{:x}\r\n", 1 << 16).into_bytes(), vec![b'x'; 1 << 16], b"\r\n".to_vec()].concat();
        // Until the proxy goes.
        while wire.try_send(&chunk).is_ok() {}
    });
    let world = serve(&backend);
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    // The entry is written when the request is over, and the client has read nothing by then.
    let entry = world.entry();
    assert_eq!(entry["httpRequest"]["status"], 200);
    assert_eq!(
        entry["jsonPayload"]["proxyStatus"],
        r#"error="http_response_timeout"; details="backend_timeout""#
    );
}

/// Many that say nothing do not keep one that does from being served.
#[test]
fn a_bystander_is_served_among_hundreds_of_slow_ones() {
    let backend = Backend::text("fine");
    let world = serve(&backend);
    let mut slow: Vec<Wire> = (0..500).map(|_| world.connect()).collect();
    for client in &mut slow {
        client.send("GET / HT");
    }
    for _ in 0..50 {
        assert_eq!(world.get("/").text(), "fine");
    }
    for client in &mut slow {
        assert_eq!(client.response().status(), 408);
    }
}
