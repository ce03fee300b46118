//! The one who signs identity tokens.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::access::{self, AccessTokens};
use super::key::SigningKey;
use super::{AccessToken, ISSUER, IdTokenClaims, LIFETIME_SECONDS, TokenError, Verifier, jwt};
use crate::keyring::KeyRing;
use crate::{Principal, secret_file};

/// Name of the file with the private key, PKCS#8 DER.
const FILE: &str = "issuer.pk8";
/// Name of the folder with the keys of service accounts.
const ACCOUNTS: &str = "accounts";
/// Longest that minting waits for the key of a first start. Making one takes well below a second on one free core.
const KEY_WAIT: Duration = Duration::from_secs(30);

/// Mints tokens. Cheap to clone; all clones are one issuer.
///
/// The RSA key of a first start takes long enough to make that nobody should wait for it at start-up: opening returns
/// at once, and only who needs the key waits. Hence [`Issuer::id_token`] and [`Issuer::jwks`] may block and belong on
/// threads that may; checking a token never blocks, because no token can exist before the key does.
#[derive(Clone)]
pub struct Issuer(Arc<Shared>);

/// What issuer and verifiers share.
pub(super) struct Shared {
    key: OnceLock<SigningKey>,
    /// Why there is no key, once that is certain.
    failed: Mutex<Option<String>>,
    settled: Condvar,
    access: AccessTokens,
    keyring: KeyRing,
    accounts: ArcSwap<Accounts>,
}

/// Which unique id belongs to which address.
#[derive(Default)]
struct Accounts {
    email_by_id: HashMap<String, String>,
    id_by_email: HashMap<String, String>,
}

/// No token could be minted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueError(String);

impl std::fmt::Display for IssueError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for IssueError {}

impl Issuer {
    /// Opens the issuer whose keys lie in `dir`. A missing key is made in the background and kept there.
    ///
    /// Fails when the folder cannot be used, or when a key file holds something else: replacing it silently would
    /// void every token out there, so that is left to its owner.
    pub fn open(dir: &Path) -> io::Result<Issuer> {
        secret_file::make_dir(dir)?;
        let path = dir.join(FILE);
        let stored = secret_file::read(&path)?;
        let shared = Arc::new(Shared {
            key: OnceLock::new(),
            failed: Mutex::new(None),
            settled: Condvar::new(),
            access: AccessTokens::open(dir)?,
            keyring: KeyRing::open(&dir.join(ACCOUNTS))?,
            accounts: ArcSwap::default(),
        });
        match stored {
            Some(der) => {
                let key = SigningKey::from_pkcs8(&der).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
                })?;
                shared.settle(Ok(key));
            }
            None => {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name("issuer-key".to_owned())
                    .spawn(move || make_key(&shared, path))?;
            }
        }
        Ok(Issuer(shared))
    }

    /// Mints an identity token as of `now`. Blocks while the key of a first start is being made.
    pub fn id_token(&self, claims: &IdTokenClaims, now: Timestamp) -> Result<String, IssueError> {
        let key = self.key()?;
        Ok(jwt::sign(key, &id_token_claims(claims, now)))
    }

    /// Mints an access token as of `now` for a lifetime in seconds. Never blocks.
    pub fn access_token(
        &self,
        principal: &Principal,
        scopes: &[String],
        lifetime_seconds: i64,
        now: Timestamp,
    ) -> String {
        let expires = Timestamp::from_second(now.as_second().saturating_add(lifetime_seconds))
            .unwrap_or(Timestamp::MAX);
        self.0.access.mint(principal.email().unwrap_or_default(), scopes, expires)
    }

    /// Checks an access token that was minted here.
    pub fn verify_access_token(&self, token: &str, now: Timestamp) -> Result<AccessToken, TokenError> {
        self.0.access.verify(token, now)
    }

    /// Whether a bearer token claims to have been minted here. Others carry no principal.
    pub fn is_own_access_token(&self, token: &str) -> bool {
        access::is_ours(token)
    }

    /// The public keys as a JSON Web Key Set. Blocks like [`Issuer::id_token`].
    pub fn jwks(&self) -> Result<Value, IssueError> {
        Ok(json!({ "keys": [self.key()?.public().jwk()] }))
    }

    /// The public keys as X.509 certificates by key id. Blocks like [`Issuer::id_token`].
    pub fn certificates(&self) -> Result<Value, IssueError> {
        let key = self.key()?;
        let certificate = key.certificate_pem("vestibule issuer").map_err(|e| IssueError(e.to_string()))?;
        Ok(json!({ key.id(): certificate }))
    }

    /// Tells which account each unique id belongs to, whole. Tokens without an e-mail address need it, and so does
    /// who mints a token knowing only the address.
    pub fn set_accounts(&self, email_by_id: HashMap<String, String>) {
        let id_by_email = email_by_id.iter().map(|(id, email)| (email.clone(), id.clone())).collect();
        self.0.accounts.store(Arc::new(Accounts { email_by_id, id_by_email }));
    }

    /// The unique id of the account with an address: its own, or the one that follows from the address.
    pub fn unique_id(&self, email: &str) -> String {
        let accounts = self.0.accounts.load();
        accounts.id_by_email.get(email).cloned().unwrap_or_else(|| crate::account::unique_id(email))
    }

    /// The keys of single service accounts.
    pub fn keyring(&self) -> &KeyRing {
        &self.0.keyring
    }

    /// One who checks what this issuer mints.
    pub fn verifier(&self) -> Verifier {
        Verifier::new(Arc::clone(&self.0))
    }

    /// `true` once the key exists.
    pub fn is_ready(&self) -> bool {
        self.0.key.get().is_some()
    }

    fn key(&self) -> Result<&SigningKey, IssueError> {
        if let Some(key) = self.0.key.get() {
            return Ok(key);
        }
        let failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |failed: &mut Option<String>| failed.is_none() && self.0.key.get().is_none();
        let (failed, _) = self
            .0
            .settled
            .wait_timeout_while(failed, KEY_WAIT, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        match (self.0.key.get(), &*failed) {
            (Some(key), _) => Ok(key),
            (None, Some(why)) => Err(IssueError(why.clone())),
            (None, None) => {
                Err(IssueError(format!("no signing key after {} s; try again", KEY_WAIT.as_secs())))
            }
        }
    }
}

