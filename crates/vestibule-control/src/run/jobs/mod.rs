//! Jobs: containers that run to their end, as often as someone asks.
//!
//! A job is only a template; it is ready as soon as it is written. Each run of it makes an execution, which is a
//! document of its own with the whole specification in it, so that a later change of the job does not reach it. An
//! execution has tasks. They have no documents among the resources: what the runtime tells of them is kept beside
//! ([`record`]), because a task that starts or ends changes nothing about what should run, and the reconciler should not
//! have to look. All status is derived from that when someone reads ([`show`]).

mod compile;
mod execution;
mod read;
pub(super) mod record;
pub(super) mod show;
mod template;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Value, json};
use vestibule_model::time;
use vestibule_store::View;

use super::annotation::{
    JOB_CREATOR, JOB_LAST_MODIFIER, JOB_SERVER_LABELS, JOB_SERVER_WRITTEN, JOB_UPDATED, LOCATION,
    OPERATION_ID,
};
use super::change::Written;
use super::name::{self, Kind, Name, Place};
use super::operations::{self, Verb};
use super::wanted::{Replacement, ServerWritten, Wanted, already_exists, metadata, name_in};
use super::{Caller, Run, delete, json as reach};
use crate::{ANSWER_WITHIN, Change, Document, Error};

pub(super) use compile::desired;
pub(super) use execution::{is_over, job_of};

/// Members of a job that begin an execution as soon as the job is written. The token is the end of its name.
const TOKENS: [&str; 2] = ["startExecutionToken", "runExecutionToken"];

/// Labels and annotations of jobs that are not for clients to say.
const SERVER: ServerWritten = ServerWritten { labels: JOB_SERVER_LABELS, annotations: JOB_SERVER_WRITTEN };

