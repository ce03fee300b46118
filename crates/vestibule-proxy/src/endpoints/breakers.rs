//! `circuitBreakers`: how much may be under way at the endpoints of a backend service.
//!
//! The limits are the service's and not a worker's, so the counters are atomic numbers that workers share. Services
//! without limits have none of this. What is over a limit is answered 503 at once (Envoy's "overflow"), but for a
//! connection that is waited for, as long as not too many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// The limits. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// `maxConnections`: connections that carry a request at the same time.
    pub connections: Option<u32>,
    /// `maxPendingRequests`: requests that wait for one of these.
    pub pending: Option<u32>,
    /// `maxRequests`: requests under way.
    pub requests: Option<u32>,
    /// `maxRetries`: retries under way.
    pub retries: Option<u32>,
    /// `maxRequestsPerConnection`: a connection is closed after so many.
    pub requests_per_connection: Option<u32>,
}

/// Limits and what counts against them.
#[derive(Debug)]
pub struct Breakers {
    pub limits: Limits,
    requests: AtomicU32,
    pending: AtomicU32,
    connections: Option<Arc<Semaphore>>,
}

impl Breakers {
    pub fn new(limits: Limits) -> Breakers {
        let permits = |most: u32| Arc::new(Semaphore::new(most as usize));
        Breakers {
            limits,
            requests: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            connections: limits.connections.map(permits),
        }
    }

    /// One more request is under way for as long as the answer lives. `None`: there are too many.
    pub(crate) fn request(self: &Arc<Self>) -> Option<Counted> {
        self.count(|breakers| &breakers.requests, self.limits.requests)
    }

    /// One more request waits for a connection.
    pub(crate) fn wait(self: &Arc<Self>) -> Option<Counted> {
        self.count(|breakers| &breakers.pending, self.limits.pending)
    }

    /// A connection may be used. `Err`: one must be waited for.
    pub(crate) fn connection(&self) -> Result<Option<OwnedSemaphorePermit>, Arc<Semaphore>> {
        let Some(semaphore) = &self.connections else { return Ok(None) };
        match semaphore.clone().try_acquire_owned() {
            Ok(permit) => Ok(Some(permit)),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Err(semaphore.clone()),
        }
    }

    fn count(self: &Arc<Self>, of: fn(&Breakers) -> &AtomicU32, limit: Option<u32>) -> Option<Counted> {
        let counted = Counted { breakers: self.clone(), of };
        // Counted before it is compared, so that two workers cannot both take the last place; the drop takes it back.
        let before = of(self).fetch_add(1, Ordering::Relaxed);
        Some(counted).filter(|_| limit.is_none_or(|limit| before < limit))
    }
}

/// Something that is counted.
pub(crate) struct Counted {
    breakers: Arc<Breakers>,
    of: fn(&Breakers) -> &AtomicU32,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.breakers).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_not_counted() {
        let breakers = Arc::new(Breakers::new(Limits { requests: Some(2), ..Limits::default() }));
        let first = breakers.request().unwrap();
        let _second = breakers.request().unwrap();
        assert!(breakers.request().is_none() && breakers.request().is_none());
        drop(first);
        assert!(breakers.request().is_some());
    }

    #[test]
    fn connections_are_counted_only_where_they_are_limited() {
        let unlimited = Breakers::new(Limits::default());
        assert!(unlimited.connection().unwrap().is_none());
        let one = Breakers::new(Limits { connections: Some(1), ..Limits::default() });
        let permit = one.connection().unwrap();
        assert!(permit.is_some() && one.connection().is_err());
        drop(permit);
        assert!(one.connection().is_ok());
    }
}
