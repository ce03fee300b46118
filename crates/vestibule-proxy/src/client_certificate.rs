//! Certificates of clients (mutual TLS): who is trusted, and why a client is not.
//!
//! A handshake asks for a certificate wherever a listener has a [`ClientValidation`]. That the client holds the private
//! key is always proven. Whether the chain is trusted is decided here, with the limits that Google documents for load
//! balancers, around rustls's own path building (`webpki`), which searches from the leaf towards the trust anchors
//! through what the client sent and what the trust config holds. webpki allows six intermediates on a path where Google
//! says eight; nobody's chain is that long.
//!
//! A resumed session shows the certificate of its first handshake. It is validated again: time has passed since. What it
//! was trusted by cannot have changed, for another trust config is another [`Tls`](crate::tls::Tls) with other ticket
//! keys.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;
use std::{fmt, io};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature as verify_12, verify_tls13_signature as verify_13,
};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Most intermediate certificates that a client may send (Google's documented limit).
const MOST_SENT: usize = 10;

/// Most intermediate certificates of one subject and one key (Google's documented limit).
const MOST_ALIKE: usize = 10;

/// Most name constraints of an intermediate certificate (Google's documented limit).
const MOST_NAME_CONSTRAINTS: usize = 10;

/// Sizes of RSA keys, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// P-256 and P-384.
const CURVES: [&str; 2] = ["1.2.840.10045.3.1.7", "1.3.132.0.34"];

/// `clientValidationMode` of a server TLS policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientValidationMode {
    /// `ALLOW_INVALID_OR_MISSING_CLIENT_CERT`: whoever comes is served; headers tell what is known of him.
    AllowInvalidOrMissing,
    /// `REJECT_INVALID`: without a trusted certificate there is no connection.
    RejectInvalid,
}

/// How clients are asked for certificates: `mtlsPolicy` of a server TLS policy.
#[derive(Debug)]
pub struct ClientValidation {
    pub mode: ClientValidationMode,
    /// `clientValidationTrustConfig`. Without one no certificate is trusted.
    pub trust: Option<Trust>,
}

/// What certificates of clients are validated against: a trust config.
#[derive(Default)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
    allowlisted: HashSet<Vec<u8>>,
    /// How many of the intermediates share subject and key.
    alike: HashMap<Vec<u8>, usize>,
    /// An intermediate has too many name constraints.
    constrained: bool,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = (self.anchors.len(), self.intermediates.len(), self.allowlisted.len());
        f.debug_tuple("Trust").field(&counts).finish()
    }
}

/// Why a certificate is not trusted, in Google's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distrust {
    NotProvided,
    /// There is no trust config.
    NotPerformed,
    Failed,
    ChainTooLong,
    InvalidEku,
    RsaKeySize,
    Curve,
    KeyAlgorithm,
    PkiTooLarge,
    NameConstraints,
    SearchLimit,
}

