//! Private DNS: zones, and the resolver that every VPC network has at 169.254.169.254 port 53.
//!
//! The resolver is told whole [`Table`]s. A query is answered from the one table that is current when it arrives, so
//! a change of several record sets is never seen half done. Messages are read and written by our own strict codec
//! ([`wire`]), and zones keep their records as they go onto the wire (`zone`): a query that is asked a million times is
//! answered by copying bytes, without building a tree of objects. Text becomes data once, when a zone is prepared
//! ([`rdata`]).
//!
//! An answer can depend on who asks: record sets have policies that choose by place, by weight, or by what is up
//! ([`Routing`]), and the server policy of a network can have its answers translated for IPv6 and its questions logged
//! ([`QueryLog`]).
//!
//! Knows nothing of the API or the store.
#![forbid(unsafe_code)]

mod asker;
mod counts;
mod dns64;
mod hash;
mod hosts;
pub mod name;
mod origin;
mod place;
mod policy;
mod querylog;
pub mod rdata;
mod records;
mod resolver;
mod routing;
mod serve;
mod suffix;
mod table;
mod upstream;
pub mod wire;
mod zone;

pub use asker::Entry;
pub use counts::{Report, Transport};
pub use name::Name;
pub use place::{Place, Site, Sites};
pub use policy::{Action, Path, ResponsePolicy, Rule, ServerPolicy, Target};
pub use querylog::{Machine, QueryLog};
pub use records::{Data, RecordError, RecordSet, Texts};
pub use resolver::{Answer, Resolver};
pub use routing::{Liveness, Nearest, Routing};
pub use serve::{Sockets, serve};
pub use table::{Table, Visibility, Zone, ZoneKind};
pub use upstream::system_servers;

/// The address of the resolver (and of the metadata server) in every network.
pub const RESOLVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);
