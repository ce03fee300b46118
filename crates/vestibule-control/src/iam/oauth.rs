//! The token endpoint: what a client's long-lived credentials are exchanged for.

use jiff::Timestamp;
use serde_json::{Value, json};
use vestibule_iam::token::{CLOCK_SKEW_SECONDS, GCLOUD_CLIENT_ID, LIFETIME_SECONDS, jwt};
use vestibule_iam::{IdTokenClaims, Principal, account};

use super::Iam;
use super::find::find_bearer;

/// Where Google's clients say their assertions are meant for, whatever endpoint they then call.
const GOOGLE_TOKEN_ENDPOINTS: [&str; 3] = [
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://accounts.google.com/o/oauth2/token",
];
/// Scope of an access token that names none.
const DEFAULT_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A refusal (RFC 6749 section 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `invalid_grant` and the like.
    pub error: &'static str,
    pub description: String,
}

fn refuse(error: &'static str, description: impl Into<String>) -> Refusal {
    Refusal { error, description: description.into() }
}

impl Iam<'_> {
    /// Exchanges a refresh token. Whoever has one is the person at this machine: it is written into a file by
    /// `vestibule env` and is no secret. The identity token is meant for the client that asks, as Google's is.
    pub fn refresh(&self, refresh_token: &str, client_id: Option<&str>) -> Result<Value, Refusal> {
        if refresh_token.is_empty() {
            return Err(refuse("invalid_request", "Missing required parameter: refresh_token"));
        }
        let now = Timestamp::now();
        let principal = Principal::local();
        let email = principal.email().unwrap_or_default();
        // A made-up client id would make an identity token that no service accepts.
        let client_id = client_id.filter(|id| id.ends_with(".apps.googleusercontent.com"));
        let client_id = client_id.unwrap_or(GCLOUD_CLIENT_ID);
        let mut claims = IdTokenClaims::new(account::unique_id(email), client_id).with_email(email);
        claims.authorized_party = Some(client_id.to_owned());
        let id_token =
            self.issuer.id_token(&claims, now).map_err(|error| refuse("server_error", error.to_string()))?;
        let mut answer = self.access_token(&principal, DEFAULT_SCOPE, now);
        answer["id_token"] = id_token.into();
        answer["scope"] =
            format!("openid https://www.googleapis.com/auth/userinfo.email {DEFAULT_SCOPE}").into();
        Ok(answer)
    }

    /// Exchanges an assertion that a service account signed with a key of its own (RFC 7523). With a
    /// `target_audience` the answer is an identity token, else an access token. `endpoint` is the URL that was called.
    pub fn exchange(&self, assertion: &str, endpoint: &str) -> Result<Value, Refusal> {
        let parsed = jwt::parse(assertion).map_err(|error| refuse("invalid_grant", error.to_string()))?;
        let claim = |name: &str| parsed.claims[name].as_str().filter(|text| !text.is_empty());
        let issuer = claim("iss").ok_or_else(|| refuse("invalid_grant", "Missing required claim: iss"))?;
        if parsed.header.alg != "RS256" {
            return Err(refuse("invalid_grant", "Invalid JWT: it must be signed with RS256."));
        }
        let view = self.control.view();
        let found = find_bearer(&view, issuer)
            .map_err(|_| refuse("invalid_grant", "Invalid grant: account not found"))?;
        found.check_enabled().map_err(|error| refuse("invalid_grant", error.to_string()))?;
        let key = self.verifying_key(&view, &found, &parsed.header.kid);
        if !key.is_some_and(|key| key.verify(parsed.signed.as_bytes(), &parsed.signature)) {
            return Err(refuse("invalid_grant", "Invalid JWT Signature."));
        }
        check_audience(&parsed.claims["aud"], endpoint)?;
        let now = Timestamp::now();
        check_time(&parsed.claims, now)?;
        if claim("sub").is_some_and(|subject| subject != issuer) {
            let why = "Client is unauthorized to retrieve access tokens using this method, or client not authorized \
                       for any of the scopes requested.";
            return Err(refuse("unauthorized_client", why));
        }
        match claim("target_audience") {
            Some(audience) => {
                let claims =
                    IdTokenClaims::new(found.unique_id.as_str(), audience).with_email(found.email.as_str());
                let token = self.issuer.id_token(&claims, now);
                let token = token.map_err(|error| refuse("server_error", error.to_string()))?;
                Ok(json!({ "id_token": token }))
            }
            None => {
                let principal = Principal::from_email(&found.email);
                Ok(self.access_token(&principal, claim("scope").unwrap_or(DEFAULT_SCOPE), now))
            }
        }
    }

    fn access_token(&self, principal: &Principal, scope: &str, now: Timestamp) -> Value {
        let scopes: Vec<String> = scope.split_whitespace().map(str::to_owned).collect();
        let token = self.issuer.access_token(principal, &scopes, LIFETIME_SECONDS, now);
        json!({ "access_token": token, "expires_in": LIFETIME_SECONDS - 1, "token_type": "Bearer" })
    }
}

fn check_audience(audience: &Value, endpoint: &str) -> Result<(), Refusal> {
    let fits = |audience: &str| audience == endpoint || GOOGLE_TOKEN_ENDPOINTS.contains(&audience);
    let fits = match audience {
        Value::String(audience) => fits(audience),
        Value::Array(audiences) => audiences.iter().filter_map(Value::as_str).any(fits),
        _ => false,
    };
    if fits { Ok(()) } else { Err(refuse("invalid_grant", "Failed audience check.")) }
}

fn check_time(claims: &Value, now: Timestamp) -> Result<(), Refusal> {
    let now = now.as_second();
    let time = |name: &str| {
        claims[name]
            .as_i64()
            .ok_or_else(|| refuse("invalid_grant", format!("Missing required claim: {name}")))
    };
    let (issued, expires) = (time("iat")?, time("exp")?);
    let short_lived = expires.saturating_sub(issued) <= LIFETIME_SECONDS;
    if issued > now + CLOCK_SKEW_SECONDS || expires.saturating_add(CLOCK_SKEW_SECONDS) <= now || !short_lived
    {
        let why = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check \
                   your iat and exp values in the JWT claim.";
        return Err(refuse("invalid_grant", why));
    }
    Ok(())
}
