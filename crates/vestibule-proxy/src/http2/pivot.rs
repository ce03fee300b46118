//! Heads of HTTP/2 as the text of HTTP/1.1, and back.
//!
//! What comes in goes through the strict parser of `vestibule-http1` afterwards, so here is checked only what that
//! parser cannot see: a line end inside a value would be a second line to it, and a target that is not a path could be
//! a whole URL. What goes out was written by this crate or checked by that parser.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, request};
use vestibule_http1::encode;

/// A message that HTTP/2 calls malformed (RFC 9113 section 8.1.1): the stream it came on ends, and nothing of it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends a request's head. `ended`: no body follows.
pub(crate) fn write_request(out: &mut Vec<u8>, parts: &request::Parts, ended: bool) -> Result<(), Malformed> {
    if parts.extensions.get::<Protocol>().is_some() {
        // Extended CONNECT is not offered.
        return Err(Malformed);
    }
    let host = host(parts)?;
    encode::request_line(out, parts.method.as_str(), target(parts)?);
    encode::field(out, b"host", host);
    write_fields(out, &parts.headers)?;
    if !ended && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        encode::chunked(out);
    }
    encode::end_of_head(out);
    Ok(())
}

/// `:path`, or what a `CONNECT` names.
fn target(parts: &request::Parts) -> Result<&str, Malformed> {
    if parts.method == Method::CONNECT {
        return parts.uri.authority().map(|authority| authority.as_str()).ok_or(Malformed);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let is_path = path.starts_with('/') || (path == "*" && parts.method == Method::OPTIONS);
    if is_path && !path.bytes().any(|b| b <= b' ') { Ok(path) } else { Err(Malformed) }
}

/// `:authority`, or `host` where a client sends only that; they must not differ (RFC 9113 section 8.3.1).
fn host(parts: &request::Parts) -> Result<&[u8], Malformed> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let field = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(Malformed);
    }
    match (parts.uri.authority().map(|authority| authority.as_str().as_bytes()), field) {
        (Some(authority), None) => Ok(authority),
        (Some(authority), Some(host)) if host.eq_ignore_ascii_case(authority) => Ok(authority),
        (None, Some(host)) if is_line(host) => Ok(host),
        _ => Err(Malformed),
    }
}

fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), Malformed> {
    for (name, value) in fields {
        if !is_line(value.as_bytes()) || is_of_connection(name) {
            return Err(Malformed);
        }
        if name != header::HOST && name != header::COOKIE {
            encode::field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    write_cookies(out, fields);
    Ok(())
}

/// HTTP/2 may cut a cookie into several fields; elsewhere it is one (RFC 9113 section 8.2.3).
fn write_cookies(out: &mut Vec<u8>, fields: &HeaderMap) {
    let mut lead: &[u8] = b"cookie: ";
    for crumb in fields.get_all(header::COOKIE) {
        out.extend_from_slice(std::mem::replace(&mut lead, b"; "));
        out.extend_from_slice(crumb.as_bytes());
    }
    if lead == b"; " {
        out.extend_from_slice(b"\r\n");
    }
}

/// May stand as the value of a field: one line, without white space around it (RFC 9113 section 8.2.1).
fn is_line(value: &[u8]) -> bool {
    encode::is_safe_value(value)
}

/// Means a connection of HTTP/1.1, and must not be in a message of HTTP/2 (RFC 9113 section 8.2.2).
fn is_of_connection(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || name.as_str() == "keep-alive"
        || name.as_str() == "proxy-connection"
}

/// Appends a response's head. `ended`: no body follows.
pub(crate) fn write_response(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &HeaderMap,
) -> Result<(), Malformed> {
    // No switching of protocols in HTTP/2 (RFC 9113 section 8.6).
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Malformed);
    }
    encode::status_line(out, status.as_u16(), b"");
    write_fields(out, fields)?;
    encode::end_of_head(out);
    Ok(())
}

/// The lines of a head that this crate wrote, without its first.
struct Lines {
    text: Bytes,
    at: usize,
}

impl Lines {
    /// The next name and value; `None` at the end of the head.
    fn next(&mut self) -> Option<(HeaderName, HeaderValue)> {
        loop {
            let line = &self.text[self.at..];
            let length = memchr::memchr(b'\r', line)?;
            if length == 0 {
                return None;
            }
            let colon = memchr::memchr(b':', &line[..length])?;
            let name = HeaderName::from_bytes(&line[..colon]);
            let value = self.text.slice((self.at + colon + 2).min(self.at + length)..self.at + length);
            self.at += length + 2;
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value))
                && !is_of_connection(&name)
            {
                return Some((name, value));
            }
        }
    }
}

/// Splits a head at the end of its first line. The lines share one allocation.
fn lines(text: &[u8]) -> Lines {
    let head = memchr::memmem::find(text, b"\r\n\r\n").map_or(text.len(), |end| end + 4);
    let first = memchr::memchr(b'\n', &text[..head]).map_or(head, |end| end + 1);
    Lines { text: Bytes::copy_from_slice(&text[first..head]), at: 0 }
}

