//! Jobs, executions and tasks in v1.

use vestibule_control::Error;
use vestibule_control::run::Caller;

use super::{caller, listed, place, selector};
use crate::{Call, Ctx, Methods, Reply};

pub(super) fn register(methods: &mut Methods<'_>) {
    for (id, handler) in [
        ("jobs.create", create as crate::Handler),
        ("jobs.get", get),
        ("jobs.list", list_jobs),
        ("jobs.replaceJob", replace),
        ("jobs.delete", delete),
        ("jobs.run", run),
        ("executions.get", execution),
        ("executions.list", list_executions),
        ("executions.cancel", cancel),
        ("executions.delete", delete_execution),
        ("tasks.get", task),
        ("tasks.list", list_tasks),
    ] {
        methods.add(&format!("run.namespaces.{id}"), handler);
    }
}

fn create(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let run = ctx.control().run();
    Ok(run.create_job(caller(ctx, &call)?, place(ctx, &call), call.body().clone())?.into())
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().job(place(ctx, &call), call.param("jobsId"))?.into())
}

fn list_jobs(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    listed(&call, ctx.control().run().jobs(place(ctx, &call), selector(&call)?)?)
}

fn replace(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (caller(ctx, &call)?, place(ctx, &call));
    Ok(ctx.control().run().replace_job(caller, place, call.param("jobsId"), call.body().clone())?.into())
}

fn delete(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (caller(ctx, &call)?, place(ctx, &call));
    Ok(ctx.control().run().delete_job(caller, place, call.param("jobsId"))?.into())
}

fn run(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (at_once(ctx), place(ctx, &call));
    Ok(ctx.control().run().run_job(caller, place, call.param("jobsId"), call.body())?.into())
}

/// The caller of a method that cannot be tried.
fn at_once<'a>(ctx: &'a Ctx<'_>) -> Caller<'a> {
    Caller { email: ctx.user(), dry_run: false }
}

fn execution(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().execution(place(ctx, &call), call.param("executionsId"))?.into())
}

fn list_executions(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    listed(&call, ctx.control().run().executions(place(ctx, &call), selector(&call)?)?)
}

fn cancel(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (at_once(ctx), place(ctx, &call));
    Ok(ctx.control().run().cancel_execution(caller, place, call.param("executionsId"))?.into())
}

fn delete_execution(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (at_once(ctx), place(ctx, &call));
    Ok(ctx.control().run().delete_execution(caller, place, call.param("executionsId"))?.into())
}

fn task(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().task(place(ctx, &call), call.param("tasksId"))?.into())
}

fn list_tasks(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    listed(&call, ctx.control().run().tasks(place(ctx, &call), selector(&call)?)?)
}
