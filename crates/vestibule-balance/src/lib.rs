//! Which endpoint a request goes to.
//!
//! Everything here is a decision about numbers: which of some candidates comes next, whether one has failed too often,
//! whether a retry may be made. Time and randomness are passed in, so that every rule can be tested by itself; nothing
//! waits, reads a clock or opens a socket. The state of a picker belongs to one thread. What threads share is only
//! [`Health`]: one atomic number an endpoint, written by whoever probes it.
//!
//! | module | what it decides |
//! |---|---|
//! | [`pick`] | the next endpoint, by `localityLbPolicy` |
//! | [`affinity`] | what a request is hashed by, by `sessionAffinity` |
//! | [`outlier`] | who is ejected, and for how long, by `outlierDetection` |
//! | [`orca`] | what endpoints report of their load |
//! | [`load`] | the weights that follow from it |
//! | [`budget`] | whether there may be one more retry |
//! | [`health`] | which endpoints are there to be picked |
#![forbid(unsafe_code)]

pub mod affinity;
pub mod budget;
pub mod hash;
pub mod health;
pub mod load;
pub mod orca;
pub mod outlier;
pub mod pick;

pub use affinity::Affinity;
pub use health::{Epoch, Health, State};
pub use load::Load;
pub use orca::{Metric, Report};
pub use outlier::{Outcome, OutlierDetection, Strikes};
pub use pick::{Ask, Candidate, Picker, Policy};
