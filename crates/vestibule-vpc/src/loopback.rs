//! Loopback mode: private addresses stand on addresses of 127.0.0.0/8.
//!
//! It needs no privilege. Every process claims one 127.X.0.0/16 for itself, so that two of them (two tests, say)
//! never share a listening socket by accident: `SO_REUSEPORT` would quietly split the connections between them. The
//! claim is an abstract Unix socket: the kernel drops it when the process ends, however it ends.
//!
//! A private address keeps its stand-in while it is in use, so a virtual IP and the clients that reach it can be
//! told apart by address alone: a client binds its own stand-in before it connects, and [`Driver::private_peer`]
//! turns the peer address that the listener sees back into the private one.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};

use serde_json::{Value, json};

use crate::inheritance::{Inherited, LEFT_BEHIND, address, duplicate, network, unreadable};
use crate::{Driver, Estate, Mode, NetworkId, SocketPlace, connect};

/// Connections that may wait in a listener's accept queue.
const BACKLOG: i32 = 4096;

/// The second octets of 127.0.0.0/8 that processes choose from. 127.0 is everybody's own, 127.1 is what people type.
const OCTETS: std::ops::RangeInclusive<u8> = 2..=254;

/// The last usable stand-in number of a /16; the first is 1.
const LAST_STAND_IN: u16 = 0xfffe;

/// The loopback driver.
pub struct Loopback {
    octet: u8,
    /// Held for its lifetime: the claim on 127.`octet`.0.0/16.
    claim: UnixListener,
    inherited: Inherited,
    state: Mutex<State>,
    /// Stand-in to private address. Read at every accept, without a lock.
    peers: ArcSwap<HashMap<Ipv4Addr, (NetworkId, Ipv4Addr)>>,
}

#[derive(Default)]
struct State {
    stand_ins: HashMap<(NetworkId, Ipv4Addr), Ipv4Addr>,
    /// Where a private address and port is really served.
    located: HashMap<(NetworkId, Ipv4Addr, u16), SocketAddr>,
    next: u16,
    freed: VecDeque<Ipv4Addr>,
}

