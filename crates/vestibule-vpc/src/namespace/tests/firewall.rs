//! The kernel's firewall against what the rules mean.

use std::net::UdpSocket;
use std::sync::Arc;

use super::*;
use crate::Ports;
use crate::firewall::{Flow, SCTP, TCP, UDP, decide};

/// How long a packet that should be dropped is waited for.
const DROPPED: Duration = Duration::from_millis(250);

/// Ports of the far client.
const PORTS: [u16; 4] = [80, 81, 8080, u16::MAX];

const PROXY: Ipv4Addr = Ipv4Addr::new(10, 129, 0, 2);

fn only(ip: Ipv4Addr) -> Addresses {
    [ip].into_iter().collect()
}

fn ports(ranges: &[(u16, u16)]) -> Option<Ports> {
    Some(ranges.iter().copied().collect())
}

fn tcp(ranges: &[(u16, u16)]) -> Vec<Traffic> {
    vec![Traffic { protocol: Some(TCP), ports: ports(ranges) }]
}

/// Whether the client at `from` gets a connection to an address; waits longer if it should.
fn connects(
    driver: &Namespaces,
    net: &NetworkId,
    from: Ipv4Addr,
    to: (Ipv4Addr, u16),
    expected: bool,
) -> bool {
    let patience = if expected { PATIENCE } else { DROPPED };
    as_client(driver, net, from, move || TcpStream::connect_timeout(&to.into(), patience)).is_ok()
}

/// Both sides of a connection between clients, as the rules mean it.
fn meant(rules: &[FirewallRule], source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, port: u16) -> bool {
    let flow = Flow { source, destination, protocol, port };
    [Direction::Egress, Direction::Ingress].iter().all(|side| decide(rules, *side, &flow).0 == Action::Allow)
}

#[test]
fn the_kernel_decides_as_the_rules_say() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "fw-a");
    let _listeners = PORTS.map(|port| listen_as(&driver, &net, THERE, port));
    let (ingress, egress) = (Direction::Ingress, Direction::Egress);
    let (allow, deny) = (Action::Allow, Action::Deny);
    let named = |name: &str, rule: FirewallRule| FirewallRule { name: name.into(), ..rule };
    let at = |priority, rule: FirewallRule| FirewallRule { priority, ..rule };
    let web = FirewallRule { traffic: tcp(&[(80, 80), (8000, 8999)]), ..rule(ingress, allow) };
    let top = FirewallRule { traffic: tcp(&[(8080, u16::MAX)]), ..rule(ingress, allow) };
    let from_here = FirewallRule { sources: only(HERE), ..rule(ingress, allow) };
    let from_there = FirewallRule { sources: only(THERE), ..rule(ingress, allow) };
    let to_here = FirewallRule { destinations: only(HERE), ..rule(ingress, allow) };
    let to_nobody = FirewallRule { destinations: Addresses::none(), ..rule(ingress, allow) };
    let udp =
        FirewallRule { traffic: vec![Traffic { protocol: Some(UDP), ports: None }], ..rule(ingress, allow) };
    let mixed = FirewallRule {
        traffic: vec![
            Traffic { protocol: Some(1), ports: None },
            Traffic { protocol: Some(SCTP), ports: ports(&[(1, 9)]) },
            Traffic { protocol: Some(TCP), ports: ports(&[(81, 81)]) },
            Traffic { protocol: None, ports: ports(&[(80, 80)]) },
        ],
        ..rule(ingress, allow)
    };
    let no_80 = FirewallRule { traffic: tcp(&[(80, 80)]), ..rule(egress, deny) };
    let nothing_out = FirewallRule { sources: only(HERE), ..rule(egress, deny) };
    let out_81 = FirewallRule { traffic: tcp(&[(81, 81)]), ..rule(egress, allow) };
    let open = rule(ingress, allow);
    let rulesets = [
        vec![],
        vec![open.clone()],
        vec![named("web", web.clone())],
        vec![top],
        vec![from_here.clone(), at(999, FirewallRule { traffic: tcp(&[(80, 81)]), ..rule(ingress, deny) })],
        vec![from_here.clone(), at(1000, rule(ingress, deny))],
        vec![at(0, from_here), at(65535, rule(ingress, deny))],
        vec![from_there],
        vec![to_here],
        vec![to_nobody, udp],
        vec![mixed],
        vec![open.clone(), no_80.clone()],
        vec![web, no_80],
        vec![open.clone(), at(10, nothing_out.clone()), at(9, out_81)],
        vec![open, nothing_out],
    ];
    for rules in &rulesets {
        driver.set_firewall(&net, rules).unwrap();
        let cases = PORTS.map(|port| (port, meant(rules, HERE, THERE, TCP, port)));
        // All at once: one that is dropped takes its time.
        let connected = as_client(&driver, &net, HERE, move || {
            let tries = cases.map(|(port, expected)| {
                let patience = if expected { PATIENCE } else { DROPPED };
                std::thread::spawn(move || {
                    TcpStream::connect_timeout(&(THERE, port).into(), patience).is_ok()
                })
            });
            Ok(tries.map(|tried| tried.join().unwrap()))
        });
        assert_eq!(connected.unwrap(), cases.map(|(_, expected)| expected), "ports {PORTS:?}: {rules:#?}");
    }
}

