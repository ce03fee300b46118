//! How much of a head the codec takes. All sizes in bytes.

/// Largest head, first line and closing empty line included. The published limit of a regional internal application
/// load balancer is 60 KB, and Envoy's default is 60 KiB; a request above it is answered 431.
pub const MAX_HEAD_BYTES: usize = 60 * 1024;

/// Most field lines in one head (Envoy's default). A request above it is answered 431.
pub const MAX_FIELDS: usize = 100;

/// Longest request line. A request above it is answered 414. RFC 9112 section 3 asks for at least 8,000.
pub const MAX_REQUEST_LINE_BYTES: usize = 16 * 1024;

/// Empty lines that are skipped before a request line; RFC 9112 section 2.2 asks for at least one.
pub const MAX_LEADING_EMPTY_LINES: usize = 1;

/// Longest chunk-size line, extensions included.
pub const MAX_CHUNK_LINE_BYTES: usize = 1024;

/// Largest trailer section of a chunked body.
pub const MAX_TRAILER_BYTES: usize = 8 * 1024;

// A `Span` holds 16-bit positions.
const _: () = assert!(MAX_HEAD_BYTES <= u16::MAX as usize);
