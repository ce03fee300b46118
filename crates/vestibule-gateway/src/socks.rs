//! SOCKS5: the greeting, the user name, and the CONNECT command. Names are resolved inside the VPC (`socks5h`).

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use vestibule_vpc::Vpc;

use crate::dial::{Unreachable, dial};
use crate::{HANDSHAKE_TIMEOUT, World, timeout};

/// SOCKS protocol version (RFC 1928 section 3).
pub const VERSION: u8 = 5;
/// Version of the user name sub-negotiation (RFC 1929 section 2).
const AUTH_VERSION: u8 = 1;

const METHOD_NONE: u8 = 0;
const METHOD_USER_PASSWORD: u8 = 2;
const METHOD_NO_MATCH: u8 = 0xff;

const COMMAND_CONNECT: u8 = 1;

const ADDRESS_IPV4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

/// Reply codes (RFC 1928 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Reply {
    Succeeded = 0,
    NotAllowed = 2,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

impl Reply {
    fn of(error: &Unreachable) -> Reply {
        match error {
            Unreachable::Connect(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                Reply::ConnectionRefused
            }
            _ => Reply::HostUnreachable,
        }
    }
}

/// Serves one SOCKS5 connection to its end.
pub async fn serve(stream: &mut TcpStream, vpc: &Vpc, world: &dyn World) -> io::Result<()> {
    let Some(user) = timeout(HANDSHAKE_TIMEOUT, greet(stream)).await? else { return Ok(()) };
    let client = world.client(user.as_deref());
    if user.is_some() {
        let status = if client.is_some() { 0 } else { 1 };
        stream.write_all(&[AUTH_VERSION, status]).await?;
    }
    let request = timeout(HANDSHAKE_TIMEOUT, read_request(stream)).await?;
    let (host, port) = match request {
        Ok(destination) => destination,
        Err(reply) => return answer(stream, reply).await,
    };
    let Some(client) = client else { return answer(stream, Reply::NotAllowed).await };
    match dial(vpc, world, &client, &host, port).await {
        Ok(mut upstream) => {
            answer(stream, Reply::Succeeded).await?;
            copy_bidirectional(stream, &mut upstream).await.map(drop)
        }
        Err(error) => {
            tracing::debug!(%host, port, %error, "SOCKS5 destination is unreachable");
            answer(stream, Reply::of(&error)).await
        }
    }
}

/// Reads the greeting and, where offered, the user name. The outer `None` means no method in common.
async fn greet(stream: &mut TcpStream) -> io::Result<Option<Option<String>>> {
    let [_version, count] = read_array(stream).await?;
    let mut methods = vec![0; usize::from(count)];
    stream.read_exact(&mut methods).await?;
    if methods.contains(&METHOD_USER_PASSWORD) {
        stream.write_all(&[VERSION, METHOD_USER_PASSWORD]).await?;
        let [_version] = read_array(stream).await?;
        let user = read_string(stream).await?;
        let _password = read_string(stream).await?;
        return Ok(Some(Some(user)));
    }
    if methods.contains(&METHOD_NONE) {
        stream.write_all(&[VERSION, METHOD_NONE]).await?;
        return Ok(Some(None));
    }
    stream.write_all(&[VERSION, METHOD_NO_MATCH]).await?;
    Ok(None)
}

async fn read_request(stream: &mut TcpStream) -> io::Result<Result<(String, u16), Reply>> {
    let [_version, command, _reserved, kind] = read_array(stream).await?;
    let host = match kind {
        ADDRESS_IPV4 => Ipv4Addr::from(read_array::<4>(stream).await?).to_string(),
        ADDRESS_NAME => read_string(stream).await?,
        ADDRESS_IPV6 => {
            let _: [u8; 18] = read_array(stream).await?;
            return Ok(Err(Reply::AddressNotSupported));
        }
        _ => return Ok(Err(Reply::AddressNotSupported)),
    };
    let port = u16::from_be_bytes(read_array(stream).await?);
    Ok(if command == COMMAND_CONNECT { Ok((host, port)) } else { Err(Reply::CommandNotSupported) })
}

/// The bound address in a reply is of no use to a client of CONNECT; it is all zeros, as many servers send.
async fn answer(stream: &mut TcpStream, reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, ADDRESS_IPV4, 0, 0, 0, 0, 0, 0]).await
}

async fn read_array<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A string with its length in one byte before it.
async fn read_string(stream: &mut TcpStream) -> io::Result<String> {
    let [length] = read_array(stream).await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "SOCKS5 string is not UTF-8"))
}
