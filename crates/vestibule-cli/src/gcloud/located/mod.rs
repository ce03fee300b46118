//! `gcloud network-security server-tls-policies` and `gcloud certificate-manager trust-configs`: resources with a
//! location, which long-running operations change.

mod trust_configs;

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::error::Failure;
use super::files::{destination_flag, read_source, source_flag};
use super::format::yaml_document;
use super::grammar::{Command, Flag, Group, Handler};
use super::invocation::{Display, Invocation};
use super::tree::list_flags;
use super::{query, segment};

/// How long an operation is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long between two looks at an operation.
const PAUSE: Duration = Duration::from_millis(100);

const TABLE: Display = Display::new(
    "table(name.basename():label=NAME:sort=1,name.segment(3):label=LOCATION,description:label=DESCRIPTION,\
     createTime:label=CREATE_TIME,updateTime:label=UPDATE_TIME)",
);

/// A kind of such resources.
pub struct Resource {
    collection: &'static str,
    /// The positional argument.
    arg: &'static str,
    /// The attribute, in texts about it.
    attribute: &'static str,
    /// In texts about one.
    noun: &'static str,
    /// Query parameter with the id of a new one.
    id: &'static str,
    /// Where one is without `--location`.
    location: Option<&'static str>,
    /// Flags of its own: of `delete`, and of `import`.
    flags: fn() -> [Vec<Flag>; 2],
}

pub static SERVER_TLS_POLICIES: Resource = Resource {
    collection: "serverTlsPolicies",
    arg: "SERVER_TLS_POLICY",
    attribute: "server_tls_policy",
    noun: "server TLS policy",
    id: "serverTlsPolicyId",
    location: None,
    flags: || [Vec::new(), Vec::new()],
};

static TRUST_CONFIGS: Resource = Resource {
    collection: "trustConfigs",
    arg: "TRUST_CONFIG",
    attribute: "trust_config",
    noun: "trustConfig",
    id: "trustConfigId",
    location: Some("global"),
    flags: trust_configs::flags,
};

/// Fields that the server alone fills; an export leaves them out.
const OUTPUT_ONLY: [&str; 2] = ["createTime", "updateTime"];

pub fn network_security() -> Group {
    let policies = Group::new("server-tls-policies", "Manage Network Security ServerTlsPolicies.");
    let of = &SERVER_TLS_POLICIES;
    Group::new("network-security", "Manage Network Security resources.").group(common(
        policies,
        of,
        [
            |inv| describe(inv, &SERVER_TLS_POLICIES),
            |inv| delete(inv, &SERVER_TLS_POLICIES),
            |inv| list(inv, &SERVER_TLS_POLICIES),
            |inv| export(inv, &SERVER_TLS_POLICIES),
            |inv| import(inv, &SERVER_TLS_POLICIES),
        ],
    ))
}

pub fn certificate_manager() -> Group {
    let group = Group::new("trust-configs", "Manage Certificate Manager trust configs.")
        .command(trust_configs::create_command())
        .command(trust_configs::update_command());
    let of = &TRUST_CONFIGS;
    Group::new("certificate-manager", "Manage SSL certificates for your Google Cloud projects.").group(
        common(
            group,
            of,
            [
                |inv| describe(inv, &TRUST_CONFIGS),
                |inv| delete(inv, &TRUST_CONFIGS),
                |inv| list(inv, &TRUST_CONFIGS),
                |inv| export(inv, &TRUST_CONFIGS),
                |inv| import(inv, &TRUST_CONFIGS),
            ],
        ),
    )
}

/// The commands that both kinds have: describe, delete, list, export, import.
fn common(group: Group, of: &Resource, [describe, delete, list, export, import]: [Handler; 5]) -> Group {
    let one = "The resource: its ID, or its full name.";
    let [of_delete, of_import] = (of.flags)();
    group
        .command(Command::new("describe", "Describe one.", describe).arg(of.arg, one).flag(location_flag()))
        .command(
            Command::new("delete", "Delete one.", delete)
                .arg(of.arg, one)
                .flag(location_flag())
                .flag(async_flag())
                .flags(of_delete),
        )
        .command(
            Command::new("list", "List them.", list)
                .flag(Flag::text("location", "The location to list. Default: all of them."))
                .flags(list_flags()),
        )
        .command(
            Command::new("export", "Export one as YAML.", export)
                .arg(of.arg, one)
                .flag(location_flag())
                .flag(destination_flag()),
        )
        .command(
            Command::new("import", "Make or replace one from YAML.", import)
                .arg(of.arg, one)
                .flag(location_flag())
                .flag(source_flag())
                .flag(async_flag())
                .flags(of_import),
        )
}

fn location_flag() -> Flag {
    Flag::text("location", "The location: a region, or global.")
}

fn async_flag() -> Flag {
    Flag::switch("async", "Do not wait for the operation to complete.")
}

impl Resource {
    /// The relative name of what a word stands for.
    pub fn relative(&self, project: &str, location: &str, word: &str) -> String {
        match word.find("projects/") {
            Some(at) => word[at..].to_owned(),
            None => format!("projects/{project}/locations/{location}/{}/{word}", self.collection),
        }
    }

    /// The relative name of the resource that a command is about.
    fn named(&self, inv: &Invocation<'_>) -> Result<String, Failure> {
        let word = inv.args.name(self.arg);
        let location = inv.args.text("location").or(self.location);
        match location {
            None if !word.contains('/') => Err(Failure::new(format!(
                "Error parsing [{attribute}].\nThe [{}] resource is not properly specified.\nFailed to find attribute \
                 [location]. The attribute can be set in the following ways: \n- provide the argument `{attribute}` on \
                 the command line with a fully specified name\n- provide the argument `--location` on the command line",
                self.noun,
                attribute = self.attribute,
            ))),
            location => Ok(self.relative(&inv.project(), location.unwrap_or_default(), word)),
        }
    }
}

