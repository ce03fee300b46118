//! The HTTP/1.1 server in front of [`Api::answer`].
//!
//! Handlers block (the disk, the data planes), so they run on threads for that; how many at once is bounded here, and
//! so are connections, headers, bodies and every wait.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use vestibule_control::Error;

use crate::Api;
use crate::envelope::Refusal;
use crate::held::{KeepOpen, into_content};
use crate::turnstile::{Course, Turnstile, Way, relay};

/// Longest request body, in bytes.
pub const MAX_BODY_BYTES: usize = 32 << 20;

/// How much of a body that is too long is read and thrown away, in bytes, so that its sender gets to read the answer.
const MAX_DISCARDED_BYTES: u64 = 256 << 20;

/// Longest request head, in bytes. Filters travel in the query.
const MAX_HEAD_BYTES: usize = 128 << 10;

/// How long a connection may take for a request's head, which includes the idle time before it.
const HEAD_LIMIT: Duration = Duration::from_secs(120);

/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(60);

/// Connections at once; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 4096;

/// After another process took over, an idle connection is kept for so long.
const LEAVE_QUIET: Duration = Duration::from_millis(500);

/// Where leases are asked for.
const VMS: &str = "/vestibule/v1/vms";

/// How long calls in progress may take to finish after the shutdown began.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How long accepting pauses after it failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Api {
    /// Serves connections until `shutdown` completes; then ends leases and finishes the calls in progress, for 5 seconds at most. Must
    /// be called inside of a tokio runtime with its timer and I/O enabled.
    pub async fn serve(
        self,
        listener: std::net::TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        self.serve_behind(Turnstile::default(), listener, shutdown).await
    }

    /// The same, with a turnstile in front. After [`Turnstile::leave`] no connection is accepted any more.
    pub async fn serve_behind(
        self,
        turnstile: Turnstile,
        listener: std::net::TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let mut course = turnstile.course();
        let server = Arc::new(Server { api: self, turnstile });
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            while connections.try_join_next().is_some() {}
            let now = *course.borrow_and_update();
            if let Course::There(_) = now {
                break;
            }
            let accepts = now == Course::Here && connections.len() < MAX_CONNECTIONS;
            tokio::select! {
                () = &mut shutdown => break,
                Ok(()) = course.changed() => {}
                Some(_) = connections.join_next(), if connections.len() >= MAX_CONNECTIONS => {}
                accepted = listener.accept(), if accepts => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(Arc::clone(&server), stream, stopped.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        let is_passed_on = matches!(*course.borrow(), Course::There(_));
        if is_passed_on {
            let passed_on = async { while connections.join_next().await.is_some() {} };
            tokio::select! {
                () = passed_on => return Ok(()),
                () = &mut shutdown => {}
            }
        }
        stop.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            tracing::info!("calls were still in progress at the end of the drain time");
        }
        Ok(())
    }
}

struct Server {
    api: Api,
    turnstile: Turnstile,
}

