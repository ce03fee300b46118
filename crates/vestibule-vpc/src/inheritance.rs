//! What one process hands to the next: networks as they stand, and the sockets that are open in them.
//!
//! The next process goes on with the same namespaces, or the same stand-ins on loopback, and listens on the same
//! sockets, so whoever connects notices nothing. The one that leaves keeps its own handles until it ends.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde_json::Value;

use crate::NetworkId;

/// Descriptors in one message. The kernel takes 253.
const AT_ONCE: usize = 128;
/// Stand-ins that are left to the process that leaves, for what it still connects from.
pub(crate) const LEFT_BEHIND: u16 = 64;

/// The networks of a driver: what is known of them, and the descriptors that it speaks of, in its order.
#[derive(Debug)]
pub struct Estate {
    pub state: Value,
    pub descriptors: Vec<OwnedFd>,
}

/// Open sockets of networks, for a driver to hand out in the place of new ones.
#[derive(Debug, Default)]
pub struct Inherited(Mutex<HashMap<SocketPlace, Vec<OwnedFd>>>);

/// A private address and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketPlace {
    pub network: NetworkId,
    pub ip: Ipv4Addr,
    pub port: u16,
    pub is_udp: bool,
}

impl Inherited {
    pub(crate) fn put(&self, sockets: HashMap<SocketPlace, Vec<OwnedFd>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sockets;
    }

    /// The listeners of a private address, if there are as many as are wanted.
    pub(crate) fn tcp(
        &self,
        network: &NetworkId,
        ip: Ipv4Addr,
        port: u16,
        count: usize,
    ) -> Option<Vec<TcpListener>> {
        let found = self.take(SocketPlace { network: network.clone(), ip, port, is_udp: false })?;
        (found.len() == count).then(|| found.into_iter().map(TcpListener::from).collect())
    }

    pub(crate) fn udp(&self, network: &NetworkId, ip: Ipv4Addr, port: u16) -> Option<UdpSocket> {
        self.take(SocketPlace { network: network.clone(), ip, port, is_udp: true })?
            .pop()
            .map(UdpSocket::from)
    }

    fn take(&self, place: SocketPlace) -> Option<Vec<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&place)
    }
}

/// Sends descriptors over a connected Unix socket.
pub fn send_descriptors(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for some in descriptors.chunks(AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(some)) {
            return Err(io::Error::other("descriptors do not fit into a message"));
        }
        // One byte goes with them: a message without any is none.
        let sent = sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
        if sent != 1 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Receives as many as the other end sends.
pub fn receive_descriptors(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut received: Vec<OwnedFd> = Vec::with_capacity(count.min(AT_ONCE));
    while received.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let message =
            recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = received.len();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                received.extend(descriptors);
            }
        }
        if received.len() == before {
            // The kernel leaves out what this process has no room for.
            return Err(io::Error::other("descriptors did not arrive: is the limit of open files too low?"));
        }
    }
    if received.len() == count {
        return Ok(received);
    }
    Err(io::Error::other("more descriptors arrived than were announced"))
}

/// Another handle on each.
pub(crate) fn duplicate(descriptor: impl AsFd) -> io::Result<OwnedFd> {
    descriptor.as_fd().try_clone_to_owned()
}

/// An error that says what in a description was not understood.
pub(crate) fn unreadable(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the other server's description of {what} is not understood"),
    )
}

/// An address in a description.
pub(crate) fn address(value: &Value) -> Option<Ipv4Addr> {
    value.as_str()?.parse().ok()
}

/// A network in a description.
pub(crate) fn network(value: &Value) -> Option<NetworkId> {
    value.as_str().map(NetworkId::from_relative)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn any_number_of_descriptors_arrives_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let listeners: Vec<TcpListener> =
            (0..2 * AT_ONCE + 3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let sent: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let count = listeners.len();
        let sender = std::thread::spawn(move || {
            let borrowed: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
            send_descriptors(&here, &borrowed).unwrap();
            (&here).write_all(b"next").unwrap();
        });
        let received = receive_descriptors(&there, count).unwrap();
        let mut rest = [0; 4];
        (&there).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"next");
        sender.join().unwrap();
        let received: Vec<TcpListener> = received.into_iter().map(TcpListener::from).collect();
        let at: Vec<_> = received.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert_eq!(at, sent);
        // They are alive: the sender's own are gone by now.
        TcpStream::connect(sent[0]).unwrap();
        received[0].accept().unwrap();
    }

    #[test]
    fn too_few_are_an_error() {
        let (here, there) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        send_descriptors(&here, &[listener.as_fd()]).unwrap();
        drop(here);
        assert!(receive_descriptors(&there, 2).is_err());
    }
}
