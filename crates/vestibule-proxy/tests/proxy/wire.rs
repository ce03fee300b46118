//! Raw HTTP over a socket, for both ends of a test: nothing here corrects what a test sends or forgives what it gets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// How long a test waits for bytes before it fails. Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A socket with what was read of it.
pub struct Wire<S = TcpStream> {
    pub stream: S,
    pub read: Vec<u8>,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    /// First line and fields, without the empty line.
    pub head: String,
    pub body: Vec<u8>,
    /// The body's end was there.
    pub complete: bool,
}

impl Wire<TcpStream> {
    pub fn new(stream: TcpStream) -> Wire {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, read: Vec::new() }
    }

    /// Ends the writing direction.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Wire<S> {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends what the other end may not want any more.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Reads some more; `false` at the end, or when the connection was reset.
    pub fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => false,
            Err(e) if e.kind() == ErrorKind::BrokenPipe => false,
            Err(e) => panic!("nothing came: {e}; so far {:?}", String::from_utf8_lossy(&self.read)),
        }
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.read)
    }

    /// Reads exactly that many bytes, or fewer at the end.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count && self.more() {}
        let count = count.min(self.read.len());
        self.read.drain(..count).collect()
    }

    /// The next head, without its empty line. `None` at the end of the connection.
    pub fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&head[..end]).into_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// The next request, with its body.
    pub fn request(&mut self) -> Option<Message> {
        let head = self.head()?;
        Some(self.body(head, false))
    }

    /// The next response to a `GET`, with its body.
    pub fn response(&mut self) -> Message {
        self.try_response().expect("a response")
    }

    /// The next response, if the connection does not end before it.
    pub fn try_response(&mut self) -> Option<Message> {
        let head = self.head()?;
        Some(self.body(head, true))
    }

    fn body(&mut self, head: String, until_close: bool) -> Message {
        let mut message = Message { head, body: Vec::new(), complete: true };
        if matches!(message.status_or_0(), 100..=199 | 204 | 304) {
            return message;
        }
        if message.field("transfer-encoding").is_some() {
            message.complete = self.chunks(&mut message.body);
        } else if let Some(length) = message.field("content-length") {
            let length: usize = length.parse().unwrap();
            message.body = self.take(length);
            message.complete = message.body.len() == length;
        } else if until_close {
            message.body = self.rest();
        }
        message
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(size) = self.line() else { return false };
            let size = usize::from_str_radix(&size, 16).unwrap();
            if size == 0 {
                return self.line().is_some_and(|line| line.is_empty());
            }
            let data = self.take(size);
            let whole = data.len() == size;
            body.extend_from_slice(&data);
            if !whole || self.line().is_none() {
                return false;
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.read, b"\r\n") {
                let line = self.read.drain(..end + 2).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }
}

impl Message {
    pub fn status(&self) -> u16 {
        let status = self.status_or_0();
        assert!(status > 0, "no status: {}", self.head);
        status
    }

    fn status_or_0(&self) -> u16 {
        let status = self.head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// First line of the head.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The value of a field that occurs at most once. The name as it must stand on the wire.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.fields(name);
        assert!(values.len() <= 1, "{name} occurs more than once: {}", self.head);
        values.first().copied()
    }

    pub fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| *known == name).map(|(_, value)| value).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
