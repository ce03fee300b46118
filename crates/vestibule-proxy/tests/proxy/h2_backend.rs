//! A backend that speaks HTTP/2.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A request as it came, with its whole body.
#[derive(Debug, Clone)]
pub struct Seen {
    pub request: Request<()>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name).map(|value| value.to_str().unwrap())
    }
}

/// What a backend does with a request.
pub enum Reply {
    /// Head, body, trailers.
    Answer(Response<()>, Vec<u8>, Option<HeaderMap>),
    /// The head and a part of the body, and then a reset.
    Part(Response<()>, Vec<u8>, Reason),
    Reset(Reason),
    /// Waits until this many requests are there, and then answers with a text.
    Together(usize),
    Never,
}

pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
    Reply::Answer(Response::new(()), body.into(), None)
}

/// How a backend is set up.
#[derive(Clone, Default)]
pub struct Setup {
    pub max_streams: Option<u32>,
    /// Encrypted, and what it agrees to speak.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Every piece of a body is sent back as it comes.
    pub echo: bool,
    /// Connections are told to go after this many requests.
    pub go_away_after: Option<usize>,
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

pub struct H2Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    setup: Setup,
    handler: Box<Handler>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    resets: AtomicUsize,
    waiting: tokio::sync::watch::Sender<usize>,
}

impl H2Backend {
    pub fn new(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> H2Backend {
        H2Backend::with(Setup::default(), handler)
    }

    pub fn with(setup: Setup, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> H2Backend {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            setup,
            handler: Box::new(handler),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
            waiting: tokio::sync::watch::Sender::new(0),
        });
        runtime.spawn(accept(listener, shared.clone()));
        H2Backend { address, shared, _runtime: runtime }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until the other side has reset this many streams that were not answered.
    pub fn await_resets(&self, count: usize) {
        while self.shared.resets.load(Ordering::SeqCst) < count {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let shared = shared.clone();
        shared.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            match shared.setup.tls.clone() {
                None => serve(stream, shared).await,
                Some(config) => {
                    if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                        serve(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: Arc<Shared>) {
    let mut builder = server::Builder::new();
    if let Some(max) = shared.setup.max_streams {
        builder.max_concurrent_streams(max);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut count = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, shared.clone()));
        count += 1;
        if shared.setup.go_away_after == Some(count) {
            connection.graceful_shutdown();
        }
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, shared: Arc<Shared>) {
    let (parts, mut stream) = request.into_parts();
    let request = Request::from_parts(parts, ());
    if shared.setup.echo {
        let body = respond.send_response(Response::new(()), false).unwrap();
        return echo(stream, body).await;
    }
    let mut body = Vec::new();
    while let Some(Ok(data)) = stream.data().await {
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    let seen = Seen { request, body };
    shared.seen.lock().unwrap().push(seen.clone());
    match (shared.handler)(&seen) {
        Reply::Answer(head, body, trailers) => send(&mut respond, head, body, trailers).await,
        Reply::Part(head, body, reason) => {
            let mut stream = respond.send_response(head, false).unwrap();
            write(&mut stream, body.into(), false).await;
            // What was written must not be overtaken.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            stream.send_reset(reason);
        }
        Reply::Reset(reason) => respond.send_reset(reason),
        Reply::Together(count) => {
            shared.waiting.send_modify(|waiting| *waiting += 1);
            let _ = shared.waiting.subscribe().wait_for(|waiting| *waiting >= count).await;
            send(&mut respond, Response::new(()), b"together".to_vec(), None).await;
        }
        Reply::Never => {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            shared.resets.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn send(
    respond: &mut SendResponse<Bytes>,
    head: Response<()>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
) {
    let ends = body.is_empty() && trailers.is_none();
    let Ok(mut stream) = respond.send_response(head, ends) else { return };
    if !body.is_empty() {
        write(&mut stream, body.into(), trailers.is_none()).await;
    }
    if let Some(trailers) = trailers {
        let _ = stream.send_trailers(trailers);
    }
}

async fn write(stream: &mut SendStream<Bytes>, mut body: Bytes, last: bool) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        let piece = body.split_to(room.min(body.len()));
        if stream.send_data(piece, last && body.is_empty()).is_err() {
            return;
        }
    }
}

async fn echo(mut stream: RecvStream, mut body: SendStream<Bytes>) {
    while let Some(Ok(data)) = stream.data().await {
        stream.flow_control().release_capacity(data.len()).unwrap();
        write(&mut body, data, false).await;
    }
    match stream.trailers().await {
        Ok(Some(trailers)) => drop(body.send_trailers(trailers)),
        _ => drop(body.send_data(Bytes::new(), true)),
    }
}
