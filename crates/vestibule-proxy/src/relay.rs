//! The response's body on its way to the client: at most one buffer of it is ever held, and the backend is read from
//! only when the client has taken what came before.

use std::task::Poll;

use vestibule_http1::{BodyDecoder, Error, Framing, Side, encode};

use crate::buffers::Buffer;
use crate::inbound::{Inbound, Interrupt};
use crate::limits::COPY_BELOW;
use crate::link::{ClientStream, Link, Parts};
use crate::timers::Timer;
use crate::upstream::{BackendStream, Upstream};

/// Why a response did not get to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The backend's connection ended too early, or its body cannot be read.
    Upstream(Option<Error>),
    Interrupted(Interrupt),
}

impl From<Interrupt> for Cut {
    fn from(interrupt: Interrupt) -> Cut {
        Cut::Interrupted(interrupt)
    }
}

/// A response on its way.
pub(crate) struct Relay<'r, 'a> {
    pub(crate) client: &'r Link<ClientStream>,
    pub(crate) timer: &'r Timer,
    pub(crate) inbound: &'r mut Inbound<'a>,
    pub(crate) upstream: &'r Upstream,
    /// The backend's connection.
    pub(crate) link: &'r Link<BackendStream>,
    /// Bytes that the client took.
    pub(crate) sent: u64,
}

impl Relay<'_, '_> {
    /// Sends `head` and the body. `buffer` holds what of the body came with the response's head, and afterwards what
    /// came behind it.
    pub(crate) async fn run(
        &mut self,
        head: &mut Vec<u8>,
        buffer: &mut Buffer,
        framing: Framing,
    ) -> Result<(), Cut> {
        let mut decoder = BodyDecoder::new(framing, Side::Upstream);
        let chunked = matches!(framing, Framing::Chunked | Framing::UntilClose);
        let mut first = Some(head);
        loop {
            let piece = decoder.decode(buffer.filled_mut()).map_err(|error| Cut::Upstream(Some(error)))?;
            let data = &buffer.filled()[piece.data];
            match first.take() {
                Some(head) => self.write_first(head, data, chunked, decoder.is_done()).await?,
                None => self.write_piece(data, chunked, decoder.is_done()).await?,
            }
            buffer.consume(piece.consumed);
            if decoder.is_done() {
                return Ok(());
            }
            if !self.read(buffer).await? {
                decoder.end().map_err(|_| Cut::Upstream(None))?;
                return self.write(&[encode::LAST_CHUNK]).await;
            }
        }
    }

    /// Writes the head together with the first data: for most responses that is all, and one system call.
    async fn write_first(
        &mut self,
        head: &mut Vec<u8>,
        data: &[u8],
        chunked: bool,
        last: bool,
    ) -> Result<(), Cut> {
        if !chunked && data.len() <= COPY_BELOW {
            head.extend_from_slice(data);
            return self.write(&[&head[..]]).await;
        }
        if !chunked {
            return self.write(&[&head[..], data]).await;
        }
        if !data.is_empty() {
            head.extend_from_slice(encode::ChunkSize::new(data.len()).as_bytes());
        }
        self.write(&[&head[..], data, chunk_end(data, last)]).await
    }

    async fn write_piece(&mut self, data: &[u8], chunked: bool, last: bool) -> Result<(), Cut> {
        if !chunked {
            return self.write(&[data]).await;
        }
        let size = (!data.is_empty()).then(|| encode::ChunkSize::new(data.len()));
        let size = size.as_ref().map_or(&b""[..], |size| size.as_bytes());
        self.write(&[size, data, chunk_end(data, last)]).await
    }

    async fn write<const N: usize>(&mut self, parts: &[&[u8]; N]) -> Result<(), Cut> {
        let mut parts = Parts::new(*parts);
        let (client, timer, sent) = (self.client, self.timer, &mut self.sent);
        let moved = |count: usize, sent: &mut u64| {
            *sent += count as u64;
            timer.moved();
        };
        let write =
            |cx: &mut std::task::Context<'_>| parts.poll_write(client, cx, |count| moved(count, sent));
        let written = self.inbound.during(Some(self.upstream), write).await?;
        written.map_err(|_| Cut::Interrupted(Interrupt::ClientGone))
    }

    /// Reads more of the body; `false` at the end of the connection.
    async fn read(&mut self, buffer: &mut Buffer) -> Result<bool, Cut> {
        buffer.make_room();
        let (link, timer) = (self.link, self.timer);
        let read = |cx: &mut std::task::Context<'_>| match link.poll_read(cx, buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(count)) => {
                timer.moved();
                Poll::Ready(Ok(count > 0))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Cut::Upstream(None))),
        };
        self.inbound.during(Some(self.upstream), read).await?
    }
}

/// What stands behind the data of a chunk.
pub(crate) fn chunk_end(data: &[u8], last: bool) -> &'static [u8] {
    match (data.is_empty(), last) {
        (false, false) => encode::CHUNK_END,
        (false, true) => encode::CHUNK_END_AND_LAST,
        (true, true) => encode::LAST_CHUNK,
        (true, false) => b"",
    }
}
