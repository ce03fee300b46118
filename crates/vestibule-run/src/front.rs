//! The entrance to services: ingress check, identity check, revision pick, lease of an instance's slot.
//!
//! A front is asked by the threads that serve requests, so all it reads on the way of a request is one atomically
//! published table. [`Front::admit`] never waits. [`Admitted::acquire`] waits only if no instance has a free slot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;

pub use crate::instance::Lease;
pub use crate::refusal::{Cause, Refusal};

use crate::affinity;
use crate::desired::{Ingress, Revision, Service};
use crate::entries::EntryHead;
use crate::instance::Instance;
use crate::invoker::Checker;
use crate::pool::Pool;
use crate::table::{Found, Table};

/// Which service a caller wants.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// By name, as a serverless NEG names it.
    Service { project: &'a str, region: &'a str, service: &'a str, tag: Option<&'a str> },
    /// By the host name of a default URL. A port is ignored, and so is case.
    Host(&'a str),
}

/// Where a request comes from: what the ingress setting of a service tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    InternalLoadBalancer,
    /// A client inside a VPC network of the project, on the default URL.
    Vpc,
    External,
}

/// What a front asks before it lets a request in. Header values as received.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub target: Target<'a>,
    pub origin: Origin,
    pub authorization: Option<&'a [u8]>,
    /// `X-Serverless-Authorization`: checked instead of `Authorization` when present.
    pub serverless_authorization: Option<&'a [u8]>,
    /// Path and query, for the text of a refusal.
    pub path: &'a str,
    /// The `Cookie` header, for session affinity: see [`Admitted::affinity_cookie`].
    pub cookies: Option<&'a [u8]>,
}

/// A request that may go in. Obtained from [`Front::admit`].
pub struct Admitted {
    pub service: Arc<Service>,
    pub revision: Arc<Revision>,
    /// The header whose token was checked goes on with its signature removed; `None` leaves it untouched.
    pub replaced_token: Option<ReplacedToken>,
    /// The request's deadline: queue, start and answer together.
    pub timeout: Duration,
    /// What the revision's log entries begin with.
    pub log_head: Arc<EntryHead>,
    pub(crate) pool: Arc<Pool>,
    /// The instance that the client's cookie names, if it is there and the revision wants affinity.
    pub(crate) preferred: Option<Arc<Instance>>,
}

/// What stands in place of a header whose token was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacedToken {
    /// `true`: the value is for `X-Serverless-Authorization`, else for `Authorization`.
    pub serverless: bool,
    pub value: Bytes,
}

impl Admitted {
    /// Takes a slot if a ready instance has one and nobody waits for it already.
    pub fn try_acquire(&self) -> Option<Lease> {
        self.pool.try_acquire(self.preferred.as_ref())
    }

    /// Takes a slot, waiting in line and for instances to start until `deadline` at most.
    ///
    /// Works from every thread and every tokio runtime. Dropping the future leaves the line.
    pub async fn acquire(&self, deadline: Instant) -> Result<Lease, Refusal> {
        match self.try_acquire() {
            Some(lease) => Ok(lease),
            None => self.pool.wait(deadline.into()).await.map_err(|refusal| refusal.of(&self.service)),
        }
    }

    /// The `Set-Cookie` value that the response must carry, so that the client comes back to the instance of `lease`.
    /// `None` where the revision has no session affinity, or the client has the cookie already.
    ///
    /// Affinity is best effort, as in Cloud Run: a full or vanished instance loses its clients to others.
    pub fn affinity_cookie(&self, lease: &Lease) -> Option<String> {
        let known = self.preferred.as_ref().is_some_and(|preferred| preferred.id == lease.instance_id);
        (self.revision.session_affinity && !known).then(|| affinity::set_cookie(&lease.instance_id))
    }
}

/// The entrance. Cheap to clone; a clone shows every change at once.
#[derive(Clone)]
pub struct Front {
    table: Arc<ArcSwap<Table>>,
    checker: Arc<Checker>,
}

impl Front {
    pub(crate) fn new(table: Arc<ArcSwap<Table>>, checker: Checker) -> Self {
        Self { table, checker: Arc::new(checker) }
    }

    /// Whether the request may go in, and to which revision.
    ///
    /// In Cloud Run's order: the service and its tag, ingress, identity, then the split of traffic.
    pub fn admit(&self, ask: &Ask<'_>) -> Result<Admitted, Refusal> {
        let table = self.table.load();
        let Found { entry, tag } = table.find(&ask.target)?;
        let service = &entry.service;
        check_ingress(service.ingress, ask.origin).map_err(|refusal| refusal.of(service))?;
        let replaced_token = self.checker.check(entry, ask).map_err(|refusal| refusal.of(service))?;
        let (route, preferred) = match (entry.sticky(tag, ask.cookies), tag) {
            // Affinity takes precedence over the split of traffic.
            (Some((route, instance)), _) => (route, Some(instance)),
            (None, Some(route)) => (route, None),
            (None, None) => (entry.pick().ok_or_else(|| Refusal::no_revision().of(service))?, None),
        };
        Ok(Admitted {
            service: service.clone(),
            revision: route.revision.clone(),
            replaced_token,
            timeout: route.revision.timeout,
            log_head: route.log_head.clone(),
            pool: route.pool.clone(),
            preferred,
        })
    }

    /// The service behind a target, if there is one. Checks nothing.
    pub fn service(&self, target: &Target<'_>) -> Option<Arc<Service>> {
        self.table.load().find(target).ok().map(|found| found.entry.service.clone())
    }
}

/// Who gets in by where they come from. The regional internal load balancer counts as internal.
fn check_ingress(ingress: Ingress, origin: Origin) -> Result<(), Refusal> {
    let (open, setting) = match ingress {
        Ingress::All => (true, "all"),
        Ingress::Internal => (origin != Origin::External, "internal"),
        Ingress::InternalAndCloudLoadBalancing => {
            (origin != Origin::External, "internal-and-cloud-load-balancing")
        }
        Ingress::None => (false, "none"),
    };
    if open { Ok(()) } else { Err(Refusal::ingress(setting)) }
}

#[cfg(test)]
mod tests;
