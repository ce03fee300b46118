//! Load that h2load cannot make: a connection for each request, with and without TLS, and connections that only wait.
//!
//! Runs in a process of its own (`cargo xtask bench client …`), pinned beside the backend.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::{Failure, failure};

/// Threads that make connections at the same time.
const THREADS: u32 = 4;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET /0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const KEPT_REQUEST: &[u8] = b"GET /0 HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Runs `client connect ADDRESS MILLISECONDS plain|full|resumed` or `client hold ADDRESS COUNT`.
pub fn run(args: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["connect", address, millis, kind] => connect(address.parse()?, millis.parse()?, kind),
        ["hold", address, count] => hold(address.parse()?, count.parse()?),
        _ => Err(failure(
            "client connect ADDRESS MILLISECONDS plain|full|resumed, or client hold ADDRESS COUNT",
        )),
    }
}

/// Prints how many requests were answered and how many failed.
fn connect(address: SocketAddr, millis: u64, kind: &str) -> Result<(), Failure> {
    let tls = match kind {
        "plain" => None,
        "full" | "resumed" => Some(config(kind == "resumed")?),
        other => return Err(failure(format!("no kind of connection: {other}"))),
    };
    let until = Instant::now() + Duration::from_millis(millis);
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            // A session cache each: sharing one would hand a ticket to two connections.
            let tls = tls.as_ref().map(|config| Arc::new(ClientConfig::clone(config)));
            std::thread::spawn(move || {
                let (mut done, mut failed) = (0u64, 0u64);
                while Instant::now() < until {
                    match one(address, tls.as_ref()) {
                        Ok(()) => done += 1,
                        Err(_) => failed += 1,
                    }
                }
                (done, failed)
            })
        })
        .collect();
    let results = threads.into_iter().map(|thread| thread.join().unwrap_or((0, 1)));
    let (done, failed) = results.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{done} {failed}");
    Ok(())
}

fn one(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    match tls {
        None => ask(stream),
        Some(config) => {
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
            ask(StreamOwned::new(session, stream))
        }
    }
}

fn ask(mut stream: impl Read + Write) -> io::Result<()> {
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // Not every server ends TLS before it ends the connection.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(io::Error::other("not answered")) }
}

/// Opens connections, makes one request on each, says `held`, and keeps them until standard input ends.
fn hold(address: SocketAddr, count: usize) -> Result<(), Failure> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(KEPT_REQUEST)?;
        let mut answer = [0; 1024];
        if stream.read(&mut answer)? == 0 {
            return Err(failure("the proxy closed a connection that was to wait"));
        }
        held.push(stream);
    }
    println!("held");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn config(resume: bool) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(schemes)))
        .with_no_client_auth();
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

/// Trusts every certificate: who the proxy is has been settled, and what is measured is its own work.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
