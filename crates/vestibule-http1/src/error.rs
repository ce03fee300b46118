//! What can be wrong with a message, whose fault it is, and which status follows.

use std::fmt;

/// Who sent the message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client sent a request.
    Client,
    /// A server behind us sent a response.
    Upstream,
}

/// A message that cannot be read. The connection it came on must be closed: where the next message would start is
/// not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    pub side: Side,
    pub kind: Kind,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A line ends with LF alone (RFC 9112 section 2.2 lets a recipient refuse).
    BareLineFeed,
    /// More empty lines before the request line than are skipped.
    LeadingEmptyLines,
    /// The request line is not `method SP target SP version`.
    BadRequestLine,
    /// The method is not a token.
    BadMethod,
    /// The target holds a byte that may not be there, or has a form that its method does not allow.
    BadTarget,
    /// The version is not `HTTP/` digit `.` digit.
    BadVersion,
    /// HTTP/1.0 from a client (Envoy's default refuses it).
    OldVersion,
    /// A major version other than 1.
    UnsupportedVersion,
    /// The request line is longer than [`MAX_REQUEST_LINE_BYTES`](crate::limits::MAX_REQUEST_LINE_BYTES).
    RequestLineTooLong,
    /// The status line is not `version SP 3DIGIT [SP reason]`.
    BadStatusLine,
    /// The head is larger than [`MAX_HEAD_BYTES`](crate::limits::MAX_HEAD_BYTES).
    HeadTooLarge,
    /// More fields than [`MAX_FIELDS`](crate::limits::MAX_FIELDS).
    TooManyFields,
    /// A line starts with a space or tab: the obsolete folding of RFC 9112 section 5.2.
    FoldedLine,
    /// A field name is empty, is not a token, or has white space before its colon.
    BadFieldName,
    /// A field value holds a control byte (NUL and a lone CR included).
    BadFieldValue,
    /// HTTP/1.1 without `Host`.
    MissingHost,
    /// More than one `Host`.
    SeveralHosts,
    /// `Host`, or the authority of the target, is not `host[:port]`.
    BadHost,
    /// `Content-Length` is not one decimal number below 2^64.
    BadContentLength,
    /// More than one `Content-Length`, or a list in it, even of equal values.
    SeveralContentLengths,
    /// `Content-Length` and `Transfer-Encoding` together.
    LengthAndEncoding,
    /// A 1xx or 204 announces a body, which it cannot have (RFC 9110 section 8.6, RFC 9112 section 6.1).
    BodyForbidden,
    /// `Transfer-Encoding` is not a list in which `chunked` stands once and last.
    BadTransferEncoding,
    /// `Transfer-Encoding` names a coding other than `chunked`.
    UnsupportedTransferCoding,
    /// An expectation other than `100-continue`.
    UnsupportedExpectation,
    /// `Connection` is not a list of tokens.
    BadConnection,
    /// A chunk's size is not a hexadecimal number below 2^64, or white space stands around it.
    BadChunkSize,
    /// A chunk extension holds a control byte.
    BadChunkExtension,
    /// The chunk-size line is longer than [`MAX_CHUNK_LINE_BYTES`](crate::limits::MAX_CHUNK_LINE_BYTES).
    ChunkLineTooLong,
    /// A chunk's data is not followed by CRLF.
    BadChunkEnd,
    /// A trailer field is malformed.
    BadTrailer,
    /// Trailers larger than [`MAX_TRAILER_BYTES`](crate::limits::MAX_TRAILER_BYTES).
    TrailersTooLarge,
    /// The connection ended inside the message.
    Truncated,
}

impl Error {
    pub(crate) fn client(kind: Kind) -> Error {
        Error { side: Side::Client, kind }
    }

    pub(crate) fn upstream(kind: Kind) -> Error {
        Error { side: Side::Upstream, kind }
    }

    /// The status a proxy answers with: one of the 4xx and 5xx that tell a client about its request, and always 502
    /// when the fault lies behind us. Follows Envoy where the RFCs leave a choice.
    pub fn status(self) -> u16 {
        match (self.side, self.kind) {
            (Side::Upstream, _) => 502,
            (_, Kind::RequestLineTooLong) => 414,
            (_, Kind::UnsupportedExpectation) => 417,
            (_, Kind::OldVersion) => 426,
            (_, Kind::HeadTooLarge | Kind::TooManyFields | Kind::TrailersTooLarge) => 431,
            (_, Kind::BadTransferEncoding | Kind::UnsupportedTransferCoding) => 501,
            (_, Kind::UnsupportedVersion) => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match self.side {
            Side::Client => "request",
            Side::Upstream => "response",
        };
        write!(f, "malformed {message}: {}", self.kind)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::BareLineFeed => "line ends with a bare line feed",
            Kind::LeadingEmptyLines => "too many empty lines before the request line",
            Kind::BadRequestLine => "bad request line",
            Kind::BadMethod => "method is not a token",
            Kind::BadTarget => "bad request target",
            Kind::BadVersion => "bad protocol version",
            Kind::OldVersion => "HTTP/1.0 is not supported",
            Kind::UnsupportedVersion => "unsupported major protocol version",
            Kind::RequestLineTooLong => "request line too long",
            Kind::BadStatusLine => "bad status line",
            Kind::HeadTooLarge => "header section too large",
            Kind::TooManyFields => "too many header fields",
            Kind::FoldedLine => "folded header line",
            Kind::BadFieldName => "bad header field name",
            Kind::BadFieldValue => "control byte in a header field value",
            Kind::MissingHost => "no Host header field",
            Kind::SeveralHosts => "several Host header fields",
            Kind::BadHost => "bad Host",
            Kind::BadContentLength => "bad Content-Length",
            Kind::SeveralContentLengths => "several Content-Length values",
            Kind::LengthAndEncoding => "Content-Length together with Transfer-Encoding",
            Kind::BodyForbidden => "a body announced where none can be",
            Kind::BadTransferEncoding => "bad Transfer-Encoding",
            Kind::UnsupportedTransferCoding => "unsupported transfer coding",
            Kind::UnsupportedExpectation => "unsupported expectation",
            Kind::BadConnection => "bad Connection header field",
            Kind::BadChunkSize => "bad chunk size",
            Kind::BadChunkExtension => "control byte in a chunk extension",
            Kind::ChunkLineTooLong => "chunk size line too long",
            Kind::BadChunkEnd => "chunk data without its line end",
            Kind::BadTrailer => "bad trailer field",
            Kind::TrailersTooLarge => "trailer section too large",
            Kind::Truncated => "connection ended inside the message",
        })
    }
}
