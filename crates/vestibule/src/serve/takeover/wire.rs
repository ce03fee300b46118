//! What two servers say to each other: frames over a Unix socket in the state directory.
//!
//! A frame is a kind, a length and that many bytes. Descriptors follow the frame that announces them.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

/// The version of what is said here. Servers of different versions do not take over from each other.
pub const PROTOCOL: u64 = 1;
/// Longest frame, in bytes: batches of log entries, and descriptions of networks with many clients.
const MAX_FRAME: usize = 64 << 20;
const JSON: u8 = b'J';
const LOG: u8 = b'L';

/// One frame.
#[derive(Debug)]
pub enum Frame {
    Json(Value),
    /// Lines of log entries.
    Log(Vec<u8>),
}

pub fn send(mut stream: &UnixStream, message: &Value) -> io::Result<()> {
    write(&mut stream, JSON, message.to_string().as_bytes())
}

pub fn send_log(mut stream: &UnixStream, lines: &[u8]) -> io::Result<()> {
    write(&mut stream, LOG, lines)
}

fn write(stream: &mut impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes();
    stream.write_all(&[kind, length[0], length[1], length[2], length[3]])?;
    stream.write_all(bytes)
}

/// The next frame; an error at the end.
pub fn receive(mut stream: &UnixStream) -> io::Result<Frame> {
    read(&mut stream)
}

/// The next frame, which must be a message.
pub fn receive_message(stream: &UnixStream) -> io::Result<Value> {
    match receive(stream)? {
        Frame::Json(message) => Ok(message),
        Frame::Log(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn read(stream: &mut impl Read) -> io::Result<Frame> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    match kind {
        JSON => Ok(Frame::Json(serde_json::from_slice(&bytes)?)),
        LOG => Ok(Frame::Log(bytes)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of an unknown kind")),
    }
}

/// What must be the same before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub api: SocketAddr,
    pub gateway: SocketAddr,
    pub front: SocketAddr,
    /// `auto`, `namespace` or `loopback`.
    pub network_mode: String,
    pub workers: u64,
}

impl Settings {
    pub fn to_json(&self) -> Value {
        json!({
            "protocol": PROTOCOL,
            "version": env!("CARGO_PKG_VERSION"),
            "schema": vestibule_store::SCHEMA_VERSION,
            "api": self.api,
            "gateway": self.gateway,
            "front": self.front,
            "networkMode": self.network_mode,
            "workers": self.workers,
        })
    }

    fn from_json(json: &Value) -> Option<Settings> {
        let address = |name: &str| json[name].as_str()?.parse().ok();
        Some(Settings {
            api: address("api")?,
            gateway: address("gateway")?,
            front: address("front")?,
            network_mode: json["networkMode"].as_str()?.to_owned(),
            workers: json["workers"].as_u64()?,
        })
    }
}

/// Why a server that introduces itself so cannot take over from one that was started with `asked` and listens at
/// `actual`. `None`: it can.
pub fn objection(hello: &Value, asked: &Settings, actual: &Settings) -> Option<String> {
    let own = asked.to_json();
    for (what, of) in [("protocol", "takes over by protocol"), ("schema", "keeps its state in schema")] {
        if hello[what] != own[what] {
            return Some(format!(
                "version {} {of} {}, and the running server, version {}, has {}: stop it and start the new one",
                hello["version"].as_str().unwrap_or("?"),
                hello[what],
                env!("CARGO_PKG_VERSION"),
                own[what],
            ));
        }
    }
    let Some(wanted) = Settings::from_json(hello) else {
        return Some("the new server's settings are not understood".to_owned());
    };
    let listeners = [
        ("--api-listen", wanted.api, asked.api, actual.api),
        ("--gateway-listen", wanted.gateway, asked.gateway, actual.gateway),
        ("--front-listen", wanted.front, asked.front, actual.front),
    ];
    for (flag, wanted, asked, actual) in listeners {
        if wanted != asked && wanted != actual {
            return Some(format!(
                "{flag} is {wanted}, and the running server was started with {asked} and listens on {actual}: a takeover \
                 keeps it"
            ));
        }
    }
    if wanted.network_mode != "auto" && wanted.network_mode != actual.network_mode {
        return Some(format!(
            "--network-mode is {}, and the running server has {}: a takeover keeps it",
            wanted.network_mode, actual.network_mode
        ));
    }
    if wanted.workers != actual.workers {
        return Some(format!(
            "--workers is {}, and the running server has {}, each with its own sockets: a takeover keeps it",
            wanted.workers, actual.workers
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> Settings {
        let at = |text: &str| text.parse().unwrap();
        Settings {
            api: at("127.0.0.1:0"),
            gateway: at("127.0.0.1:0"),
            front: at("127.0.0.1:0"),
            network_mode: "loopback".to_owned(),
            workers: 2,
        }
    }

    #[test]
    fn only_what_is_handed_over_must_be_the_same() {
        let asked = settings();
        let actual = Settings { api: "127.0.0.1:8470".parse().unwrap(), ..settings() };
        let why = |new: &Settings| objection(&new.to_json(), &asked, &actual);
        assert_eq!(why(&asked), None);
        assert_eq!(why(&actual), None, "where it really listens");
        assert_eq!(why(&Settings { network_mode: "auto".to_owned(), ..settings() }), None);
        let other = |change: fn(&mut Settings)| {
            let mut new = settings();
            change(&mut new);
            why(&new).unwrap()
        };
        assert!(
            other(|new| new.api = "127.0.0.1:8471".parse().unwrap())
                .starts_with("--api-listen is 127.0.0.1:8471")
        );
        assert!(
            other(|new| new.network_mode = "namespace".to_owned()).starts_with("--network-mode is namespace")
        );
        assert!(other(|new| new.workers = 3).starts_with("--workers is 3"));
        let mut hello = asked.to_json();
        hello["protocol"] = 2.into();
        assert!(objection(&hello, &asked, &actual).unwrap().contains("protocol"));
        assert!(objection(&json!({}), &asked, &actual).is_some());
    }

    #[test]
    fn frames_arrive_as_they_were_sent() {
        let (here, there) = UnixStream::pair().unwrap();
        send(&here, &json!({"a": 1})).unwrap();
        send_log(&here, b"{}\n").unwrap();
        drop(here);
        assert_eq!(receive_message(&there).unwrap(), json!({"a": 1}));
        assert!(matches!(receive(&there).unwrap(), Frame::Log(lines) if lines == b"{}\n"));
        assert!(receive(&there).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            // A length that is announced and does not come is an error too.
            let _ = read(&mut bytes.as_slice());
        }
    }
}
