//! The gRPC health check, as far as a probe needs it.
//!
//! One request over one HTTP/2 connection without TLS: `grpc.health.v1.Health/Check`. An answer that is not "serving"
//! differs from one that is in two bytes of a data frame, so nothing else is read: no header is decoded, and a whole
//! HTTP/2 client would be a large dependency for a yes or no. Frames and the literal header form are those of RFC 9113
//! section 4.1 and RFC 7541 section 6.2.2.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::driver::container::route::connect;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
/// The stream of the only request.
const STREAM: u32 = 1;
/// The largest frame that may come, as we announce no other size.
const MAX_FRAME: usize = 16_384;
/// Frames read before it is a failure that none holds the answer.
const MAX_FRAMES: usize = 64;
/// `HealthCheckResponse { status: SERVING }` with its gRPC prefix: not compressed, 2 bytes.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// Asks once. An error is anything but "serving".
pub(super) async fn check(address: SocketAddr, service: &str) -> io::Result<()> {
    let mut stream = connect(address).await?;
    stream.write_all(&request(address, service)).await?;
    let mut data = Vec::new();
    for _ in 0..MAX_FRAMES {
        let (kind, flags, of, payload) = read_frame(&mut stream).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            PING if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload)).await?,
            DATA if of == STREAM => data.extend_from_slice(unpadded(flags, &payload)?),
            _ => {}
        }
        if data.len() >= SERVING.len() || (of == STREAM && flags & END_STREAM != 0) {
            break;
        }
    }
    if data == SERVING { Ok(()) } else { Err(io::Error::other("the program does not say that it serves")) }
}

fn request(address: SocketAddr, service: &str) -> Vec<u8> {
    let mut headers = Vec::new();
    let authority = address.to_string();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority.as_str()),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // Literal without indexing, new name.
        headers.push(0);
        for text in [name, value] {
            headers.push(text.len() as u8);
            headers.extend_from_slice(text.as_bytes());
        }
    }
    let message = message(service);
    let mut out = PREFACE.to_vec();
    out.extend(frame(SETTINGS, 0, 0, &[]));
    out.extend(frame(HEADERS, END_HEADERS, STREAM, &headers));
    out.extend(frame(DATA, END_STREAM, STREAM, &message));
    out
}

/// `HealthCheckRequest { service }` with its gRPC prefix.
fn message(service: &str) -> Vec<u8> {
    // A length of up to 127 is one byte in a protocol buffer. No service has a longer name.
    let name = &service.as_bytes()[..service.len().min(127)];
    let mut body = Vec::new();
    if !name.is_empty() {
        body.extend([0x0a, name.len() as u8]);
        body.extend_from_slice(name);
    }
    let mut out = vec![0];
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

async fn read_frame(stream: &mut TcpStream) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0_u8; 9];
    stream.read_exact(&mut head).await?;
    let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
    let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too large"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), payload))
}

/// The data of a frame without its padding.
fn unpadded(flags: u8, payload: &[u8]) -> io::Result<&[u8]> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(io::ErrorKind::InvalidData)?;
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or(io::ErrorKind::InvalidData)?;
    Ok(&rest[..length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers one check with the given data frames.
    async fn ask(frames: Vec<Vec<u8>>) -> (io::Result<()>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; request(address, "svc").len()];
            stream.read_exact(&mut seen).await.unwrap();
            stream.write_all(&frames.concat()).await.unwrap();
            stream.shutdown().await.unwrap();
            // Whatever the other side still has to say: closing on unread data would reset the connection.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            seen
        });
        let result = check(address, "svc").await;
        (result, server.await.unwrap())
    }

    #[tokio::test]
    async fn serving_is_success_however_it_is_framed() {
        let hello = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        let headers = frame(HEADERS, END_HEADERS, STREAM, &[0x88]);
        let whole = frame(DATA, 0, STREAM, SERVING);
        let (result, seen) = ask(vec![hello.clone(), headers.clone(), whole]).await;
        result.unwrap();
        assert!(seen.starts_with(PREFACE));
        assert!(seen.ends_with(&[0, 0, 0, 0, 5, 0x0a, 3, b's', b'v', b'c']));

        let mut padded = vec![2];
        padded.extend_from_slice(&SERVING[3..]);
        padded.extend([0, 0]);
        let parts = vec![
            hello,
            frame(PING, 0, 0, &[0; 8]),
            headers,
            frame(DATA, 0, STREAM, &SERVING[..3]),
            frame(DATA, PADDED | END_STREAM, STREAM, &padded),
        ];
        ask(parts).await.0.unwrap();
    }

    #[tokio::test]
    async fn everything_else_is_failure() {
        let not_serving = frame(DATA, END_STREAM, STREAM, &[0, 0, 0, 0, 2, 8, 2]);
        assert!(ask(vec![not_serving]).await.0.is_err());
        assert!(ask(vec![frame(HEADERS, END_HEADERS | END_STREAM, STREAM, &[0x88])]).await.0.is_err());
        assert!(ask(vec![vec![0xff; 9]]).await.0.is_err());
        assert!(ask(vec![frame(DATA, PADDED, STREAM, &[9, 1])]).await.0.is_err());
        assert!(ask(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]).await.0.is_err());
        assert!(ask(Vec::new()).await.0.is_err());
    }
}
