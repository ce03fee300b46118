//! Encryption towards clients: which certificate a client sees.
//!
//! The certificate is chosen by the name the client asks for (SNI): one whose names match, a wildcard standing for one
//! label; without a name or a match the first of the list. A request for a host that another certificate covers does
//! not belong on the connection and is answered 421 (RFC 9110 section 15.5.20), so the choice can be asked for again.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Protocols offered by ALPN, the best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate chain with its key, and the names it is for.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// Lower case; `*.` in front stands for one label.
    names: Vec<String>,
}

impl Certificate {
    /// From a PEM chain, the leaf first, and a PEM private key. `names` are the DNS names of the leaf (subject
    /// alternative names, or its common name). Fails if the key does not belong to the leaf.
    pub fn from_pem(chain: &str, key: &str, names: Vec<String>) -> Result<Certificate, rustls::Error> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| rustls::Error::General(format!("bad certificate: {e}")))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|e| rustls::Error::General(format!("bad private key: {e}")))?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        Ok(Certificate::new(key, names))
    }

    /// From a key that was made elsewhere.
    pub fn new(key: CertifiedKey, names: Vec<String>) -> Certificate {
        let names = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        Certificate { key: Arc::new(key), names }
    }

    fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(parent) => {
                name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent)
            }
            None => pattern == name,
        })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Server side TLS with one or more certificates.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    choice: Arc<Choice>,
}

impl Tls {
    /// TLS 1.2 and 1.3, as Google's load balancers offer without an SSL policy, less the versions that RFC 8996 forbids.
    /// `certificates` must not be empty; the first is the default.
    pub fn new(certificates: Vec<Certificate>) -> Result<Tls, rustls::Error> {
        if certificates.is_empty() {
            return Err(rustls::Error::General("no certificate".to_owned()));
        }
        let choice = Arc::new(Choice(certificates));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(choice.clone());
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // Resumption by ticket alone: a session store would be a lock that all workers share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new()?;
        Ok(Tls { config: Arc::new(config), choice })
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Whether a request for `host` (without port) may come on a connection that was made for `sni`.
    pub(crate) fn may_serve(&self, sni: &str, host: &str) -> bool {
        self.choice.0.len() == 1 || self.choice.index(&sni.to_ascii_lowercase()) == self.choice.index(host)
    }
}

#[derive(Debug)]
struct Choice(Vec<Certificate>);

impl Choice {
    fn index(&self, name: &str) -> usize {
        self.0.iter().position(|certificate| certificate.covers(name)).unwrap_or(0)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = hello.server_name().map_or(0, |name| self.index(&name.to_ascii_lowercase()));
        self.0.get(index).map(|certificate| certificate.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        Certificate::from_pem(&made.cert.pem(), &made.signing_key.serialize_pem(), names).unwrap()
    }

    #[test]
    fn the_name_chooses_and_the_first_is_the_default() {
        let tls =
            Tls::new(vec![certificate(&["a.example"]), certificate(&["*.b.example", "B.example"])]).unwrap();
        for (name, index) in [
            ("a.example", 0),
            ("x.b.example", 1),
            ("b.example", 1),
            ("x.y.b.example", 0),
            (".b.example", 0),
            ("c", 0),
        ] {
            assert_eq!(tls.choice.index(name), index, "{name}");
        }
        assert!(tls.may_serve("x.B.example", "b.example") && tls.may_serve("a.example", "unknown"));
        assert!(!tls.may_serve("a.example", "b.example"));
    }

    #[test]
    fn a_foreign_key_is_refused() {
        let make = || rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let (one, other) = (make(), make());
        assert!(Certificate::from_pem(&one.cert.pem(), &other.signing_key.serialize_pem(), vec![]).is_err());
        assert!(Certificate::from_pem("", &one.signing_key.serialize_pem(), vec![]).is_err());
        assert!(Tls::new(vec![]).is_err());
    }
}
