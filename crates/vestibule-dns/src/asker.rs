//! Who asks a question: what an answer may depend on besides the question itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// By which door questions come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The resolver's own address, which only machines of the network reach.
    Machines,
    /// An inbound forwarder, at this address inside the network.
    Forwarder(Ipv4Addr),
    /// The resolver of one instance of a service, which has this address in the network, if any.
    Instance(Option<Ipv4Addr>),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) entry: Entry,
    /// As the socket sees it.
    pub(crate) peer: Option<SocketAddr>,
}

impl Asker {
    /// Someone of whom nothing but perhaps the address is known.
    pub(crate) fn at(address: Option<Ipv4Addr>) -> Asker {
        Asker { entry: Entry::Instance(address), peer: None }
    }

    /// Whether answers are translated for IPv6 (a policy with DNS64 does so for machines, and neither for workloads
    /// without a server nor for those who come by a forwarder).
    pub(crate) fn may_translate(&self) -> bool {
        self.entry == Entry::Machines
    }

    /// The private address of who asks. `private` finds it from what the socket sees.
    pub(crate) fn address(&self, private: impl FnOnce(SocketAddr) -> SocketAddr) -> Option<Ipv4Addr> {
        if let Entry::Instance(address) = self.entry {
            return address;
        }
        match private(self.peer?).ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }
}