/// The last part of a relative name.
fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The path of a relative name.
fn path(name: &str) -> String {
    let parts: Vec<String> = name.split('/').map(segment).collect();
    format!("/v1/{}", parts.join("/"))
}

/// Sends one request and reads its answer.
fn call(inv: &Invocation<'_>, method: &str, target: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let answer = inv.api.call(method, target, body)?;
    if answer.is_success() { Ok(answer.body) } else { Err(Failure::googleapis(&answer)) }
}

fn read(inv: &Invocation<'_>, name: &str) -> Result<Value, Failure> {
    call(inv, "GET", &format!("{}?alt=json", path(name)), None)
}

/// Sends a change, says so, and waits for its operation. `None`: nobody waits.
fn carry_out(
    inv: &Invocation<'_>,
    said: &str,
    method: &str,
    target: &str,
    name: &str,
    body: Option<&Value>,
) -> Result<Option<Value>, Failure> {
    let mut operation = call(inv, method, target, body)?;
    inv.status(&format!("{said} for: [{}]", id(name)));
    let operation_name = operation["name"].as_str().unwrap_or_default().to_owned();
    if inv.args.on("async") {
        inv.status(&format!("Check operation [{operation_name}] for status."));
        if method != "DELETE" {
            inv.show(&operation, Display::YAML)?;
        }
        return Ok(None);
    }
    let deadline = Instant::now() + PATIENCE;
    if operation["done"] != true {
        inv.status(&format!("Waiting for operation [{operation_name}] to complete..."));
    }
    while operation["done"] != true {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("Operation {operation_name} has not finished.")));
        }
        std::thread::sleep(PAUSE);
        operation = read(inv, &operation_name)?;
    }
    match operation["error"]["message"].as_str() {
        Some(why) => Err(Failure::new(why)),
        None if method == "DELETE" => Ok(Some(Value::Null)),
        None => Ok(Some(read(inv, name)?)),
    }
}

/// Makes a resource.
fn insert(inv: &Invocation<'_>, of: &Resource, said: &str, body: &Value) -> Result<Option<Value>, Failure> {
    let name = of.named(inv)?;
    let parent = path(name.rsplit_once('/').map_or(name.as_str(), |(parent, _)| parent));
    let target = format!("{parent}?alt=json&{}={}", of.id, query(id(&name)));
    carry_out(inv, said, "POST", &target, &name, Some(body))
}

fn describe(inv: &Invocation<'_>, of: &Resource) -> Result<(), Failure> {
    inv.show(&read(inv, &of.named(inv)?)?, Display::YAML)
}

fn delete(inv: &Invocation<'_>, of: &Resource) -> Result<(), Failure> {
    let name = of.named(inv)?;
    inv.confirm_or_abort(&format!("You are about to delete {} [{}]", of.noun, id(&name)))?;
    let etag = inv.args.text("etag").map(|etag| format!("&etag={}", query(etag))).unwrap_or_default();
    let target = format!("{}?alt=json{etag}", path(&name));
    if carry_out(inv, "Delete request issued", "DELETE", &target, &name, None)?.is_some() {
        inv.status(&format!("Deleted {} [{}].", of.noun, id(&name)));
    }
    Ok(())
}

fn list(inv: &Invocation<'_>, of: &Resource) -> Result<(), Failure> {
    let location = inv.args.text("location").unwrap_or("-");
    let parent = path(&format!("projects/{}/locations/{location}/{}", inv.project(), of.collection));
    let (mut found, mut more) = (Vec::new(), String::new());
    loop {
        let answer = call(inv, "GET", &format!("{parent}?alt=json{more}"), None)?;
        found.extend(answer[of.collection].as_array().cloned().unwrap_or_default());
        match answer["nextPageToken"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => more = format!("&pageToken={}", query(token)),
            None => break,
        }
    }
    let base = inv.api.base().to_owned();
    inv.list_with_uri(found, TABLE, &|item| Some(format!("{base}{}", path(item.get("name")?.as_str()?))))
}

fn export(inv: &Invocation<'_>, of: &Resource) -> Result<(), Failure> {
    let name = of.named(inv)?;
    let mut resource = read(inv, &name)?;
    if let Value::Object(members) = &mut resource {
        members.retain(|member, _| !OUTPUT_ONLY.contains(&member.as_str()));
    }
    let text = yaml_document(&resource);
    let Some(file) = inv.args.text("destination").filter(|file| *file != "-") else {
        inv.printer.data(&text);
        return Ok(());
    };
    let written = std::fs::write(inv.environment.path(file), text);
    written.map_err(|error| Failure::new(format!("Unable to write file [{file}]: {error}")))?;
    inv.status(&format!("Exported [{name}] to '{file}'."));
    Ok(())
}

fn import(inv: &Invocation<'_>, of: &Resource) -> Result<(), Failure> {
    let name = of.named(inv)?;
    let body = read_source(inv)?;
    let answer = inv.api.get(&format!("{}?alt=json", path(&name)))?;
    let made = match answer.status {
        404 => insert(inv, of, "Request issued", &body)?,
        _ if answer.is_success() => {
            let mask = inv.args.text("update-mask").map(|mask| format!("&updateMask={}", query(mask)));
            let target = format!("{}?alt=json{}", path(&name), mask.unwrap_or_default());
            carry_out(inv, "Request issued", "PATCH", &target, &name, Some(&body))?
        }
        _ => return Err(Failure::googleapis(&answer)),
    };
    made.map_or(Ok(()), |made| inv.show(&made, Display::YAML))
}

/// Labels as `--labels` gives them.
fn texts(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
}
