use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use vestibule_iam::token::key::SigningKey;
use vestibule_iam::token::{GCLOUD_CLIENT_ID, TokenError, jwt};
use vestibule_iam::{Issuer, Principal};
use vestibule_store::Store;

use super::{Iam, IdTokenRequest};
use crate::{Control, Document, Error, Settings, document};

const EMAIL: &str = "caller@demo.iam.gserviceaccount.com";
const ENDPOINT: &str = "http://127.0.0.1:8470/token";
const AUDIENCE: &str = "https://svc.run.app";

struct World {
    control: Control,
    issuer: Issuer,
    _dir: TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(Store::open(&dir.path().join("store")).unwrap(), Settings::default());
        World { control, issuer: issuer(dir.path()), _dir: dir }
    }

    fn with_caller() -> World {
        let world = World::new();
        world.create("caller").unwrap();
        world
    }

    fn iam(&self) -> Iam<'_> {
        self.control.iam(&self.issuer)
    }

    fn create(&self, id: &str) -> Result<Value, Error> {
        self.iam()
            .create_account("demo", &body(json!({"accountId": id, "serviceAccount": {"displayName": "d"}})))
    }

    fn principal(&self, token: &str) -> Result<Principal, TokenError> {
        let verified = self.issuer.verifier().verify(token, &[AUDIENCE.to_owned()], Timestamp::now());
        verified.map(|verified| verified.principal)
    }
}

/// Every world has its own keys of accounts, but the issuer's key is made once: that takes time.
fn issuer(dir: &std::path::Path) -> Issuer {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    let key = KEY.get_or_init(|| SigningKey::generate().unwrap().pkcs8().to_vec());
    let dir = dir.join("iam");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("issuer.pk8"), key).unwrap();
    Issuer::open(&dir).unwrap()
}

fn body(value: Value) -> Document {
    document::object(&value).clone()
}

fn service_account() -> Principal {
    Principal::from_email(EMAIL)
}

