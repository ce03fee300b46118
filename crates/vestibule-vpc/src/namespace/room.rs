//! A network namespace and the thread that lives in it.
//!
//! A namespace belongs to a thread, not to a process. A `Room` is one thread that moved into a new namespace at its
//! start and runs jobs there until the room is dropped: a socket that a job makes belongs to the namespace for ever,
//! wherever it is used. Nothing is mounted, so the namespace ends with its last thread, socket or process, however
//! this process ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rtnetlink::Handle;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// What the room's thread runs.
type Job = Box<dyn FnOnce(&Inside) + Send>;

/// What a job finds inside the namespace.
pub struct Inside {
    runtime: tokio::runtime::Runtime,
    netlink: Handle,
}

/// A network namespace with a thread in it.
pub struct Room {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    namespace: File,
}

impl Inside {
    /// For the calling thread, in its namespace.
    fn new() -> io::Result<Inside> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let netlink = {
            let _entered = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection()?;
            runtime.spawn(connection);
            handle
        };
        Ok(Inside { runtime, netlink })
    }

    /// Runs netlink requests to their end.
    pub fn netlink<T>(
        &self,
        work: impl AsyncFnOnce(&Handle) -> Result<T, rtnetlink::Error>,
    ) -> io::Result<T> {
        self.runtime.block_on(work(&self.netlink)).map_err(to_io)
    }
}

/// The errno of a netlink refusal, as the kernel gave it.
fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

impl Room {
    /// A new, empty network namespace.
    pub fn open(name: &str) -> io::Result<Room> {
        Room::start(name, enter_new_namespace)
    }

    /// A thread in a namespace that there is.
    pub fn enter(name: &str, namespace: OwnedFd) -> io::Result<Room> {
        Room::start(name, move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok((Inside::new()?, namespace.into()))
        })
    }

    fn start(
        name: &str,
        enter: impl FnOnce() -> io::Result<(Inside, File)> + Send + 'static,
    ) -> io::Result<Room> {
        let (jobs, received) = mpsc::channel::<Job>();
        let (report, started) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name(format!("net {name}")).spawn(move || match enter() {
                Ok((inside, namespace)) => {
                    let _ = report.send(Ok(namespace));
                    received.into_iter().for_each(|job| job(&inside));
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            })?;
        let namespace = started.recv().map_err(|_| io::Error::other("the namespace's thread ended"))??;
        Ok(Room { jobs: Some(jobs), thread: Some(thread), namespace })
    }

    /// Runs `job` inside the namespace and waits for its result.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Inside) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, result) = mpsc::channel();
        self.post(move |inside| {
            let _ = answer.send(job(inside));
        })?;
        result.recv().map_err(|_| io::Error::other("the namespace's thread ended"))?
    }

    /// Has `job` run inside the namespace, after what was asked for before, without waiting for it.
    pub fn post(&self, job: impl FnOnce(&Inside) + Send + 'static) -> io::Result<()> {
        let gone = || io::Error::other("the namespace's thread ended");
        self.jobs.as_ref().ok_or_else(gone)?.send(Box::new(job)).map_err(|_| gone())
    }

    /// The namespace itself, for `setns` and for moving links into it.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[allow(unsafe_code, reason = "unshare has no safe form")]
fn enter_new_namespace() -> io::Result<(Inside, File)> {
    // SAFETY: the flag is NEWNET alone. It changes which network this one thread sees; file descriptors, which the
    // function's safety condition speaks of, stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    let namespace = File::open("/proc/thread-self/ns/net")?;
    Ok((Inside::new()?, namespace))
}