#[test]
fn a_new_network_denies_ingress_and_what_is_under_way_goes_on() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "fw-b");
    let listener = listen_as(&driver, &net, THERE, 80);
    assert!(!connects(&driver, &net, HERE, (THERE, 80), false));
    driver.set_firewall(&net, &[rule(Direction::Ingress, Action::Allow)]).unwrap();
    let connect = move || TcpStream::connect_timeout(&(THERE, 80).into(), PATIENCE);
    let mut mine = as_client(&driver, &net, HERE, connect).unwrap();
    let mut theirs = listener.accept().unwrap().0;
    driver.set_firewall(&net, &[rule(Direction::Egress, Action::Deny)]).unwrap();
    mine.write_all(b"ping").unwrap();
    theirs.read_exact(&mut [0; 4]).unwrap();
    theirs.write_all(b"pong").unwrap();
    mine.read_exact(&mut [0; 4]).unwrap();
    assert!(!connects(&driver, &net, HERE, (THERE, 80), false), "a new connection");
}

#[test]
fn answers_come_back_and_nothing_else() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "fw-c");
    let to_there = FirewallRule {
        destinations: only(THERE),
        traffic: vec![Traffic { protocol: Some(UDP), ports: ports(&[(5000, 5000)]) }],
        ..rule(Direction::Ingress, Action::Allow)
    };
    driver.set_firewall(&net, &[to_there]).unwrap();
    let socket = |ip, port| {
        let socket = as_client(&driver, &net, ip, move || UdpSocket::bind((ip, port))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (mine, theirs) = (socket(HERE, 4000), socket(THERE, 5000));
    let uninvited = socket(THERE, 5001);
    uninvited.send_to(b"no", (HERE, 4000)).unwrap();
    mine.send_to(b"ask", (THERE, 5000)).unwrap();
    let (_, from) = theirs.recv_from(&mut [0; 16]).unwrap();
    theirs.send_to(b"answer", from).unwrap();
    let mut buffer = [0; 16];
    let (length, _) = mine.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"answer", "the uninvited packet was sent first");
}

#[test]
fn virtual_ips_need_no_rule_and_egress_rules_bind_those_who_send() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "fw-d");
    let services = Ipv4Addr::new(169, 254, 169, 254);
    let _listeners = [VIP, services].map(|ip| driver.listen_tcp(&net, ip, 80, 1).unwrap());
    assert!(connects(&driver, &net, HERE, (VIP, 80), true), "without any rule");
    driver.set_firewall(&net, &[rule(Direction::Ingress, Action::Deny)]).unwrap();
    assert!(connects(&driver, &net, HERE, (VIP, 80), true), "ingress is about clients");
    let blocked = FirewallRule { sources: only(HERE), priority: 0, ..rule(Direction::Egress, Action::Deny) };
    driver.set_firewall(&net, &[blocked]).unwrap();
    assert!(!connects(&driver, &net, HERE, (VIP, 80), false));
    assert!(connects(&driver, &net, THERE, (VIP, 80), true));
    assert!(connects(&driver, &net, HERE, (services, 80), true), "always allowed");
    let network = driver.network(&net).unwrap();
    let own = network.room.run(|_| TcpStream::connect_timeout(&(VIP, 80).into(), PATIENCE));
    own.expect("the network itself");
}

