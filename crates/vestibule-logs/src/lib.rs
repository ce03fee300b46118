//! Log entries, their store, the filter language of Cloud Logging.
//!
//! Knows nothing of who writes entries. A writer hands over finished `LogEntry` JSON lines in batches over a bounded
//! channel and never waits: what does not fit is dropped and counted.
//!
//! | module | what it holds |
//! |---|---|
//! | [`json`], [`time`] | formatting entries without allocating, for writers on a request path |
//! | [`container`] | lines that a container printed, as entries |
//! | [`entry`] | what a client may write, and the defaults it gets |
//! | [`filter`] | the Logging query language |
//! | [`store`] | segment files, retention, queries |
#![forbid(unsafe_code)]

mod batch;
pub mod container;
pub mod entry;
pub mod filter;
use filter::schema as filter_schema;
pub mod json;
mod names;
mod scan;
mod severity;
pub mod store;
pub mod time;

pub use batch::{Batch, HOLD, Held, LogSink};
pub use container::{ContainerLog, Stream, container_line};
pub use filter::{Filter, FilterError};
pub use names::LogName;
pub use severity::Severity;
pub use store::{
    Forward, ListRequest, LogLimits, LogStore, Order, Page, Query, QueryError, Released, WriteError,
};
