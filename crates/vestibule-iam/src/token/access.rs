//! Access tokens: `ya29.` and a payload under a secret that never leaves the state folder.
//!
//! Google's access tokens are opaque, so their inside is ours to choose. They carry their principal and expiry, which
//! spares a table of live tokens, and a keyed hash instead of a signature: checking one costs a microsecond, and one
//! can be minted before the RSA key of a first start is ready.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::{CLOCK_SKEW_SECONDS, TokenError};
use crate::{Principal, secret_file};

/// How tokens minted here start. Google's start with `ya29.` too, but never go on with this letter and stop.
const PREFIX: &str = "ya29.v.";
/// Name of the file with the secret.
const FILE: &str = "access-token.key";
/// Length of the secret, in bytes: that of the hash, as RFC 2104 recommends.
const SECRET_BYTES: usize = 32;

/// An access token that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    pub principal: Principal,
    pub expires: Timestamp,
    pub scopes: Vec<String>,
}

/// Mints and checks access tokens.
pub(super) struct AccessTokens {
    key: hmac::Key,
}

#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    /// E-mail address of the principal.
    sub: std::borrow::Cow<'a, str>,
    /// Seconds since the epoch.
    exp: i64,
    /// Separated by spaces.
    scope: String,
    /// Tells tokens apart that were minted in the same second.
    jti: u32,
}

impl AccessTokens {
    /// Reads the secret in `dir`, or makes one.
    pub(super) fn open(dir: &Path) -> io::Result<AccessTokens> {
        let path = dir.join(FILE);
        let secret = match secret_file::read(&path)? {
            Some(secret) if secret.len() >= SECRET_BYTES => secret,
            // Too short is what a file has that somebody truncated. Access tokens live an hour; a new secret costs
            // their holders one refresh.
            _ => {
                let mut secret = vec![0; SECRET_BYTES];
                SystemRandom::new()
                    .fill(&mut secret)
                    .map_err(|_| io::Error::other("the operating system gives no random bytes"))?;
                secret_file::write(&path, &secret)?;
                secret
            }
        };
        Ok(AccessTokens { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) })
    }

    pub(super) fn mint(&self, email: &str, scopes: &[String], expires: Timestamp) -> String {
        let payload = Payload {
            sub: email.into(),
            exp: expires.as_second(),
            scope: scopes.join(" "),
            jti: fastrand::u32(..),
        };
        let mut token = PREFIX.to_owned();
        // A struct of strings and numbers always serialises.
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&payload).unwrap_or_default(), &mut token);
        let tag = hmac::sign(&self.key, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(tag.as_ref(), &mut token);
        token
    }

    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Result<AccessToken, TokenError> {
        let body = token.strip_prefix(PREFIX).ok_or(TokenError::Malformed("it was not minted here"))?;
        let (payload, tag) = body.split_once('.').ok_or(TokenError::Malformed("it is cut short"))?;
        let signed = &token[..PREFIX.len() + payload.len()];
        let tag =
            URL_SAFE_NO_PAD.decode(tag).map_err(|_| TokenError::Malformed("a part is not base64url"))?;
        hmac::verify(&self.key, signed.as_bytes(), &tag).map_err(|_| TokenError::Signature)?;
        let payload =
            URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed("a part is not base64url"))?;
        let payload: Payload<'_> =
            serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed("its payload is no JSON"))?;
        let expires = Timestamp::from_second(payload.exp)
            .map_err(|_| TokenError::Malformed("its expiry is out of range"))?;
        if payload.exp.saturating_add(CLOCK_SKEW_SECONDS) <= now.as_second() {
            return Err(TokenError::Expired { at: expires });
        }
        Ok(AccessToken {
            principal: Principal::from_email(&payload.sub),
            expires,
            scopes: payload.scope.split_whitespace().map(str::to_owned).collect(),
        })
    }
}

/// Whether a bearer token claims to have been minted here.
pub(super) fn is_ours(token: &str) -> bool {
    token.starts_with(PREFIX)
}
