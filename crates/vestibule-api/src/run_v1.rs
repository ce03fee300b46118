//! Cloud Run v1: the Knative-style API. Jobs are in [`jobs`].
//!
//! Its paths come in two forms, `namespaces/P/…` without a region and `projects/P/locations/L/…`, with the same
//! answers.

mod jobs;

use serde_json::{Map, Value, json};
use vestibule_control::Error;
use vestibule_control::run::{Caller, Listing, Place};
use vestibule_model::Service;

use crate::{Call, Ctx, Registry, Reply, list, located, run_policies};

/// Entries of a list if the client names no limit, and the most it gets.
const PAGE_SIZE: usize = 1000;

pub(crate) fn register(registry: &mut Registry) {
    let mut methods = registry.service(Service::RunV1);
    for (id, handler) in [
        ("services.create", create as crate::Handler),
        ("services.get", get),
        ("services.list", list_services),
        ("services.replaceService", replace),
        ("services.delete", delete),
        ("revisions.get", revision),
        ("revisions.list", list_revisions),
        ("revisions.delete", delete_revision),
        ("routes.get", route),
        ("routes.list", list_routes),
        ("configurations.get", configuration),
        ("configurations.list", list_configurations),
    ] {
        methods.add(&format!("run.namespaces.{id}"), handler);
        methods.add(&format!("run.projects.locations.{id}"), handler);
    }
    methods
        .add("run.projects.locations.list", list_locations)
        .add("run.projects.locations.operations.get", operation)
        .add("run.projects.locations.operations.list", list_operations)
        .add("run.projects.locations.operations.delete", delete_operation)
        .add_waiting("run.projects.locations.operations.wait", wait);
    jobs::register(&mut methods);
    run_policies::register(&mut methods);
}

/// Where a call is aimed: by its path, else by its endpoint.
pub(crate) fn place<'a>(ctx: &'a Ctx<'_>, call: &'a Call) -> Place<'a> {
    Place::new(call.project(), call.optional_param("locationsId").or(ctx.region()))
}

fn caller<'a>(ctx: &'a Ctx<'_>, call: &Call) -> Result<Caller<'a>, Error> {
    match call.optional_query("dryRun") {
        None => Ok(Caller { email: ctx.user(), dry_run: false }),
        Some("all") => Ok(Caller { email: ctx.user(), dry_run: true }),
        Some(other) => Err(Error::invalid("dryRun", other, "Must be all.")),
    }
}

fn create(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let made = ctx.control().run().create(caller(ctx, &call)?, place(ctx, &call), call.body().clone())?;
    Ok(made.into())
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().get(place(ctx, &call), call.param("servicesId"))?.into())
}

fn list_services(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    listed(&call, ctx.control().run().list(place(ctx, &call), selector(&call)?)?)
}

fn replace(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (caller(ctx, &call)?, place(ctx, &call));
    let replaced =
        ctx.control().run().replace(caller, place, call.param("servicesId"), call.body().clone())?;
    Ok(replaced.into())
}

fn delete(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (caller(ctx, &call)?, place(ctx, &call));
    Ok(ctx.control().run().delete(caller, place, call.param("servicesId"))?.into())
}

fn revision(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().revision(place(ctx, &call), call.param("revisionsId"))?.into())
}

fn list_revisions(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    listed(&call, ctx.control().run().revisions(place(ctx, &call), selector(&call)?)?)
}

fn delete_revision(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (caller, place) = (caller(ctx, &call)?, place(ctx, &call));
    Ok(ctx.control().run().delete_revision(caller, place, call.param("revisionsId"))?.into())
}

fn route(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().route(place(ctx, &call), call.param("routesId"))?.into())
}

fn list_routes(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    listed(&call, ctx.control().run().routes(place(ctx, &call), selector(&call)?)?)
}

fn configuration(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().run().configuration(place(ctx, &call), call.param("configurationsId"))?.into())
}

fn list_configurations(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    listed(&call, ctx.control().run().configurations(place(ctx, &call), selector(&call)?)?)
}

