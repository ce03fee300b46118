//! Service Usage v1: which APIs of a project are switched on.
//!
//! The services that are built in are on from the start; whatever a client switches on or off is remembered for the
//! project. Switching a service off has Google's effect: its methods answer 403 until it is on again. Every change is
//! done when it is answered, so operations are always done.

use serde_json::{Value, json};
use vestibule_control::{Control, Error};
use vestibule_model::Service;
use vestibule_model::project::project_number;

use crate::{Call, Ctx, Registry, Reply, list};

/// The operation that every change answers: Google's own name for one that had nothing left to do.
const OPERATION: &str = "operations/noop.DONE_OPERATION";

/// Most services in one batch (`BatchEnableServicesRequest.serviceIds`).
const MAX_BATCH: usize = 20;

/// Services on a page if the client names no number, and the most it gets.
const PAGE_SIZE: usize = 50;
const MAX_PAGE_SIZE: usize = 200;

/// Services that are on from the start without methods of their own in the table.
const ALSO_ON: &[&str] = &["oslogin.googleapis.com"];

pub(crate) fn register(registry: &mut Registry) {
    registry
        .service(Service::Serviceusage)
        .add("serviceusage.services.get", get)
        .add("serviceusage.services.list", list)
        .add("serviceusage.services.batchGet", batch_get)
        .add("serviceusage.services.enable", enable)
        .add("serviceusage.services.batchEnable", batch_enable)
        .add("serviceusage.services.disable", disable)
        .add("serviceusage.operations.get", operation)
        .add("serviceusage.operations.list", |_, _| Ok(Reply::empty()))
        .add("serviceusage.operations.cancel", finished)
        .add("serviceusage.operations.delete", finished);
}

/// Refuses a call of a service that was switched off for the project.
pub(crate) fn check_enabled(control: &Control, call: &Call) -> Result<(), Error> {
    let service = call.method.service;
    let project = call.project();
    // Service Usage must stay, or nothing could be switched on again; projects themselves are no use of a service.
    let exempt = matches!(
        service,
        Service::Serviceusage
            | Service::ResourcemanagerV1
            | Service::ResourcemanagerV3
            | Service::Cloudbilling
    );
    if exempt || project.is_empty() || is_on(control, project, service.host()) {
        return Ok(());
    }
    let (host, number) = (service.host(), project_number(project));
    Err(Error::PermissionDenied {
        message: format!(
            "{host} has not been used in project {number} before or it is disabled. Enable it with \
             `gcloud services enable {host} --project={project}`, then retry."
        ),
    })
}

fn key(project: &str, service: &str) -> String {
    format!("serviceusage/projects/{project}/services/{service}")
}

fn built_in() -> impl Iterator<Item = &'static str> {
    let hosts = Service::ALL.iter().map(|service| service.host());
    let mut hosts: Vec<&str> = hosts.chain(ALSO_ON.iter().copied()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts.into_iter()
}

fn is_on(control: &Control, project: &str, service: &str) -> bool {
    match control.view().get(&key(project, service)) {
        Some(stored) => stored.value["state"] == "ENABLED",
        None => built_in().any(|host| host == service),
    }
}

fn describe(control: &Control, project: &str, service: &str) -> Value {
    let parent = format!("projects/{}", project_number(project));
    let state = if is_on(control, project, service) { "ENABLED" } else { "DISABLED" };
    json!({
        "name": format!("{parent}/services/{service}"),
        "config": { "name": service, "title": service },
        "state": state,
        "parent": parent,
    })
}

/// The service that a path or a batch names, if it can be one.
fn checked<'s>(project: &str, service: &'s str) -> Result<&'s str, Error> {
    let label = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if service.len() <= 253 && service.contains('.') && service.split('.').all(label) {
        return Ok(service);
    }
    Err(Error::NotFound { message: format!("Service '{service}' not found in project '{project}'.") })
}

/// `projects/P/services/S` as a path or a batch has it, with the project in either spelling.
fn split(ctx: &Ctx<'_>, name: &str) -> Result<(String, String), Error> {
    let parts: Vec<&str> = name.split('/').collect();
    let ["projects", project, "services", service] = parts.as_slice() else {
        return Err(Error::invalid(
            "name",
            name,
            "Only services of projects are known: projects/P/services/S.",
        ));
    };
    let project = ctx.project_id(project);
    checked(&project, service)?;
    Ok((project, (*service).to_owned()))
}

