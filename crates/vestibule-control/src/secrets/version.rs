//! Versions of secrets: added, read, switched off, destroyed.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::{STANDARD as STANDARD_ALPHABET, URL_SAFE as URL_SAFE_ALPHABET};
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde_json::{Value, json};
use vestibule_iam::Principal;
use vestibule_model::time;
use vestibule_store::View;

use super::checksum::crc32c;
use super::name::Name;
use super::secret::{self, check_etag};
use super::{Secrets, policy, time as when};
use crate::{Change, Document, Error};

/// Largest payload. Secret Manager v1, `SecretPayload.data`.
pub(super) const MAX_PAYLOAD: usize = 64 << 10;

/// Reads base64 as protocol buffers' JSON does: either alphabet, with or without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// What may be done with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Enabled,
    Disabled,
    Destroyed,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Enabled => "ENABLED",
            State::Disabled => "DISABLED",
            State::Destroyed => "DESTROYED",
        }
    }
}

/// A version that exists.
pub(super) struct Version {
    pub(super) number: u64,
    document: Arc<Value>,
}

impl Version {
    /// What it is now: the time for its destruction may have come since it was written.
    fn state(&self, now: Timestamp) -> State {
        let due = when::moment(&self.document, "scheduledDestroyTime").is_some_and(|at| at <= now);
        match self.document["state"].as_str() {
            _ if due => State::Destroyed,
            Some("ENABLED") => State::Enabled,
            Some("DISABLED") => State::Disabled,
            _ => State::Destroyed,
        }
    }

    /// As clients see it.
    fn shown(&self, now: Timestamp) -> Value {
        let mut shown = (*self.document).clone();
        if self.state(now) == State::Destroyed && self.document["state"] != "DESTROYED" {
            destroyed(&mut shown);
        }
        shown
    }
}

/// Turns a document that waits for its destruction into a destroyed one.
fn destroyed(document: &mut Value) {
    document["state"] = State::Destroyed.word().into();
    if let Some(members) = document.as_object_mut()
        && let Some(at) = members.remove("scheduledDestroyTime")
    {
        members.insert("destroyTime".into(), at);
    }
}

