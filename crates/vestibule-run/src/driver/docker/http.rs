//! HTTP to the engine's local socket.
//!
//! **Why not `bollard`.** It is the usual client, and was tried first: with no features but local sockets it adds nine
//! packages and, for types of the whole API, a third as long again to a first build of everything it stands on. A
//! driver makes a dozen kinds of requests, whose fields have not changed since 2019, to engines of two makers that do not
//! agree on the rest.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Handle;

/// Bytes of the longest answer that is read: a list of all containers of a busy machine.
const MAX_ANSWER: usize = 16 << 20;
/// Longest time that a request may take that moves no image. Engines under load take seconds.
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// Longest time that handing over an image may take.
const LONGEST_UPLOAD: Duration = Duration::from_secs(30 * 60);
/// Bytes that are handed over at a time.
const PIECE: usize = 256 * 1024;
/// Pieces on their way.
const PIECES: usize = 4;

type Body = Either<Full<Bytes>, Channel<Bytes, io::Error>>;

/// What the engine answers with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) api_version: Option<String>,
    pub(super) body: Value,
}

impl Answer {
    /// The body if all is well; what the engine says otherwise.
    pub(super) fn ok(self) -> io::Result<Value> {
        if self.status.is_success() || self.status == StatusCode::NOT_MODIFIED {
            return Ok(self.body);
        }
        let said = self.body["message"].as_str().map(str::to_owned);
        let said = said.unwrap_or_else(|| format!("the engine answers {}", self.status));
        let kind = match self.status {
            StatusCode::NOT_FOUND => io::ErrorKind::NotFound,
            StatusCode::CONFLICT => io::ErrorKind::AlreadyExists,
            _ => io::ErrorKind::Other,
        };
        Err(io::Error::new(kind, said))
    }
}

/// The socket of an engine. Each request has a connection of its own: they are few, and cost nothing beside what the
/// engine does for them.
#[derive(Debug, Clone)]
pub(super) struct Socket(PathBuf);

impl Socket {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Sends a request with a JSON body, or none.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> io::Result<Answer> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        within(LONGEST, self.send(method, path, "application/json", Either::Left(Full::new(body)))).await
    }

    /// The same without a limit of time: for the end of a container.
    pub(super) async fn wait(&self, path: &str) -> io::Result<Answer> {
        let body = Either::Left(Full::default());
        self.send(Method::POST, path, "application/json", body).await
    }

    /// Sends what `write` writes, on a thread where that may block.
    pub(super) async fn upload(
        &self,
        path: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Answer> {
        let (sender, body) = Channel::new(PIECES);
        let executor = Handle::current();
        let written = tokio::task::spawn_blocking(move || {
            let mut pieces = Pieces { sender: Some(sender), executor, piece: Vec::with_capacity(PIECE) };
            write(&mut pieces).and_then(|()| pieces.flush()).inspect_err(|error| pieces.abort(error))
        });
        let sent = self.send(Method::POST, path, "application/x-tar", Either::Right(body));
        let answer = within(LONGEST_UPLOAD, sent).await;
        // The reason why nothing more came says more than that it did not.
        match (written.await.map_err(io::Error::other)?, answer) {
            (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            (_, answer) => answer,
        }
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Body) -> io::Result<Answer> {
        let stream = UnixStream::connect(&self.0).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "engine").header("content-type", kind).body(body);
        let answer = async {
            let answer = sender.send_request(request.map_err(io::Error::other)?).await;
            let (head, body) = answer.map_err(io::Error::other)?.into_parts();
            let bytes = Limited::new(body, MAX_ANSWER).collect().await.map_err(io::Error::other)?.to_bytes();
            let version = head.headers.get("api-version").and_then(|version| version.to_str().ok());
            // What is no JSON is a word that everything is well, or several documents that tell of progress.
            let body = last_document(&bytes);
            Ok(Answer { status: head.status, api_version: version.map(str::to_owned), body })
        };
        let answer = answer.await;
        connection.abort();
        answer
    }
}

fn last_document(bytes: &[u8]) -> Value {
    let documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    documents.map_while(Result::ok).last().unwrap_or_default()
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the engine does not answer");
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

/// The writing end of a body.
struct Pieces {
    sender: Option<Sender<Bytes, io::Error>>,
    executor: Handle,
    piece: Vec<u8>,
}

impl Pieces {
    fn abort(&mut self, error: &io::Error) {
        if let Some(sender) = self.sender.take() {
            sender.abort(io::Error::new(error.kind(), error.to_string()));
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let Some(sender) = self.sender.as_mut().filter(|_| !piece.is_empty()) else { return Ok(()) };
        let sent = self.executor.block_on(sender.send_data(piece.into()));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine listens no more"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_said_last() {
        assert_eq!(last_document(b"OK"), Value::Null);
        let progress = b"{\"stream\":\"x\"}\r\n{\"errorDetail\":{\"message\":\"no space\"}}\r\n";
        assert_eq!(last_document(progress)["errorDetail"]["message"], "no space");
    }
}
