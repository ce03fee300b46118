//! Messages with two readings, and other malformed heads: each is refused, for its own reason.

use vestibule_http1::{Error, Kind, Method, RequestHead, ResponseHead, Side, limits};

fn request(bytes: &[u8]) -> Result<Option<usize>, Error> {
    RequestHead::default().parse(&mut bytes.to_vec())
}

fn kind(bytes: &[u8]) -> Kind {
    request(bytes).expect_err(&String::from_utf8_lossy(bytes)).kind
}

/// A request with these extra lines.
fn with(lines: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes()
}

#[test]
fn framing_with_two_readings() {
    for (lines, expected) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", Kind::LengthAndEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", Kind::LengthAndEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", Kind::LengthAndEncoding),
        ("Transfer-Encoding: xchunked\r\nContent-Length: 5", Kind::LengthAndEncoding),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", Kind::BadTransferEncoding),
        ("Content-Length: 5\r\nContent-Length: 6", Kind::SeveralContentLengths),
        ("Content-Length: 5\r\nContent-Length: 5", Kind::SeveralContentLengths),
        ("Content-Length: 5, 5", Kind::SeveralContentLengths),
        ("Content-Length: +5", Kind::BadContentLength),
        ("Content-Length: -1", Kind::BadContentLength),
        ("Content-Length: 0x5", Kind::BadContentLength),
        ("Content-Length:", Kind::BadContentLength),
        ("Content-Length: 18446744073709551616", Kind::BadContentLength),
        ("Transfer-Encoding: xchunked", Kind::UnsupportedTransferCoding),
        ("Transfer-Encoding: identity", Kind::UnsupportedTransferCoding),
        ("Transfer-Encoding: gzip, chunked", Kind::UnsupportedTransferCoding),
        ("Transfer-Encoding: chunked, chunked", Kind::BadTransferEncoding),
        ("Transfer-Encoding: ,chunked", Kind::BadTransferEncoding),
        ("Transfer-Encoding: \x0bchunked", Kind::BadFieldValue),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Kind::BadTransferEncoding),
        ("Transfer-Encoding : chunked", Kind::BadFieldName),
        ("Transfer-Encoding:\r\n chunked", Kind::FoldedLine),
        ("X: a\r\n chunked", Kind::FoldedLine),
    ] {
        assert_eq!(kind(&with(lines)), expected, "{lines:?}");
    }
}

#[test]
fn lines_and_names() {
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..], Kind::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Kind::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Kind::BareLineFeed),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Kind::BareLineFeed),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Kind::LeadingEmptyLines),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Kind::FoldedLine),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Kind::BadFieldName),
        (b"GET / HTTP/1.1\r\n: a\r\n\r\n", Kind::BadFieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: a\r\n\r\n", Kind::BadFieldName),
        (b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Kind::BadFieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", Kind::BadFieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: a b\r\n\r\n", Kind::BadConnection),
    ] {
        assert_eq!(kind(bytes), expected, "{bytes:?}");
    }
    assert!(matches!(request(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Some(_))));
}

#[test]
fn first_lines() {
    for (line, expected, status) in [
        ("GET /", Kind::BadRequestLine, 400),
        ("GET", Kind::BadRequestLine, 400),
        ("GET  / HTTP/1.1", Kind::BadTarget, 400),
        ("GET / HTTP/1.1 ", Kind::BadVersion, 400),
        ("GET /\tHTTP/1.1", Kind::BadRequestLine, 400),
        ("GET\t/ HTTP/1.1", Kind::BadMethod, 400),
        ("G(T / HTTP/1.1", Kind::BadMethod, 400),
        ("GET / HTTP/1.32", Kind::BadVersion, 400),
        ("GET / http/1.1", Kind::BadVersion, 400),
        ("GET / HTTP/1", Kind::BadVersion, 400),
        ("GET / HTTP/2.0", Kind::UnsupportedVersion, 505),
        ("PRI * HTTP/2.0", Kind::UnsupportedVersion, 505),
        ("GET / HTTP/0.9", Kind::UnsupportedVersion, 505),
        ("GET / HTTP/1.0", Kind::OldVersion, 426),
        ("GET /a b HTTP/1.1", Kind::BadTarget, 400),
        ("GET /a#b HTTP/1.1", Kind::BadTarget, 400),
        ("GET /a\x01 HTTP/1.1", Kind::BadTarget, 400),
        ("GET /\u{e9} HTTP/1.1", Kind::BadTarget, 400),
        ("GET a HTTP/1.1", Kind::BadTarget, 400),
        ("GET * HTTP/1.1", Kind::BadTarget, 400),
        ("GET http://u@a/ HTTP/1.1", Kind::BadTarget, 400),
        ("CONNECT / HTTP/1.1", Kind::BadTarget, 400),
    ] {
        let error = request(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).expect_err(line);
        assert_eq!((error.kind, error.status(), error.side), (expected, status, Side::Client), "{line:?}");
    }
}

