//! Cloud Resource Manager v1 and v3, and the one method of Cloud Billing that Terraform asks for.
//!
//! Projects are not made here: every well-formed id is a project. Lists show the ids that hold something or that
//! someone asked for.

use serde_json::{Value, json};
use vestibule_control::Error;
use vestibule_model::Service;
use vestibule_model::project::project_number;

use crate::{Call, Ctx, Registry, Reply, list};

/// When every project was made, as far as anyone can tell. Clients only want it not to change.
const CREATED: &str = "2024-01-01T00:00:00.000Z";

/// Projects on a page if the client names no number, and the most it gets.
const PAGE_SIZE: usize = 500;

pub(crate) fn register(registry: &mut Registry) {
    registry
        .service(Service::ResourcemanagerV1)
        .add("cloudresourcemanager.projects.get", |_, call| Ok(project_v1(call.project()).into()))
        .add("cloudresourcemanager.projects.list", list_v1);
    registry
        .service(Service::ResourcemanagerV3)
        .add("cloudresourcemanager.projects.get", |_, call| Ok(project_v3(call.project()).into()))
        .add("cloudresourcemanager.projects.list", list_v3)
        .add("cloudresourcemanager.projects.search", search_v3)
        .add("cloudresourcemanager.effectiveTags.list", no_tags);
    registry.service(Service::Cloudbilling).add("cloudbilling.projects.getBillingInfo", billing);
}

fn project_v1(id: &str) -> Value {
    json!({
        "projectId": id,
        "projectNumber": project_number(id).to_string(),
        "name": id,
        "lifecycleState": "ACTIVE",
        "createTime": CREATED,
    })
}

fn project_v3(id: &str) -> Value {
    json!({
        "name": format!("projects/{}", project_number(id)),
        "projectId": id,
        "displayName": id,
        "state": "ACTIVE",
        "createTime": CREATED,
        "updateTime": CREATED,
    })
}

fn list_v1(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let filter = call.query("filter").map(|filter| list::Filter::parse(&named_as_v1(filter))).transpose()?;
    let projects = ctx.api.project_ids().iter().map(|id| project_v1(id)).collect();
    listed(&call, projects, filter)
}

/// v1 lets a filter say `id` and `parent` where the document says `projectId` and has none.
fn named_as_v1(filter: &str) -> String {
    match filter.trim_start().strip_prefix("id") {
        Some(rest) if rest.trim_start().starts_with([':', '=']) => format!("projectId{rest}"),
        _ => filter.to_owned(),
    }
}

/// v3 lists by parent, and no project of ours has one.
fn list_v3(_: &Ctx<'_>, _: Call) -> Result<Reply, Error> {
    Ok(Reply::empty())
}

fn search_v3(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let query = call.query("query").map(|query| {
        let spelt = query.trim_start();
        match spelt.strip_prefix("id").filter(|rest| rest.trim_start().starts_with([':', '='])) {
            Some(rest) => format!("projectId{rest}"),
            None => spelt.to_owned(),
        }
    });
    let filter = query.as_deref().map(list::Filter::parse).transpose()?;
    let projects = ctx.api.project_ids().iter().map(|id| project_v3(id)).collect();
    listed(&call, projects, filter)
}

fn listed(call: &Call, projects: Vec<Value>, filter: Option<list::Filter>) -> Result<Reply, Error> {
    let kept = projects.into_iter().filter(|project| filter.as_ref().is_none_or(|f| f.matches(project)));
    let key = |project: &Value| project["projectId"].as_str().unwrap_or_default().to_owned();
    Ok(list::google(call, "projects", PAGE_SIZE, PAGE_SIZE, kept.collect(), key)?.into())
}

/// gcloud asks for the tags of a project and takes 404 for "none".
fn no_tags(_: &Ctx<'_>, _: Call) -> Result<Reply, Error> {
    Err(Error::NotFound { message: "The resource has no tags.".to_owned() })
}

fn billing(_: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let project = call.project();
    Ok(json!({
        "name": format!("projects/{project}/billingInfo"),
        "projectId": project,
        "billingAccountName": "",
        "billingEnabled": false,
    })
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn a_project_by_id_and_by_number() {
        let world = World::new();
        let (status, project) = world.get("/v1/projects/demo");
        assert_eq!(status, 200);
        assert_eq!(project["lifecycleState"], "ACTIVE");
        let number = project["projectNumber"].as_str().unwrap();
        assert_eq!(world.get(&format!("/v1/projects/{number}")).1, project);
        let (_, newer) = world.get("/v3/projects/demo");
        assert_eq!(newer["name"], format!("projects/{number}"));
        assert_eq!(world.get(&format!("/v3/projects/{number}")).1, newer);
    }

    #[test]
    fn lists_show_projects_that_were_asked_for() {
        let world = World::new();
        assert_eq!(world.get("/v1/projects").1, json!({}));
        world.get("/v1/projects/one");
        world.get("/v1/projects/two");
        let ids = |path: &str| -> Vec<String> {
            let (status, body) = world.get(path);
            assert_eq!(status, 200, "{body}");
            let projects = body["projects"].as_array().cloned().unwrap_or_default();
            projects.iter().map(|p| p["projectId"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ids("/v1/projects"), ["one", "two"]);
        assert_eq!(ids("/v1/projects?filter=id:one"), ["one"]);
        assert_eq!(ids("/v1/projects?filter=lifecycleState%3AACTIVE"), ["one", "two"]);
        assert_eq!(ids("/v3/projects:search?query=id%3Dtwo"), ["two"]);
        assert_eq!(ids("/v3/projects:search"), ["one", "two"]);
    }

    #[test]
    fn small_questions_of_gcloud_and_terraform() {
        let world = World::new();
        assert_eq!(world.get("/v3/effectiveTags?parent=%2F%2Fx").0, 404);
        assert_eq!(world.get("/v1/projects/demo/billingInfo").1["projectId"], "demo");
    }
}
