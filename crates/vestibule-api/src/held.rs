//! Responses that stay open: a lease lasts as long as its client reads.
//!
//! The body is one chunk and then nothing, for ever. When the client's connection ends, however it ends, the body is
//! dropped, and with it what it holds.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};

use crate::host::Held;

/// Put into a response's extensions, keeps it open.
#[derive(Clone)]
pub(crate) struct KeepOpen(pub(crate) Held);

/// A response body: whole, or one chunk that stays open.
pub(crate) struct Content {
    chunk: Option<Bytes>,
    held: Option<Held>,
}

/// Turns what a handler answered into what the server sends.
pub(crate) fn into_content(response: Response<Bytes>) -> Response<Content> {
    let (mut head, bytes) = response.into_parts();
    let held = head.extensions.remove::<KeepOpen>().map(|keep| keep.0);
    let chunk = (!bytes.is_empty()).then_some(bytes);
    Response::from_parts(head, Content { chunk, held })
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.chunk.take() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            // Nobody is woken: only the end of the connection ends this.
            None if self.held.is_some() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunk.is_none() && self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.held {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.chunk.as_ref().map_or(0, |c| c.len() as u64)),
        }
    }
}
