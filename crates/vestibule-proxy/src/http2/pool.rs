//! Connections to backends that carry many requests at once. One pool a worker, so none is ever shared or locked.
//!
//! A connection is asked for before it is there: whoever comes while it is being made waits for the same one, so that a
//! burst of requests to a cold address makes as many connections as their streams need and no more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::BuildHasherDefault;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::outgoing::{Outgoing, Pipe};
use crate::limits::{
    CONNECT_TIMEOUT, HTTP2_CONNECTION_WINDOW, HTTP2_SEND_BUFFER, HTTP2_STREAM_WINDOW, MAX_FIELD_SECTION,
    MAX_LOCAL_RESETS, MAX_SHARED_PER_ADDRESS, MAX_STREAMS, UPSTREAM_KEEP_ALIVE,
};
use crate::link::Link;
use crate::metrics::Cells;
use crate::upstream::{self, AddressHasher, BackendStream, ConnectError, Location, Target};

/// The connections of one worker.
#[derive(Default)]
pub(crate) struct SharedPool {
    connections: RefCell<HashMap<Target, Vec<Rc<Shared>>, BuildHasherDefault<AddressHasher>>>,
    cells: Arc<Cells>,
}

/// A connection, perhaps still to be made.
pub(crate) struct Shared {
    state: RefCell<State>,
    changed: Notify,
    /// Requests that are on it or wait for it.
    open: Cell<usize>,
    /// Requests that are on it.
    active: Cell<usize>,
    idle_since: Cell<Instant>,
}

enum State {
    Connecting,
    Ready(SendRequest<Bytes>),
    Failed(ConnectError),
    /// It ended, or carries no new requests any more.
    Over,
}

impl SharedPool {
    /// An empty pool that counts in these cells.
    pub(crate) fn new(cells: Arc<Cells>) -> SharedPool {
        SharedPool { connections: RefCell::default(), cells }
    }

    /// A place on a connection to this address: one that has room, or a new one.
    pub(crate) fn reserve(&self, target: Target) -> Place {
        let mut connections = self.connections.borrow_mut();
        let list = connections.entry(target).or_default();
        list.retain(|shared| !shared.is_over());
        let found = list.iter().find(|shared| shared.has_room());
        let is_full = found.is_none() && list.len() >= MAX_SHARED_PER_ADDRESS;
        let found = match found {
            Some(found) => found.clone(),
            None if !is_full => {
                let shared = Shared::connect(target, self.cells.clone());
                list.push(shared.clone());
                shared
            }
            // The codec queues what the backend does not take yet; the request's own deadline bounds that.
            None => list
                .iter()
                .min_by_key(|shared| shared.open.get())
                .cloned()
                .unwrap_or_else(|| Shared::connect(target, self.cells.clone())),
        };
        drop(connections);
        Place::new(found, is_full)
    }

    /// Gives no new request to connections to this location; they end with those that they carry.
    pub(crate) fn forget(&self, location: Location) {
        self.connections.borrow_mut().retain(|target, _| target.location != location);
    }

    /// Drops connections that ended or idle for too long, and addresses without any.
    pub(crate) fn sweep(&self, now: Instant) {
        self.connections.borrow_mut().retain(|_, list| {
            list.retain(|shared| !shared.is_over() && !shared.is_stale(now));
            !list.is_empty()
        });
    }
}

impl Shared {
    /// Begins to make a connection. That goes on when whoever asked for it first does not want it any more.
    fn connect(target: Target, cells: Arc<Cells>) -> Rc<Shared> {
        let shared = Rc::new(Shared {
            state: RefCell::new(State::Connecting),
            changed: Notify::new(),
            open: Cell::new(0),
            active: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
        });
        let theirs = Rc::downgrade(&shared);
        spawn_local(async move {
            let set = |state| {
                if let Some(shared) = theirs.upgrade() {
                    shared.state.replace(state);
                    shared.changed.notify_waiters();
                }
            };
            let late = Instant::now() + CONNECT_TIMEOUT;
            let made = in_time(late, upstream::connect(target)).await.map(Link::new);
            let outgoing = made.as_ref().map(Outgoing::new);
            let shaken = match &outgoing {
                Ok(outgoing) => in_time(late, shake_hands(outgoing)).await,
                Err(error) => Err(**error),
            };
            cells.connected(shaken.is_ok());
            let (send, connection) = match shaken {
                Ok(shaken) => shaken,
                Err(error) => return set(State::Failed(error)),
            };
            set(State::Ready(send));
            if let Ok(outgoing) = &outgoing
                && let Err(error) = run(connection, outgoing).await
            {
                tracing::debug!(address = %target.location.address, %error, "an HTTP/2 connection to a backend ended");
            }
            set(State::Over);
        });
        shared
    }

    fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Failed(_) | State::Over)
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.open.get() == 0 && now.saturating_duration_since(self.idle_since.get()) >= UPSTREAM_KEEP_ALIVE
    }

    /// How many requests it takes at once, as far as is known.
    fn limit(&self) -> usize {
        match &*self.state.borrow() {
            State::Connecting => MAX_STREAMS as usize,
            State::Ready(send) => send.current_max_send_streams().min(MAX_STREAMS as usize),
            State::Failed(_) | State::Over => 0,
        }
    }

    fn has_room(&self) -> bool {
        self.open.get() < self.limit()
    }

    /// It carries no new requests any more.
    pub(crate) fn retire(&self) {
        self.state.replace(State::Over);
    }
}

type Connection<'o> = client::Connection<Pipe<'o, 'o, BackendStream>, Bytes>;

async fn in_time<T>(
    late: Instant,
    making: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    tokio::time::timeout_at(late.into(), making).await.unwrap_or(Err(ConnectError::Timeout))
}

async fn shake_hands<'o>(
    outgoing: &'o Outgoing<'o, BackendStream>,
) -> Result<(SendRequest<Bytes>, Connection<'o>), ConnectError> {
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_header_list_size(MAX_FIELD_SECTION)
        .max_send_buffer_size(HTTP2_SEND_BUFFER)
        .initial_max_send_streams(UNKNOWN_LIMIT)
        .max_local_error_reset_streams(Some(MAX_LOCAL_RESETS))
        .enable_push(false);
    let (send, mut connection) =
        builder.handshake(Pipe(outgoing)).await.map_err(|_| ConnectError::Refused)?;
    // The backend's settings say how many streams it takes, and that it speaks HTTP/2 at all.
    poll_fn(|cx| match poll_run(&mut connection, outgoing, cx) {
        Poll::Ready(_) => Poll::Ready(Err(ConnectError::Refused)),
        Poll::Pending if send.current_max_send_streams() == UNKNOWN_LIMIT => Poll::Pending,
        Poll::Pending => Poll::Ready(Ok(())),
    })
    .await?;
    Ok((send, connection))
}

/// Reads and writes until the connection ends.
async fn run(
    mut connection: Connection<'_>,
    outgoing: &Outgoing<'_, BackendStream>,
) -> Result<(), h2::Error> {
    poll_fn(|cx| poll_run(&mut connection, outgoing, cx)).await
}

fn poll_run(
    connection: &mut Connection<'_>,
    outgoing: &Outgoing<'_, BackendStream>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>> {
    if let Poll::Ready(ended) = Pin::new(connection).poll(cx) {
        return Poll::Ready(ended);
    }
    match outgoing.poll_flush(cx) {
        Poll::Ready(Err(_)) => Poll::Ready(Ok(())),
        _ => Poll::Pending,
    }
}

/// What the codec tells as the limit of streams until the backend has told one, or that there is none.
const UNKNOWN_LIMIT: usize = MAX_STREAMS as usize + 1;

/// A place for one request on a connection.
pub(crate) struct Place {
    shared: Rc<Shared>,
    /// There are as many connections as there may be, and the request waits on this one.
    queues: bool,
    active: bool,
}

impl Place {
    fn new(shared: Rc<Shared>, queues: bool) -> Place {
        shared.open.set(shared.open.get() + 1);
        Place { shared, queues, active: false }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The request goes out now. `false`: more came while the connection was being made than it takes.
    pub(crate) fn take(&mut self) -> bool {
        let count = self.shared.active.get();
        self.active = self.queues || count < self.shared.limit();
        self.shared.active.set(count + usize::from(self.active));
        self.active
    }

    /// What requests are sent with; `None` while the connection is being made.
    pub(crate) fn now(&self) -> Option<Result<SendRequest<Bytes>, ConnectError>> {
        match &*self.shared.state.borrow() {
            State::Connecting => None,
            State::Ready(send) => Some(Ok(send.clone())),
            State::Failed(error) => Some(Err(*error)),
            State::Over => Some(Err(ConnectError::Over)),
        }
    }

    /// Waits until the connection is made.
    pub(crate) async fn ready(&self) -> Result<SendRequest<Bytes>, ConnectError> {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(now) = self.now() {
                return now;
            }
            changed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.open.set(shared.open.get() - 1);
        shared.active.set(shared.active.get() - usize::from(self.active));
        shared.idle_since.set(Instant::now());
    }
}
