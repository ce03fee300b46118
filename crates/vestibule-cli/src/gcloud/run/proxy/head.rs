//! The head of a request on its way through the proxy.

use crate::secret::Secret;

/// Longest head of a request, bytes. Cloud Run's own limit for all header fields together is 64 KiB.
pub(super) const LIMIT: usize = 64 * 1024;
/// Most header fields of a request.
const MAX_FIELDS: usize = 200;

/// What became of a head so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There is more to come.
    Partial,
    /// No request of HTTP/1.1.
    Bad,
    /// The bytes of it that were the head, and the head to send on.
    Whole(usize, Vec<u8>),
}

/// Reads the head of a request, and makes the one to send on: for the service's host, with the token, and for one request
/// a connection.
///
/// One request a connection, because what follows the head is passed on unseen: the service ends the connection after its
/// answer, and so nothing that a client might have hidden in a body is ever taken for a request of its own.
pub(super) fn rewrite(bytes: &[u8], host: &str, token: &Secret) -> Read {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < LIMIT => return Read::Partial,
        _ => return Read::Bad,
    };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else {
        return Read::Bad;
    };
    // Absolute targets are for proxies of another kind.
    if !target.starts_with('/') && target != "*" {
        return Read::Bad;
    }
    let named = |name: &str| request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let upgrade = named("upgrade").is_some();
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
    const OURS: [&str; 5] = ["host", "authorization", "connection", "keep-alive", "proxy-connection"];
    for field in request.headers.iter() {
        if !OURS.iter().any(|ours| field.name.eq_ignore_ascii_case(ours)) {
            head.extend([field.name.as_bytes(), b": ", field.value, b"\r\n"].concat());
        }
    }
    let connection = if upgrade { "Upgrade" } else { "close" };
    let ours = format!("Connection: {connection}\r\nAuthorization: Bearer {}\r\n\r\n", token.reveal());
    head.extend(ours.into_bytes());
    Read::Whole(length, head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn through(request: &str) -> Option<String> {
        match rewrite(request.as_bytes(), "svc.run.app", &Secret::new("t")) {
            Read::Whole(length, head) => Some(String::from_utf8(head).unwrap() + &request[length..]),
            _ => None,
        }
    }

    #[test]
    fn a_request_gets_host_and_token() {
        let sent = "POST /a?b HTTP/1.1\r\nHost: localhost:8080\r\nAuthorization: Basic x\r\nConnection: keep-alive\r\n\
                    Content-Length: 2\r\n\r\nhi";
        let expected = "POST /a?b HTTP/1.1\r\nHost: svc.run.app\r\nContent-Length: 2\r\nConnection: close\r\n\
                        Authorization: Bearer t\r\n\r\nhi";
        assert_eq!(through(sent).unwrap(), expected);
        let upgraded =
            through("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert!(upgraded.unwrap().contains("Upgrade: websocket\r\nConnection: Upgrade\r\n"));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            "\0\0\0\0",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
        ] {
            assert_eq!(rewrite(bad.as_bytes(), "h", &Secret::new("t")), Read::Bad, "{bad}");
        }
        assert_eq!(rewrite(b"GET / HTTP/1.1\r\nHo", "h", &Secret::new("t")), Read::Partial);
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(LIMIT));
        assert_eq!(rewrite(long.as_bytes(), "h", &Secret::new("t")), Read::Bad);
    }

    proptest! {
        #[test]
        fn whatever_comes_there_is_one_token(name in "[A-Za-z-]{1,16}", value in "[ -~]{0,32}") {
            let sent = format!("GET / HTTP/1.1\r\n{name}: {value}\r\nauthorization: Bearer theirs\r\n\r\n");
            if let Some(head) = through(&sent) {
                let tokens = head.to_lowercase().lines().filter(|line| line.starts_with("authorization:")).count();
                prop_assert_eq!(tokens, 1);
                prop_assert_eq!(head.to_lowercase().lines().filter(|line| line.starts_with("host:")).count(), 1);
            }
        }
    }
}
