//! A request of an HTTP/2 client: the client's end of it, and its way through the pipeline.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use vestibule_http1::{Error, Expect, Framing};

use super::body::Frames;
use super::io_error;
use super::pivot;
use super::serve::Shared;
use crate::accesslog;
use crate::answer::{Answer, Shape};
use crate::client::Client;
use crate::inbound::Inbound;
use crate::limits::MAX_HELD_BODY;
use crate::link::Parts;
use crate::pipeline;
use crate::record::Record;
use crate::scratch::{Scratch, Space};
use crate::timers::Timer;
use crate::turn::{Next, Turn};

/// The client's end of a request: what is sent on its stream.
pub(crate) struct Stream {
    respond: RefCell<SendResponse<Bytes>>,
    /// Present once the head was sent.
    body: RefCell<Option<SendStream<Bytes>>>,
    /// The whole answer was given to the codec.
    finished: Cell<bool>,
    /// The client, or its connection, ended the stream.
    gone: Cell<bool>,
    shared: Rc<Shared>,
}

impl Stream {
    pub(crate) fn new(respond: SendResponse<Bytes>, shared: Rc<Shared>) -> Stream {
        Stream {
            respond: RefCell::new(respond),
            body: RefCell::default(),
            finished: Cell::new(false),
            gone: Cell::new(false),
            shared,
        }
    }

    /// Sends an interim response.
    pub(crate) fn send_interim(&self, text: &[u8]) -> io::Result<()> {
        let (response, _) = pivot::read_response(text);
        self.respond.borrow_mut().send_informational(response).map_err(io_error)
    }

    /// Sends the head. `ended`: no body follows.
    pub(crate) fn send_head(&self, text: &[u8], ended: bool) -> io::Result<()> {
        let (response, _) = pivot::read_response(text);
        let body = self.respond.borrow_mut().send_response(response, ended).map_err(io_error)?;
        *self.body.borrow_mut() = Some(body);
        self.finished.set(ended);
        Ok(())
    }

    /// Sends what the client has room for of `data`, and takes that off it. `last`: the body ends with it.
    pub(crate) fn poll_data(
        &self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        last: bool,
    ) -> Poll<io::Result<usize>> {
        let mut body = self.body.borrow_mut();
        let Some(body) = body.as_mut() else { return Poll::Ready(Err(gone())) };
        let count = ready!(poll_room(body, cx, data.len()))?;
        let ended = last && count == data.len();
        body.send_data(data.split_to(count), ended).map_err(io_error)?;
        self.shared.counts.sent();
        self.finished.set(ended);
        Poll::Ready(Ok(count))
    }

    /// Ends the body.
    pub(crate) fn end(&self, trailers: Option<HeaderMap>) -> io::Result<()> {
        let mut body = self.body.borrow_mut();
        let body = body.as_mut().ok_or_else(gone)?;
        self.finished.set(true);
        finish(body, trailers)
    }

