//! Where a body ends.

use std::ops::Range;

use crate::chunked::ChunkedDecoder;
use crate::error::{Error, Kind, Side};

/// How a body is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Empty,
    /// More than 0 bytes.
    Length(u64),
    Chunked,
    /// A response's body goes on until the connection ends.
    UntilClose,
}

/// What a read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the buffer that belong to the body, framing included; what follows does not.
    pub consumed: usize,
    /// Where in the buffer the body's data stands.
    pub data: Range<usize>,
}

#[derive(Debug, Clone)]
enum State {
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

/// Finds a body's data in the bytes behind a head.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    side: Side,
    state: State,
}

impl BodyDecoder {
    pub fn new(framing: Framing, side: Side) -> BodyDecoder {
        let state = match framing {
            Framing::Empty => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(ChunkedDecoder::default()),
            Framing::UntilClose => State::UntilClose,
        };
        BodyDecoder { side, state }
    }

    /// The whole body was seen.
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Length(left) => *left == 0,
            State::Chunked(decoder) => decoder.is_done(),
            State::UntilClose => false,
        }
    }

    /// Bytes still to come, where the framing tells.
    pub fn left(&self) -> Option<u64> {
        match &self.state {
            State::Length(left) => Some(*left),
            State::Chunked(decoder) => decoder.is_done().then_some(0),
            State::UntilClose => None,
        }
    }

    /// Reads on. The data of several chunks is moved together inside the buffer.
    pub fn decode(&mut self, buffer: &mut [u8]) -> Result<Piece, Error> {
        match &mut self.state {
            State::Length(left) => {
                let taken = (*left).min(buffer.len() as u64) as usize;
                *left -= taken as u64;
                Ok(Piece { consumed: taken, data: 0..taken })
            }
            State::Chunked(decoder) => {
                let (consumed, data) =
                    decoder.decode(buffer).map_err(|kind| Error { side: self.side, kind })?;
                Ok(Piece { consumed, data })
            }
            State::UntilClose => Ok(Piece { consumed: buffer.len(), data: 0..buffer.len() }),
        }
    }

    /// The connection ended: fine if the body was complete or ends this way, else it was cut.
    pub fn end(&self) -> Result<(), Error> {
        if self.is_done() || matches!(self.state, State::UntilClose) {
            Ok(())
        } else {
            Err(Error { side: self.side, kind: Kind::Truncated })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_no_byte_more() {
        let mut body = BodyDecoder::new(Framing::Length(5), Side::Client);
        assert_eq!(body.decode(&mut b"abc".to_vec()), Ok(Piece { consumed: 3, data: 0..3 }));
        assert_eq!(body.end().map_err(|e| e.kind), Err(Kind::Truncated));
        assert_eq!(body.decode(&mut b"deGET".to_vec()), Ok(Piece { consumed: 2, data: 0..2 }));
        assert!(body.is_done() && body.end().is_ok());
    }

    #[test]
    fn only_until_close_may_end_with_the_connection() {
        assert!(BodyDecoder::new(Framing::UntilClose, Side::Upstream).end().is_ok());
        assert!(BodyDecoder::new(Framing::Empty, Side::Upstream).end().is_ok());
        let mut chunked = BodyDecoder::new(Framing::Chunked, Side::Upstream);
        chunked.decode(&mut b"1\r\na\r\n0\r\n".to_vec()).unwrap();
        assert_eq!(chunked.end(), Err(Error { side: Side::Upstream, kind: Kind::Truncated }));
    }
}
