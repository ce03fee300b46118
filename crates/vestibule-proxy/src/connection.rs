//! One client connection: TLS, then request after request, then its end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use vestibule_http1::{BodyDecoder, Error, Expect, Framing, RequestHead, Side};

use crate::accesslog;
use crate::answer::{Answer, Shape};
use crate::buffers::Buffer;
use crate::client::Client;
use crate::client_certificate::{ClientValidationMode, Distrust};
use crate::http2;
use crate::inbound::Inbound;
use crate::limits::{DRAIN_QUIET, LEAVE_TIMEOUT, LINGER_BYTES, LINGER_TIMEOUT, MAX_HELD_BODY};
use crate::link::{ClientStream, Link, Parts};
use crate::metrics::Count;
use crate::peer::{Handshake, Peer, Version};
use crate::pipeline;
use crate::record::Record;
use crate::scratch::{Scratch, Space};
use crate::site::Slot;
use crate::timers::Timer;
use crate::tls::Tls;
use crate::turn::{Next, Turn};
use crate::worker::Worker;

/// Serves a connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, slot: Rc<Slot>, stream: TcpStream, remote: SocketAddr) {
    let timer = poll_fn(|cx| Poll::Ready(Timer::new(&worker.timers, cx.waker().clone()))).await;
    // Answers are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let site = slot.site();
    let address = worker.private_peer(&site, remote);
    let (stream, handshake) = match site.tls() {
        None => (ClientStream::Plain(stream), None),
        Some(tls) => match shake_hands(stream, tls, &timer, &worker, &slot, address).await {
            Ok((stream, handshake)) => (stream, Some(handshake)),
            Err(Some(refused)) => return linger(&Link::new(refused), &timer, LEAVE_TIMEOUT).await,
            Err(None) => return,
        },
    };
    drop(site);
    let client = Link::new(stream);
    let version = if handshake.as_ref().is_some_and(|handshake| handshake.http2) {
        Version::Http2
    } else {
        Version::Http1
    };
    let peer = Peer::new(address, version, handshake);
    let mut early = None;
    let peer = match version {
        Version::Http2 => peer,
        Version::Http1 => {
            let mut connection = Connection {
                client: &client,
                peer,
                timer: &timer,
                buffer: None,
                is_first: true,
                worker: &worker,
                slot: &slot,
            };
            match connection.run().await {
                Next::Close => return linger(&client, &timer, LINGER_TIMEOUT).await,
                Next::Leave => return linger(&client, &timer, LEAVE_TIMEOUT).await,
                Next::Again | Next::Abort => return,
                Next::Http2 => {}
            }
            early = connection.buffer.take();
            Peer { version: Version::Http2, ..connection.peer }
        }
    };
    Box::pin(http2::serve::serve(&worker, &slot, &client, early, peer, &timer)).await;
    linger(&client, &timer, LEAVE_TIMEOUT).await;
}

