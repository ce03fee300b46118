//! A stream that can be read and written from two places of one task.
//!
//! A proxy reads from a client while it writes to it. Splitting a stream into halves costs a lock or depends on the
//! kind of stream; inside one task a `RefCell` that is borrowed only while a poll runs does the same for nothing.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::buffers::Buffer;

/// A connection, encrypted or not.
pub(crate) enum MaybeTls<T> {
    Plain(TcpStream),
    Tls(Box<T>),
}

/// A client's connection.
pub(crate) type ClientStream = MaybeTls<TlsStream<TcpStream>>;

/// A stream behind a shared reference.
pub(crate) struct Link<S>(RefCell<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(crate) fn new(stream: S) -> Link<S> {
        Link(RefCell::new(stream))
    }

    /// Reads once into the free part of `buffer`; 0 at the end of the stream. There must be a free part.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        let mut target = ReadBuf::new(buffer.free());
        ready!(Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, &mut target))?;
        let count = target.filled().len();
        buffer.fill(count);
        Poll::Ready(Ok(count))
    }

    /// Reads once into what is free of `target`.
    pub(crate) fn poll_read_buf(
        &self,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, target)
    }

    /// Writes once.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut stream = self.0.borrow_mut();
        match parts {
            [one] => Pin::new(&mut *stream).poll_write(cx, one),
            _ => Pin::new(&mut *stream).poll_write_vectored(cx, parts),
        }
    }

    /// Sends what an encrypted stream still holds back.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    /// Does something else with the stream.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut S) -> T) -> T {
        act(&mut self.0.borrow_mut())
    }

    /// Ends the writing direction.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for MaybeTls<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_read(cx, target),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_read(cx, target),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for MaybeTls<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    /// Both kinds take several parts at once.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // Nothing is held back, and nothing to ask the kernel for.
            MaybeTls::Plain(_) => Poll::Ready(Ok(())),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// What remains to be written of some parts.
pub(crate) struct Parts<'a, const N: usize> {
    parts: [&'a [u8]; N],
    first: usize,
}

impl<'a, const N: usize> Parts<'a, N> {
    pub(crate) fn new(parts: [&'a [u8]; N]) -> Parts<'a, N> {
        let mut rest = Parts { parts, first: 0 };
        rest.skip(0);
        rest
    }

    pub(crate) fn is_done(&self) -> bool {
        self.first == N
    }

    /// What is not written yet.
    pub(crate) fn rest(&self) -> &[&'a [u8]; N] {
        &self.parts
    }

    /// Writes until all is written. `moved` is called whenever something was.
    pub(crate) fn poll_write<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        link: &Link<S>,
        cx: &mut Context<'_>,
        mut moved: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        while !self.is_done() {
            let slices = self.parts.map(IoSlice::new);
            let count = ready!(link.poll_write(cx, &slices[self.first..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            moved(count);
            self.skip(count);
        }
        link.poll_flush(cx)
    }

    /// These many bytes were written.
    pub(crate) fn skip(&mut self, mut count: usize) {
        while self.first < N && count >= self.parts[self.first].len() {
            count -= self.parts[self.first].len();
            self.parts[self.first] = &[];
            self.first += 1;
        }
        if count > 0 {
            self.parts[self.first] = &self.parts[self.first][count..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_skip_across_their_borders() {
        let mut parts = Parts::new([&b""[..], b"ab", b"", b"cde"]);
        assert_eq!(parts.first, 1);
        parts.skip(3);
        assert_eq!((parts.first, parts.parts[3]), (3, &b"de"[..]));
        parts.skip(2);
        assert!(parts.is_done());
        assert!(Parts::new([&b""[..], b""]).is_done());
    }
}
