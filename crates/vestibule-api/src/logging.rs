//! Cloud Logging v2: reading and writing entries, and the names of logs.
//!
//! Entries do not live in the store of documents but in files of their own; all that these handlers do is to check
//! what the client sent and to translate.

use jiff::Timestamp;
use serde_json::{Value, json};
use vestibule_control::{Error, document};
use vestibule_logs::entry::{self, WriteDefaults};
use vestibule_logs::{ListRequest, LogName, Query};
use vestibule_model::{Service, project};

use crate::{Call, Ctx, Registry, Reply, list};

/// Names of logs on a page if the client names no number, and the most it gets.
const LOGS_PAGE_SIZE: usize = 1000;

pub(crate) fn register(registry: &mut Registry) {
    registry
        .service(Service::Logging)
        .add("logging.entries.list", list_entries)
        .add("logging.entries.write", write_entries)
        .add("logging.projects.logs.list", list_logs)
        .add("logging.projects.logs.delete", delete_log);
}

fn list_entries(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let body = call.body();
    let mut resources = texts(body.get("resourceNames"));
    // The deprecated way to name projects.
    resources.extend(texts(body.get("projectIds")).into_iter().map(|id| format!("projects/{id}")));
    let resources: Vec<String> = resources.iter().map(|name| with_project_id(ctx, name)).collect();
    let request = ListRequest {
        resource_names: &resources,
        filter: document::text(body, "filter").unwrap_or_default(),
        order_by: document::text(body, "orderBy").unwrap_or_default(),
        page_size: document::integer(body, "pageSize").unwrap_or_default(),
        page_token: document::text(body, "pageToken").unwrap_or_default(),
    };
    let query = Query::new(&request).map_err(|refused| Error::bad_request(refused.to_string()))?;
    let page = ctx.deps().logs.list(&query).map_err(|refused| Error::bad_request(refused.to_string()))?;
    let mut answer = document::Document::new();
    if !page.entries.is_empty() {
        answer.insert("entries".to_owned(), Value::Array(page.entries));
    }
    if let Some(token) = page.next_page_token {
        answer.insert("nextPageToken".to_owned(), json!(token));
    }
    Ok(answer.into())
}

fn write_entries(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let mut body = call.document();
    let entries = match body.remove("entries") {
        Some(Value::Array(entries)) if !entries.is_empty() => entries,
        _ => return Err(Error::required("entries")),
    };
    let defaults = WriteDefaults {
        log_name: document::text(&body, "logName").map(|name| with_project_id(ctx, name)),
        resource: body.get("resource").filter(|resource| !resource.is_null()).cloned(),
        labels: body.get("labels").map(|labels| document::object(labels).clone()).unwrap_or_default(),
    };
    let entries = entries.into_iter().map(|entry| with_project_id_in(ctx, entry)).collect();
    let (good, bad) = entry::prepare(entries, &defaults, Timestamp::now());
    let write = bad.is_empty() || document::flag(&body, "partialSuccess");
    if write && !document::flag(&body, "dryRun") && !good.is_empty() {
        let context = |failed: vestibule_logs::WriteError| Error::Unavailable { context: failed.to_string() };
        ctx.deps().logs.append(&good).map_err(context)?;
    }
    match bad.first() {
        None => Ok(Reply::empty()),
        Some(first) => {
            let more = match bad.len() - 1 {
                0 => String::new(),
                more => format!(" ({more} more entries are invalid)"),
            };
            Err(Error::bad_request(format!(
                "Invalid log entry at index {}: {}{more}",
                first.index, first.why
            )))
        }
    }
}

fn list_logs(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let mut containers = vec![format!("projects/{}", call.project())];
    containers.extend(call.query_all("resourceNames").map(|name| container(&with_project_id(ctx, name))));
    let names: Vec<Value> = ctx.deps().logs.log_names(&containers).into_iter().map(Value::String).collect();
    let key = |name: &Value| name.as_str().unwrap_or_default().to_owned();
    Ok(list::google(&call, "logNames", LOGS_PAGE_SIZE, LOGS_PAGE_SIZE, names, key)?.into())
}

