//! Beginning a connection without waiting for it.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};

use rustix::io::Errno;
use socket2::Socket;

/// Binds a non-blocking socket to `from`, if that matters, and begins to connect it.
pub fn begin(socket: Socket, from: Option<SocketAddrV4>, to: SocketAddr) -> io::Result<TcpStream> {
    if let Some(from) = from {
        socket.bind(&from.into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket.into()),
    }
}