impl Secrets<'_> {
    /// Adds a version with the payload in an `AddSecretVersionRequest`.
    pub fn add_version(&self, project: &str, secret: &str, body: &Document) -> Result<Value, Error> {
        let name = Name::new(project, secret);
        let payload = body.get("payload").filter(|payload| payload.is_object());
        let payload = payload.ok_or_else(|| Error::required("payload"))?;
        let data = decode(payload["data"].as_str().unwrap_or_default())?;
        let checksum = check_payload(&data, &payload["dataCrc32c"])?;
        let (made, _) = self.control.change(|change| {
            sweep(change, &name);
            let mut secret = (*secret::staged(change, &name)?).clone();
            let number = secret["vestibule"]["versions"].as_u64().unwrap_or(0) + 1;
            let now = change.now();
            let mut document = json!({
                "name": name.version_shown(&number.to_string()),
                "createTime": time::rfc3339(now),
                "state": State::Enabled.word(),
                "replicationStatus": replication_status(&secret),
                "etag": secret::etag(now),
            });
            if payload["dataCrc32c"] != Value::Null {
                document["clientSpecifiedPayloadChecksum"] = true.into();
            }
            secret["vestibule"]["versions"] = number.into();
            change.put(&name.key(), secret);
            change.put(&name.version_key(number), document.clone());
            change.put(
                &name.payload_key(number),
                json!({ "data": STANDARD.encode(&data), "dataCrc32c": checksum.to_string() }),
            );
            Ok(document)
        })?;
        Ok(made)
    }

    /// A version's settings. `version` is a number, an alias or `latest`.
    pub fn version(&self, project: &str, secret: &str, version: &str) -> Result<Value, Error> {
        let name = Name::new(project, secret);
        let now = Timestamp::now();
        Ok(find(&self.control.view(), &name, version, now)?.shown(now))
    }

    /// All versions of a secret.
    pub fn versions(&self, project: &str, secret: &str) -> Result<Vec<Value>, Error> {
        let name = Name::new(project, secret);
        let now = Timestamp::now();
        let view = self.control.view();
        secret::find(&view, &name, now)?;
        let prefix = name.versions_prefix();
        let all = view.range(&prefix).filter_map(|kv| of_key(&kv.key, &kv.value));
        Ok(all.map(|version| version.shown(now)).collect())
    }

    /// A version's payload, in the form of an `AccessSecretVersionResponse`.
    pub fn access(
        &self,
        project: &str,
        secret: &str,
        version: &str,
        principal: &Principal,
    ) -> Result<Value, Error> {
        let name = Name::new(project, secret);
        let view = self.control.view();
        policy::check_access(self.control, &view, &name, version, principal)?;
        let (number, payload) = payload(&view, &name, version, Timestamp::now())?;
        Ok(json!({
            "name": name.version_shown(&number.to_string()),
            "payload": { "data": payload["data"], "dataCrc32c": payload["dataCrc32c"] },
        }))
    }

    /// Makes a version readable again.
    pub fn enable_version(
        &self,
        project: &str,
        secret: &str,
        version: &str,
        etag: Option<&str>,
    ) -> Result<Value, Error> {
        self.set_state(project, secret, version, etag, State::Enabled)
    }

    /// Makes a version unreadable.
    pub fn disable_version(
        &self,
        project: &str,
        secret: &str,
        version: &str,
        etag: Option<&str>,
    ) -> Result<Value, Error> {
        self.set_state(project, secret, version, etag, State::Disabled)
    }

    /// Destroys a version's payload for good, at once or after the secret's `versionDestroyTtl`.
    pub fn destroy_version(
        &self,
        project: &str,
        secret: &str,
        version: &str,
        etag: Option<&str>,
    ) -> Result<Value, Error> {
        self.set_state(project, secret, version, etag, State::Destroyed)
    }

    fn set_state(
        &self,
        project: &str,
        secret: &str,
        version: &str,
        etag: Option<&str>,
        state: State,
    ) -> Result<Value, Error> {
        let name = Name::new(project, secret);
        let (changed, _) = self.control.change(|change| {
            let now = change.now();
            sweep(change, &name);
            let secret = secret::staged(change, &name)?;
            let number = version.parse().map_err(|_| name.version_not_found(version))?;
            let document =
                change.get(&name.version_key(number)).ok_or_else(|| name.version_not_found(version))?;
            check_etag(&document, etag)?;
            if document["state"] == State::Destroyed.word() {
                return Err(in_state(&name, number, State::Destroyed));
            }
            let mut document = (*document).clone();
            match (state, when::destroy_ttl(&secret)?) {
                (State::Destroyed, Some(wait)) => {
                    document["state"] = State::Disabled.word().into();
                    let at = now.checked_add(wait).unwrap_or(Timestamp::MAX);
                    document["scheduledDestroyTime"] = time::rfc3339(at).into();
                }
                (State::Destroyed, None) => {
                    document["scheduledDestroyTime"] = time::rfc3339(now).into();
                    destroyed(&mut document);
                    change.delete(&name.payload_key(number));
                }
                (State::Enabled | State::Disabled, _) => {
                    document["state"] = state.word().into();
                    // To switch it on or off is to change one's mind about its destruction.
                    if let Some(members) = document.as_object_mut() {
                        members.remove("scheduledDestroyTime");
                    }
                }
            }
            document["etag"] = secret::etag(now).into();
            change.put(&name.version_key(number), document.clone());
            Ok(document)
        })?;
        Ok(changed)
    }
}