fn delete_log(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let name = format!("projects/{}/logs/{}", call.project(), call.param("logsId").replace('/', "%2F"));
    let name = LogName::parse(&name).map_err(Error::bad_request)?.to_string();
    let context = |failed: vestibule_logs::WriteError| Error::Unavailable { context: failed.to_string() };
    if ctx.deps().logs.delete_log(&name).map_err(context)? {
        return Ok(Reply::empty());
    }
    Err(Error::NotFound { message: format!("Log {name} does not exist") })
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Who holds the logs that a resource name stands for: a view's project.
fn container(name: &str) -> String {
    name.splitn(3, '/').take(2).collect::<Vec<_>>().join("/")
}

/// `projects/NUMBER…` as `projects/ID…`.
fn with_project_id(ctx: &Ctx<'_>, name: &str) -> String {
    let trimmed = name.strip_prefix('/').unwrap_or(name);
    let Some(rest) = trimmed.strip_prefix("projects/") else { return name.to_owned() };
    let (number, tail) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !project::is_number(number) {
        return name.to_owned();
    }
    let known = ctx.api.project_ids();
    format!("projects/{}{tail}", project::resolve(number, known.iter().map(String::as_str)))
}

fn with_project_id_in(ctx: &Ctx<'_>, mut entry: Value) -> Value {
    if let Some(Value::String(name)) = entry.get_mut("logName") {
        *name = with_project_id(ctx, name);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use vestibule_model::project::project_number;

    fn write(world: &World, body: Value) -> (u16, Value) {
        world.send("POST", "/v2/entries:write", body)
    }

    fn read(world: &World, filter: &str) -> Vec<Value> {
        let body = json!({"resourceNames": ["projects/demo"], "filter": filter});
        let (status, answer) = world.send("POST", "/v2/entries:list", body);
        assert_eq!(status, 200, "{answer}");
        answer["entries"].as_array().cloned().unwrap_or_default()
    }

    fn entry(log: &str, text: &str) -> Value {
        json!({"logName": format!("projects/demo/logs/{log}"), "resource": {"type": "global"}, "textPayload": text})
    }

    #[test]
    fn what_is_written_is_read() {
        let world = World::new();
        let body = json!({
            "logName": "projects/demo/logs/app",
            "resource": {"type": "global"},
            "labels": {"env": "test"},
            "entries": [
                {"textPayload": "one", "severity": "ERROR"},
                {"jsonPayload": {"n": 2}, "logName": format!("projects/{}/logs/other", project_number("demo"))},
            ],
        });
        world.get("/v1/projects/demo");
        assert_eq!(write(&world, body), (200, json!({})));
        let found = read(&world, "severity>=WARNING");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["textPayload"], "one");
        assert_eq!(found[0]["labels"], json!({"env": "test"}));
        assert_eq!(found[0]["resource"]["labels"]["project_id"], "demo");
        assert_eq!(read(&world, "log_id(\"other\")")[0]["jsonPayload"], json!({"n": 2}));
    }

    #[test]
    fn requests_as_gcloud_sends_them() {
        let world = World::new();
        let log = "run.googleapis.com%2Fstdout";
        let resource = json!({"type": "cloud_run_revision", "labels": {"service_name": "s5", "location": "us-central1"}});
        let mut line = entry(log, "hello");
        line["resource"] = resource;
        assert_eq!(write(&world, json!({"entries": [line]})).0, 200);
        let filter = "resource.type = cloud_run_revision \n AND resource.labels.service_name = s5 \n AND \
                      resource.labels.location = us-central1 \n AND severity >= DEFAULT \n AND \
                      timestamp>=\"2020-11-22T15:07:29.115497Z\"";
        let body = json!({"filter": filter, "orderBy": "timestamp desc", "pageSize": 3, "resourceNames": ["projects/demo"]});
        let (status, answer) = world.send("POST", "/v2/entries:list?alt=json", body);
        assert_eq!((status, answer["entries"][0]["textPayload"].as_str()), (200, Some("hello")));
        let body = json!({"filter": "severity>=ERROR", "orderBy": "timestamp desc", "resourceNames": ["projects/demo"]});
        assert_eq!(world.send("POST", "/v2/entries:list", body), (200, json!({})));
    }

    #[test]
    fn pages_follow_one_another() {
        let world = World::new();
        let entries: Vec<Value> = (0..5).map(|n| entry("app", &n.to_string())).collect();
        write(&world, json!({"entries": entries}));
        let mut texts = Vec::new();
        let mut token = json!("");
        loop {
            let body = json!({"resourceNames": ["projects/demo"], "pageSize": 2, "pageToken": token});
            let (_, answer) = world.send("POST", "/v2/entries:list", body);
            texts.extend(answer["entries"].as_array().unwrap().iter().map(|e| e["textPayload"].clone()));
            match &answer["nextPageToken"] {
                Value::String(next) => token = json!(next),
                _ => break,
            }
        }
        assert_eq!(texts, ["0", "1", "2", "3", "4"]);
    }

    #[test]
    fn wrong_requests_are_refused() {
        let world = World::new();
        let list = |body: Value| world.send("POST", "/v2/entries:list", body);
        let (status, answer) = list(json!({"resourceNames": ["projects/demo"], "filter": "severity="}));
        assert_eq!((status, answer["error"]["status"].as_str()), (400, Some("INVALID_ARGUMENT")));
        assert!(answer["error"]["message"].as_str().unwrap().starts_with("Unparseable filter: "));
        for wrong in [
            json!({}),
            json!({"resourceNames": ["nonsense"]}),
            json!({"resourceNames": ["projects/demo"], "pageSize": -1}),
            json!({"resourceNames": ["projects/demo"], "orderBy": "severity"}),
            json!({"resourceNames": ["projects/demo"], "pageToken": "x"}),
        ] {
            assert_eq!(list(wrong.clone()).0, 400, "{wrong}");
        }
        assert_eq!(write(&world, json!({})).0, 400);
        assert_eq!(write(&world, json!({"entries": [{"textPayload": "no name"}]})).0, 400);
        assert_eq!(
            world.send("POST", "/v2/entries:tail", json!({"resourceNames": ["projects/demo"]})).0,
            501
        );
    }

    #[test]
    fn partial_success_and_dry_runs() {
        let world = World::new();
        let mixed = json!([entry("app", "good"), {"textPayload": "nameless"}]);
        assert_eq!(write(&world, json!({"entries": mixed})).0, 400);
        assert!(read(&world, "").is_empty(), "all or nothing");
        assert_eq!(
            write(&world, json!({"entries": [entry("app", "dry")], "dryRun": true})),
            (200, json!({}))
        );
        assert!(read(&world, "").is_empty());
        let (status, answer) = write(&world, json!({"entries": mixed, "partialSuccess": true}));
        assert_eq!(status, 400);
        assert!(answer["error"]["message"].as_str().unwrap().contains("index 1"), "{answer}");
        assert_eq!(read(&world, "").len(), 1);
    }

    #[test]
    fn logs_are_listed_and_deleted() {
        let world = World::new();
        write(&world, json!({"entries": [entry("app", "x"), entry("run.googleapis.com%2Fstdout", "y")]}));
        let logs = || world.get("/v2/projects/demo/logs").1["logNames"].clone();
        assert_eq!(
            logs(),
            json!(["projects/demo/logs/app", "projects/demo/logs/run.googleapis.com%2Fstdout"])
        );
        let (_, page) = world.get("/v2/projects/demo/logs?pageSize=1");
        assert_eq!(page["logNames"], json!(["projects/demo/logs/app"]));
        assert!(page["nextPageToken"].is_string());
        let path = "/v2/projects/demo/logs/run.googleapis.com%2Fstdout";
        assert_eq!(world.send("DELETE", path, Value::Null), (200, json!({})));
        assert_eq!(world.send("DELETE", path, Value::Null).0, 404);
        assert_eq!(logs(), json!(["projects/demo/logs/app"]));
        assert_eq!(read(&world, "").len(), 1);
    }
}