/// The label selector of a list. What Cloud Run documents as unsupported is refused.
fn selector(call: &Call) -> Result<&str, Error> {
    if call.flag("watch") {
        return Err(Error::not_built(format!("{} (watch)", call.method.id)));
    }
    if let Some(fields) = call.query("fieldSelector") {
        return Err(Error::invalid("fieldSelector", fields, "It is not supported."));
    }
    Ok(call.query("labelSelector").unwrap_or_default())
}

fn listed(call: &Call, found: Listing) -> Result<Reply, Error> {
    let limit = call.query("limit").and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    if limit < 0 {
        return Err(Error::invalid("limit", limit, "Must not be negative."));
    }
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
    let listing = list::Listing {
        size: limit.unwrap_or(PAGE_SIZE).min(PAGE_SIZE),
        token: call.query("continue").map(str::to_owned),
        ..list::Listing::default()
    };
    let page = listing.page(found.items, |item| {
        let metadata = &item["metadata"];
        let label = |name: &str| metadata["labels"][name].as_str().unwrap_or_default();
        let location = label("cloud.googleapis.com/location");
        // The tasks of an execution are all of one moment, and the tenth does not come before the second.
        let (execution, index) = (label("run.googleapis.com/execution"), item["status"]["index"].as_u64());
        let name = format!("{execution}/{:05}/{}/{location}", index.unwrap_or(0), metadata["name"]);
        newest_first(&metadata["creationTimestamp"], &name)
    })?;
    let mut metadata = Map::new();
    if let Some(token) = page.next_page_token {
        metadata.insert("continue".to_owned(), token.into());
    }
    let answer = json!({
        "apiVersion": found.api_version,
        "kind": found.kind,
        "metadata": metadata,
        "items": page.items,
    });
    Ok(answer.into())
}

/// A text that sorts the newest first, and what was made in one moment by name.
pub(crate) fn newest_first(created: &Value, name: &str) -> String {
    let time = created.as_str().and_then(vestibule_model::time::parse).unwrap_or_default();
    let age = i64::MAX - time.as_microsecond().max(0);
    format!("{age:019}/{name}")
}

fn list_locations(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let locations = ctx.control().run().locations(call.project());
    let key = |location: &Value| location["locationId"].as_str().unwrap_or_default().to_owned();
    Ok(list::google(&call, "locations", PAGE_SIZE, PAGE_SIZE, locations, key)?.into())
}

fn operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    match ctx.control().run().operation(place(ctx, &call), call.param("operationsId")) {
        Ok(operation) => Ok(operation.into()),
        // Other APIs have theirs at the same path.
        Err(error @ Error::NotFound { .. }) => located::operation(ctx, call).map_err(|_| error),
        Err(error) => Err(error),
    }
}

fn list_operations(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let mut operations = ctx.control().run().operations(place(ctx, &call));
    operations.extend(located::operations_of(ctx, &call));
    Ok(list::google(&call, "operations", PAGE_SIZE, PAGE_SIZE, operations, located::by_name)?.into())
}

fn delete_operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    match ctx.control().run().delete_operation(place(ctx, &call), call.param("operationsId")) {
        Ok(()) => Ok(Reply::empty()),
        Err(error @ Error::NotFound { .. }) => located::delete_operation(ctx, call).map_err(|_| error),
        Err(error) => Err(error),
    }
}

fn wait(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let limit = waiting_time(&call).min(ctx.patience());
    Ok(ctx.control().run().wait(place(ctx, &call), call.param("operationsId"), limit)?.into())
}

/// How long a client of `operations.wait` wants to wait: without a word, as long as we do.
pub(crate) fn waiting_time(call: &Call) -> std::time::Duration {
    let seconds = call.body().get("timeout").and_then(Value::as_str).and_then(|text| text.strip_suffix('s'));
    let seconds = seconds.and_then(|seconds| seconds.parse::<f64>().ok());
    let wanted = seconds.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    wanted.unwrap_or(vestibule_control::run::WAIT_LIMIT)
}
