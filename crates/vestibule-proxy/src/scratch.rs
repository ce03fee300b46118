//! What serving a request needs and an idle connection does not, kept from request to request.

use std::cell::RefCell;

use vestibule_http1::{RequestHead, ResponseHead};

thread_local! {
    #[expect(clippy::vec_box, reason = "a connection that waits must hold a pointer, and not a whole space")]
    static SPARE: RefCell<Vec<Box<Space>>> = const { RefCell::new(Vec::new()) };
}

/// Scratch spaces that a thread keeps for reuse.
const MAX_SPARE: usize = 128;

/// Bytes of buffers that a kept scratch space may hold.
const MAX_SPARE_BYTES: usize = 16 * 1024;

/// Parsed heads, and what is written.
#[derive(Default)]
pub(crate) struct Space {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    pub(crate) out: Vec<u8>,
    /// A request of HTTP/2 as text.
    pub(crate) text: Vec<u8>,
}

/// A scratch space from the thread's store, which it goes back to.
pub(crate) struct Scratch(Option<Box<Space>>);

impl Scratch {
    pub(crate) fn take() -> Scratch {
        Scratch(Some(SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()))
    }

    pub(crate) fn space(&mut self) -> &mut Space {
        self.0.get_or_insert_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(mut space) = self.0.take() else { return };
        space.request.clear();
        space.out.clear();
        space.text.clear();
        // A thread that is ending has no store any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MAX_SPARE && space.out.capacity() + space.text.capacity() <= MAX_SPARE_BYTES {
                spare.push(space);
            }
        });
    }
}
