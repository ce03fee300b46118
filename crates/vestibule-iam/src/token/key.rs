//! RSA keys: making, signing, publishing.
//!
//! Keys are made with the `rsa` crate, which can generate them, and used with `ring`, whose signing is constant time.
//! Between the two stands PKCS#8, which is also how keys are stored.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use ring::{digest, rsa::PublicKeyComponents};
use rsa::pkcs8::EncodePrivateKey;
use serde_json::{Value, json};

/// Size of every key made here, in bits: what Google's own token keys have.
pub const KEY_BITS: usize = 2048;

/// A private key with its id.
pub struct SigningKey {
    pair: RsaKeyPair,
    pkcs8: Vec<u8>,
    public: PublicKey,
    random: SystemRandom,
}

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// A key could not be made or read.
#[derive(Debug)]
pub struct KeyError(String);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyError {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Makes a key. Takes a fraction of a second of one core, sometimes more than one.
    pub fn generate() -> Result<SigningKey, KeyError> {
        let private = rsa::PrivateKey::new(&mut OsRandom, KEY_BITS)
            .map_err(|error| KeyError(format!("cannot generate an RSA key: {error}")))?;
        let pkcs8 =
            private.to_pkcs8_der().map_err(|error| KeyError(format!("cannot encode an RSA key: {error}")))?;
        SigningKey::from_pkcs8(pkcs8.as_bytes())
    }

    /// Reads a key from PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<SigningKey, KeyError> {
        let pair = RsaKeyPair::from_pkcs8(der)
            .map_err(|error| KeyError(format!("not an RSA key in PKCS#8: {error}")))?;
        let components: PublicKeyComponents<Vec<u8>> = pair.public().into();
        let public = PublicKey::new(components.n, components.e);
        Ok(SigningKey { pair, pkcs8: der.to_vec(), public, random: SystemRandom::new() })
    }

    /// Key id: 40 hexadecimal digits that follow from the public key.
    pub fn id(&self) -> &str {
        &self.public.id
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The private key as PKCS#8 DER.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The private key as PKCS#8 PEM.
    pub fn pkcs8_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// An RSASSA-PKCS1-v1_5 signature with SHA-256.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        match self.pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature) {
            Ok(()) => signature,
            // The buffer has the right size, so only the system's random source can fail. An empty signature
            // verifies nowhere, which is the safe way to fail.
            Err(_) => Vec::new(),
        }
    }

    /// A self-signed X.509 certificate for the key, as PEM. Google publishes public keys in this form too.
    pub fn certificate_pem(&self, common_name: &str) -> Result<String, KeyError> {
        let fail = |error: rcgen::Error| KeyError(format!("cannot make a certificate: {error}"));
        let pair = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(&self.pkcs8_pem(), &rcgen::PKCS_RSA_SHA256)
            .map_err(fail)?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(9999, 12, 31);
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        Ok(params.self_signed(&pair).map_err(fail)?.pem())
    }
}

impl PublicKey {
    /// From modulus and exponent, big-endian.
    pub fn new(modulus: Vec<u8>, exponent: Vec<u8>) -> PublicKey {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&modulus);
        context.update(&exponent);
        let id = context.finish().as_ref()[..20].iter().map(|byte| format!("{byte:02x}")).collect();
        PublicKey { id, modulus, exponent }
    }

    /// From a JSON Web Key with `n` and `e`, as [`PublicKey::jwk`] writes it.
    pub fn from_jwk(jwk: &Value) -> Option<PublicKey> {
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
        Some(PublicKey::new(part("n")?, part("e")?))
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether `signature` is this key's RS256 signature of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .is_ok()
    }

    /// The key as a JSON Web Key (RFC 7517).
    pub fn jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": self.id,
            "n": URL_SAFE_NO_PAD.encode(&self.modulus),
            "e": URL_SAFE_NO_PAD.encode(&self.exponent),
        })
    }
}

/// DER in PEM armour (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    const LINE: usize = 64;
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// The operating system's random source in the shape that the `rsa` crate asks for.
struct OsRandom;

#[derive(Debug)]
struct NoRandom;

impl fmt::Display for NoRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system gives no random bytes")
    }
}

impl std::error::Error for NoRandom {}

impl rsa::rand_core::TryRng for OsRandom {
    type Error = NoRandom;

    fn try_next_u32(&mut self) -> Result<u32, NoRandom> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandom> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), NoRandom> {
        SystemRandom::new().fill(bytes).map_err(|_| NoRandom)
    }
}

impl rsa::rand_core::TryCryptoRng for OsRandom {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_signs_and_its_public_half_verifies() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(key.id(), again.id());
        assert_eq!(key.id().len(), 40);
        let signature = key.sign(b"message");
        assert!(again.public().verify(b"message", &signature));
        assert!(!again.public().verify(b"massage", &signature));
        assert_eq!(PublicKey::from_jwk(&key.public().jwk()).as_ref(), Some(key.public()));

        let text = key.pkcs8_pem();
        assert!(
            text.starts_with("-----BEGIN PRIVATE KEY-----\n")
                && text.ends_with("-----END PRIVATE KEY-----\n")
        );
        assert!(text.lines().all(|line| line.len() <= 64));
        assert!(key.certificate_pem("caller").unwrap().contains("BEGIN CERTIFICATE"));
    }

    #[test]
    fn garbage_is_no_key() {
        assert!(SigningKey::from_pkcs8(b"garbage").is_err());
    }
}