/// Stages the destruction of versions whose time has come.
pub(super) fn sweep(change: &mut Change<'_>, name: &Name) {
    let now = change.now();
    for (key, document) in change.range(&name.versions_prefix()) {
        let Some(version) = of_key(&key, &document) else { continue };
        if version.state(now) == State::Destroyed && document["state"] != State::Destroyed.word() {
            change.put(&key, version.shown(now));
            change.delete(&name.payload_key(version.number));
        }
    }
}

fn of_key(key: &str, document: &Arc<Value>) -> Option<Version> {
    let number = key.rsplit('/').next()?.parse().ok()?;
    Some(Version { number, document: Arc::clone(document) })
}

/// Finds a version: by its number, by an alias, or the newest as `latest`.
fn find(view: &View, name: &Name, version: &str, now: Timestamp) -> Result<Version, Error> {
    let secret = secret::find(view, name, now).map_err(|missing| match version {
        "latest" => name.version_not_found(version),
        _ => missing,
    })?;
    let number = match version {
        "latest" => secret["vestibule"]["versions"].as_u64(),
        version => {
            version.parse().ok().or_else(|| secret::version_number(&secret["versionAliases"][version]))
        }
    };
    let stored = number.and_then(|number| view.get(&name.version_key(number)));
    stored.and_then(|kv| of_key(&kv.key, &kv.value)).ok_or_else(|| name.version_not_found(version))
}

/// The payload's document of a version that is enabled, and the version's number.
pub(super) fn payload(
    view: &View,
    name: &Name,
    version: &str,
    now: Timestamp,
) -> Result<(u64, Arc<Value>), Error> {
    let found = find(view, name, version, now)?;
    let number = found.number;
    match found.state(now) {
        State::Enabled => {
            let stored = view.get(&name.payload_key(number));
            let missing =
                || Error::internal(format!("the payload of {} is missing", name.payload_key(number)));
            Ok((number, stored.ok_or_else(missing)?.value.clone()))
        }
        state => Err(in_state(name, number, state)),
    }
}

fn in_state(name: &Name, number: u64, state: State) -> Error {
    let version = name.version_shown(&number.to_string());
    Error::FailedPrecondition { message: format!("Secret Version [{version}] is in {} state.", state.word()) }
}

/// Reads a payload's base64.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, Error> {
    let alphabet = if text.contains(['-', '_']) { URL_SAFE_ALPHABET } else { STANDARD_ALPHABET };
    GeneralPurpose::new(&alphabet, LENIENT)
        .decode(text)
        // The text itself must not get into an error.
        .map_err(|_| {
            Error::bad_request("Invalid value at 'payload.data' (TYPE_BYTES), Base64 decoding failed.")
        })
}

/// Checks a payload's size, and its checksum if the client sent one. Answers with the checksum.
fn check_payload(data: &[u8], sent: &Value) -> Result<u32, Error> {
    if data.is_empty() {
        return Err(Error::required("payload.data"));
    }
    if data.len() > MAX_PAYLOAD {
        return Err(Error::bad_request(format!(
            "The requested payload size [{} bytes] exceeds the maximum limit of {} KiB.",
            data.len(),
            MAX_PAYLOAD >> 10
        )));
    }
    let checksum = crc32c(data);
    let sent = match sent {
        Value::Null => return Ok(checksum),
        Value::String(text) => text.parse::<i64>().ok(),
        number => number.as_i64(),
    };
    if sent == Some(i64::from(checksum)) {
        return Ok(checksum);
    }
    Err(Error::bad_request(
        "The checksum in 'payload.dataCrc32c' is not that of 'payload.data': the data was damaged on the way.",
    ))
}

fn replication_status(secret: &Value) -> Value {
    let replicas = &secret["replication"]["userManaged"]["replicas"];
    match replicas.as_array() {
        Some(replicas) => {
            let of = |replica: &Value| json!({ "location": replica["location"] });
            json!({ "userManaged": { "replicas": replicas.iter().map(of).collect::<Vec<_>>() } })
        }
        None => json!({ "automatic": {} }),
    }
}
