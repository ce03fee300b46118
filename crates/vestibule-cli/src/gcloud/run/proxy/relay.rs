//! The listener, and the connections through it.
//!
//! Tokens are fetched by the thread that called, which may block; connections are another thread's.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{interval_at, timeout};
use tokio_rustls::TlsConnector;

use super::head::{self, Read};
use crate::secret::Secret;
use crate::tour::client::Trust;

/// Connections at once. A browser has six for a host; the next waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take for the head of its request.
const HEAD_LIMIT: Duration = Duration::from_secs(60);
/// How long the way to the service may take to open.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Before another token is fetched. Tokens hold for an hour.
const FRESH_FOR: Duration = Duration::from_secs(30 * 60);

/// Where requests go.
pub(super) struct Upstream {
    /// The address that serves default URLs.
    pub(super) front: SocketAddr,
    /// The service's host.
    pub(super) host: String,
    pub(super) trust: Trust,
}

/// A proxy that listens.
pub(super) struct Relay {
    listener: TcpListener,
    address: SocketAddr,
    upstream: Arc<Upstream>,
}

/// The token that requests get from now on.
type Current = Arc<Mutex<Secret>>;

impl Relay {
    pub(super) fn bind(address: SocketAddr, upstream: Upstream) -> io::Result<Relay> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Relay { listener, address, upstream: Arc::new(upstream) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until Ctrl-C, or for a time. `fresh` fetches another token; while it cannot, the last one is used.
    pub(super) fn run(
        self,
        first: Secret,
        limit: Option<Duration>,
        fresh: impl Fn() -> Option<Secret>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let token: Current = Arc::new(Mutex::new(first));
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            let mut accepting = tokio::spawn(accept(listener, self.upstream, token.clone()));
            let mut stale = interval_at(tokio::time::Instant::now() + FRESH_FOR, FRESH_FOR);
            let over = async {
                match limit {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(over);
            loop {
                tokio::select! {
                    () = &mut over => return Ok(()),
                    pressed = tokio::signal::ctrl_c() => return pressed,
                    ended = &mut accepting => return ended.map_err(io::Error::other),
                    _ = stale.tick() => if let Some(new) = fresh() {
                        *token.lock().unwrap_or_else(PoisonError::into_inner) = new;
                    },
                }
            }
        })
    }
}

/// Takes connections, as many as may be.
async fn accept(listener: tokio::net::TcpListener, upstream: Arc<Upstream>, token: Current) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, most likely: some will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (upstream, token) = (upstream.clone(), token.clone());
        tokio::spawn(async move {
            // Whatever went wrong, the client sees a connection that ended.
            let _ = serve(stream, &upstream, &token).await;
            drop(place);
        });
    }
}

/// One request, and whatever follows it on the connection.
async fn serve(mut client: TcpStream, upstream: &Upstream, token: &Current) -> io::Result<()> {
    let (head, rest) = match timeout(HEAD_LIMIT, read_head(&mut client, &upstream.host, token)).await {
        Ok(Ok(Some(whole))) => whole,
        Ok(Ok(None)) => return answer(&mut client, "400 Bad Request", "This is no HTTP/1.1 request.").await,
        Ok(Err(error)) => return Err(error),
        Err(_) => return answer(&mut client, "408 Request Timeout", "The request did not come.").await,
    };
    let mut service = match timeout(CONNECT_LIMIT, connect(upstream)).await {
        Ok(Ok(service)) => service,
        Ok(Err(error)) => {
            let why = format!("The service cannot be reached: {error}.");
            return answer(&mut client, "502 Bad Gateway", &why).await;
        }
        Err(_) => {
            return answer(&mut client, "504 Gateway Timeout", "The service cannot be reached in time.")
                .await;
        }
    };
    service.write_all(&head).await?;
    service.write_all(&rest).await?;
    service.flush().await?;
    copy_bidirectional(&mut client, &mut service).await?;
    Ok(())
}

/// The head to send on, and what came after it already. `None`: it is none.
async fn read_head(
    client: &mut TcpStream,
    host: &str,
    token: &Current,
) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        if client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read = head::rewrite(&bytes, host, &token.lock().unwrap_or_else(PoisonError::into_inner));
        match read {
            Read::Partial => {}
            Read::Bad => return Ok(None),
            Read::Whole(length, head) => return Ok(Some((head, bytes.split_off(length)))),
        }
    }
}

async fn connect(upstream: &Upstream) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(upstream.host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect(upstream.front).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(upstream.trust.clone()).connect(name, stream).await
}

async fn answer(client: &mut TcpStream, status: &str, text: &str) -> io::Result<()> {
    let length = text.len() + 1;
    let whole = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}\n"
    );
    client.write_all(whole.as_bytes()).await?;
    client.shutdown().await
}
