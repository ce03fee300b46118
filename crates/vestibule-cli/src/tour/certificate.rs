//! The certificate of the HTTPS proxy: made on the spot, for the tour's own names.

use std::path::Path;

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

/// Files for `gcloud compute ssl-certificates create`.
pub struct Files {
    pub certificate: &'static str,
    pub key: &'static str,
}

pub const FILES: Files = Files { certificate: "cert.pem", key: "key.pem" };

/// Writes certificate and key into the folder; gives the certificate, for clients to trust.
pub fn write(folder: &Path, names: &[&str]) -> Result<String, String> {
    let made = make(names).map_err(|error| format!("cannot make a certificate: {error}"))?;
    let (certificate, key) = made;
    for (file, text) in [(FILES.certificate, &certificate), (FILES.key, &key)] {
        std::fs::write(folder.join(file), text).map_err(|error| format!("cannot write {file}: {error}"))?;
    }
    Ok(certificate)
}

fn make(names: &[&str]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    let year = jiff::ZonedDateTime::now().year();
    params.not_before = date_time_ymd(i32::from(year) - 1, 1, 1);
    params.not_after = date_time_ymd(i32::from(year) + 1, 12, 31);
    params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or_default());
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
