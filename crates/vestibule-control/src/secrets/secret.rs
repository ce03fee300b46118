//! Secrets: made, read, changed, deleted.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use vestibule_model::time;
use vestibule_store::View;

use super::name::{self, Name};
use super::{Secrets, time as when, version};
use crate::{Change, Document, Error, document};

/// Longest key of an annotation, and longest alias. Secret Manager v1, `Secret`.
const MAX_WORD: usize = 63;
/// Most bytes of all annotations together.
const MAX_ANNOTATIONS: usize = 16 << 10;
/// Most aliases of versions.
const MAX_ALIASES: usize = 50;

/// Documented and not built: notifications need Pub/Sub, keys of one's own need a key service.
const NOT_BUILT: [&str; 4] = ["customerManagedEncryption", "rotation", "tags", "topics"];
/// What a patch may change.
const CHANGEABLE: [&str; 6] =
    ["annotations", "expireTime", "labels", "ttl", "versionAliases", "versionDestroyTtl"];

impl Secrets<'_> {
    /// Makes a secret without versions.
    pub fn create(&self, project: &str, secret: &str, body: Document) -> Result<Value, Error> {
        if secret.is_empty() {
            return Err(Error::required("secretId"));
        }
        let name = Name::checked(project, secret)?;
        let (made, _) = self.control.change(|change| {
            sweep(change, project);
            if change.exists(&name.key()) {
                return Err(Error::AlreadyExists {
                    message: format!("Secret [{}] already exists.", name.shown()),
                });
            }
            let document = new(&name, body, change.now())?;
            change.put(&name.key(), document.clone());
            Ok(document)
        })?;
        Ok(shown(&made))
    }

    /// A secret's settings.
    pub fn get(&self, project: &str, secret: &str) -> Result<Value, Error> {
        let name = Name::new(project, secret);
        Ok(shown(&*find(&self.control.view(), &name, Timestamp::now())?))
    }

    /// All secrets of a project.
    pub fn list(&self, project: &str) -> Vec<Value> {
        let now = Timestamp::now();
        let view = self.control.view();
        let prefix = name::prefix(project);
        let alive = view.range(&prefix).filter(|kv| !is_expired(&kv.value, now));
        alive.map(|kv| shown(&kv.value)).collect()
    }

    /// Changes the fields that `mask` names.
    pub fn patch(&self, project: &str, secret: &str, body: &Document, mask: &str) -> Result<Value, Error> {
        let name = Name::new(project, secret);
        let fields = fields(mask)?;
        let (changed, _) = self.control.change(|change| {
            let mut secret = (*staged(change, &name)?).clone();
            check_etag(&secret, document::text(body, "etag"))?;
            apply(&mut secret, body, &fields, change.now())?;
            check(&secret)?;
            check_aliases(change, &name, &secret)?;
            secret["etag"] = etag(change.now()).into();
            change.put(&name.key(), secret.clone());
            Ok(secret)
        })?;
        Ok(shown(&changed))
    }

    /// Deletes a secret with all its versions.
    pub fn delete(&self, project: &str, secret: &str, etag: Option<&str>) -> Result<(), Error> {
        let name = Name::new(project, secret);
        self.control.change(|change| {
            check_etag(&*staged(change, &name)?, etag)?;
            remove(change, &name);
            Ok(())
        })?;
        Ok(())
    }
}

/// The stored document of a secret that has not expired.
pub(super) fn find(view: &View, name: &Name, now: Timestamp) -> Result<Arc<Value>, Error> {
    let stored = view.get(&name.key()).map(|kv| kv.value.clone());
    stored.filter(|secret| !is_expired(secret, now)).ok_or_else(|| name.not_found())
}

/// The same within a change.
pub(super) fn staged(change: &Change<'_>, name: &Name) -> Result<Arc<Value>, Error> {
    let stored = change.get(&name.key());
    stored.filter(|secret| !is_expired(secret, change.now())).ok_or_else(|| name.not_found())
}

fn is_expired(secret: &Value, now: Timestamp) -> bool {
    when::moment(secret, "expireTime").is_some_and(|at| at <= now)
}

/// Stages what time has done to a project's secrets.
pub(super) fn sweep(change: &mut Change<'_>, project: &str) {
    let now = change.now();
    for (key, secret) in change.range(&name::prefix(project)) {
        let name = Name::new(project, key.rsplit('/').next().unwrap_or_default());
        if is_expired(&secret, now) {
            remove(change, &name);
        } else {
            version::sweep(change, &name);
        }
    }
}

