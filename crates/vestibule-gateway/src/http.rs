//! HTTP proxying: CONNECT tunnels, and requests in absolute form, one a connection.
//!
//! A request in absolute form goes on in origin form with `Connection: close`, so that the next request of the client,
//! which may name another host, comes on a connection of its own. That costs a connection a request and keeps the
//! gateway out of the bodies.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use vestibule_vpc::Vpc;

use crate::dial::{Unreachable, dial};
use crate::{HANDSHAKE_TIMEOUT, World, timeout};

/// The largest request head that is read, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// The most header fields in a head.
const MAX_HEADERS: usize = 100;
const HTTP_PORT: u16 = 80;

/// What a proxy request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    host: String,
    port: u16,
    user: Option<String>,
    /// The head to send on; `None` for a CONNECT tunnel.
    forward: Option<Vec<u8>>,
}

/// A request the gateway answers itself.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    BadRequest(&'static str),
    TooLarge,
}

/// Serves one HTTP proxy connection to its end.
pub async fn serve(stream: &mut TcpStream, vpc: &Vpc, world: &dyn World) -> io::Result<()> {
    let (head, rest) = match timeout(HANDSHAKE_TIMEOUT, read_head(stream)).await? {
        Ok(read) => read,
        Err(Refusal::TooLarge) => return answer(stream, "431 Request Header Fields Too Large", "").await,
        Err(Refusal::BadRequest(why)) => return answer(stream, "400 Bad Request", why).await,
    };
    let request = match parse(&head) {
        Ok(request) => request,
        Err(Refusal::BadRequest(why)) => return answer(stream, "400 Bad Request", why).await,
        Err(Refusal::TooLarge) => return answer(stream, "431 Request Header Fields Too Large", "").await,
    };
    let Some(client) = world.client(request.user.as_deref()) else {
        let why = "name a VPC network as the proxy's user name, as in http://NETWORK@HOST:PORT";
        return answer(stream, "407 Proxy Authentication Required\r\nproxy-authenticate: Basic", why).await;
    };
    let mut upstream = match dial(vpc, world, &client, &request.host, request.port).await {
        Ok(upstream) => upstream,
        Err(error) => return unreachable(stream, &error).await,
    };
    match request.forward {
        None => stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        Some(head) => upstream.write_all(&head).await?,
    }
    upstream.write_all(&rest).await?;
    copy_bidirectional(stream, &mut upstream).await.map(drop)
}

async fn unreachable(stream: &mut TcpStream, error: &Unreachable) -> io::Result<()> {
    let status = match error {
        Unreachable::Connect(e) if e.kind() == io::ErrorKind::TimedOut => "504 Gateway Timeout",
        _ => "502 Bad Gateway",
    };
    answer(stream, status, &error.to_string()).await
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await
}

/// Reads up to the empty line; what came after it is the start of the body.
async fn read_head(stream: &mut TcpStream) -> io::Result<Result<(Vec<u8>, Vec<u8>), Refusal>> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok(Ok((bytes, rest)));
        }
        if bytes.len() > MAX_HEAD {
            return Ok(Err(Refusal::TooLarge));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(Err(Refusal::BadRequest("the connection ended inside the request head")));
        }
    }
}

fn parse(head: &[u8]) -> Result<Request, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
        _ => return Err(Refusal::BadRequest("the request head is malformed")),
    }
    let method = parsed.method.unwrap_or_default();
    let target = parsed.path.unwrap_or_default();
    let user = proxy_user(parsed.headers);
    if method == "CONNECT" {
        let (host, port) = split_authority(target, None)?;
        return Ok(Request { host, port, user, forward: None });
    }
    let Some(rest) = strip_scheme(target) else {
        return Err(Refusal::BadRequest("this is a proxy: send a request in absolute form, or CONNECT"));
    };
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    let (host, port) = split_authority(authority, Some(HTTP_PORT))?;
    let forward = Some(origin_form(method, authority, path, parsed.headers));
    Ok(Request { host, port, user, forward })
}

fn strip_scheme(target: &str) -> Option<&str> {
    const SCHEME: &str = "http://";
    let head = target.get(..SCHEME.len())?;
    head.eq_ignore_ascii_case(SCHEME).then(|| &target[SCHEME.len()..])
}

