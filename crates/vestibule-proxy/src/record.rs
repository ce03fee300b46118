//! What one request came to, gathered while it is served, for its log entries.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use vestibule_run::entries::EntryHead;

use crate::trace::Trace;

/// Why the load balancer answered by itself, in the tokens of RFC 9209 and Google's details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProxyStatus {
    /// Empty: left out.
    pub(crate) error: &'static str,
    /// Empty: left out.
    pub(crate) details: &'static str,
}

/// One request's story. Sizes in bytes.
pub(crate) struct Record {
    /// When the request's head was complete.
    pub(crate) time: SystemTime,
    /// The same moment, for the latency.
    pub(crate) start: Instant,
    pub(crate) request_size: u64,
    pub(crate) response_size: u64,
    /// 0: the client got no answer.
    pub(crate) status: u16,
    pub(crate) proxy: Option<ProxyStatus>,
    /// Attempts beyond the first.
    pub(crate) retries: u32,
    /// For people: what exactly refused the request.
    pub(crate) detail: Option<Cow<'static, str>>,
    /// Where the response came from.
    pub(crate) server: Option<SocketAddr>,
    /// Index of the backend service that was chosen.
    pub(crate) service: Option<usize>,
    /// Index of the group among those of the service, if it went to an endpoint.
    pub(crate) group: Option<usize>,
    /// The request came to a service of Cloud Run.
    pub(crate) run: Option<RunRecord>,
}

/// For the log of the service itself.
pub(crate) struct RunRecord {
    pub(crate) head: Arc<EntryHead>,
    pub(crate) instance: Option<Arc<str>>,
    /// Goes with the response, so that the client comes back to this instance.
    pub(crate) cookie: Option<String>,
    pub(crate) trace: Trace,
}

impl Record {
    pub(crate) fn new(request_size: u64) -> Record {
        Record {
            time: SystemTime::now(),
            start: Instant::now(),
            request_size,
            response_size: 0,
            status: 0,
            proxy: None,
            retries: 0,
            detail: None,
            server: None,
            service: None,
            group: None,
            run: None,
        }
    }
}