fn remove(change: &mut Change<'_>, name: &Name) {
    for (key, _) in change.range(&name.versions_prefix()) {
        if let Some(number) = key.rsplit('/').next().and_then(|number| number.parse().ok()) {
            change.delete(&name.payload_key(number));
        }
        change.delete(&key);
    }
    change.delete(&name.policy_key());
    change.delete(&name.key());
}

/// A secret as clients see it.
fn shown(stored: &Value) -> Value {
    let mut shown = stored.clone();
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("vestibule");
    }
    shown
}

/// An etag: quoted, as Google's are. It changes with every write.
pub(super) fn etag(now: Timestamp) -> String {
    format!("\"{:x}\"", now.as_microsecond())
}

/// Refuses a stale etag. None is none.
pub(super) fn check_etag(stored: &Value, sent: Option<&str>) -> Result<(), Error> {
    match sent.filter(|sent| !sent.is_empty()) {
        Some(sent) if stored["etag"] != sent => Err(Error::FailedPrecondition {
            message: format!(
                "The etag provided [{sent}] does not match the current etag [{}].",
                stored["etag"].as_str().unwrap_or_default()
            ),
        }),
        _ => Ok(()),
    }
}

fn new(name: &Name, mut body: Document, now: Timestamp) -> Result<Value, Error> {
    document::drop_nulls(&mut body);
    document::not_built(&body, "secretmanager.projects.secrets", &NOT_BUILT)?;
    body.retain(|member, _| {
        CHANGEABLE.contains(&member.as_str()) || matches!(member.as_str(), "replication" | "secretType")
    });
    check_replication(body.get("replication").unwrap_or(&Value::Null))?;
    if let Some(kind) = document::text(&body, "secretType")
        && kind != "SECRET_TYPE_UNSPECIFIED"
    {
        return Err(Error::not_built(format!("secretmanager.projects.secrets.secretType ({kind})")));
    }
    body.remove("secretType");
    expire(&mut body, now)?;
    body.insert("name".into(), name.shown().into());
    body.insert("createTime".into(), time::rfc3339(now).into());
    body.insert("etag".into(), etag(now).into());
    body.insert("vestibule".into(), json!({ "versions": 0 }));
    let secret = Value::Object(body);
    check(&secret)?;
    if secret["versionAliases"].as_object().is_some_and(|aliases| !aliases.is_empty()) {
        return Err(Error::bad_request("versionAliases cannot be set on a secret without versions."));
    }
    Ok(secret)
}

/// `ttl` is another way to say `expireTime`, and is not shown.
fn expire(body: &mut Document, now: Timestamp) -> Result<(), Error> {
    let ttl = body.remove("ttl");
    match (ttl.as_ref().and_then(Value::as_str), document::text(body, "expireTime")) {
        (Some(_), Some(_)) => Err(Error::bad_request("Only one of ttl and expireTime may be set.")),
        (Some(ttl), None) => {
            let at = when::after_ttl(now, ttl)?;
            body.insert("expireTime".into(), time::rfc3339(at).into());
            Ok(())
        }
        (None, Some(expiry)) => when::check_expiry(now, expiry),
        (None, None) => Ok(()),
    }
}

fn check_replication(replication: &Value) -> Result<(), Error> {
    let encrypted = |part: &Value| part["customerManagedEncryption"].is_object();
    let key = || Error::not_built("secretmanager.projects.secrets.replication.customerManagedEncryption");
    match (&replication["automatic"], &replication["userManaged"]) {
        (automatic @ Value::Object(_), Value::Null) => match encrypted(automatic) {
            true => Err(key()),
            false => Ok(()),
        },
        (Value::Null, user_managed @ Value::Object(_)) => {
            let replicas = user_managed["replicas"].as_array().map_or(&[][..], Vec::as_slice);
            if replicas.is_empty() {
                return Err(Error::required("secret.replication.userManaged.replicas"));
            }
            if replicas.iter().any(encrypted) {
                return Err(key());
            }
            for (index, replica) in replicas.iter().enumerate() {
                let location = replica["location"].as_str().unwrap_or_default();
                if vestibule_model::region::find(location).is_none() {
                    let field = format!("secret.replication.userManaged.replicas[{index}].location");
                    return Err(Error::invalid(field, location, "It is no location."));
                }
            }
            Ok(())
        }
        _ => Err(Error::required("secret.replication")),
    }
}