#[test]
fn the_resolver_is_heard_and_asked_under_every_rule() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "fw-e");
    let services = Ipv4Addr::new(169, 254, 169, 254);
    let resolver = driver.bind_udp(&net, services, 53).unwrap();
    resolver.set_nonblocking(false).unwrap();
    let rules = [Direction::Ingress, Direction::Egress].map(|side| rule(side, Action::Deny));
    driver.set_firewall(&net, &rules).unwrap();
    let serving = std::thread::spawn(move || {
        let (_, from) = resolver.recv_from(&mut [0; 16]).unwrap();
        resolver.send_to(b"answer", from).unwrap();
    });
    let answer = as_client(&driver, &net, HERE, move || {
        let socket = UdpSocket::bind((HERE, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(b"ask", (services, 53))?;
        let mut buffer = [0; 16];
        socket.recv_from(&mut buffer).map(|(length, _)| buffer[..length].to_vec())
    });
    assert_eq!(answer.unwrap(), b"answer");
    serving.join().unwrap();
}

#[test]
fn the_proxy_needs_a_rule_to_reach_a_client() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "fw-f");
    let listener = listen_as(&driver, &net, THERE, 80);
    listener.set_nonblocking(true).unwrap();
    let _kept = driver.connect_from(&net, PROXY, SocketAddrV4::new(THERE, 80)).unwrap();
    std::thread::sleep(DROPPED);
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nothing allows it");
    let allowed = FirewallRule { sources: only(PROXY), ..rule(Direction::Ingress, Action::Allow) };
    driver.set_firewall(&net, &[allowed]).unwrap();
    listener.set_nonblocking(false).unwrap();
    let _stream = driver.connect_from(&net, PROXY, SocketAddrV4::new(THERE, 80)).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip(), PROXY);
}

#[test]
fn the_longest_rules_that_may_be_written_are_obeyed() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "fw-g");
    let _listener = listen_as(&driver, &net, THERE, 80);
    // 5,000 single addresses, none beside another, and HERE as the last.
    let far = (0..4999).map(|n| Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 0)) + n * 2));
    let mut sources: Addresses = far.collect();
    let every: Ports = (0..5000).map(|n| n * 13).collect();
    let long = |sources: Addresses, traffic, number: usize| FirewallRule {
        name: Arc::from(format!("{}{number}", "n".repeat(60))),
        sources,
        traffic,
        ..rule(Direction::Ingress, Action::Allow)
    };
    let mut rules: Vec<_> = (0..20)
        .map(|n| long(sources.clone(), vec![Traffic { protocol: Some(TCP), ports: Some(every.clone()) }], n))
        .collect();
    driver.set_firewall(&net, &rules).unwrap();
    assert!(!connects(&driver, &net, HERE, (THERE, 80), false));
    sources = [sources, only(HERE)].into_iter().collect();
    rules.push(long(sources, tcp(&[(80, 80)]), 20));
    driver.set_firewall(&net, &rules).unwrap();
    assert!(connects(&driver, &net, HERE, (THERE, 80), true));
}

#[test]
fn rules_for_a_network_that_is_not_there_change_nothing() {
    let Some(driver) = namespaces() else { return };
    driver.set_firewall(&network("never"), &[rule(Direction::Ingress, Action::Deny)]).unwrap();
    assert!(driver.known(&network("never")).is_none());
    assert_eq!(driver.firewall_gap(), None);
}

/// Whether the kernel tracks connections in a network: only then its first packet may find a state to ask for.
fn tracks(driver: &Namespaces, net: &NetworkId) -> bool {
    lock(&driver.network(net).unwrap().filter).tracks
}

#[test]
fn connections_are_tracked_once_clients_can_meet_and_from_then_on() {
    let Some(driver) = namespaces() else { return };
    let net = network("fw-h");
    driver.configure(&net, &[SUBNET, FAR_SUBNET]).unwrap();
    let open = [rule(Direction::Ingress, Action::Allow)];
    driver.set_firewall(&net, &open).unwrap();
    driver.attach(&net, HERE, GATEWAY).unwrap().unwrap();
    assert!(!tracks(&driver, &net), "one client has nobody to meet");
    let _vip = driver.listen_tcp(&net, VIP, 80, 1).unwrap();
    let connect = |to| move || TcpStream::connect_timeout(&SocketAddr::from(to), PATIENCE);
    let to_vip = as_client(&driver, &net, HERE, connect((VIP, 80))).unwrap();
    driver.attach(&net, THERE, FAR_GATEWAY).unwrap().unwrap();
    assert!(tracks(&driver, &net), "the second client may be reached");
    let listener = listen_as(&driver, &net, THERE, 80);
    let mut mine = as_client(&driver, &net, HERE, connect((THERE, 80))).unwrap();
    let mut theirs = listener.accept().unwrap().0;
    driver.set_firewall(&net, &[]).unwrap();
    assert!(tracks(&driver, &net), "what is under way must stay known");
    mine.write_all(b"ping").unwrap();
    theirs.read_exact(&mut [0; 4]).unwrap();
    assert!(!connects(&driver, &net, HERE, (THERE, 80), false), "a new connection");
    assert_eq!(to_vip.take_error().unwrap().map(|error| error.kind()), None);
}

