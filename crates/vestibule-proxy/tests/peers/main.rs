//! The proxy beside Envoy, nginx and HAProxy: the same bytes into each, and what comes out of each compared.
//!
//! Where ours takes what a peer refuses, refuses what all of them take, or passes something else on, the case must stand
//! in the table of accepted differences with its reason (`accepted/*.txt`); every other difference is a fault of ours.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests say what they could not run")]

#[allow(dead_code, reason = "shared with the other tests of the proxy")]
#[path = "../proxy/instances.rs"]
mod instances;
#[allow(dead_code, reason = "shared with the other tests of the proxy")]
#[path = "../proxy/wire.rs"]
mod wire;
#[allow(dead_code, reason = "shared with the other tests of the proxy")]
#[path = "../proxy/world.rs"]
mod world;

mod accepted;
mod asking;
mod envoy;
mod judge;
mod oracle;
mod programs;
mod recorder;
mod request_cases;
mod requests;
mod response_cases;
mod responses;
