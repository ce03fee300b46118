//! A request's body on its way to a backend.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use vestibule_http1::{BodyDecoder, encode};

use crate::buffers::Buffer;
use crate::client::Client;
use crate::http2::ask::Asked;
use crate::http2::body::Frames;
use crate::inbound::Interrupt;
use crate::link::Link;
use crate::timers::Timer;
use crate::upstream::{BackendStream, Upstream};

/// Reads of a body in one go before others get their turn.
const ROUNDS: u32 = 8;

/// A body on its way.
pub(crate) struct Upload {
    source: Source,
    /// It goes on in the chunked coding, if it goes on in HTTP/1.1.
    chunked: bool,
    out: Piece,
    /// Something of it was given to a backend.
    touched: bool,
}

/// Where a body comes from. What was read of it last is held until it is written.
enum Source {
    Bytes {
        decoder: BodyDecoder,
        buffer: Buffer,
    },
    /// Boxed: it is larger than the other, and an idle connection pays for both.
    Frames(Box<Frames>),
}

/// A piece of the body that is being written.
struct Piece {
    size: Option<encode::ChunkSize>,
    /// Among the bytes that the source holds.
    data: Range<usize>,
    end: &'static [u8],
    written: usize,
    /// Bytes of the buffer to give up when it is written.
    consumed: usize,
    /// The body ends with it.
    last: bool,
}

/// How sending came to an end.
pub(crate) enum Sent {
    Complete,
    /// The backend's connection takes no more.
    Unwanted,
    Interrupted(Interrupt),
}

impl Upload {
    /// Of a body in HTTP/1.1, of which `first` is there already.
    pub(crate) fn of_bytes(decoder: BodyDecoder, chunked: bool, first: &[u8]) -> Upload {
        let mut buffer = Buffer::large();
        let held = buffer.push(first);
        debug_assert_eq!(held, first.len());
        let out = Piece::new(chunked, 0..held, held, false);
        Upload { source: Source::Bytes { decoder, buffer }, chunked, out, touched: false }
    }

    pub(crate) fn of_frames(body: Frames, chunked: bool) -> Upload {
        let out = Piece::new(chunked, 0..body.held().len(), 0, body.is_ended());
        Upload { source: Source::Frames(Box::new(body)), chunked, out, touched: false }
    }

    pub(crate) fn is_touched(&self) -> bool {
        self.touched
    }

    /// What was read behind the body.
    pub(crate) fn into_behind(self) -> Option<Buffer> {
        match self.source {
            Source::Bytes { buffer, .. } => Some(buffer).filter(|buffer| !buffer.is_empty()),
            Source::Frames(_) => None,
        }
    }

