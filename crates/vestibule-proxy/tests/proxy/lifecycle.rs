//! Connections and configurations over time: keep-alive, snapshots under load, removal, the end.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use vestibule_proxy::ProxyConfig;
use vestibule_proxy::limits::Limits;
use vestibule_proxy::snapshot::{Front, FrontAddress, Snapshot};

use crate::backend::{Backend, ok};
use crate::wire::Wire;
use crate::world::{PORT, Site, World, endpoints, service};

#[test]
fn both_sides_keep_their_connections() {
    let backend = Backend::text("fine");
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.response();
        assert_eq!((answer.text(), answer.field("connection")), ("fine".to_owned(), None));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_idle_connection_is_ended_at_its_limit() {
    let backend = Backend::text("fine");
    let world = World::new();
    let limit = Duration::from_millis(100);
    world.serve(Site { keep_alive: limit, ..Site::of(endpoints(&[backend.address])) });
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response();
    let start = Instant::now();
    assert_eq!(client.rest(), b"");
    assert!(start.elapsed() >= limit);
}

#[test]
fn a_client_may_ask_for_the_end() {
    let backend = Backend::text("fine");
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n");
    assert_eq!(client.response().field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

/// Clients that ask over and over until told to stop. Each answer must be whole, and of one of these bodies.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<usize>>,
}

impl Load {
    fn start(world: &World, keep: bool, allowed: &'static [&'static str]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (address, stop) = (world.address(PORT), stop.clone());
            std::thread::spawn(move || {
                let mut answered = 0;
                let mut client: Option<Wire> = None;
                while !stop.load(Ordering::SeqCst) {
                    let mut wire = client
                        .take()
                        .unwrap_or_else(|| Wire::new(std::net::TcpStream::connect(address).unwrap()));
                    let close = if keep { "" } else { "Connection: close\r\n" };
                    wire.send(format!("GET /path HTTP/1.1\r\nHost: a\r\n{close}\r\n"));
                    let answer = wire.response();
                    assert!(answer.status() == 200 && allowed.contains(&&*answer.text()), "{answer:?}");
                    answered += 1;
                    client = Some(wire).filter(|_| answer.field("connection").is_none());
                }
                answered
            })
        };
        let clients = (0..4).map(client).collect();
        Load { stop, clients }
    }

    fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().map(|client| client.join().unwrap()).sum()
    }
}

/// Each answer tells what the request looked like, so that a mixture of two configurations would show.
#[test]
fn snapshots_change_under_load_and_no_request_sees_two() {
    let echo = || Backend::http(|request| ok(request.field("x-config").unwrap_or("none")));
    let (one, two) = (echo(), echo());
    let world = World::new();
    let site = |name: &str, backend: &Backend| {
        let add = json!([{ "headerName": "X-Config", "headerValue": name }]);
        let map = json!({ "defaultService": "s0", "headerAction": { "requestHeadersToAdd": add } });
        Site::map(map, vec![service(endpoints(&[backend.address]))])
    };
    world.serve(site("one", &one));
    let load = Load::start(&world, true, &["one", "two"]);
    for round in 0..200 {
        let (name, backend) = if round % 2 == 0 { ("two", &two) } else { ("one", &one) };
        world.serve(site(name, backend));
        // From the moment it was applied, new requests see it.
        assert_eq!(world.get("/").text(), name);
    }
    assert!(load.stop() > 0);
    for (backend, name) in [(&one, "one"), (&two, "two")] {
        assert!(backend.requests().iter().all(|request| request.field("x-config") == Some(name)));
    }
}

#[test]
fn a_request_ends_with_the_snapshot_it_began_with() {
    let gate = Arc::new(AtomicBool::new(false));
    let theirs = gate.clone();
    let old = Backend::http(move |_| {
        while !theirs.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        ok("old")
    });
    let new = Backend::text("new");
    let world = World::new();
    world.serve(Site::of(endpoints(&[old.address])));
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while old.requests().is_empty() {
        std::thread::yield_now();
    }
    world.serve(Site::of(endpoints(&[new.address])));
    assert_eq!(world.get("/").text(), "new");
    gate.store(true, Ordering::SeqCst);
    assert_eq!(client.response().text(), "old");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "new");
}

#[test]
fn a_removed_listener_finishes_and_refuses() {
    let gate = Arc::new(AtomicBool::new(false));
    let theirs = gate.clone();
    let backend = Backend::http(move |_| {
        while !theirs.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        ok("finished")
    });
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let address = world.address(PORT);
    let mut idle = world.connect();
    let mut busy = world.connect();
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while backend.requests().is_empty() {
        std::thread::yield_now();
    }
    world.apply(Vec::new(), Vec::new()).unwrap();
    assert_eq!(idle.rest(), b"", "an idle connection is closed");
    gate.store(true, Ordering::SeqCst);
    let answer = busy.response();
    assert_eq!((answer.text(), answer.field("connection")), ("finished".to_owned(), Some("close")));
    while std::net::TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(world.vpc.locate(&world.network, crate::world::VIP, PORT), None);
}