/// Ends our direction and reads on for at most `limit`. A connection that is closed with bytes unread is reset, and a
/// reset takes back what the client has not read yet: our answer.
async fn linger(client: &Link<ClientStream>, timer: &Timer, limit: Duration) {
    timer.at(Instant::now() + limit);
    let mut ended = false;
    let mut left = LINGER_BYTES;
    poll_fn(|cx| {
        if !ended {
            match client.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => ended = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        loop {
            let mut buffer = Buffer::small();
            match client.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(count)) if count > 0 && count < left => left -= count,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if timer.passed().is_some() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// The TLS handshake. If it failed, the client was sent an alert, if it speaks TLS, and has yet to read it: what it was
/// sent over comes back, for [`linger`]. One that took too long is cut off.
async fn shake_hands(
    stream: TcpStream,
    tls: &Arc<Tls>,
    timer: &Timer,
    worker: &Worker,
    slot: &Slot,
    address: SocketAddr,
) -> Result<(ClientStream, Box<Handshake>), Option<ClientStream>> {
    timer.at(Instant::now() + worker.timeouts.tls_handshake);
    let mut accepting = Box::pin(TlsAcceptor::from(tls.config()).accept(stream).into_fallible());
    let accepted = poll_fn(|cx| match accepting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(Some)),
        Poll::Pending if timer.passed().is_some() => Poll::Ready(Err(None)),
        Poll::Pending => Poll::Pending,
    });
    let refuse = |count, distrust: Option<Distrust>| {
        worker.cells.count(count);
        if let Some(distrust) = distrust {
            accesslog::log_distrusted(worker, slot, address, distrust);
        }
    };
    let stream = match accepted.await {
        Ok(stream) => stream,
        Err(Some((error, stream))) => {
            refuse(Count::FailedHandshakes, Distrust::behind(&error));
            return Err(Some(ClientStream::Plain(stream)));
        }
        Err(None) => {
            refuse(Count::LateHandshakes, None);
            return Err(None);
        }
    };
    let handshake = Handshake::of(stream.get_ref().1, tls);
    if let Some(distrust) = late_distrust(tls, &handshake) {
        refuse(Count::FailedHandshakes, Some(distrust));
        return Err(Some(ClientStream::Tls(Box::new(stream))));
    }
    worker.cells.count(if handshake.resumed { Count::ResumedHandshakes } else { Count::FullHandshakes });
    Ok((ClientStream::Tls(Box::new(stream)), Box::new(handshake)))
}

/// Why a client whose handshake is complete may not stay: a resumed session can outlive the validity of its
/// certificate, and a handshake that resumes asks nobody.
fn late_distrust(tls: &Tls, handshake: &Handshake) -> Option<Distrust> {
    let rejects =
        tls.validation().is_some_and(|validation| validation.mode == ClientValidationMode::RejectInvalid);
    handshake.client.as_ref().filter(|_| rejects).and_then(|client| client.verdict().err())
}

struct Connection<'c> {
    client: &'c Link<ClientStream>,
    peer: Peer,
    timer: &'c Timer,
    /// Bytes of the next request. `None` while nothing has come: an idle connection holds no buffer.
    buffer: Option<Buffer>,
    /// No request was served yet.
    is_first: bool,
    worker: &'c Rc<Worker>,
    slot: &'c Rc<Slot>,
}

/// What waiting for a request brought.
enum Arrival {
    /// A whole head, of this many bytes.
    Head(usize),
    /// The client left, or did not come back in time.
    Gone,
    /// A head that was begun and not finished in time.
    Late,
    Bad(Error),
}

impl Connection<'_> {
    /// Serves requests until the connection is to be closed, and tells how.
    async fn run(&mut self) -> Next {
        loop {
            let next = self.serve_one().await;
            if next != Next::Again {
                return next;
            }
            self.is_first = false;
        }
    }

    async fn serve_one(&mut self) -> Next {
        if self.buffer.is_none()
            && let Err(next) = self.await_request().await
        {
            return next;
        }
        if self.is_first && self.worker.clear_http2 && self.is_http2().await {
            return Next::Http2;
        }
        let mut scratch = Scratch::take();
        let Space { request, response, out, .. } = scratch.space();
        let arrival = self.read_head(request).await;
        let (head, mut buffer) = match (arrival, self.buffer.take()) {
            (Arrival::Head(head), Some(buffer)) => (head, buffer),
            (Arrival::Late, _) => return self.refuse(out, Answer::late()).await,
            (Arrival::Bad(error), _) => return self.refuse(out, Answer::malformed(error)).await,
            _ => return Next::Abort,
        };
        let body = match self.read_body(&mut buffer, request, head).await {
            Ok(body) => body,
            Err(BodyFailure::Gone) => return Next::Abort,
            Err(BodyFailure::Late) => return self.refuse(out, Answer::late()).await,
            Err(BodyFailure::Bad(error)) => return self.refuse(out, Answer::malformed(error)).await,
        };
        let Body { data, end, decoder } = body;
        let request = request.view(buffer.filled());
        let read = buffer.filled();
        let (leftover, received) = (&read[end..], end as u64);
        let client = Client::Http1(self.client);
        let (held, inbound) = match decoder {
            None => (&read[data], Inbound::complete(client, self.timer, !leftover.is_empty())),
            Some(decoder) => {
                let chunked = request.framing() == Framing::Chunked;
                (&read[..0], Inbound::streaming(client, self.timer, decoder, chunked, &read[data]))
            }
        };
        let mut turn = Turn {
            worker: self.worker,
            client,
            peer: &self.peer,
            timer: self.timer,
            request,
            held,
            leftover,
            inbound,
            record: Record::new(received),
            slot: self.slot,
            out,
            response,
        };
        let next = pipeline::serve(&mut turn, &self.slot.site()).await;
        let behind = turn.inbound.take_behind();
        buffer.consume(end);
        self.buffer = if buffer.is_empty() { behind } else { Some(buffer) };
        next
    }

    /// Waits for the first bytes of a request. `Err`: none will come.
    async fn await_request(&mut self) -> Result<(), Next> {
        // A connection that says nothing at all is worth no more patience than a slow head.
        if self.is_first {
            self.timer.at(Instant::now() + self.worker.timeouts.head);
        } else {
            self.timer.idle(self.slot.site().keep_alive());
        }
        let mut hurried = false;
        poll_fn(|cx| {
            if let Poll::Ready(came) = self.poll_read(cx) {
                return Poll::Ready(if came { Ok(()) } else { Err(Next::Abort) });
            }
            if self.worker.is_draining() && !hurried {
                // A request may be on its way right now.
                self.timer.at(Instant::now() + DRAIN_QUIET);
                hurried = true;
            }
            let over = self.slot.is_removed() || self.timer.passed().is_some();
            if over { Poll::Ready(Err(Next::Leave)) } else { Poll::Pending }
        })
        .await
    }

    /// Whether the client begins to speak HTTP/2. Nothing else begins like it, so a few bytes decide most of the time.
    async fn is_http2(&mut self) -> bool {
        self.timer.at(Instant::now() + self.worker.timeouts.head);
        poll_fn(|cx| {
            loop {
                let read = self.buffer.as_ref().map_or(&[][..], Buffer::filled);
                let length = read.len().min(http2::PREFACE.len());
                if read[..length] != http2::PREFACE[..length] {
                    return Poll::Ready(false);
                }
                if length == http2::PREFACE.len() {
                    return Poll::Ready(true);
                }
                match self.poll_read(cx) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(false),
                    Poll::Pending if self.timer.passed().is_some() => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Reads a head into the buffer, of which some is there.
    async fn read_head(&mut self, head: &mut RequestHead) -> Arrival {
        let mut is_timed = false;
        poll_fn(|cx| {
            loop {
                let parsed = match &mut self.buffer {
                    Some(buffer) => head.parse(buffer.filled_mut()),
                    None => Ok(None),
                };
                match parsed {
                    Ok(Some(length)) => return Poll::Ready(Arrival::Head(length)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Arrival::Bad(error)),
                }
                if !is_timed {
                    self.timer.at(Instant::now() + self.worker.timeouts.head);
                    is_timed = true;
                }
                match self.poll_read(cx) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(Arrival::Gone),
                    Poll::Pending if self.timer.passed().is_some() => return Poll::Ready(Arrival::Late),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Reads once; `false` at the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut buffer = self.buffer.take().unwrap_or_else(Buffer::small);
        if !buffer.make_room() {
            return Poll::Ready(false);
        }
        let read = self.client.poll_read(cx, &mut buffer);
        self.buffer = Some(buffer).filter(|buffer| !buffer.is_empty());
        read.map(|read| matches!(read, Ok(count) if count > 0))
    }

    /// Looks at the body behind a head: reads it whole if it is small, else begins to.
    async fn read_body(
        &self,
        buffer: &mut Buffer,
        request: &RequestHead,
        head: usize,
    ) -> Result<Body, BodyFailure> {
        let view = request.view(buffer.filled());
        let (framing, expects) = (view.framing(), view.expect() == Expect::Continue);
        match framing {
            Framing::Length(length) if length <= MAX_HELD_BODY && !expects => {
                let end = head + length as usize;
                self.fill(buffer, end).await?;
                if buffer.len() >= end {
                    return Ok(Body { data: head..end, end, decoder: None });
                }
            }
            Framing::Empty => return Ok(Body { data: head..head, end: head, decoder: None }),
            _ => {}
        }
        let mut decoder = BodyDecoder::new(framing, Side::Client);
        let piece = decoder.decode(&mut buffer.filled_mut()[head..]).map_err(BodyFailure::Bad)?;
        let data = head + piece.data.start..head + piece.data.end;
        let is_done = decoder.is_done();
        Ok(Body { data, end: head + piece.consumed, decoder: Some(decoder).filter(|_| !is_done) })
    }

    /// Reads until the buffer holds `wanted` bytes, or can hold no more.
    async fn fill(&self, buffer: &mut Buffer, wanted: usize) -> Result<(), BodyFailure> {
        if buffer.len() >= wanted {
            return Ok(());
        }
        self.timer.idle(self.worker.timeouts.stream_idle);
        poll_fn(|cx| {
            while buffer.len() < wanted && buffer.make_room() {
                match self.client.poll_read(cx, buffer) {
                    Poll::Ready(Ok(count)) if count > 0 => self.timer.moved(),
                    Poll::Ready(_) => return Poll::Ready(Err(BodyFailure::Gone)),
                    Poll::Pending if self.timer.passed().is_some() => {
                        return Poll::Ready(Err(BodyFailure::Late));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Answers what is no request, and ends the connection.
    async fn refuse(&mut self, out: &mut Vec<u8>, answer: Answer<'_>) -> Next {
        self.worker.cells.count(Count::UnreadableRequests);
        out.clear();
        answer.write(out, &self.worker.dates, None, Shape { bodiless: false, close: true });
        self.timer.at(Instant::now() + self.worker.timeouts.head);
        let mut parts = Parts::new([&out[..]]);
        let written = poll_fn(|cx| match parts.poll_write(self.client, cx, |_| ()) {
            Poll::Pending if self.timer.passed().is_some() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
            Poll::Ready(written) => Poll::Ready(written.is_ok()),
        });
        let next = if written.await { Next::Close } else { Next::Abort };
        accesslog::log_refused(self.worker, self.slot, &self.peer, &answer, out.len() as u64);
        next
    }
}

/// A body as far as it came with the head.
struct Body {
    /// Its data in the buffer.
    data: std::ops::Range<usize>,
    /// Where in the buffer what was read of the request ends.
    end: usize,
    /// Present if more is to come.
    decoder: Option<BodyDecoder>,
}

enum BodyFailure {
    Gone,
    Late,
    Bad(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// An idle connection costs its task, and little else. What waits for more than bytes is boxed.
    #[test]
    fn a_connection_is_small() {
        let size = size(serve);
        assert!(size <= 4 * 1024, "{size} bytes");
    }
}
