//! Encryption towards clients: which certificate a client sees.
//!
//! The certificate is chosen by the name the client asks for (SNI): one whose names match, a wildcard standing for one
//! label; without a name or a match the first of the list. A request for a host that another certificate covers does
//! not belong on the connection and is answered 421 (RFC 9110 section 15.5.20), so the choice can be asked for again.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CipherSuite, NamedGroup, ServerConfig, SignatureAlgorithm, SupportedCipherSuite,
    SupportedProtocolVersion, version,
};

use crate::client_certificate::Verifier;
pub use crate::client_certificate::{ClientValidation, ClientValidationMode, Trust};

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

/// A version of TLS that can be offered. What is older is forbidden (RFC 8996).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    #[default]
    Tls12,
    Tls13,
}

/// What clients are offered: `sslPolicies`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The lowest version.
    pub lowest: Version,
    /// Suites of TLS 1.2 by their registered names; empty: all there are. Names of suites that do not exist here have no
    /// effect. The suites of TLS 1.3 are on wherever that version is.
    pub suites: Vec<String>,
    /// Only what FIPS 140 approves, in TLS 1.3 too: no ChaCha20 and no X25519.
    pub fips: bool,
}

impl Policy {
    /// Whether a suite of this registered name can be offered.
    pub fn has(name: &str) -> bool {
        ring::ALL_CIPHER_SUITES.iter().any(|suite| registered_name(*suite) == name)
    }

    fn provider(&self) -> CryptoProvider {
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(|suite| self.allows(*suite));
        if self.fips {
            provider.kx_groups.retain(|group| group.name() != NamedGroup::X25519);
        }
        provider
    }

    fn allows(&self, suite: SupportedCipherSuite) -> bool {
        let name = registered_name(suite);
        if suite.tls13().is_some() {
            return !self.fips || !name.contains("CHACHA20");
        }
        self.lowest == Version::Tls12 && (self.suites.is_empty() || self.suites.contains(&name))
    }

    fn versions(&self, provider: &CryptoProvider) -> &'static [&'static SupportedProtocolVersion] {
        let older = provider.cipher_suites.iter().any(|suite| suite.tls13().is_none());
        if older { ALL_VERSIONS } else { TLS13_ONLY }
    }
}

static ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// The IANA name of a suite: rustls writes those of TLS 1.3 as `TLS13_…`.
pub(crate) fn registered_name(suite: SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or(name.clone(), |rest| format!("TLS_{rest}"))
}

/// Server side TLS with one or more certificates.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    choice: Arc<Choice>,
    /// Present where clients are asked for certificates.
    validation: Option<Arc<ClientValidation>>,
}

impl Tls {
    /// TLS 1.2 and 1.3, as Google's load balancers offer without an SSL policy, less the versions that RFC 8996 forbids.
    /// `certificates` must not be empty; the first is the default.
    pub fn new(certificates: Vec<Certificate>) -> Result<Tls, rustls::Error> {
        Tls::with_policy(certificates, &Policy::default())
    }

    /// As [`Tls::new`], with no more than the policy allows.
    pub fn with_policy(certificates: Vec<Certificate>, policy: &Policy) -> Result<Tls, rustls::Error> {
        Tls::with_clients(certificates, policy, None)
    }

    /// As [`Tls::with_policy`]; clients are asked for certificates.
    pub fn with_clients(
        certificates: Vec<Certificate>,
        policy: &Policy,
        validation: Option<ClientValidation>,
    ) -> Result<Tls, rustls::Error> {
        let validation = validation.map(Arc::new);
        if certificates.is_empty() {
            return Err(rustls::Error::General("no certificate".to_owned()));
        }
        let choice = Arc::new(Choice(certificates));
        let provider = policy.provider();
        let versions = policy.versions(&provider);
        let algorithms = provider.signature_verification_algorithms;
        let builder =
            ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)?;
        let builder = match validation.clone() {
            None => builder.with_no_client_auth(),
            Some(validation) => {
                builder.with_client_cert_verifier(Arc::new(Verifier { validation, algorithms }))
            }
        };
        let mut config = builder.with_cert_resolver(choice.clone());
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // Resumption by ticket alone: a session store would be a lock that all workers share. A ticket holds the client's
        // certificate, and opens with the keys of this very object alone.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new()?;
        Ok(Tls { config: Arc::new(config), choice, validation })
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    pub(crate) fn validation(&self) -> Option<&ClientValidation> {
        self.validation.as_deref()
    }

