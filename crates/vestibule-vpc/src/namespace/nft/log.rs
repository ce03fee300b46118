//! What rules with logging see: the kernel hands the first bytes of every packet that such a rule decides on to a
//! netlink socket of ours (NFLOG), and one thread a network reads them.
//!
//! The kernel never waits for the reader: what finds the socket's buffer full is lost. A log tells of connections, not
//! of packets: a packet that is sent again within an interval is told once, and an interval has a limit, as Google's
//! firewall logging has.

use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::message::{self, ACK, REQUEST};
use crate::firewall::{Action, Direction, FirewallEvent, FirewallRule, Flow, Traffic};

/// The group of the kernel's log that rules write to, in every network.
pub const GROUP: u16 = 1;
/// Bytes of a packet that are told: an IPv4 header with all options, and the ports.
pub const TOLD_BYTES: u32 = 64;
/// What is counted together, and how many connections are told in it: Google's interval, and its highest limit.
const INTERVAL: Duration = Duration::from_secs(5);
const MOST_EVENTS: usize = 4000;
/// What the kernel keeps for a reader that is late.
const BUFFER_BYTES: usize = 1 << 20;
/// How long the kernel may collect packets before it tells of them, in hundredths of a second.
const COLLECT: u32 = 5;
/// How often a reader looks whether its network is still there.
pub const LOOK: Duration = Duration::from_millis(500);

/// `NFNL_SUBSYS_ULOG`, and its messages `NFULNL_MSG_PACKET` and `NFULNL_MSG_CONFIG`.
const PACKET: u16 = 4 << 8;
const CONFIG: u16 = 4 << 8 | 1;
/// `NFULA_CFG_CMD`, `_MODE`, `_TIMEOUT`; `NFULNL_CFG_CMD_BIND`, `NFULNL_COPY_PACKET`.
const COMMAND: u16 = 1;
const MODE: u16 = 2;
const TIMEOUT: u16 = 4;
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
/// `NFULA_PAYLOAD`, `NFULA_PREFIX`.
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;

/// Who is told.
pub type Tell = Arc<dyn Fn(FirewallEvent) + Send + Sync>;

/// Opens the log of the calling thread's network namespace. Fails where the kernel has none.
pub fn open() -> io::Result<OwnedFd> {
    let kind = SocketType::RAW;
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        kind,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )?;
    // Where forcing is not allowed the usual size has to do.
    let _ = set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES);
    set_socket_timeout(&socket, Timeout::Recv, Some(LOOK))?;
    let bytes = message::alone(CONFIG, REQUEST | ACK, GROUP, |a| {
        a.bytes(COMMAND, &[BIND]);
        let [b0, b1, b2, b3] = TOLD_BYTES.to_be_bytes();
        a.bytes(MODE, &[b0, b1, b2, b3, COPY_PACKET, 0]);
        a.number(TIMEOUT, COLLECT);
    });
    rustix::net::sendto(&socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = [0; 256];
    let (length, _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty())?;
    match message::answer(&buffer[..length.min(buffer.len())]) {
        Some((_, 0)) => Ok(socket),
        Some((_, error)) => Err(io::Error::from_raw_os_error(error)),
        None => Err(io::Error::other("the kernel did not answer a request for its log")),
    }
}

/// Reads until the network is gone.
pub fn read(socket: &OwnedFd, network: &crate::NetworkId, alive: &Weak<()>, tell: &Tell) {
    let mut buffer = vec![0; 64 * 1024];
    let mut interval = Interval::begin();
    while alive.strong_count() > 0 {
        let Ok((length, _)) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) else {
            continue;
        };
        for packet in message::each(&buffer[..length.min(buffer.len())], PACKET) {
            let Some(event) = event(network, packet) else { continue };
            if interval.admits(&event) {
                tell(event);
            }
        }
    }
}

/// What was told in the interval that runs.
struct Interval {
    since: Instant,
    told: HashSet<(Flow, u16, Arc<str>)>,
}

impl Interval {
    fn begin() -> Interval {
        Interval { since: Instant::now(), told: HashSet::new() }
    }

    fn admits(&mut self, event: &FirewallEvent) -> bool {
        if self.since.elapsed() >= INTERVAL {
            *self = Interval::begin();
        }
        self.told.len() < MOST_EVENTS && self.told.insert((event.flow, event.source_port, event.rule.clone()))
    }
}

/// How a rule says who it is: priority, action, direction, name.
pub fn prefix(rule: &FirewallRule) -> String {
    let action = if rule.action == Action::Allow { 'A' } else { 'D' };
    let direction = if rule.direction == Direction::Ingress { 'I' } else { 'E' };
    format!("{} {action} {direction} {}", rule.priority, rule.name)
}

fn event(network: &crate::NetworkId, message: &[u8]) -> Option<FirewallEvent> {
    let prefix = std::str::from_utf8(message::attribute(message, PREFIX)?).ok()?.trim_end_matches('\0');
    let mut words = prefix.splitn(4, ' ');
    let priority = words.next()?.parse().ok()?;
    let action = if words.next()? == "A" { Action::Allow } else { Action::Deny };
    let direction = if words.next()? == "I" { Direction::Ingress } else { Direction::Egress };
    let rule = words.next()?.into();
    let (flow, source_port) = flow(message::attribute(message, PAYLOAD)?)?;
    let time = SystemTime::now();
    Some(FirewallEvent {
        time,
        network: network.clone(),
        rule,
        priority,
        action,
        direction,
        flow,
        source_port,
    })
}

/// What an IPv4 packet's beginning says, and the sender's port.
fn flow(packet: &[u8]) -> Option<(Flow, u16)> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let protocol = *packet.get(9)?;
    let port = |at: usize| match Traffic::has_ports(protocol) {
        true => packet.get(header + at..header + at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]])),
        false => 0,
    };
    Some((Flow { source: address(12)?, destination: address(16)?, protocol, port: port(2) }, port(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_tells_its_connection() {
        let mut packet = vec![0x46; 28];
        packet[9] = 6;
        packet[12..20].copy_from_slice(&[10, 0, 0, 2, 10, 9, 0, 2]);
        packet[24..28].copy_from_slice(&[0x9c, 0x40, 0, 80]);
        let (flow, port) = flow(&packet).unwrap();
        assert_eq!((flow.source, flow.destination), (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 9, 0, 2)));
        assert_eq!((flow.protocol, flow.port, port), (6, 80, 40000), "behind a header with an option");
    }

    proptest! {
        #[test]
        fn rubbish_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let network = crate::NetworkId::new("p", "n");
            for packet in message::each(&bytes, PACKET) {
                let _ = event(&network, packet);
            }
            let _ = event(&network, &bytes);
            let _ = flow(&bytes);
        }
    }

    #[test]
    fn an_interval_tells_a_connection_once_and_has_a_limit() {
        let flow = |n: usize| Flow {
            source: Ipv4Addr::from(n as u32),
            destination: Ipv4Addr::LOCALHOST,
            protocol: 6,
            port: 80,
        };
        let event = |n: usize| FirewallEvent {
            time: SystemTime::now(),
            network: crate::NetworkId::new("p", "n"),
            rule: "r".into(),
            priority: 1,
            action: Action::Deny,
            direction: Direction::Ingress,
            flow: flow(n),
            source_port: 1,
        };
        let mut interval = Interval::begin();
        assert!(interval.admits(&event(0)) && !interval.admits(&event(0)));
        let told = (1..2 * MOST_EVENTS).filter(|n| interval.admits(&event(*n))).count();
        assert_eq!(told, MOST_EVENTS - 1);
    }
}
