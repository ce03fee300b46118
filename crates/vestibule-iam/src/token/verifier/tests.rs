use std::sync::OnceLock;

use serde_json::json;

use super::*;
use crate::token::key::SigningKey;
use crate::{IdTokenClaims, Issuer, account};

const SERVICE: &str = "https://svc-123456789012.us-central1.run.app";
const CALLER: &str = "caller@demo.iam.gserviceaccount.com";
const NOW: i64 = 1_800_000_000;

/// One issuer for all tests: its key takes time to make. The folder goes with the last handle on it.
fn issuer() -> Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let issuer = Issuer::open(dir.path()).unwrap();
            issuer.jwks().unwrap();
            issuer
        })
        .clone()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn mint(claims: &IdTokenClaims) -> String {
    issuer().id_token(claims, at(NOW)).unwrap()
}

fn for_caller(audience: &str) -> String {
    mint(&IdTokenClaims::new(account::unique_id(CALLER), audience).with_email(CALLER))
}

fn verify(token: &str, now: i64) -> Result<VerifiedToken, TokenError> {
    issuer().verifier().verify(token, &[SERVICE.to_owned(), "custom/".to_owned()], at(now))
}

/// A token with these claims under the issuer's own key.
fn signed(claims: Value) -> String {
    jwt::sign(issuer().verifier().0.key().unwrap(), &claims)
}

#[test]
fn a_good_token_names_its_bearer() {
    let token = for_caller(SERVICE);
    for _ in 0..2 {
        // The second time the signature is remembered.
        let verified = verify(&token, NOW).unwrap();
        assert_eq!(verified.principal, Principal::ServiceAccount(CALLER.into()));
        assert_eq!(verified.subject, account::unique_id(CALLER));
        assert_eq!(verified.audience, SERVICE);
        assert_eq!(verified.expires, at(NOW + 3600));
    }
    assert!(matches!(verify(&token, NOW + 4000), Err(TokenError::Expired { .. })), "remembered, yet expired");
}

#[test]
fn audiences() {
    for good in [SERVICE.to_owned(), format!("{SERVICE}/"), "custom/".to_owned()] {
        assert!(verify(&for_caller(&good), NOW).is_ok(), "{good}");
    }
    for bad in ["https://other-1.us-central1.run.app", "custom", "custom//", "", GCLOUD_CLIENT_ID] {
        assert_eq!(verify(&for_caller(bad), NOW), Err(TokenError::Audience(bad.to_owned())), "{bad}");
    }
    let person = |email: &str| mint(&IdTokenClaims::new("1", GCLOUD_CLIENT_ID).with_email(email));
    assert_eq!(
        verify(&person("Me@example.com"), NOW).unwrap().principal,
        Principal::User("me@example.com".into())
    );
}

#[test]
fn time() {
    let token = for_caller(SERVICE);
    let last_good = NOW + 3600 + CLOCK_SKEW_SECONDS - 1;
    assert!(verify(&token, last_good).is_ok());
    assert_eq!(verify(&token, last_good + 1), Err(TokenError::Expired { at: at(NOW + 3600) }));
    assert!(verify(&token, NOW - CLOCK_SKEW_SECONDS).is_ok());
    assert_eq!(verify(&token, NOW - CLOCK_SKEW_SECONDS - 1), Err(TokenError::NotYetValid { from: at(NOW) }));
}

#[test]
fn issuers() {
    let claims = |iss: &str| json!({"iss": iss, "aud": SERVICE, "sub": "1", "email": CALLER, "iat": NOW, "exp": NOW + 60});
    assert!(verify(&signed(claims("accounts.google.com")), NOW).is_ok());
    let evil = "https://accounts.google.com.evil";
    assert_eq!(verify(&signed(claims(evil)), NOW), Err(TokenError::Issuer(evil.into())));
}

#[test]
fn a_service_account_cannot_sign_for_itself() {
    let own = SigningKey::generate().unwrap();
    let claims =
        json!({"iss": ISSUER, "aud": SERVICE, "sub": "1", "email": CALLER, "iat": NOW, "exp": NOW + 60});
    let token = jwt::sign(&own, &claims);
    assert_eq!(verify(&token, NOW), Err(TokenError::UnknownKey(own.id().into())));
}

