//! Asking other servers: the targets of forwarding zones, and the machine's own resolvers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::name::Name;
use crate::wire::{self, Rcode, Record};

/// How long one server may take for one question.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long all servers together may take; clients of resolvers give up after 5 to 10 seconds.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(6);
/// The longest message that is read over UDP. We offer no EDNS, so 512 octets is what a server may send.
const MAX_DATAGRAM: usize = 4096;

/// What a server had to say.
pub(crate) struct Heard {
    pub(crate) rcode: Rcode,
    pub(crate) answers: Vec<Record>,
    pub(crate) soa: Option<Record>,
}

/// Asks each server in turn until one answers.
pub(crate) async fn ask(servers: &[SocketAddr], name: &Name, wanted: u16) -> Option<Heard> {
    tokio::time::timeout(TOTAL_TIMEOUT, ask_in_turn(servers, name, wanted)).await.ok().flatten()
}

async fn ask_in_turn(servers: &[SocketAddr], name: &Name, wanted: u16) -> Option<Heard> {
    for server in servers {
        match tokio::time::timeout(SERVER_TIMEOUT, ask_one(*server, name, wanted)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a name server did not answer"),
            Err(_) => tracing::debug!(%server, "a name server did not answer in time"),
        }
    }
    None
}

async fn ask_one(server: SocketAddr, name: &Name, wanted: u16) -> io::Result<Heard> {
    let query = wire::write_query(fastrand::u16(..), name, wanted);
    let mut message = over_udp(server, &query).await?;
    if message.get(2).is_some_and(|flags| flags & 0x02 != 0) {
        message = over_tcp(server, &query).await?;
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "its answer is malformed");
    let reply = wire::read_answer(&message).ok_or_else(malformed)?;
    let rcode = match reply.rcode {
        0 => Rcode::NoError,
        3 => Rcode::NxDomain,
        other => return Err(io::Error::other(format!("it answered with code {other}"))),
    };
    Ok(Heard { rcode, answers: reply.answers, soa: reply.soa })
}

/// A fresh socket for each question, connected: only the server's own answers get in, at a port nobody can guess.
async fn over_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let own: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(own).await?;
    socket.connect(server).await?;
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

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
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
