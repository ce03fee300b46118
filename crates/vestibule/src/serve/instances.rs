//! The metadata servers of instances: each has a port of its own on loopback, because a process of the machine has no
//! address of its own by which it could be told from others.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use vestibule_api::serve_metadata;
use vestibule_iam::Issuer;
use vestibule_iam::metadata::Identity;
use vestibule_run::MetadataSource;
use vestibule_run::driver::Owner;

/// The metadata servers of all instances.
pub struct Instances {
    issuer: Issuer,
    runtime: Handle,
    open: Mutex<HashMap<String, oneshot::Sender<()>>>,
}

impl Instances {
    pub fn new(issuer: Issuer, runtime: Handle) -> Instances {
        Instances { issuer, runtime, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<()>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetadataSource for Instances {
    fn open(&self, instance_id: &str, owner: &Owner) -> Option<String> {
        let identity = Identity::cloud_run(
            owner.project(),
            owner.project_number(),
            owner.region(),
            instance_id,
            owner.service_account(),
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let at = listener.local_addr().ok()?;
        let (end, ended) = oneshot::channel::<()>();
        let who = Arc::new(move |_| Some(identity.clone()));
        let serving = serve_metadata(listener, self.issuer.clone(), who, async move {
            let _ = ended.await;
        });
        self.runtime.spawn(async move {
            if let Err(error) = serving.await {
                tracing::warn!(%error, "an instance's metadata server ended");
            }
        });
        self.open().insert(instance_id.to_owned(), end);
        Some(at.to_string())
    }

    fn close(&self, instance_id: &str) {
        self.open().remove(instance_id);
    }
}