impl Run<'_> {
    /// Makes a job from a v1 document.
    pub fn create_job(&self, caller: Caller<'_>, place: Place<'_>, body: Document) -> Result<Value, Error> {
        let name = name_in(place, &body)?;
        let wanted = Wanted::from_v1(body, "Job")?;
        let written = self.make_job(caller, &name, wanted)?;
        Ok(self.job_now(caller, &name, written))
    }

    /// Replaces a job by a v1 document. `metadata.resourceVersion`, if sent, must be the current one.
    pub fn replace_job(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        job: &str,
        body: Document,
    ) -> Result<Value, Error> {
        let replacement = Replacement::from_v1(place, body, "Job", job)?;
        let name = name::locate(&self.control.view(), place, Kind::Job, job)?;
        let (wanted, check) = replacement.parts(&name);
        let written = self.rewrite_job(caller, &name, |_| Ok(wanted), check)?;
        Ok(self.job_now(caller, &name, written))
    }

    /// Deletes a job with its executions and its policy. Tasks that run are ended.
    pub fn delete_job(&self, caller: Caller<'_>, place: Place<'_>, job: &str) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, Kind::Job, job)?;
        self.remove_job(caller, &name, |_| Ok(()))?;
        Ok(delete::success())
    }

    /// Begins an execution of a job; the request may say what is different this once. Returns the execution.
    pub fn run_job(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        job: &str,
        request: &Document,
    ) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, Kind::Job, job)?;
        let overrides = request.get("overrides").cloned().unwrap_or_default();
        let (execution, document, _) = self.begin(caller, &name, &overrides, |_| Ok(()))?;
        Ok(show::execution(&self.control.view(), &execution, &document))
    }

    /// Ends an execution before it is over. Returns it.
    pub fn cancel_execution(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        execution: &str,
    ) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, Kind::Execution, execution)?;
        let (document, _) = self.cancel(caller, &name, |_| Ok(()))?;
        Ok(show::execution(&self.control.view(), &name, &document))
    }

    /// Deletes an execution. Tasks that run are ended.
    pub fn delete_execution(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        execution: &str,
    ) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, Kind::Execution, execution)?;
        self.remove_execution(caller, &name, |_| Ok(()))?;
        Ok(delete::success())
    }

    /// The job as it is after the change.
    fn job_now(&self, caller: Caller<'_>, name: &Name, written: Written) -> Value {
        let view = self.control.view();
        let current = if caller.dry_run { None } else { view.get(&name.key(Kind::Job)) };
        show::job(&view, name, current.map_or(&written.document, |kv| &*kv.value))
    }

    /// Makes a job that must not exist.
    pub(super) fn make_job(&self, caller: Caller<'_>, name: &Name, wanted: Wanted) -> Result<Written, Error> {
        self.commit_job(caller, |change| {
            if change.exists(&name.key(Kind::Job)) {
                return Err(already_exists(name));
            }
            write(change, name, None, wanted, caller.email)
        })
    }

    /// Changes a job that must exist.
    pub(super) fn rewrite_job(
        &self,
        caller: Caller<'_>,
        name: &Name,
        wanted: impl FnOnce(&Value) -> Result<Wanted, Error>,
        check: impl FnOnce(&Value) -> Result<(), Error>,
    ) -> Result<Written, Error> {
        self.commit_job(caller, |change| {
            let old = change.get(&name.key(Kind::Job)).ok_or_else(|| name.not_found(Kind::Job))?;
            check(&old)?;
            let wanted = wanted(&old)?;
            write(change, name, Some(&old), wanted, caller.email)
        })
    }

    /// Deletes a job. Returns the operation, and the job as it was.
    pub(super) fn remove_job(
        &self,
        caller: Caller<'_>,
        name: &Name,
        check: impl FnOnce(&Value) -> Result<(), Error>,
    ) -> Result<(String, Arc<Value>), Error> {
        self.commit_job(caller, |change| {
            let job = change.get(&name.key(Kind::Job)).ok_or_else(|| name.not_found(Kind::Job))?;
            check(&job)?;
            for execution in execution::of_job(change.view(), name) {
                execution::remove(change, &execution);
            }
            change.delete(&name.policy_key(Kind::Job));
            change.delete(&name.key(Kind::Job));
            let id = operations::new_id();
            operations::record(change, Kind::Job, name, &id, Verb::Delete, &job);
            Ok((id, job))
        })
    }

    /// Begins an execution. Returns its name and document, and the operation that is done when it is over.
    pub(super) fn begin(
        &self,
        caller: Caller<'_>,
        name: &Name,
        overrides: &Value,
        check: impl FnOnce(&Value) -> Result<(), Error>,
    ) -> Result<(Name, Value, String), Error> {
        self.commit_job(caller, |change| {
            let job = change.get(&name.key(Kind::Job)).ok_or_else(|| name.not_found(Kind::Job))?;
            check(&job)?;
            let mut job = (*job).clone();
            let id = operations::new_id();
            let new =
                execution::New { job: name, token: None, overrides, creator: caller.email, operation: &id };
            let (execution, document) = execution::begin(change, &new, &mut job)?;
            operations::record(change, Kind::Execution, &execution, &id, Verb::Finish, &document);
            change.put(&name.key(Kind::Job), job);
            Ok((execution, document, id))
        })
    }

    /// Cancels an execution. Returns it, and the operation that is done when it is over.
    pub(super) fn cancel(
        &self,
        caller: Caller<'_>,
        name: &Name,
        check: impl FnOnce(&Value) -> Result<(), Error>,
    ) -> Result<(Value, String), Error> {
        self.commit_job(caller, |change| {
            let key = name.key(Kind::Execution);
            let old = change.get(&key).ok_or_else(|| name.not_found(Kind::Execution))?;
            check(&old)?;
            if is_over(&old) {
                let message = format!("Execution '{}' has already completed.", name.name);
                return Err(Error::FailedPrecondition { message });
            }
            let mut document = (*old).clone();
            let id = operations::new_id();
            execution::cancel(&mut document, &id, change.now());
            change.put(&key, document.clone());
            operations::record(change, Kind::Execution, name, &id, Verb::Cancel, &document);
            Ok((document, id))
        })
    }

    /// Deletes an execution. Returns the operation, and the execution as it was.
    pub(super) fn remove_execution(
        &self,
        caller: Caller<'_>,
        name: &Name,
        check: impl FnOnce(&Value) -> Result<(), Error>,
    ) -> Result<(String, Arc<Value>), Error> {
        self.commit_job(caller, |change| {
            let old =
                change.get(&name.key(Kind::Execution)).ok_or_else(|| name.not_found(Kind::Execution))?;
            check(&old)?;
            execution::remove(change, name);
            let id = operations::new_id();
            operations::record(change, Kind::Execution, name, &id, Verb::Delete, &old);
            Ok((id, old))
        })
    }

    /// Makes a change, unless it is only to be checked, and waits a moment until the runtime knows.
    fn commit_job<T>(
        &self,
        caller: Caller<'_>,
        build: impl FnOnce(&mut Change<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if caller.dry_run {
            return build(&mut Change::new(self.control, self.control.view()));
        }
        let (written, revision) = self.control.change(build)?;
        self.control.planes().wait(revision, ANSWER_WITHIN);
        Ok(written)
    }
}

