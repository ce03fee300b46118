//! The server that another one takes over from.

use std::error::Error;
use std::fs::Permissions;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use vestibule_api::Turnstile;
use vestibule_control::Control;
use vestibule_logs::LogStore;
use vestibule_proxy::Proxy;
use vestibule_proxy::snapshot::FrontAddress;
use vestibule_run::Runtime;
use vestibule_vpc::Vpc;
use vestibule_vpc::inheritance::send_descriptors;

use super::{ANSWER_LIMIT, Adopted, Predecessor, SOCKET, Settings, at_socket, wire};
use crate::serve::clients::{Clients, Lease};
use crate::serve::networks::Services;

/// How long calls of the API that are under way may take before a takeover is refused.
const CALLS_LIMIT: Duration = Duration::from_secs(10);

type Failure = Box<dyn Error + Send + Sync>;

/// Everything that is handed over, and what must stand still meanwhile.
pub struct Parts {
    pub state_dir: PathBuf,
    pub services: tokio::runtime::Handle,
    pub asked: Settings,
    pub actual: Settings,
    pub turnstile: Turnstile,
    pub control: Control,
    pub logs: LogStore,
    pub runtime: Arc<Runtime>,
    pub proxy: Arc<Proxy>,
    pub vpc: Vpc,
    pub networks: Services,
    pub clients: Clients,
    pub adopted: Adopted,
    pub api: TcpListener,
    pub gateway: Option<TcpListener>,
    /// Holds the address of the front.
    pub front: OwnedFd,
}

/// Waits for another server.
pub struct Donor {
    parts: Parts,
    socket: UnixListener,
}

/// Another server has everything by now. It is told what is still logged, and knows the end of this process by the end of
/// this value.
pub struct Handed(UnixStream);

impl Handed {
    /// Waits until the other accepts connections, so that there is no moment without anybody.
    pub fn wait_until_served(&self) {
        if let Err(error) = wire::receive_message(&self.0) {
            tracing::error!(%error, "the server that took over has not said that it serves");
        }
    }
}

/// Makes the socket at which other servers ask.
pub fn listen(state_dir: &Path) -> io::Result<UnixListener> {
    at_socket(state_dir, |path| {
        // Of a server that was killed: the state directory is ours, so nobody listens there.
        let _ = std::fs::remove_file(path);
        let socket = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(socket)
    })
}

impl Donor {
    /// `socket`: that of the server before this one, if there was one.
    pub fn new(parts: Parts, socket: Option<UnixListener>) -> io::Result<Donor> {
        let socket = match socket {
            Some(socket) => socket,
            None => listen(&parts.state_dir)?,
        };
        Ok(Donor { parts, socket })
    }

    /// Waits in a thread of its own. A server whose own predecessor is still there lets others wait until it is gone.
    pub fn start(self, predecessor: Option<Predecessor>) -> io::Result<oneshot::Receiver<Handed>> {
        let (handed, receiver) = oneshot::channel();
        std::thread::Builder::new().name("takeover".to_owned()).spawn(move || {
            if let Some(predecessor) = predecessor {
                predecessor.wait();
            }
            loop {
                match self.socket.accept().map_err(Failure::from).and_then(|(stream, _)| self.serve(stream)) {
                    Ok(done) => return drop(handed.send(done)),
                    Err(error) => tracing::warn!("nobody took over: {error}"),
                }
            }
        })?;
        Ok(receiver)
    }

    /// The socket's file is removed when this server ends without a successor.
    pub fn remove_socket(state_dir: &Path) {
        let _ = std::fs::remove_file(state_dir.join(SOCKET));
    }

    fn serve(&self, stream: UnixStream) -> Result<Handed, Failure> {
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        check_peer(&stream)?;
        let hello = wire::receive_message(&stream)?;
        let refuse = |why: String| -> Failure {
            // Whoever asked may be gone.
            let _ = wire::send(&stream, &json!({ "refused": why }));
            why.into()
        };
        if let Some(why) = wire::objection(&hello, &self.parts.asked, &self.parts.actual) {
            return Err(refuse(why));
        }
        if !self.parts.services.block_on(self.parts.turnstile.hold(CALLS_LIMIT)) {
            return Err(refuse(format!("a call of the API is under way for {CALLS_LIMIT:?}; try again")));
        }
        match self.hand_over(&stream) {
            Ok(()) => Ok(Handed(stream)),
            Err(error) => {
                self.parts.turnstile.resume();
                Err(refuse(error.to_string()))
            }
        }
    }

