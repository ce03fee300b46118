//! One attempt to get a response from a backend: a connection, the request on it, the response's head.

use std::task::Poll;
use std::time::Instant;

use vestibule_http1::{Error, Method, ResponseHead, encode};

use crate::buffers::Buffer;
use crate::client::Client;
use crate::headers;
use crate::inbound::{Inbound, Interrupt};
use crate::limits::{CONNECT_TIMEOUT, MAX_INTERIM_RESPONSES};
use crate::link::Parts;
use crate::timers::Timer;
use crate::upstream::{Pool, Upstream};

/// Why an attempt brought no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection could be made.
    Refused,
    /// No connection was made in time.
    ConnectTimeout,
    /// The connection ended before the response's head was complete.
    Closed,
    /// The response cannot be read.
    Malformed(Error),
    /// Something else ended the attempt.
    Interrupted(Interrupt),
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
    pub(crate) async fn attempt(&mut self, address: std::net::SocketAddr) -> Result<Started, Failure> {
        if let Some(upstream) = self.pool.take(address) {
            match self.send(upstream).await {
                Err(Failure::Closed) if self.method.is_idempotent() && self.inbound.is_untouched() => {}
                result => return result,
            }
        }
        let upstream = self.connect(address).await?;
        self.send(upstream).await
    }

    async fn connect(&mut self, address: std::net::SocketAddr) -> Result<Upstream, Failure> {
        // Rare beside requests, so it may cost an allocation and a timer of the runtime.
        let limit = tokio::time::timeout(CONNECT_TIMEOUT, Upstream::connect(address));
        let mut connecting = Box::pin(limit);
        match self.inbound.during(None, |cx| connecting.as_mut().poll(cx)).await? {
            Ok(Ok(upstream)) => Ok(upstream),
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "cannot connect to a backend");
                Err(Failure::Refused)
            }
            Err(_) => Err(Failure::ConnectTimeout),
        }
    }

    async fn send(&mut self, upstream: Upstream) -> Result<Started, Failure> {
        let mut parts = Parts::new([self.request]);
        let timer = self.timer;
        let write = self.inbound.during(None, |cx| parts.poll_write(&upstream.link, cx, |_| timer.moved()));
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
                let count = upstream.link.poll_read(cx, &mut held);
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
    if reusable && rest.is_empty() {
        pool.put(upstream, Instant::now());
    }
}
