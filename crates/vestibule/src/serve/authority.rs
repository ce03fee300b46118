//! The certificate of the default URLs, and the local authority that signs it.
//!
//! The authority is made once and kept, its key readable by its owner alone; clients inside the networks trust it.
//! The certificate for `*.run.app` is made at every start.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use vestibule_model::region::REGIONS;
use vestibule_proxy::tls::{Certificate, Tls};

/// Where distributions keep the certificates that programs trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What clients and fronts need.
pub struct Authority {
    /// For the fronts.
    pub tls: Arc<Tls>,
    /// The machine's trusted certificates and ours, in one file.
    pub bundle: PathBuf,
}

/// Opens the authority in `dir`, making it if it is not there.
pub fn open(dir: &Path) -> Result<Authority, Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let key = match fs::read_to_string(dir.join("ca-key.pem")) {
        Ok(pem) => KeyPair::from_pem(&pem)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(dir)?,
        Err(error) => return Err(error.into()),
    };
    let certificate_file = dir.join("ca.pem");
    if !certificate_file.exists() {
        write_whole(&certificate_file, params()?.self_signed(&key)?.pem().as_bytes(), 0o644)?;
    }
    let own = fs::read(&certificate_file)?;
    let bundle = dir.join("ca-bundle.pem");
    let system = SYSTEM_BUNDLES.iter().find_map(|file| fs::read(file).ok()).unwrap_or_default();
    write_whole(&bundle, &[system, b"\n".to_vec(), own].concat(), 0o644)?;
    Ok(Authority { tls: Arc::new(front(&Issuer::new(params()?, key))?), bundle })
}

fn params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Vestibule local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn make_key(dir: &Path) -> Result<KeyPair, Box<dyn Error>> {
    let key = KeyPair::generate()?;
    write_whole(&dir.join("ca-key.pem"), key.serialize_pem().as_bytes(), 0o600)?;
    Ok(key)
}

/// A certificate for every name that a default URL can have: `SERVICE-HASH-CODE.a.run.app` and
/// `SERVICE-NUMBER.REGION.run.app`.
fn front(issuer: &Issuer<'_, KeyPair>) -> Result<Tls, Box<dyn Error>> {
    let regional = REGIONS.iter().map(|region| format!("*.{}.run.app", region.name));
    let names: Vec<String> = std::iter::once("*.a.run.app".to_owned()).chain(regional).collect();
    let mut params = CertificateParams::new(names.clone())?;
    params.distinguished_name.push(DnType::CommonName, "*.a.run.app");
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    let certificate = Certificate::from_pem(&certificate.pem(), &key.serialize_pem(), names)?;
    Ok(Tls::new(vec![certificate])?)
}

/// Writes a file so that a crash leaves the old one or the new one.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let certificate = fs::read(dir.path().join("ca.pem")).unwrap();
        open(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("ca.pem")).unwrap(), certificate);
        let mode = fs::metadata(dir.path().join("ca-key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(fs::read(first.bundle).unwrap().ends_with(&certificate));
    }
}
