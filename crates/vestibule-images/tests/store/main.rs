//! The store over real files and, where Debian's `docker-registry` is installed, a real registry on loopback.

mod files;
mod making;
mod registry;
