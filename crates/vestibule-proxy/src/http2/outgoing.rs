//! What a connection has to write, gathered until its task has nothing to add.
//!
//! The codec flushes after every frame of data that it does not copy. With a hundred answers ready at the same moment
//! that would be a hundred system calls and, under TLS, as many records. Here its flushes count for nothing: frames
//! gather, and the connection's task writes them when the codec waits, all in one call and in records as large as they
//! get. Frames that are large by themselves are not copied.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffers::Buffer;
use crate::limits::GATHER_BELOW;
use crate::link::Link;

/// A connection and what is to be written to it.
pub(crate) struct Outgoing<'l, S> {
    link: &'l Link<S>,
    /// Present while there is something to write.
    held: RefCell<Option<Buffer>>,
}

impl<'l, S: AsyncRead + AsyncWrite + Unpin> Outgoing<'l, S> {
    pub(crate) fn new(link: &'l Link<S>) -> Outgoing<'l, S> {
        Outgoing { link, held: RefCell::default() }
    }

    pub(crate) fn link(&self) -> &'l Link<S> {
        self.link
    }

    /// Takes as much of the parts as there is room for; waits while there is none.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        if wanted >= GATHER_BELOW {
            ready!(self.poll_write(cx))?;
            return self.link.poll_write(cx, parts);
        }
        let mut taken = self.push(parts);
        if taken == 0 && wanted > 0 {
            ready!(self.poll_write(cx))?;
            taken = self.push(parts);
        }
        Poll::Ready(Ok(taken))
    }

    fn push(&self, parts: &[IoSlice<'_>]) -> usize {
        let mut held = self.held.borrow_mut();
        let buffer = held.get_or_insert_with(Buffer::large);
        let mut taken = 0;
        for part in parts {
            let count = buffer.push(part);
            taken += count;
            if count < part.len() {
                break;
            }
        }
        taken
    }

    /// Writes all that was taken.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        self.link.poll_flush(cx)
    }

    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.held.borrow_mut();
        while let Some(buffer) = held.as_mut().filter(|buffer| !buffer.is_empty()) {
            match ready!(self.link.poll_write(cx, &[IoSlice::new(buffer.filled())]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => buffer.consume(count),
            }
        }
        *held = None;
        Poll::Ready(Ok(()))
    }
}

/// What the codec reads from and writes to on a connection to a backend.
pub(crate) struct Pipe<'o, 'l, S>(pub(crate) &'o Outgoing<'l, S>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Pipe<'_, '_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.link.poll_read_buf(cx, target)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Pipe<'_, '_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_take(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_take(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Left to the connection's task.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_flush(cx))?;
        self.0.link.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LARGE_BUFFER;
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, duplex};

    /// What is written to the other end in one go, by the room that it has.
    fn gather(
        room: usize,
        act: impl AsyncFnOnce(&Outgoing<'_, tokio::io::DuplexStream>, &mut Context<'_>),
    ) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = duplex(room);
            let link = Link::new(ours);
            act(&Outgoing::new(&link), &mut Context::from_waker(Waker::noop())).await;
            drop(link);
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.unwrap();
            read
        })
    }

    fn take(
        outgoing: &Outgoing<'_, tokio::io::DuplexStream>,
        cx: &mut Context<'_>,
        part: &[u8],
    ) -> Poll<usize> {
        outgoing.poll_take(cx, &[IoSlice::new(part)]).map(Result::unwrap)
    }

    #[test]
    fn nothing_is_written_before_it_is_asked_for() {
        let unasked = gather(1 << 20, async |outgoing, cx| {
            assert_eq!(take(outgoing, cx, b"abc"), Poll::Ready(3));
        });
        assert_eq!(unasked, b"");
        let asked = gather(1 << 20, async |outgoing, cx| {
            assert_eq!(take(outgoing, cx, b"abc"), Poll::Ready(3));
            assert_eq!(take(outgoing, cx, b"de"), Poll::Ready(2));
            assert!(outgoing.poll_flush(cx).is_ready());
            assert!(outgoing.held.borrow().is_none(), "an idle connection holds no buffer");
        });
        assert_eq!(asked, b"abcde");
    }

    #[test]
    fn what_is_large_goes_by_itself_and_after_what_was_held() {
        let large = vec![b'x'; GATHER_BELOW];
        let read = gather(1 << 20, async |outgoing, cx| {
            assert_eq!(take(outgoing, cx, b"abc"), Poll::Ready(3));
            assert_eq!(take(outgoing, cx, &large), Poll::Ready(large.len()));
        });
        assert_eq!(read, [&b"abc"[..], &large].concat());
    }

    #[test]
    fn a_slow_receiver_is_waited_for() {
        let part = vec![b'x'; GATHER_BELOW - 1];
        gather(8, async |outgoing, cx| {
            let mut taken = 0;
            while let Poll::Ready(count) = take(outgoing, cx, &part) {
                assert!(count > 0);
                taken += count;
            }
            assert_eq!(taken, LARGE_BUFFER);
            assert!(outgoing.poll_flush(cx).is_pending());
        });
    }
}