impl Loopback {
    /// Claims a /16 of 127.0.0.0/8.
    pub fn claim() -> io::Result<Loopback> {
        let span = u32::from(OCTETS.end() - OCTETS.start()) + 1;
        let first = fastrand::u32(..span);
        for step in 0..span {
            let octet = OCTETS.start() + ((first + step) % span) as u8;
            let name = UnixAddr::from_abstract_name(format!("vestibule-127.{octet}"))?;
            match UnixListener::bind_addr(&name) {
                Ok(claim) => return Ok(Loopback::with_claim(octet, claim)),
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => continue,
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other(
            "every range 127.2.0.0/16 to 127.254.0.0/16 is claimed by a running vestibule; stop one of them",
        ))
    }

    fn with_claim(octet: u8, claim: UnixListener) -> Loopback {
        Loopback {
            octet,
            claim,
            inherited: Inherited::default(),
            state: Mutex::new(State { next: 1, ..State::default() }),
            peers: ArcSwap::default(),
        }
    }

    /// Goes on with what [`Driver::estate`] of another process described.
    pub fn adopt(estate: Estate) -> io::Result<Loopback> {
        let wrong = || unreadable("its loopback addresses");
        let claim = estate.descriptors.into_iter().next().ok_or_else(wrong)?;
        let octet =
            estate.state["octet"].as_u64().and_then(|octet| octet.try_into().ok()).ok_or_else(wrong)?;
        let loopback = Loopback::with_claim(octet, claim.into());
        let (state, peers) = State::from_json(&estate.state).ok_or_else(wrong)?;
        *loopback.state() = state;
        loopback.peers.store(peers.into());
        Ok(loopback)
    }

    /// The /16 that this process claimed, as its first address.
    pub fn range(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.octet, 0, 0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_stand_in(&self, network: &NetworkId, ip: Ipv4Addr) -> Option<Ipv4Addr> {
        self.state().stand_ins.get(&(network.clone(), ip)).copied()
    }

    fn stand_in(&self, network: &NetworkId, ip: Ipv4Addr) -> io::Result<Ipv4Addr> {
        let mut state = self.state();
        let key = (network.clone(), ip);
        if let Some(found) = state.stand_ins.get(&key) {
            return Ok(*found);
        }
        let chosen = state.free_stand_in(self.octet)?;
        state.stand_ins.insert(key, chosen);
        let mut peers = HashMap::clone(&self.peers.load());
        peers.insert(chosen, (network.clone(), ip));
        self.peers.store(peers.into());
        Ok(chosen)
    }
}

type Peers = HashMap<Ipv4Addr, (NetworkId, Ipv4Addr)>;

impl State {
    /// For the next process. It begins behind some stand-ins that are left to this one.
    fn to_json(&self) -> Value {
        let stand_ins = self.stand_ins.iter().map(|((network, ip), at)| json!([network.as_str(), ip, at]));
        let located =
            self.located.iter().map(|((network, ip, port), at)| json!([network.as_str(), ip, port, at]));
        json!({
            "standIns": stand_ins.collect::<Vec<_>>(),
            "located": located.collect::<Vec<_>>(),
            "freed": self.freed,
            "next": self.next.saturating_add(LEFT_BEHIND).min(LAST_STAND_IN),
        })
    }

    fn from_json(json: &Value) -> Option<(State, Peers)> {
        let mut state = State::default();
        let mut peers = Peers::new();
        for row in json["standIns"].as_array()? {
            let (of, ip, at) = (network(&row[0])?, address(&row[1])?, address(&row[2])?);
            state.stand_ins.insert((of.clone(), ip), at);
            peers.insert(at, (of, ip));
        }
        for row in json["located"].as_array()? {
            let port = row[2].as_u64()?.try_into().ok()?;
            let at = row[3].as_str()?.parse().ok()?;
            state.located.insert((network(&row[0])?, address(&row[1])?, port), at);
        }
        state.freed = json["freed"].as_array()?.iter().map(address).collect::<Option<_>>()?;
        state.next = json["next"].as_u64()?.try_into().ok()?;
        Some((state, peers))
    }

    /// A stand-in that nothing uses. Fresh ones first, so that a freed one rests as long as it can.
    fn free_stand_in(&mut self, octet: u8) -> io::Result<Ipv4Addr> {
        if self.next < LAST_STAND_IN {
            let [high, low] = self.next.to_be_bytes();
            self.next += 1;
            return Ok(Ipv4Addr::new(127, octet, high, low));
        }
        self.freed.pop_front().ok_or_else(|| {
            io::Error::new(io::ErrorKind::AddrNotAvailable, "all 65,534 loopback stand-ins are in use")
        })
    }
}

impl Driver for Loopback {
    fn mode(&self) -> Mode {
        Mode::Loopback
    }

    /// Clients have no links here that rules could be enforced on, and no addresses at which others could reach them.
    fn firewall_gap(&self) -> Option<String> {
        Some("In loopback mode clients have no network of their own.".to_owned())
    }

    fn listen_tcp(
        &self,
        network: &NetworkId,
        ip: Ipv4Addr,
        port: u16,
        count: usize,
    ) -> io::Result<Vec<TcpListener>> {
        let stand_in = self.stand_in(network, ip)?;
        if let Some(listeners) = self.inherited.tcp(network, ip, port, count) {
            return Ok(listeners);
        }
        let known = self.locate(network, ip, port);
        let first = bind_first(stand_in, port, known, Type::STREAM)?;
        let at = local_v4(&first)?;
        let mut sockets = vec![first];
        while sockets.len() < count {
            sockets.push(bind(at, Type::STREAM)?);
        }
        let listeners = sockets
            .into_iter()
            .map(|socket| {
                socket.listen(BACKLOG)?;
                Ok(TcpListener::from(socket))
            })
            .collect::<io::Result<Vec<_>>>()?;
        self.state().located.insert((network.clone(), ip, port), at.into());
        Ok(listeners)
    }

    fn bind_udp(&self, network: &NetworkId, ip: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
        let stand_in = self.stand_in(network, ip)?;
        if let Some(socket) = self.inherited.udp(network, ip, port) {
            return Ok(socket);
        }
        let known = self.locate(network, ip, port);
        let socket = bind_first(stand_in, port, known, Type::DGRAM)?;
        let at = local_v4(&socket)?;
        self.state().located.insert((network.clone(), ip, port), at.into());
        Ok(socket.into())
    }

    /// An address of 127.0.0.0/8 is reached as it is, and a client of the network at its stand-in: what it listens on
    /// there is its own doing, as is the port. A private address that nothing here stands for is unreachable: out of this
    /// machine it would mean something else.
    fn connect_from(&self, network: &NetworkId, from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
        let located = self.locate(network, *to.ip(), to.port());
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match located {
            Some(at) => connect::begin(socket, Some(SocketAddrV4::new(self.stand_in(network, from)?, 0)), at),
            None if to.ip().is_loopback() => connect::begin(socket, None, to.into()),
            None => match self.known_stand_in(network, *to.ip()) {
                Some(client) => {
                    let from = SocketAddrV4::new(self.stand_in(network, from)?, 0);
                    connect::begin(socket, Some(from), SocketAddrV4::new(client, to.port()).into())
                }
                None => Err(io::ErrorKind::HostUnreachable.into()),
            },
        }
    }

    fn locate(&self, network: &NetworkId, ip: Ipv4Addr, port: u16) -> Option<SocketAddr> {
        self.state().located.get(&(network.clone(), ip, port)).copied()
    }

    fn private_peer(&self, network: &NetworkId, peer: SocketAddr) -> SocketAddr {
        let SocketAddr::V4(v4) = peer else { return peer };
        match self.peers.load().get(v4.ip()) {
            Some((of, ip)) if of == network => SocketAddrV4::new(*ip, v4.port()).into(),
            _ => peer,
        }
    }

    fn source_for(&self, network: &NetworkId, ip: Ipv4Addr) -> io::Result<SocketAddr> {
        Ok(SocketAddrV4::new(self.stand_in(network, ip)?, 0).into())
    }

    fn release(&self, network: &NetworkId, ip: Ipv4Addr) {
        let mut state = self.state();
        state.located.retain(|(of, at, _), _| of != network || *at != ip);
        if let Some(stand_in) = state.stand_ins.remove(&(network.clone(), ip)) {
            state.freed.push_back(stand_in);
            let mut peers = HashMap::clone(&self.peers.load());
            peers.remove(&stand_in);
            self.peers.store(peers.into());
        }
    }

    fn estate(&self) -> io::Result<Estate> {
        let state = self.state();
        let mut json = state.to_json();
        json["octet"] = self.octet.into();
        Ok(Estate { state: json, descriptors: vec![duplicate(&self.claim)?] })
    }

    fn inherit(&self, sockets: HashMap<SocketPlace, Vec<OwnedFd>>) {
        self.inherited.put(sockets);
    }
}

/// Binds where this private port was served before, else the port itself, else any port: ports below 1024 need a
/// privilege that most users lack.
fn bind_first(ip: Ipv4Addr, port: u16, known: Option<SocketAddr>, kind: Type) -> io::Result<Socket> {
    if let Some(SocketAddr::V4(at)) = known
        && let Ok(socket) = bind(at, kind)
    {
        return Ok(socket);
    }
    match bind(SocketAddrV4::new(ip, port), kind) {
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse) => {
            bind(SocketAddrV4::new(ip, 0), kind)
        }
        other => other,
    }
}

fn bind(at: SocketAddrV4, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::V4(at).into())?;
    Ok(socket)
}

