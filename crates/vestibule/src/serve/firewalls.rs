//! Firewalls of the networks, as documents and clients together make them.
//!
//! Two things change the rules of a network: documents, and the clients that come and go with their service accounts
//! and tags. Both end here, one at a time, so that what is enforced is never older than what was compiled last.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use vestibule_control::Control;
use vestibule_control::vpc::{Member, firewall};
use vestibule_vpc::firewall::{Action, Direction, Flow, decide};
use vestibule_vpc::{FirewallRule, NetworkId, Vpc};

/// What is enforced in every network.
pub struct Firewalls {
    control: Control,
    vpc: Vpc,
    enforced: Mutex<HashMap<NetworkId, Vec<FirewallRule>>>,
}

impl Firewalls {
    pub fn new(control: Control, vpc: Vpc) -> Firewalls {
        Firewalls { control, vpc, enforced: Mutex::default() }
    }

    /// Enforces what is stored now for these clients. `members` is asked when it is this network's turn.
    pub fn enforce(&self, network: &NetworkId, members: impl FnOnce() -> Vec<Member>) -> io::Result<()> {
        let mut enforced = self.enforced.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = firewall(&self.control.view(), network, &members());
        // A network without an entry is new, and has the implied rules.
        if enforced.get(network).map_or(&[][..], Vec::as_slice) != rules {
            self.vpc.set_firewall(network, &rules)?;
            enforced.insert(network.clone(), rules);
        }
        Ok(())
    }

    /// Whether what is enforced lets a client of the network begin such a connection.
    pub fn lets_out(&self, network: &NetworkId, flow: &Flow) -> bool {
        let enforced = self.enforced.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = enforced.get(network).map_or(&[][..], Vec::as_slice);
        decide(rules, Direction::Egress, flow).0 == Action::Allow
    }

    /// The network is gone, or is another one than before.
    pub fn forget(&self, network: &NetworkId) {
        self.enforced.lock().unwrap_or_else(PoisonError::into_inner).remove(network);
    }
}
