//! Private networks: addresses and sockets inside a network.
//!
//! [`Vpc`] is the one seam between the data plane and how a network is realised. In loopback mode (`loopback`) every
//! private address that is served or used by a client stands on an address of 127.0.0.0/8; in namespace mode every
//! network is a Linux network namespace with real addresses. Callers name a network and a private address, and get a
//! socket; they never learn which mode is on.
#![deny(unsafe_code)]

mod address;
mod connect;
pub mod firewall;
mod guest;
pub mod inheritance;
mod intervals;
mod loopback;
pub mod namespace;
mod route;

pub use address::{NetworkId, Subnet};
pub use firewall::FirewallRule;
pub use guest::Guest;
pub use inheritance::{Estate, SocketPlace};
pub use intervals::{Addresses, Intervals, Ports};
pub use loopback::Loopback;
pub use namespace::Namespaces;
pub use route::Route;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How the networks of this machine are realised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Loopback,
    Namespace,
}

/// One mode's way to make sockets inside networks. All methods are cheap and may block for a system call only.
pub trait Driver: Send + Sync {
    fn mode(&self) -> Mode;
    /// The network exists and has exactly these subnets. Idempotent.
    fn configure(&self, _network: &NetworkId, _subnets: &[Subnet]) -> io::Result<()> {
        Ok(())
    }
    /// The longest packet of clients that are attached from now on, in bytes. 1460 until it is said.
    fn set_mtu(&self, _network: &NetworkId, _mtu: u32) {}
    /// The network has exactly these static routes. A network that is not there is left alone; a driver that forwards
    /// nothing has none.
    fn set_routes(&self, _network: &NetworkId, _routes: &[Route]) -> io::Result<()> {
        Ok(())
    }
    /// The network is gone.
    fn remove(&self, _network: &NetworkId) {}
    /// The network's firewall is exactly these rules and the implied ones, at once and as a whole. A network that is
    /// not there is left alone; a new one has the implied rules only.
    fn set_firewall(&self, _network: &NetworkId, _rules: &[FirewallRule]) -> io::Result<()> {
        Ok(())
    }
    /// Why firewall rules are kept without being enforced, as a sentence; `None` where they are enforced.
    fn firewall_gap(&self) -> Option<String>;
    /// Has everything told to `tell` that rules with logging decide on, from the next rules on. `tell` must not wait.
    /// At most 4,000 connections of a network are told in five seconds.
    fn log_firewall(&self, _tell: Arc<dyn Fn(firewall::FirewallEvent) + Send + Sync>) {}
    /// Why rules with logging tell nothing, as a sentence; `None` where they do.
    fn firewall_log_gap(&self) -> Option<String> {
        self.firewall_gap()
    }
    /// Connects a client that will use private address `ip`. A driver whose clients have no namespace of their own
    /// answers `None`: they come in through the gateway.
    fn attach(&self, _network: &NetworkId, _ip: Ipv4Addr, _gateway: Ipv4Addr) -> io::Result<Option<Guest>> {
        Ok(None)
    }
    /// Disconnects the client; its address may be used again.
    fn detach(&self, network: &NetworkId, ip: Ipv4Addr) {
        self.release(network, ip);
    }
    /// Listening sockets for one private address and port: `count` sockets that share it by `SO_REUSEPORT`.
    fn listen_tcp(
        &self,
        network: &NetworkId,
        ip: Ipv4Addr,
        port: u16,
        count: usize,
    ) -> io::Result<Vec<TcpListener>>;
    /// A datagram socket on a private address.
    fn bind_udp(&self, network: &NetworkId, ip: Ipv4Addr, port: u16) -> io::Result<UdpSocket>;
    /// Begins to connect to a private address and port, from the private address `from`, which belongs to this process
    /// from then on until [`Driver::release`]. The stream does not block, and is connected once it is writable and
    /// `take_error` finds nothing.
    fn connect_from(&self, network: &NetworkId, from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream>;
    /// Where a connection to a private address and port must go from this process, if something listens there.
    fn locate(&self, network: &NetworkId, ip: Ipv4Addr, port: u16) -> Option<SocketAddr>;
    /// The private address behind a peer address that a listener of this driver saw.
    fn private_peer(&self, network: &NetworkId, peer: SocketAddr) -> SocketAddr;
    /// The local address a client that stands for private address `ip` must bind before it connects.
    fn source_for(&self, network: &NetworkId, ip: Ipv4Addr) -> io::Result<SocketAddr>;
    /// Forgets the private address: its local stand-in may be used again.
    fn release(&self, network: &NetworkId, ip: Ipv4Addr);
    /// Everything that another process needs to go on with these networks while this one comes to its end. Sockets that
    /// listen are not in it.
    fn estate(&self) -> io::Result<Estate>;
    /// Has [`Driver::listen_tcp`] and [`Driver::bind_udp`] hand out these instead of new ones. What was not asked for
    /// is closed by the next call.
    fn inherit(&self, sockets: HashMap<SocketPlace, Vec<OwnedFd>>);
}

/// The networks of this process. Cheap to clone.
#[derive(Clone)]
pub struct Vpc(Arc<dyn Driver>);

impl Vpc {
    pub fn new(driver: impl Driver + 'static) -> Vpc {
        Vpc(Arc::new(driver))
    }
}

impl std::ops::Deref for Vpc {
    type Target = dyn Driver;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
