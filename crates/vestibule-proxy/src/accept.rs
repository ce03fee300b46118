//! Takes connections from a listening socket.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::connection;
use crate::limits::ACCEPT_BACKOFF;
use crate::metrics::Count;
use crate::site::Slot;
use crate::worker::Worker;

/// A listening socket that is being accepted from.
pub(crate) struct Accepting {
    end: Rc<End>,
    listener: Rc<TcpListener>,
}

/// How accepting ends.
#[derive(Default)]
struct End {
    told: Notify,
    /// Another process accepts from the same socket: what waits in its queue is not ours any more.
    is_passed_on: Cell<bool>,
}

impl Accepting {
    /// Accepts what waits in the queue already, and closes the socket.
    pub(crate) fn stop(&self) {
        self.end.told.notify_one();
    }

    /// Closes this process's handle on the socket, and leaves what waits to the others.
    pub(crate) fn pass_on(&self) {
        self.end.is_passed_on.set(true);
        self.stop();
    }

    /// Another handle on the socket.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }
}

/// Begins to accept.
pub(crate) fn start(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    socket: std::net::TcpListener,
) -> io::Result<Accepting> {
    socket.set_nonblocking(true)?;
    let listener = Rc::new(TcpListener::from_std(socket)?);
    let end = Rc::new(End::default());
    spawn_local(run(worker.clone(), slot.clone(), listener.clone(), end.clone()));
    Ok(Accepting { end, listener })
}

async fn run(worker: Rc<Worker>, slot: Rc<Slot>, listener: Rc<TcpListener>, end: Rc<End>) {
    tokio::select! {
        biased;
        () = end.told.notified() => {}
        () = async {
            worker.may_accept().await;
            accept_all(&worker, &slot, &listener).await;
        } => {}
    }
    let socket = SockRef::from(&*listener);
    while !end.is_passed_on.get()
        && let Ok((stream, remote)) = socket.accept()
    {
        let stream = std::net::TcpStream::from(stream);
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let (Ok(stream), Some(remote)) = (stream, remote.as_socket()) {
            take(&worker, &slot, stream, remote);
        }
    }
}

/// Accepts for ever.
async fn accept_all(worker: &Rc<Worker>, slot: &Rc<Slot>, listener: &TcpListener) {
    loop {
        worker.has_room(slot).await;
        match listener.accept().await {
            Ok((stream, remote)) => take(worker, slot, stream, remote),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // No descriptors or no memory: the next try would fail as well, and at once.
                worker.cells.count(Count::AcceptFailures);
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn take(worker: &Rc<Worker>, slot: &Rc<Slot>, stream: TcpStream, remote: std::net::SocketAddr) {
    if !worker.lets_in(&slot.site(), remote) {
        worker.cells.count(Count::RegionRefusals);
        return;
    }
    let admission = worker.admit(slot);
    let (worker, slot) = (worker.clone(), slot.clone());
    spawn_local(async move {
        connection::serve(worker, slot, stream, remote).await;
        drop(admission);
    });
}

/// The connection that was to be accepted broke before it was; the next has nothing to do with it.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
