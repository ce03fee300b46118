//! What is known of endpoints, between those who find it out and those who ask.
//!
//! The compiler asks for the health of every endpoint it compiles and gets the same cell each time, for as long as some
//! snapshot or probe uses it: an endpoint stays healthy when something else of its backend service changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use vestibule_balance::{Epoch, Health, State};
use vestibule_health::Name;
use vestibule_proxy::snapshot::Named;

/// The health of every endpoint that is probed. Cheap to clone; clones share state.
#[derive(Clone, Default)]
pub struct HealthTable(Arc<Inner>);

#[derive(Default)]
struct Inner {
    epoch: Epoch,
    state: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    /// By what names an endpoint and its check.
    cells: HashMap<String, Health>,
    names: HashMap<(String, u16), Arc<Named>>,
}

impl HealthTable {
    pub fn epoch(&self) -> &Epoch {
        &self.0.epoch
    }

    /// The health of an endpoint: unknown until it is probed.
    pub fn of(&self, key: &str) -> Health {
        let mut tables = self.lock();
        let cell = tables.cells.entry(key.to_owned());
        cell.or_insert_with(|| Health::unknown(&self.0.epoch)).clone()
    }

    /// What is known of an endpoint; `None` if nobody probes it.
    pub fn state(&self, key: &str) -> Option<State> {
        self.lock().cells.get(key).map(Health::get)
    }

    /// The addresses of a name.
    pub(super) fn named(&self, name: &str, port: u16) -> Arc<Named> {
        let fresh = || Arc::new(Named { name: name.to_owned(), port, addresses: ArcSwap::default() });
        self.lock().names.entry((name.to_owned(), port)).or_insert_with(fresh).clone()
    }

    /// Forgets what nobody uses, and tells which names must be kept up to date.
    pub(super) fn sweep(&self, used: impl Fn(&str) -> bool) -> Vec<Name> {
        let mut tables = self.lock();
        tables.cells.retain(|key, _| used(key));
        // One owner is this table.
        tables.names.retain(|_, named| Arc::strong_count(named) > 1);
        let name = |named: &Arc<Named>| {
            let (mine, epoch) = (Arc::downgrade(named), self.0.epoch.clone());
            let publish = move |addresses: Vec<SocketAddr>| {
                if let Some(named) = mine.upgrade()
                    && **named.addresses.load() != addresses
                {
                    named.addresses.store(Arc::new(addresses));
                    epoch.advance();
                }
            };
            Name { name: named.name.clone(), port: named.port, publish: Arc::new(publish) }
        };
        tables.names.values().map(name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_endpoint_is_the_same_cell() {
        let table = HealthTable::default();
        table.of("a").set(State::Healthy);
        assert_eq!((table.state("a"), table.state("b")), (Some(State::Healthy), None));
        assert!(table.of("a").is_good());
        table.sweep(|key| key != "a");
        assert_eq!(table.state("a"), None);
    }

    #[test]
    fn names_that_are_used_are_kept_up_to_date() {
        let table = HealthTable::default();
        let named = table.named("a.test", 80);
        drop(table.named("b.test", 80));
        let names = table.sweep(|_| true);
        assert_eq!(names.iter().map(|name| name.name.as_str()).collect::<Vec<_>>(), ["a.test"]);
        let before = table.epoch().get();
        (names[0].publish)(vec![([127, 0, 0, 1], 80).into()]);
        (names[0].publish)(vec![([127, 0, 0, 1], 80).into()]);
        assert_eq!((named.addresses.load().len(), table.epoch().get()), (1, before + 1));
    }
}
