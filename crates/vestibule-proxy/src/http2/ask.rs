//! One request on a shared connection to a backend.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Response};

use super::body::Frames;
use super::pool::Place;
use super::stream::{finish, poll_room};
use super::{io_error, pivot};

/// A request that was sent, until its response was read.
pub(crate) struct Asked {
    send: RefCell<SendStream<Bytes>>,
    response: RefCell<ResponseFuture>,
    /// The response's body, once its head is there.
    body: RefCell<Option<Frames>>,
    /// What was held of the request's body and is not sent yet.
    held: RefCell<Bytes>,
    /// The body ends with what was held.
    ends_with_held: bool,
    /// The whole request was sent.
    ended: Cell<bool>,
    /// For as long as the request lasts.
    _place: Place,
}

/// What a backend answered.
pub(crate) enum Answered {
    /// A 1xx: the final response is still to come.
    Interim(Response<()>),
    Final(Response<()>),
}

impl Asked {
    /// Sends a head that this crate wrote, with what of the body stands behind it. `complete`: that is all of it.
    pub(crate) fn send(
        text: &[u8],
        complete: bool,
        https: bool,
        send: &mut SendRequest<Bytes>,
        place: Place,
    ) -> Result<Asked, (h2::Error, Place)> {
        let (request, body) = match pivot::read_request(text, https) {
            Ok(read) => read,
            Err(_) => return Err((Reason::INTERNAL_ERROR.into(), place)),
        };
        let held = Bytes::copy_from_slice(&text[body..]);
        let ended = complete && held.is_empty();
        let (response, stream) = match send.send_request(request, ended) {
            Ok(sent) => sent,
            Err(error) => return Err((error, place)),
        };
        Ok(Asked {
            send: RefCell::new(stream),
            response: RefCell::new(response),
            body: RefCell::default(),
            held: RefCell::new(held),
            ends_with_held: complete,
            ended: Cell::new(ended),
            _place: place,
        })
    }

    /// Waits for the next head. Meanwhile what was held of the request's body goes on being sent.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Answered, h2::Error>> {
        // If it cannot be sent, the response tells why.
        let _ = self.poll_held(cx);
        let mut response = self.response.borrow_mut();
        if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            return Poll::Ready(Ok(Answered::Interim(interim)));
        }
        let (parts, body) = ready!(Pin::new(&mut *response).poll(cx))?.into_parts();
        *self.body.borrow_mut() = Some(Frames::new(body));
        Poll::Ready(Ok(Answered::Final(Response::from_parts(parts, ()))))
    }

    /// Sends what of the held body the backend has room for.
    fn poll_held(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.held.borrow_mut();
        while !held.is_empty() {
            ready!(self.poll_data(cx, &mut held, self.ends_with_held))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what the backend has room for of `data`, and takes that off it. `last`: the body ends with it.
    pub(crate) fn poll_data(
        &self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        last: bool,
    ) -> Poll<io::Result<usize>> {
        let mut send = self.send.borrow_mut();
        let count = ready!(poll_room(&mut send, cx, data.len()))?;
        let ended = last && count == data.len();
        send.send_data(data.split_to(count), ended).map_err(io_error)?;
        self.ended.set(ended);
        Poll::Ready(Ok(count))
    }

    /// Ends the request's body, unless it has ended.
    pub(crate) fn end(&self, trailers: Option<HeaderMap>) -> io::Result<()> {
        if self.ended.replace(true) {
            return Ok(());
        }
        finish(&mut self.send.borrow_mut(), trailers)
    }

    /// The response's body, once.
    pub(crate) fn take_body(&self) -> Option<Frames> {
        self.body.borrow_mut().take()
    }
}
