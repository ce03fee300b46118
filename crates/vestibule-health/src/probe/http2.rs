//! Requests over HTTP/2: a GET, and the gRPC health protocol (`grpc.health.v1.Health/Check`).

use std::future::poll_fn;
use std::io;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{self, SendRequest};
use http::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::http1::{AGENT, holds};
use crate::check::{BODY, Http};

/// `HealthCheckResponse { status: SERVING }` with its gRPC prefix: not compressed, 2 bytes.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// Asks; anything but 200 is an error, and so is a body without the expected text.
pub(super) async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    http: &Http,
    host: &str,
) -> io::Result<()> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("https://{host}{}", http.path))
        .header("user-agent", AGENT)
        .body(())
        .map_err(io::Error::other)?;
    let asked = |response: Response<RecvStream>| async move {
        let (head, mut body) = response.into_parts();
        if head.status != 200 {
            return Err(io::Error::other(format!("status {}", head.status.as_u16())));
        }
        let expected = http.response.as_str();
        if expected.is_empty() || holds(&read(&mut body, BODY).await?, expected) {
            return Ok(());
        }
        Err(io::Error::other("the body does not hold the expected text"))
    };
    exchange(stream, request, None, asked).await
}

/// Asks whether a service, or with an empty name the server, serves.
pub(super) async fn grpc(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    scheme: &str,
    service: &str,
    host: &str,
) -> io::Result<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", AGENT)
        .body(())
        .map_err(io::Error::other)?;
    let asked = |response: Response<RecvStream>| async move {
        let (head, mut body) = response.into_parts();
        let answer = read(&mut body, SERVING.len()).await?;
        if head.status == 200 && answer == SERVING {
            return Ok(());
        }
        Err(io::Error::other("the server does not say that it serves"))
    };
    exchange(stream, request, Some(question(service)), asked).await
}

/// `HealthCheckRequest { service }` with its gRPC prefix.
fn question(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 3);
    if !service.is_empty() {
        // Field 1, a string; its length as a varint.
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(&message);
    out.into()
}

/// One request on a connection of its own.
async fn exchange<F: Future<Output = io::Result<()>>>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<()>,
    body: Option<Bytes>,
    answered: impl FnOnce(Response<RecvStream>) -> F,
) -> io::Result<()> {
    let (sender, connection) = client::handshake(stream).await.map_err(io::Error::other)?;
    let asking = async move {
        let response = send(sender, request, body).await.map_err(io::Error::other)?;
        answered(response).await
    };
    // The connection only moves while it is polled, and it ends last.
    tokio::pin!(connection, asking);
    let mut ended = false;
    poll_fn(|cx| {
        if !ended {
            ended = connection.as_mut().poll(cx).is_ready();
        }
        asking.as_mut().poll(cx)
    })
    .await
}

async fn send(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Option<Bytes>,
) -> Result<Response<RecvStream>, h2::Error> {
    let mut sender = sender.ready().await?;
    let (response, mut stream) = sender.send_request(request, body.is_none())?;
    if let Some(body) = body {
        stream.send_data(body, true)?;
    }
    response.await
}

/// The first bytes of a body.
async fn read(body: &mut RecvStream, wanted: usize) -> io::Result<BytesMut> {
    let mut read = BytesMut::new();
    while read.len() < wanted {
        let Some(data) = body.data().await else { break };
        let data = data.map_err(io::Error::other)?;
        let _ = body.flow_control().release_capacity(data.len());
        read.extend_from_slice(&data);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("a")[..], [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }
}
