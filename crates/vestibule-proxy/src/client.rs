//! Where a request came from and its answer goes: a connection of HTTP/1.1, or a stream of HTTP/2.

use std::io;
use std::task::{Context, Poll};

use crate::http2::stream::Stream;
use crate::link::{ClientStream, Link, Parts};

/// The client's end of one request.
#[derive(Clone, Copy)]
pub(crate) enum Client<'a> {
    Http1(&'a Link<ClientStream>),
    Http2(&'a Stream),
}

impl Client<'_> {
    /// Writes a head that has no body behind it but does not end the request (1xx).
    pub(crate) fn poll_interim(
        self,
        cx: &mut Context<'_>,
        parts: &mut Parts<'_, 1>,
        moved: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        match self {
            Client::Http1(link) => parts.poll_write(link, cx, moved),
            Client::Http2(stream) => Poll::Ready(stream.send_interim(parts.rest()[0])),
        }
    }

    /// Writes a whole answer, head and body. `moved` is called whenever something of it was written.
    pub(crate) fn poll_answer(
        self,
        cx: &mut Context<'_>,
        parts: &mut Parts<'_, 1>,
        moved: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        match self {
            Client::Http1(link) => parts.poll_write(link, cx, moved),
            Client::Http2(stream) => stream.poll_answer(cx, parts, moved),
        }
    }
}
