//! A body that comes in frames.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

/// A body in frames, the data that was read of it and not passed on, and what stands behind it.
///
/// The sender may have a window of bytes under way and no more; it gets room again when what it sent was passed on.
pub(crate) struct Frames {
    receive: RecvStream,
    held: Bytes,
    /// What of the window is to be given back when `held` was passed on.
    owed: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl Frames {
    pub(crate) fn new(receive: RecvStream) -> Frames {
        let ended = receive.is_end_stream();
        Frames { receive, held: Bytes::new(), owed: 0, trailers: None, ended }
    }

    /// Data that was read.
    pub(crate) fn held(&self) -> &Bytes {
        &self.held
    }

    /// All data was read, and the trailers.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// What was read was passed on.
    pub(crate) fn release(&mut self) {
        self.held = Bytes::new();
        if self.owed > 0 {
            // Fails only when the stream is over, and then nobody needs it.
            let _ = self.receive.flow_control().release_capacity(std::mem::take(&mut self.owed));
        }
    }

    /// Reads the next data, or the end. What was held must have been released.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        debug_assert_eq!(self.owed, 0);
        while !self.ended {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => self.ended = self.receive.is_end_stream(),
                Some(Ok(data)) => {
                    self.owed = data.len();
                    self.held = data;
                    self.ended = self.receive.is_end_stream();
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => {
                    self.trailers = ready!(self.receive.poll_trailers(cx))?;
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
