//! The resolver on sockets: UDP, and TCP with pipelining (RFC 7766).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::tcp::ReadHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use vestibule_vpc::NetworkId;

use crate::Resolver;
use crate::asker::{Asker, Entry};
use crate::counts::{Tally, Transport};
use crate::querylog::Exchange;
use crate::resolver::{Made, Now};
use crate::wire::{self, MAX_UDP, MIN_UDP, Query};

/// Questions that wait for another server at the same time; more are dropped, and their clients ask again.
const MAX_ASKING: usize = 1024;
/// TCP connections of one network at the same time.
const MAX_CONNECTIONS: usize = 256;
/// Questions of one TCP connection that are under way at the same time; the next is read when one is answered.
const MAX_PIPELINED: usize = 64;
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

/// The sockets of one address at which a network's resolver answers.
pub struct Sockets {
    pub udp: std::net::UdpSocket,
    pub tcp: std::net::TcpListener,
    /// Who comes in here.
    pub entry: Entry,
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
    let server = Server { resolver, network, entry: sockets.entry };
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
    entry: Entry,
}

impl Server {
    fn asker(&self, peer: Option<SocketAddr>) -> Asker {
        Asker { entry: self.entry, peer }
    }

    /// Logs a question and its answer, if they are to be. `out` is the answer as it is sent.
    fn log(&self, now: &Now<'_>, asked: &Asked<'_>, out: &[u8], made: Made) {
        let Some(log) = self.resolver.log().filter(|_| now.is_logged()) else { return };
        let asker = self.asker(asked.peer);
        log.note(Exchange {
            network: self.network.clone(),
            entry: self.entry,
            source: self.resolver.address(&self.network, asker),
            region: now.site(asker).map(|site| site.region.clone()),
            transport: asked.transport,
            origin: wire::read_query(asked.message).ok().map(|query| now.origin(&query.name)),
            at: asked.at,
            message: asked.message.into(),
            answer: out.into(),
            server: made.server,
            translated: made.translated,
        });
    }

