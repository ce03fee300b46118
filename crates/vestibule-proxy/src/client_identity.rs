//! What is told of a client's certificate: the variables `client_cert_…` of header actions, and log entries.
//!
//! Everything is formatted at the first question and kept for the connection. Of a certificate that is not trusted only
//! the fingerprint is told: a name that nobody vouches for must not look like an identity. Values that are longer than
//! Google documents are left empty, and the error says which.

use std::cell::OnceCell;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use rustls::ServerConnection;
use rustls::pki_types::{CertificateDer, UnixTime};
use vestibule_logs::json::Object;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::client_certificate::{ClientValidation, ClientValidationMode, Distrust};

/// The front of the variables' names.
pub(crate) const PREFIX: &str = "client_cert_";

/// Longest serial number, in bytes.
const LONGEST_SERIAL: usize = 50;
/// Longest SPIFFE ID, in bytes (also the limit of its standard).
const LONGEST_SPIFFE_ID: usize = 2048;
/// Longest list of alternative names, and longest distinguished name, as sent; in bytes.
const LONGEST_NAMES: usize = 512;
/// Longest leaf, and longest chain with its leaf, in bytes before they are encoded.
const LONGEST_CHAIN: usize = 16 * 1024;

/// The certificate that a client showed in a handshake, or that it showed none.
pub(crate) struct ClientCertificate {
    /// The leaf first; empty: none was shown.
    chain: Vec<CertificateDer<'static>>,
    verdict: Result<(), Distrust>,
    values: OnceCell<Box<Values>>,
}

/// Values of variables, as they are sent.
#[derive(Debug, Default)]
struct Values {
    error: String,
    fingerprint: String,
    serial_number: String,
    spiffe_id: String,
    uri_sans: String,
    dnsname_sans: String,
    not_before: String,
    not_after: String,
    issuer: String,
    subject: String,
    leaf: String,
    chain: String,
}

impl ClientCertificate {
    /// What a handshake showed. `is_new`: the certificate was validated in this very handshake as far as the mode asks.
    pub(crate) fn of(
        connection: &ServerConnection,
        validation: &ClientValidation,
        is_new: bool,
    ) -> ClientCertificate {
        let chain = connection.peer_certificates().unwrap_or_default().to_vec();
        let rejects = validation.mode == ClientValidationMode::RejectInvalid;
        let verdict = match chain.split_first() {
            None => Err(Distrust::NotProvided),
            Some(_) if is_new && rejects => Ok(()),
            Some((leaf, sent)) => validation.validate(leaf, sent, now()),
        };
        ClientCertificate { chain, verdict, values: OnceCell::new() }
    }

    /// Why a client must not stay where only trusted clients may.
    pub(crate) fn verdict(&self) -> Result<(), Distrust> {
        self.verdict
    }

    /// Appends the value of a variable of this name without its [`PREFIX`].
    pub(crate) fn write(&self, name: &str, out: &mut Vec<u8>) {
        let values = self.values();
        let value = match name {
            "present" => flag(!self.chain.is_empty()),
            "chain_verified" => flag(self.verdict.is_ok()),
            "error" => &values.error,
            "sha256_fingerprint" => &values.fingerprint,
            "serial_number" => &values.serial_number,
            "spiffe_id" => &values.spiffe_id,
            "uri_sans" => &values.uri_sans,
            "dnsname_sans" => &values.dnsname_sans,
            "valid_not_before" => &values.not_before,
            "valid_not_after" => &values.not_after,
            "issuer_dn" => &values.issuer,
            "subject_dn" => &values.subject,
            "leaf" => &values.leaf,
            "chain" => &values.chain,
            _ => "",
        };
        out.extend_from_slice(value.as_bytes());
    }

    /// Writes the members of `mtls` of a log entry. Those without a value are left out.
    pub(crate) fn log(&self, fields: &mut Object<'_>) {
        let values = self.values();
        let members = [
            ("clientCertPresent", flag(!self.chain.is_empty())),
            ("clientCertChainVerified", flag(self.verdict.is_ok())),
            ("clientCertError", &values.error),
            ("clientCertSha256Fingerprint", &values.fingerprint),
            ("clientCertSerialNumber", &values.serial_number),
            ("clientCertSpiffeId", &values.spiffe_id),
            ("clientCertUriSans", &values.uri_sans),
            ("clientCertDnsnameSans", &values.dnsname_sans),
            ("clientCertValidStartTime", &values.not_before),
            ("clientCertValidEndTime", &values.not_after),
            ("clientCertIssuerDn", &values.issuer),
            ("clientCertSubjectDn", &values.subject),
        ];
        for (name, value) in members.into_iter().filter(|(_, value)| !value.is_empty()) {
            fields.str(name, value);
        }
    }

