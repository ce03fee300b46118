//! The L7 data plane: listeners, connections, the request pipeline, upstream pools, access log records.
//!
//! Knows nothing of the API or the store: it is given whole [`snapshot::Snapshot`]s, and [`Proxy::apply`] returns when
//! every worker serves them.
//!
//! | module | what it holds |
//! |---|---|
//! | `proxy`, `worker`, `accept` | threads, what they are told, how connections come in and all ends |
//! | [`snapshot`], `site`, [`tls`] | what is served |
//! | `connection` | one client connection, request after request |
//! | `http2` | connections of HTTP/2, towards clients and backends |
//! | `pipeline` | the way of a request, one step a line |
//! | `destination`, `forward`, `exchange`, `relay`, `tunnel`, `mirror` | to a backend and back |
//! | `endpoints` | which endpoint of a group, and what is remembered of it |
//! | `inbound`, `upload` | the client's direction meanwhile |
//! | `request_head`, `response_head`, `headers`, `answer`, `grpc`, `trace` | what is written |
//! | `record`, `accesslog`, [`metrics`] | what is written down, and counted |
//! | `timers`, `buffers`, `link`, `upstream`, `trust`, `clock`, `peer` | what makes it cheap |
//!
//! # Why a thread a core, and no channel between tasks
//!
//! A request costs two reads and two writes; whatever a proxy adds on top is overhead. Here one task serves a client
//! connection and drives the backend's connection itself: no second task, no channel, no wake-up in between, no lock,
//! and no timer that is armed and disarmed. Listening sockets are shared between threads by the kernel.
#![forbid(unsafe_code)]

mod accept;
mod accesslog;
mod answer;
mod buffers;
mod client;
mod client_certificate;
mod client_identity;
mod clock;
mod connection;
mod destination;
mod endpoints;
mod exchange;
mod forward;
mod grpc;
mod headers;
mod http2;
mod inbound;
pub mod limits;
mod link;
pub mod metrics;
mod mirror;
mod peer;
mod pipeline;
mod proxy;
mod record;
mod relay;
mod request_head;
mod response_head;
mod scratch;
mod site;
pub mod snapshot;
#[cfg(test)]
mod testing;
mod timers;
pub mod tls;
mod trace;
mod trust;
mod tunnel;
mod turn;
mod upload;
mod upstream;
mod worker;

pub use proxy::{Dependencies, ListenerError, Listening, Proxy, ProxyConfig};
