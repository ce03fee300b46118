//! Keys that the owner of a service account keeps: made here once, told once, and from then on only known by their
//! public half.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use vestibule_iam::token::key::{PublicKey, SigningKey};
use vestibule_model::time;
use vestibule_store::View;

use super::Iam;
use super::find::{Account, find};
use crate::{Document, Error, document};

/// Most keys of one account (IAM quota).
const MAX_KEYS: usize = 10;
/// End of a key that does not expire.
const NEVER: &str = "9999-12-31T23:59:59Z";

/// Where the member with what is not shown stands.
const PRIVATE: &str = "vestibule";

impl Iam<'_> {
    /// Makes a key. The answer alone holds its private half: a credentials file whose `token_uri` is `token_uri`.
    pub fn create_key(
        &self,
        project: &str,
        account: &str,
        body: &Document,
        token_uri: &str,
    ) -> Result<Value, Error> {
        let found = find(&self.control.view(), project, account)?;
        match document::text(body, "privateKeyType") {
            None | Some("TYPE_UNSPECIFIED" | "TYPE_GOOGLE_CREDENTIALS_FILE") => {}
            Some(other) => {
                return Err(Error::not_built(format!("iam.projects.serviceAccounts.keys.create ({other})")));
            }
        }
        match document::text(body, "keyAlgorithm") {
            None | Some("KEY_ALG_UNSPECIFIED" | "KEY_ALG_RSA_2048") => {}
            Some(other) => {
                return Err(Error::not_built(format!("iam.projects.serviceAccounts.keys.create ({other})")));
            }
        }
        // Takes its time: done before anybody's turn is taken.
        let key = SigningKey::generate().map_err(|error| Error::internal(error.to_string()))?;
        let certificate =
            key.certificate_pem(&found.email).map_err(|error| Error::internal(error.to_string()))?;
        let mut doc = json!({
            "name": format!("{}/keys/{}", found.relative(), key.id()),
            "keyAlgorithm": "KEY_ALG_RSA_2048",
            "keyOrigin": "GOOGLE_PROVIDED",
            "keyType": "USER_MANAGED",
            "validAfterTime": time::rfc3339_seconds(Timestamp::now()),
            "validBeforeTime": NEVER,
        });
        doc[PRIVATE] = json!({ "jwk": key.public().jwk(), "certificate": certificate });
        self.control.change(|change| {
            // The account may have gone while the key was being made.
            find(change.view(), project, account)?;
            if keys_of(change.view(), &found).len() >= MAX_KEYS {
                return Err(Error::FailedPrecondition {
                    message: "Precondition check failed: the service account has the most keys it can have."
                        .to_owned(),
                });
            }
            change.put(&key_of(&found, key.id()), doc.clone());
            Ok(())
        })?;
        let mut shown = show(&doc);
        shown["privateKeyType"] = "TYPE_GOOGLE_CREDENTIALS_FILE".into();
        shown["privateKeyData"] = STANDARD.encode(credentials_file(&found, &key, token_uri)).into();
        Ok(shown)
    }

    /// A key; `public_key_type` asks for its public half.
    pub fn key(
        &self,
        project: &str,
        account: &str,
        id: &str,
        public_key_type: Option<&str>,
    ) -> Result<Value, Error> {
        let view = self.control.view();
        let found = find(&view, project, account)?;
        let stored = stored_key(&view, &found, id)?;
        let mut shown = show(stored);
        match public_key_type {
            None | Some("TYPE_NONE") => {}
            Some("TYPE_X509_PEM_FILE") => {
                let certificate = stored[PRIVATE]["certificate"].as_str().unwrap_or_default();
                shown["publicKeyData"] = STANDARD.encode(certificate).into();
            }
            Some(other) => {
                return Err(Error::not_built(format!("iam.projects.serviceAccounts.keys.get ({other})")));
            }
        }
        Ok(shown)
    }

    /// All keys of an account.
    pub fn keys(&self, project: &str, account: &str) -> Result<Value, Error> {
        let view = self.control.view();
        let found = find(&view, project, account)?;
        let keys: Vec<Value> = keys_of(&view, &found).into_iter().map(|(_, key)| show(key)).collect();
        Ok(if keys.is_empty() { json!({}) } else { json!({ "keys": keys }) })
    }

    /// Deletes a key.
    pub fn delete_key(&self, project: &str, account: &str, id: &str) -> Result<(), Error> {
        self.change_key(project, account, id, |_| None)
    }

    /// Switches a key off or on.
    pub fn set_key_disabled(
        &self,
        project: &str,
        account: &str,
        id: &str,
        disabled: bool,
    ) -> Result<(), Error> {
        self.change_key(project, account, id, |mut key| {
            match disabled {
                true => key.insert("disabled".into(), true.into()),
                false => key.remove("disabled"),
            };
            Some(key)
        })
    }

    fn change_key(
        &self,
        project: &str,
        account: &str,
        id: &str,
        edit: impl FnOnce(Map<String, Value>) -> Option<Map<String, Value>>,
    ) -> Result<(), Error> {
        self.control.change(|change| {
            let found = find(change.view(), project, account)?;
            let stored = document::object(stored_key(change.view(), &found, id)?).clone();
            match edit(stored) {
                Some(key) => change.put(&key_of(&found, id), Value::Object(key)),
                None => change.delete(&key_of(&found, id)),
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The public keys of an account by id: its owner's and the one that the system manages. As JSON Web Keys, or as
    /// X.509 certificates. Blocks while the latter is being made.
    pub fn public_keys(&self, account: &str, certificates: bool) -> Result<Value, Error> {
        let view = self.control.view();
        let found = find(&view, "-", account)
            .map_err(|_| Error::NotFound { message: format!("Unknown account {account}") })?;
        let system = self.system_key(&found)?;
        let keys = keys_of(&view, &found);
        if !certificates {
            let jwks = keys.iter().map(|(_, key)| key[PRIVATE]["jwk"].clone());
            return Ok(json!({ "keys": jwks.chain([system.public().jwk()]).collect::<Vec<_>>() }));
        }
        let mut out = Map::new();
        for (id, key) in keys {
            out.insert(id, key[PRIVATE]["certificate"].clone());
        }
        let certificate =
            system.certificate_pem(&found.email).map_err(|error| Error::internal(error.to_string()))?;
        out.insert(system.id().to_owned(), certificate.into());
        Ok(Value::Object(out))
    }

    /// The key that the system manages for an account.
    pub(super) fn system_key(&self, account: &Account) -> Result<std::sync::Arc<SigningKey>, Error> {
        let key = self.issuer.keyring().key(&account.unique_id);
        key.map_err(|error| Error::Unavailable { context: format!("the key of {}: {error}", account.email) })
    }

    /// The public key with an id, if it is the account's and not switched off.
    pub(super) fn verifying_key(&self, view: &View, account: &Account, id: &str) -> Option<PublicKey> {
        if let Ok(stored) = stored_key(view, account, id) {
            let enabled = stored["disabled"].as_bool() != Some(true);
            return PublicKey::from_jwk(&stored[PRIVATE]["jwk"]).filter(|_| enabled);
        }
        let system = self.system_key(account).ok()?;
        (system.id() == id).then(|| system.public().clone())
    }
}

fn key_of(account: &Account, id: &str) -> String {
    format!("{}/keys/{id}", account.key())
}

fn stored_key<'v>(view: &'v View, account: &Account, id: &str) -> Result<&'v Value, Error> {
    let stored = view.get(&key_of(account, id));
    stored
        .map(|kv| &*kv.value)
        .ok_or_else(|| Error::NotFound { message: format!("Service account key {id} does not exist.") })
}

fn keys_of<'v>(view: &'v View, account: &Account) -> Vec<(String, &'v Value)> {
    let prefix = key_of(account, "");
    let ids: Vec<String> = view.range(&prefix).map(|kv| kv.key[prefix.len()..].to_owned()).collect();
    ids.into_iter().filter_map(|id| Some((id.clone(), stored_key(view, account, &id).ok()?))).collect()
}

/// A key without what is not for eyes.
fn show(stored: &Value) -> Value {
    let mut shown = stored.clone();
    if let Some(shown) = shown.as_object_mut() {
        shown.remove(PRIVATE);
    }
    shown
}

/// The file that client libraries read.
fn credentials_file(account: &Account, key: &SigningKey, token_uri: &str) -> String {
    let base = token_uri.strip_suffix("/token").unwrap_or(token_uri);
    let email = &account.email;
    let file = json!({
        "type": "service_account",
        "project_id": account.project,
        "private_key_id": key.id(),
        "private_key": key.pkcs8_pem(),
        "client_email": email,
        "client_id": account.unique_id,
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_uri,
        "auth_provider_x509_cert_url": format!("{base}/oauth2/v1/certs"),
        "client_x509_cert_url": format!("{base}/robot/v1/metadata/x509/{}", email.replace('@', "%40")),
        "universe_domain": "googleapis.com",
    });
    format!("{file:#}\n")
}
