//! As much of an HTTP/1.1 server as the sample service needs: keep-alive, pipelining, bodies with a length or in
//! chunks (RFC 9112 sections 6 and 7), `Expect: 100-continue`, HEAD.
//!
//! It stands behind a proxy that has checked the framing, so it refuses what it does not understand and closes.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// The largest request head, in bytes. Larger than the load balancer lets through.
const MAX_HEAD: usize = 128 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 200;
/// The longest line in chunked framing, in bytes.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// How long a connection may be silent, in a request or between two.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// A request that was read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// The request target as it came: path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    /// Length of the body that was read and thrown away, in bytes.
    pub(super) body_bytes: u64,
    pub(super) minor_version: u8,
}

/// What to answer.
pub(super) struct Answer {
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

enum Body {
    Length(u64),
    Chunked,
}

/// Answers the requests of a connection until it ends, or until `ending` and the request that is being read is done.
pub(super) async fn serve(
    mut stream: TcpStream,
    mut ending: watch::Receiver<bool>,
    answer: impl Fn(&Request) -> Answer,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    loop {
        if buffer.is_empty() {
            tokio::select! {
                biased;
                read = more(&mut stream, &mut buffer) => if !read? { return Ok(()) },
                _ = ending.wait_for(|ending| *ending) => return Ok(()),
            }
        }
        let Some(mut request) = read_head(&mut stream, &mut buffer).await? else { return Ok(()) };
        let Some(body) = request.framing() else { return refuse(&mut stream, "400 Bad Request").await };
        if request.expects_continue() && buffer.is_empty() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        request.body_bytes = match body {
            Body::Length(length) => skip(&mut stream, &mut buffer, length).await?,
            Body::Chunked => skip_chunks(&mut stream, &mut buffer).await?,
        };
        let keep = request.keeps_alive() && !*ending.borrow();
        stream.write_all(&response(&request, answer(&request), keep)).await?;
        if !keep {
            return stream.shutdown().await;
        }
    }
}

/// Reads more. `false`: the client has ended the connection.
async fn more(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<bool> {
    let read = timeout(SILENCE, stream.read_buf(buffer)).await.map_err(|_| io::ErrorKind::TimedOut)?;
    Ok(read? > 0)
}

/// Reads more, of what must go on.
async fn must_go_on(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<()> {
    if more(stream, buffer).await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads the head of a request. `None`: it was refused.
async fn read_head(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<Option<Request>> {
    loop {
        match parse(buffer) {
            Ok(Some((request, length))) => {
                buffer.advance(length);
                return Ok(Some(request));
            }
            Ok(None) if buffer.len() < MAX_HEAD => must_go_on(stream, buffer).await?,
            Ok(None) | Err(httparse::Error::TooManyHeaders) => {
                refuse(stream, "431 Request Header Fields Too Large").await?;
                return Ok(None);
            }
            Err(_) => {
                refuse(stream, "400 Bad Request").await?;
                return Ok(None);
            }
        }
    }
}

/// A whole head and its length; `None` if more is to come.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = parsed.parse(bytes)? else { return Ok(None) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        headers: parsed.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect(),
        body_bytes: 0,
        minor_version: parsed.version.unwrap_or(1),
    };
    Ok(Some((request, length)))
}

impl Request {
    /// Values of a header, in order.
    pub(super) fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    fn has_token(&self, header: &str, token: &str) -> bool {
        let mut tokens = self.header(header).flat_map(|value| value.split(','));
        tokens.any(|given| given.trim().eq_ignore_ascii_case(token))
    }

    /// How the body is framed; `None` if that cannot be told.
    fn framing(&self) -> Option<Body> {
        let mut codings = self.header("transfer-encoding");
        let mut lengths = self.header("content-length");
        match (codings.next(), lengths.next()) {
            (None, None) => Some(Body::Length(0)),
            (None, Some(length)) if lengths.next().is_none() => {
                let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                length.parse().ok().filter(|_| digits).map(Body::Length)
            }
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") && codings.next().is_none() => {
                Some(Body::Chunked)
            }
            _ => None,
        }
    }

    fn expects_continue(&self) -> bool {
        self.minor_version > 0 && self.has_token("expect", "100-continue")
    }

    fn keeps_alive(&self) -> bool {
        if self.minor_version == 0 {
            self.has_token("connection", "keep-alive")
        } else {
            !self.has_token("connection", "close")
        }
    }
}

/// Reads `length` bytes and throws them away.
async fn skip(stream: &mut TcpStream, buffer: &mut BytesMut, length: u64) -> io::Result<u64> {
    let mut left = length;
    loop {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        buffer.advance(take);
        left -= take as u64;
        if left == 0 {
            return Ok(length);
        }
        must_go_on(stream, buffer).await?;
    }
}

/// Reads a chunked body and its trailer and throws them away. Answers with the length of the content.
async fn skip_chunks(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<u64> {
    let mut total: u64 = 0;
    loop {
        let line = read_line(stream, buffer).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let hexadecimal = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size =
            u64::from_str_radix(size, 16).ok().filter(|_| hexadecimal).ok_or(io::ErrorKind::InvalidData)?;
        if size == 0 {
            break;
        }
        skip(stream, buffer, size).await?;
        if !read_line(stream, buffer).await?.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        total = total.saturating_add(size);
    }
    while !read_line(stream, buffer).await?.is_empty() {}
    Ok(total)
}

async fn read_line(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<String> {
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(end + 1);
            let text = String::from_utf8_lossy(&line[..end]);
            return Ok(text.strip_suffix('\r').unwrap_or(&text).to_owned());
        }
        if buffer.len() > MAX_CHUNK_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        must_go_on(stream, buffer).await?;
    }
}

fn response(request: &Request, answer: Answer, keep: bool) -> Vec<u8> {
    let Answer { content_type, body } = answer;
    let connection = match (keep, request.minor_version) {
        (false, _) => "Connection: close\r\n",
        (true, 0) => "Connection: keep-alive\r\n",
        (true, _) => "",
    };
    let length = body.len();
    let mut out = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{connection}\r\n"
    );
    if request.method != "HEAD" {
        out.push_str(&body);
    }
    out.into_bytes()
}

async fn refuse(stream: &mut TcpStream, status: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests;
