mod firewall;
mod routes;

use super::*;
use crate::firewall::{Action, Direction, Traffic};
use crate::{Addresses, FirewallRule};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SUBNET: Subnet = Subnet { range: Ipv4Addr::new(10, 0, 0, 0), prefix: 24, gateway: GATEWAY };
const FAR_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const FAR_SUBNET: Subnet = Subnet { range: Ipv4Addr::new(10, 9, 0, 0), prefix: 24, gateway: FAR_GATEWAY };
/// Clients in the two subnets.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// How long something that should happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// `None` where this machine forbids namespaces, and a line that says so.
fn namespaces() -> Option<Namespaces> {
    match Namespaces::new() {
        Ok(driver) => Some(driver),
        Err(error) => {
            println!("not run: this user may make no network namespace here: {error}");
            None
        }
    }
}

fn network(name: &str) -> NetworkId {
    NetworkId::new("p", name)
}

/// A network of two subnets with a client in each.
fn two_clients(driver: &Namespaces, name: &str) -> NetworkId {
    let net = network(name);
    driver.configure(&net, &[SUBNET, FAR_SUBNET]).unwrap();
    driver.attach(&net, HERE, GATEWAY).unwrap().unwrap();
    driver.attach(&net, THERE, FAR_GATEWAY).unwrap().unwrap();
    net
}

/// Runs something as the client at `ip`.
fn as_client<T: Send + 'static>(
    driver: &Namespaces,
    net: &NetworkId,
    ip: Ipv4Addr,
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let network = driver.network(net).unwrap();
    let state = lock(&network.state);
    state.guests[&ip].0.run(move |_| job())
}

/// What a client at `from` reads from an address.
fn read_as(
    driver: &Namespaces,
    net: &NetworkId,
    from: Ipv4Addr,
    to: SocketAddrV4,
) -> io::Result<(String, SocketAddr)> {
    as_client(driver, net, from, move || {
        let mut stream = TcpStream::connect_timeout(&to.into(), PATIENCE)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok((text, stream.local_addr()?))
    })
}

/// A listener of the client at `ip`.
fn listen_as(driver: &Namespaces, net: &NetworkId, ip: Ipv4Addr, port: u16) -> TcpListener {
    as_client(driver, net, ip, move || TcpListener::bind((ip, port))).unwrap()
}

/// Answers one connection with `word` and tells who came.
fn answer_once(listener: TcpListener, word: &'static str) -> std::thread::JoinHandle<SocketAddr> {
    listener.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(word.as_bytes()).unwrap();
        peer
    })
}

/// A rule about everything, to be narrowed.
fn rule(direction: Direction, action: Action) -> FirewallRule {
    FirewallRule {
        name: "rule".into(),
        direction,
        priority: 1000,
        action,
        sources: Addresses::all(),
        destinations: Addresses::all(),
        traffic: vec![Traffic::ALL],
        log: false,
    }
}

#[test]
fn two_networks_with_the_same_range_never_meet() {
    let Some(driver) = namespaces() else { return };
    for name in ["a", "b"] {
        let net = network(name);
        driver.configure(&net, &[SUBNET]).unwrap();
        driver.attach(&net, HERE, GATEWAY).unwrap().expect("a namespace of its own");
    }
    for (name, word) in [("a", "this is a"), ("b", "this is b")] {
        let net = network(name);
        let served = answer_once(driver.listen_tcp(&net, VIP, 80, 1).unwrap().remove(0), word);
        let (text, local) = read_as(&driver, &net, HERE, SocketAddrV4::new(VIP, 80)).unwrap();
        assert_eq!((text.as_str(), local.ip()), (word, HERE.into()));
        assert_eq!(served.join().unwrap(), local, "the server sees the client's own address");
    }
    assert!(TcpListener::bind((VIP, 0)).is_err(), "the machine itself has the virtual IP");
}

#[test]
fn a_detached_client_is_cut_off_and_its_address_is_free() {
    let Some(driver) = namespaces() else { return };
    let net = network("c");
    driver.configure(&net, &[SUBNET]).unwrap();
    for _ in 0..3 {
        driver.attach(&net, HERE, GATEWAY).unwrap().unwrap();
        let served = answer_once(driver.listen_tcp(&net, VIP, 80, 1).unwrap().remove(0), "again");
        assert_eq!(read_as(&driver, &net, HERE, SocketAddrV4::new(VIP, 80)).unwrap().0, "again");
        served.join().unwrap();
        driver.detach(&net, HERE);
    }
}

