//! IAM policies: who may do what on one resource.
//!
//! A [`Policy`] is a list of bindings of a role to members. It is read from JSON ([`Policy::from_json`]), replaced as
//! a whole under an optimistic lock ([`Policy::replace`]), shown ([`Policy::to_json`]) and evaluated
//! ([`Policy::allows`]; [`any_allows`] for a resource and its ancestors). Rules are those of iam.v1 `Policy`.

mod condition;
mod member;
mod roles;
mod write;

use std::fmt;

use serde_json::{Map, Value, json};

pub use condition::{Condition, Context};
pub use member::{BasicRole, Member};
pub use roles::{grants, is_role_name};
pub use write::{SetRequest, new_etag};

use crate::Principal;

/// The etag of a resource that never had a policy.
pub const FRESH_ETAG: &str = "ACAB";
/// Most principals in one policy, each counted as often as it appears.
pub const MAX_MEMBERS: usize = 1500;
/// Most groups in one policy.
pub const MAX_GROUPS: usize = 250;
/// The permission to call a Cloud Run service.
pub const RUN_INVOKE: &str = "run.routes.invoke";

/// Who may do what on one resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    pub bindings: Vec<Binding>,
    /// As the policy carries it; `None` where it was never set.
    pub etag: Option<String>,
    /// `auditConfigs`, kept as sent.
    pub audit_configs: Option<Value>,
}

/// A role given to members, perhaps under a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    pub role: String,
    pub members: Vec<Member>,
    pub condition: Option<Condition>,
}

/// A policy or a request about one is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyError {
    /// A field holds what it must not.
    Invalid { field: String, why: String },
    /// Someone else changed the policy since it was read.
    Concurrent,
}

impl PolicyError {
    fn invalid(field: impl Into<String>, why: impl Into<String>) -> PolicyError {
        PolicyError::Invalid { field: field.into(), why: why.into() }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::Invalid { field, why } => write!(f, "Invalid value at '{field}': {why}"),
            PolicyError::Concurrent => f.write_str(
                "There were concurrent policy changes. Please retry the whole read-modify-write with exponential \
                 backoff.",
            ),
        }
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// The policy a project has before anyone set one: the person at this machine owns it.
    pub fn of_new_project() -> Policy {
        Policy {
            bindings: vec![Binding {
                role: "roles/owner".to_owned(),
                members: vec![Member::of(&Principal::local())],
                condition: None,
            }],
            etag: None,
            audit_configs: None,
        }
    }

    /// Reads and normalises a policy: addresses in lower case, equal bindings merged, repetitions dropped.
    pub fn from_json(policy: &Value) -> Result<Policy, PolicyError> {
        let Value::Object(policy) = policy else {
            return Err(PolicyError::invalid("policy", "it is no object"));
        };
        let mut bindings = Vec::new();
        match policy.get("bindings") {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                for (index, binding) in list.iter().enumerate() {
                    bindings.push(read_binding(&format!("policy.bindings[{index}]"), binding)?);
                }
            }
            Some(_) => return Err(PolicyError::invalid("policy.bindings", "it is no list")),
        }
        check_limits(&bindings)?;
        let etag =
            policy.get("etag").and_then(Value::as_str).filter(|etag| !etag.is_empty()).map(str::to_owned);
        if let Some(etag) = &etag
            && write::etag_bytes(etag).is_none()
        {
            return Err(PolicyError::invalid("policy.etag", "it is not base64"));
        }
        let audit_configs = policy.get("auditConfigs").filter(|configs| !configs.is_null()).cloned();
        Ok(Policy { bindings: merge(bindings), etag, audit_configs })
    }

    /// The policy as a client that asked for `requested_version` sees it (`options.requestedPolicyVersion`).
    ///
    /// Conditional bindings are shown whole to who asked for version 3. Others see such a role under a made-up name
    /// without its condition, so that they cannot mistake it for an unconditional grant. A policy without conditions
    /// is version 1 whatever was asked for.
    pub fn to_json(&self, requested_version: u8) -> Value {
        let conditional = self.bindings.iter().any(|binding| binding.condition.is_some());
        let mut out = Map::new();
        out.insert("etag".into(), self.etag.as_deref().unwrap_or(FRESH_ETAG).into());
        if self.etag.is_none() && self.bindings.is_empty() {
            return Value::Object(out);
        }
        let version = if conditional && requested_version >= 3 { 3 } else { 1 };
        out.insert("version".into(), version.into());
        if !self.bindings.is_empty() {
            let bindings = self.bindings.iter().map(|binding| binding.to_json(version >= 3)).collect();
            out.insert("bindings".into(), Value::Array(bindings));
        }
        if let Some(configs) = &self.audit_configs {
            out.insert("auditConfigs".into(), configs.clone());
        }
        Value::Object(out)
    }

    /// Whether this policy by itself grants `permission` to `principal` now, on a resource without a name.
    pub fn allows(&self, permission: &str, principal: &Principal) -> bool {
        self.allows_in(permission, principal, &Context::now())
    }

    /// Whether this policy by itself grants `permission` to `principal` under the given circumstances.
    pub fn allows_in(&self, permission: &str, principal: &Principal, context: &Context) -> bool {
        self.bindings.iter().any(|binding| {
            roles::grants(&binding.role, permission)
                && binding.members.iter().any(|member| member.matches(principal))
                && binding.holds(context)
        })
    }

    /// Whether a role is bound to the principal by name and without condition.
    fn binds(&self, role: &str, principal: &Principal) -> bool {
        self.bindings.iter().any(|binding| {
            binding.role == role
                && binding.condition.is_none()
                && binding.members.iter().any(|member| member.matches(principal))
        })
    }
}

