//! The one who checks identity tokens, as the front of a service must.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::issuer::Shared;
use super::{CLOCK_SKEW_SECONDS, GCLOUD_CLIENT_ID, ISSUER, ISSUER_SHORT, TokenError, VerifiedToken, jwt};
use crate::Principal;

/// How many tokens a thread remembers as rightly signed.
const REMEMBERED_TOKENS: usize = 512;

thread_local! {
    /// Claims of tokens whose signature was found good on this thread, by key id and token.
    ///
    /// A caller shows the same token for up to an hour; checking its signature costs more than the rest of the
    /// request. Each thread remembers for itself, because request threads share no lock. Expiry and audience are
    /// checked every time.
    static REMEMBERED: RefCell<HashMap<Box<str>, Remembered>> = RefCell::default();
}

/// The id of the key that signed a token, and what the token says.
type Remembered = (String, Arc<Claims>);

/// Checks identity tokens. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct Verifier(Arc<Shared>);

/// The claims that matter.
struct Claims {
    issuer: String,
    audience: String,
    subject: String,
    email: Option<String>,
    issued: Timestamp,
    expires: Timestamp,
}

impl Verifier {
    pub(super) fn new(shared: Arc<Shared>) -> Verifier {
        Verifier(shared)
    }

    /// Checks a token for one of `audiences` as of `now`, in this order: form, key, signature, issuer, time,
    /// audience, account. The first that fails is the error.
    ///
    /// An audience matches as a whole, except that a `run.app` URL may end in a slash, and that people may show a
    /// token for gcloud itself ([`GCLOUD_CLIENT_ID`]).
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<VerifiedToken, TokenError> {
        let claims = self.signed_claims(token)?;
        if claims.issuer != ISSUER && claims.issuer != ISSUER_SHORT {
            return Err(TokenError::Issuer(claims.issuer.clone()));
        }
        check_time(&claims, now)?;
        let principal = self.principal(&claims);
        let person = matches!(principal, Some(Principal::User(_)));
        if !audience_matches(&claims.audience, audiences, person) {
            return Err(TokenError::Audience(claims.audience.clone()));
        }
        Ok(VerifiedToken {
            principal: principal.ok_or_else(|| TokenError::UnknownSubject(claims.subject.clone()))?,
            subject: claims.subject.clone(),
            audience: claims.audience.clone(),
            expires: claims.expires,
        })
    }

    /// The claims of a token whose signature is the issuer's.
    fn signed_claims(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let key = self.0.key();
        if let Some(key) = key
            && let Some(claims) = remembered(token, key.id())
        {
            return Ok(claims);
        }
        let parsed = jwt::parse(token)?;
        if parsed.header.alg != "RS256" {
            return Err(TokenError::Algorithm(parsed.header.alg));
        }
        // Before the first key is made there is no token of ours either.
        let key = key
            .filter(|key| key.id() == parsed.header.kid)
            .ok_or(TokenError::UnknownKey(parsed.header.kid))?;
        if !key.public().verify(parsed.signed.as_bytes(), &parsed.signature) {
            return Err(TokenError::Signature);
        }
        let claims = Arc::new(Claims::read(&parsed.claims)?);
        remember(token, key.id(), &claims);
        Ok(claims)
    }

    fn principal(&self, claims: &Claims) -> Option<Principal> {
        let email = match &claims.email {
            Some(email) => Some(email.clone()),
            None => self.0.account(&claims.subject),
        };
        email.map(|email| Principal::from_email(&email))
    }
}

impl Claims {
    fn read(claims: &Value) -> Result<Claims, TokenError> {
        let text = |name: &'static str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let time = |name: &str| {
            let seconds = claims.get(name).and_then(Value::as_i64);
            seconds.and_then(|seconds| Timestamp::from_second(seconds).ok())
        };
        let verified = claims.get("email_verified").and_then(Value::as_bool) != Some(false);
        Ok(Claims {
            issuer: text("iss").ok_or(TokenError::Malformed("it has no iss"))?,
            audience: text("aud").ok_or(TokenError::Malformed("it has no aud"))?,
            subject: text("sub").ok_or(TokenError::Malformed("it has no sub"))?,
            email: text("email").filter(|_| verified),
            issued: time("iat").ok_or(TokenError::Malformed("it has no iat"))?,
            expires: time("exp").ok_or(TokenError::Malformed("it has no exp"))?,
        })
    }
}

fn check_time(claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
    let now = now.as_second();
    if claims.expires.as_second().saturating_add(CLOCK_SKEW_SECONDS) <= now {
        return Err(TokenError::Expired { at: claims.expires });
    }
    if claims.issued.as_second() > now.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(TokenError::NotYetValid { from: claims.issued });
    }
    Ok(())
}

fn audience_matches(audience: &str, wanted: &[String], person: bool) -> bool {
    let without_slash = audience.strip_suffix('/').filter(|url| url.ends_with(".run.app"));
    wanted.iter().any(|wanted| wanted == audience || without_slash == Some(wanted))
        || (person && audience == GCLOUD_CLIENT_ID)
}

fn remembered(token: &str, key_id: &str) -> Option<Arc<Claims>> {
    REMEMBERED.with_borrow(|map| {
        let (by, claims) = map.get(token)?;
        (by == key_id).then(|| Arc::clone(claims))
    })
}

fn remember(token: &str, key_id: &str, claims: &Arc<Claims>) {
    REMEMBERED.with_borrow_mut(|map| {
        if map.len() >= REMEMBERED_TOKENS {
            // Callers renew their tokens at different times; starting over is as good as any choice of one to drop.
            map.clear();
        }
        map.insert(token.into(), (key_id.to_owned(), Arc::clone(claims)));
    });
}

#[cfg(test)]
mod tests;
