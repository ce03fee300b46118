//! The server that takes over.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::{Value, json};
use vestibule_logs::LogStore;
use vestibule_proxy::Proxy;
use vestibule_vpc::inheritance::receive_descriptors;
use vestibule_vpc::{Estate, Loopback, Namespaces, NetworkId, SocketPlace, Vpc};

use super::wire::{self, Frame};
use super::{ANSWER_LIMIT, Described, Settings, at_socket};
use crate::serve::clients::Lease;

type Failure = Box<dyn Error>;
type Sockets = HashMap<SocketPlace, Vec<OwnedFd>>;

/// Descriptors at most: far more than a process may have.
const MAX_DESCRIPTORS: usize = 1 << 20;

/// What came from the running server. Dropping it before [`Inheritance::ready`] gives everything back.
pub struct Inheritance {
    stream: UnixStream,
    pub socket: UnixListener,
    pub api: TcpListener,
    pub gateway: Option<TcpListener>,
    /// Holds the address of the front.
    pub front: OwnedFd,
    pub leases: Vec<(Described, Option<OwnedFd>)>,
    mode: String,
    estate: Option<Estate>,
    sockets: Sockets,
    fronts: Vec<(SocketAddr, Vec<OwnedFd>)>,
}

impl Inheritance {
    /// Asks the server that runs in a state directory. Needs one thread, like [`Inheritance::vpc`].
    pub fn ask(state_dir: &Path, settings: &Settings) -> Result<Inheritance, Failure> {
        let stream = at_socket(state_dir, |path| UnixStream::connect(path)).map_err(|error| {
            format!(
                "no server to take over from in {}: {error}; start it without --takeover",
                state_dir.display()
            )
        })?;
        // A server that still waits for its own predecessor's end answers after that.
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        wire::send(&stream, &settings.to_json())?;
        let offer = wire::receive_message(&stream)
            .map_err(|error| format!("the running server does not hand over: {error}"))?;
        if let Some(why) = offer["refused"].as_str() {
            return Err(format!("the running server does not hand over: {why}").into());
        }
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let count = offer["count"].as_u64().unwrap_or(0) as usize;
        if count > MAX_DESCRIPTORS {
            return Err("the running server announces more sockets than there can be".into());
        }
        let descriptors = receive_descriptors(&stream, count)?;
        Inheritance::read(stream, &offer, descriptors.into_iter())
            .ok_or_else(|| "the running server's offer is not understood".into())
    }

    fn read(
        stream: UnixStream,
        offer: &Value,
        mut descriptors: impl Iterator<Item = OwnedFd>,
    ) -> Option<Inheritance> {
        let socket = UnixListener::from(descriptors.next()?);
        let api = TcpListener::from(descriptors.next()?);
        let front = descriptors.next()?;
        let gateway = if offer["gateway"] == true { Some(descriptors.next()?.into()) } else { None };
        let mut some = |count: &Value| -> Option<Vec<OwnedFd>> {
            (0..count.as_u64()?).map(|_| descriptors.next()).collect()
        };
        let estate =
            Estate { state: offer["estate"]["state"].clone(), descriptors: some(&offer["estate"]["count"])? };
        let mut sockets = Sockets::new();
        for row in offer["sockets"].as_array()? {
            let place = SocketPlace {
                network: NetworkId::from_relative(row["network"].as_str()?),
                ip: row["ip"].as_str()?.parse().ok()?,
                port: row["port"].as_u64()?.try_into().ok()?,
                is_udp: row["udp"].as_bool()?,
            };
            sockets.insert(place, some(&row["count"])?);
        }
        let mut fronts = Vec::new();
        for row in offer["fronts"].as_array()? {
            fronts.push((row["at"].as_str()?.parse().ok()?, some(&row["count"])?));
        }
        let mut leases = Vec::new();
        for row in offer["leases"].as_array()? {
            let described = Described::from_json(row)?;
            let connection = if described.has_connection { Some(some(&json!(1))?.pop()?) } else { None };
            leases.push((described, connection));
        }
        let mode = offer["networkMode"].as_str()?.to_owned();
        let estate = Some(estate);
        Some(Inheritance { stream, socket, api, gateway, front, leases, mode, estate, sockets, fronts })
    }

    /// The networks, with the sockets that are open in them. Call it from the only thread of the process.
    pub fn vpc(&mut self) -> Result<Vpc, Failure> {
        let estate = self.estate.take().ok_or("the networks were taken already")?;
        let vpc = match self.mode.as_str() {
            "loopback" => Vpc::new(Loopback::adopt(estate)?),
            "namespace" => Vpc::new(Namespaces::adopt(estate)?),
            other => {
                return Err(format!("the running server has networks of an unknown kind, {other}").into());
            }
        };
        vpc.inherit(std::mem::take(&mut self.sockets));
        Ok(vpc)
    }

    /// Sockets that the proxy is to use for addresses of the machine.
    pub fn give_fronts(&mut self, proxy: &Proxy) {
        for (at, sockets) in self.fronts.drain(..) {
            proxy.inherit(at, sockets.into_iter().map(TcpListener::from).collect());
        }
    }

    /// Everything is prepared. When this returns, the state is this server's.
    pub fn ready(&self) -> Result<(), Failure> {
        wire::send(&self.stream, &json!({ "ready": true }))?;
        let word = wire::receive_message(&self.stream)
            .map_err(|error| format!("the running server ended before it handed over: {error}"))?;
        if word["go"] == true { Ok(()) } else { Err("the running server took everything back".into()) }
    }

    /// Connections are accepted from now on. What the other server still logs is written to `logs`; `seats` are held
    /// until it is gone.
    pub fn served(self, logs: LogStore, seats: Vec<Lease>) -> Result<Predecessor, Failure> {
        wire::send(&self.stream, &json!({ "serving": true }))?;
        self.stream.set_read_timeout(None)?;
        let (gone, receiver) = sync_channel(0);
        let stream = self.stream;
        std::thread::Builder::new().name("predecessor".to_owned()).spawn(move || {
            follow(&stream, &logs);
            seats.into_iter().for_each(Lease::end_with_address);
            drop(gone);
        })?;
        Ok(Predecessor(receiver))
    }
}

/// The server before this one, as long as it lives.
pub struct Predecessor(Receiver<()>);

impl Predecessor {
    /// Returns when it has ended.
    pub fn wait(self) {
        // Nothing is sent: it is told by the sender being dropped.
        let _ = self.0.recv();
    }
}

/// Writes what the other server logs, until it ends.
fn follow(stream: &UnixStream, logs: &LogStore) {
    loop {
        match wire::receive(stream) {
            Ok(Frame::Log(lines)) => {
                if let Err(error) = logs.append_lines(&lines) {
                    tracing::error!(%error, "log entries of the server before this one are lost");
                }
            }
            Ok(Frame::Json(_)) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Err(error) => {
                tracing::warn!(%error, "the server before this one cannot be followed any more");
                return;
            }
        }
    }
}
