//! Jobs, executions and tasks in v2.

use serde_json::Value;

use super::super::change::Written;
use super::super::jobs::{self, show};
use super::super::name::{self, Kind, Name, Place};
use super::super::operations::{self, Api};
use super::super::read;
use super::super::wanted::new_name;
use super::super::{Caller, Run};
use super::{check_etag, finished, into_v2_terms, job_into_v1, job_view, region, renamed};
use crate::{Document, Error, document};

impl Run<'_> {
    /// Makes a job. Returns the operation.
    pub fn create_job_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        job: &str,
        body: Document,
    ) -> Result<Value, Error> {
        let name = new_name(place, job).map_err(|error| renamed("job_id", error))?;
        let wanted = job_into_v1::wanted(body, None)?;
        let written = self.make_job(caller, &name, wanted).map_err(into_v2_terms)?;
        self.job_operation(&name, written)
    }

    /// A job.
    pub fn job_v2(&self, place: Place<'_>, job: &str) -> Result<Value, Error> {
        let view = self.control.view();
        let (name, stored) = read::find(&view, place, Kind::Job, job)?;
        Ok(job_view::job(&view, &name, &stored))
    }

    /// All jobs, newest first.
    pub fn jobs_v2(&self, place: Place<'_>) -> Vec<Value> {
        let view = self.control.view();
        let found = read::all(&view, place, Kind::Job);
        found.iter().map(|(name, stored)| job_view::job(&view, name, stored)).collect()
    }

    /// Replaces a job; makes it if there is none and that is allowed. Returns the operation.
    pub fn patch_job_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        job: &str,
        body: Document,
        allow_missing: bool,
    ) -> Result<Value, Error> {
        let name = match name::locate(&self.control.view(), place, Kind::Job, job) {
            Ok(name) => name,
            Err(Error::NotFound { .. }) if allow_missing => {
                return self.create_job_v2(caller, place, job, body);
            }
            Err(error) => return Err(error),
        };
        let etag = document::text(&body, "etag").map(str::to_owned);
        let wanted = |old: &Value| job_into_v1::wanted(body, Some(old));
        let check = |old: &Value| check_etag(&name, old, etag.as_deref());
        let written = self.rewrite_job(caller, &name, wanted, check).map_err(into_v2_terms)?;
        self.job_operation(&name, written)
    }

    /// Deletes a job. Returns the operation.
    pub fn delete_job_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        job: &str,
        etag: Option<&str>,
    ) -> Result<Value, Error> {
        let view = self.control.view();
        let name = name::locate(&view, place, Kind::Job, job)?;
        let (operation, deleted) = self.remove_job(caller, &name, |old| check_etag(&name, old, etag))?;
        if caller.dry_run {
            return Ok(finished(&name, &operation, Kind::Job, job_view::job(&view, &name, &deleted)));
        }
        self.operation_in(region(&name), &operation, Api::V2)
    }

    /// Begins an execution of a job; the request may say what is different this once. Returns the operation, which is
    /// done when the execution is over.
    pub fn run_job_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        job: &str,
        request: &Document,
    ) -> Result<Value, Error> {
        let name = name::locate(&self.control.view(), place, Kind::Job, job)?;
        let overrides = job_into_v1::overrides(request.get("overrides").unwrap_or(&Value::Null))?;
        let etag = document::text(request, "etag");
        let begun = self.begin(caller, &name, &overrides, |old| check_etag(&name, old, etag));
        let (execution, document, operation) = begun.map_err(into_v2_terms)?;
        if caller.dry_run {
            let shown = job_view::execution(&self.control.view(), &execution, &document);
            return Ok(finished(&execution, &operation, Kind::Execution, shown));
        }
        self.operation_in(region(&execution), &operation, Api::V2)
    }

    /// An execution of a job. `job` is `-` for any.
    pub fn execution_v2(&self, place: Place<'_>, job: &str, execution: &str) -> Result<Value, Error> {
        let (name, stored) = self.find_execution(place, job, execution)?;
        Ok(job_view::execution(&self.control.view(), &name, &stored))
    }

    /// All executions of a job, newest first. `job` is `-` for any.
    pub fn executions_v2(&self, place: Place<'_>, job: &str) -> Result<Vec<Value>, Error> {
        let view = self.control.view();
        if job != "-" {
            name::locate(&view, place, Kind::Job, job)?;
        }
        let found = read::all(&view, place, Kind::Execution);
        let own = found.iter().filter(|(_, stored)| job == "-" || jobs::job_of(stored) == Some(job));
        Ok(own.map(|(name, stored)| job_view::execution(&view, name, stored)).collect())
    }

    /// Ends an execution before it is over. Returns the operation, which is done when it is.
    pub fn cancel_execution_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        job: &str,
        execution: &str,
        etag: Option<&str>,
    ) -> Result<Value, Error> {
        let (name, _) = self.find_execution(place, job, execution)?;
        let (document, operation) = self.cancel(caller, &name, |old| check_etag(&name, old, etag))?;
        if caller.dry_run {
            let shown = job_view::execution(&self.control.view(), &name, &document);
            return Ok(finished(&name, &operation, Kind::Execution, shown));
        }
        self.operation_in(region(&name), &operation, Api::V2)
    }

    /// Deletes an execution. Returns the operation.
    pub fn delete_execution_v2(
        &self,
        caller: Caller<'_>,
        place: Place<'_>,
        job: &str,
        execution: &str,
        etag: Option<&str>,
    ) -> Result<Value, Error> {
        let view = self.control.view();
        let (name, _) = self.find_execution(place, job, execution)?;
        let (operation, deleted) =
            self.remove_execution(caller, &name, |old| check_etag(&name, old, etag))?;
        if caller.dry_run {
            let shown = job_view::execution(&view, &name, &deleted);
            return Ok(finished(&name, &operation, Kind::Execution, shown));
        }
        self.operation_in(region(&name), &operation, Api::V2)
    }

    /// A task of an execution, named `EXECUTION-taskINDEX`.
    pub fn task_v2(&self, place: Place<'_>, job: &str, execution: &str, task: &str) -> Result<Value, Error> {
        let (name, stored) = self.find_execution(place, job, execution)?;
        let index = show::parse_task(task)
            .filter(|(of, index)| *of == name.name && *index < show::task_count(&stored))
            .map(|(_, index)| index)
            .ok_or_else(|| Error::NotFound {
                message: format!(
                    "Resource '{task}' of kind 'TASK' in region '{}' in project '{}' does not exist.",
                    name.location, name.project
                ),
            })?;
        Ok(job_view::task(&self.control.view(), &name, &stored, index))
    }

    /// All tasks of an execution, by their index.
    pub fn tasks_v2(&self, place: Place<'_>, job: &str, execution: &str) -> Result<Vec<Value>, Error> {
        let (name, stored) = self.find_execution(place, job, execution)?;
        let view = self.control.view();
        Ok((0..show::task_count(&stored)).map(|index| job_view::task(&view, &name, &stored, index)).collect())
    }

    fn find_execution(
        &self,
        place: Place<'_>,
        job: &str,
        execution: &str,
    ) -> Result<(Name, std::sync::Arc<Value>), Error> {
        let found = read::find(&self.control.view(), place, Kind::Execution, execution)?;
        if job != "-" && jobs::job_of(&found.1) != Some(job) {
            return Err(found.0.not_found(Kind::Execution));
        }
        Ok(found)
    }

    /// The operation of a change: recorded, or, if nothing changed or was to change, finished at once.
    fn job_operation(&self, name: &Name, written: Written) -> Result<Value, Error> {
        if let Some(operation) = &written.operation
            && let Ok(shown) = self.operation_in(region(name), operation, Api::V2)
        {
            return Ok(shown);
        }
        let operation = written.operation.unwrap_or_else(operations::new_id);
        let shown = job_view::job(&self.control.view(), name, &written.document);
        Ok(finished(name, &operation, Kind::Job, shown))
    }
}
