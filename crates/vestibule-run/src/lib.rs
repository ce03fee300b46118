//! The serverless runtime: revisions, traffic, autoscaler, activator, instance drivers.
//!
//! Knows nothing of load balancing. It is told whole [`desired::Desired`] states, reports what became of each
//! revision, and lets a front admit a request ([`front`]) and lease a slot of an instance.
//!
//! | module | what it holds |
//! |---|---|
//! | [`runtime`], [`config`] | the runtime as a whole |
//! | [`desired`], [`reports`] | what it is told, and what it tells |
//! | [`front`] | the way of a request: look-up, ingress, identity, split, slot |
//! | [`autoscaler`] | how many instances there should be, as a pure function |
//! | [`driver`] | what starts instances |
//! | [`exec`], [`hello`] | programs that the binary becomes when the runtime starts it |
//! | [`entries`] | request log entries |
// Denied, not forbidden: `driver::container` has two system calls without a safe form.
#![deny(unsafe_code)]

pub mod autoscaler;
pub mod config;
pub mod desired;
pub mod driver;
pub mod entries;
pub mod exec;
pub mod front;
pub mod hello;
pub mod reports;
pub mod runtime;

mod affinity;
mod instance;
mod invoker;
mod jobs;
mod keeper;
mod line;
mod output;
mod pod;
mod pool;
mod probe;
mod refusal;
mod registry;
mod secrets;
mod setting;
mod table;
#[cfg(test)]
mod testing;
mod throttle;

pub use config::{Dependencies, MetadataSource, NetworkSource, Program, RuntimeConfig, SecretSource};
pub use driver::container::route::connect;
pub use registry::{InstanceState, InstanceStatus};
pub use runtime::Runtime;