fn split_authority(authority: &str, default_port: Option<u16>) -> Result<(String, u16), Refusal> {
    let bad = Refusal::BadRequest("the request names no host and port");
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, default_port),
    };
    match port {
        Some(port) if !host.is_empty() && !host.contains(['@', '[']) => Ok((host.to_owned(), port)),
        _ => Err(bad),
    }
}

/// The head as the destination must see it: no word of the proxy, and the end of the connection after it. A request
/// to upgrade keeps its `Connection` field, because the tunnel that follows ends the connection anyway.
///
/// The client's `Host` stays, although RFC 9112 section 3.2.2 has a proxy replace it by the target's authority: the
/// gateway stands for the client's own network, and `curl -H "Host: name" http://ADDRESS/` must arrive as it would there.
fn origin_form(method: &str, authority: &str, path: &str, headers: &[httparse::Header<'_>]) -> Vec<u8> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let host = headers
        .iter()
        .find(|h| h.name.eq_ignore_ascii_case("host"))
        .map_or(authority.as_bytes(), |h| h.value);
    let mut head = format!("{method} {slash}{path} HTTP/1.1\r\nHost: ").into_bytes();
    head.extend_from_slice(host);
    head.extend_from_slice(b"\r\n");
    let upgrades = headers.iter().any(|h| h.name.eq_ignore_ascii_case("upgrade"));
    for header in headers {
        let own = ["host", "proxy-authorization", "proxy-connection"];
        let replaced =
            !upgrades && ["connection", "keep-alive"].iter().any(|n| header.name.eq_ignore_ascii_case(n));
        if replaced || own.iter().any(|n| header.name.eq_ignore_ascii_case(n)) {
            continue;
        }
        head.extend_from_slice(header.name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(header.value);
        head.extend_from_slice(b"\r\n");
    }
    if !upgrades {
        head.extend_from_slice(b"Connection: close\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The user name of `Proxy-Authorization: Basic` (RFC 7617).
fn proxy_user(headers: &[httparse::Header<'_>]) -> Option<String> {
    let value = headers.iter().find(|h| h.name.eq_ignore_ascii_case("proxy-authorization"))?.value;
    let (scheme, encoded) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    Some(pair.split_once(':').map_or(pair.as_str(), |(user, _)| user).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(head: &str) -> Result<Request, Refusal> {
        parse(head.as_bytes())
    }

    #[test]
    fn connect_names_host_port_and_user() {
        let user = STANDARD.encode("vm-1:secret");
        let head = format!("CONNECT api.example:443 HTTP/1.1\r\nProxy-Authorization: basic {user}\r\n\r\n");
        let expected =
            Request { host: "api.example".into(), port: 443, user: Some("vm-1".into()), forward: None };
        assert_eq!(parsed(&head), Ok(expected));
    }

    #[test]
    fn an_absolute_request_goes_on_in_origin_form_and_closes() {
        let head = "GET http://10.0.0.100/a?b HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\nX: 1\r\n\r\n";
        let request = parsed(head).unwrap();
        assert_eq!((request.host.as_str(), request.port), ("10.0.0.100", 80));
        let forward = String::from_utf8(request.forward.unwrap()).unwrap();
        assert_eq!(forward, "GET /a?b HTTP/1.1\r\nHost: other\r\nX: 1\r\nConnection: close\r\n\r\n");
    }

    #[test]
    fn a_query_without_a_path_gets_one() {
        let forward = parsed("GET http://h:8080?q HTTP/1.1\r\n\r\n").unwrap().forward.unwrap();
        assert!(forward.starts_with(b"GET /?q HTTP/1.1\r\nHost: h:8080\r\n"));
    }

    #[test]
    fn an_upgrade_keeps_its_connection_field() {
        let head = "GET http://h/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let forward = String::from_utf8(parsed(head).unwrap().forward.unwrap()).unwrap();
        assert!(forward.contains("Connection: Upgrade\r\n") && !forward.contains("close"));
    }

    #[test]
    fn what_is_not_a_proxy_request_is_refused() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET ftp://h/ HTTP/1.1\r\n\r\n",
            "CONNECT h HTTP/1.1\r\n\r\n",
            "GET http://:80/ HTTP/1.1\r\n\r\n",
            "\0\0\r\n\r\n",
        ] {
            assert!(matches!(parsed(head), Err(Refusal::BadRequest(_))), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(head in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&head);
        }
    }
}
