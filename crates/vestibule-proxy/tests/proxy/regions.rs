//! Who may connect: clients of the forwarding rule's region, and with `allowGlobalAccess` all others.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use serde_json::json;
use vestibule_vpc::Addresses;

use crate::backend::Backend;
use crate::wire::Wire;
use crate::world::{PORT, Site, VIP, World, endpoints, service};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";

fn serve(world: &World, backend: &Backend, clients: Option<Addresses>) {
    let site = Site::map(json!({ "defaultService": "s0" }), vec![service(endpoints(&[backend.address]))]);
    let mut listener = Arc::into_inner(world.listener(site)).unwrap();
    listener.clients = clients.map(Arc::new);
    world.apply(vec![Arc::new(listener)], Vec::new()).unwrap();
}

/// A connection from a private address.
fn connect(world: &World, from: [u8; 4]) -> Wire {
    let stream = world.vpc.connect_from(&world.network, from.into(), SocketAddrV4::new(VIP, PORT)).unwrap();
    stream.set_nonblocking(false).unwrap();
    Wire::new(stream)
}

#[test]
fn clients_of_other_regions_are_let_in_only_with_global_access() {
    let backend = Backend::text("hello");
    let world = World::new();
    serve(&world, &backend, Some(Addresses::network(Ipv4Addr::new(10, 0, 0, 0), 24)));
    let mut near = connect(&world, [10, 0, 0, 7]);
    near.send(REQUEST);
    assert_eq!(near.response().status(), 200);
    let mut far = connect(&world, [10, 1, 0, 7]);
    assert_eq!(far.rest(), b"", "cut off without a word");
    let mut outside = world.connect();
    outside.send(REQUEST);
    assert_eq!(outside.response().status(), 200, "a client without a private address is not asked");

    serve(&world, &backend, None);
    let mut far = connect(&world, [10, 1, 0, 7]);
    far.send(REQUEST);
    assert_eq!(far.response().status(), 200);
}
