//! A client inside the VPC: requests through the network's gateway, from the client's own address.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::secret::Secret;
use crate::vm::Vm;
use crate::wire::{self, Endpoint, Reply, Request};

/// What a client trusts over TLS.
pub type Trust = Arc<ClientConfig>;

/// A client with an address of its own.
pub struct Client {
    gateway: Endpoint,
    pub address: String,
}

/// A URL taken apart.
struct Url<'u> {
    https: bool,
    host: &'u str,
    port: u16,
    target: &'u str,
}

impl<'u> Url<'u> {
    fn parse(url: &'u str) -> Option<Url<'u>> {
        let (scheme, rest) = url.split_once("://")?;
        let https = scheme == "https";
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, target) = rest.split_at(slash);
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, if https { 443 } else { 80 }),
        };
        Some(Url { https, host, port, target: if target.is_empty() { "/" } else { target } })
    }
}

impl Client {
    pub fn new(vm: &Vm) -> Result<Client, String> {
        let url = &vm.gateway.as_ref().ok_or("the client has no gateway")?.http;
        let gateway = Endpoint::parse(url).ok_or("the gateway's URL is not understood")?;
        Ok(Client { gateway, address: vm.address.clone() })
    }

    /// GET, with an identity token where there is one.
    pub fn get(&self, url: &str, token: Option<&Secret>, trust: &Trust) -> io::Result<Reply> {
        let parsed =
            Url::parse(url).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a URL"))?;
        let stream = self.gateway.tunnel(parsed.host, parsed.port)?;
        ask(stream, &parsed, token, trust)
    }
}

/// GET from outside of every network: the URL's host stands at `front`.
pub fn get_from_outside(url: &str, front: &str, token: Option<&Secret>, trust: &Trust) -> io::Result<Reply> {
    let parsed = Url::parse(url).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a URL"))?;
    let stream = Endpoint { authority: front.to_owned(), user_info: None }.connect()?;
    ask(stream, &parsed, token, trust)
}

fn ask(stream: TcpStream, url: &Url<'_>, token: Option<&Secret>, trust: &Trust) -> io::Result<Reply> {
    let mut headers = vec![
        ("Accept".to_owned(), "application/json".to_owned()),
        ("Connection".to_owned(), "close".to_owned()),
    ];
    if let Some(token) = token {
        headers.push(("Authorization".to_owned(), format!("Bearer {}", token.reveal())));
    }
    let request = Request { method: "GET", target: url.target, host: url.host, headers, body: "" };
    if !url.https {
        return wire::exchange(stream, &request);
    }
    let name = ServerName::try_from(url.host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(trust.clone(), name).map_err(io::Error::other)?;
    wire::exchange(StreamOwned::new(connection, stream), &request)
}

/// Trust in the certificates of these PEM texts. Some of a machine's own may be unfit; they are left out.
pub fn trust(pems: &[&str]) -> Result<Trust, String> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::parse("http://10.0.0.100/api/x?y").unwrap();
        assert_eq!((url.https, url.host, url.port, url.target), (false, "10.0.0.100", 80, "/api/x?y"));
        let url = Url::parse("https://h:8443").unwrap();
        assert_eq!((url.https, url.host, url.port, url.target), (true, "h", 8443, "/"));
    }
}
