//! One HTTP/1.1 exchange over any stream: what a program does that talks through the gateway.
//!
//! ureq is for the API. It speaks no TLS here and hides the connection; the tour wants to see the connection it makes,
//! and a lease is a connection that stays open.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;

/// How long a connection may take to open, and one read or write to go on.
pub const STEP_LIMIT: Duration = Duration::from_secs(60);

/// The most header bytes of an answer.
const HEAD_LIMIT: usize = 64 * 1024;

/// The most body bytes of an answer.
const BODY_LIMIT: u64 = 16 * 1024 * 1024;

/// A request. The body is empty or JSON.
pub struct Request<'r> {
    pub method: &'r str,
    /// Path and query.
    pub target: &'r str,
    pub host: &'r str,
    pub headers: Vec<(String, String)>,
    pub body: &'r str,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

/// The head of an answer; the body is still in the reader.
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }
}

/// Where an `http://HOST:PORT` URL leads, and who it says we are.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub authority: String,
    /// `user:password`.
    pub user_info: Option<String>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Reads `http://[user:password@]host[:port][/…]`.
    pub fn parse(url: &str) -> Option<Endpoint> {
        let rest = url.strip_prefix("http://")?;
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let (user_info, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => (Some(user.to_owned()), authority),
            None => (None, authority),
        };
        let authority = if authority.rsplit_once(':').is_some() {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        Some(Endpoint { authority, user_info })
    }

    pub fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.authority));
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, STEP_LIMIT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(STEP_LIMIT))?;
                    stream.set_write_timeout(Some(STEP_LIMIT))?;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A tunnel through this HTTP proxy (RFC 9110 section 9.3.6).
    pub fn tunnel(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut stream = self.connect()?;
        let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(user) = &self.user_info {
            head += &format!(
                "Proxy-Authorization: Basic {}\r\n",
                base64::engine::general_purpose::STANDARD.encode(user)
            );
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        // Nothing follows the head of a CONNECT answer that succeeded, so byte by byte is exact and costs little.
        let mut reader = BufReader::with_capacity(1, stream.try_clone()?);
        let answer = read_head(&mut reader)?;
        match answer.status {
            200 => Ok(stream),
            status => {
                let reply = read_body(&mut reader, answer)?;
                Err(io::Error::other(format!("the gateway answered {status}: {}", reply.body.trim())))
            }
        }
    }
}

/// Sends the request and reads the whole answer.
pub fn exchange(mut stream: impl Read + Write, request: &Request<'_>) -> io::Result<Reply> {
    send(&mut stream, request)?;
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader)?;
    read_body(&mut reader, head)
}

/// Sends the request.
pub fn send(stream: &mut impl Write, request: &Request<'_>) -> io::Result<()> {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, request.target, request.host);
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !request.body.is_empty() {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", request.body.len());
    }
    stream.write_all(format!("{head}\r\n{}", request.body).as_bytes())?;
    stream.flush()
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// Reads status line and headers.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let before = bytes.len();
        reader.by_ref().take(HEAD_LIMIT as u64).read_until(b'\n', &mut bytes)?;
        if bytes.len() == before {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection ended before an answer",
            ));
        }
        if bytes.len() > HEAD_LIMIT {
            return Err(malformed("the head of the answer is too long"));
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(&bytes).map_err(|error| malformed(&error.to_string()))?;
    let pair = |h: &httparse::Header<'_>| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned());
    Ok(Head { status: response.code.unwrap_or(0), headers: response.headers.iter().map(pair).collect() })
}

/// Reads the body that the head announces.
fn read_body(reader: &mut impl BufRead, head: Head) -> io::Result<Reply> {
    let mut body = Vec::new();
    if head.is_chunked() {
        while let Some(chunk) = read_chunk(reader)? {
            body.extend(chunk);
            if body.len() as u64 > BODY_LIMIT {
                return Err(malformed("the answer is too long"));
            }
        }
    } else if let Some(length) = head.header("content-length") {
        let length: u64 = length.parse().map_err(|_| malformed("the length of the answer is no number"))?;
        reader.by_ref().take(length.min(BODY_LIMIT)).read_to_end(&mut body)?;
    } else if !matches!(head.status, 204 | 304) {
        reader.by_ref().take(BODY_LIMIT).read_to_end(&mut body)?;
    }
    Ok(Reply { status: head.status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The next chunk; `None` at the end.
fn read_chunk(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    reader.by_ref().take(1024).read_line(&mut line)?;
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = u64::from_str_radix(size, 16).map_err(|_| malformed("a chunk has no size"))?;
    if size > BODY_LIMIT {
        return Err(malformed("a chunk is too long"));
    }
    let mut chunk = Vec::new();
    reader.by_ref().take(size + 2).read_to_end(&mut chunk)?;
    chunk.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    Ok((size > 0).then_some(chunk))
}

/// Reads the first line of a body that stays open, and leaves the rest.
pub fn read_first_line(reader: &mut impl BufRead, head: &Head) -> io::Result<String> {
    if head.is_chunked() {
        let chunk = read_chunk(reader)?.unwrap_or_default();
        return Ok(String::from_utf8_lossy(&chunk).into_owned());
    }
    if let Some(length) = head.header("content-length").and_then(|length| length.parse::<u64>().ok()) {
        let mut text = String::new();
        reader.by_ref().take(length.min(BODY_LIMIT)).read_to_string(&mut text)?;
        return Ok(text);
    }
    let mut line = String::new();
    reader.by_ref().take(BODY_LIMIT).read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> io::Result<Reply> {
        let mut reader = BufReader::new(text.as_bytes());
        let head = read_head(&mut reader)?;
        read_body(&mut reader, head)
    }

    #[test]
    fn bodies_of_every_kind() {
        assert_eq!(reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc").unwrap().body, "ab");
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n";
        assert_eq!(reply(chunked).unwrap().body, "abc");
        assert_eq!(reply("HTTP/1.1 404 No\r\n\r\nuntil the end").unwrap().body, "until the end");
        assert_eq!(reply("HTTP/1.1 204 No\r\n\r\nrest").unwrap().body, "");
        assert!(reply("HTTP/1.1 200").is_err());
        assert!(reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").is_err());
    }

    #[test]
    fn endpoints() {
        let endpoint = Endpoint::parse("http://vm-1:x@127.0.0.1:9/").unwrap();
        assert_eq!(
            (endpoint.authority.as_str(), endpoint.user_info.as_deref()),
            ("127.0.0.1:9", Some("vm-1:x"))
        );
        assert!(!format!("{endpoint:?}").contains("vm-1"));
        assert_eq!(Endpoint::parse("http://h").unwrap().authority, "h:80");
        assert_eq!(Endpoint::parse("ftp://h"), None);
    }
}
