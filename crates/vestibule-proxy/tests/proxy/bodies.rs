//! Bodies in both directions: all framings, all sizes, one after another on one connection.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::backend::{Backend, ok, response};
use crate::world::{Site, World, endpoints};

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| b'a' + (i * 7 + i / 251) as u8 % 26).collect()
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x};ext=1\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\nTrailer-Field: x\r\n\r\n");
    out
}

#[test]
fn requests_and_answers_of_every_size_and_framing() {
    let backend = Backend::http(|request| {
        let text = request.text();
        if request.field("x-answer") == Some("chunked") {
            let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            out.extend(chunked(text.as_bytes(), 1000));
            out
        } else {
            ok(&text)
        }
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    for length in [0, 1, 2047, 2048, 8191, 8193, 20_000, 65_536, 200_000, 1_000_000] {
        let body = pattern(length);
        for (sent, answered) in
            [("length", "length"), ("length", "chunked"), ("chunked", "length"), ("chunked", "chunked")]
        {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nX-Answer: {answered}\r\n");
            let request = match sent {
                "length" => [format!("{head}Content-Length: {length}\r\n\r\n").as_bytes(), &body].concat(),
                _ => [format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunked(&body, 3000)]
                    .concat(),
            };
            let mut stream = client.stream.try_clone().unwrap();
            let writing = std::thread::spawn(move || stream.write_all(&request).unwrap());
            let answer = client.response();
            writing.join().unwrap();
            assert_eq!(answer.status(), 200, "{length} {sent} {answered}");
            assert!(
                answer.complete && answer.body == body,
                "{length} {sent} {answered}: {}",
                answer.body.len()
            );
            let request = backend.requests().pop().unwrap();
            assert!(request.body == body, "{length} {sent} {answered}");
            assert_eq!(
                request.field("content-length").is_some(),
                request.field("transfer-encoding").is_none()
            );
        }
    }
}

#[test]
fn an_answer_until_the_end_of_its_connection_is_chunked() {
    let backend = Backend::raw(|wire, seen| {
        seen(wire.request().unwrap());
        wire.send("HTTP/1.0 200 OK\r\n\r\nall ");
        wire.send("of it");
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    for count in 1..=2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.response();
        assert_eq!(
            (answer.text(), answer.field("transfer-encoding")),
            ("all of it".to_owned(), Some("chunked"))
        );
        assert_eq!(backend.connections(), count, "such a connection is not used again");
    }
}

/// A body goes on while its answer comes: neither waits for the end of the other.
#[test]
fn both_directions_run_at_once() {
    let backend = Backend::raw(|wire, seen| {
        let head = wire.head().unwrap();
        seen(crate::wire::Message { head, body: Vec::new(), complete: true });
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // Echoes the chunks as they come.
        let mut buffer = [0; 4096];
        while let Ok(count) = wire.stream.read(&mut buffer) {
            if count == 0 || wire.try_send(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    for word in ["one", "two", "three"] {
        let chunk = format!("{:x}\r\n{word}\r\n", word.len());
        client.send(&chunk);
        assert_eq!(client.take(chunk.len()), chunk.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.take(5), b"0\r\n\r\n");
}

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_backend() {
    let backend = Backend::raw(|wire, seen| {
        let head = wire.head().unwrap();
        assert!(head.contains("expect: 100-continue"), "{head}");
        wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = wire.take(5);
        seen(crate::wire::Message { head, body, complete: true });
        wire.send(ok("thanks"));
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.head().unwrap(), "HTTP/1.1 100 Continue");
    client.send("hello");
    assert_eq!(client.response().text(), "thanks");
    assert_eq!(backend.request().text(), "hello");
}

#[test]
fn a_final_answer_instead_of_100_ends_the_connection() {
    let backend = Backend::raw(|wire, _| {
        wire.head().unwrap();
        wire.send(response("413 No", "", "too large"));
        wire.rest();
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 500000\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status(), answer.text()), (413, "too large".to_owned()));
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn an_early_answer_to_an_unfinished_body_is_relayed() {
    let backend = Backend::raw(|wire, _| {
        wire.head().unwrap();
        wire.send(response("403 No", "", "go away"));
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nstart");
    let answer = client.response();
    assert_eq!((answer.status(), answer.text()), (403, "go away".to_owned()));
    assert_eq!(client.rest(), b"");
}

/// A client that reads slowly slows its backend down: what is between them is bounded.
#[test]
fn a_slow_reader_holds_its_backend_back() {
    const TOTAL: usize = 64 << 20;
    let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let theirs = written.clone();
    let backend = Backend::raw(move |wire, _| {
        wire.head().unwrap();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n"));
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..TOTAL / piece.len() {
            if wire.try_send(&piece).is_err() {
                return;
            }
            theirs.fetch_add(piece.len(), std::sync::atomic::Ordering::SeqCst);
        }
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    // Until the backend cannot write any more: the kernel's buffers on both ways are full, and ours.
    let mut before = usize::MAX;
    loop {
        let now = written.load(std::sync::atomic::Ordering::SeqCst);
        if now == before {
            break;
        }
        before = now;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(before < TOTAL / 2, "{before} bytes are on the way");
    assert_eq!(client.take(TOTAL).len(), TOTAL);
}