#[test]
fn clients_that_come_and_go_leave_no_trace_in_the_count() {
    let Some(driver) = namespaces() else { return };
    let net = network("fw-i");
    driver.configure(&net, &[SUBNET]).unwrap();
    driver.set_firewall(&net, &[rule(Direction::Ingress, Action::Allow)]).unwrap();
    for _ in 0..3 {
        driver.attach(&net, HERE, GATEWAY).unwrap().unwrap();
        // The same address again: the one before is put out.
        driver.attach(&net, HERE, GATEWAY).unwrap().unwrap();
        driver.detach(&net, HERE);
        driver.detach(&net, HERE);
        assert_eq!(lock(&driver.network(&net).unwrap().filter).clients, 0);
    }
}

#[test]
fn an_egress_rule_cuts_no_connection_to_a_virtual_ip_and_stops_datagrams() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "fw-j");
    let listener = driver.listen_tcp(&net, VIP, 80, 1).unwrap().remove(0);
    listener.set_nonblocking(false).unwrap();
    let datagrams = driver.bind_udp(&net, VIP, 53).unwrap();
    let mut mine =
        as_client(&driver, &net, HERE, move || TcpStream::connect_timeout(&(VIP, 80).into(), PATIENCE))
            .unwrap();
    let mut theirs = listener.accept().unwrap().0;
    let socket = as_client(&driver, &net, HERE, || UdpSocket::bind((HERE, 4000))).unwrap();
    driver.set_firewall(&net, &[rule(Direction::Egress, Action::Deny)]).unwrap();
    mine.write_all(b"ping").unwrap();
    theirs.set_nonblocking(false).unwrap();
    theirs.read_exact(&mut [0; 4]).unwrap();
    theirs.write_all(b"pong").unwrap();
    mine.read_exact(&mut [0; 4]).unwrap();
    assert!(!connects(&driver, &net, HERE, (VIP, 80), false), "a new connection");
    socket.send_to(b"no", (VIP, 53)).unwrap();
    driver.set_firewall(&net, &[]).unwrap();
    socket.send_to(b"yes", (VIP, 53)).unwrap();
    let mut buffer = [0; 16];
    datagrams.set_nonblocking(false).unwrap();
    datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
    let (length, _) = datagrams.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"yes", "the forbidden datagram was sent first");
}

#[test]
fn a_cable_is_not_taken_for_a_bottleneck() {
    let Some(driver) = namespaces() else { return };
    let net = two_clients(&driver, "fw-k");
    let read = || fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    assert_eq!(as_client(&driver, &net, HERE, read).unwrap().trim(), "reno");
    assert_eq!(driver.network(&net).unwrap().room.run(move |_| read()).unwrap().trim(), "reno");
}

#[test]
fn rules_with_logging_tell_what_they_decide_once() {
    let Some(driver) = namespaces() else { return };
    if let Some(gap) = driver.firewall_log_gap() {
        println!("not run: {gap}");
        return;
    }
    let (tell, told) = std::sync::mpsc::channel();
    driver.log_firewall(Arc::new(move |event| drop(tell.send(event))));
    let net = two_clients(&driver, "fw-l");
    let _listener = listen_as(&driver, &net, THERE, 80);
    let named = |name: &str, rule: FirewallRule| FirewallRule { name: name.into(), log: true, ..rule };
    let quiet = FirewallRule { priority: 2000, ..rule(Direction::Egress, Action::Allow) };
    let open =
        named("open", FirewallRule { traffic: tcp(&[(80, 80)]), ..rule(Direction::Ingress, Action::Allow) });
    let shut = named("shut", FirewallRule { priority: 65_535, ..rule(Direction::Ingress, Action::Deny) });
    driver.set_firewall(&net, std::slice::from_ref(&shut)).unwrap();
    assert!(!connects(&driver, &net, HERE, (THERE, 80), false));
    let event = told.recv_timeout(PATIENCE).expect("a network in which nothing is allowed tells too");
    assert_eq!((&*event.rule, event.flow.port), ("shut", 80));
    driver.set_firewall(&net, &[open, shut, quiet]).unwrap();
    let stream = as_client(&driver, &net, HERE, || TcpStream::connect_timeout(&(THERE, 80).into(), PATIENCE));
    let port = stream.unwrap().local_addr().unwrap().port();
    let event = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&*event.rule, event.priority, event.action), ("open", 1000, Action::Allow));
    assert_eq!(event.flow, Flow { source: HERE, destination: THERE, protocol: TCP, port: 80 });
    assert_eq!((event.source_port, &event.network, event.direction), (port, &net, Direction::Ingress));
    assert!(!connects(&driver, &net, HERE, (THERE, 81), false));
    let event = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&*event.rule, event.action, event.flow.port), ("shut", Action::Deny, 81));
    driver.set_firewall(&net, &[]).unwrap();
    driver.remove(&net);
    assert!(told.recv_timeout(DROPPED).is_err(), "nothing else was to be told");
}
