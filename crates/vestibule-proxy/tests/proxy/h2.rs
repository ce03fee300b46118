//! A client of HTTP/2 that does what it should.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// A connection. Its frames are read and written whatever the test does.
pub struct Client {
    pub runtime: Runtime,
    pub send: SendRequest<Bytes>,
}

/// A response that came to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Client {
    /// Without TLS, with prior knowledge.
    pub fn clear(address: SocketAddr) -> Client {
        let runtime = runtime();
        let send = runtime.block_on(async { start(connect(address).await).await });
        Client { runtime, send }
    }

    /// Over TLS.
    pub fn tls(address: SocketAddr, config: Arc<rustls::ClientConfig>, name: &str) -> Client {
        let runtime = runtime();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let send = runtime.block_on(async {
            let stream = connect(address).await;
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            start(stream).await
        });
        Client { runtime, send }
    }

    /// Starts a request. `ended`: it has no body.
    pub fn start(&mut self, request: Request<()>, ended: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let send = self.send.clone();
        let mut send = self.runtime.block_on(send.ready()).unwrap();
        send.send_request(request, ended).unwrap()
    }

    /// Sends a request and reads the answer.
    pub fn ask(&mut self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let (response, mut stream) = self.start(request, body.is_empty());
        self.runtime.block_on(async {
            let sending = async {
                let mut rest = Bytes::copy_from_slice(body);
                while !rest.is_empty() {
                    stream.reserve_capacity(rest.len());
                    let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
                        return;
                    };
                    let piece = rest.split_to(room.min(rest.len()));
                    if stream.send_data(piece, rest.is_empty()).is_err() {
                        return;
                    }
                }
            };
            let (answer, ()) = tokio::join!(read(response), sending);
            answer
        })
    }

    /// A `GET` of this path.
    pub fn get(&mut self, path: &str) -> Result<Answer, h2::Error> {
        self.ask(Request::get(format!("http://app.example{path}")).body(()).unwrap(), b"")
    }

    /// Reads the answer to a request that was started.
    pub fn read(&self, response: ResponseFuture) -> Result<Answer, h2::Error> {
        self.runtime.block_on(read(response))
    }

    /// The head of the answer alone.
    pub fn head(&self, response: ResponseFuture) -> Result<Response<RecvStream>, h2::Error> {
        self.runtime.block_on(response)
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn start<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> SendRequest<Bytes> {
    // A stream that is not read must not hold up the others here.
    let mut builder = client::Builder::new();
    builder.initial_connection_window_size(16 * 1024 * 1024);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

async fn read(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Answer { status: parts.status, fields: parts.headers, body, trailers })
}
