//! Read buffers, taken from a small store a thread when there is something to read and given back when it is used up.
//!
//! A connection that waits holds none, which is what keeps ten thousand idle connections small; and the few buffers
//! that a busy thread cycles through stay in its cache.

use std::cell::{Cell, RefCell};

use crate::limits::{LARGE_BUFFER, MAX_SPARE_BUFFERS, SMALL_BUFFER};

thread_local! {
    /// Bytes in buffers that are in use.
    static HELD: Cell<usize> = const { Cell::new(0) };
    static SPARE: RefCell<Spare> = RefCell::default();
}

#[derive(Default)]
struct Spare {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

/// A buffer of fixed size with a filled part.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Bytes of this thread's buffers that are in use.
pub(crate) fn held() -> usize {
    HELD.get()
}

impl Buffer {
    /// Of [`SMALL_BUFFER`] bytes.
    pub(crate) fn small() -> Buffer {
        let spare = SPARE.with_borrow_mut(|spare| spare.small.pop());
        HELD.set(HELD.get() + SMALL_BUFFER);
        Buffer { bytes: spare.unwrap_or_else(|| vec![0; SMALL_BUFFER]), start: 0, end: 0 }
    }

    /// Of [`LARGE_BUFFER`] bytes.
    pub(crate) fn large() -> Buffer {
        let spare = SPARE.with_borrow_mut(|spare| spare.large.pop());
        HELD.set(HELD.get() + LARGE_BUFFER);
        Buffer { bytes: spare.unwrap_or_else(|| vec![0; LARGE_BUFFER]), start: 0, end: 0 }
    }

    /// What was read and not consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Where to read into.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// `count` bytes were read into [`free`](Self::free).
    pub(crate) fn fill(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.bytes.len());
        self.end += count;
    }

    /// Gives up the first `count` filled bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room to read at least one more byte: moves what is filled to the front, or into a large buffer. `false`:
    /// it is full and as large as it gets.
    pub(crate) fn make_room(&mut self) -> bool {
        if self.end < self.bytes.len() {
            return true;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            return true;
        }
        if self.bytes.len() >= LARGE_BUFFER {
            return false;
        }
        let mut large = Buffer::large();
        large.push(self.filled());
        *self = large;
        true
    }

    /// Appends what fits, and answers how much that was.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.free().len());
        self.free()[..count].copy_from_slice(&bytes[..count]);
        self.fill(count);
        count
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        HELD.set(HELD.get() - bytes.len());
        // A thread that is ending has no store any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            let class = if bytes.len() == SMALL_BUFFER { &mut spare.small } else { &mut spare.large };
            if class.len() < MAX_SPARE_BUFFERS {
                class.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_consumes_and_grows() {
        let mut buffer = Buffer::small();
        assert_eq!(buffer.push(&[1; SMALL_BUFFER + 1]), SMALL_BUFFER);
        buffer.consume(10);
        assert!(buffer.make_room());
        assert_eq!((buffer.len(), buffer.free().len()), (SMALL_BUFFER - 10, 10));
        buffer.push(&[2; 10]);
        assert!(buffer.make_room());
        assert_eq!((buffer.len(), buffer.free().len()), (SMALL_BUFFER, LARGE_BUFFER - SMALL_BUFFER));
        buffer.push(&vec![3; LARGE_BUFFER]);
        assert!(!buffer.make_room());
        buffer.consume(LARGE_BUFFER);
        assert!(buffer.is_empty() && buffer.make_room());
    }

    #[test]
    fn buffers_are_used_again() {
        let first = Buffer::large();
        let at = first.bytes.as_ptr();
        drop(first);
        assert_eq!(Buffer::large().bytes.as_ptr(), at);
    }

    #[test]
    fn what_is_in_use_is_known() {
        let before = held();
        let (small, large) = (Buffer::small(), Buffer::large());
        assert_eq!(held() - before, SMALL_BUFFER + LARGE_BUFFER);
        drop((small, large));
        assert_eq!(held(), before);
    }
}
