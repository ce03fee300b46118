//! Addresses that clients inside subnetworks hold.
//!
//! A client (a process under `vm run`) has an address of its own in a subnetwork. It lives no longer than this
//! process, so its lease lives in memory; every other user of addresses asks here too, so that none is given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vestibule_model::{ResourceName, Scope};

use super::addresses::{Claim, allocate};
use super::subnetworks::why_not_private;
use super::{default_network, subnetworks};
use crate::{ANSWER_WITHIN, Control, Error, document};

/// All leases of this process.
#[derive(Debug, Default)]
pub struct Vms(Mutex<BTreeMap<ResourceName, BTreeSet<Ipv4Addr>>>);

/// An address that a client holds in a subnetwork, until [`Vms::release`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmAddress {
    pub network: ResourceName,
    pub subnetwork: ResourceName,
    pub address: Ipv4Addr,
}

impl Vms {
    /// Addresses held in a subnetwork.
    pub fn held(&self, subnetwork: &ResourceName) -> BTreeSet<Ipv4Addr> {
        self.lock().get(subnetwork).cloned().unwrap_or_default()
    }

    /// Gives an address back. One that is not held is ignored.
    pub fn release(&self, lease: &VmAddress) {
        let mut held = self.lock();
        if let Some(addresses) = held.get_mut(&lease.subnetwork) {
            addresses.remove(&lease.address);
            if addresses.is_empty() {
                held.remove(&lease.subnetwork);
            }
        }
    }

    /// Notes that an address is held, as another process that leased it did.
    pub fn adopt(&self, lease: &VmAddress) {
        self.hold(&lease.subnetwork, lease.address);
    }

    fn hold(&self, subnetwork: &ResourceName, address: Ipv4Addr) {
        self.lock().entry(subnetwork.clone()).or_default().insert(address);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ResourceName, BTreeSet<Ipv4Addr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client at an address is called, which has no name of its own.
pub fn instance_name(address: Ipv4Addr) -> String {
    format!("vm-{}", address.to_string().replace('.', "-"))
}

/// The zone that clients of a region are in.
pub fn zone(region: &str) -> String {
    format!("{region}-a")
}

/// A client as Google names a VM.
pub fn instance(subnetwork: &ResourceName, address: Ipv4Addr) -> ResourceName {
    let zone = zone(subnetwork.scope.region_name().unwrap_or_default());
    ResourceName::new(&subnetwork.project, Scope::Zone(zone), "instances", instance_name(address))
}

impl Control {
    /// Gives a client an address of a private subnetwork: the wanted one, or the lowest free one.
    pub fn lease_vm(&self, subnetwork: &ResourceName, wanted: Option<Ipv4Addr>) -> Result<VmAddress, Error> {
        // Inside a change, though it seldom stages anything: no reservation may come between looking and holding.
        let (lease, revision) = self.change(|change| {
            let stored = change.expect(subnetwork)?;
            let doc = document::object(&stored);
            if !subnetworks::is_private(doc) {
                return Err(Error::invalid("subnetwork", subnetwork, why_not_private(doc)));
            }
            let network = subnetworks::network_of(doc)?;
            let address = allocate(change, subnetwork, "address", wanted, Claim::Client)?;
            default_network::wake(change, &network);
            self.vms().hold(subnetwork, address);
            Ok(VmAddress { network, subnetwork: subnetwork.clone(), address })
        })?;
        // The network may have been woken.
        self.planes().wait(revision, ANSWER_WITHIN);
        Ok(lease)
    }
}
