//! Cloud Run: services, their revisions, and what becomes of them; and jobs ([`jobs`]).
//!
//! One document holds a service, in the form of the v1 (Knative) API; the v2 API is a view of it in both directions
//! ([`v2`]). Every change of a template makes a revision, which is a document of its own and never changes but for
//! what is observed of it.
//!
//! A service's life has two halves. A call writes what is wanted and marks the service as not ready. The reconciler
//! ([`reconcile`]) compiles all services into what the runtime should do ([`compile`]), waits until the runtime obeys,
//! and only then writes down what is so ([`status`]). So `Ready` is true only once traffic obeys.

mod annotation;
mod change;
mod compile;
mod delete;
mod images;
mod instance_secrets;
mod jobs;
mod json;
mod name;
mod operations;
mod pod;
mod policy;
mod read;
pub mod reconcile;
mod revision;
mod selector;
mod status;
mod template;
mod traffic;
mod url;
pub mod v2;
mod validate;
mod wanted;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use compile::desired;
pub use images::ImageUse;
pub use instance_secrets::InstanceSecrets;
pub use name::{DEFAULT_LOCATION, Place};
pub use operations::{KEEP_FOR, WAIT_LIMIT};
pub use policy::Guarded;
pub use read::Listing;

use crate::Control;

/// The Cloud Run services and jobs of a control plane.
#[derive(Clone, Copy)]
pub struct Run<'c> {
    control: &'c Control,
}

/// How a call that changes something is made.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The caller's e-mail address, as annotations print it.
    pub email: &'a str,
    /// Check everything, change nothing (`dryRun=all`, `validateOnly`).
    pub dry_run: bool,
}

impl Control {
    /// Cloud Run.
    pub fn run(&self) -> Run<'_> {
        Run { control: self }
    }
}
