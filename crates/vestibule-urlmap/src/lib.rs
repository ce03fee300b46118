//! Compiles URL maps and URL masks, and matches requests against them. Pure: no I/O, no clock, no randomness.
//!
//! The control plane checks a map before it stores it ([`check::check`]) and runs the tests it carries
//! ([`check::run_tests`]); the reconciler compiles it once a revision ([`UrlMap::compile`]); the proxy asks
//! [`UrlMap::route`] once a request and carries out the [`Decision`]. All rules of matching, rewriting and redirecting
//! live here; whoever holds a decision only executes it.
#![forbid(unsafe_code)]

mod action;
mod chance;
pub mod check;
mod cors;
mod duration;
mod fault;
mod field;
mod headers;
mod hosts;
mod key_table;
mod map;
mod mask;
pub mod normalize;
mod paths;
mod predicate;
mod redirect;
mod request;
pub mod retry;
mod rewrite;
mod route_rules;
mod template;

pub use action::{Mirror, RouteAction};
pub use chance::Chance;
pub use cors::CorsPolicy;
pub use fault::Fault;
pub use field::CompileError;
pub use headers::{HeaderAction, HeaderEdits, HeaderLevels, HeaderMap, VARIABLES, Variables};
pub use map::{Decision, ForwardDecision, RedirectDecision, Trail, UNMATCHED, UrlMap};
pub use mask::{Captured, Mask, MaskError};
pub use redirect::{AskedUrl, Redirect};
pub use request::{Headers, RequestView};
pub use retry::RetryPolicy;
pub use rewrite::{Matched, Rewrite};
