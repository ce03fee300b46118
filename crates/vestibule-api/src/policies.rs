//! What the policy methods of all services read from a call, and those of projects.

use serde_json::Value;
use vestibule_control::{Document, Error};
use vestibule_model::Service;

use crate::{Call, Ctx, Registry, Reply};

pub(crate) fn register(registry: &mut Registry) {
    for service in [Service::ResourcemanagerV1, Service::ResourcemanagerV3] {
        registry
            .service(service)
            .add("cloudresourcemanager.projects.getIamPolicy", get)
            .add("cloudresourcemanager.projects.setIamPolicy", set)
            .add("cloudresourcemanager.projects.testIamPermissions", test);
    }
}

/// The project of a call: v1 calls it `resource`, v3 has it in the usual place.
fn project(ctx: &Ctx<'_>, call: &Call) -> String {
    match call.optional_param("projectsId") {
        Some(project) => project.to_owned(),
        None => ctx.project_id(call.param("resource")),
    }
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().project_policy(&project(ctx, &call), version_in(call.body())).into())
}

fn set(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let request = Value::Object(call.body().clone());
    Ok(ctx.control().set_project_policy(&project(ctx, &call), &request)?.into())
}

fn test(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let permissions = permissions(call.body());
    Ok(ctx.control().test_project_permissions(&project(ctx, &call), &permissions, ctx.principal())?.into())
}

/// The highest version of policies that a client understands: 1 unless it says more.
pub(crate) fn requested_version(text: Option<&str>) -> u8 {
    text.and_then(|version| version.parse().ok()).unwrap_or(1)
}

/// The same, where the request says it in its body.
pub(crate) fn version_in(body: &Document) -> u8 {
    let version = body.get("options").map(|options| options["requestedPolicyVersion"].clone());
    let version = version.map(|version| version.as_str().map_or_else(|| version.to_string(), str::to_owned));
    requested_version(version.as_deref())
}

/// `permissions` of a `testIamPermissions` request.
pub(crate) fn permissions(body: &Document) -> Vec<String> {
    let list = body.get("permissions").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|permission| permission.as_str().map(str::to_owned)).collect()
}
