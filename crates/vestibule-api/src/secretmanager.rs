//! Secret Manager v1.

use serde_json::Value;
use vestibule_control::Error;
use vestibule_control::secrets::Secrets;
use vestibule_model::Service;

use crate::run_v1::newest_first;
use crate::{Call, Ctx, Registry, Reply, list, policies};

/// Entries of a list if the client names no number, and the most it gets.
const PAGE_SIZE: usize = 25_000;

pub(crate) fn register(registry: &mut Registry) {
    registry
        .service(Service::Secretmanager)
        .add("secretmanager.projects.secrets.create", create)
        .add("secretmanager.projects.secrets.get", get)
        .add("secretmanager.projects.secrets.list", list_secrets)
        .add("secretmanager.projects.secrets.patch", patch)
        .add("secretmanager.projects.secrets.delete", delete)
        .add("secretmanager.projects.secrets.addVersion", add_version)
        .add("secretmanager.projects.secrets.getIamPolicy", get_policy)
        .add("secretmanager.projects.secrets.setIamPolicy", set_policy)
        .add("secretmanager.projects.secrets.testIamPermissions", test_permissions)
        .add("secretmanager.projects.secrets.versions.access", access)
        .add("secretmanager.projects.secrets.versions.get", version)
        .add("secretmanager.projects.secrets.versions.list", list_versions)
        .add("secretmanager.projects.secrets.versions.enable", enable)
        .add("secretmanager.projects.secrets.versions.disable", disable)
        .add("secretmanager.projects.secrets.versions.destroy", destroy);
}

fn secrets<'a>(ctx: &'a Ctx<'_>) -> Secrets<'a> {
    ctx.control().secrets()
}

fn secret(call: &Call) -> &str {
    call.param("secretsId")
}

fn etag(call: &Call) -> Option<&str> {
    call.body().get("etag").and_then(Value::as_str)
}

fn create(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let id = call.query("secretId").unwrap_or_default();
    Ok(secrets(ctx).create(call.project(), id, call.body().clone())?.into())
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(secrets(ctx).get(call.project(), secret(&call))?.into())
}

fn list_secrets(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let found = secrets(ctx).list(call.project());
    listed(&call, "secrets", found, |secret| {
        newest_first(&secret["createTime"], secret["name"].as_str().unwrap_or_default())
    })
}

fn patch(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let mask = call.query("updateMask").unwrap_or_default();
    Ok(secrets(ctx).patch(call.project(), secret(&call), call.body(), mask)?.into())
}

fn delete(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    secrets(ctx).delete(call.project(), secret(&call), call.query("etag"))?;
    Ok(Reply::empty())
}

fn add_version(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(secrets(ctx).add_version(call.project(), secret(&call), call.body())?.into())
}

fn access(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let version = call.param("versionsId");
    Ok(secrets(ctx).access(call.project(), secret(&call), version, ctx.principal())?.into())
}

fn version(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(secrets(ctx).version(call.project(), secret(&call), call.param("versionsId"))?.into())
}

fn list_versions(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let found = secrets(ctx).versions(call.project(), secret(&call))?;
    listed(&call, "versions", found, |version| {
        let number = version["name"].as_str().and_then(|name| name.rsplit('/').next()?.parse::<u64>().ok());
        format!("{:020}", u64::MAX - number.unwrap_or(0))
    })
}

/// A list, newest first, with the number of entries if nothing was filtered.
fn listed(
    call: &Call,
    member: &str,
    mut items: Vec<Value>,
    key: impl Fn(&Value) -> String,
) -> Result<Reply, Error> {
    let total = items.len();
    let filter = call.query("filter").map(list::Filter::parse).transpose()?;
    if let Some(filter) = &filter {
        items.retain(|item| filter.matches(item));
    }
    let mut answer = list::google(call, member, PAGE_SIZE, PAGE_SIZE, items, key)?;
    if filter.is_none() && total > 0 {
        answer["totalSize"] = total.into();
    }
    Ok(answer.into())
}

