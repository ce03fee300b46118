//! The resolver on sockets: UDP, and TCP with pipelining (RFC 7766).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vestibule_vpc::NetworkId;

use crate::Resolver;
use crate::resolver::Now;
use crate::wire::{self, MAX_UDP, MIN_UDP, Query};

/// Questions that wait for another server at the same time; more are dropped, and their clients ask again.
const MAX_ASKING: usize = 1024;
/// TCP connections of one network at the same time.
const MAX_CONNECTIONS: usize = 256;
/// How long a TCP connection may idle (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// The largest message over TCP: its length has two octets.
const MAX_TCP: usize = 65_535;
/// Datagrams that are answered before other tasks have their turn.
const TURN: usize = 64;
/// What the kernel may keep for us while others run, in octets; NSD's choice.
const RECEIVE_BUFFER: usize = 1 << 20;
/// How long to pause after an error of a socket that may last.
const PAUSE: Duration = Duration::from_millis(50);

/// A network's sockets at [`crate::RESOLVER`] port 53.
pub struct Sockets {
    pub udp: std::net::UdpSocket,
    pub tcp: std::net::TcpListener,
}

/// Answers the clients of one network until `shutdown` completes. Ends all conversations then, and also when it is
/// dropped.
pub async fn serve(
    resolver: Resolver,
    network: NetworkId,
    sockets: Sockets,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    make_room(&sockets.udp);
    sockets.udp.set_nonblocking(true)?;
    sockets.tcp.set_nonblocking(true)?;
    let udp = Arc::new(UdpSocket::from_std(sockets.udp)?);
    let tcp = TcpListener::from_std(sockets.tcp)?;
    let server = Server { resolver, network };
    tokio::select! {
        () = server.datagrams(&udp) => {}
        () = server.connections(&tcp) => {}
        () = shutdown => {}
    }
    Ok(())
}

/// Bursts of questions wait instead of being lost. More than the machine's limit (`net.core.rmem_max`) needs a
/// privilege.
fn make_room(socket: &std::net::UdpSocket) {
    let forced = rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER);
    if forced.is_err()
        && let Err(error) = rustix::net::sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER)
    {
        tracing::debug!(%error, "the resolver's receive buffer stays as it is");
    }
}

#[derive(Clone)]
struct Server {
    resolver: Resolver,
    network: NetworkId,
}

impl Server {
    /// Answers as many questions as have come in before it waits again: under load one wake-up serves many.
    async fn datagrams(&self, socket: &Arc<UdpSocket>) {
        let mut message = vec![0; MAX_TCP];
        let mut out = Vec::with_capacity(MAX_UDP);
        let mut asking = JoinSet::new();
        loop {
            if let Err(error) = socket.readable().await {
                tracing::warn!(%error, "the resolver cannot receive");
                tokio::time::sleep(PAUSE).await;
            }
            while asking.try_join_next().is_some() {}
            // A turn has one table.
            let now = self.resolver.now(&self.network);
            for _ in 0..TURN {
                let (length, peer) = match socket.try_recv_from(&mut message) {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The port of a client that is gone; the next datagram is another's.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                    Err(error) => {
                        tracing::warn!(%error, "the resolver cannot receive");
                        tokio::time::sleep(PAUSE).await;
                        break;
                    }
                };
                out.clear();
                match answer(&now, &message[..length], &mut out) {
                    Outcome::Answered => send(socket, &out, peer).await,
                    Outcome::Ask if asking.len() < MAX_ASKING => {
                        asking.spawn(self.clone().ask(socket.clone(), message[..length].to_vec(), peer));
                    }
                    Outcome::Ask | Outcome::Dropped => {}
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Answers when another server has answered.
    async fn ask(self, socket: Arc<UdpSocket>, message: Vec<u8>, peer: SocketAddr) {
        if let Ok(query) = wire::read_query(&message) {
            let mut out = Vec::new();
            self.resolver.write_asking(&self.network, &query, udp_limit(&query), &mut out).await;
            send(&socket, &out, peer).await;
        }
    }

    async fn connections(&self, listener: &TcpListener) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut conversations = JoinSet::new();
        loop {
            while conversations.try_join_next().is_some() {}
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    conversations.spawn(async move {
                        if let Err(error) = server.connection(stream).await {
                            tracing::trace!(%error, "a DNS connection ended");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the resolver cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut message = Vec::new();
        let mut out = Vec::new();
        loop {
            let Ok(read) = tokio::time::timeout(IDLE, read_message(&mut stream, &mut message)).await else {
                return Ok(());
            };
            read?;
            out.clear();
            out.extend_from_slice(&[0, 0]);
            match wire::read_query(&message) {
                Ok(query) => {
                    if !self.resolver.now(&self.network).write(&query, MAX_TCP, &mut out) {
                        self.resolver.write_asking(&self.network, &query, MAX_TCP, &mut out).await;
                    }
                }
                Err(rejected) => {
                    if wire::write_rejection(&message, &rejected, &mut out).is_none() {
                        return Ok(());
                    }
                }
            }
            let length = (out.len() - 2) as u16;
            out[..2].copy_from_slice(&length.to_be_bytes());
            // A client that does not read is as good as one that does not ask.
            match tokio::time::timeout(IDLE, stream.write_all(&out)).await {
                Ok(written) => written?,
                Err(_) => return Ok(()),
            }
        }
    }
}

async fn read_message(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(stream.read_u16().await?);
    message.resize(length, 0);
    stream.read_exact(message).await.map(drop)
}

/// What becomes of a datagram.
enum Outcome {
    /// The answer is written.
    Answered,
    /// Other servers must be asked.
    Ask,
    /// It gets no answer.
    Dropped,
}

fn answer(now: &Now<'_>, message: &[u8], out: &mut Vec<u8>) -> Outcome {
    match wire::read_query(message) {
        Ok(query) if now.write(&query, udp_limit(&query), out) => Outcome::Answered,
        Ok(_) => Outcome::Ask,
        Err(rejected) => match wire::write_rejection(message, &rejected, out) {
            Some(()) => Outcome::Answered,
            None => Outcome::Dropped,
        },
    }
}

async fn send(socket: &UdpSocket, out: &[u8], peer: SocketAddr) {
    let sent = match socket.try_send_to(out, peer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.send_to(out, peer).await,
        sent => sent,
    };
    if let Err(error) = sent {
        tracing::debug!(%peer, %error, "an answer could not be sent");
    }
}

/// How long an answer over UDP may be: what the client offers, between 512 and 1,232 octets.
fn udp_limit(query: &Query<'_>) -> usize {
    query.edns.map_or(MIN_UDP, |offered| usize::from(offered).clamp(MIN_UDP, MAX_UDP))
}
