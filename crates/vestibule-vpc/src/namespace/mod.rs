//! Namespace mode: every VPC network is a network namespace of the kernel, with real addresses.
//!
//! The namespace is the network's router. Every address that belongs to the network itself stands on its loopback
//! link: the gateway of every subnet, virtual IPs, the proxies' own addresses, the link-local services
//! (169.254.169.254). Every client hangs on a cable of its own with a route to its one address, /32; it reaches all
//! else through its gateway, as a VM of Google's does. There is no common link, so clients meet only in the router,
//! where firewall rules are enforced, and there the kernel drops what comes in with another client's address. There is
//! no link out either: what is not in the VPC has no route.

mod entry;
mod estate;
mod etc;
mod link;
mod nft;
mod processes;
mod room;
mod routes;
mod sockets;
mod user;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};

use crate::firewall::{Action, Direction, Traffic};
use crate::inheritance::Inherited;
use crate::route::Ranges;
use crate::{Addresses, Driver, Estate, FirewallRule, Guest, Mode, NetworkId, Route, SocketPlace, Subnet};
pub use entry::{Place, enter, enter_place};
use nft::Tracking;
pub use nft::divert;
use nft::log::Tell;
pub use processes::{adopt, bequeath, remount_proc, separate_processes};
use room::{Inside, Room};
use sockets::Sockets;
pub use user::{UserNamespace, available, enter_user_namespace, join_user_namespace};

/// The name of a client's one link, as on Google's images.
const GUEST_LINK: &str = "eth0";
/// The longest packet of a network that says nothing else, in bytes: Google's default.
const DEFAULT_MTU: u32 = 1460;
/// Connections that may wait in a listener's accept queue.
const BACKLOG: i32 = 4096;

/// The namespace driver.
pub struct Namespaces {
    networks: Mutex<HashMap<NetworkId, Arc<Network>>>,
    guests: AtomicU32,
    /// Why there is no packet filter here.
    no_filter: Option<String>,
    inherited: Inherited,
    /// Why the packet filter has no log here.
    no_log: Option<String>,
    /// Who is told of what rules with logging decide on.
    tell: OnceLock<Tell>,
}

struct Network {
    room: Room,
    sockets: Sockets,
    /// Addresses on the loopback link that sockets are bound to.
    held: Mutex<BTreeSet<Ipv4Addr>>,
    state: Mutex<NetworkState>,
    filter: Mutex<Filter>,
    /// The network is there as long as this is.
    alive: Arc<()>,
    /// Longest packet of new clients, bytes.
    mtu: AtomicU32,
}

/// What the network's packet filter was last told, and what it depends on.
#[derive(Default)]
struct Filter {
    rules: Vec<FirewallRule>,
    /// Clients that are or will be connected.
    clients: usize,
    /// Connections between clients are tracked: for ever from then on, so that no change of rules cuts what is under
    /// way.
    tracks: bool,
    /// Somebody reads what rules with logging see.
    logs: bool,
}

impl Filter {
    /// Two clients, and a rule that lets anything in or tells of what it does not: without both, nothing goes from
    /// client to client, and nobody need be asked.
    fn must_track(&self) -> bool {
        let asks = |rule: &FirewallRule| {
            rule.log || (rule.direction, rule.action) == (Direction::Ingress, Action::Allow)
        };
        self.tracks || self.clients > 1 && self.rules.iter().any(asks)
    }

    /// Has the kernel obey.
    fn apply(&mut self, room: &Room) -> io::Result<()> {
        let tracks = self.must_track();
        let tracking = if tracks { Tracking::On } else { Tracking::Off };
        let mut rules = self.rules.clone();
        rules.iter_mut().for_each(|rule| rule.log &= self.logs);
        room.run(move |_| nft::replace(&rules, tracking))?;
        self.tracks = tracks;
        Ok(())
    }
}

#[derive(Default)]
struct NetworkState {
    subnets: Vec<Subnet>,
    /// Clients by private address: the namespace, and the name of our end of the cable.
    guests: HashMap<Ipv4Addr, (Room, String)>,
    routes: Vec<Route>,
    /// Static routes in the kernel's table.
    laid: Ranges,
}