async fn connection(server: Arc<Server>, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let Ok(handle) = stream.as_fd().try_clone_to_owned().map(Arc::new) else { return };
    let is_lease = AtomicBool::new(false);
    let mut course = server.turnstile.course();
    let stopping = stopped.clone();
    let service = service_fn(|request| {
        let (server, stopping, handle, is_lease) = (&server, stopping.clone(), &handle, &is_lease);
        async move {
            let response = Arc::clone(server).handle(request).await;
            if let Some(lease) = response.extensions().get::<KeepOpen>() {
                server.turnstile.note_lease(&lease.0, handle);
                is_lease.store(true, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(into_content(response, stopping))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(MAX_HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let stop = async { drop(stopped.wait_for(|stopped| *stopped).await) };
    let elsewhere = async { drop(course.wait_for(|course| matches!(course, Course::There(_))).await) };
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = elsewhere => {
            if is_lease.load(Ordering::Relaxed) {
                // It is the other process's by now, which has a handle on it: nothing may be written, not even an end.
                return;
            }
            // A request may be on its way right now.
            match tokio::time::timeout(LEAVE_QUIET, connection.as_mut()).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}

impl Server {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        let (head, body) = request.into_parts();
        let body = match read(body).await {
            Ok(body) => body,
            Err(refusal) => {
                let mut response = self.api.refuse(&path, &refusal);
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                return response;
            }
        };
        let server = Arc::clone(&self);
        let _turn = match self.turnstile.enter().await {
            Some(Way::Here(turn)) => turn,
            Some(Way::There(to)) => return self.pass_on(&path, to, Request::from_parts(head, body)).await,
            None => return self.api.refuse(&path, &Error::internal("the turnstile is gone").into()),
        };
        let answered =
            tokio::task::spawn_blocking(move || server.api.answer(Request::from_parts(head, body))).await;
        answered.unwrap_or_else(|error| {
            self.api.refuse(&path, &Error::internal(format!("handler: {error}")).into())
        })
    }
}

impl Server {
    /// Another process answers. A lease must come to it on a connection of its own, which it will keep.
    async fn pass_on(&self, path: &str, to: SocketAddr, request: Request<Bytes>) -> Response<Bytes> {
        let answered = if path == VMS && request.method() == http::Method::POST {
            Err("the server is being replaced, try again".to_owned())
        } else {
            relay(to, request).await
        };
        answered.unwrap_or_else(|message| {
            let mut response = self.api.refuse(path, &Error::Unavailable { context: message }.into());
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        })
    }
}

async fn read(mut body: Incoming) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::TooLarge { limit: MAX_BODY_BYTES };
    let reading = async {
        if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
            discard(&mut body).await;
            return Err(too_large());
        }
        match Limited::new(&mut body, MAX_BODY_BYTES).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                discard(&mut body).await;
                Err(too_large())
            }
            Err(error) => Err(Refusal::Malformed { message: format!("The request body broke off: {error}") }),
        }
    };
    tokio::time::timeout(BODY_LIMIT, reading).await.unwrap_or(Err(Refusal::TooSlow))
}

/// Reads on without keeping anything: closing a connection on which the client still writes may take back the answer.
async fn discard(body: &mut Incoming) {
    let mut left = MAX_DISCARDED_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use serde_json::Value;
    use std::io::{Read, Write};

    #[test]
    fn a_connection_serves_many_requests_in_either_form() {
        let server = World::new().serve();
        let mut stream = server.connect();
        for target in ["/v1/projects/demo", "http://us-central1-127.0.0.1:1/v1/projects/demo"] {
            write!(stream, "GET {target} HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
            let (head, body) = read_response(&mut stream);
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            assert_eq!(body["projectId"], "demo");
        }
    }

    #[test]
    fn a_long_body_is_refused_and_its_sender_reads_the_answer() {
        let server = World::new().serve();
        let length = 40 << 20;
        let mut stream = server.connect();
        write!(
            stream,
            "POST /compute/v1/projects/p/global/networks HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n"
        )
        .unwrap();
        let chunk = vec![b' '; 1 << 20];
        (0..40).for_each(|_| stream.write_all(&chunk).unwrap());
        let (head, body) = read_response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        assert_eq!(body["error"]["code"], 413);
        assert_eq!(body["error"]["errors"][0]["reason"], "uploadTooLarge");
    }

    #[test]
    fn a_chunked_body_is_counted_too() {
        let server = World::new().serve();
        let mut stream = server.connect();
        write!(
            stream,
            "POST /compute/v1/projects/p/global/networks HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        .unwrap();
        let chunk = vec![b' '; 1 << 20];
        for _ in 0..40 {
            write!(stream, "{:x}\r\n", chunk.len()).unwrap();
            stream.write_all(&chunk).unwrap();
            write!(stream, "\r\n").unwrap();
        }
        write!(stream, "0\r\n\r\n").unwrap();
        let (head, _) = read_response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    }

    #[test]
    fn shutdown_ends_idle_connections_and_the_listener() {
        let server = World::new().serve();
        let mut idle = server.connect();
        write!(idle, "GET /v1/projects/demo HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
        read_response(&mut idle);
        let address = server.address();
        server.stop();
        assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0, "closed");
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    fn read_response(stream: &mut std::net::TcpStream) -> (String, Value) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
            .unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        (head, serde_json::from_slice(&body).unwrap())
    }
}
