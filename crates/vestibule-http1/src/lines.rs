//! Cuts a growing buffer into lines, each once.
//!
//! Every LF must follow a CR. Only the first [`MAX_HEAD_BYTES`] are ever looked at, so that a head that is too large is
//! told the same way whether it came in one read or in thousands.

use std::ops::Range;

use crate::error::Kind;
use crate::limits::MAX_HEAD_BYTES;

/// Where the next line starts, and how far its end was already looked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lines {
    line: usize,
    searched: usize,
}

impl Lines {
    /// The next whole line without its CRLF; `None` until it is there.
    pub(crate) fn next(&mut self, buffer: &[u8]) -> Result<Option<Range<usize>>, Kind> {
        let visible = &buffer[..buffer.len().min(MAX_HEAD_BYTES)];
        let Some(found) = memchr::memchr(b'\n', &visible[self.searched..]) else {
            self.searched = visible.len();
            return if visible.len() == MAX_HEAD_BYTES { Err(Kind::HeadTooLarge) } else { Ok(None) };
        };
        let lf = self.searched + found;
        if lf == self.line || visible[lf - 1] != b'\r' {
            return Err(Kind::BareLineFeed);
        }
        let line = self.line..lf - 1;
        self.line = lf + 1;
        self.searched = lf + 1;
        Ok(Some(line))
    }

    /// As [`next`](Self::next), for a line of at most `longest` bytes; `too_long` tells of a longer one.
    pub(crate) fn next_within(
        &mut self,
        buffer: &[u8],
        longest: usize,
        too_long: Kind,
    ) -> Result<Option<Range<usize>>, Kind> {
        let limit = self.line + longest + "\r\n".len();
        let line = self.next(&buffer[..buffer.len().min(limit)])?;
        if line.is_none() && buffer.len() >= limit { Err(too_long) } else { Ok(line) }
    }

    /// Where the line that [`next`](Self::next) will give starts: behind all lines given so far.
    pub(crate) fn position(&self) -> usize {
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_once_and_without_their_ends() {
        let mut lines = Lines::default();
        assert_eq!(lines.next(b"ab"), Ok(None));
        assert_eq!(lines.next(b"ab\r"), Ok(None));
        assert_eq!(lines.next(b"ab\r\n\r\nrest"), Ok(Some(0..2)));
        assert_eq!(lines.next(b"ab\r\n\r\nrest"), Ok(Some(4..4)));
        assert_eq!(lines.position(), 6);
        assert_eq!(lines.next(b"ab\r\n\r\nrest"), Ok(None));
    }

    #[test]
    fn a_bare_line_feed_is_refused_even_as_the_first_byte_of_a_line() {
        assert_eq!(Lines::default().next(b"ab\n"), Err(Kind::BareLineFeed));
        assert_eq!(Lines::default().next(b"\n"), Err(Kind::BareLineFeed));
        let mut lines = Lines::default();
        assert_eq!(lines.next(b"a\r\n\n"), Ok(Some(0..1)));
        assert_eq!(lines.next(b"a\r\n\n"), Err(Kind::BareLineFeed));
    }

    #[test]
    fn what_lies_beyond_the_limit_is_not_seen() {
        let mut bytes = vec![b'a'; MAX_HEAD_BYTES];
        bytes.extend_from_slice(b"\n\r\n");
        assert_eq!(Lines::default().next(&bytes), Err(Kind::HeadTooLarge));
        assert_eq!(Lines::default().next(&bytes[..MAX_HEAD_BYTES - 1]), Ok(None));
    }
}
