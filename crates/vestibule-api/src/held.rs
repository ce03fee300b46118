//! Responses that stay open: a lease lasts as long as its client reads.
//!
//! The body is one chunk and then nothing, until the server ends. When the client's connection ends, however it ends,
//! the body is dropped, and with it what it holds.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::watch;

use crate::host::Held;

/// Put into a response's extensions, keeps it open.
#[derive(Clone)]
pub(crate) struct KeepOpen(pub(crate) Held);

/// A response body: whole, or one chunk that stays open.
pub(crate) struct Content {
    chunk: Option<Bytes>,
    held: Option<Open>,
}

/// What keeps a response open.
struct Open {
    _held: Held,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Turns what a handler answered into what the server sends. Responses that stay open end when `stopped` says so.
pub(crate) fn into_content(
    response: Response<Bytes>,
    mut stopped: watch::Receiver<bool>,
) -> Response<Content> {
    let (mut head, bytes) = response.into_parts();
    let held = head.extensions.remove::<KeepOpen>().map(|keep| Open {
        _held: keep.0,
        ended: Box::pin(async move { drop(stopped.wait_for(|stopped| *stopped).await) }),
    });
    let chunk = (!bytes.is_empty()).then_some(bytes);
    Response::from_parts(head, Content { chunk, held })
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(chunk) = self.chunk.take() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(open) = &mut self.held {
            ready!(open.ended.as_mut().poll(context));
            self.held = None;
        }
        Poll::Ready(None)
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
