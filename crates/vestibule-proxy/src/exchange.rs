//! One attempt to get a response from a backend: a connection, the request on it, the response's head.

use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use vestibule_http1::{Error, Kind, Method, ResponseHead, Side, encode};

use crate::buffers::Buffer;
use crate::client::Client;
use crate::headers;
use crate::http2::ask::{Answered, Asked};
use crate::http2::pivot;
use crate::http2::pool::Place;
use crate::inbound::{Inbound, Interrupt};
use crate::limits::{CONNECT_TIMEOUT, MAX_INTERIM_RESPONSES, MAX_UNPROCESSED, SMALL_BUFFER};
use crate::link::Parts;
use crate::timers::Timer;
use crate::upstream::{ConnectError, Connection, Pool, Target, Upstream};

/// Why an attempt brought no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection could be made.
    Refused,
    /// No connection was made in time.
    ConnectTimeout,
    /// There is no TLS with the backend.
    Tls,
    /// The connection ended before the response's head was complete.
    Closed,
    /// The backend reset the stream before it answered.
    Reset,
    /// The backend did not begin with the request, and said so.
    Unprocessed,
    /// The response cannot be read.
    Malformed(Error),
    /// Something else ended the attempt.
    Interrupted(Interrupt),
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Failure {
        match error {
            ConnectError::Refused | ConnectError::Over => Failure::Refused,
            ConnectError::Timeout => Failure::ConnectTimeout,
            ConnectError::Tls => Failure::Tls,
        }
    }
}

impl From<Interrupt> for Failure {
    fn from(interrupt: Interrupt) -> Failure {
        Failure::Interrupted(interrupt)
    }
}

/// A response whose head was read.
pub(crate) struct Started {
    pub(crate) upstream: Upstream,
    /// The head, and what of the body came with it.
    pub(crate) buffer: Buffer,
    pub(crate) head: usize,
}

/// What an attempt needs.
pub(crate) struct Exchange<'x, 'a> {
    pub(crate) pool: &'x Pool,
    pub(crate) client: Client<'x>,
    pub(crate) timer: &'x Timer,
    pub(crate) inbound: &'x mut Inbound<'a>,
    /// The request's head and, if it was held, its body.
    pub(crate) request: &'x [u8],
    pub(crate) method: Method,
    pub(crate) response: &'x mut ResponseHead,
    /// Bytes of interim responses that went to the client.
    pub(crate) interim_size: u64,
}

impl Exchange<'_, '_> {
    /// Makes the attempt. A pooled connection that turns out to be closed is not one yet, as long as sending the
    /// request again can do no harm.
    pub(crate) async fn attempt(&mut self, target: Target) -> Result<Started, Failure> {
        if target.protocol.is_http2() {
            return Box::pin(self.attempt_shared(target)).await;
        }
        if let Some(connection) = self.pool.take(target) {
            match self.send(Upstream::Http1(connection)).await {
                Err(Failure::Closed) if self.may_repeat() => {}
                result => return result,
            }
        }
        let connection = Box::pin(self.connect(target)).await?;
        self.send(Upstream::Http1(connection)).await
    }

    fn may_repeat(&self) -> bool {
        self.method.is_idempotent() && self.inbound.is_untouched()
    }

    async fn connect(&mut self, target: Target) -> Result<Connection, Failure> {
        // Rare beside requests, so it may cost an allocation and a timer of the runtime.
        let limit = tokio::time::timeout(CONNECT_TIMEOUT, self.pool.connect(target));
        let mut connecting = std::pin::pin!(limit);
        match self.inbound.during(None, |cx| connecting.as_mut().poll(cx)).await? {
            Ok(connected) => Ok(connected?),
            Err(_) => {
                self.pool.gave_up();
                Err(Failure::ConnectTimeout)
            }
        }
    }

    /// The attempt on a connection that others use as well. A request that was not taken up goes to another connection.
    async fn attempt_shared(&mut self, target: Target) -> Result<Started, Failure> {
        let mut result = Err(Failure::Unprocessed);
        for _ in 0..MAX_UNPROCESSED {
            let (place, send, is_fresh) = self.place(target).await?;
            result = self.ask(target, send, place).await;
            match &result {
                Err(Failure::Unprocessed) if self.inbound.is_untouched() => {}
                // It was over before this request came, and nobody knew.
                Err(Failure::Closed) if !is_fresh && self.may_repeat() => {}
                _ => return result,
            }
        }
        result
    }

    /// A place on a connection that is there, and whether it was made for this request.
    async fn place(&mut self, target: Target) -> Result<(Place, SendRequest<Bytes>, bool), Failure> {
        loop {
            let mut place = self.pool.shared.reserve(target);
            let (send, is_fresh) = match place.now() {
                Some(send) => {
                    self.pool.joined();
                    (send?, false)
                }
                None => {
                    let mut ready = std::pin::pin!(place.ready());
                    (self.inbound.during(None, |cx| ready.as_mut().poll(cx)).await??, true)
                }
            };
            if place.take() {
                return Ok((place, send, is_fresh));
            }
        }
    }

