//! Self-managed certificates, global and regional.
//!
//! The private key is write-only. It is kept in a document of its own, under a key that no read of the API can reach,
//! so that no list, get, watch or error text can leak it; [`private_key`] is for those who serve with it.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use vestibule_model::{ResourceName, time};
use vestibule_store::View;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind};
use crate::{Change, Document, Error, document};

/// `sslCertificates`
pub struct SslCertificates;

static INFO: Info = Info {
    collection: "sslCertificates",
    scopes: &[ScopeKind::Region, ScopeKind::Global],
    word: "ssl_certificate",
    kind: "compute#sslCertificate",
    list_kind: "compute#sslCertificateList",
    aggregated_kind: Some("compute#sslCertificateAggregatedList"),
    fingerprint: Fingerprint::None,
    labels: false,
    methods: Methods::NONE,
    actions: &[],
    questions: &[],
    output_only: &["expireTime", "subjectAlternativeNames"],
};

/// Most certificates in a chain.
const LONGEST_CHAIN: usize = 5;

/// Longest PEM text of a chain or key, in bytes.
const LONGEST_PEM: usize = 64 * 1024;

/// Key lengths that Google's load balancers take, in bits.
const RSA_BITS: &[usize] = &[2048, 3072, 4096];
const EC_BITS: &[usize] = &[256, 384];

impl Kind for SslCertificates {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        refuse_managed(doc)?;
        let key_pem = take_private_key(doc).ok_or_else(|| Error::required("resource.privateKey"))?;
        let chain_pem = chain_text(doc).ok_or_else(|| Error::required("resource.certificate"))?;
        let (chain, key) = parse(&chain_pem, &key_pem)?;
        describe(change, &chain[0], doc)?;
        certified(chain, key)?;
        doc.insert("type".into(), "SELF_MANAGED".into());
        doc.insert("selfManaged".into(), json!({ "certificate": chain_pem }));
        doc.insert("certificate".into(), chain_pem.into());
        change.put(&secret(name), json!({ "privateKey": key_pem }));
        Ok(())
    }

    fn delete(&self, change: &mut Change<'_>, name: &ResourceName, _doc: &Document) -> Result<(), Error> {
        change.delete(&secret(name));
        Ok(())
    }
}

/// The private key of a certificate, as PEM.
pub fn private_key(view: &View, name: &ResourceName) -> Option<String> {
    view.get(&secret(name))?.value["privateKey"].as_str().map(str::to_owned)
}

/// What a server needs to present a stored certificate: its chain and its signing key.
pub fn serving(view: &View, name: &ResourceName) -> Result<Arc<CertifiedKey>, Error> {
    let stored = view.get(&name.key()).ok_or_else(|| Error::not_found(name))?;
    let chain = chain_text(document::object(&stored.value)).unwrap_or_default();
    let key = private_key(view, name).ok_or_else(|| Error::internal(format!("{name} has no private key")))?;
    let (chain, key) = parse(&chain, &key)?;
    certified(chain, key).map(Arc::new)
}

fn secret(name: &ResourceName) -> String {
    format!("secret/{}", name.relative())
}

fn refuse_managed(doc: &Document) -> Result<(), Error> {
    document::one_of(doc, "resource", "type", &["SELF_MANAGED", "MANAGED"])?;
    if document::text(doc, "type") == Some("MANAGED") || doc.contains_key("managed") {
        return Err(Error::not_built("compute.sslCertificates with type MANAGED"));
    }
    Ok(())
}

/// Removes the private key from the document, from wherever the client put it.
fn take_private_key(doc: &mut Document) -> Option<String> {
    let mut key = doc.remove("privateKey");
    if let Some(Value::Object(own)) = doc.get_mut("selfManaged") {
        let inner = own.remove("privateKey");
        key = key.or(inner);
    }
    match key {
        Some(Value::String(key)) if !key.is_empty() => Some(key),
        _ => None,
    }
}

fn chain_text(doc: &Document) -> Option<String> {
    let own = doc.get("selfManaged").map(document::object);
    let text = document::text(doc, "certificate").or_else(|| document::text(own?, "certificate"))?;
    Some(text.to_owned())
}

type Chain = Vec<CertificateDer<'static>>;

fn parse(chain: &str, key: &str) -> Result<(Chain, PrivateKeyDer<'static>), Error> {
    let bad_chain = || Error::bad_request("The SSL certificate could not be parsed.");
    let bad_key = || Error::bad_request("The SSL key could not be parsed.");
    if chain.len() > LONGEST_PEM || key.len() > LONGEST_PEM {
        return Err(Error::bad_request("The SSL certificate is too big."));
    }
    let chain: Chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| bad_chain())?;
    if chain.is_empty() {
        return Err(bad_chain());
    }
    if chain.len() > LONGEST_CHAIN {
        let why = format!("The certificate chain must be no longer than {LONGEST_CHAIN} certificates.");
        return Err(Error::bad_request(why));
    }
    if chain.iter().any(|certificate| X509Certificate::from_der(certificate).is_err()) {
        return Err(bad_chain());
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| bad_key())?;
    Ok((chain, key))
}

/// Puts chain and key together; refuses a key that is not the certificate's.
fn certified(chain: Chain, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, Error> {
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|_| Error::bad_request("The SSL key could not be parsed."))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| {
        Error::invalid("resource.privateKey", "", "The private key does not match the certificate.")
    })?;
    Ok(certified)
}