impl Namespaces {
    /// Fails where the machine forbids something that networks need; the error says why. Everything is tried once, with
    /// a network that is gone when this returns. Where only nftables is missing, networks work, and no client reaches
    /// another.
    pub fn new() -> io::Result<Namespaces> {
        let (router, guest) = (Room::open("probe")?, Room::open("probe vm")?);
        let no_filter = router.run(|_| Ok(nft::replace(&[], Tracking::On).err()))?;
        let no_filter = no_filter.map(|error| {
            tracing::warn!(%error, "no nftables here: clients of a network cannot reach each other, whatever its firewall says");
            format!("This machine has no nftables ({error}): no client reaches another.")
        });
        let filter = no_filter.is_none();
        let no_log =
            no_filter.clone().map_or_else(|| router.run(|_| Ok(log_missing())), |gap| Ok(Some(gap)))?;
        router.run(move |inside| route(inside, filter))?;
        plug(
            &router,
            "probe",
            guest.namespace().try_clone_to_owned()?,
            Ipv4Addr::new(10, 0, 0, 2),
            DEFAULT_MTU,
        )?;
        let (networks, guests, inherited, tell) = Default::default();
        Ok(Namespaces { networks, guests, no_filter, no_log, tell, inherited })
    }

    fn network(&self, id: &NetworkId) -> io::Result<Arc<Network>> {
        let mut networks = lock(&self.networks);
        if let Some(network) = networks.get(id) {
            return Ok(network.clone());
        }
        let room = Room::open(id.short())?;
        let filter = self.no_filter.is_none();
        room.run(move |inside| route(inside, filter))?;
        let (sockets, held, state, filter, alive) = Default::default();
        let network = Network { room, sockets, held, state, filter, alive, mtu: AtomicU32::new(DEFAULT_MTU) };
        let network = Arc::new(network);
        networks.insert(id.clone(), network.clone());
        Ok(network)
    }

    /// Makes the packet filter ready for one more client, before it has a cable.
    fn expect_client(&self, network: &Network) -> io::Result<()> {
        let mut filter = lock(&network.filter);
        filter.clients += 1;
        let is_ready = self.no_filter.is_some() || filter.must_track() == filter.tracks;
        if is_ready { Ok(()) } else { filter.apply(&network.room) }
    }

    fn known(&self, id: &NetworkId) -> Option<Arc<Network>> {
        lock(&self.networks).get(id).cloned()
    }
}

/// Why rules cannot log in the calling thread's namespace; tried with one that does.
fn log_missing() -> Option<String> {
    let rule = FirewallRule {
        name: "probe".into(),
        direction: Direction::Ingress,
        priority: 0,
        action: Action::Deny,
        sources: Addresses::all(),
        destinations: Addresses::all(),
        traffic: vec![Traffic::ALL],
        log: true,
    };
    let tried = nft::log::open().and_then(|_| nft::replace(&[rule], Tracking::Off));
    tried.err().map(|error| format!("The kernel's log of packets (NFLOG) is not to be had here: {error}."))
}

/// Makes a new namespace a router. Without a filter it forwards nothing: that is what the implied rules amount to.
fn route(inside: &Inside, filter: bool) -> io::Result<()> {
    // A packet must come in where its sender's address is: no client can pass for another.
    fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1")?;
    // Whoever asks for what nobody has should hear so at once. Routing limits these answers already.
    fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0")?;
    suit_cables();
    if filter {
        // Before the first packet is forwarded.
        nft::replace(&[], Tracking::Off)?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    }
    inside.netlink(async |handle| link::up(handle, link::LOOPBACK).await)
}