impl Shared {
    pub(super) fn key(&self) -> Option<&SigningKey> {
        self.key.get()
    }

    /// The address of the account with a unique id.
    pub(super) fn account(&self, unique_id: &str) -> Option<String> {
        let accounts = self.accounts.load();
        let known = accounts.email_by_id.get(unique_id).cloned();
        known.or_else(|| crate::account::default_compute_by_id(unique_id))
    }

    fn settle(&self, outcome: Result<SigningKey, String>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(key) => drop(self.key.set(key)),
            Err(why) => *failed = Some(why),
        }
        self.settled.notify_all();
    }
}

fn make_key(shared: &Shared, path: PathBuf) {
    let key = match SigningKey::generate() {
        Ok(key) => key,
        Err(error) => {
            tracing::error!(%error, "identity tokens cannot be signed");
            return shared.settle(Err(error.to_string()));
        }
    };
    // Kept before anyone can use it: a token must not outlive the key it was signed with.
    match secret_file::write(&path, key.pkcs8()) {
        Ok(()) => shared.settle(Ok(key)),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "the signing key cannot be kept");
            shared.settle(Err(format!("the signing key cannot be kept in {}: {error}", path.display())));
        }
    }
}

fn id_token_claims(claims: &IdTokenClaims, now: Timestamp) -> Value {
    let issued = now.as_second();
    let mut out = Map::new();
    out.insert("iss".into(), ISSUER.into());
    out.insert("aud".into(), claims.audience.as_str().into());
    out.insert("azp".into(), claims.authorized_party.as_ref().unwrap_or(&claims.subject).as_str().into());
    out.insert("sub".into(), claims.subject.as_str().into());
    out.insert("iat".into(), issued.into());
    out.insert("exp".into(), (issued + claims.lifetime_seconds.unwrap_or(LIFETIME_SECONDS)).into());
    if let Some(email) = &claims.email {
        out.insert("email".into(), email.as_str().into());
        out.insert("email_verified".into(), true.into());
    }
    Value::Object(out)
}
