//! Jobs, executions and tasks in v2.

use serde_json::Value;
use vestibule_control::Error;
use vestibule_control::run::Caller;

use super::{MAX_PAGE_SIZE, PAGE_SIZE, by_age, caller};
use crate::run_v1::place;
use crate::{Call, Ctx, Methods, Reply, list};

pub(super) fn register(methods: &mut Methods<'_>) {
    methods
        .add("run.projects.locations.jobs.create", create)
        .add("run.projects.locations.jobs.get", get)
        .add("run.projects.locations.jobs.list", list_jobs)
        .add("run.projects.locations.jobs.patch", patch)
        .add("run.projects.locations.jobs.delete", delete)
        .add("run.projects.locations.jobs.run", run)
        .add("run.projects.locations.jobs.executions.get", execution)
        .add("run.projects.locations.jobs.executions.list", list_executions)
        .add("run.projects.locations.jobs.executions.cancel", cancel)
        .add("run.projects.locations.jobs.executions.delete", delete_execution)
        .add("run.projects.locations.jobs.executions.tasks.get", task)
        .add("run.projects.locations.jobs.executions.tasks.list", list_tasks);
}

/// The caller of a method whose body says whether it is only to be tried.
fn trying<'a>(ctx: &'a Ctx<'_>, call: &Call) -> Caller<'a> {
    let dry_run = call.body().get("validateOnly").and_then(Value::as_bool).unwrap_or(false);
    Caller { email: ctx.user(), dry_run }
}

fn create(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let job = call.query("jobId").unwrap_or_default();
    let run = ctx.control().run();
    Ok(run.create_job_v2(caller(ctx, &call), place(ctx, &call), job, call.body().clone())?.into())
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().job_v2(place(ctx, &call), call.param("jobsId"))?.into())
}

fn list_jobs(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let jobs = ctx.control().run().jobs_v2(place(ctx, &call));
    Ok(list::google(&call, "jobs", PAGE_SIZE, MAX_PAGE_SIZE, jobs, by_age)?.into())
}

fn patch(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (caller(ctx, &call), place(ctx, &call));
    let (job, body) = (call.param("jobsId"), call.body().clone());
    Ok(ctx.control().run().patch_job_v2(caller, place, job, body, call.flag("allowMissing"))?.into())
}

fn delete(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (caller(ctx, &call), place(ctx, &call));
    Ok(ctx.control().run().delete_job_v2(caller, place, call.param("jobsId"), call.query("etag"))?.into())
}

fn run(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (trying(ctx, &call), place(ctx, &call));
    Ok(ctx.control().run().run_job_v2(caller, place, call.param("jobsId"), call.body())?.into())
}

fn execution(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (job, execution) = (call.param("jobsId"), call.param("executionsId"));
    Ok(ctx.control().run().execution_v2(place(ctx, &call), job, execution)?.into())
}

fn list_executions(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let executions = ctx.control().run().executions_v2(place(ctx, &call), call.param("jobsId"))?;
    Ok(list::google(&call, "executions", PAGE_SIZE, MAX_PAGE_SIZE, executions, by_age)?.into())
}

fn cancel(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (trying(ctx, &call), place(ctx, &call));
    let (job, execution) = (call.param("jobsId"), call.param("executionsId"));
    let etag = call.body().get("etag").and_then(Value::as_str);
    Ok(ctx.control().run().cancel_execution_v2(caller, place, job, execution, etag)?.into())
}

fn delete_execution(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (caller(ctx, &call), place(ctx, &call));
    let (job, execution) = (call.param("jobsId"), call.param("executionsId"));
    let run = ctx.control().run();
    Ok(run.delete_execution_v2(caller, place, job, execution, call.query("etag"))?.into())
}

fn task(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (job, execution) = (call.param("jobsId"), call.param("executionsId"));
    Ok(ctx.control().run().task_v2(place(ctx, &call), job, execution, call.param("tasksId"))?.into())
}

fn list_tasks(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (job, execution) = (call.param("jobsId"), call.param("executionsId"));
    let tasks = ctx.control().run().tasks_v2(place(ctx, &call), job, execution)?;
    let by_index = |task: &Value| format!("{:05}", task["index"].as_u64().unwrap_or(0));
    Ok(list::google(&call, "tasks", PAGE_SIZE, MAX_PAGE_SIZE, tasks, by_index)?.into())
}
