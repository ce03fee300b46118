//! Who may call a service.

use serde_json::{Value, json};
use vestibule_iam::Principal;
use vestibule_iam::policy::Context;

use super::Run;
use super::name::{self, Kind, Name, Place};
use crate::{ANSWER_WITHIN, Error, iam};

impl Run<'_> {
    /// The policy of a service, for a client that understands policies up to `version`.
    pub fn policy(&self, place: Place<'_>, service: &str, version: u8) -> Result<Value, Error> {
        let view = self.control.view();
        let name = name::locate(&view, place, Kind::Service, service)?;
        Ok(iam::policy_at(&view, &name.policy_key()).to_json(version))
    }

    /// Replaces the policy of a service by the one in the request. Returns once it is obeyed.
    pub fn set_policy(&self, place: Place<'_>, service: &str, request: &Value) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, Kind::Service, service)?;
        let (policy, revision) = self.control.change(|change| {
            if !change.exists(&name.key(Kind::Service)) {
                return Err(name.not_found(Kind::Service));
            }
            iam::replace_policy(change, &name.policy_key(), request)
        })?;
        self.control.planes().wait(revision, ANSWER_WITHIN);
        Ok(policy)
    }

    /// Which of the permissions the caller has on a service. The service need not exist: gcloud asks before it makes
    /// one, and what the project grants is the answer then.
    pub fn test_permissions(
        &self,
        place: Place<'_>,
        service: &str,
        permissions: &[String],
        principal: &Principal,
    ) -> Result<Value, Error> {
        let view = self.control.view();
        let location = place.location.unwrap_or(name::DEFAULT_LOCATION);
        let name = name::locate(&view, place, Kind::Service, service)
            .unwrap_or_else(|_| Name::new(place.project, location, service));
        let policies = [iam::policy_at(&view, &name.policy_key()), iam::project_policy(&view, place.project)];
        let context = Context::run_service(name.relative(Kind::Service));
        let held = iam::held(&policies, permissions, principal, &context)?;
        Ok(if held.is_empty() { json!({}) } else { json!({ "permissions": held }) })
    }
}
