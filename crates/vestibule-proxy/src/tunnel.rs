//! What follows a `101 Switching Protocols`: raw bytes both ways, each direction ending on its own.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffers::Buffer;
use crate::link::{ClientStream, Link, Parts};
use crate::timers::Timer;
use crate::upstream::BackendStream;

/// Copies until both directions have ended, one breaks, or the deadline passes. `early` is what came behind the
/// client's request, `rest` what came behind the response. Answers how many bytes went to the backend and the client.
pub(crate) async fn run(
    client: &Link<ClientStream>,
    upstream: &Link<BackendStream>,
    timer: &Timer,
    early: Option<Buffer>,
    rest: Buffer,
) -> (u64, u64) {
    let mut up = Direction::new(early);
    let mut down = Direction::new(Some(rest));
    poll_fn(|cx| {
        let up = up.poll(cx, client, upstream, timer);
        let down = down.poll(cx, upstream, client, timer);
        match (up, down) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ if timer.passed().is_some() => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    (up.moved, down.moved)
}

/// One direction. It holds a buffer only while there is something in it.
struct Direction {
    held: Option<Buffer>,
    moved: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Copying,
    /// The source ended; its end is being passed on.
    Ending,
    Ended,
}

impl Direction {
    fn new(held: Option<Buffer>) -> Direction {
        Direction { held: held.filter(|held| !held.is_empty()), moved: 0, stage: Stage::Copying }
    }

    fn poll<S, T>(
        &mut self,
        cx: &mut Context<'_>,
        source: &Link<S>,
        target: &Link<T>,
        timer: &Timer,
    ) -> Poll<std::io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        while self.stage == Stage::Copying {
            if let Some(held) = &mut self.held {
                let mut parts = Parts::new([held.filled()]);
                let mut count = 0;
                let written = parts.poll_write(target, cx, |some| count += some);
                timer.moved();
                self.moved += count as u64;
                held.consume(count);
                ready!(written)?;
                self.held = None;
            }
            let mut buffer = Buffer::large();
            if ready!(source.poll_read(cx, &mut buffer))? == 0 {
                self.stage = Stage::Ending;
            } else {
                self.held = Some(buffer);
            }
        }
        if self.stage == Stage::Ending {
            ready!(target.poll_shutdown(cx))?;
            self.stage = Stage::Ended;
        }
        Poll::Ready(Ok(()))
    }
}
