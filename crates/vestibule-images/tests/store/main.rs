//! The store over real files and, where Debian's `docker-registry` is installed, a real registry on loopback.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests too")]

mod files;
mod making;
mod registry;
