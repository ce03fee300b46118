//! Opening a connection inside the VPC on behalf of a client.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use vestibule_vpc::Vpc;

use crate::{CONNECT_TIMEOUT, Client, World, timeout};

/// Why a destination cannot be reached.
#[derive(Debug)]
pub enum Unreachable {
    /// The name has no address inside the network.
    UnknownName(String),
    /// Nothing in the network serves the address and port.
    NoRoute(Ipv4Addr, u16),
    Connect(io::Error),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreachable::UnknownName(name) => {
                write!(f, "the name {name} does not resolve inside this network")
            }
            Unreachable::NoRoute(ip, port) => write!(f, "nothing in this network serves {ip} port {port}"),
            Unreachable::Connect(_) => f.write_str("the connection inside the network failed"),
        }
    }
}

impl std::error::Error for Unreachable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Unreachable::Connect(error) => Some(error),
            _ => None,
        }
    }
}

/// Connects to `host` and `port` as `client`: each address of a name in turn until one answers.
pub async fn dial(
    vpc: &Vpc,
    world: &dyn World,
    client: &Client,
    host: &str,
    port: u16,
) -> Result<TcpStream, Unreachable> {
    let addresses = match host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => world.resolve(client, host).await,
    };
    let mut last = Unreachable::UnknownName(host.to_owned());
    for ip in addresses {
        match connect(vpc, client, ip, port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect(vpc: &Vpc, client: &Client, ip: Ipv4Addr, port: u16) -> Result<TcpStream, Unreachable> {
    let to = vpc.locate(&client.network, ip, port).ok_or(Unreachable::NoRoute(ip, port))?;
    let from = match client.address {
        Some(own) => Some(vpc.source_for(&client.network, own).map_err(Unreachable::Connect)?),
        None => None,
    };
    open(from, to).await.map_err(Unreachable::Connect)
}

async fn open(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        socket.bind(&from.into())?;
    }
    let socket = TcpSocket::from_std_stream(socket.into());
    timeout(CONNECT_TIMEOUT, socket.connect(to)).await
}