/// Reads what the resource tells about its first certificate, and checks the kind of its key.
fn describe(
    change: &mut Change<'_>,
    certificate: &CertificateDer<'_>,
    doc: &mut Document,
) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Error::bad_request("The SSL certificate could not be parsed."))?;
    check_key_type(change, &parsed)?;
    let expires = Timestamp::from_second(parsed.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
    if expires < change.now() {
        change.warn("NOT_CRITICAL_ERROR", "The certificate has expired.");
    }
    doc.insert("expireTime".into(), time::compute(expires).into());
    let names = dns_names(&parsed);
    if !names.is_empty() {
        doc.insert("subjectAlternativeNames".into(), names.into());
    }
    Ok(())
}

fn check_key_type(change: &mut Change<'_>, certificate: &X509Certificate<'_>) -> Result<(), Error> {
    let known = match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => RSA_BITS.contains(&key.key_size()),
        Ok(PublicKey::EC(point)) => EC_BITS.contains(&point.key_size()),
        _ => false,
    };
    if known {
        return Ok(());
    }
    let why = "The key must be RSA-2048, RSA-3072, RSA-4096, ECDSA P-256 or ECDSA P-384.";
    change.refuse_or_warn(Error::invalid("resource.certificate", "", why))
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::testing::World;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    const CERTIFICATES: &str = "regions/us-central1/sslCertificates";

    fn signed(key: &KeyPair) -> String {
        let names = vec!["internal.example.com".to_owned(), "*.internal.example.com".to_owned()];
        CertificateParams::new(names).unwrap().self_signed(key).unwrap().pem()
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (signed(&key), key.serialize_pem())
    }

    fn body(certificate: &str, key: &str) -> Value {
        json!({"name": "c", "certificate": certificate, "privateKey": key})
    }

    #[test]
    fn a_certificate_reads_back_without_its_key() {
        let world = World::new();
        let (certificate, key) = pair();
        world.insert(CERTIFICATES, body(&certificate, &key));
        let path = "regions/us-central1/sslCertificates/c";
        let doc = world.get(path);
        assert_eq!(doc["certificate"], certificate.as_str());
        assert_eq!(doc["selfManaged"], json!({"certificate": certificate}));
        assert_eq!(doc["type"], "SELF_MANAGED");
        assert_eq!(doc["subjectAlternativeNames"], json!(["internal.example.com", "*.internal.example.com"]));
        assert!(time::parse(doc["expireTime"].as_str().unwrap()).is_some());
        let everything = serde_json::to_string(&[
            doc,
            Value::Array(world.control.compute().list("demo", &world.name(path).scope, "sslCertificates")),
            Value::Array(world.control.compute().operations("demo", &world.name(path).scope)),
        ]);
        assert!(!everything.unwrap().contains("PRIVATE"));
        let view = world.control.view();
        assert_eq!(private_key(&view, &world.name(path)), Some(key));
        assert!(serving(&view, &world.name(path)).is_ok());
        world.delete(path);
        assert!(world.control.view().range("").all(|kv| !kv.value.to_string().contains("PRIVATE KEY")));
    }

    #[test]
    fn the_nested_form_is_read_too() {
        let world = World::new();
        let (certificate, key) = pair();
        let own = json!({"certificate": certificate, "privateKey": key});
        world.insert(
            "global/sslCertificates",
            json!({"name": "c", "type": "SELF_MANAGED", "selfManaged": own}),
        );
        let doc = world.get("global/sslCertificates/c");
        assert_eq!(doc["certificate"], certificate.as_str());
        assert!(!doc.to_string().contains("PRIVATE"));
    }

    #[test]
    fn what_is_refused_never_repeats_the_key() {
        let world = World::new();
        let (certificate, key) = pair();
        let (_, other_key) = pair();
        let long = certificate.repeat(LONGEST_CHAIN + 1);
        for (certificate, key, why) in [
            ("nonsense", key.as_str(), "The SSL certificate could not be parsed."),
            (certificate.as_str(), "nonsense", "The SSL key could not be parsed."),
            (key.as_str(), key.as_str(), "The SSL certificate could not be parsed."),
            (certificate.as_str(), certificate.as_str(), "The SSL key could not be parsed."),
            (&long, key.as_str(), "The certificate chain must be no longer than 5 certificates."),
            (
                certificate.as_str(),
                other_key.as_str(),
                "Invalid value for field 'resource.privateKey': ''. The private key does not match the certificate.",
            ),
        ] {
            let error = world.try_insert(CERTIFICATES, body(certificate, key)).unwrap_err();
            assert_eq!(error.to_string(), why);
        }
        let missing = world.try_insert(CERTIFICATES, json!({"name": "c", "certificate": certificate}));
        assert_eq!(missing.unwrap_err(), Error::required("resource.privateKey"));
        let managed = json!({"name": "c", "type": "MANAGED", "managed": {"domains": ["x.example"]}});
        assert!(matches!(world.try_insert(CERTIFICATES, managed), Err(Error::NotBuilt { .. })));
        assert!(world.control.view().range("secret/").next().is_none());
    }

    #[test]
    fn kinds_of_keys() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        World::strict().insert(CERTIFICATES, body(&signed(&key), &key.serialize_pem()));
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let odd = body(&signed(&key), &key.serialize_pem());
        assert!(World::strict().try_insert(CERTIFICATES, odd.clone()).is_err());
        let operation = World::new().insert(CERTIFICATES, odd);
        assert_eq!(operation["warnings"][0]["code"], "SCHEMA_VALIDATION_IGNORED");
    }
}
