//! The frames a client sends, counted before anything is done about them.
//!
//! The codec bounds what its memory can be made to hold: unfinished header blocks, small and empty DATA frames, streams
//! that are reset before they are served. What it cannot know is what a frame costs behind it: a stream that is opened
//! and reset at once has made a backend work (CVE-2023-44487). And it answers pings and settings for as long as they
//! are sent (CVE-2019-9512, CVE-2019-9515), and waits without end for the rest of a header block. So the bytes from the
//! client are looked at on their way to the codec, frame head by frame head, a few instructions each.
//!
//! Every client has some credit for frames that cost and bring nothing. Requests that are served and data that is sent
//! give credit back, and so does time, so that no client that works runs out of it.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PREFACE;
use super::outgoing::Outgoing;
use crate::buffers::Buffer;
use crate::limits::{MAX_CONTROL_FRAMES, MAX_RESETS, MAX_RESETS_PER_SECOND};
use crate::link::ClientStream;

/// What a client has done, and how much more of it is borne.
pub(crate) struct Counts {
    /// Streams that the client may reset.
    resets: Cell<u32>,
    /// Frames that it may send that bring nothing: PING, SETTINGS, PRIORITY, empty DATA, unknown ones.
    controls: Cell<u32>,
    /// When time last gave credit.
    refilled: Cell<Instant>,
    /// Since when a header block is unfinished.
    block_since: Cell<Option<Instant>>,
    exceeded: Cell<bool>,
}

impl Counts {
    pub(crate) fn new() -> Rc<Counts> {
        Rc::new(Counts {
            resets: Cell::new(MAX_RESETS),
            controls: Cell::new(MAX_CONTROL_FRAMES),
            refilled: Cell::new(Instant::now()),
            block_since: Cell::new(None),
            exceeded: Cell::new(false),
        })
    }

    /// A request was served to its end.
    pub(crate) fn served(&self) {
        give(&self.resets, 1, MAX_RESETS);
    }

    /// A DATA frame was sent. Clients answer some of them with a ping, to measure.
    pub(crate) fn sent(&self) {
        give(&self.controls, 1, MAX_CONTROL_FRAMES);
    }

    /// The client has used up its credit.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.exceeded.get()
    }

    /// When an unfinished header block is too late.
    pub(crate) fn block_deadline(&self, limit: Duration) -> Option<Instant> {
        self.block_since.get().and_then(|since| since.checked_add(limit))
    }

    fn take(&self, from: &Cell<u32>) {
        if from.get() == 0 {
            self.refill();
        }
        match from.get().checked_sub(1) {
            Some(left) => from.set(left),
            None => self.exceeded.set(true),
        }
    }

    /// What time gives: as many resets a second as are named, and ten times as many other frames.
    fn refill(&self) {
        let seconds = self.refilled.get().elapsed().as_secs();
        if seconds > 0 {
            self.refilled.set(Instant::now());
            let resets = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(MAX_RESETS_PER_SECOND);
            give(&self.resets, resets, MAX_RESETS);
            give(&self.controls, resets.saturating_mul(10), MAX_CONTROL_FRAMES);
        }
    }
}

fn give(to: &Cell<u32>, count: u32, limit: u32) {
    to.set(to.get().saturating_add(count).min(limit));
}

/// Length of the head of a frame (RFC 9113 section 4.1).
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Follows the borders of frames in a stream of bytes.
struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the preface or of a frame that are still to come.
    left: usize,
    /// A header block goes on in the next frame.
    block_goes_on: bool,
}

impl Frames {
    fn new() -> Frames {
        Frames { head: [0; HEAD], have: 0, left: PREFACE.len(), block_goes_on: false }
    }

    fn feed(&mut self, mut bytes: &[u8], counts: &Counts) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            if self.left > 0 {
                break;
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                self.have = 0;
                self.note(counts);
            }
        }
        let in_block =
            self.block_goes_on || (self.left > 0 && matches!(self.head[3], HEADERS | CONTINUATION));
        match (in_block, counts.block_since.get()) {
            (true, None) => counts.block_since.set(Some(Instant::now())),
            (false, Some(_)) => counts.block_since.set(None),
            _ => {}
        }
    }

    /// A head is whole.
    fn note(&mut self, counts: &Counts) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            HEADERS | CONTINUATION => self.block_goes_on = flags & END_HEADERS == 0,
            RST_STREAM => counts.take(&counts.resets),
            DATA if self.left > 0 || flags & END_STREAM != 0 => {}
            WINDOW_UPDATE | GOAWAY => {}
            _ => counts.take(&counts.controls),
        }
    }
}

