//! Secret Manager: secrets, their versions, and who may read them.
//!
//! A secret is a document of settings; each of its versions is another. What is really secret, the payload, lies in a
//! third kind of document under a prefix of its own ([`name::PAYLOADS`]) that nothing but [`Secrets::access`] and
//! [`Secrets::resolve`] reads: no list, no get, no reconciler and no error text can come across it. Destroying a
//! version deletes that document and keeps the version's.
//!
//! Time changes secrets too (`expireTime`, `versionDestroyTtl`). Nothing waits for the moment: whoever looks after it
//! finds the secret gone or the version destroyed, and the next change of that secret's project writes it down.

mod checksum;
mod name;
mod policy;
mod resolve;
mod secret;
mod time;
mod version;

#[cfg(test)]
mod tests;

pub use checksum::crc32c;
pub use resolve::{Denial, Reference};

use crate::Control;

/// The secrets of a control plane.
#[derive(Clone, Copy)]
pub struct Secrets<'c> {
    control: &'c Control,
}

impl Control {
    /// Secret Manager.
    pub fn secrets(&self) -> Secrets<'_> {
        Secrets { control: self }
    }
}
