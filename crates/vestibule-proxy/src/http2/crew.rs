//! Tasks that serve streams, kept for streams to come.
//!
//! Every stream is served by a task of its own, whose state is some kilobytes. To make one for each request costs an
//! allocation of that size, copies of it, and its end; a task that goes on to the next stream costs none of that.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::task::spawn_local;

use super::serve::Work;
use super::stream;
use crate::limits::MAX_SPARE_TASKS;

/// The tasks of a worker that wait for a stream.
#[derive(Default)]
pub(crate) struct Crew {
    waiting: RefCell<Vec<Rc<Place>>>,
}

/// Where a task finds its next stream.
#[derive(Default)]
struct Place {
    work: RefCell<Option<Work>>,
    waker: RefCell<Option<Waker>>,
}

impl Crew {
    /// Has a task serve a stream: one that waits, or a new one.
    pub(crate) fn serve(self: &Rc<Self>, work: Work) {
        let waiting = self.waiting.borrow_mut().pop();
        let Some(place) = waiting else {
            let place = Rc::new(Place { work: RefCell::new(Some(work)), waker: RefCell::default() });
            spawn_local(self.clone().run(place));
            return;
        };
        place.work.replace(Some(work));
        if let Some(waker) = place.waker.take() {
            waker.wake();
        }
    }

    /// A task: serves stream after stream, until enough others wait.
    async fn run(self: Rc<Self>, place: Rc<Place>) {
        loop {
            let Work { open, shared, request, respond } = place.next().await;
            stream::serve(shared, request, respond).await;
            drop(open);
            let mut waiting = self.waiting.borrow_mut();
            if waiting.len() >= MAX_SPARE_TASKS {
                return;
            }
            waiting.push(place.clone());
        }
    }
}

impl Place {
    async fn next(&self) -> Work {
        poll_fn(|cx| match self.work.take() {
            Some(work) => Poll::Ready(work),
            None => {
                self.waker.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}
