//! Asking other servers: the targets of forwarding zones and server policies, and the machine's own resolvers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use vestibule_vpc::{Mode, NetworkId, Vpc};

use crate::name::Name;
use crate::policy::{Path, Target};
use crate::wire::{self, Rcode, Record, Reply};

/// How long one server may take for one question.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long all servers together may take; clients of resolvers give up after 5 to 10 seconds.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(6);
/// How often a server that says nothing is asked: a datagram may have been lost.
const ROUNDS: usize = 2;
/// The longest message that is read over UDP. We offer no EDNS, so 512 octets is what a server may send.
const MAX_DATAGRAM: usize = 4096;

/// What a server had to say.
pub(crate) struct Heard {
    pub(crate) rcode: Rcode,
    pub(crate) answers: Vec<Record>,
    pub(crate) soa: Option<Record>,
    /// Who said it.
    pub(crate) server: IpAddr,
}

/// The ways to other servers.
#[derive(Clone, Default)]
pub(crate) struct Paths {
    /// Where private addresses of networks are reached from this process.
    vpc: Option<Vpc>,
}

/// Where a question goes out.
#[derive(Clone)]
enum Way {
    /// From this machine.
    Machine(SocketAddr),
    /// From the resolver's own address inside of a network.
    Inside(Vpc, NetworkId, SocketAddrV4),
}

impl Paths {
    pub(crate) fn through(vpc: Vpc) -> Paths {
        Paths { vpc: Some(vpc) }
    }

    /// The private address behind one that a socket of a network sees.
    pub(crate) fn private_peer(&self, network: &NetworkId, peer: SocketAddr) -> SocketAddr {
        self.vpc.as_ref().map_or(peer, |vpc| vpc.private_peer(network, peer))
    }

    /// Asks each server in turn, as seen from `network`, until one answers; those that were silent once more.
    pub(crate) async fn ask(
        &self,
        network: &NetworkId,
        servers: &[Target],
        name: &Name,
        wanted: u16,
    ) -> Option<Heard> {
        let asking = self.ask_in_turn(network, servers, name, wanted);
        tokio::time::timeout(TOTAL_TIMEOUT, asking).await.ok().flatten()
    }

    async fn ask_in_turn(
        &self,
        network: &NetworkId,
        servers: &[Target],
        name: &Name,
        wanted: u16,
    ) -> Option<Heard> {
        let mut asked: Vec<Target> = servers.to_vec();
        for _ in 0..ROUNDS {
            let mut silent = Vec::new();
            for target in asked {
                match self.ask_server(network, target, name, wanted).await {
                    Ok(heard) => return Some(heard),
                    Err(error) => {
                        tracing::debug!(server = %target.address, %error, "a name server did not answer");
                        silent.extend((error.kind() == io::ErrorKind::TimedOut).then_some(target));
                    }
                }
            }
            asked = silent;
        }
        None
    }