fn enable(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let version = call.param("versionsId");
    Ok(secrets(ctx).enable_version(call.project(), secret(&call), version, etag(&call))?.into())
}

fn disable(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let version = call.param("versionsId");
    Ok(secrets(ctx).disable_version(call.project(), secret(&call), version, etag(&call))?.into())
}

fn destroy(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let version = call.param("versionsId");
    Ok(secrets(ctx).destroy_version(call.project(), secret(&call), version, etag(&call))?.into())
}

fn get_policy(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let version = policies::requested_version(call.query("options.requestedPolicyVersion"));
    Ok(secrets(ctx).policy(call.project(), secret(&call), version)?.into())
}

fn set_policy(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let request = Value::Object(call.body().clone());
    Ok(secrets(ctx).set_policy(call.project(), secret(&call), &request)?.into())
}

fn test_permissions(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let permissions = policies::permissions(call.body());
    Ok(secrets(ctx).test_permissions(call.project(), secret(&call), &permissions, ctx.principal())?.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::World;

    #[test]
    fn a_secret_s_life_over_http() {
        let world = World::new();
        let ok = |verb: &str, path: &str, body: Value| {
            let (status, answer) = world.send(verb, path, body);
            assert_eq!(status, 200, "{verb} {path}: {answer}");
            answer
        };
        let secrets = "/v1/projects/demo/secrets";
        ok("POST", &format!("{secrets}?secretId=s"), json!({"replication": {"automatic": {}}}));
        for data in ["b25l", "dHdv"] {
            ok("POST", &format!("{secrets}/s:addVersion"), json!({"payload": {"data": data}}));
        }
        // A client may name the project by its number, which answers do.
        let read = ok("GET", "/v1/projects/496268734596/secrets/s/versions/latest:access", Value::Null);
        assert_eq!(read["payload"]["data"], "dHdv");
        let versions = ok("GET", &format!("{secrets}/s/versions?pageSize=1"), Value::Null);
        assert_eq!(versions["versions"][0]["name"], "projects/496268734596/secrets/s/versions/2");
        assert_eq!(versions["totalSize"], 2);
        let token = versions["nextPageToken"].as_str().unwrap();
        let rest = ok("GET", &format!("{secrets}/s/versions?pageSize=1&pageToken={token}"), Value::Null);
        assert_eq!(rest["versions"][0]["name"], "projects/496268734596/secrets/s/versions/1");
        ok("POST", &format!("{secrets}/s/versions/2:disable"), json!({}));
        let enabled = ok("GET", &format!("{secrets}/s/versions?filter=state:ENABLED"), Value::Null);
        assert_eq!(enabled["versions"].as_array().unwrap().len(), 1);
        assert_eq!(enabled.get("totalSize"), None);
        let (status, refused) = world.get(&format!("{secrets}/s/versions/latest:access"));
        assert_eq!((status, &refused["error"]["status"]), (400, &json!("FAILED_PRECONDITION")));
        ok("POST", &format!("{secrets}/s/versions/2:enable"), json!({}));
        ok("POST", &format!("{secrets}/s/versions/2:destroy"), json!({}));
        let patched = ok("PATCH", &format!("{secrets}/s?updateMask=labels"), json!({"labels": {"a": "b"}}));
        assert_eq!(patched["labels"], json!({"a": "b"}));
        let found = ok("GET", &format!("{secrets}?filter=labels.a=b"), Value::Null);
        assert_eq!(found["secrets"][0]["name"], "projects/496268734596/secrets/s");
        assert_eq!(ok("DELETE", &format!("{secrets}/s"), Value::Null), json!({}));
        assert_eq!(world.get(&format!("{secrets}/s")).0, 404);
        assert_eq!(ok("GET", secrets, Value::Null), json!({}));
    }
}