fn parent(ctx: &Ctx<'_>, call: &Call) -> Result<String, Error> {
    let name = format!("{}/services/all.googleapis.com", call.param("parent"));
    split(ctx, &name).map(|(project, _)| project)
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (project, service) = split(ctx, call.param("name"))?;
    Ok(describe(ctx.control(), &project, &service).into())
}

fn list(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let project = parent(ctx, &call)?;
    let wanted = match call.query("filter") {
        None => None,
        Some(filter) => Some(match filter.replace('=', ":").trim() {
            "state:ENABLED" => "ENABLED",
            "state:DISABLED" => "DISABLED",
            _ => {
                let why = "Allowed are state:ENABLED and state:DISABLED.";
                return Err(Error::invalid("filter", filter, why));
            }
        }),
    };
    let prefix = key(&project, "");
    let view = ctx.control().view();
    let stored = view.range(&prefix).map(|kv| kv.key[prefix.len()..].to_owned());
    let mut names: Vec<String> = stored.chain(built_in().map(str::to_owned)).collect();
    names.sort_unstable();
    names.dedup();
    let services = names.iter().map(|service| describe(ctx.control(), &project, service));
    let kept = services.filter(|service| wanted.is_none_or(|state| service["state"] == state)).collect();
    let key = |service: &Value| service["name"].as_str().unwrap_or_default().to_owned();
    Ok(list::google(&call, "services", PAGE_SIZE, MAX_PAGE_SIZE, kept, key)?.into())
}

fn batch_get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let named = call.query_all("names").map(|name| {
        let (project, service) = split(ctx, name)?;
        Ok(describe(ctx.control(), &project, &service))
    });
    let services: Vec<Value> = named.collect::<Result<_, Error>>()?;
    Ok(json!({ "services": services }).into())
}

fn enable(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (project, service) = split(ctx, call.param("name"))?;
    set(ctx.control(), &project, &[&service], "ENABLED")?;
    Ok(done(json!({
        "@type": "type.googleapis.com/google.api.serviceusage.v1.EnableServiceResponse",
        "service": describe(ctx.control(), &project, &service),
    })))
}

fn batch_enable(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let project = parent(ctx, &call)?;
    let ids = call.body().get("serviceIds").and_then(Value::as_array).cloned().unwrap_or_default();
    let ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
    if ids.is_empty() || ids.len() > MAX_BATCH {
        let why = format!("A batch holds 1 to {MAX_BATCH} services.");
        return Err(Error::invalid("serviceIds", ids.len(), why));
    }
    for id in &ids {
        checked(&project, id)?;
    }
    set(ctx.control(), &project, &ids, "ENABLED")?;
    let services: Vec<Value> = ids.iter().map(|id| describe(ctx.control(), &project, id)).collect();
    Ok(done(json!({
        "@type": "type.googleapis.com/google.api.serviceusage.v1.BatchEnableServicesResponse",
        "services": services,
    })))
}

fn disable(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (project, service) = split(ctx, call.param("name"))?;
    if service == Service::Serviceusage.host() {
        let message = format!("{service} cannot be disabled: nothing could be enabled again.");
        return Err(Error::FailedPrecondition { message });
    }
    set(ctx.control(), &project, &[&service], "DISABLED")?;
    Ok(done(json!({
        "@type": "type.googleapis.com/google.api.serviceusage.v1.DisableServiceResponse",
        "service": describe(ctx.control(), &project, &service),
    })))
}

