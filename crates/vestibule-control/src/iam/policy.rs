//! Policies of resources and projects.

use serde_json::{Value, json};
use vestibule_iam::Principal;
use vestibule_iam::policy::{self, Context, Policy, PolicyError, SetRequest};
use vestibule_store::View;

use crate::{ANSWER_WITHIN, Change, Control, Error};

/// The key of a project's policy.
fn project_key(project: &str) -> String {
    format!("policy/projects/{project}")
}

/// The policy at a key; an empty one where none was ever set.
pub(crate) fn policy_at(view: &View, key: &str) -> Policy {
    stored(view.get(key).map(|kv| &*kv.value), key).unwrap_or_default()
}

/// A project's policy. Before anyone sets one, the person at this machine owns the project.
pub(crate) fn project_policy(view: &View, project: &str) -> Policy {
    let key = project_key(project);
    stored(view.get(&key).map(|kv| &*kv.value), &key).unwrap_or_else(Policy::of_new_project)
}

/// A stored policy was checked when it was written, so one that cannot be read is damage: it then grants nothing.
fn stored(document: Option<&Value>, key: &str) -> Option<Policy> {
    let document = document?;
    Some(Policy::from_json(document).unwrap_or_else(|error| {
        tracing::error!(key, %error, "a stored policy cannot be read");
        Policy::default()
    }))
}

/// Stages the policy in a `setIamPolicy` request. Returns it as the answer shows it.
pub(crate) fn replace_policy(change: &mut Change<'_>, key: &str, request: &Value) -> Result<Value, Error> {
    let request = SetRequest::from_json(request).map_err(refused)?;
    let current = match change.get(key) {
        Some(document) => stored(Some(&document), key).unwrap_or_default(),
        None if key.starts_with("policy/projects/") => Policy::of_new_project(),
        None => Policy::default(),
    };
    let policy = current.replace(request, change.now()).map_err(refused)?;
    for binding in &policy.bindings {
        if let Some(why) = binding.condition.as_ref().and_then(|condition| condition.unsupported()) {
            tracing::warn!(key, role = binding.role, why, "a condition is not understood and never holds");
        }
    }
    let shown = policy.to_json(3);
    change.put(key, shown.clone());
    Ok(shown)
}

/// Which of the permissions a caller has, by any of the policies.
pub(crate) fn held(
    policies: &[Policy],
    permissions: &[String],
    principal: &Principal,
    context: &Context,
) -> Result<Vec<String>, Error> {
    policy::held(policies, permissions, principal, context).map_err(refused)
}

fn refused(error: PolicyError) -> Error {
    match error {
        PolicyError::Concurrent => Error::Aborted { message: error.to_string() },
        PolicyError::Invalid { field, why } => Error::invalid(field, "", why),
    }
}

impl Control {
    /// A project's policy, for a client that understands policies up to `version`.
    pub fn project_policy(&self, project: &str, version: u8) -> Value {
        project_policy(&self.view(), project).to_json(version)
    }

    /// Replaces a project's policy by the one in the request. Returns once it is obeyed.
    pub fn set_project_policy(&self, project: &str, request: &Value) -> Result<Value, Error> {
        let (policy, revision) =
            self.change(|change| replace_policy(change, &project_key(project), request))?;
        self.planes().wait(revision, ANSWER_WITHIN);
        Ok(policy)
    }

    /// Which of the permissions a caller has on a project.
    pub fn test_project_permissions(
        &self,
        project: &str,
        permissions: &[String],
        principal: &Principal,
    ) -> Result<Value, Error> {
        let policies = [project_policy(&self.view(), project)];
        let held = held(&policies, permissions, principal, &Context::now())?;
        Ok(if held.is_empty() { json!({}) } else { json!({ "permissions": held }) })
    }
}
