//! Capabilities of a container.
//!
//! All of them count only inside the container's user namespace, and even there a container gets no more than what
//! programs in images commonly need to change to another user and own their files: Docker's list without raw
//! sockets, device nodes and audit records.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

use super::helper::NO_CAPABILITIES;

const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);
/// Capabilities that a kernel can have.
const ALL: u32 = 64;

/// Takes all others out of what this process and its children can ever have.
pub(super) fn bound() -> Result<(), Errno> {
    clear_ambient_capability_set()?;
    for number in 0..ALL {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel has no more of them.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Leaves root with what is kept, everyone else with nothing, and nobody with a way to get more.
pub(super) fn drop_to(uid: u32) -> Result<(), Errno> {
    let kept = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    set_capabilities(None, if uid == 0 { kept } else { NO_CAPABILITIES })?;
    set_no_new_privs(true)
}
