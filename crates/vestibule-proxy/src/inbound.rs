//! The direction from the client while a request is served: its body on the way to the backend, and after that the
//! watch for a client that goes away.
//!
//! Everything that waits while a request is served waits inside [`Inbound::during`], so that a client that leaves is
//! noticed at once, a body goes on being sent whatever else happens, and every wait has the connection's deadline.

use std::future::poll_fn;
use std::io::IoSlice;
use std::ops::Range;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use vestibule_http1::{BodyDecoder, Error, encode};

use crate::buffers::Buffer;
use crate::link::{ClientStream, Link};
use crate::timers::{Passed, Timer};
use crate::upstream::Upstream;

/// Reads of a body in one go before others get their turn.
const ROUNDS: u32 = 8;

/// Why a wait ended before what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The client closed or broke its connection.
    ClientGone,
    /// The body cannot be read.
    BadBody(Error),
    /// A deadline of the connection passed.
    Late(Passed),
}

/// What the client still sends.
pub(crate) struct Inbound<'a> {
    client: &'a Link<ClientStream>,
    timer: &'a Timer,
    state: State,
    /// The whole request was read.
    complete: bool,
    /// Something of a body was given to a backend.
    touched: bool,
    /// Bytes that came behind the request.
    behind: Option<Buffer>,
    /// Bytes of the body that were read here.
    received: u64,
    /// The response timeout, which starts when the request is complete, and the idle limit.
    timeout: Option<(Duration, Duration)>,
}

enum State {
    /// The request is complete; nothing should come but the end of the connection.
    Watching,
    /// The body is on its way.
    Sending(Upload),
    /// Nothing more is read: the next request waits already, or the backend wants no more of the body.
    Still,
}

impl<'a> Inbound<'a> {
    /// For a request that is complete. `more`: bytes of a next request are there already.
    pub(crate) fn complete(client: &'a Link<ClientStream>, timer: &'a Timer, more: bool) -> Inbound<'a> {
        let state = if more { State::Still } else { State::Watching };
        Inbound {
            client,
            timer,
            state,
            complete: true,
            touched: false,
            behind: None,
            received: 0,
            timeout: None,
        }
    }

    /// For a request whose body goes on. `first` is the data that is there already.
    pub(crate) fn streaming(
        client: &'a Link<ClientStream>,
        timer: &'a Timer,
        decoder: BodyDecoder,
        chunked: bool,
        first: &[u8],
    ) -> Inbound<'a> {
        let state = State::Sending(Upload::new(decoder, chunked, first));
        Inbound {
            client,
            timer,
            state,
            complete: false,
            touched: false,
            behind: None,
            received: 0,
            timeout: None,
        }
    }

    /// The response must come within `timeout` from the end of the request, and something must move every `idle`.
    pub(crate) fn start_timeout(&mut self, timeout: Duration, idle: Duration) {
        if self.is_complete() {
            self.timer.within(Instant::now().checked_add(timeout), idle);
        } else {
            self.timeout = Some((timeout, idle));
            self.timer.idle(idle);
        }
    }

    /// The whole request was read.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Nothing of a body was given to a backend, so the request can still be sent to another.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Bytes of the body that were read.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// What came behind the request, for the next one.
    pub(crate) fn take_behind(&mut self) -> Option<Buffer> {
        self.behind.take()
    }

    /// Waits for `op` while the client's direction goes on. `upstream` takes the body, once there is one.
    pub(crate) async fn during<T>(
        &mut self,
        upstream: Option<&Upstream>,
        mut op: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Interrupt> {
        poll_fn(|cx| {
            // A body first: the answer may depend on it, and it stops by itself after some rounds.
            if matches!(self.state, State::Sending(_))
                && let Poll::Ready(interrupt) = self.poll(cx, upstream)
            {
                return Poll::Ready(Err(interrupt));
            }
            if let Poll::Ready(value) = op(cx) {
                return Poll::Ready(Ok(value));
            }
            if matches!(self.state, State::Watching)
                && let Poll::Ready(interrupt) = self.watch(cx)
            {
                return Poll::Ready(Err(interrupt));
            }
            self.timer.passed().map_or(Poll::Pending, |passed| Poll::Ready(Err(Interrupt::Late(passed))))
        })
        .await
    }

    /// Sends of the body what can be sent.
    fn poll(&mut self, cx: &mut Context<'_>, upstream: Option<&Upstream>) -> Poll<Interrupt> {
        let (State::Sending(upload), Some(upstream)) = (&mut self.state, upstream) else {
            return Poll::Pending;
        };
        let sent = upload.poll(cx, self.client, upstream, self.timer, &mut self.received);
        self.touched |= upload.touched;
        match ready!(sent) {
            Sent::Interrupted(interrupt) => return Poll::Ready(interrupt),
            // What the backend has to say about it, or that it says nothing, shows when its response is read.
            Sent::Unwanted => self.state = State::Still,
            Sent::Complete => self.complete_upload(),
        }
        Poll::Pending
    }

    fn complete_upload(&mut self) {
        let State::Sending(upload) = std::mem::replace(&mut self.state, State::Watching) else { return };
        self.complete = true;
        if !upload.buffer.is_empty() {
            self.behind = Some(upload.buffer);
            self.state = State::Still;
        }
        if let Some((timeout, idle)) = self.timeout.take() {
            self.timer.within(Instant::now().checked_add(timeout), idle);
        }
    }

    /// Looks whether the client is still there.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<Interrupt> {
        let mut buffer = Buffer::small();
        match ready!(self.client.poll_read(cx, &mut buffer)) {
            Ok(0) | Err(_) => Poll::Ready(Interrupt::ClientGone),
            Ok(_) => {
                // A next request; it must wait, and its bytes keep us from seeing whether the client leaves.
                self.behind = Some(buffer);
                self.state = State::Still;
                Poll::Pending
            }
        }
    }
}

