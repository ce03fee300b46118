//! What networks cost: how long it takes to make one, to let a client in and to change its firewall, and what a round
//! trip from a client to a virtual IP takes beside one over the machine's own loopback link.
//!
//! `cargo run -p vestibule-vpc --example costs`; it needs root, or a user namespace of its own.
#![allow(clippy::print_stdout, reason = "a program that prints numbers")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vestibule_vpc::firewall::{Action, Direction, Traffic};
use vestibule_vpc::{Addresses, Driver, FirewallRule, Namespaces, NetworkId, Subnet, namespace};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SUBNET: Subnet = Subnet { range: Ipv4Addr::new(10, 0, 0, 0), prefix: 24, gateway: GATEWAY };
const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const ROUNDS: usize = 200_000;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    if !rustix::process::geteuid().is_root() {
        namespace::enter_user_namespace()?;
    }
    let driver = Namespaces::new()?;
    let networks: Vec<NetworkId> = (0..20).map(|n| NetworkId::new("p", &format!("n{n}"))).collect();
    report("a network with one subnet", networks.iter(), |net| driver.configure(net, &[SUBNET]))?;
    let net = &networks[0];
    let clients: Vec<Ipv4Addr> = (2..22).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
    report("a client attached", clients.iter(), |ip| driver.attach(net, **ip, GATEWAY).map(drop))?;
    let rules: Vec<FirewallRule> = (0..100).map(rule).collect();
    report("a firewall of 100 rules", 0..20, |_| driver.set_firewall(net, &rules))?;
    report("a client detached", clients[1..].iter(), |ip| {
        driver.detach(net, **ip);
        Ok(())
    })?;

    let loopback = round_trips(TcpListener::bind("127.0.0.1:0")?, None)?;
    let guest = driver.attach(net, clients[0], GATEWAY)?.ok_or("no namespace")?;
    for (what, rules) in [("without egress rules", &rules[..0]), ("with egress rules", &rules[..])] {
        driver.set_firewall(net, rules)?;
        let listener = driver.listen_tcp(net, VIP, 80, 1)?.remove(0);
        listener.set_nonblocking(false)?;
        let inside = round_trips(listener, Some(std::fs::File::open(&guest.network)?))?;
        println!("round trip to a virtual IP {what}: {inside:.2?}; over loopback: {loopback:.2?}");
    }
    Ok(())
}

fn rule(number: u16) -> FirewallRule {
    FirewallRule {
        name: format!("rule-{number}").into(),
        direction: if number.is_multiple_of(2) { Direction::Ingress } else { Direction::Egress },
        priority: number,
        action: Action::Allow,
        sources: Addresses::network(Ipv4Addr::new(10, number as u8, 0, 0), 16),
        destinations: Addresses::all(),
        traffic: vec![Traffic {
            protocol: Some(6),
            ports: Some([(80, 80), (443, 443)].into_iter().collect()),
        }],
        log: false,
    }
}

fn report<T>(
    what: &str,
    of: impl Iterator<Item = T>,
    mut each: impl FnMut(&T) -> std::io::Result<()>,
) -> Outcome<()> {
    let mut times = Vec::new();
    for thing in of {
        let start = Instant::now();
        each(&thing)?;
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "{what}: median {:.2?}, worst of {} {:.2?}",
        times[times.len() / 2],
        times.len(),
        times[times.len() - 1]
    );
    Ok(())
}

/// The mean time of a small request and its answer on one connection.
fn round_trips(listener: TcpListener, network: Option<std::fs::File>) -> Outcome<Duration> {
    let at: SocketAddr = listener.local_addr()?;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut request = [0; 100];
        for _ in 0..ROUNDS {
            stream.read_exact(&mut request)?;
            stream.write_all(&[7; 1000])?;
        }
        Ok(())
    });
    let client = std::thread::spawn(move || -> std::io::Result<Duration> {
        if let Some(network) = network {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        let mut stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        let start = Instant::now();
        for _ in 0..ROUNDS {
            stream.write_all(&[7; 100])?;
            stream.read_exact(&mut [0; 1000])?;
        }
        Ok(start.elapsed())
    });
    let elapsed = client.join().map_err(|_| "the client panicked")??;
    server.join().map_err(|_| "the server panicked")??;
    Ok(elapsed / ROUNDS as u32)
}
