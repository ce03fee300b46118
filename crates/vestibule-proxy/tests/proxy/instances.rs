//! A driver whose instances are backends of the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use vestibule_run::desired::Container;
use vestibule_run::driver::{
    Driver, Exit, Failure, Handle, Labels, Listed, Order, Output, Owner, Pending, Started,
};

/// Starts "instances" that all stand at one address.
#[derive(Clone)]
pub struct Instances {
    address: SocketAddr,
    pub started: Arc<AtomicUsize>,
}

impl Instances {
    pub fn at(address: SocketAddr) -> Instances {
        Instances { address, started: Arc::default() }
    }
}

struct Instance {
    ended: watch::Sender<bool>,
}

impl Driver for Instances {
    fn name(&self) -> &'static str {
        "test"
    }

    fn prepare<'a>(&'a self, _: &'a Owner, container: &'a Container) -> Pending<'a, Result<String, Failure>> {
        Box::pin(async { Ok(container.image.clone()) })
    }

    fn start<'a>(&'a self, _: &'a Order) -> Pending<'a, Result<Started, Failure>> {
        Box::pin(async {
            self.started.fetch_add(1, Ordering::SeqCst);
            let handle = Box::new(Instance { ended: watch::Sender::new(false) });
            Ok(Started { address: self.address, output: Output::default(), handle })
        })
    }

    fn list<'a>(&'a self, _: &'a Labels) -> Pending<'a, Vec<Listed>> {
        Box::pin(async { Vec::new() })
    }

    fn remove<'a>(&'a self, _: &'a str) -> Pending<'a, ()> {
        Box::pin(async {})
    }
}

impl Handle for Instance {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn terminate(&self) -> Pending<'_, ()> {
        Box::pin(async {
            self.ended.send_replace(true);
        })
    }

    fn kill(&self) -> Pending<'_, ()> {
        self.terminate()
    }

    fn exited(&self) -> Pending<'_, Exit> {
        Box::pin(async {
            let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
            Exit::Code(0)
        })
    }
}
