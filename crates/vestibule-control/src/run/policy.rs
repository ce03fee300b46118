//! Who may call a service, or run a job.

use serde_json::{Value, json};
use vestibule_iam::Principal;
use vestibule_iam::policy::Context;

use super::Run;
use super::name::{self, Kind, Name, Place};
use crate::{ANSWER_WITHIN, Error, iam};

impl Run<'_> {
    /// The policy of a service, for a client that understands policies up to `version`.
    pub fn policy(&self, place: Place<'_>, service: &str, version: u8) -> Result<Value, Error> {
        self.policy_of(place, Kind::Service, service, version)
    }

    /// Replaces the policy of a service by the one in the request. Returns once it is obeyed.
    pub fn set_policy(&self, place: Place<'_>, service: &str, request: &Value) -> Result<Value, Error> {
        self.set_policy_of(place, Kind::Service, service, request)
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
        self.test_permissions_of(place, Kind::Service, service, permissions, principal)
    }

    /// The policy of a job, for a client that understands policies up to `version`.
    pub fn job_policy(&self, place: Place<'_>, job: &str, version: u8) -> Result<Value, Error> {
        self.policy_of(place, Kind::Job, job, version)
    }

    /// Replaces the policy of a job by the one in the request.
    pub fn set_job_policy(&self, place: Place<'_>, job: &str, request: &Value) -> Result<Value, Error> {
        self.set_policy_of(place, Kind::Job, job, request)
    }

    /// Which of the permissions the caller has on a job, which need not exist.
    pub fn test_job_permissions(
        &self,
        place: Place<'_>,
        job: &str,
        permissions: &[String],
        principal: &Principal,
    ) -> Result<Value, Error> {
        self.test_permissions_of(place, Kind::Job, job, permissions, principal)
    }

    fn policy_of(&self, place: Place<'_>, kind: Kind, name: &str, version: u8) -> Result<Value, Error> {
        let view = self.control.view();
        let name = name::locate(&view, place, kind, name)?;
        Ok(iam::policy_at(&view, &name.policy_key(kind)).to_json(version))
    }

    fn set_policy_of(
        &self,
        place: Place<'_>,
        kind: Kind,
        name: &str,
        request: &Value,
    ) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, kind, name)?;
        let (policy, revision) = self.control.change(|change| {
            if !change.exists(&name.key(kind)) {
                return Err(name.not_found(kind));
            }
            iam::replace_policy(change, &name.policy_key(kind), request)
        })?;
        self.control.planes().wait(revision, ANSWER_WITHIN);
        Ok(policy)
    }

    fn test_permissions_of(
        &self,
        place: Place<'_>,
        kind: Kind,
        name: &str,
        permissions: &[String],
        principal: &Principal,
    ) -> Result<Value, Error> {
        let view = self.control.view();
        let location = place.location.unwrap_or(name::DEFAULT_LOCATION);
        let name = name::locate(&view, place, kind, name)
            .unwrap_or_else(|_| Name::new(place.project, location, name));
        let policies =
            [iam::policy_at(&view, &name.policy_key(kind)), iam::project_policy(&view, place.project)];
        let context = match kind {
            Kind::Job => Context::run_job(name.relative(kind)),
            _ => Context::run_service(name.relative(kind)),
        };
        let held = iam::held(&policies, permissions, principal, &context)?;
        Ok(if held.is_empty() { json!({}) } else { json!({ "permissions": held }) })
    }
}