    /// Sends a whole answer.
    pub(crate) fn poll_answer(
        &self,
        cx: &mut Context<'_>,
        parts: &mut Parts<'_, 1>,
        mut moved: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        if self.body.borrow().is_none() {
            let text = parts.rest()[0];
            let (response, body) = pivot::read_response(text);
            let ended = body == text.len();
            let stream = self.respond.borrow_mut().send_response(response, ended).map_err(io_error)?;
            *self.body.borrow_mut() = Some(stream);
            self.finished.set(ended);
            parts.skip(body);
            moved(body);
        }
        while !parts.is_done() {
            // Answers of our own are short.
            let mut rest = Bytes::copy_from_slice(parts.rest()[0]);
            let count = ready!(self.poll_data(cx, &mut rest, true))?;
            parts.skip(count);
            moved(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has ended the stream or its connection.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.finished.get() {
            return Poll::Pending;
        }
        match self.body.borrow_mut().as_mut() {
            Some(body) => drop(ready!(body.poll_reset(cx))),
            None => drop(ready!(self.respond.borrow_mut().poll_reset(cx))),
        }
        self.gone.set(true);
        Poll::Ready(())
    }

    /// Breaks off: the client must not take what it got for the whole.
    fn reset(&self, reason: Reason) {
        match self.body.borrow_mut().as_mut() {
            Some(body) => body.send_reset(reason),
            None => self.respond.borrow_mut().send_reset(reason),
        }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// How much of `wanted` bytes may be sent now; waits until it is something. Nothing more is held for a slow receiver.
pub(crate) fn poll_room(
    body: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
) -> Poll<io::Result<usize>> {
    if wanted == 0 {
        return Poll::Ready(Ok(0));
    }
    body.reserve_capacity(wanted);
    if body.capacity() > 0 {
        return Poll::Ready(Ok(body.capacity().min(wanted)));
    }
    loop {
        match ready!(body.poll_capacity(cx)) {
            Some(Ok(0)) => {}
            Some(Ok(count)) => return Poll::Ready(Ok(count.min(wanted))),
            Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            None => return Poll::Ready(Err(gone())),
        }
    }
}

/// Ends a body, with trailers if there are some.
pub(crate) fn finish(body: &mut SendStream<Bytes>, trailers: Option<HeaderMap>) -> io::Result<()> {
    match trailers {
        Some(trailers) => body.send_trailers(trailers),
        None => body.send_data(Bytes::new(), true),
    }
    .map_err(io_error)
}

/// Serves one request to its end.
pub(crate) async fn serve(shared: Rc<Shared>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let timer = poll_fn(|cx| Poll::Ready(Timer::new(&shared.worker.timers, cx.waker().clone()))).await;
    let stream = Stream::new(respond, shared.clone());
    let next = exchange(&shared, &stream, &timer, request).await;
    match next {
        Outcome::Malformed => stream.reset(Reason::PROTOCOL_ERROR),
        Outcome::Served(Next::Abort) => stream.reset(Reason::INTERNAL_ERROR),
        Outcome::Served(_) => {}
    }
    if stream.finished.get() && !stream.gone.get() {
        shared.counts.served();
    }
}

enum Outcome {
    Malformed,
    Served(Next),
}

async fn exchange(
    shared: &Rc<Shared>,
    stream: &Stream,
    timer: &Timer,
    request: Request<RecvStream>,
) -> Outcome {
    let mut scratch = Scratch::take();
    let Space { request: head, response, out, text } = scratch.space();
    let (parts, body) = request.into_parts();
    let mut body = Frames::new(body);
    text.clear();
    let parsed = pivot::write_request(text, &parts, body.is_ended()).map(|()| head.parse(text));
    drop(parts);
    let received = match parsed {
        Ok(Ok(Some(received))) => received,
        Ok(Err(error)) if error.status() != 400 => return refuse(shared, stream, timer, out, error).await,
        _ => {
            log_malformed(shared);
            return Outcome::Malformed;
        }
    };
    let client = Client::Http2(stream);
    let request = head.view(text);
    let mut held = Vec::new();
    if let Framing::Length(length) = request.framing()
        && length <= MAX_HELD_BODY
        && request.expect() != Expect::Continue
    {
        timer.idle(shared.worker.timeouts.stream_idle);
        if let Err(end) = hold(stream, timer, &mut body, &mut held).await {
            return match end {
                Ended::Gone => Outcome::Served(Next::Abort),
                Ended::Late => {
                    let answer = Answer::late();
                    answer_alone(shared, stream, timer, out, &answer).await
                }
            };
        }
    }
    let inbound = if body.is_ended() && body.held().is_empty() {
        Inbound::complete(client, timer, false)
    } else {
        Inbound::framed(client, timer, body, request.framing() == Framing::Chunked)
    };
    let mut turn = Turn {
        worker: &shared.worker,
        client,
        peer: &shared.peer,
        timer,
        request,
        held: &held,
        leftover: &[],
        inbound,
        record: Record::new((received + held.len()) as u64),
        slot: &shared.slot,
        out,
        response,
    };
    Outcome::Served(pipeline::serve(&mut turn, &shared.slot.site()).await)
}

/// Why a body that was to be held was not read whole.
enum Ended {
    Gone,
    Late,
}

/// Reads a small body whole. The codec has checked its length when it ends.
async fn hold(stream: &Stream, timer: &Timer, body: &mut Frames, held: &mut Vec<u8>) -> Result<(), Ended> {
    poll_fn(|cx| {
        while !body.is_ended() {
            match body.poll_next(cx) {
                Poll::Ready(Ok(())) => {
                    held.extend_from_slice(body.held());
                    body.release();
                    timer.moved();
                }
                Poll::Ready(Err(_)) => {
                    let _ = stream.poll_gone(cx);
                    return Poll::Ready(Err(Ended::Gone));
                }
                Poll::Pending if timer.passed().is_some() => return Poll::Ready(Err(Ended::Late)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Answers what is more than this server takes (431, 414).
async fn refuse(
    shared: &Rc<Shared>,
    stream: &Stream,
    timer: &Timer,
    out: &mut Vec<u8>,
    error: Error,
) -> Outcome {
    answer_alone(shared, stream, timer, out, &Answer::malformed(error)).await
}

async fn answer_alone(
    shared: &Rc<Shared>,
    stream: &Stream,
    timer: &Timer,
    out: &mut Vec<u8>,
    answer: &Answer<'_>,
) -> Outcome {
    out.clear();
    answer.write(out, &shared.worker.dates, None, Shape { bodiless: false, close: false });
    timer.at(Instant::now() + shared.worker.timeouts.head);
    let mut parts = Parts::new([&out[..]]);
    let written = poll_fn(|cx| match stream.poll_answer(cx, &mut parts, |_| ()) {
        Poll::Pending if timer.passed().is_some() => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
        Poll::Ready(written) => Poll::Ready(written.is_ok()),
    });
    let next = if written.await { Next::Again } else { Next::Abort };
    accesslog::log_refused(&shared.worker, &shared.slot, &shared.peer, answer, out.len() as u64);
    Outcome::Served(next)
}

fn log_malformed(shared: &Rc<Shared>) {
    let answer = Answer::empty(400).because("http_request_error", "");
    accesslog::log_refused(&shared.worker, &shared.slot, &shared.peer, &answer, 0);
}
