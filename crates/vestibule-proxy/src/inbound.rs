//! The direction from the client while a request is served: its body on the way to the backend, and after that the
//! watch for a client that goes away.
//!
//! Everything that waits while a request is served waits inside [`Inbound::during`], so that a client that leaves is
//! noticed at once, a body goes on being sent whatever else happens, and every wait has the connection's deadline.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use vestibule_http1::{BodyDecoder, Error};

use crate::buffers::Buffer;
use crate::client::Client;
use crate::endpoints::Cut;
use crate::http2::body::Frames;
use crate::timers::{Passed, Timer};
use crate::upload::{Sent, Upload};
use crate::upstream::Upstream;

/// Why a wait ended before what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The client closed or broke its connection.
    ClientGone,
    /// The body cannot be read.
    BadBody(Error),
    /// A deadline of the connection passed.
    Late(Passed),
    /// The endpoint was removed, and its requests have had their time.
    Removed,
}

/// What the client still sends.
pub(crate) struct Inbound<'a> {
    client: Client<'a>,
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
    /// Set when whoever serves the request must be left.
    cut: Option<Cut>,
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
    pub(crate) fn complete(client: Client<'a>, timer: &'a Timer, more: bool) -> Inbound<'a> {
        let state = if more { State::Still } else { State::Watching };
        Inbound { complete: true, ..Inbound::new(client, timer, state) }
    }

    /// For a request whose body goes on. `first` is the data that is there already.
    pub(crate) fn streaming(
        client: Client<'a>,
        timer: &'a Timer,
        decoder: BodyDecoder,
        chunked: bool,
        first: &[u8],
    ) -> Inbound<'a> {
        Inbound::new(client, timer, State::Sending(Upload::of_bytes(decoder, chunked, first)))
    }

    /// For a request whose body comes in frames. `chunked`: its length is not known.
    pub(crate) fn framed(client: Client<'a>, timer: &'a Timer, body: Frames, chunked: bool) -> Inbound<'a> {
        Inbound::new(client, timer, State::Sending(Upload::of_frames(body, chunked)))
    }

    fn new(client: Client<'a>, timer: &'a Timer, state: State) -> Inbound<'a> {
        Inbound {
            client,
            timer,
            state,
            complete: false,
            touched: false,
            behind: None,
            received: 0,
            timeout: None,
            cut: None,
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

    /// From now on the request ends when this is set.
    pub(crate) fn obey(&mut self, cut: Option<Cut>) {
        self.cut = cut;
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
            if self.cut.as_ref().is_some_and(|cut| cut.get()) {
                return Poll::Ready(Err(Interrupt::Removed));
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
        self.touched |= upload.is_touched();
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
        if let Some(behind) = upload.into_behind() {
            self.behind = Some(behind);
            self.state = State::Still;
        }
        if let Some((timeout, idle)) = self.timeout.take() {
            self.timer.within(Instant::now().checked_add(timeout), idle);
        }
    }

    /// Looks whether the client is still there.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<Interrupt> {
        let link = match self.client {
            Client::Http1(link) => link,
            Client::Http2(stream) => return stream.poll_gone(cx).map(|()| Interrupt::ClientGone),
        };
        let mut buffer = Buffer::small();
        match ready!(link.poll_read(cx, &mut buffer)) {
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