impl Binding {
    fn holds(&self, context: &Context) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition.holds(context))
    }

    fn to_json(&self, with_condition: bool) -> Value {
        let members: Vec<&str> = self.members.iter().map(Member::as_str).collect();
        match &self.condition {
            None => json!({ "role": self.role, "members": members }),
            Some(condition) if with_condition => {
                json!({ "role": self.role, "members": members, "condition": condition.to_json() })
            }
            Some(condition) => {
                json!({ "role": format!("{}_withcond_{}", self.role, condition.short_hash()), "members": members })
            }
        }
    }
}

/// Whether any policy of a resource and its ancestors grants `permission` to `principal`.
///
/// The convenience members `projectOwner:P`, `projectEditor:P` and `projectViewer:P` mean whoever has the basic role
/// on the project; that is looked up in the same list, which must hold the project's policy for them to work.
pub fn any_allows<'a>(
    policies: impl IntoIterator<Item = &'a Policy> + Clone,
    permission: &str,
    principal: &Principal,
    context: &Context,
) -> bool {
    policies.clone().into_iter().any(|policy| {
        policy.allows_in(permission, principal, context)
            || policy.bindings.iter().any(|binding| {
                roles::grants(&binding.role, permission)
                    && binding.holds(context)
                    && binding.members.iter().filter_map(Member::basic_role).any(|role| {
                        policies.clone().into_iter().any(|policy| policy.binds(role.name(), principal))
                    })
            })
    })
}

/// The subset of `permissions` that the principal holds (`testIamPermissions`).
pub fn held<'a>(
    policies: impl IntoIterator<Item = &'a Policy> + Clone,
    permissions: &[String],
    principal: &Principal,
    context: &Context,
) -> Result<Vec<String>, PolicyError> {
    if let Some(wild) = permissions.iter().find(|permission| permission.contains('*')) {
        return Err(PolicyError::invalid("permissions", format!("{wild} has a wildcard")));
    }
    let held = |permission: &&String| any_allows(policies.clone(), permission, principal, context);
    Ok(permissions.iter().filter(held).cloned().collect())
}

fn read_binding(field: &str, binding: &Value) -> Result<Binding, PolicyError> {
    let role = binding.get("role").and_then(Value::as_str).unwrap_or_default();
    if !roles::is_role_name(role) {
        return Err(PolicyError::invalid(format!("{field}.role"), format!("{role:?} is no role name")));
    }
    if !roles::may_exist(role) {
        let why = format!("Role {role} is not supported for this resource.");
        return Err(PolicyError::invalid(format!("{field}.role"), why));
    }
    let mut members = Vec::new();
    let list = match binding.get("members") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(list)) => list.as_slice(),
        Some(_) => return Err(PolicyError::invalid(format!("{field}.members"), "it is no list")),
    };
    for (index, member) in list.iter().enumerate() {
        let text = member.as_str().unwrap_or_default();
        let member = Member::parse(text).map_err(|why| {
            PolicyError::invalid(format!("{field}.members[{index}]"), format!("{text:?} {why}"))
        })?;
        members.push(member);
    }
    let condition = match binding.get("condition") {
        None | Some(Value::Null) => None,
        Some(condition) => {
            let read = Condition::from_json(condition);
            Some(read.map_err(|why| PolicyError::invalid(format!("{field}.condition"), why))?)
        }
    };
    Ok(Binding { role: role.to_owned(), members, condition })
}

fn check_limits(bindings: &[Binding]) -> Result<(), PolicyError> {
    let members = || bindings.iter().flat_map(|binding| &binding.members);
    if members().count() > MAX_MEMBERS {
        return Err(PolicyError::invalid("policy.bindings", format!("more than {MAX_MEMBERS} principals")));
    }
    if members().filter(|member| member.is_group()).count() > MAX_GROUPS {
        return Err(PolicyError::invalid("policy.bindings", format!("more than {MAX_GROUPS} groups")));
    }
    Ok(())
}

/// One binding for each role and condition, in the order of first appearance; none without members.
fn merge(bindings: Vec<Binding>) -> Vec<Binding> {
    let mut merged: Vec<Binding> = Vec::new();
    for binding in bindings {
        let same = |other: &&mut Binding| other.role == binding.role && other.condition == binding.condition;
        let target = match merged.iter_mut().find(same) {
            Some(target) => target,
            None => {
                merged.push(Binding { members: Vec::new(), ..binding.clone() });
                let last = merged.len() - 1;
                &mut merged[last]
            }
        };
        for member in binding.members {
            if !target.members.contains(&member) {
                target.members.push(member);
            }
        }
    }
    merged.retain(|binding| !binding.members.is_empty());
    merged
}

#[cfg(test)]
mod tests;
