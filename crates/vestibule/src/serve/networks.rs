//! Every network as it should be: its subnets, its firewall, its resolver and its metadata server.
//!
//! One thread follows the store. What it does is idempotent: it compares the networks that should be with those that
//! are, and closes the gap.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use vestibule_api::serve_metadata;
use vestibule_control::{Control, Plane, vpc};
use vestibule_dns::{Entry, RESOLVER, Resolver, Sockets};
use vestibule_iam::Issuer;
use vestibule_store::View;
use vestibule_vpc::{NetworkId, Route, SocketPlace, Subnet, Vpc};

use super::clients::Clients;

const DNS_PORT: u16 = 53;
const METADATA_PORT: u16 = 80;
/// How long the store is waited for at a time; also how often a network that could not be made is tried again.
const PERIOD: Duration = Duration::from_secs(1);

/// What the thread works with.
pub struct Networks {
    pub control: Control,
    pub vpc: Vpc,
    pub resolver: Resolver,
    pub issuer: Issuer,
    pub clients: Clients,
    pub runtime: Handle,
    pub services: Services,
    /// Nothing is answered before it says `true`.
    pub open: watch::Receiver<bool>,
}

/// The networks that are there, for whoever wants their sockets. Cheap to clone; clones share state.
#[derive(Clone, Default)]
pub struct Services(Arc<Mutex<HashMap<NetworkId, Present>>>);

/// A network that is there. Dropping it ends its services.
struct Present {
    subnets: Vec<Subnet>,
    /// What was laid last; `None` before anything was.
    routes: Option<Vec<Route>>,
    services: Service,
    /// The resolver at its other addresses.
    forwarders: HashMap<Ipv4Addr, Service>,
}

/// Something that is answered in a network. Dropping it ends the answers.
struct Service {
    /// Further handles on its sockets.
    sockets: Vec<(SocketPlace, OwnedFd)>,
    _alive: watch::Sender<()>,
}

impl Services {
    fn lock(&self) -> MutexGuard<'_, HashMap<NetworkId, Present>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles on every socket of every network's services.
    pub fn sockets(&self) -> io::Result<Vec<(SocketPlace, OwnedFd)>> {
        let present = self.lock();
        let services = present
            .values()
            .flat_map(|there| std::iter::once(&there.services).chain(there.forwarders.values()));
        let handle = |(place, socket): &(SocketPlace, OwnedFd)| Ok((place.clone(), socket.try_clone()?));
        services.flat_map(|service| &service.sockets).map(handle).collect()
    }
}

impl Networks {
    /// Starts the thread; it ends when `stop` changes.
    pub fn start(self, stop: watch::Receiver<bool>) -> std::io::Result<std::thread::JoinHandle<()>> {
        self.control.planes().register(Plane::Vpc);
        std::thread::Builder::new().name("networks".to_owned()).spawn(move || self.follow(&stop))
    }

    fn follow(&self, stop: &watch::Receiver<bool>) {
        let view = self.control.view();
        let mut watch = self.control.store().watch(view.revision());
        let mut settled = self.reconcile(&mut self.services.lock(), &view);
        self.control.planes().ack(Plane::Vpc, view.revision());
        while !*stop.borrow() {
            let changes = watch.next(PERIOD);
            if changes.is_none() && settled {
                continue;
            }
            let view = self.control.view();
            if !settled || changes.is_some_and(|changes| changes.touch("compute/")) {
                settled = self.reconcile(&mut self.services.lock(), &view);
            }
            // The view may be newer than what was looked at; what it has beyond comes next.
            self.control.planes().ack(Plane::Vpc, watch.revision());
        }
        self.services.lock().clear();
    }

    /// Closes the gap; `false` if some of it is left.
    fn reconcile(&self, present: &mut HashMap<NetworkId, Present>, view: &View) -> bool {
        let wanted = vpc::networks(view);
        present.retain(|network, _| {
            let stays = wanted.contains_key(network);
            if !stays {
                self.vpc.remove(network);
            }
            stays
        });
        let mut settled = true;
        let mut resolvers = vpc::resolver_addresses(view);
        let mut routes = vpc::routes(view);
        for (network, subnets) in wanted {
            let is_there = present.get(&network).is_some_and(|there| there.subnets == subnets);
            let made = if is_there { Ok(()) } else { self.make(present, &network, subnets) };
            self.vpc.set_mtu(&network, vpc::mtu(view, &network));
            let forwarders = resolvers.remove(&network).unwrap_or_default();
            let routes = routes.remove(&network).unwrap_or_default();
            let made = made.and_then(|()| self.lay_routes(present, &network, routes));
            let made = made.and_then(|()| self.forward(present, &network, &forwarders));
            if let Err(error) = made.and_then(|()| self.clients.enforce_firewall(&network)) {
                tracing::error!(%network, %error, "a network is not as it should be; trying again");
                settled = false;
            }
        }
        settled
    }

