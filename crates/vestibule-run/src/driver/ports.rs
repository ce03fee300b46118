//! Ports for programs that share one network.
//!
//! In Cloud Run every instance has a network of its own and listens on the port of its revision. Programs on one
//! machine do not, and each listens on all addresses, so each gets a port of its own in `PORT`. Asking the kernel for
//! a free port and giving it back would hand out one that the next outgoing connection of any program may take before
//! the instance listens. Ports below the range for outgoing connections are not taken that way.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Lowest port ever handed out. Below are the ports of well-known services.
const FIRST: u16 = 15_000;
/// Where the range for outgoing connections begins if the system does not tell: Linux's default.
const DEFAULT_OUTGOING: u16 = 32_768;
/// Fewest ports that are worth choosing from; with less room below the outgoing range, that range is used.
const ENOUGH: u16 = 1_000;
/// Ports tried before it is an error that none is free.
const TRIES: u32 = 200;

/// Ports that instances of this process hold. Threads of one process must not choose the same.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nothing else here is given while this exists.
#[derive(Debug)]
pub(crate) struct Port(u16);

impl Port {
    /// Finds one that is free.
    pub(crate) fn reserve() -> io::Result<Self> {
        let (first, last) = range();
        for _ in 0..TRIES {
            let port = fastrand::u16(first..=last);
            if taken().insert(port) {
                let reserved = Self(port);
                if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
                    return Ok(reserved);
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port for an instance"))
    }

    pub(crate) fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        taken().remove(&self.0);
    }
}

fn taken() -> std::sync::MutexGuard<'static, BTreeSet<u16>> {
    // A set of numbers is whole whatever happened to another thread.
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// First and last port to choose from.
fn range() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let outgoing =
        text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(DEFAULT_OUTGOING);
    if outgoing >= FIRST + ENOUGH { (FIRST, outgoing - 1) } else { (FIRST, u16::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_different_and_given_back() {
        let ports: Vec<_> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let numbers: BTreeSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 50);
        let (first, last) = range();
        assert!(numbers.iter().all(|port| (first..=last).contains(port)));
        assert!(taken().is_superset(&numbers));
        drop(ports);
        // Other tests reserve ports too, so only some of these may be taken again.
        assert!(!taken().is_superset(&numbers));
    }
}