/// Settings of every namespace here, the router's and a client's; without them all works, but slower.
fn suit_cables() {
    // For links to come: networks here speak IPv4, and nobody needs the link-local addresses of the other. Nothing to
    // do where the machine has no IPv6.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    // A cable has no bottleneck whose rate must be found out: what paces by timers (BBR, say, where that is the
    // machine's default) only costs, and a pause is no reason to begin slowly again.
    let _ = fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno");
    let _ = fs::write("/proc/sys/net/ipv4/tcp_slow_start_after_idle", "0");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    /// Starts the reader of the network's log, which ends with the network. While the process that this one takes over
    /// from still reads, it waits for its turn.
    fn read_log(self: &Arc<Self>, id: &NetworkId, tell: Tell) -> io::Result<()> {
        let mut socket = self.open_log()?;
        let (id, network, alive) = (id.clone(), Arc::downgrade(self), Arc::downgrade(&self.alive));
        let read = move || {
            while socket.is_none() {
                std::thread::sleep(nft::log::LOOK);
                let Some(network) = network.upgrade() else { return };
                match network.open_log() {
                    Ok(opened) => socket = opened,
                    Err(error) => {
                        return tracing::error!(%id, %error, "firewall rules with logging tell nothing");
                    }
                }
            }
            if let Some(socket) = socket {
                nft::log::read(&socket, &id, &alive, &tell);
            }
        };
        std::thread::Builder::new().name("firewall log".to_owned()).spawn(read)?;
        Ok(())
    }

    /// `None` while another process has it, which the kernel tells in two ways.
    fn open_log(&self) -> io::Result<Option<OwnedFd>> {
        match self.room.run(|_| nft::log::open()) {
            Ok(socket) => Ok(Some(socket)),
            Err(e) if matches!(e.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::PermissionDenied) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A client is gone, or did not come after all.
    fn miss_client(&self) {
        let mut filter = lock(&self.filter);
        filter.clients = filter.clients.saturating_sub(1);
    }

    /// Puts an address on the loopback link, so that sockets can be bound to it.
    fn hold(&self, ip: Ipv4Addr) -> io::Result<()> {
        let mut held = lock(&self.held);
        if !held.contains(&ip) {
            self.room.run(move |inside| {
                inside.netlink(async |h| link::add_address(h, link::LOOPBACK, ip).await)
            })?;
            held.insert(ip);
        }
        Ok(())
    }

    fn bind(&self, ip: Ipv4Addr, port: u16, kind: Type, count: usize) -> io::Result<Vec<Socket>> {
        self.hold(ip)?;
        self.room.run(move |_| (0..count).map(|_| bind(SocketAddrV4::new(ip, port), kind)).collect())
    }
}

impl Driver for Namespaces {
    fn mode(&self) -> Mode {
        Mode::Namespace
    }

    fn configure(&self, id: &NetworkId, subnets: &[Subnet]) -> io::Result<()> {
        let network = self.network(id)?;
        let mut state = lock(&network.state);
        let gateways = |subnets: &[Subnet]| subnets.iter().map(|s| s.gateway).collect::<BTreeSet<_>>();
        let ranges =
            |subnets: &[Subnet]| subnets.iter().map(|s| (s.range, s.prefix)).collect::<BTreeSet<_>>();
        let (had, has) = (gateways(&state.subnets), gateways(subnets));
        let (routed, routes) = (ranges(&state.subnets), ranges(subnets));
        let held = lock(&network.held).clone();
        network.room.run(move |inside| {
            inside.netlink(async |handle| {
                for gateway in has.difference(&had) {
                    link::add_address(handle, link::LOOPBACK, *gateway).await?;
                }
                for (range, prefix) in routes.difference(&routed) {
                    link::add_unreachable(handle, *range, *prefix).await?;
                }
                for gateway in had.difference(&has).filter(|gateway| !held.contains(gateway)) {
                    link::delete_address(handle, link::LOOPBACK, *gateway).await?;
                }
                for (range, prefix) in routed.difference(&routes) {
                    link::delete_unreachable(handle, *range, *prefix).await?;
                }
                Ok(())
            })
        })?;
        state.subnets = subnets.to_vec();
        Ok(())
    }

    fn set_mtu(&self, id: &NetworkId, mtu: u32) {
        if let Some(network) = self.known(id) {
            network.mtu.store(mtu, Ordering::Relaxed);
        }
    }

    fn set_routes(&self, id: &NetworkId, routes: &[Route]) -> io::Result<()> {
        let network = self.known(id).filter(|_| self.no_filter.is_none());
        let Some(network) = network else { return Ok(()) };
        let mut state = lock(&network.state);
        state.routes = routes.to_vec();
        state.lay_routes(&network.room)
    }

    fn remove(&self, id: &NetworkId) {
        lock(&self.networks).remove(id);
    }

    fn set_firewall(&self, id: &NetworkId, rules: &[FirewallRule]) -> io::Result<()> {
        let network = self.known(id).filter(|_| self.no_filter.is_none());
        let Some(network) = network else { return Ok(()) };
        let mut filter = lock(&network.filter);
        filter.rules = rules.to_vec();
        if let Some(tell) = self.tell.get()
            && self.no_log.is_none()
            && !filter.logs
            && rules.iter().any(|rule| rule.log)
        {
            network.read_log(id, tell.clone())?;
            filter.logs = true;
        }
        filter.apply(&network.room)
    }

    fn firewall_gap(&self) -> Option<String> {
        self.no_filter.clone()
    }

    fn log_firewall(&self, tell: Tell) {
        // Only a second call fails, and there is none.
        let _ = self.tell.set(tell);
    }

    fn firewall_log_gap(&self) -> Option<String> {
        self.no_log.clone()
    }

    fn listen_tcp(
        &self,
        id: &NetworkId,
        ip: Ipv4Addr,
        port: u16,
        count: usize,
    ) -> io::Result<Vec<TcpListener>> {
        if let Some(listeners) = self.inherited.tcp(id, ip, port, count) {
            return Ok(listeners);
        }
        let sockets = self.network(id)?.bind(ip, port, Type::STREAM, count)?;
        sockets
            .into_iter()
            .map(|socket| {
                socket.listen(BACKLOG)?;
                Ok(TcpListener::from(socket))
            })
            .collect()
    }

    fn bind_udp(&self, id: &NetworkId, ip: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
        if let Some(socket) = self.inherited.udp(id, ip, port) {
            return Ok(socket);
        }
        let mut sockets = self.network(id)?.bind(ip, port, Type::DGRAM, 1)?;
        sockets.pop().map(UdpSocket::from).ok_or_else(|| io::Error::other("no socket was made"))
    }

    fn connect_from(&self, id: &NetworkId, from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
        let network = self.network(id)?;
        network.hold(from)?;
        network.sockets.take(&network.room)?.connect(from, to)
    }

    /// Addresses are real, but only inside: this process stands outside every network.
    fn locate(&self, _network: &NetworkId, _ip: Ipv4Addr, _port: u16) -> Option<SocketAddr> {
        None
    }

    fn private_peer(&self, _network: &NetworkId, peer: SocketAddr) -> SocketAddr {
        peer
    }

    fn source_for(&self, _network: &NetworkId, ip: Ipv4Addr) -> io::Result<SocketAddr> {
        Ok(SocketAddrV4::new(ip, 0).into())
    }

    fn release(&self, id: &NetworkId, ip: Ipv4Addr) {
        let Some(network) = self.known(id) else { return };
        let is_gateway = lock(&network.state).subnets.iter().any(|subnet| subnet.gateway == ip);
        let mut held = lock(&network.held);
        if !held.remove(&ip) || is_gateway {
            return;
        }
        let gone = network.room.run(move |inside| {
            inside.netlink(async |handle| link::delete_address(handle, link::LOOPBACK, ip).await)
        });
        if let Err(error) = gone {
            tracing::warn!(%id, %ip, %error, "an address stays on the network's loopback link");
        }
    }

    fn attach(&self, id: &NetworkId, ip: Ipv4Addr, gateway: Ipv4Addr) -> io::Result<Option<Guest>> {
        let network = self.network(id)?;
        let guest = Room::open(&format!("vm {ip}"))?;
        let outside = format!("vm{}", self.guests.fetch_add(1, Ordering::Relaxed));
        let descriptor = guest.namespace().try_clone_to_owned()?;
        let mtu = network.mtu.load(Ordering::Relaxed);
        let expected = self.expect_client(&network);
        let suited = expected.and_then(|()| {
            guest.run(|_| {
                suit_cables();
                Ok(())
            })
        });
        let ready = suited.and_then(|()| {
            plug(&network.room, &outside, descriptor, ip, mtu)?;
            guest.run(move |inside| {
                inside.netlink(async |handle| {
                    link::up(handle, link::LOOPBACK).await?;
                    link::up(handle, GUEST_LINK).await?;
                    link::add_address(handle, GUEST_LINK, ip).await?;
                    link::add_link_route(handle, GUEST_LINK, gateway).await?;
                    link::add_default_route(handle, GUEST_LINK, gateway).await
                })
            })
        });
        let described = match ready.and_then(|()| Guest::of(guest.namespace())) {
            Ok(described) => described,
            Err(error) => {
                unplug(&network.room, &outside);
                network.miss_client();
                return Err(error);
            }
        };
        let mut state = lock(&network.state);
        let before = state.guests.insert(ip, (guest, outside));
        if let Some((_room, outside)) = before {
            unplug(&network.room, &outside);
            network.miss_client();
        }
        state.lay_routes_by(&network.room, ip);
        Ok(Some(described))
    }

    fn detach(&self, id: &NetworkId, ip: Ipv4Addr) {
        let Some(network) = self.known(id) else { return };
        let mut state = lock(&network.state);
        if let Some((_room, outside)) = state.guests.remove(&ip) {
            unplug(&network.room, &outside);
            network.miss_client();
            state.lay_routes_by(&network.room, ip);
        }
    }

    fn estate(&self) -> io::Result<Estate> {
        self.describe()
    }

    fn inherit(&self, sockets: HashMap<SocketPlace, Vec<OwnedFd>>) {
        self.inherited.put(sockets);
    }
}

/// Lays a cable from the router to a guest, and the route to the guest's address along it.
fn plug(router: &Room, outside: &str, guest: OwnedFd, ip: Ipv4Addr, mtu: u32) -> io::Result<()> {
    let outside = outside.to_owned();
    router.run(move |inside| {
        let descriptor = guest.as_raw_fd();
        inside.netlink(async |handle| {
            link::add_cable(handle, &outside, GUEST_LINK, descriptor, mtu).await?;
            link::add_link_route(handle, &outside, ip).await
        })
    })
}

/// Takes a cable away with both its ends. One that is not there is nothing to tell of.
fn unplug(router: &Room, outside: &str) {
    let name = outside.to_owned();
    let gone = router.run(move |inside| inside.netlink(async |handle| link::delete(handle, &name).await));
    match gone {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            tracing::warn!(link = outside, %error, "a client's link stays");
        }
        _ => {}
    }
}

fn bind(at: SocketAddrV4, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::V4(at).into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
