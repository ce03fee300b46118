//! Replacing a policy: `setIamPolicy`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use jiff::Timestamp;
use serde_json::Value;

use super::{FRESH_ETAG, Policy, PolicyError};

/// The body of a `setIamPolicy` request.
#[derive(Debug, Clone, PartialEq)]
pub struct SetRequest {
    policy: Policy,
    /// Whether `updateMask` names `auditConfigs`; the default mask is `bindings, etag`.
    audit_configs: bool,
    /// Whether `updateMask` names `bindings`.
    bindings: bool,
}

impl SetRequest {
    /// Reads the body `{"policy": …, "updateMask": …}`.
    pub fn from_json(body: &Value) -> Result<SetRequest, PolicyError> {
        let policy = body.get("policy").filter(|policy| !policy.is_null());
        let Some(policy) = policy else {
            return Err(PolicyError::invalid("policy", "it is required"));
        };
        let version = match policy.get("version") {
            None | Some(Value::Null) => 0,
            Some(version) => version.as_i64().unwrap_or(-1),
        };
        if !matches!(version, 0 | 1 | 3) {
            return Err(PolicyError::invalid("policy.version", "it must be 0, 1 or 3"));
        }
        let parsed = Policy::from_json(policy)?;
        let conditional = parsed.bindings.iter().any(|binding| binding.condition.is_some());
        if conditional && version != 3 {
            return Err(PolicyError::invalid(
                "policy.version",
                "a policy with conditions must say version 3",
            ));
        }
        let mask: Vec<&str> = match body.get("updateMask").and_then(Value::as_str) {
            None | Some("") => vec!["bindings", "etag"],
            Some(mask) => mask.split(',').map(str::trim).collect(),
        };
        let names = |field: &str| {
            mask.iter().any(|path| {
                path.strip_prefix("policy.").unwrap_or(path) == field
                    || (*path == "audit_configs" && field == "auditConfigs")
            })
        };
        if let Some(unknown) = mask.iter().find(|path| !is_known_path(path)) {
            return Err(PolicyError::invalid("updateMask", format!("{unknown:?} is no field of a policy")));
        }
        Ok(SetRequest { policy: parsed, audit_configs: names("auditConfigs"), bindings: names("bindings") })
    }
}

fn is_known_path(path: &str) -> bool {
    matches!(
        path.strip_prefix("policy.").unwrap_or(path),
        "bindings" | "etag" | "version" | "auditConfigs" | "audit_configs"
    )
}

impl Policy {
    /// The policy that takes this one's place. `self` is the default policy where none was ever set.
    ///
    /// A request that carries an etag must carry this policy's, or someone else has been here since; one that carries
    /// none replaces whatever there is.
    pub fn replace(&self, request: SetRequest, now: Timestamp) -> Result<Policy, PolicyError> {
        let current = self.etag.as_deref().unwrap_or(FRESH_ETAG);
        if let Some(etag) = &request.policy.etag
            && !same_etag(etag, current)
        {
            return Err(PolicyError::Concurrent);
        }
        Ok(Policy {
            bindings: if request.bindings { request.policy.bindings } else { self.bindings.clone() },
            audit_configs: if request.audit_configs {
                request.policy.audit_configs
            } else {
                self.audit_configs.clone()
            },
            etag: Some(new_etag(now, self.etag.as_deref())),
        })
    }
}

/// A fresh etag: the time in microseconds behind the byte 7, in base64, as Google's look. Differs from `previous`.
pub fn new_etag(now: Timestamp, previous: Option<&str>) -> String {
    const MARK: u64 = 7 << 56;
    let of = |micros: u64| STANDARD.encode((MARK | (micros & (MARK - 1))).to_be_bytes());
    let mut micros = u64::try_from(now.as_microsecond()).unwrap_or_default();
    while previous == Some(of(micros).as_str()) {
        micros += 1;
    }
    of(micros)
}

/// Etags are bytes: clients may write them in either alphabet of base64, padded or not.
fn same_etag(a: &str, b: &str) -> bool {
    etag_bytes(a).is_some_and(|bytes| etag_bytes(b).is_some_and(|others| bytes == others))
}

/// What an etag's text stands for; `None` if it is no base64. Google writes the standard alphabet, gcloud and Google's
/// Python clients send the URL-safe one back.
pub(super) fn etag_bytes(text: &str) -> Option<Vec<u8>> {
    let plain = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    STANDARD_NO_PAD.decode(plain).ok()
}