/// A client's connection with its frames counted.
pub(crate) struct Guard<'o> {
    outgoing: &'o Outgoing<'o, ClientStream>,
    /// What was read before it was known that this is HTTP/2.
    early: Option<Buffer>,
    frames: Frames,
    counts: Rc<Counts>,
}

impl<'o> Guard<'o> {
    pub(crate) fn new(
        outgoing: &'o Outgoing<'o, ClientStream>,
        early: Option<Buffer>,
        counts: Rc<Counts>,
    ) -> Guard<'o> {
        Guard { outgoing, early, frames: Frames::new(), counts }
    }
}

impl AsyncRead for Guard<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.counts.is_exceeded() {
            // Nothing more of it is wanted; the connection's task has been told by the frame that was too much.
            return Poll::Pending;
        }
        let before = target.filled().len();
        if let Some(early) = &mut this.early {
            let count = early.len().min(target.remaining());
            target.put_slice(&early.filled()[..count]);
            early.consume(count);
            if early.is_empty() {
                this.early = None;
            }
        } else {
            ready!(this.outgoing.link().poll_read_buf(cx, target))?;
        }
        this.frames.feed(&target.filled()[before..], &this.counts);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guard<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.outgoing.poll_take(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.outgoing.poll_take(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Left to the connection's task.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The end is told after the last frame was read by the client, not here: a socket that is closed with bytes unread
    /// takes back what was written, and that would be the GOAWAY.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, kind: u8, flags: u8) -> Vec<u8> {
        let mut frame =
            vec![(length >> 16) as u8, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + length, 0);
        frame
    }

    fn fed(bytes: &[u8], piece: usize) -> Rc<Counts> {
        let counts = Counts::new();
        let mut frames = Frames::new();
        frames.feed(PREFACE, &counts);
        bytes.chunks(piece).for_each(|piece| frames.feed(piece, &counts));
        counts
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let bytes = [frame(300, HEADERS, END_HEADERS), frame(4, RST_STREAM, 0), frame(8, 6, 0)].concat();
        for piece in [1, 2, 5, 9, 10, 1000] {
            let counts = fed(&bytes, piece);
            assert_eq!(counts.resets.get(), MAX_RESETS - 1, "{piece}");
            assert_eq!(counts.controls.get(), MAX_CONTROL_FRAMES - 1, "{piece}");
            assert_eq!(counts.block_since.get(), None);
        }
    }

    #[test]
    fn credit_ends_and_comes_back() {
        let resets = |count: u32| frame(4, RST_STREAM, 0).repeat(count as usize);
        assert!(!fed(&resets(MAX_RESETS), 4096).is_exceeded());
        assert!(fed(&resets(MAX_RESETS + 1), 4096).is_exceeded());
        let counts = fed(&resets(MAX_RESETS), 4096);
        counts.served();
        assert_eq!(counts.resets.get(), 1);
        let controls = frame(0, DATA, 0).repeat(MAX_CONTROL_FRAMES as usize + 1);
        assert!(fed(&controls, 4096).is_exceeded());
        assert!(!fed(&frame(1, DATA, 0).repeat(MAX_CONTROL_FRAMES as usize + 1), 4096).is_exceeded());
    }

    #[test]
    fn an_unfinished_header_block_has_a_deadline() {
        let whole = frame(10, HEADERS, 0);
        for bytes in [&whole[..], &whole[..12], &[whole.clone(), frame(3, CONTINUATION, 0)].concat()] {
            assert!(fed(bytes, 4096).block_deadline(Duration::ZERO).is_some());
        }
        let finished = [whole, frame(3, CONTINUATION, END_HEADERS)].concat();
        assert!(fed(&finished, 4096).block_deadline(Duration::ZERO).is_none());
        assert!(fed(&finished[..finished.len() - 1], 4096).block_deadline(Duration::ZERO).is_some());
    }
}
