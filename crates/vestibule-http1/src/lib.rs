//! A strict HTTP/1.1 codec without I/O, for both roles: as a server it reads requests and writes responses, as a
//! client the other way round.
//!
//! # Why another codec
//!
//! A proxy is safe only if the server behind it reads every byte of a message as the proxy did. Lenient codecs accept
//! messages of which two readings exist (`Content-Length` next to `Transfer-Encoding`, bare line feeds, folded lines,
//! white space before a colon), and one of the two readings smuggles a second request past every check. This one
//! accepts only messages with exactly one reading, and what it accepts is written anew and never passed through.
//!
//! # How to use it
//!
//! The codec owns no buffer. [`RequestHead::parse`] and [`ResponseHead::parse`] are given the bytes that came so far
//! and answer whether the head is complete; a head then holds positions into that buffer ([`Span`]), and
//! [`RequestHead::view`] joins both for reading. Nothing is copied and nothing is allocated after the first use of a
//! head. Field names are turned to lower case where they stand, so that they compare and copy cheaply.
//! [`BodyDecoder`] then finds the body's bytes in what follows, and [`encode`] writes.
//!
//! Parsing goes line by line and never looks at a line twice. So it costs time linear in the bytes however they are
//! split into reads, and the outcome, errors included, does not depend on the split.
#![forbid(unsafe_code)]

mod authority;
mod body;
mod chars;
mod chunked;
pub mod encode;
mod error;
mod fields;
pub mod invariants;
pub mod limits;
mod lines;
mod request;
mod response;
mod span;
mod target;
mod values;

pub use authority::is_valid_authority;
pub use body::{BodyDecoder, Framing, Piece};
pub use chars::is_token;
pub use chunked::ChunkedDecoder;
pub use error::{Error, Kind, Side};
pub use fields::{Field, Fields, Name};
pub use request::{Expect, Method, Request, RequestHead};
pub use response::{Response, ResponseHead};
pub use span::Span;
pub use target::Form;
pub use values::Connection;
