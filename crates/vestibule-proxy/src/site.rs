//! What a worker serves at one address, ready for requests.
//!
//! A [`Slot`] is an address that this worker listens on; it outlives snapshots. A [`Site`] is what one snapshot says
//! about it. A request takes the site once, at its start, and so is served wholly by one snapshot.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::accesslog;
use crate::limits::MAX_CONNECT_ATTEMPTS;
use crate::metrics::SeriesCache;
use crate::snapshot::{BackendService, Front, Listener};
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
#[derive(Default)]
struct ServiceState {
    /// Start of its log entries.
    log_prefix: OnceCell<Vec<u8>>,
    /// Whose turn it is among its endpoints.
    turn: Cell<usize>,
    /// Where its endpoints are, those that were asked for: found, or found nowhere.
    located: RefCell<Vec<Option<Option<SocketAddr>>>>,
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
    pub(crate) fn balancer(listener: Arc<Listener>) -> Site {
        let forwarded_suffix = format!(",{}", listener.ip).into_bytes();
        let services = listener.routes.services.iter().map(|_| ServiceState::default()).collect();
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

    /// Start of the log entries of requests for this service, or for none.
    pub(crate) fn log_prefix(&self, service: Option<usize>) -> &[u8] {
        let found = service.and_then(|index| Some((self.services.get(index)?, self.service(index)?)));
        match found {
            Some((state, service)) => {
                state.log_prefix.get_or_init(|| accesslog::prefix(&self.listener, Some(service)))
            }
            None => self.unmatched.get_or_init(|| accesslog::prefix(&self.listener, None)),
        }
    }

    /// Somebody wants to see requests of this listener.
    pub(crate) fn logs_anything(&self) -> bool {
        self.listener.routes.services.iter().any(|service| service.log.enable)
    }

    /// Endpoints in the order in which to try them, each getting its turn to be the first. `locate` tells where this
    /// process reaches one; the answer is kept.
    pub(crate) fn turns(
        &self,
        service: usize,
        endpoints: &[SocketAddr],
        locate: impl Fn(SocketAddr) -> Option<SocketAddr>,
    ) -> Vec<SocketAddr> {
        let Some(state) = self.services.get(service).filter(|_| !endpoints.is_empty()) else {
            return Vec::new();
        };
        let turn = state.turn.get();
        state.turn.set(turn.wrapping_add(1));
        let mut located = state.located.borrow_mut();
        located.resize(endpoints.len(), None);
        let count = endpoints.len().min(MAX_CONNECT_ATTEMPTS as usize);
        let order = (0..count).map(|step| turn.wrapping_add(step) % endpoints.len());
        order.filter_map(|index| *located[index].get_or_insert_with(|| locate(endpoints[index]))).collect()
    }

    /// Endpoints of this service did not answer where they were; look again.
    pub(crate) fn relocate(&self, service: usize) {
        if let Some(state) = self.services.get(service) {
            state.located.borrow_mut().clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_endpoint_gets_its_turn() {
        let Site::Balancer(balancer) = Site::balancer(testing::listener("10.0.0.100", 80)) else { panic!() };
        let endpoints: Vec<SocketAddr> = (1..=4).map(|n| SocketAddr::from(([127, 0, 0, n], 80))).collect();
        let turns = || balancer.turns(0, &endpoints, |at| Some(at).filter(|at| *at != endpoints[2]));
        assert_eq!(turns(), [endpoints[0], endpoints[1]]);
        assert_eq!(turns(), [endpoints[1], endpoints[3]]);
        assert_eq!(turns(), [endpoints[3], endpoints[0]]);
        assert_eq!(turns(), [endpoints[3], endpoints[0], endpoints[1]]);
        assert!(balancer.turns(0, &[], Some).is_empty());
    }
}
