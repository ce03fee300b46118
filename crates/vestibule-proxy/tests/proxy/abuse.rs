//! Clients of HTTP/2 that mean harm: nothing of it may reach a backend, and none may cost much.

use std::time::Duration;

use vestibule_proxy::ProxyConfig;
use vestibule_proxy::limits::{MAX_CONTROL_FRAMES, MAX_RESETS, Timeouts};

use crate::backend::Backend;
use crate::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block, frame, get,
};
use crate::world::{Site, World, endpoints};

fn world(backend: &Backend) -> World {
    let timeouts = Timeouts { head: Duration::from_millis(300), ..Timeouts::default() };
    let world = World::with(ProxyConfig { clear_http2: true, timeouts, ..ProxyConfig::default() }, None);
    world.serve(Site::of(endpoints(&[backend.address])));
    world
}

fn raw(world: &World) -> Raw {
    Raw::new(world.connect(), &[])
}

/// A whole request, to see that the connection is still good.
fn is_served(client: &mut Raw, stream: u32) -> bool {
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, get("/", &[])));
    let answer = client.await_stream(stream);
    answer.kind == HEADERS
}

#[test]
fn malformed_requests_reach_no_backend_and_harm_no_other_stream() {
    let backend = Backend::text("fine");
    let world = world(&backend);
    let usual = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "app.example")];
    let with = |more: &[(&str, &str)]| block(&[&usual[..], more].concat());
    let instead = |name: &str, value: &str| {
        let fields: Vec<_> =
            usual.iter().map(|&(n, v)| if n == name { (n, value) } else { (n, v) }).collect();
        block(&fields)
    };
    let without = |name: &str| block(&usual.iter().copied().filter(|(n, _)| *n != name).collect::<Vec<_>>());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te", with(&[("te", "gzip")])),
        ("another host", with(&[("host", "evil.example")])),
        ("two hosts", with(&[("host", "app.example"), ("host", "app.example")])),
        ("two lengths", with(&[("content-length", "1"), ("content-length", "2")])),
        ("a bad length", with(&[("content-length", "+1")])),
        ("white space around a value", with(&[("x", " a")])),
        ("a path twice", with(&[(":path", "/b")])),
        ("a pseudo-header behind a field", block(&[&usual[..3], &[("x", "1"), usual[3]]].concat())),
        ("a status", with(&[(":status", "200")])),
        ("extended connect", with(&[(":protocol", "websocket")])),
        ("a space in the path", instead(":path", "/a HTTP/1.1")),
        ("a whole URL as path", instead(":path", "http://evil.example/")),
        ("a path without a slash", instead(":path", "a")),
        ("an empty path", instead(":path", "")),
        ("a star for a POST", instead(":path", "*")),
        ("bytes above ASCII in the path", instead(":path", "/caf\u{e9}")),
        ("a user in the authority", instead(":authority", "a@app.example")),
        ("a space in the authority", instead(":authority", "app.example x")),
        ("a bad method", instead(":method", "P OST")),
        ("no method", without(":method")),
        ("no path", without(":path")),
        ("no scheme", without(":scheme")),
        ("no authority", without(":authority")),
    ];
    let mut client = raw(&world);
    let mut stream = 1;
    for (name, block) in cases {
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block));
        let answer = client.await_stream(stream);
        if answer.kind == GOAWAY {
            // The codec takes some for an error of the whole connection, which RFC 9113 section 5.4.2 allows.
            assert_ne!(answer.code(), 0, "{name}");
            client = raw(&world);
            stream = 1;
            continue;
        }
        assert_eq!((answer.kind, answer.stream), (RST_STREAM, stream), "{name}: {answer:?}");
        assert_eq!(answer.code(), frames::PROTOCOL_ERROR, "{name}");
        stream += 2;
    }
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());
    assert!(is_served(&mut client, stream));
}

#[test]
fn line_ends_in_names_and_values_reach_no_backend() {
    let backend = Backend::text("fine");
    let world = world(&backend);
    for (name, value) in [
        ("x", "a\r\nhost: evil"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x\r\ny", "a"),
        ("x y", "a"),
        ("X", "a"),
        ("x:y", "a"),
        ("", "a"),
        (":unknown", "a"),
    ] {
        let mut client = raw(&world);
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, get("/", &[(name, value)])));
        let answer = client.await_stream(1);
        assert!(matches!(answer.kind, RST_STREAM | GOAWAY), "{name:?}: {value:?}");
        assert_ne!(answer.code(), 0);
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn a_length_that_does_not_fit_the_data_is_an_error() {
    let backend = Backend::http(|_| crate::backend::ok("fine"));
    let world = world(&backend);
    let mut client = raw(&world);
    for (stream, data, flags) in [(1, "too long", END_STREAM), (3, "s", END_STREAM)] {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "a"),
            ("content-length", "3"),
        ];
        client.send(frame(HEADERS, END_HEADERS, stream, block(&fields)));
        client.send(frame(DATA, flags, stream, data));
        let answer = client.await_stream(stream);
        assert_eq!((answer.kind, answer.code()), (RST_STREAM, frames::PROTOCOL_ERROR));
    }
    assert!(backend.requests().is_empty());
    assert!(is_served(&mut client, 5));
}