fn set(control: &Control, project: &str, services: &[&str], state: &str) -> Result<(), Error> {
    control.change(|change| {
        for service in services {
            let key = key(project, service);
            let document = json!({ "state": state });
            if change.get(&key).as_deref() != Some(&document) {
                change.put(&key, document);
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn done(response: Value) -> Reply {
    json!({ "name": OPERATION, "done": true, "response": response }).into()
}

fn operation(_: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    known(&call)?;
    Ok(done(json!({ "@type": "type.googleapis.com/google.protobuf.Empty" })))
}

fn finished(_: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    known(&call)?;
    Ok(Reply::empty())
}

fn known(call: &Call) -> Result<(), Error> {
    match call.param("name") {
        OPERATION => Ok(()),
        other => Err(Error::NotFound { message: format!("Operation '{other}' not found.") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn state(world: &World, service: &str) -> String {
        let (status, body) = world.get(&format!("/v1/projects/demo/services/{service}"));
        assert_eq!(status, 200, "{body}");
        body["state"].as_str().unwrap().to_owned()
    }

    #[test]
    fn services_are_switched_on_and_off() {
        let world = World::new();
        assert_eq!(state(&world, "run.googleapis.com"), "ENABLED");
        assert_eq!(state(&world, "vpcaccess.googleapis.com"), "DISABLED");
        let ids = json!({"serviceIds": ["vpcaccess.googleapis.com", "run.googleapis.com"]});
        let (status, operation) = world.send("POST", "/v1/projects/demo/services:batchEnable", ids);
        assert_eq!((status, operation["done"].as_bool()), (200, Some(true)));
        assert_eq!(state(&world, "vpcaccess.googleapis.com"), "ENABLED");
        world.send("POST", "/v1/projects/demo/services/vpcaccess.googleapis.com:disable", json!({}));
        assert_eq!(state(&world, "vpcaccess.googleapis.com"), "DISABLED");
        world.send("POST", "/v1/projects/demo/services/vpcaccess.googleapis.com:enable", json!({}));
        assert_eq!(state(&world, "vpcaccess.googleapis.com"), "ENABLED");
        let (status, _) = world.get(&format!("/v1/{}", operation["name"].as_str().unwrap()));
        assert_eq!(status, 200);
        assert_eq!(world.get("/v1/operations/acf.other").0, 404);
    }

    #[test]
    fn the_list_that_terraform_asks_for() {
        let world = World::new();
        let query = "filter=state:ENABLED&pageSize=200&fields=services/name,nextPageToken";
        let (_, body) = world.get(&format!("/v1/projects/demo/services?{query}"));
        let names: Vec<&str> =
            body["services"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
        let run = format!("projects/{}/services/run.googleapis.com", project_number("demo"));
        assert!(names.contains(&run.as_str()), "{names:?}");
        assert_eq!(body["services"][0].as_object().unwrap().len(), 1, "only the name");
        assert_eq!(world.get("/v1/projects/demo/services?filter=colour:RED").0, 400);
    }

    #[test]
    fn a_disabled_service_refuses_calls_until_it_is_enabled() {
        let world = World::new();
        world.send("POST", "/v1/projects/demo/services/cloudbilling.googleapis.com:disable", json!({}));
        assert_eq!(world.get("/v1/projects/demo/billingInfo").0, 200, "exempt");
        let call = |id: &str, service| Call {
            method: vestibule_model::route::method(service, id).unwrap(),
            params: match vestibule_model::route::find("GET", "/dns/v1/projects/demo/managedZones") {
                vestibule_model::route::RouteMatch::Found(found) => found.params,
                _ => unreachable!(),
            },
            query: Vec::new(),
            fields: None,
            body: Default::default(),
        };
        let control = &world.api.deps().control;
        let zones = call("dns.managedZones.list", Service::Dns);
        assert!(check_enabled(control, &zones).is_ok());
        world.send("POST", "/v1/projects/demo/services/dns.googleapis.com:disable", json!({}));
        assert!(matches!(check_enabled(control, &zones), Err(Error::PermissionDenied { .. })));
        world.send("POST", "/v1/projects/demo/services/dns.googleapis.com:enable", json!({}));
        assert!(check_enabled(control, &zones).is_ok());
    }

    #[test]
    fn bad_names_and_batches() {
        let world = World::new();
        assert_eq!(world.get("/v1/projects/demo/services/RUN").0, 404);
        assert_eq!(world.get("/v1/folders/1/services/run.googleapis.com").0, 400);
        for ids in [json!([]), json!(vec!["a.googleapis.com"; 21])] {
            let body = json!({ "serviceIds": ids });
            assert_eq!(world.send("POST", "/v1/projects/demo/services:batchEnable", body).0, 400);
        }
        let off = "/v1/projects/demo/services/serviceusage.googleapis.com:disable";
        assert_eq!(world.send("POST", off, json!({})).1["error"]["status"], "FAILED_PRECONDITION");
    }
}
