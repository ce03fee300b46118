//! Identities: service accounts, their keys, the tokens they get, and policies of projects.
//!
//! Where policies live and how one is replaced is the same for every kind of resource and stands in [`policy`]. What
//! needs keys ([`Iam`]) is made from a control plane and an issuer.

mod accounts;
mod credentials;
mod find;
mod keys;
pub mod oauth;
mod policy;

#[cfg(test)]
mod tests;

pub use accounts::PAGE_LIMIT;
pub use credentials::{IdTokenRequest, MAX_ACCESS_TOKEN_SECONDS, MAX_SIGNED_JWT_SECONDS};
pub(crate) use policy::{held, policy_at, project_policy, replace_policy};

use vestibule_iam::Issuer;

use crate::Control;

/// The identities of a control plane.
#[derive(Clone, Copy)]
pub struct Iam<'c> {
    control: &'c Control,
    issuer: &'c Issuer,
}

impl Control {
    /// Identities, with the one who signs for them.
    pub fn iam<'c>(&'c self, issuer: &'c Issuer) -> Iam<'c> {
        Iam { control: self, issuer }
    }
}