    /// Asks one server, once.
    async fn ask_server(
        &self,
        network: &NetworkId,
        server: Target,
        name: &Name,
        wanted: u16,
    ) -> io::Result<Heard> {
        let mut last = io::Error::from(io::ErrorKind::NetworkUnreachable);
        for way in self.ways(network, server.address, server.path) {
            match tokio::time::timeout(SERVER_TIMEOUT, ask_one(&way, name, wanted)).await {
                Ok(Ok((rcode, Reply { answers, soa, .. }))) => {
                    return Ok(Heard { rcode, answers, soa, server: server.address.ip() });
                }
                // What the network has no route to may be reached from the machine.
                Ok(Err(error)) if error.kind() == io::ErrorKind::NetworkUnreachable => last = error,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }

    /// The ways to a server, the first that leads there to be taken.
    fn ways(&self, network: &NetworkId, server: SocketAddr, path: Path) -> Vec<Way> {
        let inside = match (server, path) {
            (_, Path::Machine) => None,
            (SocketAddr::V4(v4), Path::Private) => Some(v4),
            (SocketAddr::V4(v4), Path::Default) => Some(v4).filter(|v4| v4.ip().is_private()),
            (SocketAddr::V6(_), _) => None,
        };
        let (Some(vpc), Some(inside)) = (&self.vpc, inside) else { return vec![Way::Machine(server)] };
        let mut ways = match vpc.mode() {
            Mode::Namespace => vec![Way::Inside(vpc.clone(), network.clone(), inside)],
            Mode::Loopback => {
                let located = vpc.locate(network, *inside.ip(), inside.port());
                located.map(Way::Machine).into_iter().collect()
            }
        };
        if path == Path::Default {
            ways.push(Way::Machine(server));
        }
        ways
    }
}

async fn ask_one(way: &Way, name: &Name, wanted: u16) -> io::Result<(Rcode, Reply)> {
    let query = wire::write_query(fastrand::u16(..), name, wanted);
    let mut message = over_udp(way, &query).await?;
    if message.get(2).is_some_and(|flags| flags & 0x02 != 0) {
        message = over_tcp(way, &query).await?;
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "its answer is malformed");
    let reply = wire::read_answer(&message).ok_or_else(malformed)?;
    let rcode = match reply.rcode {
        0 => Rcode::NoError,
        3 => Rcode::NxDomain,
        other => return Err(io::Error::other(format!("it answered with code {other}"))),
    };
    Ok((rcode, reply))
}

impl Way {
    /// A fresh socket for each question, connected: only the server's own answers get in, at a port nobody can guess.
    async fn udp(&self) -> io::Result<UdpSocket> {
        match self {
            Way::Machine(server) => {
                let own: SocketAddr =
                    if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { ([0; 16], 0).into() };
                let socket = UdpSocket::bind(own).await?;
                socket.connect(server).await?;
                Ok(socket)
            }
            Way::Inside(vpc, network, server) => {
                let (vpc, network, server) = (vpc.clone(), network.clone(), *server);
                let bound = tokio::task::spawn_blocking(move || {
                    let socket = vpc.bind_udp(&network, crate::RESOLVER, 0)?;
                    socket.connect(server)?;
                    socket.set_nonblocking(true)?;
                    Ok::<_, io::Error>(socket)
                });
                UdpSocket::from_std(bound.await.map_err(io::Error::other)??)
            }
        }
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        match self {
            Way::Machine(server) => TcpStream::connect(server).await,
            Way::Inside(vpc, network, server) => {
                let (vpc, network, server) = (vpc.clone(), network.clone(), *server);
                let begun =
                    tokio::task::spawn_blocking(move || vpc.connect_from(&network, crate::RESOLVER, server));
                let stream = TcpStream::from_std(begun.await.map_err(io::Error::other)??)?;
                stream.writable().await?;
                stream.take_error()?.map_or(Ok(stream), Err)
            }
        }
    }
}

async fn over_udp(way: &Way, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = way.udp().await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], query) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(way: &Way, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = way.tcp().await?;
    stream.write_all(&(query.len() as u16).to_be_bytes()).await?;
    stream.write_all(query).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    match answers(&message, query) {
        true => Ok(message),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it answered another question")),
    }
}

/// Whether the message has the query's id and question (RFC 5452 section 9.1).
fn answers(message: &[u8], query: &[u8]) -> bool {
    let question = query.get(wire::HEADER..).unwrap_or_default();
    message.get(..2) == query.get(..2)
        && message
            .get(wire::HEADER..wire::HEADER + question.len())
            .is_some_and(|q| q.eq_ignore_ascii_case(question))
}

/// The servers of this machine: `nameserver` lines of `/etc/resolv.conf`, the first three as resolvers do. Empty when
/// there are none.
pub fn system_servers() -> Vec<SocketAddr> {
    match std::fs::read_to_string("/etc/resolv.conf") {
        Ok(text) => servers_of(&text),
        Err(error) => {
            tracing::warn!(%error, "no name servers are known: /etc/resolv.conf cannot be read");
            Vec::new()
        }
    }
}

fn servers_of(text: &str) -> Vec<SocketAddr> {
    const DNS: u16 = 53;
    const MOST: usize = 3;
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        address.parse::<std::net::IpAddr>().ok()
    });
    addresses.take(MOST).map(|address| SocketAddr::new(address, DNS)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_from_resolv_conf() {
        let text = "# nameserver 9.9.9.9\nsearch x\nnameserver 127.0.0.53\n nameserver\t::1 # here\nnameserver x\noptions y";
        let expected: Vec<SocketAddr> = vec!["127.0.0.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
        assert_eq!(servers_of(text), expected);
    }
}
