//! What instances of services can reach.
//!
//! An instance has one of two networks. Without VPC settings it reaches the internet, as from this machine, and the
//! default URLs of services as any caller from outside does. With them (Direct VPC egress) it has an address in a
//! subnet, asks the network's resolver, is subject to the network's firewall, and what it sends to private ranges goes
//! into the network, where services count it as internal; public addresses are reached past the network, or, with
//! `all-traffic`, through it. A network has no way out to the internet (on Google's that takes Cloud NAT), so with
//! `all-traffic` there is none.
//!
//! Never reached: this machine's loopback and link-local addresses. What listens there (databases, the API, the
//! metadata server of a cloud that this machine is in) trusts whoever can connect.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tokio::net::TcpStream;
use vestibule_control::Control;
use vestibule_control::lb::GOOGLE_APIS;
use vestibule_dns::{Entry, Resolver, Sockets};
use vestibule_iam::metadata::Identity;
use vestibule_model::ResourceName;
use vestibule_run::NetworkSource;
use vestibule_run::desired::VpcAccess;
use vestibule_run::driver::{InstanceNetwork, Owner, Pending};
use vestibule_vpc::firewall::{Flow, TCP};
use vestibule_vpc::{Addresses, NetworkId, Vpc};

use super::clients::{Clients, Lease};
use super::options::Egress;

/// Ranges that only private networks route: what Cloud Run calls private with `private-ranges-only`. RFC 1918, 6598,
/// 6890, 5737, 2544, class E, and the two of Private Google Access.
const PRIVATE: [([u8; 4], u8); 14] = [
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([199, 36, 153, 4], 30),
    ([199, 36, 153, 8], 30),
    ([203, 0, 113, 0], 24),
    ([240, 0, 0, 0], 4),
    ([224, 0, 0, 0], 4),
];
const HTTPS: u16 = 443;

/// Makes the networks of instances.
pub struct Networks {
    control: Control,
    vpc: Vpc,
    resolver: Resolver,
    /// Where default URLs are served on this machine.
    front: SocketAddr,
    internet: Egress,
    /// Known only after the runtime has started, and before it is told of any service.
    clients: OnceLock<Clients>,
}

impl Networks {
    pub fn new(control: Control, vpc: Vpc, resolver: Resolver, front: SocketAddr, internet: Egress) -> Self {
        Networks { control, vpc, resolver, front, internet, clients: OnceLock::new() }
    }

    /// Instances that are in a network are clients of it.
    pub fn join(&self, clients: Clients) {
        // Only a second call fails, and there is none.
        let _ = self.clients.set(clients);
    }

    fn seat(&self, instance_id: &str, owner: &Owner, access: &VpcAccess) -> Result<Seat, String> {
        let clients = self.clients.get().ok_or("The networks are not ready yet.")?;
        let subnetwork = self.subnetwork(owner, access)?;
        let address = self.control.lease_vm(&subnetwork, None).map_err(|error| error.to_string())?;
        let identity = Identity::cloud_run(
            owner.project(),
            owner.project_number(),
            owner.region(),
            instance_id,
            owner.service_account(),
        );
        let (network, ip) = (NetworkId::from_relative(&address.network.relative()), address.address);
        let lease = clients.seat(identity, access.tags.clone(), address);
        let lease = lease.map_err(|error| format!("An instance cannot enter {network}: {error}."))?;
        Ok(Seat {
            vpc: self.vpc.clone(),
            clients: clients.clone(),
            network,
            ip,
            all: access.all_traffic,
            _lease: lease,
        })
    }

    /// The subnetwork that the settings mean, which may leave out one of network and subnetwork.
    fn subnetwork(&self, owner: &Owner, access: &VpcAccess) -> Result<ResourceName, String> {
        let (project, network) = &access.network;
        // A subnetwork that is not named has the network's name.
        let name = if access.subnetwork.is_empty() { network } else { &access.subnetwork };
        let place = format!("projects/{project}/regions/{}/subnetworks/{name}", owner.region());
        let key = format!("compute/{place}");
        let view = self.control.view();
        let missing =
            || format!("Subnetwork '{place}' of the revision's VPC network settings was not found.");
        let document = view.get(&key).ok_or_else(missing)?;
        let of = document.value.get("network").and_then(Value::as_str).unwrap_or_default();
        if !network.is_empty() && !of.ends_with(&format!("projects/{project}/global/networks/{network}")) {
            return Err(format!("Subnetwork '{place}' is not in network '{network}'."));
        }
        ResourceName::from_key(&key).ok_or_else(missing)
    }
}

impl NetworkSource for Networks {
    fn open(&self, instance_id: &str, owner: &Owner) -> Result<Arc<dyn InstanceNetwork>, String> {
        let seat = owner.vpc().map(|access| self.seat(instance_id, owner, access)).transpose()?;
        let (resolver, front, internet) = (self.resolver.clone(), self.front, self.internet);
        Ok(Arc::new(Surroundings { seat, resolver, front, internet }))
    }
}

/// What one instance can reach.
struct Surroundings {
    seat: Option<Seat>,
    resolver: Resolver,
    front: SocketAddr,
    internet: Egress,
}

/// A place in a VPC network.
struct Seat {
    vpc: Vpc,
    clients: Clients,
    network: NetworkId,
    ip: Ipv4Addr,
    /// Public addresses are asked for in the network as well.
    all: bool,
    _lease: Lease,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Before the lease gives the address to somebody else; at the end it may be another server's.
        if !self.clients.is_closing() {
            self.vpc.release(&self.network, self.ip);
        }
    }
}

