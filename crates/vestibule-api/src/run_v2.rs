//! Cloud Run v2. Jobs are in [`jobs`].

mod jobs;

use serde_json::Value;
use vestibule_control::Error;
use vestibule_control::run::Caller;
use vestibule_control::run::v2::Patch;
use vestibule_model::Service;

use crate::run_v1::{newest_first, place, waiting_time};
use crate::{Call, Ctx, Registry, Reply, list, run_policies};

/// Entries of a list if the client names no number, and the most it gets.
const PAGE_SIZE: usize = 100;
const MAX_PAGE_SIZE: usize = 1000;

pub(crate) fn register(registry: &mut Registry) {
    let mut methods = registry.service(Service::RunV2);
    methods
        .add("run.projects.locations.services.create", create)
        .add("run.projects.locations.services.get", get)
        .add("run.projects.locations.services.list", list_services)
        .add("run.projects.locations.services.patch", patch)
        .add("run.projects.locations.services.delete", delete)
        .add("run.projects.locations.services.revisions.get", revision)
        .add("run.projects.locations.services.revisions.list", list_revisions)
        .add("run.projects.locations.services.revisions.delete", delete_revision)
        .add("run.projects.locations.operations.get", operation)
        .add("run.projects.locations.operations.list", list_operations)
        .add("run.projects.locations.operations.delete", delete_operation)
        .add_waiting("run.projects.locations.operations.wait", wait);
    jobs::register(&mut methods);
    run_policies::register(&mut methods);
}

fn caller<'a>(ctx: &'a Ctx<'_>, call: &Call) -> Caller<'a> {
    Caller { email: ctx.user(), dry_run: call.flag("validateOnly") }
}

fn create(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let service = call.query("serviceId").unwrap_or_default();
    let made =
        ctx.control().run().create_v2(caller(ctx, &call), place(ctx, &call), service, call.body().clone())?;
    Ok(made.into())
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().get_v2(place(ctx, &call), call.param("servicesId"))?.into())
}

fn list_services(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let services = ctx.control().run().list_v2(place(ctx, &call));
    Ok(list::google(&call, "services", PAGE_SIZE, MAX_PAGE_SIZE, services, by_age)?.into())
}

fn by_age(item: &Value) -> String {
    newest_first(&item["createTime"], item["name"].as_str().unwrap_or_default())
}

fn patch(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let patch = Patch {
        mask: call.query("updateMask"),
        allow_missing: call.flag("allowMissing"),
        force_new_revision: call.flag("forceNewRevision"),
    };
    let (caller, place) = (caller(ctx, &call), place(ctx, &call));
    let patched =
        ctx.control().run().patch_v2(caller, place, call.param("servicesId"), call.body().clone(), patch)?;
    Ok(patched.into())
}

fn delete(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (caller(ctx, &call), place(ctx, &call));
    Ok(ctx.control().run().delete_v2(caller, place, call.param("servicesId"), call.query("etag"))?.into())
}

fn revision(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let run = ctx.control().run();
    Ok(run.revision_v2(place(ctx, &call), call.param("servicesId"), call.param("revisionsId"))?.into())
}

fn list_revisions(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let revisions = ctx.control().run().revisions_v2(place(ctx, &call), call.param("servicesId"))?;
    Ok(list::google(&call, "revisions", PAGE_SIZE, MAX_PAGE_SIZE, revisions, by_age)?.into())
}

fn delete_revision(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (service, revision) = (call.param("servicesId"), call.param("revisionsId"));
    let run = ctx.control().run();
    let deleted =
        run.delete_revision_v2(caller(ctx, &call), place(ctx, &call), service, revision, call.query("etag"))?;
    Ok(deleted.into())
}

fn operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().operation_v2(place(ctx, &call), call.param("operationsId"))?.into())
}

fn list_operations(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let operations = ctx.control().run().operations_v2(place(ctx, &call));
    let key = |operation: &Value| operation["name"].as_str().unwrap_or_default().to_owned();
    Ok(list::google(&call, "operations", PAGE_SIZE, MAX_PAGE_SIZE, operations, key)?.into())
}

fn delete_operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    ctx.control().run().delete_operation(place(ctx, &call), call.param("operationsId"))?;
    Ok(Reply::empty())
}

fn wait(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let limit = waiting_time(&call).min(ctx.patience());
    Ok(ctx.control().run().wait_v2(place(ctx, &call), call.param("operationsId"), limit)?.into())
}
