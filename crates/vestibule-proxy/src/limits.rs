//! Every limit of the data plane, with its unit.

use std::time::Duration;

/// Largest body of a request to a service of Cloud Run that speaks HTTP/1, and of a response of one that is not
/// streamed (Cloud Run's request limits: 32 MiB).
pub const MAX_RUN_BODY: u64 = 32 * 1024 * 1024;

/// How long a request's head may take from its first byte (and the first byte of a connection from its start). Late
/// heads are answered 408.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams that a client may have open at once on a connection of HTTP/2 (Envoy's default); more are refused
/// (`REFUSED_STREAM`). The same for our own streams on a connection to a backend that allows more.
pub const MAX_STREAMS: u32 = 100;

/// Bytes of a body that a sender may have under way on a stream of HTTP/2: all that is ever held of it.
pub const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes of all bodies that a sender may have under way on a connection. Every stream can fill its own window, so none
/// waits for another whose receiver is slow.
pub const HTTP2_CONNECTION_WINDOW: u32 = HTTP2_STREAM_WINDOW * MAX_STREAMS;

/// Bytes that are held on a stream of HTTP/2 for a receiver that does not take them yet.
pub const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// Bytes of a head of HTTP/2, counted as RFC 9113 section 6.5.2 says; a request above it is answered 431.
pub const MAX_FIELD_SECTION: u32 = 64 * 1024;

/// Streams that were opened and reset before they were served, at one moment; more end the connection
/// (`ENHANCE_YOUR_CALM`).
pub const MAX_UNSERVED_RESETS: usize = 20;

/// Streams that a client may reset more than it lets be served. Every request that is served gives credit for one more,
/// and so does time.
pub const MAX_RESETS: u32 = 100;

/// What time gives of [`MAX_RESETS`].
pub const MAX_RESETS_PER_SECOND: u32 = 10;

/// Frames that a client may send that bring nothing (PING, SETTINGS, PRIORITY, empty DATA, unknown ones). Every frame of
/// data that is sent gives credit for one more, and every second for ten times [`MAX_RESETS_PER_SECOND`].
pub const MAX_CONTROL_FRAMES: u32 = 1000;

/// Streams that may be reset on one connection for errors of the client's.
pub const MAX_LOCAL_RESETS: usize = 256;

/// How long a client may take to end a connection that it was told is over (GOAWAY) and has no streams any more.
pub const GOAWAY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long nothing may move on a stream, in either direction (Envoy's default `stream_idle_timeout`).
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// How long making a connection to a backend may take (Envoy's default).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The waits that a setting can change.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Default [`HEAD_TIMEOUT`].
    pub head: Duration,
    /// Default [`TLS_HANDSHAKE_TIMEOUT`].
    pub tls_handshake: Duration,
    /// Default [`STREAM_IDLE_TIMEOUT`].
    pub stream_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            head: HEAD_TIMEOUT,
            tls_handshake: TLS_HANDSHAKE_TIMEOUT,
            stream_idle: STREAM_IDLE_TIMEOUT,
        }
    }
}

/// How long a connection to a backend is kept without a request; published as fixed.
pub const UPSTREAM_KEEP_ALIVE: Duration = Duration::from_secs(600);

/// The response timeout of a backend service with a serverless backend; published as fixed. The service's own request
/// timeout is usually shorter.
pub const SERVERLESS_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Connections to one address that a worker keeps without a request.
pub const MAX_IDLE_PER_ADDRESS: usize = 512;

/// How often a worker looks for pooled connections that ended or are too old.
pub const POOL_SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Client connections of the whole proxy at once; more wait in the kernel's accept queue.
pub const MAX_CONNECTIONS: usize = 65_536;

/// Client connections of one listener at once; more wait in its accept queue. As many as there may be at all, so that
/// nobody meets this limit who did not set it.
pub const MAX_CONNECTIONS_PER_LISTENER: usize = MAX_CONNECTIONS;

/// Requests that are under way in the whole proxy at once; more are answered 503.
pub const MAX_REQUESTS: usize = 65_536;

/// Bytes that requests under way may hold in buffers, in the whole proxy: 1 GiB. While they hold more, new requests are
/// answered 503. A request holds at most four buffers of [`LARGE_BUFFER`] bytes, and usually one or two of
/// [`SMALL_BUFFER`].
pub const MAX_REQUEST_MEMORY: usize = 1 << 30;

