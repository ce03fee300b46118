//! The proxy as clients and backends see it, over real sockets.
#![allow(clippy::unwrap_used)]

mod abuse;
mod backend;
mod bodies;
mod frames;
mod framing;
mod h2;
mod h2_backend;
mod headers;
mod http2;
mod http2_backends;
mod instances;
mod lifecycle;
mod limits;
mod logs;
mod regions;
mod routes;
mod serverless;
mod slow;
mod tls;
mod upgrade;
mod upstream;
mod wire;
mod world;