#[test]
fn accounts_come_and_go() {
    let world = World::with_caller();
    let iam = world.iam();
    let account = iam.account("demo", EMAIL).unwrap();
    assert_eq!(account["name"], format!("projects/demo/serviceAccounts/{EMAIL}"));
    assert_eq!(
        (&account["projectId"], &account["email"], &account["displayName"]),
        (&json!("demo"), &json!(EMAIL), &json!("d"))
    );
    let id = account["uniqueId"].as_str().unwrap();
    assert_eq!(id.len(), 21);
    assert_eq!(iam.account("-", EMAIL).unwrap(), account);
    assert_eq!(iam.account("demo", id).unwrap(), account, "by its unique id");

    match world.create("caller") {
        Err(Error::AlreadyExists { message }) => {
            assert_eq!(message, "Service account caller already exists within project projects/demo.");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(world.create("no"), Err(Error::Invalid { .. })));
    match iam.account("demo", "x@demo.iam.gserviceaccount.com") {
        Err(Error::NotFound { message }) => assert_eq!(message, "Unknown service account"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        iam.account("-", "x@demo.iam.gserviceaccount.com"),
        Err(Error::PermissionDenied { .. })
    ));
    assert!(matches!(iam.account("other", EMAIL), Err(Error::NotFound { .. })));

    iam.delete_account("demo", EMAIL).unwrap();
    assert!(iam.account("demo", EMAIL).is_err());
    world.create("caller").unwrap();
    assert_ne!(iam.account("demo", EMAIL).unwrap()["uniqueId"], id, "another account");
}

#[test]
fn the_default_account_is_always_there() {
    let world = World::with_caller();
    let iam = world.iam();
    let listed = iam.accounts("demo");
    let emails: Vec<&str> = listed.iter().map(|account| account["email"].as_str().unwrap()).collect();
    assert_eq!(emails, ["496268734596-compute@developer.gserviceaccount.com", EMAIL]);
    assert_eq!(iam.account("demo", emails[0]).unwrap(), listed[0]);
    assert_eq!(iam.account("-", emails[0]).unwrap(), listed[0], "of a project that is in use");
    assert_eq!(iam.account("demo", listed[0]["uniqueId"].as_str().unwrap()).unwrap(), listed[0]);
    assert!(iam.account("other", emails[0]).is_err());
    assert!(matches!(iam.delete_account("demo", emails[0]), Err(Error::NotBuilt { .. })));
}

#[test]
fn changing_an_account() {
    let world = World::with_caller();
    let iam = world.iam();
    let patch =
        json!({"serviceAccount": {"displayName": "new", "description": "x"}, "updateMask": "displayName"});
    let changed = iam.patch_account("demo", EMAIL, &body(patch)).unwrap();
    assert_eq!((&changed["displayName"], changed.get("description")), (&json!("new"), None));
    let etag = changed["etag"].clone();
    let update =
        |etag: &Value| iam.update_account("demo", EMAIL, &body(json!({"description": "y", "etag": etag})));
    assert!(matches!(update(&json!("AAAA")), Err(Error::Aborted { .. })));
    let updated = update(&etag).unwrap();
    assert_eq!((&updated["description"], updated.get("displayName")), (&json!("y"), None));
    let long = json!({"serviceAccount": {"description": "d".repeat(257)}, "updateMask": "description"});
    assert!(matches!(iam.patch_account("demo", EMAIL, &body(long)), Err(Error::Invalid { .. })));
    let odd = json!({"serviceAccount": {}, "updateMask": "email"});
    assert!(matches!(iam.patch_account("demo", EMAIL, &body(odd)), Err(Error::Invalid { .. })));
}

#[test]
fn who_is_deleted_is_deleted_everywhere() {
    let world = World::with_caller();
    let id = world.iam().account("demo", EMAIL).unwrap()["uniqueId"].as_str().unwrap().to_owned();
    let bindings =
        json!([{"role": "roles/run.invoker", "members": [format!("serviceAccount:{EMAIL}"), "allUsers"]}]);
    world.control.set_project_policy("demo", &json!({"policy": {"bindings": bindings}})).unwrap();
    world.iam().delete_account("demo", EMAIL).unwrap();
    world.create("caller").unwrap();
    let policy = world.control.project_policy("demo", 1);
    assert_eq!(
        policy["bindings"][0]["members"],
        json!([format!("deleted:serviceAccount:{EMAIL}?uid={id}"), "allUsers"])
    );
}

#[test]
fn identity_tokens() {
    let world = World::with_caller();
    let request = |include_email| IdTokenRequest {
        audience: AUDIENCE.into(),
        include_email,
        ..IdTokenRequest::default()
    };
    for include_email in [true, false] {
        let answer =
            world.iam().generate_id_token(&Principal::local(), EMAIL, &request(include_email)).unwrap();
        let token = answer["token"].as_str().unwrap();
        assert_eq!(world.principal(token), Ok(service_account()));
        let claims = jwt::parse(token).unwrap().claims;
        assert_eq!(claims.get("email").is_some(), include_email);
        assert_eq!(claims["azp"], claims["sub"]);
    }
    let nobody =
        world.iam().generate_id_token(&Principal::local(), "x@demo.iam.gserviceaccount.com", &request(true));
    assert!(matches!(nobody, Err(Error::NotFound { .. })));
    let no_audience = IdTokenRequest::default();
    assert!(matches!(
        world.iam().generate_id_token(&Principal::local(), EMAIL, &no_audience),
        Err(Error::Required { .. })
    ));

    world.iam().set_account_disabled("demo", EMAIL, true).unwrap();
    let disabled = world.iam().generate_id_token(&Principal::local(), EMAIL, &request(true));
    assert!(matches!(disabled, Err(Error::FailedPrecondition { .. })));
    world.iam().set_account_disabled("demo", EMAIL, false).unwrap();
    assert!(world.iam().generate_id_token(&Principal::local(), EMAIL, &request(true)).is_ok());
}

#[test]
fn speaking_for_another_needs_a_grant() {
    let world = World::with_caller();
    world.create("target").unwrap();
    world.create("middle").unwrap();
    let address = |id: &str| format!("{id}@demo.iam.gserviceaccount.com");
    let target = address("target");
    let ask = |delegates: &[String]| {
        let request = IdTokenRequest {
            audience: AUDIENCE.into(),
            delegates: delegates.to_vec(),
            ..IdTokenRequest::default()
        };
        world.iam().generate_id_token(&service_account(), &target, &request)
    };
    let grant = |on: &str, to: &str, role: &str| {
        let bindings = json!([{"role": role, "members": [format!("serviceAccount:{}", address(to))]}]);
        world
            .iam()
            .set_account_policy("demo", &address(on), &json!({"policy": {"bindings": bindings}}))
            .unwrap();
    };
    assert!(matches!(ask(&[]), Err(Error::PermissionDenied { .. })));
    grant("target", "caller", "roles/iam.serviceAccountOpenIdTokenCreator");
    assert!(ask(&[]).is_ok());

    grant("target", "middle", "roles/iam.serviceAccountTokenCreator");
    assert!(matches!(ask(&[]), Err(Error::PermissionDenied { .. })));
    let through = [format!("projects/-/serviceAccounts/{}", address("middle"))];
    assert!(matches!(ask(&through), Err(Error::PermissionDenied { .. })));
    grant("middle", "caller", "roles/iam.serviceAccountTokenCreator");
    assert!(ask(&through).is_ok());

    let asked = ["iam.serviceAccounts.getAccessToken".to_owned()];
    let middle = Principal::from_email(&address("middle"));
    let held = world.iam().test_account_permissions("demo", &target, &asked, &middle).unwrap();
    assert_eq!(held, json!({"permissions": asked}));
    assert_eq!(
        world
            .iam()
            .test_account_permissions("demo", "x@demo.iam.gserviceaccount.com", &asked, &middle)
            .unwrap(),
        json!({})
    );
}

#[test]
fn access_tokens() {
    let world = World::with_caller();
    let ask = |request: Value| world.iam().generate_access_token(&Principal::local(), EMAIL, &body(request));
    let answer = ask(json!({"scope": ["a"], "lifetime": "60s", "delegates": null})).unwrap();
    let token =
        world.issuer.verify_access_token(answer["accessToken"].as_str().unwrap(), Timestamp::now()).unwrap();
    assert_eq!((token.principal, token.scopes), (service_account(), vec!["a".to_owned()]));
    assert_eq!(answer["expireTime"], vestibule_model::time::rfc3339_seconds(token.expires));
    for bad in [
        json!({}),
        json!({"scope": []}),
        json!({"scope": ["a"], "lifetime": "3601s"}),
        json!({"scope": ["a"], "lifetime": "1h"}),
    ] {
        assert!(ask(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn an_account_s_own_signature_is_no_identity() {
    let world = World::with_caller();
    let now = Timestamp::now().as_second();
    let sign =
        |payload: &str| world.iam().sign_jwt(&Principal::local(), EMAIL, &body(json!({"payload": payload})));
    let claims = json!({"iss": "https://accounts.google.com", "aud": AUDIENCE, "sub": "1", "email": EMAIL, "iat": now, "exp": now + 60});
    let answer = sign(&claims.to_string()).unwrap();
    let signed = answer["signedJwt"].as_str().unwrap();
    let parsed = jwt::parse(signed).unwrap();
    assert_eq!(parsed.claims, claims);
    assert_eq!(parsed.header.kid, answer["keyId"]);
    assert!(matches!(world.principal(signed), Err(TokenError::UnknownKey(_))));

    let published = world.iam().public_keys(EMAIL, false).unwrap();
    let key = published["keys"].as_array().unwrap().iter().find(|key| key["kid"] == answer["keyId"]).unwrap();
    let key = vestibule_iam::token::key::PublicKey::from_jwk(key).unwrap();
    assert!(key.verify(parsed.signed.as_bytes(), &parsed.signature), "the published key fits");
    let certificates = world.iam().public_keys(EMAIL, true).unwrap();
    assert!(certificates[key.id()].as_str().unwrap().contains("BEGIN CERTIFICATE"));

    let blob = json!({"payload": STANDARD.encode(b"bytes")});
    let answer = world.iam().sign_blob(&Principal::local(), EMAIL, &body(blob)).unwrap();
    let signature = STANDARD.decode(answer["signedBlob"].as_str().unwrap()).unwrap();
    assert!(key.verify(b"bytes", &signature));

    for payload in [
        "[]",
        "x",
        &json!({"exp": "soon"}).to_string(),
        &json!({"exp": now - 1}).to_string(),
        &json!({"exp": now + 12 * 3600 + 60}).to_string(),
    ] {
        assert!(matches!(sign(payload), Err(Error::Invalid { .. })), "{payload}");
    }
    assert!(sign("{}").is_ok());
}

#[test]
fn a_person_s_refresh_token() {
    let world = World::new();
    let answer = world.iam().refresh("anything", Some(GCLOUD_CLIENT_ID)).unwrap();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3599)));
    assert_eq!(world.principal(answer["id_token"].as_str().unwrap()), Ok(Principal::local()));
    let access =
        world.issuer.verify_access_token(answer["access_token"].as_str().unwrap(), Timestamp::now()).unwrap();
    assert_eq!(access.principal, Principal::local());
    assert_eq!(world.iam().refresh("", None).unwrap_err().error, "invalid_request");
    let own_client = world.iam().refresh("anything", Some("1-a.apps.googleusercontent.com")).unwrap();
    assert!(matches!(
        world.principal(own_client["id_token"].as_str().unwrap()),
        Err(TokenError::Audience(_))
    ));
    let made_up = world.iam().refresh("anything", Some("vestibule")).unwrap();
    assert!(world.principal(made_up["id_token"].as_str().unwrap()).is_ok());
}

/// The credentials file of a fresh key.
fn key_file(world: &World) -> Value {
    let answer = world.iam().create_key("demo", EMAIL, &Document::new(), ENDPOINT).unwrap();
    assert_eq!(answer.get("vestibule"), None);
    let file = STANDARD.decode(answer["privateKeyData"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&file).unwrap()
}

fn private_key(file: &Value) -> SigningKey {
    let pem = file["private_key"].as_str().unwrap();
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    SigningKey::from_pkcs8(&STANDARD.decode(text).unwrap()).unwrap()
}

#[test]
fn a_key_file_gets_tokens() {
    let world = World::with_caller();
    let file = key_file(&world);
    for (field, value) in [
        ("type", "service_account"),
        ("client_email", EMAIL),
        ("token_uri", ENDPOINT),
        ("project_id", "demo"),
    ] {
        assert_eq!(file[field], value, "{field}");
    }
    let key = private_key(&file);
    assert_eq!(file["private_key_id"], key.id());
    let now = Timestamp::now().as_second();
    let claims = |changes: Value| {
        let mut claims = json!({"iss": EMAIL, "aud": "https://oauth2.googleapis.com/token", "iat": now, "exp": now + 3600, "scope": "a b"});
        document::merge(claims.as_object_mut().unwrap(), body(changes));
        claims
    };
    let exchange = |claims: Value| world.iam().exchange(&jwt::sign(&key, &claims), ENDPOINT);

    let answer = exchange(claims(json!({}))).unwrap();
    let access =
        world.issuer.verify_access_token(answer["access_token"].as_str().unwrap(), Timestamp::now()).unwrap();
    assert_eq!((access.principal, access.scopes), (service_account(), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(answer.get("id_token"), None);
    let answer = exchange(claims(json!({"target_audience": AUDIENCE, "aud": ENDPOINT}))).unwrap();
    assert_eq!(world.principal(answer["id_token"].as_str().unwrap()), Ok(service_account()));
    assert_eq!(answer.get("access_token"), None);

    for (changes, error) in [
        (json!({"aud": "https://elsewhere/token"}), "invalid_grant"),
        (json!({"iss": null}), "invalid_grant"),
        (json!({"iss": "x@demo.iam.gserviceaccount.com"}), "invalid_grant"),
        (json!({"exp": now - 60, "iat": now - 120}), "invalid_grant"),
        (json!({"exp": now + 7200}), "invalid_grant"),
        (json!({"iat": now + 60, "exp": now + 120}), "invalid_grant"),
        (json!({"exp": null}), "invalid_grant"),
        (json!({"sub": "boss@example.com"}), "unauthorized_client"),
    ] {
        assert_eq!(exchange(claims(changes.clone())).unwrap_err().error, error, "{changes}");
    }
    let stranger = SigningKey::generate().unwrap();
    let forged = jwt::sign(&stranger, &claims(json!({})));
    assert_eq!(world.iam().exchange(&forged, ENDPOINT).unwrap_err().error, "invalid_grant");
    assert_eq!(world.iam().exchange("garbage", ENDPOINT).unwrap_err().error, "invalid_grant");

    world.iam().set_key_disabled("demo", EMAIL, key.id(), true).unwrap();
    assert_eq!(exchange(claims(json!({}))).unwrap_err().description, "Invalid JWT Signature.");
    world.iam().set_key_disabled("demo", EMAIL, key.id(), false).unwrap();
    assert!(exchange(claims(json!({}))).is_ok());
    world.iam().delete_key("demo", EMAIL, key.id()).unwrap();
    assert!(exchange(claims(json!({}))).is_err());
}

#[test]
fn keys_are_listed_without_their_secrets() {
    let world = World::with_caller();
    assert_eq!(world.iam().keys("demo", EMAIL).unwrap(), json!({}));
    let id = key_file(&world)["private_key_id"].as_str().unwrap().to_owned();
    let listed = world.iam().keys("demo", EMAIL).unwrap();
    let key = &listed["keys"][0];
    assert_eq!(key["name"], format!("projects/demo/serviceAccounts/{EMAIL}/keys/{id}"));
    assert_eq!((&key["keyType"], &key["keyAlgorithm"]), (&json!("USER_MANAGED"), &json!("KEY_ALG_RSA_2048")));
    assert_eq!((key.get("vestibule"), key.get("privateKeyData")), (None, None));
    assert_eq!(world.iam().key("demo", EMAIL, &id, None).unwrap(), *key);
    let public = world.iam().key("demo", EMAIL, &id, Some("TYPE_X509_PEM_FILE")).unwrap();
    let pem = STANDARD.decode(public["publicKeyData"].as_str().unwrap()).unwrap();
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));
    assert!(matches!(world.iam().key("demo", EMAIL, "nope", None), Err(Error::NotFound { .. })));
    let p12 = body(json!({"privateKeyType": "TYPE_PKCS12_FILE"}));
    assert!(matches!(world.iam().create_key("demo", EMAIL, &p12, ENDPOINT), Err(Error::NotBuilt { .. })));
    let stored = world.control.view().range("").any(|kv| kv.value.to_string().contains("PRIVATE KEY"));
    assert!(!stored, "a private key is told once and kept nowhere");
}

#[test]
fn a_project_s_policy() {
    let world = World::new();
    let fresh = world.control.project_policy("demo", 3);
    assert_eq!(fresh["bindings"], json!([{"role": "roles/owner", "members": ["user:local@vestibule"]}]));
    let asked = ["run.services.create".to_owned(), "resourcemanager.projects.get".to_owned()];
    let held =
        |principal: &Principal| world.control.test_project_permissions("demo", &asked, principal).unwrap();
    assert_eq!(held(&Principal::local()), json!({"permissions": asked}));
    assert_eq!(held(&service_account()), json!({}));

    let request = json!({
        "policy": {"etag": fresh["etag"], "version": 3, "bindings": [{"role": "roles/viewer", "members": [format!("serviceAccount:{EMAIL}")]}]},
        "updateMask": "bindings,etag,auditConfigs",
    });
    let set = world.control.set_project_policy("demo", &request).unwrap();
    assert_eq!(world.control.project_policy("demo", 3), set);
    assert_eq!(held(&service_account()), json!({"permissions": ["resourcemanager.projects.get"]}));
    assert!(matches!(world.control.set_project_policy("demo", &request), Err(Error::Aborted { .. })));
}
