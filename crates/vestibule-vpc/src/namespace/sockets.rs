//! Sockets of a network in stock, for connections that this process makes inside it.
//!
//! A socket belongs to the namespace in which it was made, so only the network's thread can make one. Worker threads
//! must not wait for that thread, which may be busy with links or rules: some sockets are kept, and the thread makes
//! more of them while they last.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::{Arc, Mutex};

use socket2::{Domain, Protocol, Socket, Type};

use super::lock;
use super::room::Room;

/// Sockets that are kept at most.
const STOCK: usize = 16;
/// When so few are left, more are made.
const LOW: usize = 4;

/// Unconnected TCP sockets of one network. Made when they are first asked for.
#[derive(Default)]
pub struct Sockets(Arc<Mutex<Stock>>);

#[derive(Default)]
struct Stock {
    sockets: Vec<Socket>,
    /// The network's thread was told to make more.
    ordered: bool,
}

/// A socket of a network that was not used yet.
pub struct Fresh(Socket);

impl Sockets {
    pub fn take(&self, room: &Room) -> io::Result<Fresh> {
        let mut stock = lock(&self.0);
        let taken = stock.sockets.pop();
        if stock.sockets.len() <= LOW && !stock.ordered {
            stock.ordered = true;
            let to = Arc::clone(&self.0);
            room.post(move |_| refill(&to))?;
        }
        drop(stock);
        match taken {
            Some(socket) => Ok(Fresh(socket)),
            None => room.run(|_| socket()).map(Fresh),
        }
    }
}

/// Failing is no matter here: whoever finds the stock empty is told why when making one fails again.
fn refill(stock: &Mutex<Stock>) {
    let made: Vec<Socket> = (0..STOCK).map_while(|_| socket().ok()).collect();
    let mut stock = lock(stock);
    stock.ordered = false;
    let room = STOCK.saturating_sub(stock.sockets.len());
    stock.sockets.extend(made.into_iter().take(room));
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Fresh {
    /// Begins to connect.
    pub fn connect(self, from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
        crate::connect::begin(self.0, Some(SocketAddrV4::new(from, 0)), to.into())
    }
}