    /// Gives everything away, or takes everything back.
    fn hand_over(&self, stream: &UnixStream) -> Result<(), Failure> {
        let parts = &self.parts;
        if let Some(execution) = parts.runtime.executions().first() {
            return Err(format!(
                "execution {} of job {} is running, and tasks cannot be handed over: wait for it, or cancel it",
                execution.name, execution.job
            )
            .into());
        }
        let offer = self.offer()?;
        let forward = stream.try_clone()?;
        let store = parts.control.store().release()?;
        let logs = match parts.logs.release() {
            Ok(logs) => logs,
            Err(error) => {
                store.resume()?;
                return Err(error.into());
            }
        };
        if let Err(error) = offer.negotiate(stream) {
            let failed = [store.resume().err().map(Failure::from), logs.resume().err().map(Failure::from)];
            for error in failed.into_iter().flatten() {
                tracing::error!("the state could not be taken back: {error}");
            }
            return Err(error.into());
        }
        drop(store);
        logs.forward(Box::new(move |lines| wire::send_log(&forward, lines)))?;
        parts.clients.close();
        parts.turnstile.leave(parts.actual.api);
        Ok(())
    }

    /// Collects what is handed over. Changes nothing.
    fn offer(&self) -> Result<Offer, Failure> {
        let parts = &self.parts;
        let mut offer = Offer::default();
        offer.push([&self.socket.as_fd(), &parts.api.as_fd(), &parts.front.as_fd()])?;
        offer.push(parts.gateway.iter().map(AsFd::as_fd).collect::<Vec<_>>().iter())?;
        let estate = parts.vpc.estate()?;
        let estate_count = estate.descriptors.len();
        offer.descriptors.extend(estate.descriptors);
        let (mut sockets, mut fronts) = (Vec::new(), Vec::new());
        for listening in parts.proxy.listening()? {
            let count = listening.sockets.len();
            match listening.at {
                FrontAddress::Network { network, ip, port } => sockets.push((
                    json!({ "network": network.as_str(), "ip": ip, "port": port, "udp": false, "count": count }),
                    listening.sockets,
                )),
                FrontAddress::Machine(at) => fronts.push((json!({ "at": at, "count": count }), listening.sockets)),
            }
        }
        for (place, socket) in parts.networks.sockets()? {
            let described = json!({
                "network": place.network.as_str(), "ip": place.ip, "port": place.port, "udp": place.is_udp, "count": 1,
            });
            sockets.push((described, vec![socket]));
        }
        let sockets = offer.take_in(sockets);
        let fronts = offer.take_in(fronts);
        let leases = self.leases(&mut offer)?;
        offer.message = json!({
            "networkMode": parts.actual.network_mode,
            "gateway": parts.gateway.is_some(),
            "estate": { "state": estate.state, "count": estate_count },
            "sockets": sockets,
            "fronts": fronts,
            "leases": leases,
            "count": offer.descriptors.len(),
        });
        Ok(offer)
    }

    /// Every client, with its connection if it has one.
    fn leases(&self, offer: &mut Offer) -> io::Result<Vec<Value>> {
        let own = self.parts.turnstile.leases().into_iter();
        let own = own.filter_map(|(held, connection)| Some((held.downcast::<Lease>().ok()?, connection)));
        let connected: Vec<_> = own.chain(self.parts.adopted.all()).collect();
        let mut described = Vec::new();
        for mut client in self.parts.clients.describe() {
            let connection = connected.iter().find(|(lease, _)| lease.id() == client.id);
            client.has_connection = connection.is_some();
            if let Some((_, connection)) = connection {
                offer.push([&connection.as_fd()])?;
            }
            described.push(client.to_json());
        }
        Ok(described)
    }
}

/// A description and the descriptors that it speaks of, in its order.
#[derive(Default)]
struct Offer {
    message: Value,
    descriptors: Vec<OwnedFd>,
}

impl Offer {
    fn push<'fd>(&mut self, more: impl IntoIterator<Item = &'fd BorrowedFd<'fd>>) -> io::Result<()> {
        for descriptor in more {
            self.descriptors.push(descriptor.try_clone_to_owned()?);
        }
        Ok(())
    }

    /// Adds the descriptors, and leaves the descriptions.
    fn take_in(&mut self, described: Vec<(Value, Vec<OwnedFd>)>) -> Vec<Value> {
        let take = |(value, descriptors): (Value, Vec<OwnedFd>)| {
            self.descriptors.extend(descriptors);
            value
        };
        described.into_iter().map(take).collect()
    }

    /// Until this has returned, the other server may fail.
    fn negotiate(&self, stream: &UnixStream) -> io::Result<()> {
        wire::send(stream, &self.message)?;
        let borrowed: Vec<BorrowedFd<'_>> = self.descriptors.iter().map(AsFd::as_fd).collect();
        send_descriptors(stream, &borrowed)?;
        let word = wire::receive_message(stream).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("the new server ended before it was ready"),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::other(format!("the new server was not ready within {ANSWER_LIMIT:?}"))
            }
            _ => error,
        })?;
        if word["ready"] != true {
            return Err(io::Error::other("the new server is not ready"));
        }
        wire::send(stream, &json!({ "go": true }))
    }
}

/// Only the user who runs this server may take over from it.
fn check_peer(stream: &UnixStream) -> Result<(), Failure> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if peer.uid == rustix::process::geteuid() {
        return Ok(());
    }
    Err(format!("user {} asked, who does not run this server", peer.uid.as_raw()).into())
}