fn local_v4(socket: &Socket) -> io::Result<SocketAddrV4> {
    socket
        .local_addr()?
        .as_socket_ipv4()
        .ok_or_else(|| io::Error::other("an IPv4 socket has no IPv4 address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    fn network(name: &str) -> NetworkId {
        NetworkId::new("p", name)
    }

    #[test]
    fn two_drivers_claim_different_ranges() {
        let (a, b) = (Loopback::claim().unwrap(), Loopback::claim().unwrap());
        assert_ne!(a.range(), b.range());
    }

    #[test]
    fn the_same_address_in_two_networks_has_two_stand_ins() {
        let driver = Loopback::claim().unwrap();
        let a = driver.listen_tcp(&network("a"), VIP, 8080, 1).unwrap();
        let b = driver.listen_tcp(&network("b"), VIP, 8080, 1).unwrap();
        assert_ne!(a[0].local_addr().unwrap(), b[0].local_addr().unwrap());
        assert_eq!(driver.locate(&network("a"), VIP, 8080), Some(a[0].local_addr().unwrap()));
        assert_eq!(driver.locate(&network("c"), VIP, 8080), None);
    }

    #[test]
    fn several_listeners_share_one_address() {
        let driver = Loopback::claim().unwrap();
        let listeners = driver.listen_tcp(&network("a"), VIP, 80, 3).unwrap();
        let at = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|l| l.local_addr().unwrap() == at));
    }

    #[test]
    fn a_listener_sees_the_private_address_of_its_client() {
        let driver = Loopback::claim().unwrap();
        let net = network("a");
        let listener = driver.listen_tcp(&net, VIP, 8081, 1).unwrap().remove(0);
        listener.set_nonblocking(false).unwrap();
        let client_ip = Ipv4Addr::new(10, 0, 0, 7);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&driver.source_for(&net, client_ip).unwrap().into()).unwrap();
        socket.connect(&driver.locate(&net, VIP, 8081).unwrap().into()).unwrap();
        TcpStream::from(socket).write_all(b"x").unwrap();
        let (mut stream, peer) = listener.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
        assert_eq!(driver.private_peer(&net, peer).ip(), client_ip);
        assert_eq!(driver.private_peer(&network("b"), peer), peer, "another network must not see it");
    }

    #[test]
    fn a_connection_comes_from_the_address_it_was_asked_to() {
        let driver = Loopback::claim().unwrap();
        let (net, proxy) = (network("a"), Ipv4Addr::new(10, 129, 0, 2));
        let listener = driver.listen_tcp(&net, VIP, 8082, 1).unwrap().remove(0);
        listener.set_nonblocking(false).unwrap();
        let _stream = driver.connect_from(&net, proxy, SocketAddrV4::new(VIP, 8082)).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(driver.private_peer(&net, peer).ip(), proxy);
        let nobody = driver.connect_from(&net, proxy, SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 99), 8082));
        assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::HostUnreachable);
        let client = driver.source_for(&net, Ipv4Addr::new(10, 0, 0, 7)).unwrap();
        let program = std::net::TcpListener::bind(client).unwrap();
        let port = program.local_addr().unwrap().port();
        let _stream =
            driver.connect_from(&net, proxy, SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 7), port)).unwrap();
        let (_, peer) = program.accept().unwrap();
        assert_eq!(driver.private_peer(&net, peer).ip(), proxy);
    }

    #[test]
    fn udp_and_tcp_of_one_private_port_share_a_local_port() {
        let driver = Loopback::claim().unwrap();
        let resolver = Ipv4Addr::new(169, 254, 169, 254);
        let udp = driver.bind_udp(&network("a"), resolver, 53).unwrap();
        let tcp = driver.listen_tcp(&network("a"), resolver, 53, 1).unwrap();
        assert_eq!(udp.local_addr().unwrap(), tcp[0].local_addr().unwrap());
    }

    #[test]
    fn a_released_address_is_unknown() {
        let driver = Loopback::claim().unwrap();
        let source = driver.source_for(&network("a"), VIP).unwrap();
        driver.release(&network("a"), VIP);
        assert_eq!(driver.private_peer(&network("a"), source), source);
    }
}
