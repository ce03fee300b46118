//! What happens at the limits: a clear answer or a wait, a counter, and nobody else is hurt.

use std::time::{Duration, Instant};

use vestibule_proxy::ProxyConfig;
use vestibule_proxy::limits::{LARGE_BUFFER, Limits};
use vestibule_proxy::metrics::{Count, StatusClass};

use crate::backend::{Backend, ok};
use crate::wire::Wire;
use crate::world::{Site, World, endpoints};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn limited(limits: Limits) -> World {
    World::with(ProxyConfig { limits, ..ProxyConfig::default() }, None)
}

/// Waits until the counter of a limit has this value.
fn wait_for(world: &World, what: Count, wanted: impl Fn(u64) -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !wanted(world.proxy().metrics().count(what)) {
        assert!(Instant::now() < end, "{what:?} is {}", world.proxy().metrics().count(what));
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A backend that answers one request when it is told to.
fn held_backend() -> (Backend, std::sync::mpsc::Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::http(move |request| {
        if request.head.starts_with("GET /wait") {
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
        }
        ok("fine")
    });
    (backend, go)
}

#[test]
fn requests_beyond_the_limit_are_answered_503() {
    let (backend, go) = held_backend();
    // One a worker.
    let world = limited(Limits { requests: 1, ..Limits::default() });
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut waiting: Vec<Wire> = (0..8).map(|_| world.connect()).collect();
    for client in &mut waiting {
        client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    // Two workers with room for one each: six of eight are refused, whoever they came to.
    wait_for(&world, Count::RequestLimit, |count| count >= 6);
    go.send(()).unwrap();
    go.send(()).unwrap();
    let mut answers: Vec<(u16, String)> = waiting
        .iter_mut()
        .map(|client| {
            let answer = client.response();
            (answer.status(), answer.text())
        })
        .collect();
    answers.sort();
    let refused =
        answers.iter().filter(|(status, body)| (*status, body.as_str()) == (503, "overloaded")).count();
    assert!(refused >= 6 && answers[0].0 == 200, "{answers:?}");
    // The connection stays, and is served when there is room.
    for client in &mut waiting {
        client.send(ASK);
        assert_eq!(client.response().text(), "fine");
    }
    let report = world.proxy().metrics();
    let errors: u64 = report
        .requests
        .iter()
        .filter(|(labels, _)| labels.class == StatusClass::ServerError)
        .map(|(_, requests)| requests.count())
        .sum();
    assert_eq!(errors, report.count(Count::RequestLimit));
    let entry =
        &world.entries("internal_http_lb_rule", 16).into_iter().find(|e| e["httpRequest"]["status"] == 503);
    let status = &entry.as_ref().unwrap()["jsonPayload"]["proxyStatus"];
    assert_eq!(status, "error=\"connection_limit_reached\"; details=\"request_limit_reached\"");
}

#[test]
fn requests_beyond_the_memory_are_answered_503() {
    let (backend, go) = held_backend();
    // Less than what one request holds that has not finished its body.
    let world = limited(Limits { request_memory: LARGE_BUFFER, ..Limits::default() });
    world.serve(Site::of(endpoints(&[backend.address])));
    let mut holders: Vec<Wire> = (0..16).map(|_| world.connect()).collect();
    for client in &mut holders {
        // The head stays incomplete, so what was read of it is held.
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nx-long: {}", "y".repeat(50_000)));
    }
    let mut refused = false;
    let end = Instant::now() + Duration::from_secs(8);
    while !refused && Instant::now() < end {
        refused = world.ask(ASK).status() == 503;
    }
    assert!(refused && world.proxy().metrics().count(Count::MemoryLimit) > 0);
    for client in &mut holders {
        client.send("\r\n\r\n");
        let status = client.response().status();
        assert!(status == 200 || status == 503, "{status}");
    }
    drop((holders, go));
    assert_eq!(world.ask(ASK).text(), "fine", "there is room again");
}

#[test]
fn a_full_listener_leaves_room_for_the_others() {
    let backend = Backend::text("fine");
    let world = limited(Limits { connections_per_listener: 4, ..Limits::default() });
    let site = |port| Site { port, ..Site::of(endpoints(&[backend.address])) };
    world.apply(vec![world.listener(site(8080)), world.listener(site(8081))], Vec::new()).unwrap();
    // They never ask, and fill the first listener.
    let full: Vec<Wire> = (0..16).map(|_| world.connect()).collect();
    wait_for(&world, Count::ListenerLimit, |count| count >= 2);
    assert_eq!(world.proxy().metrics().open_connections(), 4);
    let mut other = Wire::new(std::net::TcpStream::connect(world.address(8081)).unwrap());
    other.send(ASK);
    assert_eq!(other.response().text(), "fine");
    drop(full);
    assert_eq!(world.ask(ASK).text(), "fine");
    assert_eq!(world.proxy().metrics().count(Count::ConnectionLimit), 0);
}
