//! What carries the bytes that containers send beyond their network, and removes what is left of them.
//!
//! A thread of its own: what one container moves must not keep starts waiting.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// An executor with one thread, which may be dropped by a task.
pub(super) struct Carrier {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Carrier {
    pub(super) fn start() -> io::Result<Carrier> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("run-egress").enable_all().build()?;
        Ok(Carrier { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A task must not wait, as the end of an executor does.
            runtime.shutdown_background();
        }
    }
}
