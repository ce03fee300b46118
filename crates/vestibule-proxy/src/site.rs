//! What a worker serves at one address, ready for requests.
//!
//! A [`Slot`] is an address that this worker listens on; it outlives snapshots. A [`Site`] is what one snapshot says
//! about it. A request takes the site once, at its start, and so is served wholly by one snapshot.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::accesslog;
use crate::endpoints::{Endpoints, Members};
use crate::metrics::SeriesCache;
use crate::snapshot::{Backend, BackendService, Front, Listener};
use crate::tls::Tls;

/// An address that a worker listens on.
pub(crate) struct Slot {
    site: RefCell<Rc<Site>>,
    removed: Cell<bool>,
    /// Connections that came in here and are open.
    connections: Cell<usize>,
    /// One of them ended.
    room: Notify,
}

/// What is served at an address.
pub(crate) enum Site {
    Balancer(Balancer),
    Front(Arc<Front>),
}

/// A listener of the load balancer as one worker sees it.
pub(crate) struct Balancer {
    pub(crate) listener: Arc<Listener>,
    /// `,10.0.0.100`: what the load balancer adds to `x-forwarded-for` behind the client.
    pub(crate) forwarded_suffix: Vec<u8>,
    services: Vec<ServiceState>,
    /// Start of the log entries of requests for which no service was chosen.
    unmatched: OnceCell<Vec<u8>>,
    /// Where its requests are counted.
    pub(crate) series: RefCell<SeriesCache>,
}

/// What a worker keeps for one backend service of a site.
struct ServiceState {
    /// Starts of its log entries: of requests that went to no group of endpoints, and of those of each group.
    log_prefixes: Vec<OnceCell<Vec<u8>>>,
    /// Its endpoints, if it has any.
    members: Option<Rc<Members>>,
}

impl ServiceState {
    fn new(service: &BackendService, members: &impl Fn(&Arc<Endpoints>) -> Rc<Members>) -> ServiceState {
        let mut state = ServiceState { log_prefixes: vec![OnceCell::new()], members: None };
        if let Backend::Endpoints(endpoints) = &service.backend {
            state.log_prefixes.resize(endpoints.groups.len() + 1, OnceCell::new());
            state.members = Some(members(endpoints));
        }
        state
    }
}

impl Slot {
    pub(crate) fn new(site: Site) -> Rc<Slot> {
        Rc::new(Slot {
            site: RefCell::new(Rc::new(site)),
            removed: Cell::new(false),
            connections: Cell::new(0),
            room: Notify::new(),
        })
    }

    /// What is served now.
    pub(crate) fn site(&self) -> Rc<Site> {
        self.site.borrow().clone()
    }

    /// Serves something else from the next request on.
    pub(crate) fn replace(&self, site: Site) {
        self.site.replace(Rc::new(site));
    }

    /// Serves nothing more: requests under way are finished.
    pub(crate) fn remove(&self) {
        self.removed.set(true);
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.get()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// A connection came in.
    pub(crate) fn enter(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// A connection ended.
    pub(crate) fn leave(&self) {
        self.connections.set(self.connections.get() - 1);
        self.room.notify_one();
    }

    /// Waits until a connection ends.
    pub(crate) async fn left(&self) {
        self.room.notified().await;
    }
}

impl Site {
    /// A forwarding rule, with what `members` finds for the endpoints of its backend services.
    pub(crate) fn balancer(
        listener: Arc<Listener>,
        members: impl Fn(&Arc<Endpoints>) -> Rc<Members>,
    ) -> Site {
        let forwarded_suffix = format!(",{}", listener.ip).into_bytes();
        let services =
            listener.routes.services.iter().map(|service| ServiceState::new(service, &members)).collect();
        let (unmatched, series) = Default::default();
        Site::Balancer(Balancer { listener, forwarded_suffix, services, unmatched, series })
    }

    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        match self {
            Site::Balancer(balancer) => balancer.listener.tls.as_ref(),
            Site::Front(front) => front.tls.as_ref(),
        }
    }

    /// How long a connection may wait for its next request.
    pub(crate) fn keep_alive(&self) -> Duration {
        match self {
            Site::Balancer(balancer) => balancer.listener.keep_alive,
            Site::Front(_) => crate::snapshot::DEFAULT_KEEP_ALIVE,
        }
    }

    /// The same configuration object: nothing has to be replaced.
    pub(crate) fn is(&self, listener: &Arc<Listener>) -> bool {
        matches!(self, Site::Balancer(balancer) if Arc::ptr_eq(&balancer.listener, listener))
    }
}

impl Balancer {
    pub(crate) fn service(&self, index: usize) -> Option<&Arc<BackendService>> {
        self.listener.routes.services.get(index)
    }

    /// Start of the log entries of requests for this service, or for none, and the group that they went to.
    pub(crate) fn log_prefix(&self, service: Option<usize>, group: Option<usize>) -> &[u8] {
        let slot = group.map_or(0, |group| group + 1);
        let found = service.and_then(|index| {
            Some((self.services.get(index)?.log_prefixes.get(slot)?, self.service(index)?))
        });
        match found {
            Some((prefix, service)) => {
                prefix.get_or_init(|| accesslog::prefix(&self.listener, Some((service, group))))
            }
            None => self.unmatched.get_or_init(|| accesslog::prefix(&self.listener, None)),
        }
    }

    /// Somebody wants to see requests of this listener.
    pub(crate) fn logs_anything(&self) -> bool {
        self.listener.routes.services.iter().any(|service| service.log.enable)
    }

    /// The endpoints of a service, if it has any.
    pub(crate) fn members(&self, service: usize) -> Option<&Rc<Members>> {
        self.services.get(service)?.members.as_ref()
    }
}
