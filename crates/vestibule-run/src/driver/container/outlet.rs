//! The way out of a container.
//!
//! A container has no link to anywhere. The kernel diverts each of its connections to a listener of this process
//! inside the container's network ([`vestibule_vpc::namespace::divert`]), which asks where it was meant to go, has the
//! instance's [`InstanceNetwork`] connect there, and passes bytes on. A program sees its connection accepted before the
//! far end has answered; where that refuses, the connection is reset at once.

use std::io;
use std::net::{SocketAddrV4, TcpListener as StdTcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{ip_original_dst, set_socket_linger};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::driver::InstanceNetwork;

/// Connections out of one instance at once. More wait in the listener's queue.
const AT_ONCE: usize = 1_024;
/// How long the far end may take to answer. As long as Linux itself tries, roughly.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// Pause after a connection could not be accepted.
const BREATH: Duration = Duration::from_millis(50);

/// Carries what an instance sends for as long as it exists.
#[derive(Debug)]
pub(in crate::driver) struct Outlet(JoinHandle<()>);

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Outlet {
    /// `sockets`: the listener that connections are diverted to, and the name server's two.
    pub(in crate::driver) fn start(
        [connections, udp, tcp]: [OwnedFd; 3],
        network: Arc<dyn InstanceNetwork>,
        executor: &Handle,
    ) -> Self {
        let run = async move {
            let listener = match TcpListener::from_std(StdTcpListener::from(connections)) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "an instance has no way out"),
            };
            let names = network.serve_names(UdpSocket::from(udp), StdTcpListener::from(tcp));
            tokio::join!(names, accept(listener, network));
        };
        Self(executor.spawn(run))
    }
}

async fn accept(listener: TcpListener, network: Arc<dyn InstanceNetwork>) {
    let free = Arc::new(Semaphore::new(AT_ONCE));
    // They end with this task.
    let mut carried = JoinSet::new();
    loop {
        while carried.try_join_next().is_some() {}
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((near, _)) => {
                let network = network.clone();
                carried.spawn(async move {
                    if let Err(error) = carry(near, &*network).await {
                        tracing::debug!(%error, "a connection of an instance");
                    }
                    drop(permit);
                });
            }
            Err(_) => sleep(BREATH).await,
        }
    }
}

async fn carry(mut near: TcpStream, network: &dyn InstanceNetwork) -> io::Result<()> {
    let to = ip_original_dst(&near)?;
    let mut far = match connect(network, to).await {
        Ok(far) => far,
        Err(error) => {
            // A reset rather than an end: nothing was there, which is not the same as nothing was said.
            let _ = set_socket_linger(&near, Some(Duration::ZERO));
            return Err(io::Error::new(error.kind(), format!("to {to}: {error}")));
        }
    };
    // Whoever wrote decides how much goes at once.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}

async fn connect(network: &dyn InstanceNetwork, to: SocketAddrV4) -> io::Result<TcpStream> {
    timeout(CONNECT_LIMIT, network.connect(to)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
