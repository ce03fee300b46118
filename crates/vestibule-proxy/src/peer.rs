//! Who is at the other end of a client connection: formatted once a connection, copied into every request.

use std::net::SocketAddr;

use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use crate::client_identity::ClientCertificate;
use crate::tls::{Tls, registered_name};

/// The client of a connection.
pub(crate) struct Peer {
    /// The client's address as the network knows it.
    pub(crate) address: SocketAddr,
    /// `10.0.0.5`, without port.
    pub(crate) ip: String,
    /// `10.0.0.5:49152`.
    pub(crate) text: String,
    pub(crate) version: Version,
    /// `None` on an unencrypted connection.
    pub(crate) tls: Option<Box<Handshake>>,
}

/// The version of HTTP that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

impl Version {
    /// As logs and header variables tell it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Version::Http1 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// What a TLS handshake settled.
pub(crate) struct Handshake {
    /// Lower case; empty when the client named no server.
    pub(crate) sni: String,
    /// `TLSv1.3`.
    pub(crate) version: &'static str,
    /// The suite's registered name.
    pub(crate) cipher: String,
    /// The suite's registered number.
    pub(crate) cipher_number: u16,
    /// HTTP/2 was agreed on (ALPN).
    pub(crate) http2: bool,
    /// A session was resumed.
    pub(crate) resumed: bool,
    /// Present where clients are asked for certificates.
    pub(crate) client: Option<Box<ClientCertificate>>,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, version: Version, tls: Option<Box<Handshake>>) -> Peer {
        Peer { address, ip: address.ip().to_string(), text: address.to_string(), version, tls }
    }

    /// The scheme that the client used.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl Handshake {
    pub(crate) fn of(connection: &ServerConnection, tls: &Tls) -> Handshake {
        let suite = connection.negotiated_cipher_suite();
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let client = |validation| Box::new(ClientCertificate::of(connection, validation, !resumed));
        Handshake {
            sni: connection.server_name().unwrap_or_default().to_ascii_lowercase(),
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "",
            },
            cipher: suite.map(registered_name).unwrap_or_default(),
            cipher_number: suite.map_or(0, |suite| u16::from(suite.suite())),
            http2: connection.alpn_protocol() == Some(b"h2"),
            resumed,
            client: tls.validation().map(client),
        }
    }
}
