//! Connections to backends, kept for the next request. One pool a worker, so none is ever shared or locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::TcpStream;

use crate::limits::{MAX_IDLE_PER_ADDRESS, UPSTREAM_KEEP_ALIVE};
use crate::link::Link;

/// A connection to a backend.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) link: Link<TcpStream>,
}

impl Upstream {
    /// Makes a new connection. An instance may be in a network of its own.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Upstream> {
        let stream = vestibule_run::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Upstream { address, link: Link::new(stream) })
    }
}

struct Idle {
    link: Link<TcpStream>,
    since: Instant,
}

/// The idle connections of one worker.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>, BuildHasherDefault<AddressHasher>>>,
}

impl Pool {
    /// The connection to this address that was used last and is still good.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&address)?;
        while let Some(found) = list.pop() {
            if found.link.is_quiet() {
                return Some(Upstream { address, link: found.link });
            }
        }
        None
    }

    /// Keeps a connection whose last response was read to its end.
    pub(crate) fn put(&self, upstream: Upstream, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(upstream.address).or_default();
        if list.len() < MAX_IDLE_PER_ADDRESS {
            list.push(Idle { link: upstream.link, since: now });
        }
    }

    /// Drops connections that ended or are too old, and addresses without any.
    pub(crate) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|idle| now.duration_since(idle.since) < UPSTREAM_KEEP_ALIVE && idle.link.is_quiet());
            !list.is_empty()
        });
    }
}

/// Addresses come from the configuration, so nobody can choose them to collide, and a plain hash will do.
#[derive(Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn gives_back_what_is_alive_and_forgets_the_rest() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let pool = Pool::default();
            assert!(pool.take(address).is_none());

            pool.put(Upstream::connect(address).await.unwrap(), Instant::now());
            let (kept, _) = listener.accept().await.unwrap();
            let taken = pool.take(address).unwrap();
            assert!(pool.take(address).is_none());

            pool.put(taken, Instant::now());
            drop(kept);
            while !pool.idle.borrow().is_empty() {
                pool.sweep(Instant::now());
                tokio::task::yield_now().await;
            }
            assert!(pool.take(address).is_none());

            pool.put(Upstream::connect(address).await.unwrap(), Instant::now());
            let _kept = listener.accept().await.unwrap();
            pool.sweep(Instant::now() + UPSTREAM_KEEP_ALIVE);
            assert!(pool.idle.borrow().is_empty());
        });
    }
}
