//! HTTP/2, towards clients and towards backends.
//!
//! # One pipeline, two codecs
//!
//! Everything that decides about a request or changes it (`pipeline`, `destination`, `request_head`, `response_head`,
//! header actions, the log) knows one form of a head: the text of HTTP/1.1, read by the strict parser of
//! `vestibule-http1`. HTTP/2 heads are turned into it where they come in and out of it where they leave ([`pivot`]), so
//! a request obeys the same rules whichever version brought it, and nothing can mean one thing to the matcher and
//! another to the backend: the text that was parsed is what was matched. The translation costs a copy of the head each
//! way. Bodies never pass through text: frames go on as they came ([`body`]).
//!
//! The alternative, a head type of its own for both versions, would have put a dispatch or an allocation for every
//! field on the way of HTTP/1.1 requests, which today are copied line by line from the buffer they were read into.
//!
//! | module | what it holds |
//! |---|---|
//! | `pivot` | heads from and to text |
//! | `serve` | a client's connection: streams, drain, idle time |
//! | `stream` | one request of a client: a task of its own, through the pipeline |
//! | `crew` | the tasks that serve streams |
//! | `guard` | the frames a client sends, counted before anything is done about them |
//! | `outgoing` | what a connection has to write, gathered |
//! | `body` | a body in frames |
//! | `relay` | a response's body where a side of it is HTTP/2 |
//! | `pool`, `ask` | connections to backends, and a request on one |

pub(crate) mod ask;
pub(crate) mod body;
pub(crate) mod crew;
mod guard;
mod outgoing;
pub(crate) mod pivot;
pub(crate) mod pool;
pub(crate) mod relay;
pub(crate) mod serve;
pub(crate) mod stream;

/// What a client that knows that the server speaks HTTP/2 sends first (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Any error of the codec, or of its connection.
pub(crate) fn io_error(error: h2::Error) -> std::io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| std::io::ErrorKind::ConnectionReset.into())
    } else {
        std::io::Error::other(error)
    }
}
