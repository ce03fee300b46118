//! Who may call a service, or run a job.

use serde_json::{Value, json};
use vestibule_iam::Principal;
use vestibule_iam::policy::Context;

use super::Run;
use super::name::{self, Kind, Name, Place};
use crate::{ANSWER_WITHIN, Error, iam};

/// What has a policy of its own.
#[derive(Debug, Clone, Copy)]
pub enum Guarded<'a> {
    /// A service, by its name.
    Service(&'a str),
    /// A job, by its name.
    Job(&'a str),
}

impl<'a> Guarded<'a> {
    fn kind(self) -> Kind {
        match self {
            Guarded::Service(_) => Kind::Service,
            Guarded::Job(_) => Kind::Job,
        }
    }

    fn name(self) -> &'a str {
        match self {
            Guarded::Service(name) | Guarded::Job(name) => name,
        }
    }

    fn context(self, resource: String) -> Context {
        match self {
            Guarded::Service(_) => Context::run_service(resource),
            Guarded::Job(_) => Context::run_job(resource),
        }
    }
}

impl Run<'_> {
    /// The policy of a service or a job, for a client that understands policies up to `version`.
    pub fn policy(&self, place: Place<'_>, of: Guarded<'_>, version: u8) -> Result<Value, Error> {
        let view = self.control.view();
        let name = name::locate(&view, place, of.kind(), of.name())?;
        Ok(iam::policy_at(&view, &name.policy_key(of.kind())).to_json(version))
    }

    /// Replaces the policy of a service or a job by the one in the request. Returns once it is obeyed.
    pub fn set_policy(&self, place: Place<'_>, of: Guarded<'_>, request: &Value) -> Result<Value, Error> {
        let kind = of.kind();
        let name = name::locate(&self.control.view(), place, kind, of.name())?;
        let (policy, revision) = self.control.change(|change| {
            if !change.exists(&name.key(kind)) {
                return Err(name.not_found(kind));
            }
            iam::replace_policy(change, &name.policy_key(kind), request)
        })?;
        self.control.planes().wait(revision, ANSWER_WITHIN);
        Ok(policy)
    }

    /// Which of the permissions the caller has on a service or a job. It need not exist: gcloud asks before it makes
    /// one, and what the project grants is the answer then.
    pub fn test_permissions(
        &self,
        place: Place<'_>,
        of: Guarded<'_>,
        permissions: &[String],
        principal: &Principal,
    ) -> Result<Value, Error> {
        let view = self.control.view();
        let location = place.location.unwrap_or(name::DEFAULT_LOCATION);
        let name = name::locate(&view, place, of.kind(), of.name())
            .unwrap_or_else(|_| Name::new(place.project, location, of.name()));
        let policies =
            [iam::policy_at(&view, &name.policy_key(of.kind())), iam::project_policy(&view, place.project)];
        let context = of.context(name.relative(of.kind()));
        let held = iam::held(&policies, permissions, principal, &context)?;
        Ok(if held.is_empty() { json!({}) } else { json!({ "permissions": held }) })
    }
}
