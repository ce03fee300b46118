//! One endpoint, as long as a worker knows it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use vestibule_balance::{Load, Strikes};

use super::At;
use crate::upstream::Location;

/// Set when requests at an endpoint that was removed have had their time.
pub(crate) type Cut = Rc<Cell<bool>>;

/// An endpoint of a backend service.
pub(crate) struct Host {
    pub(super) key: u64,
    at: At,
    /// How it is reached: a number of the pool's ways.
    way: u32,
    /// Requests under way.
    pub(super) in_flight: Cell<u32>,
    pub(super) strikes: RefCell<Strikes>,
    /// What it reports of its load.
    pub(super) load: Cell<Load>,
    /// Which address of a name comes next.
    next: Cell<usize>,
    pub(super) cut: Cut,
}

impl Host {
    pub(super) fn new(at: At, way: u32) -> Host {
        Host {
            key: at.key(),
            at,
            way,
            in_flight: Cell::new(0),
            strikes: RefCell::default(),
            load: Cell::default(),
            next: Cell::new(0),
            cut: Cut::default(),
        }
    }

    /// Where the next connection goes. `None`: nowhere; its name is not known.
    pub(super) fn place(&self) -> Option<Location> {
        let address = match &self.at {
            At::Network(address) => (*address).into(),
            At::Machine(address) => *address,
            At::Name(named) => {
                let addresses = named.addresses.load();
                let turn = self.next.get();
                self.next.set(turn.wrapping_add(1));
                *addresses.get(turn % addresses.len().max(1))?
            }
        };
        Some(Location { address, way: self.way })
    }

    /// There is a place to connect to.
    pub(super) fn is_known(&self) -> bool {
        !matches!(&self.at, At::Name(named) if named.addresses.load().is_empty())
    }

    /// Reached the same way, so that what is known of it still holds.
    pub(super) fn is_at(&self, at: &At, way: u32) -> bool {
        let same_name = match (&self.at, at) {
            (At::Name(mine), At::Name(other)) => std::sync::Arc::ptr_eq(mine, other),
            _ => true,
        };
        self.way == way && same_name && self.key == at.key()
    }
}