#[test]
fn a_changed_token_is_refused() {
    let token = for_caller(SERVICE);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let mut other = signature.to_owned();
    other.replace_range(0..1, if other.starts_with('A') { "B" } else { "A" });
    assert_eq!(verify(&format!("{head}.{other}"), NOW), Err(TokenError::Signature));
    assert_eq!(verify(&format!("{head}."), NOW), Err(TokenError::Signature));

    let claims = for_caller("https://elsewhere.run.app");
    let stolen = format!("{}.{signature}", claims.rsplit_once('.').unwrap().0);
    assert_eq!(verify(&stolen, NOW), Err(TokenError::Signature));
    let removed = super::super::without_signature(&token).unwrap();
    assert!(verify(&removed, NOW).is_err());
}

#[test]
fn other_algorithms_are_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let kid = issuer().verifier().0.key().unwrap().id().to_owned();
    let claims =
        json!({"iss": ISSUER, "aud": SERVICE, "sub": "1", "email": CALLER, "iat": NOW, "exp": NOW + 60});
    for alg in ["none", "HS256", "RS512"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": kid}).to_string());
        let token = format!("{header}.{}.", URL_SAFE_NO_PAD.encode(claims.to_string()));
        assert_eq!(verify(&token, NOW), Err(TokenError::Algorithm(alg.into())));
    }
}

#[test]
fn an_access_token_is_no_identity_token() {
    let principal = Principal::from_email(CALLER);
    let token = issuer().access_token(&principal, &["a".into(), "b".into()], 60, at(NOW));
    assert!(token.starts_with("ya29."));
    assert!(matches!(verify(&token, NOW), Err(TokenError::Malformed(_))));
    assert!(matches!(verify("garbage", NOW), Err(TokenError::Malformed(_))));

    let checked = issuer().verify_access_token(&token, at(NOW)).unwrap();
    assert_eq!((checked.principal, checked.expires), (principal, at(NOW + 60)));
    assert_eq!(checked.scopes, ["a", "b"]);
    assert!(matches!(
        issuer().verify_access_token(&token, at(NOW + 60 + CLOCK_SKEW_SECONDS)),
        Err(TokenError::Expired { .. })
    ));
    let changed = token.replacen("ya29.v.e", "ya29.v.f", 1);
    assert_eq!(issuer().verify_access_token(&changed, at(NOW)), Err(TokenError::Signature));
    assert!(matches!(issuer().verify_access_token("ya29.x", at(NOW)), Err(TokenError::Malformed(_))));
    assert!(issuer().is_own_access_token(&token) && !issuer().is_own_access_token("ya29.a0Af"));
}

#[test]
fn a_token_without_email_is_resolved_by_its_subject() {
    let default = account::default_compute("123456789012");
    let token = mint(&IdTokenClaims::new(account::unique_id(&default), SERVICE));
    assert_eq!(verify(&token, NOW).unwrap().principal, Principal::ServiceAccount(default));

    let unknown = mint(&IdTokenClaims::new("119999999999999999999", SERVICE));
    assert_eq!(verify(&unknown, NOW), Err(TokenError::UnknownSubject("119999999999999999999".into())));
    let known = mint(&IdTokenClaims::new("118888888888888888888", SERVICE));
    issuer().set_accounts(HashMap::from([("118888888888888888888".to_owned(), CALLER.to_owned())]));
    assert_eq!(verify(&known, NOW).unwrap().principal, Principal::ServiceAccount(CALLER.into()));
    assert_eq!(issuer().unique_id(CALLER), "118888888888888888888");
    assert_eq!(issuer().unique_id("other@example.com"), account::unique_id("other@example.com"));
}

#[test]
fn an_issuer_keeps_its_key_and_never_overwrites_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = Issuer::open(dir.path()).unwrap();
    let keys = first.jwks().unwrap();
    let access = first.access_token(&Principal::local(), &[], 60, at(NOW));
    assert!(first.is_ready());

    let second = Issuer::open(dir.path()).unwrap();
    assert!(second.is_ready(), "a stored key is there at once");
    assert_eq!(second.jwks().unwrap(), keys);
    assert!(second.verify_access_token(&access, at(NOW)).is_ok());
    let kid = keys["keys"][0]["kid"].as_str().unwrap();
    assert!(second.certificates().unwrap()[kid].as_str().unwrap().contains("BEGIN CERTIFICATE"));

    std::fs::write(dir.path().join("issuer.pk8"), b"not a key").unwrap();
    let error = Issuer::open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("issuer.pk8"), "{error}");
}