    fn values(&self) -> &Values {
        self.values.get_or_init(|| Box::new(Values::of(&self.chain, self.verdict)))
    }
}

/// This moment, as certificates count it.
pub(crate) fn now() -> UnixTime {
    let seconds = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn flag(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

impl Values {
    fn of(chain: &[CertificateDer<'_>], verdict: Result<(), Distrust>) -> Values {
        let mut values = Values::default();
        if let Err(distrust) = verdict {
            values.error = distrust.token().to_owned();
        }
        let Some((leaf, sent)) = chain.split_first() else { return values };
        values.fingerprint = STANDARD_NO_PAD.encode(digest(&SHA256, leaf));
        if verdict.is_ok()
            && let Ok((_, parsed)) = X509Certificate::from_der(leaf)
        {
            values.read(&parsed);
            values.hand_on(leaf, sent);
        }
        values
    }

    fn read(&mut self, certificate: &X509Certificate<'_>) {
        let serial = certificate.raw_serial();
        let zeros = serial.iter().take_while(|byte| **byte == 0).count();
        let serial: String = serial[zeros..].iter().map(|byte| format!("{byte:02x}")).collect();
        self.serial_number = self.within(serial, LONGEST_SERIAL, "serial_number");
        self.read_names(certificate);
        let validity = certificate.validity();
        self.not_before = moment(validity.not_before.timestamp());
        self.not_after = moment(validity.not_after.timestamp());
        let issuer = STANDARD_NO_PAD.encode(certificate.issuer().as_raw());
        self.issuer = self.within(issuer, LONGEST_NAMES, "issuer_dn");
        let subject = STANDARD_NO_PAD.encode(certificate.subject().as_raw());
        self.subject = self.within(subject, LONGEST_NAMES, "subject_dn");
    }

    /// Alternative names.
    fn read_names(&mut self, certificate: &X509Certificate<'_>) {
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return };
        let (mut spiffe, mut uris, mut dns) = (Vec::new(), Vec::new(), Vec::new());
        for name in &names.value.general_names {
            match name {
                GeneralName::URI(uri) if uri.starts_with(SPIFFE) => spiffe.push(*uri),
                GeneralName::URI(uri) => uris.push(STANDARD_NO_PAD.encode(uri)),
                GeneralName::DNSName(name) => dns.push(STANDARD_NO_PAD.encode(name)),
                _ => {}
            }
        }
        // A certificate of two identities has none (X509-SVID section 2).
        if let [id] = spiffe[..] {
            let id = self.within(id.to_owned(), LONGEST_SPIFFE_ID, "spiffe_id");
            self.spiffe_id = Some(id).filter(|id| is_spiffe_id(id)).unwrap_or_default();
        }
        self.uri_sans = self.within(uris.join(","), LONGEST_NAMES, "uri_sans");
        self.dnsname_sans = self.within(dns.join(","), LONGEST_NAMES, "dnsname_sans");
    }

    /// The certificates themselves, as RFC 9440 writes them.
    fn hand_on(&mut self, leaf: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) {
        let encoded = |certificate: &CertificateDer<'_>| format!(":{}:", STANDARD.encode(certificate));
        if leaf.len() > LONGEST_CHAIN {
            self.complain("validated_leaf");
        } else {
            self.leaf = encoded(leaf);
        }
        if leaf.len() + sent.iter().map(|certificate| certificate.len()).sum::<usize>() > LONGEST_CHAIN {
            self.complain("validated_chain");
        } else {
            self.chain = sent.iter().map(encoded).collect::<Vec<_>>().join(",");
        }
    }

    /// A value, or nothing and a complaint if it is too long.
    fn within(&mut self, value: String, longest: usize, name: &str) -> String {
        if value.len() <= longest {
            return value;
        }
        self.complain(name);
        String::new()
    }

    fn complain(&mut self, name: &str) {
        if !self.error.is_empty() {
            self.error.push(',');
        }
        self.error.push_str(&format!("{PREFIX}{name}_exceeded_size_limit"));
    }
}

const SPIFFE: &str = "spiffe://";

/// Trust domain and path of the SPIFFE standard (SPIFFE-ID section 2).
fn is_spiffe_id(id: &str) -> bool {
    let Some(rest) = id.strip_prefix(SPIFFE) else { return false };
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
    let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let in_path = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_segment =
        |part: &str| !part.is_empty() && !matches!(part, "." | "..") && part.bytes().all(in_path);
    !domain.is_empty()
        && domain.bytes().all(in_domain)
        && path.is_none_or(|path| path.split('/').all(is_segment))
}

/// RFC 3339 in seconds, with the offset spelt out.
fn moment(seconds: i64) -> String {
    let at =
        Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX });
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

#[cfg(test)]
#[path = "client_identity_tests.rs"]
mod tests;