/// Whether the last change of a job has been decided. It is at once, unless the job is to begin an execution.
pub(super) fn is_decided(view: &View, name: &Name, job: &Value) -> bool {
    show::ready(view, name, job)["status"] != "Unknown"
}

/// Stages a job, the execution it may ask for, and the operation. Stages nothing if nothing changes.
fn write(
    change: &mut Change<'_>,
    name: &Name,
    old: Option<&Value>,
    mut wanted: Wanted,
    caller: &str,
) -> Result<Written, Error> {
    wanted.drop_texts(SERVER);
    template::complete(&mut wanted.spec, &name.project);
    let spec = Value::Object(std::mem::take(&mut wanted.spec));
    template::check(&wanted.labels, &wanted.annotations, &spec)?;
    if let Some(old) = old
        && is_same(old, &wanted, &spec)
    {
        return Ok(Written { document: old.clone(), operation: None });
    }
    let operation = operations::new_id();
    let mut job = document(change, name, old, &wanted, spec, caller, &operation);
    if let Some(token) = token(&job).map(str::to_owned) {
        let nothing = Value::Null;
        let new = execution::New {
            job: name,
            token: Some(&token),
            overrides: &nothing,
            creator: caller,
            operation: &operation,
        };
        if !change.exists(&new.named().key(Kind::Execution)) {
            execution::begin(change, &new, &mut job)?;
        }
    }
    let generation = job["metadata"]["generation"].as_i64().unwrap_or(1);
    operations::record(change, Kind::Job, name, &operation, Verb::Write { generation }, &job);
    change.put(&name.key(Kind::Job), job.clone());
    Ok(Written { document: job, operation: Some(operation) })
}

/// The end of the name of the execution that a job asks for.
fn token(job: &Value) -> Option<&str> {
    TOKENS.iter().find_map(|member| reach::text(job, &["spec", member]))
}

/// Whether a client asks for what there already is.
fn is_same(old: &Value, wanted: &Wanted, spec: &Value) -> bool {
    wanted.has_texts_of(old, SERVER) && reach::same(&old["spec"], spec)
}

/// The job's document.
fn document(
    change: &Change<'_>,
    name: &Name,
    old: Option<&Value>,
    wanted: &Wanted,
    spec: Value,
    caller: &str,
    operation: &str,
) -> Value {
    let now = time::rfc3339(change.now());
    let creator = old.and_then(|old| reach::text(old, &["metadata", "annotations", JOB_CREATOR]));
    let mut annotations = wanted.annotations.clone();
    for (key, value) in
        [(JOB_CREATOR, creator.unwrap_or(caller)), (JOB_LAST_MODIFIER, caller), (OPERATION_ID, operation)]
    {
        annotations.insert(key.to_owned(), value.into());
    }
    let mut labels = wanted.labels.clone();
    labels.insert(LOCATION.to_owned(), name.location.as_str().into());
    labels.insert(JOB_UPDATED.to_owned(), now.as_str().into());
    let path = ("run.googleapis.com/v1", "jobs");
    json!({
        "apiVersion": path.0,
        "kind": "Job",
        "metadata": metadata(change, name, old, path, (labels, annotations)),
        "spec": spec,
        "vestibule": {
            "executions": old.map_or(0, |old| old["vestibule"]["executions"].as_u64().unwrap_or(0)),
            "latest": old.map(|old| old["vestibule"]["latest"].clone()).unwrap_or_default(),
            "updateTime": now,
        },
    })
}