/// A body on its way.
struct Upload {
    decoder: BodyDecoder,
    /// It goes on in the chunked coding.
    chunked: bool,
    buffer: Buffer,
    out: Piece,
    /// Something of it was given to a backend.
    touched: bool,
}

/// A piece of the body that is being written.
struct Piece {
    size: Option<encode::ChunkSize>,
    /// In the buffer.
    data: Range<usize>,
    end: &'static [u8],
    written: usize,
    /// Bytes of the buffer to give up when it is written.
    consumed: usize,
}

enum Sent {
    Complete,
    /// The backend's connection takes no more.
    Unwanted,
    Interrupted(Interrupt),
}

impl Upload {
    fn new(decoder: BodyDecoder, chunked: bool, first: &[u8]) -> Upload {
        let mut buffer = Buffer::large();
        let held = buffer.push(first);
        debug_assert_eq!(held, first.len());
        let out = Piece::new(chunked, 0..held, held, false);
        Upload { decoder, chunked, buffer, out, touched: false }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &Link<ClientStream>,
        upstream: &Upstream,
        timer: &Timer,
        received: &mut u64,
    ) -> Poll<Sent> {
        for _ in 0..ROUNDS {
            if ready!(self.poll_flush(cx, upstream, timer)).is_err() {
                return Poll::Ready(Sent::Unwanted);
            }
            if self.decoder.is_done() {
                return Poll::Ready(Sent::Complete);
            }
            match ready!(client.poll_read(cx, &mut self.buffer)) {
                Ok(0) | Err(_) => return Poll::Ready(Sent::Interrupted(Interrupt::ClientGone)),
                Ok(_) => timer.moved(),
            }
            match self.decoder.decode(self.buffer.filled_mut()) {
                Ok(piece) => {
                    *received += piece.consumed as u64;
                    self.out = Piece::new(self.chunked, piece.data, piece.consumed, self.decoder.is_done());
                }
                Err(error) => return Poll::Ready(Sent::Interrupted(Interrupt::BadBody(error))),
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
    ) -> Poll<std::io::Result<()>> {
        while self.out.written < self.out.len() {
            self.touched = true;
            let parts = self.out.rest(self.buffer.filled());
            let count = ready!(upstream.link.poll_write(cx, &parts))?;
            if count == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            timer.moved();
            self.out.written += count;
        }
        self.buffer.consume(std::mem::take(&mut self.out.consumed));
        Poll::Ready(Ok(()))
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
        Piece { size, data, end, written: 0, consumed }
    }

    fn size_line(&self) -> &[u8] {
        self.size.as_ref().map_or(b"", |size| size.as_bytes())
    }

    fn len(&self) -> usize {
        self.size_line().len() + self.data.len() + self.end.len()
    }

    /// What of it is not written yet.
    fn rest<'b>(&'b self, buffer: &'b [u8]) -> [IoSlice<'b>; 3] {
        let mut skip = self.written;
        [self.size_line(), &buffer[self.data.clone()], self.end].map(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            IoSlice::new(&part[skipped..])
        })
    }
}
