//! Backends that speak HTTP/2, or TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::json;
use vestibule_proxy::ProxyConfig;
use vestibule_proxy::snapshot::{BackendService, Protocol};
use vestibule_run::desired::Protocol as Port;

use crate::backend::Backend;
use crate::frames::{self, frame};
use crate::h2::Client;
use crate::h2_backend::{H2Backend, Reply, Setup, ok};
use crate::instances::Instances;
use crate::wire::Wire;
use crate::world::{PORT, Site, World, endpoints, service};

const LARGE: usize = 3_000_000;

fn world() -> World {
    World::with(ProxyConfig { clear_http2: true, ..ProxyConfig::default() }, None)
}

fn speaking(protocol: Protocol, address: std::net::SocketAddr) -> BackendService {
    BackendService { protocol, ..service(endpoints(&[address])) }
}

fn serve(world: &World, protocol: Protocol, address: std::net::SocketAddr) {
    world.serve(Site::map(json!({ "defaultService": "s0" }), vec![speaking(protocol, address)]));
}

fn client(world: &World) -> Client {
    Client::clear(world.address(PORT))
}

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    [(http::HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect()
}

fn tls(protocols: &[&[u8]]) -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["nobody.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config =
        builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

#[test]
fn clients_of_both_versions_reach_it() {
    let backend = H2Backend::new(|seen| {
        let mut response = Response::new(());
        response.headers_mut().insert("x-from", HeaderValue::from_static("backend"));
        Reply::Answer(response, seen.body.clone(), None)
    });
    let world = world();
    serve(&world, Protocol::H2c, backend.address);
    let answer = world
        .ask("POST /a%7e?b HTTP/1.1\r\nHost: app.example\r\nContent-Length: 5\r\nTE: trailers\r\n\r\nhello");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert_eq!((answer.field("x-from"), answer.field("via")), (Some("backend"), Some("1.1 google")));
    assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
    let answer =
        client(&world).ask(Request::post("http://app.example/c").body(()).unwrap(), b"hello").unwrap();
    assert_eq!((answer.text().as_str(), answer.field("via")), ("hello", Some("1.1 google")));

    let seen = backend.seen();
    assert_eq!(seen[0].request.uri(), "http://app.example/a~?b");
    assert_eq!((seen[0].field("content-length"), seen[0].field("te")), (Some("5"), Some("trailers")));
    assert!(seen[0].field("x-forwarded-for").is_some_and(|value| value.ends_with(",10.0.0.100")));
    assert_eq!((seen[1].field("content-length"), seen[1].field("te")), (None, None));
    assert!(
        seen.iter().all(|seen| seen.field("transfer-encoding").is_none() && seen.field("host").is_none())
    );
}

#[test]
fn large_bodies_go_both_ways() {
    let backend = H2Backend::new(|seen| {
        let mut response = Response::new(());
        let length = HeaderValue::from(seen.body.len());
        response.headers_mut().insert("content-length", length);
        Reply::Answer(response, seen.body.clone(), None)
    });
    let world = world();
    serve(&world, Protocol::H2c, backend.address);
    let body = "0123456789".repeat(LARGE / 10);
    let answer = client(&world).ask(Request::put("http://a/").body(()).unwrap(), body.as_bytes()).unwrap();
    assert!(answer.text() == body);
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = world.connect();
    client.send(head);
    for chunk in body.as_bytes().chunks(100_000) {
        client.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    client.send("0\r\n\r\n");
    let answer = client.response();
    assert!(answer.field("content-length").is_some() && answer.text() == body);
}

#[test]
fn trailers_go_through_in_both_directions() {
    let backend = H2Backend::with(Setup { echo: true, ..Setup::default() }, |_| ok(""));
    let world = world();
    serve(&world, Protocol::H2c, backend.address);
    let mut client = client(&world);
    let (response, mut stream) = client.start(Request::post("http://a/").body(()).unwrap(), false);
    stream.send_data(Bytes::from_static(b"body"), false).unwrap();
    stream.send_trailers(trailers("x-sum", "1")).unwrap();
    let answer = client.read(response).unwrap();
    assert_eq!((answer.text().as_str(), answer.trailers), ("body", Some(trailers("x-sum", "1"))));
    // Only trailers, as gRPC answers errors; and to a client of HTTP/1.1 they end with the body.
    let (response, mut stream) = client.start(Request::post("http://a/").body(()).unwrap(), false);
    stream.send_trailers(trailers("grpc-status", "5")).unwrap();
    let answer = client.read(response).unwrap();
    assert_eq!((answer.body.len(), answer.trailers), (0, Some(trailers("grpc-status", "5"))));
}

#[test]
fn a_stream_goes_both_ways_at_once() {
    let backend = H2Backend::with(Setup { echo: true, ..Setup::default() }, |_| ok(""));
    let world = world();
    serve(&world, Protocol::H2c, backend.address);
    let mut client = client(&world);
    let (response, mut stream) = client.start(Request::post("http://a/").body(()).unwrap(), false);
    let mut body = client.head(response).unwrap().into_body();
    for piece in ["one", "two", "three"] {
        stream.send_data(Bytes::from_static(piece.as_bytes()), false).unwrap();
        let came = client.runtime.block_on(body.data()).unwrap().unwrap();
        assert_eq!(came, piece);
        body.flow_control().release_capacity(came.len()).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    while let Some(rest) = client.runtime.block_on(body.data()) {
        assert!(rest.unwrap().is_empty());
    }
}

#[test]
fn requests_share_connections_up_to_the_backends_limit() {
    for (max_streams, together, at_most) in [(None, 60, 2), (Some(5), 20, 8)] {
        let setup = Setup { max_streams, ..Setup::default() };
        let backend = H2Backend::with(setup, move |seen| match seen.request.uri().path() {
            "/first" => ok("first"),
            _ => Reply::Together(together),
        });
        let world = world();
        serve(&world, Protocol::H2c, backend.address);
        // Each of the two workers knows the backend's limit from its first answer on.
        (0..20).for_each(|_| assert_eq!(world.get("/first").text(), "first"));
        let mut client = client(&world);
        let asked: Vec<_> = (0..together)
            .map(|_| client.start(Request::get("http://a/").body(()).unwrap(), true).0)
            .collect();
        for response in asked {
            assert_eq!(client.read(response).unwrap().text(), "together");
        }
        assert!(backend.connections() <= at_most, "{} connections", backend.connections());
    }
}

#[test]
fn a_refused_stream_is_asked_again() {
    let refused = std::sync::atomic::AtomicUsize::new(0);
    let backend = H2Backend::new(move |_| match refused.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 | 1 => Reply::Reset(h2::Reason::REFUSED_STREAM),
        _ => ok("served"),
    });
    let world = world();
    serve(&world, Protocol::H2c, backend.address);
    // Nothing was done with it, so that it is no idempotent request does not matter.
    let answer = world.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "served"));
    assert_eq!(backend.seen().len(), 3);
}

#[test]
fn a_reset_is_no_answer_and_a_break_no_clean_end() {
    let backend = H2Backend::new(|seen| match seen.request.uri().path() {
        "/reset" => Reply::Reset(h2::Reason::INTERNAL_ERROR),
        "/part" => Reply::Part(Response::new(()), b"half".to_vec(), h2::Reason::CANCEL),
        _ => ok("fine"),
    });
    let world = world();
    serve(&world, Protocol::H2c, backend.address);
    let answer = world.ask("POST /reset HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.status(), 503);
    assert!(answer.text().ends_with("reset reason: remote reset"), "{}", answer.text());
    assert!(!world.get("/part").complete);
    let mut client = client(&world);
    assert!(client.get("/part").unwrap_err().is_reset());
    assert_eq!(client.get("/").unwrap().text(), "fine");
}

#[test]
fn connections_that_are_told_to_go_lose_no_request() {
    let setup = Setup { go_away_after: Some(3), ..Setup::default() };
    let backend = H2Backend::with(setup, |_| ok("fine"));
    let world = world();
    serve(&world, Protocol::H2c, backend.address);
    let mut client = client(&world);
    for round in 0..10 {
        let asked: Vec<_> =
            (0..7).map(|_| client.start(Request::post("http://a/").body(()).unwrap(), true).0).collect();
        for response in asked {
            assert_eq!(client.read(response).unwrap().text(), "fine", "{round}");
        }
    }
    assert!(backend.connections() >= 10);
}

#[test]
fn a_late_answer_ends_the_stream_alone() {
    let backend =
        H2Backend::new(|seen| if seen.request.uri().path() == "/" { ok("fine") } else { Reply::Never });
    let world = world();
    let hasty =
        BackendService { timeout: Duration::from_millis(150), ..speaking(Protocol::H2c, backend.address) };
    world.serve(Site::map(json!({ "defaultService": "s0" }), vec![hasty]));
    assert_eq!(world.get("/").text(), "fine");
    assert_eq!(world.ask("POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status(), 504);
    backend.await_resets(1);
    // A client that leaves takes its request back.
    let mut client = client(&world);
    let (_response, mut stream) = client.start(Request::post("http://a/never").body(()).unwrap(), true);
    while backend.seen().len() < 3 {
        std::thread::sleep(Duration::from_millis(2));
    }
    stream.send_reset(h2::Reason::CANCEL);
    backend.await_resets(2);
}

#[test]
fn a_backend_without_http2_is_no_backend() {
    let backend = Backend::text("HTTP/1.1 only");
    let world = world();
    serve(&world, Protocol::H2c, backend.address);
    let status = world.get("/").status();
    assert!(matches!(status, 502 | 503), "{status}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    serve(&world, Protocol::H2c, closed);
    assert_eq!(world.get("/").status(), 503);
}

#[test]
fn what_no_backend_may_answer_is_a_bad_gateway() {
    // Indices of HPACK's static table: 8 is `:status: 200`.
    let status = |status: &str| frames::block(&[(":status", status)]);
    for (name, block) in [
        ("a switch of protocols", status("101")),
        ("a field of a connection", [vec![0x88], frames::block(&[("connection", "close")])].concat()),
        ("no status", frames::block(&[("x", "y")])),
        (
            "two lengths",
            [vec![0x88], frames::block(&[("content-length", "1"), ("content-length", "2")])].concat(),
        ),
    ] {
        let backend = Backend::raw(move |wire: &mut Wire, _| {
            wire.send(frame(frames::SETTINGS, 0, 0, []));
            wire.take(24);
            loop {
                let head = wire.take(9);
                if head.len() < 9 {
                    return;
                }
                wire.take(usize::from(head[1]) << 8 | usize::from(head[2]));
                if head[3] == frames::HEADERS {
                    let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
                    wire.send(frame(
                        frames::HEADERS,
                        frames::END_HEADERS | frames::END_STREAM,
                        stream,
                        &block,
                    ));
                }
            }
        });
        let world = world();
        serve(&world, Protocol::H2c, backend.address);
        let answer = world.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answer.status(), 502, "{name}: {}", answer.text());
    }
}

#[test]
fn data_where_none_may_be_never_reaches_a_client() {
    // Indices of HPACK's static table: 9 is `:status: 204`.
    let backend = Backend::raw(move |wire: &mut Wire, _| {
        wire.send(frame(frames::SETTINGS, 0, 0, []));
        wire.take(24);
        loop {
            let head = wire.take(9);
            if head.len() < 9 {
                return;
            }
            wire.take(usize::from(head[1]) << 8 | usize::from(head[2]));
            if head[3] == frames::HEADERS {
                let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
                wire.send(frame(frames::HEADERS, frames::END_HEADERS, stream, [0x89]));
                wire.send(frame(frames::DATA, frames::END_STREAM, stream, "HTTP/1.1 200 OK\r\n\r\n"));
            }
        }
    });
    let world = world();
    serve(&world, Protocol::H2c, backend.address);
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let rest = String::from_utf8(client.rest()).unwrap();
    assert!(!rest.contains("200 OK"), "{rest}");
}

#[test]
fn tls_to_a_backend_needs_no_name_and_no_authority() {
    let backend = H2Backend::with(Setup { tls: Some(tls(&[b"h2"])), ..Setup::default() }, |seen| {
        ok(seen.request.uri().to_string())
    });
    let world = world();
    serve(&world, Protocol::Http2, backend.address);
    assert_eq!(world.get("/x").text(), "https://app.example/x");
    assert_eq!(client(&world).get("/y").unwrap().text(), "https://app.example/y");
    // One that does not agree to HTTP/2.
    let other = H2Backend::with(Setup { tls: Some(tls(&[])), ..Setup::default() }, |_| ok(""));
    serve(&world, Protocol::Http2, other.address);
    let answer = world.get("/");
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("TLS"), "{}", answer.text());
    // One that speaks no TLS at all.
    let plain = Backend::raw(|wire, _| wire.send("220 no TLS here"));
    serve(&world, Protocol::Https, plain.address);
    assert_eq!(world.get("/").status(), 503);
}

#[test]
fn https_to_a_backend_is_http_1_over_tls_and_keeps_its_connection() {
    let config = tls(&[b"http/1.1"]);
    let backend = Backend::raw(move |wire, seen| {
        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
        let stream = rustls::StreamOwned::new(connection, wire.stream.try_clone().unwrap());
        let mut wire = Wire { stream, read: Vec::new() };
        while let Some(request) = wire.request() {
            seen(request.clone());
            if wire.try_send(crate::backend::ok(&request.text())).is_err() {
                return;
            }
        }
    });
    let world = World::with(ProxyConfig { workers: 1, ..ProxyConfig::default() }, None);
    serve(&world, Protocol::Https, backend.address);
    let mut client = world.connect();
    let body = "x".repeat(200_000);
    for _ in 0..4 {
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        assert!(client.response().text() == body);
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn containers_with_a_port_named_h2c_get_every_request_in_http2() {
    let backend = H2Backend::new(|seen| ok(seen.request.uri().path().to_owned()));
    let instances = Instances::at(backend.address);
    let world = World::with(ProxyConfig { clear_http2: true, ..ProxyConfig::default() }, Some(instances));
    world.deploy("svc", |_, revision| revision.protocol = Port::H2c);
    world.serve(Site::of(crate::serverless::neg(Some("svc"), None)));
    assert_eq!(world.get("/one").text(), "/one");
    assert_eq!(client(&world).get("/two").unwrap().text(), "/two");
    assert!(backend.seen()[0].field("traceparent").is_some());
}

#[test]
fn copies_go_in_the_mirrors_own_protocol() {
    let mirror = H2Backend::new(|_| ok("ignored"));
    let backend = Backend::text("real");
    let world = world();
    let map = json!({ "defaultService": "s0",
        "defaultRouteAction": { "requestMirrorPolicy": { "backendService": "s1" } } });
    let services = vec![service(endpoints(&[backend.address])), speaking(Protocol::H2c, mirror.address)];
    world.serve(Site::map(map, services));
    assert_eq!(world.get("/m").text(), "real");
    while mirror.seen().is_empty() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(mirror.seen()[0].request.uri(), "http://app.example-shadow/m");
}

#[test]
fn calls_of_grpc_get_answers_of_grpc() {
    let never = H2Backend::new(|_| Reply::Never);
    let world = world();
    let call =
        |path: &str| Request::post(format!("http://a{path}")).header("content-type", "application/grpc");
    serve(&world, Protocol::H2c, never.address);
    let mut client = client(&world);
    let answer =
        client.ask(call("/s/m").header("grpc-timeout", "150m").body(()).unwrap(), b"\0\0\0\0\0").unwrap();
    assert_eq!((answer.status.as_u16(), answer.field("grpc-status")), (200, Some("4")));
    assert_eq!(answer.field("grpc-message"), Some("downstream duration timeout"));
    assert_eq!((answer.field("content-type"), answer.body.len()), (Some("application/grpc"), 0));
    let route = json!({ "defaultRouteAction": { "timeout": { "nanos": 150_000_000 },
        "weightedBackendServices": [{ "backendService": "s0", "weight": 1 }] } });
    world.serve(Site::map(route, vec![speaking(Protocol::H2c, never.address)]));
    let answer = client.ask(call("/s/m").header("grpc-timeout", "1H").body(()).unwrap(), b"").unwrap();
    assert_eq!(
        (answer.field("grpc-status"), answer.field("grpc-message")),
        (Some("14"), Some("upstream request timeout"))
    );
    world.serve(Site::map(json!({ "defaultService": "s0" }), vec![service(endpoints(&[]))]));
    let answer = client.ask(call("/s/m").body(()).unwrap(), b"").unwrap();
    assert_eq!(
        (answer.field("grpc-status"), answer.field("grpc-message")),
        (Some("14"), Some("no healthy upstream"))
    );
}
