//! A backend that writes down what reaches it, and answers as a case tells it to.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// The path of the request that follows every case, to see whether the connection is still in step.
pub const SENTINEL: &str = "/sentinel";

/// What a backend answers, and what it does then.
#[derive(Debug, Clone)]
pub struct Script {
    pub response: Vec<u8>,
    pub close: bool,
}

impl Default for Script {
    fn default() -> Script {
        Script { response: b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".to_vec(), close: false }
    }
}

/// A message as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub line: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body's end was there.
    pub complete: bool,
}

impl Message {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn status(&self) -> u16 {
        self.line.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or("")
    }
}

/// Takes messages off the bytes that come from a socket. Takes what it is given: judging is for others.
pub struct Reader {
    stream: TcpStream,
    read: Vec<u8>,
    /// Nothing more will come; `Err`: or nothing came in time.
    pub ended: Option<Result<(), ()>>,
}

impl Reader {
    pub fn new(stream: TcpStream) -> Reader {
        Reader { stream, read: Vec::new(), ended: None }
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        if self.ended.is_some() {
            return false;
        }
        match self.stream.read(&mut bytes) {
            Ok(0) => self.ended = Some(Ok(())),
            Ok(count) => self.read.extend_from_slice(&bytes[..count]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                self.ended = Some(Err(()));
            }
            Err(_) => self.ended = Some(Ok(())),
        }
        self.ended.is_none()
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                let mut taken: Vec<u8> = self.read.drain(..at + end.len()).collect();
                taken.truncate(at);
                return Some(taken);
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count && self.more() {}
        self.read.drain(..count.min(self.read.len())).collect()
    }

    /// The next message. `bodiless`: an answer to `HEAD`. `None`: the bytes ended before a head did.
    pub fn message(&mut self, response: bool, bodiless: bool) -> Option<Message> {
        let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n")?).into_owned();
        let mut lines = head.split("\r\n");
        let mut message = Message { line: lines.next().unwrap_or("").to_owned(), ..Message::default() };
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            message.fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        message.complete = true;
        let status = message.status();
        if response && (bodiless || matches!(status, 100..=199 | 204 | 304)) {
            return Some(message);
        }
        let length = message.values("content-length").first().and_then(|value| value.parse::<usize>().ok());
        if !message.values("transfer-encoding").is_empty() {
            message.complete = self.chunks(&mut message);
        } else if let Some(length) = length {
            message.body = self.take(length);
            message.complete = message.body.len() == length;
        } else if response {
            while self.more() {}
            message.body = std::mem::take(&mut self.read);
            message.complete = self.ended == Some(Ok(()));
        }
        Some(message)
    }

    fn chunks(&mut self, message: &mut Message) -> bool {
        loop {
            let Some(line) = self.until(b"\r\n") else { return false };
            let line = String::from_utf8_lossy(&line).into_owned();
            let size = line.split(';').next().unwrap_or("").trim();
            let Ok(size) = usize::from_str_radix(size, 16) else { return false };
            if size == 0 {
                return self.trailers(message);
            }
            let data = self.take(size);
            let whole = data.len() == size;
            message.body.extend_from_slice(&data);
            if !whole || self.until(b"\r\n").is_none() {
                return false;
            }
        }
    }

    /// Trailers count as fields of their own.
    fn trailers(&mut self, message: &mut Message) -> bool {
        while let Some(line) = self.until(b"\r\n") {
            if line.is_empty() {
                return true;
            }
            message.fields.push(("(trailer)".to_owned(), String::from_utf8_lossy(&line).into_owned()));
        }
        false
    }
}

/// The backend. Ends with all its connections when it is dropped.
pub struct Recorder {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    script: Mutex<Script>,
    requests: Mutex<Vec<Message>>,
    /// The open connections, by a number.
    streams: Mutex<HashMap<u64, TcpStream>>,
}

impl Recorder {
    pub fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let accepting = thread::spawn(move || {
            for (id, stream) in (0..).zip(listener.incoming().map_while(Result::ok)) {
                if theirs.ended.load(Ordering::SeqCst) {
                    break;
                }
                let _ = stream.set_nodelay(true);
                theirs.streams.lock().unwrap().insert(id, stream.try_clone().unwrap());
                let shared = theirs.clone();
                thread::spawn(move || {
                    shared.serve(stream);
                    shared.streams.lock().unwrap().remove(&id);
                });
            }
        });
        Recorder { address, shared, accepting: Some(accepting) }
    }

    /// Answers everything but the sentinel like this from now on.
    pub fn follow(&self, script: Script) {
        *self.shared.script.lock().unwrap() = script;
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.shared.requests.lock().unwrap())
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut writing = stream.try_clone().unwrap();
        let mut reader = Reader::new(stream);
        while let Some(request) = reader.message(false, false) {
            let complete = request.complete;
            let script = match request.target().ends_with(SENTINEL) {
                true => Script {
                    response: b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsentinel".to_vec(),
                    close: false,
                },
                false => self.script.lock().unwrap().clone(),
            };
            self.requests.lock().unwrap().push(request);
            if !complete || writing.write_all(&script.response).is_err() || script.close {
                break;
            }
        }
        let _ = writing.shutdown(Shutdown::Both);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.accepting.take().map(JoinHandle::join);
        for (_, stream) in self.shared.streams.lock().unwrap().drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