    async fn ask(
        &mut self,
        target: Target,
        mut send: SendRequest<Bytes>,
        place: Place,
    ) -> Result<Started, Failure> {
        let complete = self.inbound.is_complete();
        let asked = Asked::send(self.request, complete, target.protocol.is_encrypted(), &mut send, place);
        let asked = asked.map_err(|(error, place)| {
            place.shared().retire();
            tracing::debug!(address = %target.location.address, %error, "a connection takes no more requests");
            Failure::Unprocessed
        })?;
        let upstream = Upstream::Http2(Box::new(asked));
        for _ in 0..MAX_INTERIM_RESPONSES {
            let answered = {
                let Upstream::Http2(asked) = &upstream else { return Err(Failure::Closed) };
                self.inbound.during(Some(&upstream), |cx| asked.poll_head(cx)).await?
            };
            self.timer.moved();
            let (response, is_final) = match answered.map_err(failed)? {
                Answered::Interim(response) => (response, false),
                Answered::Final(response) => (response, true),
            };
            let (buffer, head) = self.read_text(&response)?;
            if is_final {
                return Ok(Started { upstream, buffer, head });
            }
            self.relay_interim(&upstream, &buffer).await?;
        }
        tracing::debug!("a backend sent too many interim responses");
        Err(Failure::Closed)
    }

    /// The head of a response as text, read by the parser that reads all of them.
    fn read_text(&mut self, response: &http::Response<()>) -> Result<(Buffer, usize), Failure> {
        let malformed = |kind| Failure::Malformed(Error { side: Side::Upstream, kind });
        let mut text = Vec::with_capacity(512);
        pivot::write_response(&mut text, response.status(), response.headers())
            .map_err(|_| malformed(Kind::BadStatusLine))?;
        let mut buffer = if text.len() <= SMALL_BUFFER { Buffer::small() } else { Buffer::large() };
        buffer.push(&text);
        self.response.clear();
        match self.response.parse(buffer.filled_mut()).map_err(Failure::Malformed)? {
            Some(head) => Ok((buffer, head)),
            None => Err(malformed(Kind::HeadTooLarge)),
        }
    }

    async fn send(&mut self, upstream: Upstream) -> Result<Started, Failure> {
        let Some(link) = upstream.link() else { return Err(Failure::Closed) };
        let mut parts = Parts::new([self.request]);
        let timer = self.timer;
        let write = self.inbound.during(None, |cx| parts.poll_write(link, cx, |_| timer.moved()));
        // A backend may refuse a request and close before it has read it all: its answer counts, not our failure.
        let _ = write.await?;
        let mut buffer = None;
        for _ in 0..MAX_INTERIM_RESPONSES {
            let head = self.read_head(&upstream, &mut buffer).await?;
            let Some(mut whole) = buffer.take() else { return Err(Failure::Closed) };
            let view = self.response.view(whole.filled());
            if !view.is_interim() {
                return Ok(Started { upstream, buffer: whole, head });
            }
            self.relay_interim(&upstream, &whole).await?;
            whole.consume(head);
            buffer = Some(whole).filter(|rest| !rest.is_empty());
        }
        tracing::debug!("a backend sent too many interim responses");
        Err(Failure::Closed)
    }

    /// Reads one head into `buffer`; answers its length.
    async fn read_head(
        &mut self,
        upstream: &Upstream,
        buffer: &mut Option<Buffer>,
    ) -> Result<usize, Failure> {
        self.response.clear();
        let (response, timer) = (&mut *self.response, self.timer);
        let Some(link) = upstream.link() else { return Err(Failure::Closed) };
        let read = |cx: &mut std::task::Context<'_>| {
            loop {
                if let Some(held) = buffer.as_mut()
                    && let Some(head) = response.parse(held.filled_mut()).map_err(Failure::Malformed)?
                {
                    return Poll::Ready(Ok(head));
                }
                // Without a byte to keep, a buffer is held only while it is read into.
                let mut held = buffer.take().unwrap_or_else(Buffer::large);
                if !held.make_room() {
                    return Poll::Ready(Err(Failure::Closed));
                }
                let count = link.poll_read(cx, &mut held);
                *buffer = Some(held).filter(|held| !held.is_empty());
                match count {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Failure::Closed)),
                    Poll::Ready(Ok(_)) => timer.moved(),
                }
            }
        };
        self.inbound.during(Some(upstream), read).await?
    }

    /// Passes a 1xx on: `100 Continue` is what a client may wait for before it sends its body.
    async fn relay_interim(&mut self, upstream: &Upstream, buffer: &Buffer) -> Result<(), Failure> {
        let view = self.response.view(buffer.filled());
        let mut out = Vec::with_capacity(256);
        encode::status_line(&mut out, view.status(), view.reason());
        headers::copy(&mut out, buffer.filled(), view.fields(), |field| !field.is_hop_by_hop());
        encode::end_of_head(&mut out);
        self.interim_size += out.len() as u64;
        let mut parts = Parts::new([&out]);
        let (client, timer) = (self.client, self.timer);
        let write =
            self.inbound.during(Some(upstream), |cx| client.poll_interim(cx, &mut parts, |_| timer.moved()));
        write.await?.map_err(|_| Failure::Interrupted(Interrupt::ClientGone))
    }
}

/// Gives a connection back for another request if its response left it in a state to carry one.
pub(crate) fn give_back(pool: &Pool, upstream: Upstream, rest: &Buffer, reusable: bool) {
    if let Upstream::Http1(connection) = upstream
        && reusable
        && rest.is_empty()
    {
        pool.put(connection, Instant::now());
    }
}

/// What the end of a stream means that had no response.
fn failed(error: h2::Error) -> Failure {
    tracing::debug!(%error, "a backend's stream ended without a response");
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_remote() => Failure::Unprocessed,
        // Of all streams it was told to, only those that were not begun with end by it.
        _ if error.is_go_away() && error.is_remote() => Failure::Unprocessed,
        _ if error.is_remote() && error.is_reset() => Failure::Reset,
        // What it sent cannot be read.
        Some(_) => Failure::Malformed(Error { side: Side::Upstream, kind: Kind::BadStatusLine }),
        None => Failure::Closed,
    }
}
