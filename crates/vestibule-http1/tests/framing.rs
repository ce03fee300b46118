//! Where bodies end, in both roles.

use vestibule_http1::{Framing, Method, RequestHead, ResponseHead};

fn request(head: &str) -> Framing {
    let mut bytes = head.as_bytes().to_vec();
    let mut parsed = RequestHead::default();
    assert_eq!(parsed.parse(&mut bytes), Ok(Some(bytes.len())));
    parsed.view(&bytes).framing()
}

fn response(head: &str, asked: Method) -> (Framing, bool) {
    let mut bytes = head.as_bytes().to_vec();
    let mut parsed = ResponseHead::default();
    assert_eq!(parsed.parse(&mut bytes), Ok(Some(bytes.len())), "{head:?}");
    let view = parsed.view(&bytes);
    (view.framing(asked), view.keeps_alive())
}

#[test]
fn requests() {
    assert_eq!(request("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Framing::Empty);
    assert_eq!(request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), Framing::Empty);
    assert_eq!(request("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n"), Framing::Length(7));
    assert_eq!(request("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"), Framing::Chunked);
}

#[test]
fn responses() {
    for (head, asked, framing, keeps_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Method::Get, Framing::Length(3), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Method::Head, Framing::Empty, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Head, Framing::Empty, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", Method::Get, Framing::Empty, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", Method::Get, Framing::Empty, true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Method::Get, Framing::Empty, true),
        ("HTTP/1.1 999 Denied\r\nContent-Length: 3\r\n\r\n", Method::Get, Framing::Length(3), true),
        ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", Method::Get, Framing::Empty, true),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Get, Framing::Chunked, true),
        ("HTTP/1.1 200 \r\nConnection: close\r\n\r\n", Method::Get, Framing::UntilClose, false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", Method::Get, Framing::Length(3), false),
        (
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\n",
            Method::Get,
            Framing::Length(3),
            true,
        ),
    ] {
        assert_eq!(response(head, asked), (framing, keeps_alive), "{head:?}");
    }
}

#[test]
fn an_upgrade_needs_both_fields() {
    let mut head = RequestHead::default();
    for (lines, expected) in [
        ("Connection: Upgrade\r\nUpgrade: websocket", Some(&b"websocket"[..])),
        ("Upgrade: websocket", None),
        ("Connection: upgrade", None),
    ] {
        let mut bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes();
        head.clear();
        head.parse(&mut bytes).unwrap();
        assert_eq!(head.view(&bytes).upgrade(), expected, "{lines}");
    }
}
