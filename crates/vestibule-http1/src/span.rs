//! Positions inside a head's buffer.

use std::ops::Range;

/// A range of bytes in the buffer a head was parsed from. Two bytes a position are enough because of
/// [`MAX_HEAD_BYTES`](crate::limits::MAX_HEAD_BYTES), and keep a head with a hundred fields near one kilobyte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// From positions below [`MAX_HEAD_BYTES`](crate::limits::MAX_HEAD_BYTES).
    pub(crate) fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= crate::limits::MAX_HEAD_BYTES);
        Span { start: start as u16, end: end as u16 }
    }

    pub fn start(self) -> usize {
        self.start as usize
    }

    pub fn end(self) -> usize {
        self.end as usize
    }

    pub fn len(self) -> usize {
        self.end() - self.start()
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub fn range(self) -> Range<usize> {
        self.start()..self.end()
    }

    /// The bytes it stands for.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.range()]
    }
}