impl InstanceNetwork for Surroundings {
    fn address(&self) -> Option<Ipv4Addr> {
        self.seat.as_ref().map(|seat| seat.ip)
    }

    fn connect(&self, to: SocketAddrV4) -> Pending<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            match way(self.seat.as_ref().map(|seat| seat.all), self.internet, to) {
                Way::Network => match &self.seat {
                    Some(seat) => seat.connect(to).await,
                    None => Err(io::ErrorKind::NetworkUnreachable.into()),
                },
                Way::Front => TcpStream::connect(self.front).await,
                Way::Machine => TcpStream::connect(to).await,
                Way::None(why) => Err(io::Error::new(io::ErrorKind::NetworkUnreachable, why)),
            }
        })
    }

    fn serve_names(&self, udp: UdpSocket, tcp: TcpListener) -> Pending<'static, ()> {
        // Outside of all networks there are no private names, and everything else is answered the same.
        let network =
            self.seat.as_ref().map_or_else(|| NetworkId::from_relative(""), |seat| seat.network.clone());
        let resolver = self.resolver.clone();
        let entry = Entry::Instance(self.address());
        Box::pin(async move {
            let sockets = Sockets { udp, tcp, entry };
            if let Err(error) = vestibule_dns::serve(resolver, network, sockets, std::future::pending()).await
            {
                tracing::error!(%error, "the resolver of an instance ended");
            }
        })
    }
}

impl Seat {
    async fn connect(&self, to: SocketAddrV4) -> io::Result<TcpStream> {
        let flow = Flow { source: self.ip, destination: *to.ip(), protocol: TCP, port: to.port() };
        if !self.clients.lets_out(&self.network, &flow) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a firewall rule denies it"));
        }
        let begun = TcpStream::from_std(self.vpc.connect_from(&self.network, self.ip, to)?)?;
        begun.writable().await?;
        begun.take_error()?.map_or(Ok(begun), Err)
    }
}

/// Which way a connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the VPC network.
    Network,
    /// To the entrance to default URLs on this machine.
    Front,
    /// As a connection of this machine.
    Machine,
    /// No way, and why.
    None(&'static str),
}

/// `seat`: whether the instance is in a network, and if so, whether all its traffic goes there.
fn way(seat: Option<bool>, internet: Egress, to: SocketAddrV4) -> Way {
    let ip = *to.ip();
    if ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.octets()[0] == 0 {
        return Way::None("an address of this machine itself");
    }
    let private = private().contains(ip);
    match seat {
        Some(all) if all || private => Way::Network,
        None if ip == GOOGLE_APIS => {
            if to.port() == HTTPS {
                Way::Front
            } else {
                Way::None("default URLs are served over HTTPS")
            }
        }
        _ if internet == Egress::None => Way::None("--egress=none"),
        None if private && internet == Egress::Internet => Way::None(
            "a private address, and the revision is in no VPC network (serve --egress=machine lets instances \
             reach private networks of this machine)",
        ),
        _ => Way::Machine,
    }
}

fn private() -> &'static Addresses {
    static RANGES: OnceLock<Addresses> = OnceLock::new();
    RANGES.get_or_init(|| {
        let range = |(first, prefix): ([u8; 4], u8)| {
            let first = u32::from_be_bytes(first);
            let last = first | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            (Ipv4Addr::from(first), Ipv4Addr::from(last))
        };
        PRIVATE.into_iter().map(range).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_way() {
        let ask = |seat, internet, to: &str| way(seat, internet, to.parse().unwrap());
        let outside = |to| ask(None, Egress::Internet, to);
        assert_eq!(outside("93.184.216.34:80"), Way::Machine);
        assert_eq!(outside("199.36.153.8:443"), Way::Front);
        for unreachable in [
            "199.36.153.8:80",
            "10.0.0.1:80",
            "172.31.255.255:1",
            "192.168.1.1:443",
            "127.0.0.1:8470",
            "169.254.169.254:80",
            "169.254.0.7:8080",
            "0.0.0.0:8470",
            "224.0.0.1:1",
            "255.255.255.255:1",
        ] {
            assert!(matches!(outside(unreachable), Way::None(_)), "{unreachable}");
        }
        assert_eq!(outside("172.32.0.1:80"), Way::Machine);
        assert_eq!(outside("100.128.0.1:80"), Way::Machine);

        let ranges = |to| ask(Some(false), Egress::Internet, to);
        assert_eq!(ranges("10.0.0.1:80"), Way::Network);
        assert_eq!(ranges("199.36.153.8:443"), Way::Network);
        assert_eq!(ranges("93.184.216.34:80"), Way::Machine);
        assert_eq!(ask(Some(true), Egress::Internet, "93.184.216.34:80"), Way::Network);
        for machine in ["127.0.0.1:80", "169.254.169.254:80"] {
            assert!(matches!(ask(Some(true), Egress::Machine, machine), Way::None(_)));
            assert!(matches!(ask(None, Egress::Machine, machine), Way::None(_)));
        }
        assert_eq!(ask(None, Egress::Machine, "10.0.0.1:80"), Way::Machine);
        assert!(matches!(ask(None, Egress::None, "93.184.216.34:80"), Way::None(_)));
        assert_eq!(ask(Some(false), Egress::None, "10.0.0.1:80"), Way::Network);
        assert_eq!(ask(None, Egress::None, "199.36.153.8:443"), Way::Front);
    }
}