    fn make(
        &self,
        present: &mut HashMap<NetworkId, Present>,
        network: &NetworkId,
        subnets: Vec<Subnet>,
    ) -> std::io::Result<()> {
        self.vpc.configure(network, &subnets)?;
        match present.get_mut(network) {
            Some(there) => there.subnets = subnets,
            None => {
                self.clients.forget_firewall(network);
                let services = self.serve(network)?;
                let forwarders = HashMap::new();
                let made = Present { subnets, routes: None, services, forwarders };
                present.insert(network.clone(), made);
            }
        }
        Ok(())
    }

    fn lay_routes(
        &self,
        present: &mut HashMap<NetworkId, Present>,
        network: &NetworkId,
        routes: Vec<Route>,
    ) -> io::Result<()> {
        let Some(there) = present.get_mut(network) else { return Ok(()) };
        if there.routes.as_ref() != Some(&routes) {
            self.vpc.set_routes(network, &routes)?;
            there.routes = Some(routes);
        }
        Ok(())
    }

    /// Has the resolver of a network answer at exactly these addresses besides its own.
    fn forward(
        &self,
        present: &mut HashMap<NetworkId, Present>,
        network: &NetworkId,
        wanted: &BTreeSet<Ipv4Addr>,
    ) -> std::io::Result<()> {
        let Some(there) = present.get_mut(network) else { return Ok(()) };
        there.forwarders.retain(|address, _| {
            let stays = wanted.contains(address);
            if !stays {
                self.vpc.release(network, *address);
            }
            stays
        });
        for address in wanted {
            if !there.forwarders.contains_key(address) {
                let (alive, gone) = watch::channel(());
                let sockets = self.serve_names(network, *address, gone)?;
                there.forwarders.insert(*address, Service { sockets, _alive: alive });
            }
        }
        Ok(())
    }

    /// The resolver of a network at one address, until the other end of `gone` is dropped. Returns further handles on
    /// its sockets.
    fn serve_names(
        &self,
        network: &NetworkId,
        address: Ipv4Addr,
        gone: watch::Receiver<()>,
    ) -> io::Result<Vec<(SocketPlace, OwnedFd)>> {
        let udp = self.vpc.bind_udp(network, address, DNS_PORT)?;
        let tcp = first(self.vpc.listen_tcp(network, address, DNS_PORT, 1)?)?;
        let entry = if address == RESOLVER { Entry::Machines } else { Entry::Forwarder(address) };
        let place = |is_udp| SocketPlace { network: network.clone(), ip: address, port: DNS_PORT, is_udp };
        let handles = vec![
            (place(true), udp.as_fd().try_clone_to_owned()?),
            (place(false), tcp.as_fd().try_clone_to_owned()?),
        ];
        let sockets = Sockets { udp, tcp, entry };
        let serving = vestibule_dns::serve(self.resolver.clone(), network.clone(), sockets, dropped(gone));
        let name = network.clone();
        let open = opened(self.open.clone());
        self.runtime.spawn(async move {
            open.await;
            if let Err(error) = serving.await {
                tracing::error!(network = %name, %address, %error, "the resolver ended");
            }
        });
        Ok(handles)
    }

    /// The resolver and the metadata server of a network, until the returned value is dropped.
    fn serve(&self, network: &NetworkId) -> io::Result<Service> {
        let (alive, gone) = watch::channel(());
        let metadata = first(self.vpc.listen_tcp(network, RESOLVER, METADATA_PORT, 1)?)?;
        let mut sockets = self.serve_names(network, RESOLVER, gone.clone())?;
        let place =
            SocketPlace { network: network.clone(), ip: RESOLVER, port: METADATA_PORT, is_udp: false };
        sockets.push((place, metadata.as_fd().try_clone_to_owned()?));
        let (clients, of) = (self.clients.clone(), network.clone());
        let who = std::sync::Arc::new(move |peer| clients.identity(&of, peer));
        let serving = serve_metadata(metadata, self.issuer.clone(), who, dropped(gone));
        let open = opened(self.open.clone());
        self.runtime.spawn(async move {
            open.await;
            if let Err(error) = serving.await {
                tracing::error!(%error, "a metadata server ended");
            }
        });
        Ok(Service { sockets, _alive: alive })
    }
}

/// Completes when the other end is gone.
async fn dropped(mut gone: watch::Receiver<()>) {
    while gone.changed().await.is_ok() {}
}

/// Completes when connections may be accepted, or nobody is left who could say so.
pub async fn opened(mut open: watch::Receiver<bool>) {
    let _ = open.wait_for(|open| *open).await;
}

fn first<T>(listeners: Vec<T>) -> std::io::Result<T> {
    listeners.into_iter().next().ok_or_else(|| std::io::Error::other("no socket was made"))
}
