//! What a resource is called and what a document may hold: names, ids, links, and the wire types, routes and
//! validation schemas that are generated from Google's discovery documents.
//!
//! Nothing here does any I/O, and nothing here knows what a resource *means*: that a forwarding rule needs a
//! proxy is the control plane's business, that `regions/us-central1/targetHttpProxies/p` names one is ours.
//!
//! `cargo xtask api` writes [`generated`]; its modules of wire types are re-exported here under their own names
//! ([`compute`], [`run_v1`], …).
#![forbid(unsafe_code)]

pub mod fingerprint;
#[rustfmt::skip]
pub mod generated;
pub mod id;
mod lenient;
pub mod name;
pub mod project;
pub mod region;
pub mod route;
pub mod schema;
pub mod time;

pub use fingerprint::fingerprint;
pub use generated::{Service, compute, dns, iam, logging, run_v1, run_v2};
pub use name::{NameError, ResourceName, Scope};
