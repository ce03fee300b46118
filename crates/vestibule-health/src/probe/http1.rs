//! A GET over HTTP/1.1, as far as a probe needs it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::check::{BODY, Http};

/// Bytes of an answer's head before it is given up.
const MAX_HEAD: usize = 16 * 1024;

/// Header lines of an answer.
const MAX_FIELDS: usize = 100;

/// Who asks, as Google's probers call themselves.
pub(super) const AGENT: &str = "GoogleHC/1.0";

/// Asks; anything but 200 is an error, and so is a body without the expected text.
pub(super) async fn get(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    http: &Http,
    host: &str,
) -> io::Result<()> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {AGENT}\r\nConnection: close\r\n\r\n",
        http.path
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut buffer = Vec::with_capacity(2048);
    let head = loop {
        if let Some(head) = head_of(&buffer)? {
            break head;
        }
        if buffer.len() > MAX_HEAD || stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::other("no HTTP response"));
        }
    };
    if http.response.is_empty() {
        return Ok(());
    }
    buffer.drain(..head);
    // A body in chunks is looked through as it comes: what is expected is short, and rarely split.
    while !holds(&buffer, &http.response) {
        if buffer.len() >= BODY || stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::other("the body does not hold the expected text"));
        }
    }
    Ok(())
}

/// The length of a complete head whose status is 200.
fn head_of(buffer: &[u8]) -> io::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(buffer).map_err(io::Error::other)? {
        httparse::Status::Complete(length) => match response.code {
            Some(200) => Ok(Some(length)),
            status => Err(io::Error::other(format!("status {}", status.unwrap_or_default()))),
        },
        httparse::Status::Partial => Ok(None),
    }
}

/// The expected text stands in the first bytes that count.
pub(super) fn holds(body: &[u8], text: &str) -> bool {
    body[..body.len().min(BODY)].windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_will_do() {
        assert_eq!(head_of(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody").unwrap(), Some(25));
        assert_eq!(head_of(b"HTTP/1.1 200 OK\r\nA: b\r\n").unwrap(), None);
        for bad in [
            "HTTP/1.1 204 No\r\n\r\n",
            "HTTP/1.1 301 Moved\r\n\r\n",
            "HTTP/1.1 503 No\r\n\r\n",
            "SSH-2.0\r\n",
        ] {
            assert!(head_of(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_text_must_come_early() {
        assert!(holds(b"all is ok here", "ok"));
        let late = [vec![b'x'; BODY - 1], b"ok".to_vec()].concat();
        assert!(!holds(&late, "ok"));
    }
}
