//! Connections to backends, and those that are kept for the next request. One pool a worker, so none is ever shared or
//! locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vestibule_vpc::{NetworkId, Vpc};

use crate::http2::ask::Asked;
use crate::http2::pool::SharedPool;
use crate::limits::{MAX_IDLE_PER_ADDRESS, UPSTREAM_KEEP_ALIVE};
use crate::link::{Link, MaybeTls};
use crate::metrics::{Cells, Count};
use crate::snapshot::Protocol;
use crate::trust;

/// Where a backend stands, and from where it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Location {
    pub(crate) address: SocketAddr,
    /// 0: from wherever the machine connects from. Otherwise a number of [`way`].
    pub(crate) way: u32,
}

impl From<SocketAddr> for Location {
    fn from(address: SocketAddr) -> Location {
        Location { address, way: 0 }
    }
}

/// Where a request is sent, and how it is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) location: Location,
    pub(crate) protocol: Protocol,
}

/// A network, and the address inside it that connections come from.
#[derive(Clone)]
struct Way {
    vpc: Vpc,
    network: NetworkId,
    from: Ipv4Addr,
}

thread_local! {
    /// Those of this worker. Their numbers count from 1, and stay: there are as many as networks with a load balancer.
    static WAYS: RefCell<Vec<Way>> = const { RefCell::new(Vec::new()) };
}

/// The number of the way into a network from one of its addresses.
pub(crate) fn way(vpc: &Vpc, network: &NetworkId, from: Ipv4Addr) -> u32 {
    WAYS.with_borrow_mut(|ways| {
        let known = ways.iter().position(|way| way.network == *network && way.from == from);
        let index = known.unwrap_or_else(|| {
            ways.push(Way { vpc: vpc.clone(), network: network.clone(), from });
            ways.len() - 1
        });
        index as u32 + 1
    })
}

/// Connects to where something stands. An instance may be in a network of its own.
async fn reach(location: Location) -> io::Result<TcpStream> {
    let Some(index) = location.way.checked_sub(1) else {
        return vestibule_run::connect(location.address).await;
    };
    let way = WAYS.with_borrow(|ways| ways.get(index as usize).cloned()).ok_or(io::ErrorKind::NotFound)?;
    match location.address {
        SocketAddr::V4(address) => way.enter(address).await,
        SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

impl Way {
    async fn enter(&self, to: SocketAddrV4) -> io::Result<TcpStream> {
        if self.from.is_unspecified() {
            // Without an active proxy-only subnetwork there is no address to come from.
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let stream = TcpStream::from_std(self.vpc.connect_from(&self.network, self.from, to)?)?;
        stream.writable().await?;
        stream.take_error()?.map_or(Ok(stream), Err)
    }
}

/// What carries one request to a backend and its response back.
pub(crate) enum Upstream {
    /// A connection, as long as the request lasts.
    Http1(Connection),
    /// A stream of a connection that others use as well.
    Http2(Box<Asked>),
}

/// A connection of HTTP/1.1.
pub(crate) struct Connection {
    target: Target,
    pub(crate) link: Link<BackendStream>,
    /// Requests that it has carried, with the present one.
    pub(crate) requests: u32,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectError {
    Refused,
    Timeout,
    /// The backend does not speak TLS, or not what was asked for in it.
    Tls,
    /// It was there and has ended.
    Over,
}

/// A stream to a backend.
pub(crate) type BackendStream = MaybeTls<TlsStream<TcpStream>>;

/// Makes a new connection.
pub(crate) async fn connect(target: Target) -> Result<BackendStream, ConnectError> {
    let refused = |error: io::Error| {
        tracing::debug!(address = %target.location.address, %error, "cannot connect to a backend");
        ConnectError::Refused
    };
    let stream = reach(target.location).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    match target.protocol {
        Protocol::Http1 | Protocol::H2c => Ok(BackendStream::Plain(stream)),
        Protocol::Https | Protocol::Http2 => secure(stream, target).await,
    }
}

thread_local! {
    /// Of this worker, so that the store of resumable handshakes is not shared either. Without and with HTTP/2.
    static TLS: [Result<Arc<ClientConfig>, rustls::Error>; 2] = [trust::anyone(b"http/1.1"), trust::anyone(b"h2")];
}

/// TLS with whoever is there. No name is told: the backend is an address.
async fn secure(stream: TcpStream, target: Target) -> Result<BackendStream, ConnectError> {
    let http2 = target.protocol == Protocol::Http2;
    let config = TLS.with(|tls| tls[usize::from(http2)].clone()).map_err(|_| ConnectError::Tls)?;
    let name = ServerName::IpAddress(target.location.address.ip().into());
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        tracing::debug!(address = %target.location.address, %error, "a TLS handshake with a backend failed");
        ConnectError::Tls
    })?;
    if http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        tracing::debug!(address = %target.location.address, "a backend does not agree to HTTP/2");
        return Err(ConnectError::Tls);
    }
    Ok(BackendStream::Tls(Box::new(stream)))
}

impl Upstream {
    /// Requests that the connection has carried, if it carries one at a time.
    pub(crate) fn requests(&self) -> u32 {
        match self {
            Upstream::Http1(connection) => connection.requests,
            Upstream::Http2(_) => 0,
        }
    }

    /// The connection that is this request's alone.
    pub(crate) fn link(&self) -> Option<&Link<BackendStream>> {
        match self {
            Upstream::Http1(connection) => Some(&connection.link),
            Upstream::Http2(_) => None,
        }
    }
}

impl Connection {
    pub(crate) async fn connect(target: Target) -> Result<Connection, ConnectError> {
        Ok(Connection { target, link: Link::new(connect(target).await?), requests: 1 })
    }
}

impl Link<BackendStream> {
    /// Whether a connection that waits for its next request can still be used: nothing came and it did not end. Costs
    /// no system call unless the kernel has told of something.
    pub(crate) fn is_quiet(&self) -> bool {
        self.with(|stream| match stream {
            BackendStream::Plain(stream) => {
                let mut byte = [0];
                matches!(stream.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
            }
            // What comes may be for TLS alone, so it is read through it.
            BackendStream::Tls(stream) => {
                let mut byte = [0];
                let mut target = ReadBuf::new(&mut byte);
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(stream).poll_read(&mut cx, &mut target).is_pending()
            }
        })
    }
}

struct Idle {
    link: Link<BackendStream>,
    since: Instant,
    requests: u32,
}

/// The connections of one worker that wait for a request.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<Target, Vec<Idle>, BuildHasherDefault<AddressHasher>>>,
    /// Those that carry many requests at once.
    pub(crate) shared: SharedPool,
    cells: Arc<Cells>,
}

impl Pool {
    /// An empty pool that counts in these cells.
    pub(crate) fn new(cells: Arc<Cells>) -> Pool {
        Pool { idle: RefCell::default(), shared: SharedPool::new(cells.clone()), cells }
    }

    /// Makes a new connection, and counts it.
    pub(crate) async fn connect(&self, target: Target) -> Result<Connection, ConnectError> {
        let made = Connection::connect(target).await;
        self.cells.connected(made.is_ok());
        made
    }

    /// A request found a connection that others use as well.
    pub(crate) fn joined(&self) {
        self.cells.count(Count::BackendReuses);
    }

    /// A connection took too long to be made.
    pub(crate) fn gave_up(&self) {
        self.cells.connected(false);
    }

    /// The connection to this address that was used last and is still good.
    pub(crate) fn take(&self, target: Target) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&target)?;
        while let Some(found) = list.pop() {
            if found.link.is_quiet() {
                self.cells.count(Count::BackendReuses);
                return Some(Connection {
                    target,
                    link: found.link,
                    requests: found.requests.saturating_add(1),
                });
            }
        }
        None
    }

    /// Keeps a connection whose last response was read to its end.
    pub(crate) fn put(&self, connection: Connection, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(connection.target).or_default();
        if list.len() < MAX_IDLE_PER_ADDRESS {
            list.push(Idle { link: connection.link, since: now, requests: connection.requests });
        }
    }

    /// Drops the connections to a location that wait for a request; those that carry many take no more.
    pub(crate) fn forget(&self, location: Location) {
        self.idle.borrow_mut().retain(|target, _| target.location != location);
        self.shared.forget(location);
    }

    /// Drops connections that ended or are too old, and addresses without any.
    pub(crate) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|idle| now.duration_since(idle.since) < UPSTREAM_KEEP_ALIVE && idle.link.is_quiet());
            !list.is_empty()
        });
        self.shared.sweep(now);
    }
}

