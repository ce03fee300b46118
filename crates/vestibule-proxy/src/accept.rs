//! Takes connections from a listening socket.

use std::io;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::connection;
use crate::limits::ACCEPT_BACKOFF;
use crate::metrics::Count;
use crate::site::Slot;
use crate::worker::Worker;

/// A listening socket that is being accepted from.
pub(crate) struct Accepting(Rc<Notify>);

impl Accepting {
    /// Accepts what waits in the queue already, and closes the socket.
    pub(crate) fn stop(&self) {
        self.0.notify_one();
    }
}

/// Begins to accept.
pub(crate) fn start(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    socket: std::net::TcpListener,
) -> io::Result<Accepting> {
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket)?;
    let stop = Rc::new(Notify::new());
    spawn_local(run(worker.clone(), slot.clone(), listener, stop.clone()));
    Ok(Accepting(stop))
}

async fn run(worker: Rc<Worker>, slot: Rc<Slot>, listener: TcpListener, stop: Rc<Notify>) {
    tokio::select! {
        biased;
        () = stop.notified() => {}
        () = accept_all(&worker, &slot, &listener) => {}
    }
    let Ok(socket) = listener.into_std() else { return };
    while let Ok((stream, remote)) = socket.accept() {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
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
