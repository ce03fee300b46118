//! Deleting services and revisions.

use std::sync::Arc;

use serde_json::{Value, json};

use super::name::{self, Kind, Name, Place};
use super::operations::{self, Verb};
use super::{Caller, Run, json as reach, revision};
use crate::{ANSWER_WITHIN, Error};

/// What v1 answers to a deletion.
pub(super) fn success() -> Value {
    json!({ "apiVersion": "v1", "kind": "Status", "status": "Success" })
}

impl Run<'_> {
    /// Deletes a service with its revisions and its policy. Returns once nothing serves any more.
    pub fn delete(&self, caller: Caller<'_>, place: Place<'_>, service: &str) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, Kind::Service, service)?;
        self.remove(caller, &name, |_| Ok(()))?;
        Ok(success())
    }

    /// Deletes a service. Returns the operation, and the service as it was.
    pub(super) fn remove(
        &self,
        caller: Caller<'_>,
        name: &Name,
        check: impl FnOnce(&Value) -> Result<(), Error>,
    ) -> Result<(String, Arc<Value>), Error> {
        if caller.dry_run {
            let view = self.control.view();
            let stored = view.get(&name.key(Kind::Service)).ok_or_else(|| name.not_found(Kind::Service))?;
            check(&stored.value)?;
            return Ok((operations::new_id(), stored.value.clone()));
        }
        let (removed, revision) = self.control.change(|change| {
            let service =
                change.get(&name.key(Kind::Service)).ok_or_else(|| name.not_found(Kind::Service))?;
            check(&service)?;
            for (revision, _) in revision::of_service(change.view(), name) {
                change.delete(&revision.key(Kind::Revision));
            }
            change.delete(&name.policy_key(Kind::Service));
            change.delete(&name.key(Kind::Service));
            let id = operations::new_id();
            operations::record(change, Kind::Service, name, &id, Verb::Delete, &service);
            Ok((id, service))
        })?;
        self.control.planes().wait(revision, ANSWER_WITHIN);
        Ok(removed)
    }

    /// Deletes a revision that gets no traffic and is not the newest.
    pub fn delete_revision(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        revision: &str,
    ) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, Kind::Revision, revision)?;
        self.remove_revision(caller, &name)?;
        Ok(success())
    }

    pub(super) fn remove_revision(&self, caller: Caller<'_>, name: &Name) -> Result<Arc<Value>, Error> {
        let build = |change: &mut crate::Change<'_>| {
            let key = name.key(Kind::Revision);
            let revision = change.get(&key).ok_or_else(|| name.not_found(Kind::Revision))?;
            let service =
                revision::service_of(&revision).and_then(|s| change.get(&name.sibling(s).key(Kind::Service)));
            if let Some(service) = service {
                check_unused(&service, &name.name)?;
            }
            change.delete(&key);
            Ok(revision)
        };
        if caller.dry_run {
            return build(&mut crate::Change::new(self.control, self.control.view()));
        }
        let (removed, revision) = self.control.change(build)?;
        self.control.planes().wait(revision, ANSWER_WITHIN);
        Ok(removed)
    }
}

fn check_unused(service: &Value, revision: &str) -> Result<(), Error> {
    let refuse =
        |why: &str| Err(Error::FailedPrecondition { message: format!("Revision '{revision}' {why}") });
    if service["status"]["latestCreatedRevisionName"] == revision {
        return refuse("is the latest created Revision of its Service and cannot be deleted.");
    }
    let names =
        |path: &[&str]| reach::items(service, path).iter().any(|entry| entry["revisionName"] == revision);
    if names(&["spec", "traffic"]) || names(&["status", "traffic"]) {
        return refuse("is receiving traffic or is tagged and cannot be deleted.");
    }
    Ok(())
}
