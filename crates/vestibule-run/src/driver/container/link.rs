//! The container's network: one loopback link with addresses.
//!
//! Three messages to the kernel, written by hand (rtnetlink(7)): a library for them would bring an executor, and with it
//! threads, into a process that must have one.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// The loopback link is the first of every network.
const LOOPBACK: u32 = 1;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const ERROR: u16 = 2;
/// Request, and acknowledge it.
const ASK: u16 = 0x1 | 0x4;
/// Create what is not there, and replace what is.
const CREATE: u16 = 0x400 | 0x100;
const UP: u32 = 1;
const INET: u8 = 2;
const HEAD: usize = 16;

/// Switches the loopback link on, which gives it 127.0.0.1.
pub(super) fn up() -> io::Result<()> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&LOOPBACK.to_ne_bytes());
    body.extend_from_slice(&UP.to_ne_bytes());
    body.extend_from_slice(&UP.to_ne_bytes());
    ask(NEW_LINK, ASK, &body)
}

/// Gives the loopback link one more address.
pub(super) fn add_address(address: Ipv4Addr) -> io::Result<()> {
    const LOCAL: u16 = 2;
    const ADDRESS: u16 = 1;
    let mut body = vec![INET, 32, 0, 0];
    body.extend_from_slice(&LOOPBACK.to_ne_bytes());
    for attribute in [LOCAL, ADDRESS] {
        body.extend_from_slice(&8_u16.to_ne_bytes());
        body.extend_from_slice(&attribute.to_ne_bytes());
        body.extend_from_slice(&address.octets());
    }
    ask(NEW_ADDRESS, ASK | CREATE, &body)
}

/// Sends what has no other way into the loopback link, as coming from `source`.
pub(super) fn add_default_route(source: Ipv4Addr) -> io::Result<()> {
    /// `RT_TABLE_MAIN`, `RTPROT_BOOT`, `RT_SCOPE_LINK`, `RTN_UNICAST`.
    const MAIN: [u8; 4] = [254, 3, 253, 1];
    /// `RTA_OIF`, `RTA_PREFSRC`.
    const LINK: u16 = 4;
    const SOURCE: u16 = 7;
    let mut body = vec![INET, 0, 0, 0];
    body.extend_from_slice(&MAIN);
    body.extend_from_slice(&[0; 4]);
    for (attribute, value) in [(LINK, LOOPBACK.to_ne_bytes()), (SOURCE, source.octets())] {
        body.extend_from_slice(&8_u16.to_ne_bytes());
        body.extend_from_slice(&attribute.to_ne_bytes());
        body.extend_from_slice(&value);
    }
    ask(NEW_ROUTE, ASK | CREATE, &body)
}

fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    // Without a protocol it is the one for links and addresses, whose number is 0.
    let socket: OwnedFd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, &request(kind, flags, body), SendFlags::empty(), &kernel)?;
    let mut answer = [0; 4096];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    acknowledged(&answer[..length])
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEAD + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    message
}

/// The answer is an error whose number is 0 if all is well.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
    let number =
        answer.get(HEAD..HEAD + 4).and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
    match (kind, number) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(number)) => Err(io::Error::from_raw_os_error(-number)),
        _ => Err(io::Error::other("the kernel's answer about a link makes no sense")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_errors() {
        // Nobody may have two loopback links, and ordinary users may not change the one they have.
        let wrong = ask(NEW_ADDRESS, ASK, &[INET, 32, 0, 0, 0xff, 0xff, 0xff, 0x7f]);
        assert!(wrong.is_err());
        assert!(acknowledged(&[]).is_err());
        assert_eq!(request(NEW_LINK, ASK, &[1, 2]).len(), 18);
    }
}
