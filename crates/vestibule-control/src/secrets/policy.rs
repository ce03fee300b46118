//! Who may read a secret.
//!
//! Policies are kept and shown in either conformance. Only `google` obeys them when a payload is read: an ordinary
//! project's default account has no such role, and who tries something out on his own machine should not have to grant
//! it first.

use serde_json::{Value, json};
use vestibule_iam::Principal;
use vestibule_iam::policy::{Context, any_allows};
use vestibule_store::View;

use super::name::Name;
use super::{Secrets, secret};
use crate::{Conformance, Control, Error, iam};

/// The permission to read payloads.
const ACCESS: &str = "secretmanager.versions.access";

impl Secrets<'_> {
    /// The policy of a secret, for a client that understands policies up to `version`.
    pub fn policy(&self, project: &str, secret: &str, version: u8) -> Result<Value, Error> {
        let view = self.control.view();
        let name = Name::new(project, secret);
        secret::find(&view, &name, jiff::Timestamp::now())?;
        Ok(iam::policy_at(&view, &name.policy_key()).to_json(version))
    }

    /// Replaces the policy of a secret by the one in the request.
    pub fn set_policy(&self, project: &str, secret: &str, request: &Value) -> Result<Value, Error> {
        let name = Name::new(project, secret);
        let (policy, _) = self.control.change(|change| {
            secret::staged(change, &name)?;
            iam::replace_policy(change, &name.policy_key(), request)
        })?;
        Ok(policy)
    }

    /// Which of the permissions the caller has on a secret. None on one that does not exist.
    pub fn test_permissions(
        &self,
        project: &str,
        secret: &str,
        permissions: &[String],
        principal: &Principal,
    ) -> Result<Value, Error> {
        let view = self.control.view();
        let name = Name::new(project, secret);
        if secret::find(&view, &name, jiff::Timestamp::now()).is_err() {
            return Ok(json!({}));
        }
        let policies = [iam::policy_at(&view, &name.policy_key()), iam::project_policy(&view, project)];
        let held = iam::held(&policies, permissions, principal, &context(name.shown(), "Secret"))?;
        Ok(if held.is_empty() { json!({}) } else { json!({ "permissions": held }) })
    }
}

fn context(resource: String, kind: &str) -> Context {
    Context {
        resource_name: resource,
        resource_type: format!("secretmanager.googleapis.com/{kind}"),
        resource_service: "secretmanager.googleapis.com".to_owned(),
        ..Context::now()
    }
}

/// Whether the principal may read a version.
pub(super) fn may_access(
    control: &Control,
    view: &View,
    name: &Name,
    version: &str,
    principal: &Principal,
) -> bool {
    if control.settings().conformance == Conformance::Permissive {
        return true;
    }
    let policies = [iam::policy_at(view, &name.policy_key()), iam::project_policy(view, &name.project)];
    any_allows(&policies, ACCESS, principal, &context(name.version_shown(version), "SecretVersion"))
}

/// Refuses who may not read a version.
pub(super) fn check_access(
    control: &Control,
    view: &View,
    name: &Name,
    version: &str,
    principal: &Principal,
) -> Result<(), Error> {
    if may_access(control, view, name, version, principal) {
        return Ok(());
    }
    Err(Error::PermissionDenied {
        message: format!(
            "Permission '{ACCESS}' denied for resource '{}' (or it may not exist).",
            name.version_shown(version)
        ),
    })
}
