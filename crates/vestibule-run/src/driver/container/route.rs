//! How containers are reached.
//!
//! A container's network has no link to any other: no address of it exists outside, so nobody but this process can
//! connect to it, whatever the machine's firewall says, and no privilege is needed to set it up. This process can,
//! because a socket belongs for ever to the network it was made in, whoever uses it: the container's helper makes
//! sockets inside and passes them out, and connecting one reaches what listens inside.
//!
//! Every container has an address of its own all the same, on its loopback link, so that addresses tell instances
//! apart as they do everywhere else. Which address belongs to which container is what the table here says: a routing
//! table, for the whole process, as the kernel's is for the machine. [`connect`] looks there and is otherwise an
//! ordinary connect.
//!
//! The sockets that lie ready are the queue between helper and runtime itself: the helper fills it as the kernel has
//! room, the runtime takes without waiting or asking. Only a burst of connections finds it empty, and waits for the
//! helper.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::net::{TcpSocket, TcpStream};

use super::wire;
use crate::driver::child::watch_descriptor;

/// Addresses of containers are 169.254.0.1 to 169.254.127.254: link-local, which no network routes, and without the
/// metadata server's.
const NETWORK: [u8; 2] = [169, 254];
const COUNT: u16 = 0x7fff;

type Table = HashMap<Ipv4Addr, Arc<Stock>>;

static ROUTES: LazyLock<ArcSwap<Table>> = LazyLock::new(ArcSwap::default);
/// What was given out last, and what is given out.
static ADDRESSES: Mutex<(u16, Vec<Ipv4Addr>)> = Mutex::new((0, Vec::new()));

/// An address that no other container has while this exists.
#[derive(Debug)]
pub(in crate::driver) struct Address(Ipv4Addr);

/// Sockets of one container's network.
#[derive(Debug)]
struct Stock(OwnedFd);

/// A container that can be reached while this exists.
#[derive(Debug)]
pub(in crate::driver) struct Route(Address);

/// Connects to an instance: through its own network if it has one.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(wanted) = address else { return TcpStream::connect(address).await };
    if !is_container(*wanted.ip()) {
        return TcpStream::connect(address).await;
    }
    let stock = ROUTES.load().get(wanted.ip()).cloned();
    let stock =
        stock.ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionRefused, "the instance is gone"))?;
    let socket = StdTcpStream::from(stock.take().await?);
    TcpSocket::from_std_stream(socket).connect(address).await
}

fn is_container(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    [a, b] == NETWORK && c < 0x80
}

impl Address {
    /// One that was not used for as long as possible: connections to its last owner may still be kept somewhere.
    pub(in crate::driver) fn reserve() -> io::Result<Self> {
        let mut addresses = ADDRESSES.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, taken) = &mut *addresses;
        for _ in 0..COUNT {
            *last = *last % (COUNT - 1) + 1;
            let [c, d] = last.to_be_bytes();
            let ip = Ipv4Addr::new(NETWORK[0], NETWORK[1], c, d);
            if !taken.contains(&ip) {
                taken.push(ip);
                return Ok(Self(ip));
            }
        }
        Err(io::Error::other("no address is left for a container"))
    }

    pub(in crate::driver) fn ip(&self) -> Ipv4Addr {
        self.0
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let mut addresses = ADDRESSES.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.1.retain(|taken| *taken != self.0);
    }
}

impl Route {
    /// Makes a container reachable through sockets that come from `stock`.
    pub(in crate::driver) fn open(address: Address, stock: OwnedFd) -> Self {
        let stock = Arc::new(Stock(stock));
        ROUTES.rcu(|table| {
            let mut table = Table::clone(table);
            table.insert(address.ip(), stock.clone());
            table
        });
        Self(address)
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        ROUTES.rcu(|table| {
            let mut table = Table::clone(table);
            table.remove(&self.0.ip());
            table
        });
    }
}

impl Stock {
    async fn take(&self) -> io::Result<OwnedFd> {
        match self.try_take() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        // Each worker has an executor of its own, so each waits on a descriptor of its own.
        let watched = watch_descriptor(self.0.try_clone()?)?;
        loop {
            let mut ready = watched.readable().await?;
            match self.try_take() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                other => return other,
            }
        }
    }

    fn try_take(&self) -> io::Result<OwnedFd> {
        let received = wire::receive(&self.0, true)?;
        let gone = || io::Error::new(io::ErrorKind::ConnectionRefused, "the instance is gone");
        received.descriptors.into_iter().next().ok_or_else(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    use std::os::fd::AsFd as _;

    #[test]
    fn addresses_are_different_and_come_back_late() {
        let first = Address::reserve().unwrap();
        let ip = first.ip();
        assert!(is_container(ip));
        drop(first);
        let more: Vec<_> = (0..300).map(|_| Address::reserve().unwrap()).collect();
        assert!(more.iter().all(|address| address.ip() != ip && is_container(address.ip())));
        assert!(!is_container(super::super::helper::METADATA));
        assert!(!is_container(Ipv4Addr::LOCALHOST));
    }

    #[tokio::test]
    async fn an_empty_stock_is_waited_for_and_a_gone_one_is_not() {
        let (near, far) = wire::pair().unwrap();
        let address = Address::reserve().unwrap();
        let to = SocketAddr::from((address.ip(), 9));
        let route = Route::open(address, near);
        let stock = ROUTES.load().get(&route.0.ip()).cloned().unwrap();
        let waiting = tokio::spawn(async move { stock.take().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        wire::send(&far, b"s", &[socket.as_fd()], true).unwrap();
        waiting.await.unwrap().unwrap();

        let waiting = tokio::spawn(connect(to));
        tokio::task::yield_now().await;
        drop(far);
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(route);
        assert_eq!(connect(to).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