impl Distrust {
    /// The value of `client_cert_error`, and the details of a connection that was refused.
    pub(crate) fn token(self) -> &'static str {
        match self {
            Distrust::NotProvided => "client_cert_not_provided",
            Distrust::NotPerformed => "client_cert_validation_not_performed",
            Distrust::Failed => "client_cert_validation_failed",
            Distrust::ChainTooLong => "client_cert_chain_exceeded_limit",
            Distrust::InvalidEku => "client_cert_chain_invalid_eku",
            Distrust::RsaKeySize => "client_cert_invalid_rsa_key_size",
            Distrust::Curve => "client_cert_unsupported_elliptic_curve_key",
            Distrust::KeyAlgorithm => "client_cert_unsupported_key_algorithm",
            Distrust::PkiTooLarge => "client_cert_pki_too_large",
            Distrust::NameConstraints => "client_cert_chain_max_name_constraints_exceeded",
            Distrust::SearchLimit => "client_cert_validation_search_limit_exceeded",
        }
    }

    /// Why a handshake failed, if it was for the client's certificate.
    pub(crate) fn behind(failure: &io::Error) -> Option<Distrust> {
        match failure.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::NoCertificatesPresented => Some(Distrust::NotProvided),
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => {
                why.downcast_ref::<Distrust>().copied()
            }
            // The signature with its key is wrong, or its key is one that cannot be checked.
            rustls::Error::InvalidCertificate(_) => Some(Distrust::Failed),
            _ => None,
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

impl Error for Distrust {}

impl From<webpki::Error> for Distrust {
    fn from(error: webpki::Error) -> Distrust {
        use webpki::Error as Fault;
        match error {
            Fault::RequiredEkuNotFoundContext(_) | Fault::EmptyEkuExtension => Distrust::InvalidEku,
            Fault::MaximumPathDepthExceeded
            | Fault::MaximumSignatureChecksExceeded
            | Fault::MaximumPathBuildCallsExceeded
            | Fault::MaximumNameConstraintComparisonsExceeded => Distrust::SearchLimit,
            _ => Distrust::Failed,
        }
    }
}

impl Trust {
    /// A trust config's certificates. Fails if an anchor is no certificate.
    pub fn new(
        anchors: &[CertificateDer<'_>],
        intermediates: Vec<CertificateDer<'static>>,
        allowlisted: &[CertificateDer<'_>],
    ) -> Result<Trust, rustls::Error> {
        let anchors = anchors.iter().map(|anchor| Ok(webpki::anchor_from_trusted_cert(anchor)?.to_owned()));
        let anchors = anchors.collect::<Result<_, webpki::Error>>();
        let mut trust = Trust {
            anchors: anchors.map_err(|error| rustls::Error::General(format!("bad trust anchor: {error}")))?,
            allowlisted: allowlisted.iter().map(|certificate| certificate.to_vec()).collect(),
            ..Trust::default()
        };
        for intermediate in &intermediates {
            if let Ok((_, parsed)) = X509Certificate::from_der(intermediate) {
                trust.constrained |= is_over_constrained(&parsed);
                *trust.alike.entry(identity(&parsed)).or_default() += 1;
            }
        }
        trust.intermediates = intermediates;
        Ok(trust)
    }

    fn validate(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Distrust> {
        let parsed = parse(leaf)?;
        if self.allowlisted.contains(leaf.as_ref()) {
            return Ok(());
        }
        if sent.len() > MOST_SENT {
            return Err(Distrust::ChainTooLong);
        }
        check_key(&parsed)?;
        self.check_intermediates(sent)?;
        if !is_for_clients(&parsed) {
            return Err(Distrust::InvalidEku);
        }
        let intermediates: Vec<CertificateDer<'_>> =
            sent.iter().chain(&self.intermediates).map(|der| CertificateDer::from(der.as_ref())).collect();
        EndEntityCert::try_from(leaf)?.verify_for_usage(
            algorithms.all,
            &self.anchors,
            &intermediates,
            now,
            KeyUsage::client_auth(),
            None,
            None,
        )?;
        Ok(())
    }

    fn check_intermediates(&self, sent: &[CertificateDer<'_>]) -> Result<(), Distrust> {
        let mut alike = self.alike.clone();
        let mut constrained = self.constrained;
        for certificate in sent {
            let parsed = parse(certificate)?;
            check_key(&parsed)?;
            constrained |= is_over_constrained(&parsed);
            *alike.entry(identity(&parsed)).or_default() += 1;
        }
        match alike.values().any(|count| *count > MOST_ALIKE) {
            true => Err(Distrust::PkiTooLarge),
            false if constrained => Err(Distrust::NameConstraints),
            false => Ok(()),
        }
    }
}

fn parse<'c>(certificate: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, Distrust> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|_| Distrust::Failed)
}

/// Subject and key.
fn identity(certificate: &X509Certificate<'_>) -> Vec<u8> {
    [certificate.subject().as_raw(), certificate.public_key().raw].concat()
}

fn is_over_constrained(certificate: &X509Certificate<'_>) -> bool {
    let Ok(Some(constraints)) = certificate.name_constraints() else { return false };
    let count = |trees: &Option<Vec<_>>| trees.as_ref().map_or(0, Vec::len);
    let constraints = constraints.value;
    count(&constraints.permitted_subtrees) + count(&constraints.excluded_subtrees) > MOST_NAME_CONSTRAINTS
}

/// The certificate says that it is for clients (extended key usage). Saying nothing is not enough.
fn is_for_clients(certificate: &X509Certificate<'_>) -> bool {
    matches!(certificate.extended_key_usage(), Ok(Some(usage)) if usage.value.client_auth)
}

fn check_key(certificate: &X509Certificate<'_>) -> Result<(), Distrust> {
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if RSA_BITS.contains(&rsa.key_size()) => Ok(()),
        Ok(PublicKey::RSA(_)) => Err(Distrust::RsaKeySize),
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|named| named.as_oid().ok());
            match curve.is_some_and(|curve| CURVES.contains(&curve.to_id_string().as_str())) {
                true => Ok(()),
                false => Err(Distrust::Curve),
            }
        }
        _ => Err(Distrust::KeyAlgorithm),
    }
}

impl ClientValidation {
    /// Whether a certificate is trusted now, with what the client sent behind it.
    pub(crate) fn validate(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Distrust> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        let trust = self.trust.as_ref().ok_or(Distrust::NotPerformed)?;
        trust.validate(leaf, sent, now, &algorithms)
    }
}

/// rustls's view of a [`ClientValidation`].
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) validation: Arc<ClientValidation>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.validation.mode == ClientValidationMode::RejectInvalid
    }

    // None: an allowlisted certificate may be anybody's, and clients leave out what no hint names.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.validation.mode == ClientValidationMode::RejectInvalid {
            self.validation.validate(leaf, sent, now).map_err(|distrust| {
                rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(distrust))))
            })?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_12(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_13(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "client_certificate_tests.rs"]
mod tests;
