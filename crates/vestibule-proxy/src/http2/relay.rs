//! A response's body on its way to the client where a side of it is HTTP/2.
//!
//! What both sides have in common is a piece of data and whether it is the last, so here is one loop for three of the
//! four pairs. The fourth, HTTP/1.1 on both sides, has a loop of its own (`crate::relay`) that needs no shared bytes.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use vestibule_http1::{BodyDecoder, Framing, Side, encode};

use super::body::Frames;
use crate::buffers::Buffer;
use crate::client::Client;
use crate::inbound::{Inbound, Interrupt};
use crate::link::{ClientStream, Link, Parts};
use crate::relay::Cut;
use crate::timers::Timer;
use crate::upstream::{BackendStream, Upstream};

/// A response on its way.
pub(crate) struct FrameRelay<'r, 'a> {
    pub(crate) client: Client<'r>,
    pub(crate) timer: &'r Timer,
    pub(crate) inbound: &'r mut Inbound<'a>,
    pub(crate) upstream: &'r Upstream,
    /// Bytes that the client took.
    pub(crate) sent: u64,
}

/// Some data of a body, and what comes behind it.
struct Piece {
    data: Bytes,
    last: bool,
    trailers: Option<HeaderMap>,
}

/// Where a response's body comes from.
enum Source<'b> {
    Bytes { decoder: BodyDecoder, buffer: &'b mut Buffer, link: &'b Link<BackendStream> },
    Frames(Frames),
}

impl FrameRelay<'_, '_> {
    /// Sends `head` and the body. `buffer` holds what of a body in HTTP/1.1 came with the response's head, and
    /// afterwards what came behind it.
    pub(crate) async fn run(
        &mut self,
        head: &[u8],
        buffer: &mut Buffer,
        framing: Framing,
    ) -> Result<(), Cut> {
        let chunked = matches!(framing, Framing::Chunked | Framing::UntilClose);
        let mut source = match self.upstream {
            Upstream::Http1(connection) => {
                let decoder = BodyDecoder::new(framing, Side::Upstream);
                Source::Bytes { decoder, buffer, link: &connection.link }
            }
            Upstream::Http2(asked) => Source::Frames(asked.take_body().ok_or(Cut::Upstream(None))?),
        };
        let mut first = Some(head);
        loop {
            // What is there already goes with the head.
            let piece = match (source.ready()?, first) {
                (Some(piece), _) => piece,
                (None, Some(_)) => Piece { data: Bytes::new(), last: false, trailers: None },
                (None, None) => self.next(&mut source).await?,
            };
            if framing == Framing::Empty && !piece.data.is_empty() {
                // A client of HTTP/1.1 would take it for its next response.
                return Err(Cut::Upstream(None));
            }
            let last = piece.last;
            self.write(first.take().unwrap_or_default(), piece, chunked).await?;
            source.release();
            if last {
                return Ok(());
            }
        }
    }

    async fn next(&mut self, source: &mut Source<'_>) -> Result<Piece, Cut> {
        let read = |cx: &mut Context<'_>| source.poll_next(cx);
        let piece = self.inbound.during(Some(self.upstream), read).await??;
        self.timer.moved();
        Ok(piece)
    }

    async fn write(&mut self, head: &[u8], piece: Piece, chunked: bool) -> Result<(), Cut> {
        match self.client {
            Client::Http1(link) => self.write_bytes(link, head, &piece, chunked).await,
            Client::Http2(_) => self.write_frames(head, piece).await,
        }
    }

    /// Trailers end here: clients of HTTP/1.1 get none (Envoy's default).
    async fn write_bytes(
        &mut self,
        link: &Link<ClientStream>,
        head: &[u8],
        piece: &Piece,
        chunked: bool,
    ) -> Result<(), Cut> {
        let size = (chunked && !piece.data.is_empty()).then(|| encode::ChunkSize::new(piece.data.len()));
        let size = size.as_ref().map_or(&b""[..], |size| size.as_bytes());
        let end = if chunked { crate::relay::chunk_end(&piece.data, piece.last) } else { b"" };
        let mut parts = Parts::new([head, size, &piece.data, end]);
        let (timer, sent) = (self.timer, &mut self.sent);
        let moved = |count: usize, sent: &mut u64| {
            *sent += count as u64;
            timer.moved();
        };
        let write = |cx: &mut Context<'_>| parts.poll_write(link, cx, |count| moved(count, sent));
        finished(self.inbound.during(Some(self.upstream), write).await?)
    }

    async fn write_frames(&mut self, head: &[u8], piece: Piece) -> Result<(), Cut> {
        let Client::Http2(stream) = self.client else { return Ok(()) };
        let Piece { mut data, last, trailers } = piece;
        if !head.is_empty() {
            let ended = last && data.is_empty() && trailers.is_none();
            finished(stream.send_head(head, ended))?;
            self.sent += head.len() as u64;
            if ended {
                return Ok(());
            }
        }
        let (timer, sent) = (self.timer, &mut self.sent);
        let ends = last && trailers.is_none();
        if data.is_empty() && !last {
            return Ok(());
        }
        let has_data = !data.is_empty();
        let write = |cx: &mut Context<'_>| {
            while !data.is_empty() {
                *sent += ready!(stream.poll_data(cx, &mut data, ends))? as u64;
                timer.moved();
            }
            Poll::Ready(io::Result::Ok(()))
        };
        finished(self.inbound.during(Some(self.upstream), write).await?)?;
        if last && (trailers.is_some() || !has_data) {
            finished(stream.end(trailers))?;
        }
        Ok(())
    }
}

fn finished(written: io::Result<()>) -> Result<(), Cut> {
    written.map_err(|_| Cut::Interrupted(Interrupt::ClientGone))
}

impl Source<'_> {
    /// What of the body is there without reading. `None`: nothing, and it is not at its end.
    fn ready(&mut self) -> Result<Option<Piece>, Cut> {
        match self {
            Source::Bytes { decoder, buffer, .. } => {
                let piece =
                    decoder.decode(buffer.filled_mut()).map_err(|error| Cut::Upstream(Some(error)))?;
                let data = Bytes::copy_from_slice(&buffer.filled()[piece.data]);
                buffer.consume(piece.consumed);
                let last = decoder.is_done();
                Ok((last || !data.is_empty()).then_some(Piece { data, last, trailers: None }))
            }
            Source::Frames(body) if body.is_ended() => {
                Ok(Some(Piece { data: Bytes::new(), last: true, trailers: None }))
            }
            Source::Frames(_) => Ok(None),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Cut>> {
        loop {
            match self {
                Source::Bytes { decoder, buffer, link } => {
                    buffer.make_room();
                    match ready!(link.poll_read(cx, buffer)) {
                        Ok(0) => {
                            decoder.end().map_err(|_| Cut::Upstream(None))?;
                            return Poll::Ready(Ok(Piece { data: Bytes::new(), last: true, trailers: None }));
                        }
                        Ok(_) => {}
                        Err(_) => return Poll::Ready(Err(Cut::Upstream(None))),
                    }
                    if let Some(piece) = self.ready()? {
                        return Poll::Ready(Ok(piece));
                    }
                }
                Source::Frames(body) => {
                    ready!(body.poll_next(cx)).map_err(|_| Cut::Upstream(None))?;
                    let (data, last) = (body.held().clone(), body.is_ended());
                    return Poll::Ready(Ok(Piece { data, last, trailers: body.take_trailers() }));
                }
            }
        }
    }

    /// The last piece was passed on.
    fn release(&mut self) {
        if let Source::Frames(body) = self {
            body.release();
        }
    }
}