/// Sends until the proxy ends the connection; the error it told.
fn flood(world: &World, hello: &[u8], bytes: &[u8], times: u32) -> Option<u32> {
    let mut client = raw(world);
    client.send(hello);
    for _ in 0..times {
        if client.wire.try_send(bytes).is_err() {
            break;
        }
    }
    std::iter::from_fn(|| client.next()).find(|frame| frame.kind == GOAWAY).map(|frame| frame.code())
}

#[test]
fn floods_of_frames_that_bring_nothing_end_the_connection() {
    let backend = Backend::text("fine");
    let world = world(&backend);
    let open = frame(
        HEADERS,
        END_HEADERS,
        1,
        block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]),
    );
    let times = MAX_CONTROL_FRAMES * 2;
    for (name, hello, bytes) in [
        ("ping", &[][..], frame(PING, 0, 0, [0; 8])),
        ("settings", &[], frame(SETTINGS, 0, 0, [])),
        ("priority", &[], frame(PRIORITY, 0, 3, [0, 0, 0, 0, 1])),
        ("unknown", &[], frame(0x42, 0, 0, [])),
        ("empty data", &open, frame(DATA, 0, 1, [])),
    ] {
        assert_eq!(flood(&world, hello, &bytes, times), Some(ENHANCE_YOUR_CALM), "{name}");
    }
}

#[test]
fn a_header_block_without_end_is_bounded_in_size_and_time() {
    let backend = Backend::text("fine");
    let world = world(&backend);
    let open = frame(HEADERS, 0, 1, get("/", &[]));
    let more = frame(CONTINUATION, 0, 1, block(&[("x", &"y".repeat(1000))]));
    let code = flood(&world, &open, &more, 1000);
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    let empty = frame(CONTINUATION, 0, 1, []);
    assert_eq!(flood(&world, &open, &empty, 1000), Some(ENHANCE_YOUR_CALM));
    // One that just does not go on.
    let mut client = raw(&world);
    client.send(&open);
    assert_eq!(client.await_kind(GOAWAY).code(), ENHANCE_YOUR_CALM);
    assert!(backend.requests().is_empty());
}

#[test]
fn a_header_bomb_ends_the_connection() {
    let backend = Backend::text("fine");
    let world = world(&backend);
    // One large field put into the table, then named by its index, a byte each, again and again.
    let mut bomb = get("/", &[]);
    bomb.extend([0x40, 1, b'x', 127]);
    bomb.extend([0x80 | (3900 - 127) as u8 & 0x7f, ((3900 - 127) >> 7) as u8]);
    bomb.extend(vec![b'y'; 3900]);
    bomb.extend(vec![0x80 | 62; 12_000]);
    let mut client = raw(&world);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb));
    let answer = client.await_stream(1);
    assert_eq!((answer.kind, answer.code()), (GOAWAY, ENHANCE_YOUR_CALM), "{answer:?}");
    assert!(backend.requests().is_empty());
}

#[test]
fn rapid_resets_end_the_connection_and_bound_what_reaches_the_backend() {
    let backend = Backend::raw(|wire, seen| {
        while let Some(request) = wire.request() {
            seen(request);
        }
    });
    let world = world(&backend);
    for pause in [Duration::ZERO, Duration::from_micros(500)] {
        let before = backend.requests().len();
        let mut client = raw(&world);
        for request in 0..500 {
            let stream = request * 2 + 1;
            let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, get("/", &[]));
            let reset = frame(RST_STREAM, 0, stream, frames::CANCEL.to_be_bytes());
            if client.wire.try_send([open, reset].concat()).is_err() {
                break;
            }
            std::thread::sleep(pause);
        }
        let end = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == GOAWAY);
        assert_eq!(end.map(|frame| frame.code()), Some(ENHANCE_YOUR_CALM), "{pause:?}");
        let seen = backend.requests().len() - before;
        assert!(seen <= MAX_RESETS as usize + 1, "{seen} requests");
    }
}

#[test]
fn a_client_may_reset_what_it_no_longer_wants() {
    let backend = Backend::text("fine");
    let world = world(&backend);
    let mut client = raw(&world);
    for request in 0..MAX_RESETS * 2 {
        let stream = request * 4 + 1;
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, get("/", &[])));
        client.send(frame(RST_STREAM, 0, stream, frames::CANCEL.to_be_bytes()));
        assert!(is_served(&mut client, stream + 2), "{request}");
    }
}

#[test]
fn errors_have_the_codes_of_the_rfc() {
    let backend = Backend::text("fine");
    let world = world(&backend);
    for (name, bytes, code) in [
        ("a window update of 0", frame(WINDOW_UPDATE, 0, 0, [0; 4]), 1),
        ("a ping of 7 bytes", frame(PING, 0, 0, [0; 7]), 6),
        ("settings on a stream", frame(SETTINGS, 0, 1, []), 1),
        ("data on stream 0", frame(DATA, 0, 0, [1]), 1),
        ("data on an idle stream", frame(DATA, 0, 1, [1]), 1),
        ("an even stream", frame(HEADERS, 5, 2, get("/", &[])), 1),
        ("a frame that is too large", frame(DATA, 0, 1, vec![0; 16_385]), 6),
    ] {
        let mut client = raw(&world);
        client.send(bytes);
        let got = client.await_kind(GOAWAY).code();
        assert!(got == code || got == frames::PROTOCOL_ERROR, "{name}: {got}");
    }
}
