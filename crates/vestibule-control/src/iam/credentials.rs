//! Short-lived credentials of service accounts (iamcredentials v1).
//!
//! The person at this machine may speak for every account. A caller that a token says is someone else needs the
//! permission, from the account's policy or its project's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use vestibule_iam::policy::Context;
use vestibule_iam::token::{LIFETIME_SECONDS, jwt};
use vestibule_iam::{IdTokenClaims, Principal};
use vestibule_model::time;
use vestibule_store::View;

use super::find::{Account, find_bearer};
use super::{Iam, policy};
use crate::{Document, Error, document};

/// Longest life of an access token, in seconds, unless an organisation's policy says otherwise.
pub const MAX_ACCESS_TOKEN_SECONDS: i64 = 3600;
/// How far ahead `exp` of a JWT to be signed may lie, in seconds.
pub const MAX_SIGNED_JWT_SECONDS: i64 = 12 * 3600;

/// What an identity token is asked for.
#[derive(Debug, Clone, Default)]
pub struct IdTokenRequest {
    pub audience: String,
    pub include_email: bool,
    /// Accounts through which the caller speaks, the first granted by the caller.
    pub delegates: Vec<String>,
    /// `azp` is the address instead of the unique id.
    pub use_email_azp: bool,
}

impl Iam<'_> {
    /// An identity token for an account: `{token}`. May block while the first key is being made.
    pub fn generate_id_token(
        &self,
        caller: &Principal,
        account: &str,
        request: &IdTokenRequest,
    ) -> Result<Value, Error> {
        if request.audience.is_empty() {
            return Err(Error::required("audience"));
        }
        let found =
            self.spoken_for(caller, account, &request.delegates, "iam.serviceAccounts.getOpenIdToken")?;
        let mut claims = IdTokenClaims::new(found.unique_id.as_str(), request.audience.as_str());
        if request.include_email {
            claims = claims.with_email(found.email.as_str());
        } else {
            // Whoever checks it finds the account by its unique id alone.
            self.publish_accounts();
        }
        if request.use_email_azp {
            claims.authorized_party = Some(found.email.clone());
        }
        let token = self.issuer.id_token(&claims, Timestamp::now());
        let token = token.map_err(|error| Error::Unavailable { context: error.to_string() })?;
        Ok(json!({ "token": token }))
    }

    /// An access token for an account: `{accessToken, expireTime}`.
    pub fn generate_access_token(
        &self,
        caller: &Principal,
        account: &str,
        body: &Document,
    ) -> Result<Value, Error> {
        let scopes = texts(body, "scope");
        if scopes.is_empty() {
            return Err(Error::required("scope"));
        }
        let lifetime = match document::text(body, "lifetime") {
            None => LIFETIME_SECONDS,
            Some(text) => {
                let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
                let allowed = |seconds: &f64| (1.0..=MAX_ACCESS_TOKEN_SECONDS as f64).contains(seconds);
                let seconds = seconds.filter(allowed).ok_or_else(|| {
                    Error::invalid(
                        "lifetime",
                        text,
                        format!("It must be between 1s and {MAX_ACCESS_TOKEN_SECONDS}s."),
                    )
                })?;
                seconds as i64
            }
        };
        let found = self.spoken_for(
            caller,
            account,
            &texts(body, "delegates"),
            "iam.serviceAccounts.getAccessToken",
        )?;
        let now = Timestamp::now();
        let principal = Principal::from_email(&found.email);
        let token = self.issuer.access_token(&principal, &scopes, lifetime, now);
        let expires = Timestamp::from_second(now.as_second() + lifetime).unwrap_or(Timestamp::MAX);
        Ok(json!({ "accessToken": token, "expireTime": time::rfc3339_seconds(expires) }))
    }

    /// Signs claims with the account's own key: `{keyId, signedJwt}`.
    pub fn sign_jwt(&self, caller: &Principal, account: &str, body: &Document) -> Result<Value, Error> {
        let payload = document::text(body, "payload").ok_or_else(|| Error::required("payload"))?;
        check_jwt_payload(payload, Timestamp::now())?;
        let found =
            self.spoken_for(caller, account, &texts(body, "delegates"), "iam.serviceAccounts.signJwt")?;
        let key = self.system_key(&found)?;
        Ok(json!({ "keyId": key.id(), "signedJwt": jwt::sign_text(&key, payload) }))
    }

    /// Signs bytes with the account's own key: `{keyId, signedBlob}`.
    pub fn sign_blob(&self, caller: &Principal, account: &str, body: &Document) -> Result<Value, Error> {
        let payload = document::text(body, "payload").ok_or_else(|| Error::required("payload"))?;
        let plain = payload.replace('-', "+").replace('_', "/");
        let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(plain.trim_end_matches('='))
            .map_err(|_| Error::invalid("payload", payload, "It is not base64."))?;
        let found =
            self.spoken_for(caller, account, &texts(body, "delegates"), "iam.serviceAccounts.signBlob")?;
        let key = self.system_key(&found)?;
        Ok(json!({ "keyId": key.id(), "signedBlob": STANDARD.encode(key.sign(&bytes)) }))
    }

    /// The account that the caller wants to speak for, if it may, perhaps through others.
    fn spoken_for(
        &self,
        caller: &Principal,
        account: &str,
        delegates: &[String],
        permission: &str,
    ) -> Result<Account, Error> {
        let view = self.control.view();
        let mut speaker = caller.clone();
        for delegate in delegates {
            let name = delegate.rsplit('/').next().unwrap_or_default();
            let found = find_bearer(&view, name)?;
            allow(&view, &speaker, &found, "iam.serviceAccounts.implicitDelegation")?;
            speaker = Principal::from_email(&found.email);
        }
        let found = find_bearer(&view, account)?;
        allow(&view, &speaker, &found, permission)?;
        found.check_enabled()?;
        Ok(found)
    }
}

fn allow(view: &View, speaker: &Principal, account: &Account, permission: &str) -> Result<(), Error> {
    if speaker.is_local() {
        return Ok(());
    }
    let policies =
        [policy::policy_at(view, &account.policy_key()), policy::project_policy(view, &account.project)];
    if vestibule_iam::policy::any_allows(&policies, permission, speaker, &Context::now()) {
        return Ok(());
    }
    Err(Error::PermissionDenied {
        message: format!("Permission '{permission}' denied on resource (or it may not exist)."),
    })
}

/// Refuses what is no object of claims, and an expiry that has passed or lies too far ahead.
fn check_jwt_payload(payload: &str, now: Timestamp) -> Result<(), Error> {
    let claims: Value = serde_json::from_str(payload)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Error::invalid("payload", payload, "It is no JSON object."))?;
    let refuse = |value: &Value, why: &str| Err(Error::invalid("payload.exp", value, why));
    match &claims["exp"] {
        Value::Null => Ok(()),
        exp => match exp.as_i64() {
            None => refuse(exp, "It is no integer."),
            Some(at) if at <= now.as_second() => refuse(exp, "It has passed."),
            Some(at) if at > now.as_second() + MAX_SIGNED_JWT_SECONDS => {
                refuse(exp, "It lies more than 12 hours ahead.")
            }
            Some(_) => Ok(()),
        },
    }
}

fn texts(body: &Document, field: &str) -> Vec<String> {
    document::items(body, field).iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
