//! What is known of an endpoint's health, published without a lock.
//!
//! A prober writes, the workers of the proxy read at every pick. To read one number an endpoint would be too much for
//! a thousand endpoints, so all of them share an [`Epoch`]: a number that rises whenever any endpoint comes or goes. A
//! worker looks at the endpoints again only when it has risen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was not probed yet. It gets no requests.
    Unknown,
    Healthy,
    Unhealthy,
}

/// Rises whenever the health of an endpoint changes. Clones are the same number.
#[derive(Debug, Clone, Default)]
pub struct Epoch(Arc<AtomicU64>);

impl Epoch {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Makes everybody look again.
    pub fn advance(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// The health of one endpoint. Clones are the same endpoint's.
#[derive(Debug, Clone)]
pub struct Health(Arc<Cell>);

#[derive(Debug)]
struct Cell {
    state: AtomicU8,
    epoch: Epoch,
}

impl Health {
    /// Of an endpoint that is going to be probed.
    pub fn unknown(epoch: &Epoch) -> Health {
        Health(Arc::new(Cell { state: AtomicU8::new(State::Unknown as u8), epoch: epoch.clone() }))
    }

    /// Of an endpoint that nobody probes: it counts as healthy.
    pub fn assumed() -> Health {
        Health(Arc::new(Cell { state: AtomicU8::new(State::Healthy as u8), epoch: Epoch::default() }))
    }

    pub fn get(&self) -> State {
        match self.0.state.load(Ordering::Acquire) {
            state if state == State::Healthy as u8 => State::Healthy,
            state if state == State::Unhealthy as u8 => State::Unhealthy,
            _ => State::Unknown,
        }
    }

    /// Publishes what was found out. Returns what was known before.
    pub fn set(&self, state: State) -> State {
        let before = self.get();
        self.0.state.store(state as u8, Ordering::Release);
        if before != state {
            self.0.epoch.advance();
        }
        before
    }

    /// It may be given requests.
    pub fn is_good(&self) -> bool {
        self.get() == State::Healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_all_and_raises_the_epoch_once() {
        let epoch = Epoch::default();
        let health = Health::unknown(&epoch);
        let seen = health.clone();
        assert_eq!((seen.get(), seen.is_good()), (State::Unknown, false));
        assert_eq!(health.set(State::Healthy), State::Unknown);
        assert!(seen.is_good());
        health.set(State::Healthy);
        assert_eq!(epoch.get(), 1);
        health.set(State::Unhealthy);
        assert_eq!((epoch.get(), seen.get()), (2, State::Unhealthy));
        assert!(Health::assumed().is_good());
    }
}
