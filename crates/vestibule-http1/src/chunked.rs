//! The chunked coding (RFC 9112 section 7.1), read byte for byte without leniency.
//!
//! A size is one to sixteen hexadecimal digits and nothing else: no sign, no prefix. White space may stand behind it
//! only before an extension, where the grammar has a place for it. Every line ends with CRLF. Extensions and trailers are checked and dropped; both end at this hop.

use std::ops::Range;

use crate::chars::is_token_byte;
use crate::error::Kind;
use crate::limits::{MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Digits of a size; `seen` of them so far.
    Size {
        value: u64,
        seen: u8,
    },
    /// White space behind a size: an extension must follow.
    Blank {
        value: u64,
    },
    Extension {
        value: u64,
    },
    /// The CR of a size line was read.
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a line behind the last chunk.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// Finds the data in a chunked body.
#[derive(Debug, Clone)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes of the present chunk-size line, or of the trailers.
    line: usize,
}

impl Default for ChunkedDecoder {
    fn default() -> ChunkedDecoder {
        ChunkedDecoder { state: State::Size { value: 0, seen: 0 }, line: 0 }
    }
}

impl ChunkedDecoder {
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads `buffer`; answers how many of its bytes belong to the body, and where the data among them stands. Data
    /// of several chunks is moved together, so that it is one range; a single chunk is not moved.
    pub fn decode(&mut self, buffer: &mut [u8]) -> Result<(usize, Range<usize>), Kind> {
        let mut at = 0;
        let mut data: Option<Range<usize>> = None;
        while at < buffer.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let taken = left.min((buffer.len() - at) as u64) as usize;
                join(buffer, &mut data, at..at + taken);
                at += taken;
                let left = left - taken as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
            } else {
                self.step(buffer[at])?;
                at += 1;
            }
        }
        Ok((at, data.unwrap_or(0..0)))
    }

    /// Takes one byte that is not data.
    fn step(&mut self, byte: u8) -> Result<(), Kind> {
        self.state = match self.state {
            State::Size { value, seen } => self.size(value, seen, byte)?,
            State::Blank { value } => self.blank(value, byte)?,
            State::Extension { value } => self.extension(value, byte)?,
            State::SizeEnd { value } => self.size_end(value, byte)?,
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { value: 0, seen: 0 },
            State::DataCr | State::DataLf => return Err(Kind::BadChunkEnd),
            State::LastLf if byte == b'\n' => State::Done,
            State::LastLf => return Err(Kind::BadTrailer),
            State::Data { .. } | State::Done => self.state,
            _ => self.trailer(byte)?,
        };
        Ok(())
    }

    fn size(&mut self, value: u64, seen: u8, byte: u8) -> Result<State, Kind> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if seen > 0 => return Ok(State::SizeEnd { value }),
            b';' | b' ' | b'\t' if seen > 0 => {
                self.line = usize::from(seen) + 1;
                return Ok(if byte == b';' { State::Extension { value } } else { State::Blank { value } });
            }
            _ => return Err(Kind::BadChunkSize),
        };
        if seen == 16 {
            return Err(Kind::BadChunkSize);
        }
        Ok(State::Size { value: value << 4 | u64::from(digit), seen: seen + 1 })
    }

    fn blank(&mut self, value: u64, byte: u8) -> Result<State, Kind> {
        self.line += 1;
        match byte {
            _ if self.line > MAX_CHUNK_LINE_BYTES => Err(Kind::ChunkLineTooLong),
            b';' => Ok(State::Extension { value }),
            b' ' | b'\t' => Ok(State::Blank { value }),
            _ => Err(Kind::BadChunkSize),
        }
    }

    fn extension(&mut self, value: u64, byte: u8) -> Result<State, Kind> {
        self.line += 1;
        match byte {
            b'\r' => Ok(State::SizeEnd { value }),
            _ if self.line > MAX_CHUNK_LINE_BYTES => Err(Kind::ChunkLineTooLong),
            b'\t' | b' '..=b'~' => Ok(State::Extension { value }),
            _ => Err(Kind::BadChunkExtension),
        }
    }

    fn size_end(&mut self, value: u64, byte: u8) -> Result<State, Kind> {
        self.line = 0;
        match (byte, value) {
            (b'\n', 0) => Ok(State::TrailerStart),
            (b'\n', left) => Ok(State::Data { left }),
            _ => Err(Kind::BadChunkSize),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Kind> {
        self.line += 1;
        if self.line > MAX_TRAILER_BYTES {
            return Err(Kind::TrailersTooLarge);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(Kind::BadTrailer),
        }
    }
}

/// Adds `piece` to `data` by moving it up to its end.
fn join(buffer: &mut [u8], data: &mut Option<Range<usize>>, piece: Range<usize>) {
    match data {
        None => *data = Some(piece),
        Some(data) => {
            let length = piece.len();
            buffer.copy_within(piece, data.end);
            data.end += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in reads of `step` bytes; the data, and how many bytes the body took.
    fn decode(body: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), Kind> {
        let mut decoder = ChunkedDecoder::default();
        let (mut data, mut taken) = (Vec::new(), 0);
        for piece in body.chunks(step) {
            let mut piece = piece.to_vec();
            let (consumed, range) = decoder.decode(&mut piece)?;
            data.extend_from_slice(&piece[range]);
            taken += consumed;
            if decoder.is_done() {
                break;
            }
        }
        Ok((data, taken, decoder.is_done()))
    }

    #[test]
    fn chunks_join_whatever_the_split() {
        let body = b"5\r\nhello\r\n1 \t;a=\"b\"\r\n \r\n0A\r\n0123456789\r\n0\r\nx-sum: 1\r\ny:\r\n\r\nGET / HTTP/1.1\r\n";
        for step in 1..body.len() + 1 {
            let (data, taken, done) = decode(body, step).unwrap();
            assert_eq!(data, b"hello 0123456789");
            assert_eq!((&body[taken..], done), (&b"GET / HTTP/1.1\r\n"[..], true));
        }
    }

    #[test]
    fn a_single_chunk_is_not_moved() {
        let mut buffer = b"3\r\nabc\r\n".to_vec();
        assert_eq!(ChunkedDecoder::default().decode(&mut buffer), Ok((8, 3..6)));
    }

    #[test]
    fn malformed_chunks_are_refused_whatever_the_split() {
        for (body, kind) in [
            (&b"0x2\r\nab\r\n"[..], Kind::BadChunkSize),
            (b"0_2e\r\n", Kind::BadChunkSize),
            (b"-0\r\n", Kind::BadChunkSize),
            (b"+5\r\n", Kind::BadChunkSize),
            (b" 5\r\n", Kind::BadChunkSize),
            (b"5 \r\n", Kind::BadChunkSize),
            (b"5 5\r\n", Kind::BadChunkSize),
            (b"5 a;b\r\n", Kind::BadChunkSize),
            (b"\r\n", Kind::BadChunkSize),
            (b";a\r\n", Kind::BadChunkSize),
            (b"10000000000000000\r\n", Kind::BadChunkSize),
            (b"5\nhello\r\n", Kind::BadChunkSize),
            (b"5\rhello\r\n", Kind::BadChunkSize),
            (b"5;a\nhello\r\n", Kind::BadChunkExtension),
            (b"5;a\rb\r\nhello\r\n", Kind::BadChunkSize),
            (b"5;a\0\r\n", Kind::BadChunkExtension),
            (b"2\r\nabc\r\n", Kind::BadChunkEnd),
            (b"2\r\nab\n0\r\n\r\n", Kind::BadChunkEnd),
            (b"2\r\nab0\r\n\r\n", Kind::BadChunkEnd),
            (b"0\r\n\n", Kind::BadTrailer),
            (b"0\r\n folded\r\n\r\n", Kind::BadTrailer),
            (b"0\r\nno colon\r\n\r\n", Kind::BadTrailer),
            (b"0\r\na: b\n\r\n", Kind::BadTrailer),
            (b"0\r\nGET / HTTP/1.1\r\n\r\n", Kind::BadTrailer),
        ] {
            for step in 1..body.len() + 1 {
                assert_eq!(decode(body, step).err(), Some(kind), "{body:?} by {step}");
            }
        }
    }

    #[test]
    fn long_lines_are_refused() {
        let extension = [b"5;".to_vec(), vec![b'x'; MAX_CHUNK_LINE_BYTES]].concat();
        assert_eq!(decode(&extension, 7).err(), Some(Kind::ChunkLineTooLong));
        let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(MAX_TRAILER_BYTES / 6 + 1)].concat();
        assert_eq!(decode(&trailers, 11).err(), Some(Kind::TrailersTooLarge));
    }
}
