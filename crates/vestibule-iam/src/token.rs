//! Identity tokens and access tokens: minting and verification.
//!
//! An **identity token** says who its bearer is to one audience. It is a JWT with an RS256 signature by the
//! [`Issuer`]'s key, in the shape of Google's: anyone can check it against [`Issuer::jwks`], and the front of a
//! service does so through [`Verifier::verify`]. An **access token** lets its bearer call the API. Only the API that
//! minted it reads it, so it needs no public key and is authenticated with a secret instead; that also keeps it from
//! ever passing for an identity token.

mod access;
mod issuer;
pub mod jwt;
pub mod key;
mod verifier;

use std::fmt;

use jiff::Timestamp;

use crate::Principal;

pub use access::AccessToken;
pub use issuer::{IssueError, Issuer};
pub use verifier::Verifier;

/// `iss` of every identity token.
pub const ISSUER: &str = "https://accounts.google.com";
/// The older spelling of [`ISSUER`], which Google's documents allow in tokens to be checked.
pub const ISSUER_SHORT: &str = "accounts.google.com";
/// The client id of the Google Cloud CLI: audience of the token that `gcloud auth print-identity-token` prints for a
/// person who names no audience. Cloud Run accepts it from people, so that
/// `curl -H "Authorization: Bearer $(gcloud auth print-identity-token)"` works; service accounts must name the
/// service.
pub const GCLOUD_CLIENT_ID: &str = "32555940559.apps.googleusercontent.com";
/// How long identity and access tokens live, in seconds.
pub const LIFETIME_SECONDS: i64 = 3600;
/// How far the clocks of issuer and verifier may differ, in seconds. Google names no figure; its own client libraries
/// use this one.
pub const CLOCK_SKEW_SECONDS: i64 = 10;
/// What stands in place of the signature of a token that is passed on to a container.
pub const REMOVED_SIGNATURE: &str = "SIGNATURE_REMOVED_BY_GOOGLE";

/// What an identity token is to say.
#[derive(Debug, Clone)]
pub struct IdTokenClaims {
    /// Unique id of the account: `sub`, and `azp` unless [`IdTokenClaims::authorized_party`] says otherwise.
    pub subject: String,
    /// `aud`.
    pub audience: String,
    /// `azp`, default the subject.
    pub authorized_party: Option<String>,
    /// Adds `email` and `email_verified: true`.
    pub email: Option<String>,
    /// Lifetime in seconds, default [`LIFETIME_SECONDS`].
    pub lifetime_seconds: Option<i64>,
}

impl IdTokenClaims {
    /// The claims about one account for one audience, without an e-mail address.
    pub fn new(subject: impl Into<String>, audience: impl Into<String>) -> IdTokenClaims {
        IdTokenClaims {
            subject: subject.into(),
            audience: audience.into(),
            authorized_party: None,
            email: None,
            lifetime_seconds: None,
        }
    }

    /// Adds the e-mail address.
    pub fn with_email(mut self, email: impl Into<String>) -> IdTokenClaims {
        self.email = Some(email.into());
        self
    }
}

/// A token that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    pub principal: Principal,
    /// `sub`.
    pub subject: String,
    /// `aud`, which is one of those asked for.
    pub audience: String,
    pub expires: Timestamp,
}

/// Why a token is not accepted. Every reason but a missing grant is a 401 to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenError {
    /// Not a token of the expected kind at all.
    Malformed(&'static str),
    /// A signature algorithm other than RS256.
    Algorithm(String),
    /// Signed by a key that is not the issuer's, such as a service account's own.
    UnknownKey(String),
    /// The signature does not fit.
    Signature,
    /// `iss` is not Google's.
    Issuer(String),
    /// `exp` has passed.
    Expired { at: Timestamp },
    /// `iat` lies ahead.
    NotYetValid { from: Timestamp },
    /// `aud` is none of those asked for.
    Audience(String),
    /// No e-mail address, and `sub` names no account.
    UnknownSubject(String),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Malformed(why) => write!(f, "the token is malformed: {why}"),
            TokenError::Algorithm(name) => write!(f, "the token is signed with {name}, not RS256"),
            TokenError::UnknownKey(kid) => write!(f, "no key of the issuer has the id {kid:?}"),
            TokenError::Signature => f.write_str("the token's signature does not fit"),
            TokenError::Issuer(issuer) => write!(f, "the token's issuer is {issuer:?}, not {ISSUER:?}"),
            TokenError::Expired { at } => write!(f, "the token expired at {at}"),
            TokenError::NotYetValid { from } => write!(f, "the token is not valid before {from}"),
            TokenError::Audience(audience) => write!(f, "the token is meant for {audience:?}"),
            TokenError::UnknownSubject(subject) => write!(f, "no account has the id {subject:?}"),
        }
    }
}

impl std::error::Error for TokenError {}

/// The token in a header value `Bearer TOKEN`; the scheme's case does not matter (RFC 9110 section 11.1).
pub fn bearer(header: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(header).ok()?.trim();
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The token as a container may see it: whoever logs it cannot replay it.
pub fn without_signature(token: &str) -> Option<String> {
    let (signed, _) = token.rsplit_once('.')?;
    Some(format!("{signed}.{REMOVED_SIGNATURE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens_are_taken_out_of_their_header() {
        assert_eq!(bearer(b"Bearer abc"), Some("abc"));
        assert_eq!(bearer(b"bearer  abc "), Some("abc"));
        for other in [&b"Bearer"[..], b"Bearer ", b"Basic abc", b"abc", b"", b"Bearer \xff"] {
            assert_eq!(bearer(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_passed_on_token_has_lost_its_signature() {
        assert_eq!(without_signature("a.b.c").as_deref(), Some("a.b.SIGNATURE_REMOVED_BY_GOOGLE"));
        assert_eq!(without_signature("abc"), None);
    }
}