/// Fields that most heads have room for.
const USUAL_FIELDS: usize = 16;

/// A response whose head this crate wrote, and where its body stands in `text`. What is of a connection is left out.
pub(crate) fn read_response(text: &[u8]) -> (Response<()>, usize) {
    // `HTTP/1.1 200 …`
    let status = text.get(9..12).and_then(|status| StatusCode::from_bytes(status).ok());
    let body = memchr::memmem::find(text, b"\r\n\r\n").map_or(text.len(), |end| end + 4);
    let mut response = Response::new(());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut fields = HeaderMap::with_capacity(USUAL_FIELDS);
    let mut lines = lines(&text[..body]);
    while let Some((name, value)) = lines.next() {
        fields.append(name, value);
    }
    *response.headers_mut() = fields;
    (response, body)
}

/// A request whose head this crate wrote, for a backend, and where its body stands in `text`.
pub(crate) fn read_request(text: &[u8], https: bool) -> Result<(Request<()>, usize), Malformed> {
    let body = memchr::memmem::find(text, b"\r\n\r\n").map_or(text.len(), |end| end + 4);
    let mut words = text[..body].split(|&b| b == b' ');
    let method = words.next().and_then(|method| Method::from_bytes(method).ok()).ok_or(Malformed)?;
    let target = words.next().ok_or(Malformed)?;
    let mut fields = HeaderMap::with_capacity(USUAL_FIELDS);
    let mut lines = lines(&text[..body]);
    let mut authority = None;
    while let Some((name, value)) = lines.next() {
        match name {
            header::HOST => authority = Some(value),
            header::EXPECT => {}
            name => drop(fields.append(name, value)),
        }
    }
    let mut request = Request::new(());
    let authority = authority.as_ref().map(HeaderValue::as_bytes).ok_or(Malformed)?;
    let scheme = if https { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(target);
    *request.uri_mut() = uri.build().map_err(|_| Malformed)?;
    *request.method_mut() = method;
    *request.headers_mut() = fields;
    Ok((request, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(request: Request<()>, ended: bool) -> Result<String, Malformed> {
        let mut out = Vec::new();
        write_request(&mut out, &request.into_parts().0, ended)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_request_becomes_text() {
        let request = Request::post("https://a.b:1/c?d").header("cookie", "x=1").header("k", "v");
        let request = request.header("cookie", "y=2").header("host", "A.b:1").body(()).unwrap();
        assert_eq!(
            text(request, false).unwrap(),
            "POST /c?d HTTP/1.1\r\nhost: a.b:1\r\nk: v\r\ncookie: x=1; y=2\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let request = Request::get("https://a/").header("content-length", "0").body(()).unwrap();
        assert_eq!(text(request, true).unwrap(), "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        let request = Request::options("*").header("host", "a").body(()).unwrap();
        assert_eq!(text(request, true).unwrap(), "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    }

    #[test]
    fn what_another_version_would_read_differently_is_malformed() {
        for (name, value) in [
            ("host", "b"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "1"),
            ("x", " a"),
            ("x", "a\t"),
        ] {
            let request = Request::get("https://a/").header(name, value).body(()).unwrap();
            assert_eq!(text(request, true), Err(Malformed), "{name}: {value}");
        }
        assert_eq!(text(Request::get("/").body(()).unwrap(), true), Err(Malformed));
        let twice = Request::get("/").header("host", "a").header("host", "a").body(()).unwrap();
        assert_eq!(text(twice, true), Err(Malformed));
    }

    #[test]
    fn a_response_comes_out_of_text() {
        let text =
            b"HTTP/1.1 404 Not Found\r\na: 1\r\nconnection: close\r\na: \r\ntransfer-encoding: chunked\r\n\
                     via: 1.1 google\r\n\r\nbody\r\n\r\n";
        let (response, body) = read_response(text);
        assert_eq!((response.status().as_u16(), &text[body..]), (404, &b"body\r\n\r\n"[..]));
        let fields: Vec<_> = response.headers().iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        assert_eq!(fields, [("a", &b"1"[..]), ("a", b""), ("via", b"1.1 google")]);
    }

    #[test]
    fn a_request_comes_out_of_text() {
        let text = b"PUT /a?b HTTP/1.1\r\nhost: c:1\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\nxy";
        let (request, body) = read_request(text, false).unwrap();
        assert_eq!(request.uri(), "http://c:1/a?b");
        assert_eq!((request.method(), request.headers().len(), &text[body..]), (&Method::PUT, 1, &b"xy"[..]));
    }

    #[test]
    fn a_response_becomes_text() {
        let mut out = Vec::new();
        let fields = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("e"))]);
        write_response(&mut out, StatusCode::OK, &fields).unwrap();
        assert_eq!(out, b"HTTP/1.1 200 OK\r\netag: e\r\n\r\n");
        assert_eq!(write_response(&mut out, StatusCode::SWITCHING_PROTOCOLS, &fields), Err(Malformed));
    }
}
