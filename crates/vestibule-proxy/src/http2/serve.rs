//! A client's connection: each of its streams is a task of its own, and this one reads and writes frames.
//!
//! The tasks are all on the worker's thread. What several of them have to write goes out together when this task gets
//! its turn after them ([`super::outgoing`]).

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::server::{self, Builder};

use super::guard::{Counts, Guard};
use super::outgoing::Outgoing;
use crate::buffers::Buffer;
use crate::limits::{
    GOAWAY_TIMEOUT, HTTP2_CONNECTION_WINDOW, HTTP2_SEND_BUFFER, HTTP2_STREAM_WINDOW, MAX_FIELD_SECTION,
    MAX_LOCAL_RESETS, MAX_STREAMS, MAX_UNSERVED_RESETS,
};
use crate::link::{ClientStream, Link};
use crate::peer::Peer;
use crate::site::Slot;
use crate::timers::Timer;
use crate::worker::Worker;

/// What the streams of a connection share.
pub(crate) struct Shared {
    pub(crate) worker: Rc<Worker>,
    pub(crate) slot: Rc<Slot>,
    pub(crate) peer: Peer,
    pub(crate) counts: Rc<Counts>,
    /// Streams that are served.
    open: Cell<usize>,
    /// Since when there are none.
    idle_since: Cell<Instant>,
}

fn builder() -> Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_FIELD_SECTION)
        .max_send_buffer_size(HTTP2_SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_UNSERVED_RESETS)
        .max_local_error_reset_streams(Some(MAX_LOCAL_RESETS));
    builder
}

/// Serves a connection until there is nothing more to do on it. `early` is what of it was read already. The caller
/// closes `link`.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    link: &Link<ClientStream>,
    early: Option<Buffer>,
    peer: Peer,
    timer: &Timer,
) {
    let counts = Counts::new();
    let outgoing = Outgoing::new(link);
    let guard = Guard::new(&outgoing, early, counts.clone());
    let shared = Shared {
        worker: worker.clone(),
        slot: slot.clone(),
        peer,
        counts,
        open: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
    };
    timer.at(Instant::now() + worker.timeouts.head);
    let mut shaking = Box::pin(builder().handshake::<_, Bytes>(guard));
    let connection = poll_fn(|cx| match shaking.as_mut().poll(cx) {
        Poll::Ready(connection) => Poll::Ready(connection.ok()),
        Poll::Pending if timer.passed().is_some() => Poll::Ready(None),
        // Our settings do not wait for the client's.
        Poll::Pending => match outgoing.poll_flush(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => Poll::Pending,
        },
    });
    let Some(connection) = connection.await else { return };
    let mut serving =
        Serving { connection, outgoing: &outgoing, shared: Rc::new(shared), timer, stage: Stage::Open };
    poll_fn(|cx| serving.poll(cx)).await;
}

struct Serving<'t> {
    connection: server::Connection<Guard<'t>, Bytes>,
    outgoing: &'t Outgoing<'t, ClientStream>,
    shared: Rc<Shared>,
    timer: &'t Timer,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client was told to open no more streams; those that are open are served.
    Leaving {
        since: Instant,
    },
    /// The client was told that it did wrong.
    Failed {
        since: Instant,
    },
}

impl Serving<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.start(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, client = %self.shared.peer.text, "an HTTP/2 connection failed");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if matches!(self.outgoing.poll_flush(cx), Poll::Ready(Err(_))) => {
                    return Poll::Ready(());
                }
                Poll::Pending if !self.look() => return Poll::Pending,
                // Something was decided that the codec is to write.
                Poll::Pending if self.is_over() => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
    }

    fn start(&self, request: http::Request<h2::RecvStream>, respond: server::SendResponse<Bytes>) {
        let (open, shared) = (Open::new(&self.shared), self.shared.clone());
        self.shared.worker.crew.serve(Work { open, shared, request, respond });
    }

    /// Looks at limits, deadlines and the state of the world. Answers whether something changed.
    fn look(&mut self) -> bool {
        let before = self.stage;
        let now = Instant::now();
        let counts = &self.shared.counts;
        let head = self.shared.worker.timeouts.head;
        let is_late = counts.block_deadline(head).is_some_and(|deadline| deadline <= now);
        if !matches!(self.stage, Stage::Failed { .. }) && (counts.is_exceeded() || is_late) {
            tracing::debug!(client = %self.shared.peer.text, is_late, "a client is too much");
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            self.stage = Stage::Failed { since: now };
        } else if self.stage == Stage::Open && self.must_leave(now) {
            self.connection.graceful_shutdown();
            self.stage = Stage::Leaving { since: now };
        }
        self.timer.at(self.deadline(now).max(now + CHECK_AFTER));
        self.stage != before || self.is_over()
    }

    fn must_leave(&self, now: Instant) -> bool {
        let shared = &self.shared;
        let is_idle = shared.open.get() == 0 && shared.idle_deadline() <= now;
        is_idle || shared.worker.is_draining() || shared.slot.is_removed()
    }

    /// When to look again, if nothing happens.
    fn deadline(&self, now: Instant) -> Instant {
        let shared = &self.shared;
        let next = match self.stage {
            // A stream that ends does not wake this task, so what comes after it is found out by looking.
            Stage::Open if shared.open.get() > 0 => now + shared.slot.site().keep_alive(),
            Stage::Open => shared.idle_deadline(),
            Stage::Leaving { since } | Stage::Failed { since } => {
                since.max(shared.idle_since.get()) + GOAWAY_TIMEOUT
            }
        };
        let block = shared.counts.block_deadline(shared.worker.timeouts.head);
        block.map_or(next, |block| block.min(next))
    }

    /// The client does not end what is over.
    fn is_over(&self) -> bool {
        let shared = &self.shared;
        match self.stage {
            Stage::Open => false,
            Stage::Leaving { since } => {
                shared.open.get() == 0 && since.max(shared.idle_since.get()).elapsed() >= GOAWAY_TIMEOUT
            }
            Stage::Failed { since } => since.elapsed() >= GOAWAY_TIMEOUT,
        }
    }
}

/// The least time until a connection is looked at again.
const CHECK_AFTER: Duration = Duration::from_millis(10);

impl Shared {
    fn idle_deadline(&self) -> Instant {
        self.idle_since.get() + self.slot.site().keep_alive()
    }
}

/// A stream that is to be served.
pub(crate) struct Work {
    /// Until it was.
    pub(crate) open: Open,
    pub(crate) shared: Rc<Shared>,
    pub(crate) request: http::Request<h2::RecvStream>,
    pub(crate) respond: server::SendResponse<Bytes>,
}

/// A stream that is counted.
pub(crate) struct Open(Rc<Shared>);

impl Open {
    fn new(shared: &Rc<Shared>) -> Open {
        shared.open.set(shared.open.get() + 1);
        Open(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}
