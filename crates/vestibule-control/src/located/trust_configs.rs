//! `trustConfigs` of Certificate Manager: certificates that certificates of clients are validated against.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use vestibule_model::name::is_valid_name;
use vestibule_proxy::tls::Trust;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Info, Kind, Name};
use crate::{Change, Document, Error, document};

/// `trustConfigs`
pub struct TrustConfigs;

pub static TRUST_CONFIGS: TrustConfigs = TrustConfigs;

static INFO: Info = Info {
    service: "certificatemanager",
    collection: "trustConfigs",
    message: "google.cloud.certificatemanager.v1.TrustConfig",
    writable: &[
        "allowlistedCertificates",
        "description",
        "labels",
        "spiffeTrustStores",
        "tags",
        "trustStores",
    ],
    etag: true,
    id_rule: "It must match the pattern [a-z]([-a-z0-9]{0,61}[a-z0-9])?.",
    is_id: is_valid_name,
};

/// Longest certificate as PEM, in bytes ("up to 5 kB").
const LONGEST_PEM: usize = 5 * 1024;
/// Most trust anchors and intermediate authorities of a store together (Google's documented limit).
const MOST_AUTHORITIES: usize = 200;
/// Most intermediate authorities of a store (Google's documented limit).
const MOST_INTERMEDIATES: usize = 100;
/// Most allowlisted certificates (Google's documented limit).
const MOST_ALLOWLISTED: usize = 500;

impl Kind for TrustConfigs {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn validate(&self, _change: &mut Change<'_>, _name: &Name, doc: &Document) -> Result<(), Error> {
        let what = "certificatemanager.projects.locations.trustConfigs";
        document::not_built(doc, what, &["spiffeTrustStores", "tags"])?;
        let stores = document::items(doc, "trustStores");
        if stores.len() > 1 {
            let why = "Only one trust store is allowed.";
            return Err(Error::invalid("trust_config.trust_stores", stores.len(), why));
        }
        let allowed = "trust_config.allowlisted_certificates";
        let allowlisted = document::items(doc, "allowlistedCertificates");
        at_most(allowed, allowlisted.len(), MOST_ALLOWLISTED)?;
        check_all(allowed, allowlisted)?;
        stores.first().map_or(Ok(()), |store| check_store(document::object(store)))
    }
}

fn check_store(store: &Document) -> Result<(), Error> {
    let anchors = document::items(store, "trustAnchors");
    let intermediates = document::items(store, "intermediateCas");
    let root = "trust_config.trust_stores[0]";
    at_most(root, anchors.len() + intermediates.len(), MOST_AUTHORITIES)?;
    at_most(&format!("{root}.intermediate_cas"), intermediates.len(), MOST_INTERMEDIATES)?;
    let trusted = check_all(&format!("{root}.trust_anchors"), anchors)?;
    check_all(&format!("{root}.intermediate_cas"), intermediates)?;
    for (index, anchor) in trusted.iter().enumerate() {
        if Trust::new(std::slice::from_ref(anchor), Vec::new(), &[]).is_err() {
            let field = format!("{root}.trust_anchors[{index}].pem_certificate");
            return Err(Error::invalid(field, "", "The certificate cannot be a trust anchor."));
        }
    }
    Ok(())
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), Error> {
    match count > most {
        true => Err(Error::invalid(field, count, format!("There may be at most {most} certificates."))),
        false => Ok(()),
    }
}

fn check_all(field: &str, entries: &[Value]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let checked = entries.iter().enumerate().map(|(index, entry)| {
        let field = format!("{field}[{index}].pem_certificate");
        let pem = entry["pemCertificate"].as_str().unwrap_or_default();
        check(pem).map_err(|why| Error::invalid(field, "", why))
    });
    checked.collect()
}

/// One certificate, and nothing else that would be silently left out.
fn check(pem: &str) -> Result<CertificateDer<'static>, &'static str> {
    if pem.len() > LONGEST_PEM {
        return Err("The certificate is longer than 5 kB.");
    }
    let mut found = CertificateDer::pem_slice_iter(pem.as_bytes());
    let first = found.next().and_then(Result::ok).ok_or("It is not a certificate in PEM format.")?;
    if found.next().is_some() {
        return Err("There must be exactly one certificate.");
    }
    match X509Certificate::from_der(&first) {
        Ok(([], _)) => Ok(first),
        _ => Err("The certificate could not be parsed."),
    }
}