    /// Sends what can be sent. Bytes that were read are added to `received`.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: Client<'_>,
        upstream: &Upstream,
        timer: &Timer,
        received: &mut u64,
    ) -> Poll<Sent> {
        for _ in 0..ROUNDS {
            if ready!(self.poll_flush(cx, upstream, timer)).is_err() {
                return Poll::Ready(Sent::Unwanted);
            }
            if self.out.last || self.source.is_done() {
                return Poll::Ready(Sent::Complete);
            }
            match ready!(self.source.poll_next(cx, client, self.chunked)) {
                Ok((piece, count)) => {
                    timer.moved();
                    *received += count as u64;
                    self.out = piece;
                }
                Err(interrupt) => return Poll::Ready(Sent::Interrupted(interrupt)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &Upstream,
        timer: &Timer,
    ) -> Poll<io::Result<()>> {
        match upstream {
            Upstream::Http1(connection) => ready!(self.poll_bytes(cx, &connection.link, timer))?,
            Upstream::Http2(asked) => ready!(self.poll_frames(cx, asked, timer))?,
        }
        self.source.release(std::mem::take(&mut self.out.consumed));
        Poll::Ready(Ok(()))
    }

    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link<BackendStream>,
        timer: &Timer,
    ) -> Poll<io::Result<()>> {
        while self.out.written < self.out.len() {
            self.touched = true;
            let parts = self.out.rest(self.source.held());
            let count = ready!(link.poll_write(cx, &parts))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            timer.moved();
            self.out.written += count;
        }
        Poll::Ready(Ok(()))
    }

    /// Frames have no need of the chunked coding: only the data counts.
    fn poll_frames(&mut self, cx: &mut Context<'_>, asked: &Asked, timer: &Timer) -> Poll<io::Result<()>> {
        let ends = self.out.last && !self.source.has_trailers();
        while self.out.written < self.out.data.len() {
            self.touched = true;
            let mut rest = self.source.share(self.out.data.start + self.out.written..self.out.data.end);
            let count = ready!(asked.poll_data(cx, &mut rest, ends))?;
            timer.moved();
            self.out.written += count;
        }
        if self.out.last {
            self.touched = true;
            asked.end(self.source.take_trailers())?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Source {
    /// What was read.
    fn held(&self) -> &[u8] {
        match self {
            Source::Bytes { buffer, .. } => buffer.filled(),
            Source::Frames(body) => body.held(),
        }
    }

    /// A part of what was read, to be kept by whoever sends it. Frames are shared, bytes are copied.
    fn share(&self, range: Range<usize>) -> Bytes {
        match self {
            Source::Bytes { buffer, .. } => Bytes::copy_from_slice(&buffer.filled()[range]),
            Source::Frames(body) => body.held().slice(range),
        }
    }

    fn has_trailers(&self) -> bool {
        matches!(self, Source::Frames(body) if body.has_trailers())
    }

    /// What stands behind the body. Bodies in HTTP/1.1 end without (Envoy's default).
    fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Source::Bytes { .. } => None,
            Source::Frames(body) => body.take_trailers(),
        }
    }

    /// All of the body was read.
    fn is_done(&self) -> bool {
        match self {
            Source::Bytes { decoder, .. } => decoder.is_done(),
            Source::Frames(_) => false,
        }
    }

    /// What was read was written. `consumed` bytes of a buffer are not needed any more.
    fn release(&mut self, consumed: usize) {
        match self {
            Source::Bytes { buffer, .. } => buffer.consume(consumed),
            Source::Frames(body) => body.release(),
        }
    }

    /// Reads the next piece; answers also how many bytes were read for it.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        client: Client<'_>,
        chunked: bool,
    ) -> Poll<Result<(Piece, usize), Interrupt>> {
        match (self, client) {
            (Source::Bytes { decoder, buffer }, Client::Http1(link)) => {
                match ready!(link.poll_read(cx, buffer)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Interrupt::ClientGone)),
                    Ok(_) => {}
                }
                let piece = decoder.decode(buffer.filled_mut()).map_err(Interrupt::BadBody)?;
                let consumed = piece.consumed;
                Poll::Ready(Ok((Piece::new(chunked, piece.data, consumed, decoder.is_done()), consumed)))
            }
            (Source::Frames(body), _) => {
                // An error of the stream says no more than that it is over: the codec has told the client why.
                ready!(body.poll_next(cx)).map_err(|_| Interrupt::ClientGone)?;
                let count = body.held().len();
                Poll::Ready(Ok((Piece::new(chunked, 0..count, 0, body.is_ended()), count)))
            }
            (Source::Bytes { .. }, Client::Http2(_)) => Poll::Ready(Err(Interrupt::ClientGone)),
        }
    }
}

impl Piece {
    fn new(chunked: bool, data: Range<usize>, consumed: usize, last: bool) -> Piece {
        let size = (chunked && !data.is_empty()).then(|| encode::ChunkSize::new(data.len()));
        let end: &[u8] = match (chunked, data.is_empty(), last) {
            (true, false, false) => encode::CHUNK_END,
            (true, false, true) => encode::CHUNK_END_AND_LAST,
            (true, true, true) => encode::LAST_CHUNK,
            _ => b"",
        };
        Piece { size, data, end, written: 0, consumed, last }
    }

    fn size_line(&self) -> &[u8] {
        self.size.as_ref().map_or(b"", |size| size.as_bytes())
    }

    fn len(&self) -> usize {
        self.size_line().len() + self.data.len() + self.end.len()
    }

    /// What of it is not written yet.
    fn rest<'b>(&'b self, held: &'b [u8]) -> [IoSlice<'b>; 3] {
        let mut skip = self.written;
        [self.size_line(), &held[self.data.clone()], self.end].map(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            IoSlice::new(&part[skipped..])
        })
    }
}
