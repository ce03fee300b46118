//! Static routes, as clients see them.

use super::*;

/// Where the client at [`THERE`] leads.
const BEYOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);

fn route(priority: u16, next_hop: Option<Ipv4Addr>) -> Route {
    Route { range: Ipv4Addr::new(192, 0, 2, 0), prefix: 24, priority, next_hop }
}

/// A network that lets everything in, whose client at [`THERE`] answers at [`BEYOND`] as well.
fn with_a_way_beyond(driver: &Namespaces, name: &str) -> NetworkId {
    let net = two_clients(driver, name);
    let all = FirewallRule {
        name: "all".into(),
        direction: Direction::Ingress,
        priority: 1000,
        action: Action::Allow,
        sources: Addresses::all(),
        destinations: Addresses::all(),
        traffic: vec![Traffic::ALL],
        log: false,
    };
    driver.set_firewall(&net, &[all]).unwrap();
    stand_beyond(driver, &net);
    net
}

fn stand_beyond(driver: &Namespaces, net: &NetworkId) {
    let network = driver.network(net).unwrap();
    let state = lock(&network.state);
    let stand = |inside: &Inside| inside.netlink(async |h| link::add_address(h, "lo", BEYOND).await);
    state.guests[&THERE].0.run(stand).unwrap();
}

/// A connection from here to beyond, and that its sender's address is kept.
fn reach(driver: &Namespaces, net: &NetworkId) {
    let listener = as_client(driver, net, THERE, || TcpListener::bind((BEYOND, 0))).unwrap();
    let to = SocketAddrV4::new(BEYOND, listener.local_addr().unwrap().port());
    let answering = answer_once(listener, "beyond");
    assert_eq!(read_as(driver, net, HERE, to).unwrap().0, "beyond");
    assert_eq!(answering.join().unwrap().ip(), HERE);
}

/// How a connection from here to beyond fails.
fn failure(driver: &Namespaces, net: &NetworkId) -> io::ErrorKind {
    read_as(driver, net, HERE, SocketAddrV4::new(BEYOND, 80)).unwrap_err().kind()
}

#[test]
fn packets_follow_a_static_route_to_its_next_hop_while_that_is_there() {
    let Some(driver) = namespaces() else { return };
    let net = with_a_way_beyond(&driver, "static");
    assert_eq!(failure(&driver, &net), io::ErrorKind::NetworkUnreachable);
    driver.set_routes(&net, &[route(1000, Some(THERE))]).unwrap();
    reach(&driver, &net);

    driver.detach(&net, THERE);
    assert_eq!(failure(&driver, &net), io::ErrorKind::HostUnreachable);
    driver.attach(&net, THERE, FAR_GATEWAY).unwrap();
    stand_beyond(&driver, &net);
    reach(&driver, &net);

    driver.set_routes(&net, &[]).unwrap();
    assert_eq!(failure(&driver, &net), io::ErrorKind::NetworkUnreachable);
}

#[test]
fn of_equal_ranges_the_lower_number_decides_and_a_way_out_leads_nowhere() {
    let Some(driver) = namespaces() else { return };
    let net = with_a_way_beyond(&driver, "priorities");
    let absent = Ipv4Addr::new(10, 0, 0, 99);
    driver.set_routes(&net, &[route(10, Some(absent)), route(20, Some(THERE)), route(30, None)]).unwrap();
    reach(&driver, &net);
    driver.set_routes(&net, &[route(20, Some(THERE)), route(10, None)]).unwrap();
    assert_eq!(failure(&driver, &net), io::ErrorKind::HostUnreachable);
    let wide = Route { range: Ipv4Addr::UNSPECIFIED, prefix: 0, priority: 900, next_hop: Some(THERE) };
    driver.set_routes(&net, &[wide]).unwrap();
    reach(&driver, &net);
}

#[test]
fn another_process_goes_on_with_static_routes() {
    let Some(driver) = namespaces() else { return };
    let net = with_a_way_beyond(&driver, "handed");
    driver.set_routes(&net, &[route(1000, Some(THERE))]).unwrap();
    let heir = Namespaces::adopt(driver.estate().unwrap()).unwrap();
    reach(&heir, &net);
    heir.set_routes(&net, &[]).unwrap();
    let failure = failure(&heir, &net);
    assert_eq!(failure, io::ErrorKind::NetworkUnreachable, "what the first laid, the second takes away");
}
