//! Health checks: who is probed, how, and what follows from it.
//!
//! A [`Prober`] is told whole lists of [`Target`]s, as the proxy is told whole snapshots. It is one thread that probes
//! them all; a target costs it a task, and not more than [`MAX_PROBES`] connections are open at once. What it finds out
//! it publishes in the target's [`vestibule_balance::Health`], where workers see it with their next pick.
//!
//! | module | what it holds |
//! |---|---|
//! | [`check`] | what a health check asks, and how often |
//! | `verdict` | when an endpoint counts as healthy, as a pure function |
//! | `probe` | one probe of each kind |
//! | `prober` | the thread, its tasks, and names that are looked up again and again |
#![forbid(unsafe_code)]

pub mod check;
mod probe;
mod prober;
mod verdict;

pub use check::{Check, Http, Kind, Reach, Resource, Target, Text};
pub use prober::{Finding, MAX_PROBES, Name, Prober, REFRESH, Sink};