#[test]
fn hosts() {
    for (lines, expected) in [
        ("X: y", Kind::MissingHost),
        ("Host: a\r\nHost: a", Kind::SeveralHosts),
        ("Host:", Kind::BadHost),
        ("Host: a b", Kind::BadHost),
        ("Host: a/b", Kind::BadHost),
        ("Host: a, b@c", Kind::BadHost),
        ("Host: a:b", Kind::BadHost),
    ] {
        assert_eq!(kind(format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes()), expected, "{lines:?}");
    }
    let mut bytes = b"GET http://b:8/x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let mut head = RequestHead::default();
    assert_eq!(head.parse(&mut bytes), Ok(Some(bytes.len())));
    assert_eq!((head.view(&bytes).authority(), head.view(&bytes).path_and_query()), ("b:8", "/x"));
}

#[test]
fn sizes() {
    let long = vec![b'a'; limits::MAX_REQUEST_LINE_BYTES];
    let error = request(&[b"GET /", &long[..]].concat()).unwrap_err();
    assert_eq!((error.kind, error.status()), (Kind::RequestLineTooLong, 414));

    let fields = "x: y\r\n".repeat(limits::MAX_FIELDS - 1);
    assert!(request(&with(fields.trim_end())).is_ok());
    let error = request(&with(&(fields + "z: y"))).unwrap_err();
    assert_eq!((error.kind, error.status()), (Kind::TooManyFields, 431));

    let huge = "y".repeat(limits::MAX_HEAD_BYTES);
    let error = request(&with(&format!("x: {huge}"))).unwrap_err();
    assert_eq!((error.kind, error.status()), (Kind::HeadTooLarge, 431));
    // One byte less than too many is accepted.
    let start = "GET / HTTP/1.1\r\nHost: a\r\nx: ";
    let fits = format!("{start}{}\r\n\r\n", &huge[start.len() + 4..]);
    assert_eq!(request(fits.as_bytes()), Ok(Some(limits::MAX_HEAD_BYTES)));
}

#[test]
fn what_is_no_http_is_told_at_its_first_byte() {
    assert_eq!(kind(b"\x16\x03\x01"), Kind::BadMethod);
    assert_eq!(request(b"G"), Ok(None));
}

#[test]
fn expectations() {
    assert_eq!(request(&with("Expect: 200-ok")).unwrap_err().status(), 417);
    assert!(request(&with("Expect: 100-Continue")).is_ok());
}

#[test]
fn responses() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        "HTTP/1.1 200 OK\nX: y\n\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",
        "HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let error = ResponseHead::default().parse(&mut head.as_bytes().to_vec()).expect_err(head);
        assert_eq!((error.side, error.status()), (Side::Upstream, 502), "{head:?}");
    }
    let mut huge = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    huge.resize(200 * 1024, b'y');
    assert_eq!(ResponseHead::default().parse(&mut huge).unwrap_err().kind, Kind::HeadTooLarge);
}

#[test]
fn a_connection_field_names_what_ends_here_but_never_the_host() {
    let mut bytes = with("X-Auth: 1\r\nConnection: X-AUTH, host, content-length, close\r\nX-Other: 2");
    let mut head = RequestHead::default();
    head.parse(&mut bytes).unwrap();
    let view = head.view(&bytes);
    let nominated: Vec<&[u8]> =
        view.fields().iter().filter(|f| f.nominated).map(|f| f.name.of(&bytes)).collect();
    assert_eq!(nominated, [b"x-auth"]);
    assert!(view.connection().close);
    assert_eq!(view.authority(), "a");
    assert_eq!(view.method(), Method::Post);
}
