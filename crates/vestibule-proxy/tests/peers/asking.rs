//! One case through one proxy: the bytes go in as they are, and what comes out at both ends is written down.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::programs::{self, Programs, Running};
use crate::recorder::{Message, Reader, Recorder, SENTINEL, Script};
use crate::world::{Site, World, endpoints};

/// Silence after which a proxy counts as waiting for more. Long, for a busy machine; few cases come to it.
const SILENCE: Duration = Duration::from_millis(1500);

/// Cases that run through a proxy at the same time, each with a listener and a backend of its own.
pub const LANES: usize = 6;

/// Bytes to send, and what the backend makes of them.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub request: Vec<u8>,
    pub script: Script,
    /// No sentinel follows: the case ends inside a message.
    pub open: bool,
}

/// How a client's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The sentinel was answered: the proxy took the case to end where it ends.
    InStep,
    Closed,
    /// The proxy waits for more.
    Waiting,
}

/// What a proxy made of a case.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Whole requests that reached the backend, but the sentinel.
    pub requests: Vec<Message>,
    /// What the client got, interim answers included.
    pub replies: Vec<Message>,
    pub end: End,
}

/// A proxy with a backend behind each of its listeners.
pub struct Proxy {
    pub name: &'static str,
    lanes: Vec<(SocketAddr, Recorder)>,
}

/// What must live for as long as the proxies are asked.
pub struct Alive {
    _programs: Vec<Running>,
    _world: World,
}

/// Ours first, then Envoy, nginx, HAProxy.
pub fn all(programs: &Programs) -> (Vec<Proxy>, Alive) {
    let (ours, world) = ours();
    let (mut all, mut running) = (vec![ours], Vec::new());
    for (name, program, start) in [
        ("envoy", &programs.envoy, programs::envoy as fn(&_, &_) -> _),
        ("nginx", &programs.nginx, programs::nginx),
        ("haproxy", &programs.haproxy, programs::haproxy),
    ] {
        let recorders: Vec<Recorder> = (0..LANES).map(|_| Recorder::start()).collect();
        let backends: Vec<SocketAddr> = recorders.iter().map(|recorder| recorder.address).collect();
        let (program, addresses) = start(program, &backends);
        running.push(program);
        all.push(Proxy { name, lanes: addresses.into_iter().zip(recorders).collect() });
    }
    (all, Alive { _programs: running, _world: world })
}

fn ours() -> (Proxy, World) {
    let world = World::new();
    let recorders: Vec<Recorder> = (0..LANES).map(|_| Recorder::start()).collect();
    let ports: Vec<u16> = (0..LANES as u16).map(|lane| 8080 + lane).collect();
    let sites = ports.iter().zip(&recorders);
    let listeners = sites.map(|(port, recorder)| {
        world.listener(Site { port: *port, ..Site::of(endpoints(&[recorder.address])) })
    });
    world.apply(listeners.collect(), Vec::new()).unwrap();
    let lanes = ports.iter().map(|port| world.address(*port)).zip(recorders).collect();
    (Proxy { name: "vestibule", lanes }, world)
}

impl Proxy {
    /// What it makes of each case, in their order.
    pub fn run(&self, cases: &[Case]) -> Vec<Outcome> {
        let found: Mutex<Vec<Option<Outcome>>> = Mutex::new(vec![None; cases.len()]);
        thread::scope(|scope| {
            for (lane, (address, recorder)) in self.lanes.iter().enumerate() {
                let found = &found;
                scope.spawn(move || {
                    for (index, case) in cases.iter().enumerate().filter(|(index, _)| index % LANES == lane) {
                        let outcome = ask(*address, recorder, case);
                        found.lock().unwrap()[index] = Some(outcome);
                    }
                });
            }
        });
        found.into_inner().unwrap().into_iter().map(Option::unwrap).collect()
    }
}

fn ask(proxy: SocketAddr, recorder: &Recorder, case: &Case) -> Outcome {
    recorder.follow(case.script.clone());
    let mut bytes = case.request.clone();
    if !case.open {
        bytes.extend_from_slice(sentinel().as_bytes());
    }
    let (replies, end) = exchange(proxy, &bytes, case.request.starts_with(b"HEAD "));
    if end != End::InStep {
        // What was forwarded before is written down once a later request has been.
        exchange(proxy, sentinel().as_bytes(), false);
    }
    let mut requests = recorder.take();
    requests.retain(|request| request.complete && !request.target().ends_with(SENTINEL));
    Outcome { requests, replies, end }
}

fn sentinel() -> String {
    format!("GET {SENTINEL} HTTP/1.1\r\nHost: end.example\r\nConnection: close\r\n\r\n")
}

fn exchange(proxy: SocketAddr, bytes: &[u8], mut bodiless: bool) -> (Vec<Message>, End) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    // A proxy that refuses early may not want the rest.
    let _ = stream.write_all(bytes);
    let mut reader = Reader::new(stream);
    let mut replies = Vec::new();
    while let Some(reply) = reader.message(true, bodiless) {
        if reply.body == b"sentinel" {
            return (replies, End::InStep);
        }
        bodiless &= reply.status() < 200;
        // Some peers leave the connection open for a while after they said that it ends.
        let says_close = reply.values("connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
        let ends = reply.complete && says_close;
        replies.push(reply);
        if ends {
            return (replies, End::Closed);
        }
    }
    let end = if reader.ended == Some(Err(())) { End::Waiting } else { End::Closed };
    (replies, end)
}
