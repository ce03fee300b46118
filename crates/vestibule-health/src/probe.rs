//! One probe of each kind. Whatever is not the expected answer is an error that says why.

mod http1;
mod http2;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use vestibule_vpc::Vpc;

use crate::check::{Kind, Reach, Target, Text};

/// What stands before a probe with `PROXY_V1`. Google's probers give no addresses.
const PROXY_HEADER: &[u8] = b"PROXY UNKNOWN\r\n";

/// What probes work with.
pub(crate) struct Surroundings {
    vpc: Vpc,
    /// For TLS without HTTP/2, and for HTTP/2.
    tls: TlsConnector,
    tls_h2: TlsConnector,
}

impl Surroundings {
    pub(crate) fn new(vpc: Vpc) -> Result<Surroundings, rustls::Error> {
        let connector = |protocols: &[&[u8]]| tls::config(protocols).map(Arc::new).map(TlsConnector::from);
        Ok(Surroundings { vpc, tls: connector(&[])?, tls_h2: connector(&[b"h2"])? })
    }

    async fn connect(&self, reach: &Reach) -> io::Result<TcpStream> {
        match reach {
            Reach::Machine(address) => TcpStream::connect(address).await,
            Reach::Name(name, port) => TcpStream::connect((name.as_str(), *port)).await,
            Reach::Network { from, .. } if from.is_unspecified() => {
                Err(io::Error::new(io::ErrorKind::NetworkUnreachable, "no active proxy-only subnetwork"))
            }
            Reach::Network { network, from, to } => {
                let stream = TcpStream::from_std(self.vpc.connect_from(network, *from, *to)?)?;
                stream.writable().await?;
                stream.take_error()?.map_or(Ok(stream), Err)
            }
        }
    }
}

/// Everything that is the same for every probe of a target.
pub(crate) struct Prepared<'t> {
    target: &'t Target,
    /// The host that a request names.
    host: String,
}

impl<'t> Prepared<'t> {
    pub(crate) fn new(target: &'t Target) -> Prepared<'t> {
        let wanted = match &target.check.kind {
            Kind::Http(http) | Kind::Https(http) | Kind::Http2(http) => http.host.as_str(),
            _ => "",
        };
        let host = match &target.reach {
            _ if !wanted.is_empty() => wanted.to_owned(),
            Reach::Network { to, .. } => SocketAddr::from(*to).to_string(),
            Reach::Machine(address) => address.to_string(),
            Reach::Name(name, _) => name.clone(),
        };
        Prepared { target, host }
    }

    /// Asks once. An error is anything but the expected answer.
    pub(crate) async fn probe(&self, surroundings: &Surroundings) -> io::Result<()> {
        let check = &self.target.check;
        let mut stream = surroundings.connect(&self.target.reach).await?;
        stream.set_nodelay(true)?;
        if check.proxy_header {
            stream.write_all(PROXY_HEADER).await?;
        }
        match &check.kind {
            Kind::Tcp(text) => exchange(stream, text).await,
            Kind::Ssl(text) => exchange(surroundings.tls.connect(tls::name(), stream).await?, text).await,
            Kind::Http(http) => http1::get(stream, http, &self.host).await,
            Kind::Https(http) => {
                http1::get(surroundings.tls.connect(tls::name(), stream).await?, http, &self.host).await
            }
            Kind::Http2(http) => {
                let stream = surroundings.tls_h2.connect(tls::name(), stream).await?;
                http2::get(stream, http, &self.host).await
            }
            Kind::Grpc { service } => http2::grpc(stream, "http", service, &self.host).await,
            Kind::GrpcTls { service } => {
                let stream = surroundings.tls_h2.connect(tls::name(), stream).await?;
                http2::grpc(stream, "https", service, &self.host).await
            }
        }
    }
}

/// Sends a text and waits for what the answer must begin with.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &Text) -> io::Result<()> {
    if !text.request.is_empty() {
        stream.write_all(text.request.as_bytes()).await?;
        stream.flush().await?;
    }
    let mut answer = vec![0; text.response.len()];
    stream.read_exact(&mut answer).await?;
    if answer == text.response.as_bytes() { Ok(()) } else { Err(io::Error::other("the answer is another")) }
}