/// Addresses come from the configuration, so nobody can choose them to collide, and a plain hash will do.
#[derive(Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn gives_back_what_is_alive_and_forgets_the_rest() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let location = Location::from(listener.local_addr().unwrap());
            let target = Target { location, protocol: Protocol::Http1 };
            let pool = Pool::default();
            assert!(pool.take(target).is_none());

            pool.put(Connection::connect(target).await.unwrap(), Instant::now());
            let (kept, _) = listener.accept().await.unwrap();
            let elsewhere = Target { location: Location { way: 1, ..location }, ..target };
            assert!(pool.take(elsewhere).is_none(), "the same address in another network");
            let taken = pool.take(target).unwrap();
            assert_eq!(taken.requests, 2);
            assert!(pool.take(target).is_none());

            pool.put(taken, Instant::now());
            drop(kept);
            while !pool.idle.borrow().is_empty() {
                pool.sweep(Instant::now());
                tokio::task::yield_now().await;
            }
            assert!(pool.take(target).is_none());

            pool.put(Connection::connect(target).await.unwrap(), Instant::now());
            let _kept = listener.accept().await.unwrap();
            pool.sweep(Instant::now() + UPSTREAM_KEEP_ALIVE);
            assert!(pool.idle.borrow().is_empty());
            pool.put(Connection::connect(target).await.unwrap(), Instant::now());
            pool.forget(location);
            assert!(pool.take(target).is_none());
        });
    }

    #[test]
    fn a_network_is_entered_from_an_address_inside_it() {
        run(async {
            let vpc = Vpc::new(vestibule_vpc::Loopback::claim().unwrap());
            let network = NetworkId::new("p", "vpc");
            let (there, proxy) = (Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(10, 129, 0, 2));
            let listener = vpc.listen_tcp(&network, there, 8080, 1).unwrap().remove(0);
            let listener = TcpListener::from_std(listener).unwrap();
            let number = way(&vpc, &network, proxy);
            assert_eq!(number, way(&vpc, &network, proxy));
            let lost = way(&vpc, &network, Ipv4Addr::UNSPECIFIED);
            assert_ne!(number, lost);
            let location = Location { address: (there, 8080).into(), way: number };
            let _stream = reach(location).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(vpc.private_peer(&network, peer).ip(), proxy);
            assert!(reach(Location { way: lost, ..location }).await.is_err());
        });
    }
}