    async fn datagrams(&self, socket: &Arc<UdpSocket>) {
        let mut buffers = Buffers { message: vec![0; MAX_TCP], answer: Vec::with_capacity(MAX_UDP) };
        let mut later = Vec::new();
        let mut tally = Tally::default();
        let mut under_way = JoinSet::new();
        loop {
            let turn = socket.readable().await.and_then(|()| {
                let mut turn = Turn { server: self, now: self.resolver.now(&self.network) };
                socket.try_io(Interest::READABLE, || {
                    turn.run(socket.as_ref(), &mut buffers, &mut later, &mut tally)
                })
            });
            self.resolver.counts().add(Transport::Udp, &std::mem::take(&mut tally));
            while under_way.try_join_next().is_some() {}
            let room = MAX_ASKING.saturating_sub(under_way.len());
            for waiting in later.drain(..).take(room) {
                under_way.spawn(self.clone().finish(socket.clone(), waiting));
            }
            match turn {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(%error, "the resolver cannot receive");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Answers what could not be answered in its turn.
    async fn finish(self, socket: Arc<UdpSocket>, waiting: Waiting) {
        let (answer, peer) = match waiting {
            Waiting::Send(answer, peer) => (answer, peer),
            Waiting::Ask(message, peer, at) => {
                let mut answer = Vec::new();
                let asked = Asked { message: &message, peer: Some(peer), transport: Transport::Udp, at };
                if self.ask(asked, &mut answer).await.is_none() {
                    return;
                }
                self.resolver.counts().answered(Transport::Udp, &answer);
                (answer, peer)
            }
        };
        if let Err(error) = socket.send_to(&answer, peer).await {
            tracing::debug!(%peer, %error, "an answer could not be sent");
        }
    }

    /// Writes the answer to a question that other servers must be asked for. `None`: it is none.
    async fn ask(&self, asked: Asked<'_>, out: &mut Vec<u8>) -> Option<()> {
        let query = wire::read_query(asked.message).ok()?;
        let start = out.len();
        let limit = if asked.transport == Transport::Udp { udp_limit(&query) } else { MAX_TCP };
        let made =
            self.resolver.write_asking(&self.network, &query, self.asker(asked.peer), limit, out).await;
        self.log(&self.resolver.now(&self.network), &asked, &out[start..], made);
        Some(())
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

    /// A conversation over TCP: questions are answered as soon as each can be, so that one which waits for another server
    /// does not hold up those behind it (RFC 7766, sections 6.2.1.1 and 7).
    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr().ok();
        let (mut reader, mut writer) = stream.split();
        let (sender, mut answers) = mpsc::channel(MAX_PIPELINED);
        // Ends what is under way when the conversation ends.
        let mut under_way = JoinSet::new();
        let reading = self.questions(&mut reader, peer, sender, &mut under_way);
        let writing = async {
            while let Some(answer) = answers.recv().await {
                self.resolver.counts().answered(Transport::Tcp, answer.get(2..).unwrap_or_default());
                // A client that does not read is as good as one that does not ask.
                tokio::time::timeout(IDLE, writer.write_all(&answer)).await??;
            }
            Ok(())
        };
        tokio::try_join!(reading, writing).map(drop)
    }

    /// Reads questions until there are no more, and has each answered into `answers`, which also limits how many are under
    /// way.
    async fn questions(
        &self,
        reader: &mut ReadHalf<'_>,
        peer: Option<SocketAddr>,
        answers: mpsc::Sender<Vec<u8>>,
        under_way: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let mut message = Vec::new();
        loop {
            match tokio::time::timeout(IDLE, read_message(reader, &mut message)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
                // Idle, or at its end; what was asked before is still answered.
                Ok(Err(_)) | Err(_) => return Ok(()),
            }
            while under_way.try_join_next().is_some() {}
            let Ok(slot) = answers.clone().reserve_owned().await else { return Ok(()) };
            let mut out = vec![0, 0];
            let now = self.resolver.now(&self.network);
            let at = SystemTime::now();
            match answer(&now, self.asker(peer), &message, |_| MAX_TCP, &mut out) {
                Outcome::Answered => {
                    let asked = Asked { message: &message, peer, transport: Transport::Tcp, at };
                    self.log(&now, &asked, &out[2..], Made::default());
                    drop(slot.send(framed(out)));
                }
                Outcome::Ask => {
                    drop(under_way.spawn(self.clone().ask_into(message.clone(), peer, at, out, slot)));
                }
                Outcome::Dropped => return Ok(()),
            }
        }
    }

    /// Answers a question that other servers must be asked for.
    async fn ask_into(
        self,
        message: Vec<u8>,
        peer: Option<SocketAddr>,
        at: SystemTime,
        mut out: Vec<u8>,
        slot: mpsc::OwnedPermit<Vec<u8>>,
    ) {
        let asked = Asked { message: &message, peer, transport: Transport::Tcp, at };
        if self.ask(asked, &mut out).await.is_some() {
            drop(slot.send(framed(out)));
        }
    }
}

/// Writes the length of a message into the two octets before it.
fn framed(mut out: Vec<u8>) -> Vec<u8> {
    let length = (out.len() - 2) as u16;
    out[..2].copy_from_slice(&length.to_be_bytes());
    out
}

async fn read_message(stream: &mut ReadHalf<'_>, message: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(stream.read_u16().await?);
    message.resize(length, 0);
    stream.read_exact(message).await.map(drop)
}

/// Room for one datagram and its answer, used again and again.
struct Buffers {
    message: Vec<u8>,
    answer: Vec<u8>,
}

/// A datagram that is not answered in its turn.
enum Waiting {
    /// Other servers must be asked. With the moment when it came.
    Ask(Vec<u8>, SocketAddr, SystemTime),
    /// The answer is ready, but the socket was full.
    Send(Vec<u8>, SocketAddr),
}

/// A question as it came.
struct Asked<'m> {
    message: &'m [u8],
    peer: Option<SocketAddr>,
    transport: Transport,
    at: SystemTime,
}

/// One turn at a socket.
struct Turn<'s> {
    server: &'s Server,
    now: Now<'s>,
}

impl Turn<'_> {
    /// Answers what has come in, up to [`TURN`] datagrams: under load one wake-up serves many. `WouldBlock` says that
    /// nothing is left.
    fn run(
        &mut self,
        socket: &impl AsFd,
        buffers: &mut Buffers,
        later: &mut Vec<Waiting>,
        tally: &mut Tally,
    ) -> io::Result<()> {
        for _ in 0..TURN {
            let received = rustix::net::recvfrom(socket, buffers.message.as_mut_slice(), RecvFlags::empty());
            let (length, from) = match received {
                Ok((length, _, Some(from))) => (length, from),
                // The port of a client that is gone; the next datagram is another's.
                Ok((_, _, None)) | Err(Errno::CONNREFUSED | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Ok(peer) = SocketAddr::try_from(from.clone()) else { continue };
            self.catch_up();
            let message = &buffers.message[..length];
            buffers.answer.clear();
            let asker = self.server.asker(Some(peer));
            match answer(&self.now, asker, message, udp_limit, &mut buffers.answer) {
                Outcome::Dropped => tally.dropped(),
                Outcome::Ask => later.push(Waiting::Ask(message.to_vec(), peer, SystemTime::now())),
                Outcome::Answered => {
                    tally.answered(&buffers.answer);
                    if self.now.is_logged() {
                        let transport = Transport::Udp;
                        let asked = Asked { message, peer: Some(peer), transport, at: SystemTime::now() };
                        self.server.log(&self.now, &asked, &buffers.answer, Made::default());
                    }
                    match rustix::net::sendto(socket, &buffers.answer, SendFlags::empty(), &from) {
                        Ok(_) => {}
                        Err(Errno::AGAIN) => later.push(Waiting::Send(buffers.answer.clone(), peer)),
                        Err(error) => tracing::debug!(%error, "an answer could not be sent"),
                    }
                }
            }
        }
        Ok(())
    }

    /// Who asks after the API has answered sees the change, also when the turn began before.
    fn catch_up(&mut self) {
        if self.now.is_outdated() {
            self.now = self.server.resolver.now(&self.server.network);
        }
    }
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

/// `limit` says how long the answer may be.
fn answer(
    now: &Now<'_>,
    asker: Asker,
    message: &[u8],
    limit: impl Fn(&Query<'_>) -> usize,
    out: &mut Vec<u8>,
) -> Outcome {
    match wire::read_query(message) {
        Ok(query) if now.write(&query, asker, limit(&query), out) => Outcome::Answered,
        Ok(_) => Outcome::Ask,
        Err(rejected) => match wire::write_rejection(message, &rejected, out) {
            Some(()) => Outcome::Answered,
            None => Outcome::Dropped,
        },
    }
}

/// How long an answer over UDP may be: what the client offers, between 512 and 1,232 octets.
fn udp_limit(query: &Query<'_>) -> usize {
    query.edns.map_or(MIN_UDP, |offered| usize::from(offered).clamp(MIN_UDP, MAX_UDP))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::{RecordSet, Table, Visibility, Zone, ZoneKind};

    fn table(network: &NetworkId, address: &str) -> Table {
        let records = vec![
            RecordSet::parse("z.", "SOA", 300, &["ns. admin. 1 21600 3600 259200 60"]).unwrap(),
            RecordSet::parse("a.z.", "A", 300, &[address]).unwrap(),
        ];
        let visibility = Visibility::Networks(vec![network.clone()]);
        let zone = Zone::new("z.".parse().unwrap(), visibility, ZoneKind::Plain(records));
        Table { zones: vec![Arc::new(zone)], ..Table::default() }
    }

    #[test]
    fn a_question_that_comes_during_a_turn_is_answered_from_the_table_of_its_moment() {
        let (resolver, network) = (Resolver::new(Vec::new()), NetworkId::new("p", "n"));
        resolver.apply(table(&network, "10.0.0.1"));
        let server = Server { resolver, network, entry: Entry::Machines };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(socket.local_addr().unwrap()).unwrap();
        let mut turn = Turn { server: &server, now: server.resolver.now(&server.network) };

        server.resolver.apply(table(&server.network, "10.0.0.2"));
        client.send(&wire::write_query(1, &"a.z.".parse().unwrap(), crate::rdata::kind::A)).unwrap();
        let mut buffers = Buffers { message: vec![0; MAX_TCP], answer: Vec::new() };
        let end = turn.run(&socket, &mut buffers, &mut Vec::new(), &mut Tally::default());
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut answer = [0; MAX_UDP];
        let length = client.recv(&mut answer).unwrap();
        assert!(answer[..length].ends_with(&[10, 0, 0, 2]), "{:?}", &answer[..length]);
    }
}