/// How much of everything the proxy takes on. Every worker has an even share, because a limit that workers share would
/// be a cache line that they fight for; and never less than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Default [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// Default [`MAX_CONNECTIONS_PER_LISTENER`].
    pub connections_per_listener: usize,
    /// Default [`MAX_REQUESTS`].
    pub requests: usize,
    /// In bytes. Default [`MAX_REQUEST_MEMORY`].
    pub request_memory: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: MAX_CONNECTIONS,
            connections_per_listener: MAX_CONNECTIONS_PER_LISTENER,
            requests: MAX_REQUESTS,
            request_memory: MAX_REQUEST_MEMORY,
        }
    }
}

impl Limits {
    /// The share of one of so many workers.
    pub fn share(self, workers: usize) -> Limits {
        let part = |whole: usize| whole.div_ceil(workers.max(1)).max(1);
        Limits {
            connections: part(self.connections),
            connections_per_listener: part(self.connections_per_listener),
            requests: part(self.requests),
            request_memory: part(self.request_memory),
        }
    }
}

/// How long accepting rests after it failed for want of file descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Connections that wait in the accept queue of a front's listener.
pub const FRONT_BACKLOG: i32 = 4096;

/// Bytes of the buffer that a request head is read into; grows to [`LARGE_BUFFER`] for a head that is larger.
pub const SMALL_BUFFER: usize = 16 * 1024;

/// Bytes of a buffer for bodies: all that is ever held of a body in one direction.
pub const LARGE_BUFFER: usize = 64 * 1024;

/// Buffers of each size that a thread keeps for reuse.
pub const MAX_SPARE_BUFFERS: usize = 128;

/// A body of known length up to this many bytes is read whole before the request goes on, so that it costs one write
/// and can be sent again on a retry.
pub const MAX_HELD_BODY: u64 = 8 * 1024;

/// Response bytes that are copied behind the head instead of written from where they are: below this a copy is
/// cheaper than a second element of a vectored write.
pub const COPY_BELOW: usize = 2 * 1024;

/// Parts of a connection of HTTP/2 that are copied to be written with what comes after them: larger ones are worth a
/// system call of their own.
pub const GATHER_BELOW: usize = 8 * 1024;

/// Tasks without a stream of HTTP/2 to serve that a worker keeps for reuse.
pub const MAX_SPARE_TASKS: usize = 128;

/// Copies of requests that one worker sends to mirrors at once; more are not sent.
pub const MAX_MIRRORS: usize = 256;

/// How long a copy of a request may take, its response included.
pub const MIRROR_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a mirror's response that are read before its connection is given up.
pub const MAX_MIRROR_RESPONSE: usize = 1024 * 1024;

/// Interim responses that a backend may send before the final one.
pub const MAX_INTERIM_RESPONSES: u32 = 32;

/// Connections of HTTP/2 to one address that a worker holds; more requests than their streams wait on them.
pub const MAX_SHARED_PER_ADDRESS: usize = 64;

/// Connections that a request is tried on that a backend of HTTP/2 did not take up.
pub const MAX_UNPROCESSED: u32 = 3;

/// Other endpoints that are tried after connections were refused.
pub const MAX_CONNECT_ATTEMPTS: u32 = 3;

/// After an answer without having read the request: how many bytes are still read, so that the client sees the answer
/// and not a reset.
pub const LINGER_BYTES: usize = 256 * 1024;

/// After an answer without having read the request: how long to wait for the client to stop sending.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// After an idle connection was closed: how long to wait for the client to close as well.
pub const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// A batch of log entries is handed over when it holds this many bytes.
pub const LOG_BATCH_BYTES: usize = 64 * 1024;

/// A batch of log entries is handed over at the latest after this time.
pub const LOG_BATCH_TIME: Duration = vestibule_logs::HOLD;

/// How long requests under way may take after the proxy was told to end. Google's and Envoy's default is 10 minutes, for
/// load balancers that are replaced behind their clients' backs; who stops a program on a machine waits for it.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Share of the drain deadline during which new connections are still accepted.
pub const DRAIN_ACCEPT_SHARE: f64 = 0.5;

/// While draining: an idle connection is closed after this time without a request, and a worker without connections
/// ends after this time without a new one.
pub const DRAIN_QUIET: Duration = Duration::from_millis(500);

/// How often a draining worker looks whether it is done.
pub const DRAIN_TICK: Duration = Duration::from_millis(20);