    /// Whether a request for `host` (without port) may come on a connection that was made for `sni`: the certificate
    /// that was shown there is for that host too, or is the one that it would see.
    pub(crate) fn may_serve(&self, sni: &str, host: &str) -> bool {
        let choice = &self.choice;
        choice.0.len() == 1 || {
            let shown = choice.index(&sni.to_ascii_lowercase());
            shown == choice.index(host) || choice.0.get(shown).is_some_and(|shown| shown.covers(host))
        }
    }
}

#[derive(Debug)]
struct Choice(Vec<Certificate>);

impl Choice {
    fn index(&self, name: &str) -> usize {
        self.0.iter().position(|certificate| certificate.covers(name)).unwrap_or(0)
    }

    /// The certificate for a client that asks for `name`: the first for that name whose key the client can check. Two
    /// certificates of one name serve clients with and without ECDSA.
    fn pick(&self, name: Option<&str>, usable: impl Fn(&CertifiedKey) -> bool) -> Option<&Certificate> {
        let fitting = || {
            let name = name.map(str::to_ascii_lowercase);
            self.0.iter().filter(move |held| name.as_deref().is_some_and(|name| held.covers(name)))
        };
        fitting().find(|held| usable(&held.key)).or_else(|| fitting().next()).or(self.0.first())
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pick(hello.server_name(), |key| is_usable(key, &hello)).map(|held| held.key.clone())
    }
}

/// Whether the client knows the key's kind: it must take its signatures, and before TLS 1.3 the cipher suite names the
/// kind too.
fn is_usable(key: &CertifiedKey, hello: &ClientHello<'_>) -> bool {
    let word = match key.key.algorithm() {
        SignatureAlgorithm::RSA => "_RSA_",
        _ => "_ECDSA_",
    };
    let fits = |suite: &CipherSuite| {
        let name = format!("{suite:?}");
        name.starts_with("TLS13_") || name.contains(word)
    };
    key.key.choose_scheme(hello.signature_schemes()).is_some() && hello.cipher_suites().iter().any(fits)
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
    fn a_certificate_serves_all_its_names_on_one_connection() {
        let both = certificate(&["a.example", "b.example"]);
        let tls = Tls::new(vec![certificate(&["b.example"]), both]).unwrap();
        assert!(tls.may_serve("a.example", "b.example"));
        assert!(!tls.may_serve("b.example", "a.example"));
    }

    #[test]
    fn two_certificates_of_one_name_are_for_different_clients() {
        let choice = Choice(vec![certificate(&["z"]), certificate(&["a"]), certificate(&["a"])]);
        let second = choice.0[2].key.clone();
        let only_second = |key: &CertifiedKey| std::ptr::eq(key, &*second);
        let picked = |name| choice.pick(Some(name), only_second).map(|held| Arc::ptr_eq(&held.key, &second));
        assert_eq!((picked("A"), picked("z"), picked("?")), (Some(true), Some(false), Some(false)));
        let first = choice.pick(Some("a"), |_| false).map(|held| Arc::ptr_eq(&held.key, &choice.0[1].key));
        assert_eq!(first, Some(true));
    }

    #[test]
    fn a_policy_leaves_what_it_names() {
        let suites = |policy: Policy| -> Vec<String> {
            policy.provider().cipher_suites.iter().map(|suite| registered_name(*suite)).collect()
        };
        assert_eq!(suites(Policy::default()).len(), 9);
        let newest = Policy { lowest: Version::Tls13, ..Policy::default() };
        assert_eq!(newest.versions(&newest.provider()).len(), 1);
        let one =
            Policy { suites: vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()], ..Policy::default() };
        assert_eq!((suites(one.clone()).len(), one.versions(&one.provider()).len()), (4, 2));
        // Nothing of what is asked for exists: TLS 1.3 is left.
        let none = Policy { suites: vec!["TLS_RSA_WITH_3DES_EDE_CBC_SHA".into()], ..Policy::default() };
        assert_eq!(none.versions(&none.provider()).len(), 1);
        let fips = Policy { fips: true, ..Policy::default() };
        assert!(
            suites(fips.clone())
                .iter()
                .filter(|name| name.starts_with("TLS_A") || name.starts_with("TLS_C"))
                .count()
                == 2
        );
        assert!(fips.provider().kx_groups.iter().all(|group| group.name() != NamedGroup::X25519));
        assert!(
            Policy::has("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")
                && !Policy::has("TLS_RSA_WITH_AES_128_CBC_SHA")
        );
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
