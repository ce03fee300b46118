//! Messages with file descriptors on a local socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Bytes of the longest message.
const MAX_MESSAGE: usize = 16 * 1024;
/// Descriptors with one message.
const MAX_DESCRIPTORS: usize = 8;

/// What was received: nothing at all if the other end is closed.
pub(in crate::driver) struct Received {
    pub(in crate::driver) bytes: Vec<u8>,
    pub(in crate::driver) descriptors: Vec<OwnedFd>,
}

/// Two ends that keep messages apart.
pub(in crate::driver) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message. `now`: fails rather than waits.
pub(in crate::driver) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    now: bool,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let flags = if now { SendFlags::NOSIGNAL | SendFlags::DONTWAIT } else { SendFlags::NOSIGNAL };
    let bytes = &bytes[..bytes.len().min(MAX_MESSAGE)];
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

/// Receives one message. `now`: fails rather than waits.
///
/// An end that was closed with something unread in it first shows an error, once, and then what it had sent.
pub(in crate::driver) fn receive(socket: impl AsFd, now: bool) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; MAX_MESSAGE];
    let flags = if now { RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT } else { RecvFlags::CMSG_CLOEXEC };
    let length = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            other => break other?.bytes,
        }
    };
    bytes.truncate(length);
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok(Received { bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_though_nobody_listened() {
        let (near, far) = pair().unwrap();
        send(&near, b"never read", &[], true).unwrap();
        send(&far, b"last words", &[], true).unwrap();
        drop(far);
        assert_eq!(receive(&near, false).unwrap().bytes, b"last words");
        assert!(receive(&near, false).unwrap().bytes.is_empty());
    }

    #[test]
    fn descriptors_come_along() {
        let (near, far) = pair().unwrap();
        let (a, b) = pair().unwrap();
        send(&near, b"x", &[a.as_fd(), b.as_fd()], true).unwrap();
        let received = receive(&far, true).unwrap();
        assert_eq!((received.bytes.as_slice(), received.descriptors.len()), (&b"x"[..], 2));
        assert!(receive(&far, true).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    }
}
