//! The way into a VPC in loopback mode: one local port that speaks SOCKS5 (RFC 1928, RFC 1929) and HTTP proxying
//! (RFC 9110 section 9.3.6, RFC 9112 section 3.2.2).
//!
//! A client names itself by its user name: the id of a VM lease, or the name of a network. Names are resolved inside
//! that network, and the connection leaves from the client's own address, so what it reaches sees who it is. What the
//! VPC does not serve is unreachable: the gateway is no way out to the machine's own network.
#![forbid(unsafe_code)]

mod dial;
mod http;
mod socks;

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use vestibule_vpc::{NetworkId, Vpc};

pub use dial::Unreachable;

/// Connections served at once; more wait in the accept queue.
pub const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take to say where it wants to go.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection inside the VPC may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A boxed future, as a trait object's method must return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A client inside a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub network: NetworkId,
    /// Its own private address; without one it comes from no address of the VPC.
    pub address: Option<Ipv4Addr>,
}

/// What the gateway asks the rest of the system.
pub trait World: Send + Sync + 'static {
    /// The client of this user name; without one, the client of the only network there is.
    fn client(&self, user: Option<&str>) -> Option<Arc<Client>>;
    /// The IPv4 addresses of a name, as this client sees it. Empty if there are none.
    fn resolve<'a>(&'a self, client: &'a Client, name: &'a str) -> BoxFuture<'a, Vec<Ipv4Addr>>;
}

/// Serves the gateway on `listener` until `shutdown` completes; returns when the connections have ended by themselves.
pub async fn serve(
    listener: TcpListener,
    vpc: Vpc,
    world: Arc<dyn World>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(shutdown);
    loop {
        let slot = tokio::select! {
            Ok(slot) = slots.clone().acquire_owned() => slot,
            () = &mut shutdown => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "gateway cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let (vpc, world) = (vpc.clone(), world.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_client(stream, &vpc, &*world).await {
                tracing::debug!(%error, "gateway connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    // As many as there are: each connection has one.
    let _ = slots.acquire_many(MAX_CONNECTIONS as u32).await;
    Ok(())
}

/// The first byte tells the protocol: SOCKS5 starts with its version, HTTP with a letter.
async fn serve_client(mut stream: TcpStream, vpc: &Vpc, world: &dyn World) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await?;
    match first[0] {
        socks::VERSION => socks::serve(&mut stream, vpc, world).await,
        _ => http::serve(&mut stream, vpc, world).await,
    }
}

async fn timeout<T>(limit: Duration, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
