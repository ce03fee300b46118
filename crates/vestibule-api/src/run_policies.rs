//! The policies of Cloud Run's services and jobs, which v1 and v2 answer alike.

use serde_json::Value;
use vestibule_control::Error;
use vestibule_control::run::Guarded;

use crate::run_v1::place;
use crate::{Call, Ctx, Methods, Reply, policies};

pub(crate) fn register(methods: &mut Methods<'_>) {
    for collection in ["services", "jobs"] {
        let id = |verb: &str| format!("run.projects.locations.{collection}.{verb}");
        methods
            .add(&id("getIamPolicy"), get)
            .add(&id("setIamPolicy"), set)
            .add(&id("testIamPermissions"), test);
    }
}

/// Whose policy a call is about.
fn guarded(call: &Call) -> Guarded<'_> {
    match call.optional_param("servicesId") {
        Some(service) => Guarded::Service(service),
        None => Guarded::Job(call.param("jobsId")),
    }
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let version = policies::requested_version(call.query("options.requestedPolicyVersion"));
    Ok(ctx.control().run().policy(place(ctx, &call), guarded(&call), version)?.into())
}

fn set(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let request = Value::Object(call.body().clone());
    Ok(ctx.control().run().set_policy(place(ctx, &call), guarded(&call), &request)?.into())
}

fn test(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (place, permissions) = (place(ctx, &call), policies::permissions(call.body()));
    let run = ctx.control().run();
    Ok(run.test_permissions(place, guarded(&call), &permissions, ctx.principal())?.into())
}
