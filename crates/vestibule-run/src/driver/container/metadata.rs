//! The way from a container to its metadata server.
//!
//! The server listens outside, at an address of this machine, which a container has no way to. Inside, a listener of
//! this process stands at Google's link-local address, and what comes in is passed on.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Variables that tell a program where its metadata server is.
const NAMES: [&str; 3] = ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"];
/// Connections of one container at once.
const AT_ONCE: usize = 32;
/// Longest time that a connection may take.
const LONGEST: Duration = Duration::from_secs(300);
/// Pause after a connection could not be accepted.
const BREATH: Duration = Duration::from_millis(50);

/// Passes connections on for as long as it exists.
#[derive(Debug)]
pub(in crate::driver) struct Forwarder(JoinHandle<()>);

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where the server is, according to an environment.
pub(in crate::driver) fn server(environment: &[(String, String)]) -> Option<String> {
    environment.iter().rev().find(|(name, _)| name == NAMES[0]).map(|(_, value)| value.clone())
}

/// Makes an environment name the server's address inside the container.
pub(in crate::driver) fn inside(environment: &mut [(String, String)], address: &str) {
    for (_, value) in environment.iter_mut().filter(|(name, _)| NAMES.contains(&name.as_str())) {
        address.clone_into(value);
    }
}

impl Forwarder {
    /// Passes what comes to `listener` on to `server`, a `host:port`.
    pub(in crate::driver) fn start(listener: OwnedFd, server: String) -> io::Result<Self> {
        let listener = TcpListener::from_std(StdTcpListener::from(listener))?;
        Ok(Self(tokio::spawn(accept(listener, Arc::from(server)))))
    }
}

async fn accept(listener: TcpListener, server: Arc<str>) {
    let free = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((mut near, _)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    let passed = async {
                        let mut far = TcpStream::connect(&*server).await?;
                        tokio::io::copy_bidirectional(&mut near, &mut far).await
                    };
                    if let Ok(Err(error)) = timeout(LONGEST, passed).await {
                        tracing::debug!(%error, "a container's request to its metadata server failed");
                    }
                    drop(permit);
                });
            }
            Err(_) => sleep(BREATH).await,
        }
    }
}
