//! Stops calls for a while, and sends them elsewhere.
//!
//! When another process takes over, no call may be half done: new ones wait at the turnstile, those under way are
//! waited for. Then either all go on as if nothing had happened, or this process answers none any more: what still
//! arrives on connections that it has is passed on to the other process, which listens at the same address, and its
//! answer ends the connection. So no client reads a refusal that it has not earned.

use std::any::Any;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::host::Held;

/// Calls that are being handled at once; more wait their turn. Higher than what may wait for long, so that waiting
/// calls cannot stop all others.
const MAX_CALLS: u32 = 256;

/// Where calls are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    Here,
    /// Nowhere yet: they wait.
    Nowhere,
    /// By whoever listens there.
    There(SocketAddr),
}

/// A call's way.
pub(crate) enum Way {
    Here(OwnedSemaphorePermit),
    There(SocketAddr),
}

/// Lets calls in. Cheap to clone; clones share state.
#[derive(Clone)]
pub struct Turnstile(Arc<Inner>);

struct Inner {
    calls: Arc<Semaphore>,
    course: watch::Sender<Course>,
    leases: Mutex<Vec<Lease>>,
}

/// A lease and its client's connection, which both end elsewhere.
type Lease = (Weak<dyn Any + Send + Sync>, Weak<OwnedFd>);

impl Default for Turnstile {
    fn default() -> Turnstile {
        Turnstile(Arc::new(Inner {
            calls: Arc::new(Semaphore::new(MAX_CALLS as usize)),
            course: watch::Sender::new(Course::Here),
            leases: Mutex::default(),
        }))
    }
}

impl Turnstile {
    /// Lets nobody in any more and waits until nobody is inside; new connections wait too. `false`: some call took longer
    /// than that, and all goes on.
    pub async fn hold(&self, limit: Duration) -> bool {
        self.0.course.send_replace(Course::Nowhere);
        let all = tokio::time::timeout(limit, self.0.calls.acquire_many(MAX_CALLS)).await;
        if all.is_err() {
            self.resume();
        }
        all.is_ok()
    }

    /// Goes on.
    pub fn resume(&self) {
        self.0.course.send_replace(Course::Here);
    }

    /// From here on another process answers, at this address.
    pub fn leave(&self, to: SocketAddr) {
        self.0.course.send_replace(Course::There(to));
    }

    /// The leases that clients hold by their connections, with the connections.
    pub fn leases(&self) -> Vec<(Held, Arc<OwnedFd>)> {
        let leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases
            .iter()
            .filter_map(|(held, connection)| Some((held.upgrade()?, connection.upgrade()?)))
            .collect()
    }

    pub(crate) fn note_lease(&self, held: &Held, connection: &Arc<OwnedFd>) {
        let mut leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|(held, _)| held.strong_count() > 0);
        leases.push((Arc::downgrade(held), Arc::downgrade(connection)));
    }

    pub(crate) fn course(&self) -> watch::Receiver<Course> {
        self.0.course.subscribe()
    }

    /// Waits for a call's turn. `None`: the process is about to end.
    pub(crate) async fn enter(&self) -> Option<Way> {
        let mut course = self.course();
        loop {
            let now = *course.wait_for(|course| *course != Course::Nowhere).await.ok()?;
            if let Course::There(to) = now {
                return Some(Way::There(to));
            }
            let permit = self.0.calls.clone().acquire_owned().await.ok()?;
            if *course.borrow() == Course::Here {
                return Some(Way::Here(permit));
            }
        }
    }
}

/// Has another process answer a call.
pub(crate) async fn relay(to: SocketAddr, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("the server that took over does not answer: {error}");
    let stream = TcpStream::connect(to).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let driving = tokio::spawn(connection);
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::EXPECT);
    head.headers.remove(header::TRANSFER_ENCODING);
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let request = Request::from_parts(head, Full::new(body));
    let (head, body) = sender.send_request(request).await.map_err(|error| failed(&error))?.into_parts();
    let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
    driving.abort();
    let mut response = Response::from_parts(head, body);
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}
