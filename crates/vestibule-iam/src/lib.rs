//! Policies, tokens, keys, the metadata server's answers. Knows nothing of who asks.
//!
//! * [`principal`]: who a caller is.
//! * [`account`]: e-mail addresses and unique ids of service accounts.
//! * [`token`]: identity tokens and access tokens, minted ([`Issuer`]) and checked ([`Verifier`]).
//! * [`keyring`]: the keys of single service accounts, with which they sign for themselves.
//! * [`policy`]: IAM policies: read, merged, replaced, evaluated.
//! * [`metadata`]: the metadata server as a function from a request to an answer.
//!
//! Nothing here reads a clock behind the caller's back where time decides an outcome: `now` is an argument.
#![forbid(unsafe_code)]

pub mod account;
pub mod keyring;
pub mod metadata;
pub mod policy;
pub mod principal;
mod secret_file;
pub mod token;

pub use principal::Principal;
pub use token::{IdTokenClaims, Issuer, TokenError, VerifiedToken, Verifier};