#[test]
fn clients_of_two_subnets_reach_each_other_through_the_router() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "d");
    driver.set_firewall(&net, &[rule(Direction::Ingress, Action::Allow)]).unwrap();
    let served = answer_once(listen_as(&driver, &net, THERE, 8080), "hello");
    assert_eq!(read_as(&driver, &net, HERE, SocketAddrV4::new(THERE, 8080)).unwrap().0, "hello");
    assert_eq!(served.join().unwrap().ip(), HERE);
}

#[test]
fn a_subnet_that_is_gone_takes_its_gateway_along() {
    let Some(driver) = namespaces() else { return };
    let net = network("e");
    driver.configure(&net, &[SUBNET, FAR_SUBNET]).unwrap();
    driver.configure(&net, &[FAR_SUBNET]).unwrap();
    let bind = |ip| driver.network(&net).unwrap().room.run(move |_| TcpListener::bind((ip, 1)).map(drop));
    assert!(bind(GATEWAY).is_err(), "the gateway's address is still there");
    bind(FAR_GATEWAY).unwrap();
}

#[test]
fn a_subnet_that_grows_keeps_its_gateway_and_its_clients() {
    let Some(driver) = namespaces() else { return };
    let net = network("f");
    driver.configure(&net, &[SUBNET]).unwrap();
    driver.attach(&net, HERE, GATEWAY).unwrap().unwrap();
    driver.configure(&net, &[Subnet { prefix: 20, ..SUBNET }]).unwrap();
    let served = answer_once(driver.listen_tcp(&net, GATEWAY, 80, 1).unwrap().remove(0), "still here");
    assert_eq!(read_as(&driver, &net, HERE, SocketAddrV4::new(GATEWAY, 80)).unwrap().0, "still here");
    served.join().unwrap();
    driver.release(&net, GATEWAY);
    driver
        .network(&net)
        .unwrap()
        .room
        .run(|_| TcpListener::bind((GATEWAY, 81)))
        .expect("a gateway is not let go");
}

#[test]
fn what_nobody_has_is_told_at_once() {
    let Some(driver) = namespaces() else { return };
    let net = network("g");
    driver.configure(&net, &[SUBNET]).unwrap();
    driver.attach(&net, HERE, GATEWAY).unwrap().unwrap();
    // Not much more often: after five answers the kernel spares its words.
    for _ in 0..2 {
        let in_subnet = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 77), 80);
        let error = read_as(&driver, &net, HERE, in_subnet).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::HostUnreachable, "{error}");
        let outside = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 80);
        let error = read_as(&driver, &net, HERE, outside).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable, "{error}");
    }
}

#[test]
fn nobody_passes_for_another_client() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "h");
    let listener = driver.listen_tcp(&net, VIP, 80, 1).unwrap().remove(0);
    {
        let network = driver.network(&net).unwrap();
        let state = lock(&network.state);
        let stolen =
            |inside: &Inside| inside.netlink(async |h| link::add_address(h, GUEST_LINK, THERE).await);
        state.guests[&HERE].0.run(stolen).unwrap();
    }
    let connect = |from: Ipv4Addr, patience| {
        as_client(&driver, &net, HERE, move || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            socket.connect_timeout(&SocketAddr::from((VIP, 80)).into(), patience)
        })
    };
    connect(HERE, PATIENCE).unwrap();
    listener.accept().unwrap();
    connect(THERE, Duration::from_millis(300)).unwrap_err();
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_connection_to_a_client_comes_from_the_address_it_was_asked_to() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "i");
    let proxy = Ipv4Addr::new(10, 129, 0, 2);
    let allowed =
        FirewallRule { sources: Addresses::network(proxy, 23), ..rule(Direction::Ingress, Action::Allow) };
    driver.set_firewall(&net, &[allowed]).unwrap();
    let listener = listen_as(&driver, &net, THERE, 8080);
    // More than are kept in stock.
    for _ in 0..40 {
        let mut stream = driver.connect_from(&net, proxy, SocketAddrV4::new(THERE, 8080)).unwrap();
        let (mut accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), proxy);
        accepted.write_all(b"!").unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        assert_eq!(stream.take_error().unwrap().map(|e| e.kind()), None);
    }
    let nobody = driver.connect_from(&net, proxy, SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 3), 80));
    assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::HostUnreachable);
}