#[test]
fn an_older_snapshot_changes_nothing() {
    let backend = Backend::text("fine");
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    world.serve(Site::of(endpoints(&[backend.address])));
    world.proxy().apply(Snapshot { generation: 1, ..Snapshot::default() }).unwrap();
    assert_eq!(world.get("/").text(), "fine");
}

#[test]
fn a_listener_that_cannot_be_opened_is_told_and_tried_again() {
    let backend = Backend::text("fine");
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let front = Arc::new(Front { at: FrontAddress::Machine(at), tls: None });
    let listener = world.listener(Site::of(endpoints(&[backend.address])));
    let errors = world.apply(vec![listener.clone(), listener.clone()], vec![front.clone()]).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors.iter().any(|error| error.forwarding_rule.as_deref() == Some("fr")),
        "the same address twice"
    );
    assert!(errors.iter().any(|error| error.address == at && error.network.is_none()));
    assert_eq!(world.get("/").text(), "fine", "the rest is served");
    drop(taken);
    world.apply(vec![listener], vec![front.clone()]).unwrap();
    let mut client = Wire::new(std::net::TcpStream::connect(at).unwrap());
    client.send("GET /x HTTP/1.1\r\nHost: svc.run.app:80\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status(), answer.field("location")), (302, Some("https://svc.run.app/x")));
}

#[test]
fn two_ports_of_one_address_come_and_go_by_themselves() {
    let backend = Backend::text("fine");
    let world = World::new();
    let site = |port| world.listener(Site { port, ..Site::of(endpoints(&[backend.address])) });
    world.apply(vec![site(PORT), site(PORT + 1)], Vec::new()).unwrap();
    let other = world.address(PORT + 1);
    assert_ne!(world.address(PORT), other);
    world.apply(vec![site(PORT + 1)], Vec::new()).unwrap();
    assert_eq!(world.address(PORT + 1), other);
    let mut client = Wire::new(std::net::TcpStream::connect(other).unwrap());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "fine");
}

/// Under load nobody is refused or reset while the proxy still accepts; then all ends, in time.
#[test]
fn draining_finishes_what_is_under_way() {
    for keep in [true, false] {
        let backend = Backend::text("fine");
        let mut world = World::new();
        world.serve(Site::of(endpoints(&[backend.address])));
        let load = Load::start(&world, keep, &["fine"]);
        while backend.requests().len() < 100 {
            std::thread::yield_now();
        }
        let proxy = world.take_proxy();
        let within = Duration::from_secs(20);
        let draining = std::thread::spawn(move || {
            let start = Instant::now();
            proxy.drain(within);
            start.elapsed()
        });
        // The load goes on for a while into the draining, and must not notice.
        let seen = backend.requests().len();
        while backend.requests().len() < seen + 200 {
            std::thread::yield_now();
        }
        load.stop();
        let took = draining.join().unwrap();
        assert!(took < within / 2, "without clients nothing is waited for: {took:?}");
    }
}

#[test]
fn draining_ends_keep_alive_and_idle_connections() {
    let backend = Backend::text("fine");
    let mut world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let (mut idle, mut active) = (world.connect(), world.connect());
    for client in [&mut idle, &mut active] {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().field("connection"), None);
    }
    let proxy = world.take_proxy();
    let draining = std::thread::spawn(move || proxy.drain(Duration::from_secs(20)));
    // Until the workers know.
    loop {
        active.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if active.response().field("connection") == Some("close") {
            break;
        }
    }
    assert_eq!(active.rest(), b"");
    assert_eq!(idle.rest(), b"");
    draining.join().unwrap();
}

#[test]
fn the_deadline_of_draining_is_hard() {
    let backend = Backend::raw(|wire, seen| {
        seen(wire.request().unwrap());
        wire.rest();
    });
    let mut world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while backend.requests().is_empty() {
        std::thread::yield_now();
    }
    let (within, start) = (Duration::from_millis(300), Instant::now());
    world.take_proxy().drain(within);
    assert!(start.elapsed() >= within && start.elapsed() < Duration::from_secs(10));
    assert_eq!(client.rest(), b"");
}

/// More connections than there is room for wait in the kernel, and are served when others have gone.
#[test]
fn connections_beyond_the_limit_wait() {
    let backend = Backend::text("fine");
    let world = World::with(
        ProxyConfig { limits: Limits { connections: 4, ..Limits::default() }, ..ProxyConfig::default() },
        None,
    );
    world.serve(Site::of(endpoints(&[backend.address])));
    let served = Arc::new(AtomicUsize::new(0));
    let clients = (0..40).map(|_| {
        let (address, served) = (world.address(PORT), served.clone());
        std::thread::spawn(move || {
            let mut client = Wire::new(std::net::TcpStream::connect(address).unwrap());
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().text(), "fine");
            served.fetch_add(1, Ordering::SeqCst);
            // Gone, and the next one's turn.
            drop(client);
        })
    });
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(served.load(Ordering::SeqCst), 40);
}

/// A proxy that is dropped ends its connections and its threads.
#[test]
fn dropping_ends_everything() {
    let backend = Backend::text("fine");
    let mut world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut client = world.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response();
    drop(world.take_proxy());
    assert_eq!(client.stream.read(&mut [0]).unwrap_or(0), 0);
}
