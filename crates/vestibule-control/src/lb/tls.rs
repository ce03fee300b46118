//! The certificates of a target HTTPS proxy, ready to serve.

use rustls::pki_types::CertificateDer;
use vestibule_model::ResourceName;
use vestibule_proxy::tls::{Certificate, Tls};
use vestibule_store::View;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::compute::{ssl_certificates, ssl_policies};
use crate::{Error, located};

/// Puts the certificates together, the default one first, under an SSL policy and a server TLS policy.
pub fn compile(
    view: &View,
    certificates: &[ResourceName],
    policy: Option<&ResourceName>,
    clients: Option<&located::Name>,
) -> Result<Tls, Error> {
    let policy = policy.map(|name| ssl_policies::offered(view, name)).transpose()?.unwrap_or_default();
    let clients = clients.map(|policy| located::validation(view, policy)).transpose()?;
    let serving = certificates.iter().map(|name| {
        let key = ssl_certificates::serving(view, name)?;
        let names = key.end_entity_cert().map(names_of).unwrap_or_default();
        Ok(Certificate::new(std::sync::Arc::unwrap_or_clone(key), names))
    });
    let serving = serving.collect::<Result<Vec<_>, Error>>()?;
    Tls::with_clients(serving, &policy, clients)
        .map_err(|error| Error::internal(format!("TLS cannot be set up: {error}")))
}

/// The DNS names that a certificate is for: its subject alternative names, or else its common name.
fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        let names = extension.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        return names.collect();
    }
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[test]
    fn the_common_name_counts_only_without_alternatives() {
        let key = KeyPair::generate().unwrap();
        let made = |alternatives: Vec<String>| {
            let mut params = CertificateParams::new(alternatives).unwrap();
            params.distinguished_name.push(DnType::CommonName, "common.example");
            names_of(params.self_signed(&key).unwrap().der())
        };
        assert_eq!(made(vec![]), ["common.example"]);
        assert_eq!(made(vec!["a.example".into(), "*.b.example".into()]), ["a.example", "*.b.example"]);
    }
}