/// Checks what a client may choose.
fn check(secret: &Value) -> Result<(), Error> {
    let members = |field: &str| secret[field].as_object().into_iter().flatten();
    crate::compute::check_labels(document::object(secret), "secret.labels")?;
    let mut size = 0;
    for (key, value) in members("annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        let ends = [key.chars().next(), key.chars().next_back()];
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good = key.len() <= MAX_WORD
            && key.chars().all(inside)
            && ends.iter().all(|c| c.is_some_and(|c| c.is_ascii_alphanumeric()));
        if !good {
            return Err(Error::invalid("secret.annotations", key, "It is no key of an annotation."));
        }
    }
    if size >= MAX_ANNOTATIONS {
        return Err(Error::bad_request(format!("Annotations must be smaller than {MAX_ANNOTATIONS} bytes.")));
    }
    when::destroy_ttl(secret)?;
    Ok(())
}

/// Aliases name versions that exist.
fn check_aliases(change: &Change<'_>, name: &Name, secret: &Value) -> Result<(), Error> {
    let Some(aliases) = secret["versionAliases"].as_object() else { return Ok(()) };
    if aliases.len() > MAX_ALIASES {
        return Err(Error::bad_request(format!("A secret may have at most {MAX_ALIASES} version aliases.")));
    }
    for (alias, version) in aliases {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let good = alias.len() <= MAX_WORD
            && alias.starts_with(|c: char| c.is_ascii_alphabetic())
            && alias.chars().all(fits)
            && !["latest", "NEW"].contains(&alias.as_str());
        if !good {
            return Err(Error::invalid("secret.versionAliases", alias, "It is no alias."));
        }
        let number = version_number(version);
        if !number.is_some_and(|number| change.exists(&name.version_key(number))) {
            return Err(Error::invalid(
                format!("secret.versionAliases[{alias}]"),
                document::quoted(version),
                "There is no such version.",
            ));
        }
    }
    Ok(())
}

/// The number that an alias stands for: a 64-bit integer, which JSON has as a string.
pub(super) fn version_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The fields of a mask, in JSON's spelling.
fn fields(mask: &str) -> Result<Vec<String>, Error> {
    let names = mask.split(',').map(str::trim).filter(|name| !name.is_empty());
    let fields: Vec<String> = names.map(camel_case).collect();
    if fields.is_empty() {
        return Err(Error::required("updateMask"));
    }
    for field in &fields {
        let first = field.split('.').next().unwrap_or_default();
        if NOT_BUILT.contains(&first) {
            return Err(Error::not_built(format!("secretmanager.projects.secrets.{first}")));
        }
        if !CHANGEABLE.contains(&first) {
            return Err(Error::invalid("updateMask", field, "The field cannot be changed."));
        }
    }
    Ok(fields)
}

fn camel_case(name: &str) -> String {
    // What follows the first dot may be a label, which keeps its underscores.
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let mut out = String::new();
    let mut up = false;
    for c in first.chars() {
        match c {
            '_' => up = true,
            c if up => {
                out.extend(c.to_uppercase());
                up = false;
            }
            c => out.push(c),
        }
    }
    rest.map_or(out.clone(), |rest| format!("{out}.{rest}"))
}

/// Puts the named fields of a body into a secret; a field that the body does not have is removed.
fn apply(secret: &mut Value, body: &Document, fields: &[String], now: Timestamp) -> Result<(), Error> {
    let Value::Object(secret) = secret else { return Ok(()) };
    let named = |field: &str| fields.iter().any(|name| name == field);
    for field in fields {
        match field.split_once('.') {
            None => put(secret, field, body.get(field)),
            Some((map, key)) => {
                let value = body.get(map).and_then(|map| map.get(key));
                let entry = secret.entry(map).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entry) = entry {
                    put(entry, key, value);
                }
            }
        }
    }
    if named("ttl") || named("expireTime") {
        if !named("expireTime") {
            secret.remove("expireTime");
        }
        expire(secret, now)?;
    }
    Ok(())
}

fn put(into: &mut Document, member: &str, value: Option<&Value>) {
    match value.filter(|value| !value.is_null()) {
        Some(value) => into.insert(member.to_owned(), value.clone()),
        None => into.remove(member),
    };
}
