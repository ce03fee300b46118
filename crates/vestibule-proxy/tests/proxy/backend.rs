//! Backends that do what a test wants, on real sockets.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::wire::{Message, Wire};

/// A backend. Ends with all its connections when it is dropped.
pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    /// Every request head and body, in the order in which they came.
    requests: Mutex<Vec<Message>>,
    streams: Mutex<Vec<TcpStream>>,
    handlers: Mutex<Vec<JoinHandle<()>>>,
}

impl Backend {
    /// Answers every request with what `answer` makes of it, on connections that stay open.
    pub fn http(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Backend {
        Backend::raw(move |wire, seen| {
            while let Some(request) = wire.request() {
                seen(request.clone());
                if wire.try_send(answer(&request)).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers every request with 200 and this body.
    pub fn text(body: &'static str) -> Backend {
        Backend::http(move |_| ok(body))
    }

    /// Gives every connection to `handle`, which tells of the requests it reads.
    pub fn raw(handle: impl Fn(&mut Wire, &dyn Fn(Message)) + Send + Sync + 'static) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (handle, theirs) = (Arc::new(handle), shared.clone());
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if theirs.ended.load(Ordering::SeqCst) {
                    break;
                }
                theirs.streams.lock().unwrap().push(stream.try_clone().unwrap());
                let (handle, shared) = (handle.clone(), theirs.clone());
                let thread = thread::spawn(move || {
                    let mut wire = Wire::new(stream.try_clone().unwrap());
                    wire.stream.set_read_timeout(None).unwrap();
                    handle(&mut wire, &|request| shared.requests.lock().unwrap().push(request));
                    let _ = stream.shutdown(Shutdown::Both);
                });
                theirs.handlers.lock().unwrap().push(thread);
            }
        });
        Backend { address, shared, accepting: Some(accepting) }
    }

    /// The requests that came so far.
    pub fn requests(&self) -> Vec<Message> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The only request that came.
    pub fn request(&self) -> Message {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().unwrap()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.streams.lock().unwrap().len()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.accepting.take().unwrap().join().unwrap();
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let handlers: Vec<_> = self.shared.handlers.lock().unwrap().drain(..).collect();
        let panicked = handlers.into_iter().filter_map(|handler| handler.join().err()).count();
        if !thread::panicking() {
            assert_eq!(panicked, 0, "a backend's handler panicked");
        }
    }
}

/// A plain 200.
pub fn ok(body: &str) -> Vec<u8> {
    response("200 OK", "", body)
}

/// A response with a length. `fields` are whole lines.
pub fn response(status: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
