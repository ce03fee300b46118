//! What needs a process of its own: the limit of file descriptors, and memory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

#[path = "proxy/backend.rs"]
#[allow(dead_code)]
mod backend;
#[path = "proxy/instances.rs"]
#[allow(dead_code)]
mod instances;
#[path = "proxy/wire.rs"]
#[allow(dead_code)]
mod wire;
#[path = "proxy/world.rs"]
#[allow(dead_code)]
mod world;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vestibule_proxy::ProxyConfig;
use vestibule_proxy::metrics::Count;
use vestibule_proxy::tls::{Certificate, Tls};

use crate::backend::Backend;
use crate::wire::Wire;
use crate::world::{PORT, Site, World, endpoints};

/// The tests change or measure the whole process, so one at a time.
static ALONE: Mutex<()> = Mutex::new(());

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn set_limit(current: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap();
}

fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as u64
}

/// Processor time of this process, from its `/proc/self/stat`.
fn processor_time(file: &mut File) -> Duration {
    let mut stat = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut stat).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn accepting_rests_without_descriptors_and_goes_on_with_them() {
    let _alone = ALONE.lock();
    let before = getrlimit(Resource::Nofile).current.unwrap_or(1024);
    let backend = Backend::text("fine");
    let world = World::new();
    world.serve(Site::of(endpoints(&[backend.address])));
    // So that each worker has a connection to the backend, and needs no descriptor for one.
    while backend.connections() < 2 {
        let mut clients: Vec<Wire> = (0..4).map(|_| world.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(ASK));
        clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "fine"));
    }
    let address = world.address(PORT);
    let sockets: Vec<_> = (0..12)
        .map(|_| socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap())
        .collect();
    let mut stat = File::open("/proc/self/stat").unwrap();
    set_limit(open_descriptors() + 2);
    // The kernel takes the connections; the proxy cannot.
    let mut clients: Vec<Wire> = sockets
        .into_iter()
        .map(|socket| {
            socket.connect(&address.into()).unwrap();
            Wire::new(TcpStream::from(socket))
        })
        .collect();
    let spent = processor_time(&mut stat);
    std::thread::sleep(Duration::from_millis(500));
    let spent = processor_time(&mut stat) - spent;
    assert!(spent < Duration::from_millis(250), "the proxy spins: {spent:?}");
    assert!(world.proxy().metrics().count(Count::AcceptFailures) > 0);
    set_limit(before);
    for client in &mut clients {
        client.send(ASK);
        assert_eq!(client.response().text(), "fine");
    }
}

/// Raises the limit of file descriptors as far as it goes; answers whether so many can be had.
fn room_for(descriptors: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(1 << 20);
    if limit.current.is_some_and(|current| current < descriptors) && most >= descriptors {
        set_limit(most);
    }
    getrlimit(Resource::Nofile).current.is_none_or(|current| current >= descriptors)
}

/// The slowest of some requests on connections of their own, one after the other.
fn slowest(world: &World, count: usize) -> Duration {
    let ask = || {
        let start = std::time::Instant::now();
        let mut client = world.connect();
        client.send(ASK);
        assert_eq!(client.response().text(), "fine");
        start.elapsed()
    };
    (0..count).map(|_| ask()).max().unwrap()
}

/// Longer than this no bystander may wait, however many others are slow. Far more than it takes: machines are busy.
const PATIENCE: Duration = Duration::from_millis(500);

#[test]
fn thousands_of_slow_clients_hurt_nobody() {
    const SILENT: usize = 2500;
    const SLOW: usize = 2500;
    let _alone = ALONE.lock();
    if !room_for(3 * (SILENT + SLOW) as u64) {
        println!("not run: the limit of file descriptors is too low for 5,000 clients");
        return;
    }
    let backend = Backend::text("fine");
    let limit = Duration::from_secs(3);
    let world = World::hasty(limit);
    world.serve(Site::of(endpoints(&[backend.address])));
    let silent: Vec<Wire> = (0..SILENT).map(|_| world.connect()).collect();
    let mut slow: Vec<Wire> = (0..SLOW).map(|_| world.connect()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nx-");
    }
    let waited = slowest(&world, 50);
    assert!(waited < PATIENCE, "a bystander waited {waited:?}");
    // All of them are ended at the limit: those that began a request with 408, those that said nothing without a word.
    for client in &mut slow {
        assert_eq!(client.response().status(), 408);
    }
    for mut client in silent {
        assert_eq!(client.rest(), b"");
    }
    drop(slow);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while world.proxy().metrics().open_connections() > 0 {
        assert!(std::time::Instant::now() < end, "connections are left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_thousand_stalled_handshakes_hurt_nobody() {
    const STALLED: usize = 1000;
    let _alone = ALONE.lock();
    if !room_for(3 * STALLED as u64) {
        println!("not run: the limit of file descriptors is too low for 1,000 clients");
        return;
    }
    let backend = Backend::text("fine");
    let world = World::hasty(Duration::from_secs(2));
    let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
    let names = vec!["a".to_owned()];
    let certificate =
        Certificate::from_pem(&made.cert.pem(), &made.signing_key.serialize_pem(), names).unwrap();
    let tls = Some(Arc::new(Tls::new(vec![certificate]).unwrap()));
    let site = |port, tls| Site { port, tls, ..Site::of(endpoints(&[backend.address])) };
    let listeners = vec![world.listener(site(8443, tls)), world.listener(site(PORT, None))];
    world.apply(listeners, Vec::new()).unwrap();
    let mut stalled: Vec<Wire> =
        (0..STALLED).map(|_| Wire::new(TcpStream::connect(world.address(8443)).unwrap())).collect();
    for client in &mut stalled {
        // The start of a record of a handshake.
        client.send([22, 3, 1, 0]);
    }
    let waited = slowest(&world, 50);
    assert!(waited < PATIENCE, "a bystander waited {waited:?}");
    for client in &mut stalled {
        client.rest();
    }
    assert_eq!(world.proxy().metrics().count(Count::LateHandshakes), STALLED as u64);
}

/// Bytes of memory that are really there.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn an_idle_connection_is_small() {
    const COUNT: usize = 2000;
    const MOST: usize = 8 * 1024;
    let _alone = ALONE.lock();
    if getrlimit(Resource::Nofile).current.is_some_and(|limit| limit < 3 * COUNT as u64) {
        set_limit(getrlimit(Resource::Nofile).maximum.unwrap_or(4 * COUNT as u64));
    }
    let backend = Backend::text("fine");
    let world = World::with(ProxyConfig::default(), None);
    world.serve(Site::of(endpoints(&[backend.address])));
    let open = |count: usize| -> Vec<Wire> {
        (0..count)
            .map(|_| {
                let mut client = world.connect();
                client.send(ASK);
                assert_eq!(client.response().text(), "fine");
                client.read = Vec::new();
                client
            })
            .collect()
    };
    let _first = open(200);
    let before = resident();
    let _rest = open(COUNT);
    let each = resident().saturating_sub(before) / COUNT;
    assert!(each <= MOST, "{each} bytes a connection");
}
