//! The metadata server on a socket of its own, as a VM or an instance finds it at 169.254.169.254 port 80.
//!
//! Who asks is told by the address it asks from, so every network has a listener of its own; a caller that nobody
//! knows is nobody's service account and gets 403.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use vestibule_iam::Issuer;
use vestibule_iam::metadata::{self, Identity, RESPONSE_HEADERS};

/// Connections of one listener at once.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may take for a request's head, which includes the idle time before it.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

/// Tells who asks from an address, if anybody does.
pub type Who = Arc<dyn Fn(SocketAddr) -> Option<Identity> + Send + Sync>;

/// Serves metadata on `listener` until `shutdown` completes.
pub async fn serve_metadata(
    listener: std::net::TcpListener,
    issuer: Issuer,
    who: Who,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(shutdown);
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (issuer, identity) = (issuer.clone(), who(peer));
                    tokio::spawn(async move {
                        connection(stream, issuer, identity).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the metadata server cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, issuer: Issuer, identity: Option<Identity>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (issuer, identity) = (issuer.clone(), identity.clone());
        async move {
            // A token may have to wait for the key of a first start.
            let answered =
                tokio::task::spawn_blocking(move || answer(&request, &issuer, identity.as_ref())).await;
            let response =
                answered.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Error"));
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a metadata connection ended early");
    }
}

fn answer(request: &Request<Incoming>, issuer: &Issuer, identity: Option<&Identity>) -> Response<Bytes> {
    let Some(identity) = identity else {
        return plain(StatusCode::FORBIDDEN, "This address belongs to no client of the network.");
    };
    let headers = request.headers();
    let asked = metadata::Request {
        method: request.method().as_str(),
        target: request.uri().path_and_query().map_or("/", |target| target.as_str()),
        flavor: headers.get("metadata-flavor").and_then(|value| value.to_str().ok()),
        forwarded: headers.contains_key("x-forwarded-for"),
    };
    respond(metadata::answer(asked, identity, issuer))
}

/// An answer of the metadata server as an HTTP response.
pub(crate) fn respond(answer: metadata::Answer) -> Response<Bytes> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = plain(status, &answer.body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(answer.content_type));
    if let Some(location) = answer.location.and_then(|l| l.parse().ok()) {
        headers.insert(header::LOCATION, location);
    }
    response
}

fn plain(status: StatusCode, body: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(body.as_bytes()));
    *response.status_mut() = status;
    for (name, value) in RESPONSE_HEADERS {
        response.headers_mut().insert(name_of(name), http::HeaderValue::from_static(value));
    }
    response
}

fn name_of(name: &'static str) -> http::HeaderName {
    // The constants are valid names; another answer than a name would be a mistake in this file.
    http::HeaderName::from_bytes(name.as_bytes()).unwrap_or(header::SERVER)
}
