//! IAM policies: of Cloud Run services and jobs, and what projects share with them.

use serde_json::{Map, Value, json};

use super::location_path;
use super::region;
use super::rollout::Place;
use crate::gcloud::error::Failure;
use crate::gcloud::files::{parse_yaml, read_file};
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::{Display, Invocation};

pub const ALL_USERS: &str = "allUsers";
pub const INVOKER: &str = "roles/run.invoker";

/// Policies of this version may have conditions.
const POLICY_VERSION: u32 = 3;

pub fn get_command() -> Command {
    Command::new("get-iam-policy", "Get the IAM policy for a Cloud Run service.", |inv| get(inv, SERVICES))
        .arg("SERVICE", "The name of the service.")
}

pub fn set_command() -> Command {
    Command::new("set-iam-policy", "Set the IAM policy for a Cloud Run service.", |inv| set(inv, SERVICES))
        .arg("SERVICE", "The name of the service.")
        .arg("POLICY_FILE", "A JSON or YAML file with the policy.")
}

pub fn add_command() -> Command {
    let summary = "Add an IAM policy binding to the IAM policy of a Cloud Run service.";
    Command::new("add-iam-policy-binding", summary, |inv| add(inv, SERVICES))
        .arg("SERVICE", "The name of the service.")
        .flags(member_flags())
        .examples(&["gcloud run services add-iam-policy-binding my-service --member=serviceAccount:caller@my-project.iam.gserviceaccount.com --role=roles/run.invoker --region=us-central1"])
}

pub fn remove_command() -> Command {
    let summary = "Remove an IAM policy binding from the IAM policy of a Cloud Run service.";
    Command::new("remove-iam-policy-binding", summary, |inv| remove(inv, SERVICES))
        .arg("SERVICE", "The name of the service.")
        .flags(member_flags())
}

/// The same four for jobs.
pub fn job_commands() -> [Command; 4] {
    let job = |command: Command| command.arg("JOB", "The name of the job.");
    let new = Command::new;
    [
        job(new("get-iam-policy", "Get the IAM policy for a Cloud Run job.", |inv| get(inv, JOBS))),
        job(new("set-iam-policy", "Set the IAM policy for a Cloud Run job.", |inv| set(inv, JOBS)))
            .arg("POLICY_FILE", "A JSON or YAML file with the policy."),
        job(new("add-iam-policy-binding", "Add an IAM policy binding to a Cloud Run job.", |inv| {
            add(inv, JOBS)
        }))
        .flags(member_flags()),
        job(new("remove-iam-policy-binding", "Remove an IAM policy binding from a Cloud Run job.", |inv| {
            remove(inv, JOBS)
        }))
        .flags(member_flags()),
    ]
}

/// `--member` and `--role`.
pub fn member_flags() -> Vec<Flag> {
    vec![
        Flag::text("member", "Who: user:EMAIL, serviceAccount:EMAIL, allUsers, ….")
            .metavar("PRINCIPAL")
            .required(),
        Flag::text("role", "The role, such as roles/run.invoker.").required(),
    ]
}

/// What has a policy.
#[derive(Clone, Copy)]
struct Kind {
    collection: &'static str,
    noun: &'static str,
    positional: &'static str,
}

const SERVICES: Kind = Kind { collection: "services", noun: "service", positional: "SERVICE" };
const JOBS: Kind = Kind { collection: "jobs", noun: "job", positional: "JOB" };

/// The resource whose policy is meant; `service` is its name, whatever it is.
fn place(inv: &Invocation<'_>, kind: Kind) -> Result<Place, Failure> {
    let service = inv.args.name(kind.positional).to_owned();
    Ok(Place { project: inv.project(), region: region(inv)?, service })
}

fn path(place: &Place, kind: Kind, method: &str) -> String {
    let location = location_path(&place.project, &place.region);
    format!("{location}/{}/{}:{method}?alt=json", kind.collection, place.service)
}

fn read(inv: &Invocation<'_>, place: &Place, kind: Kind) -> Result<Value, Failure> {
    let answer = inv.api.get(&format!(
        "{}&options.requestedPolicyVersion={POLICY_VERSION}",
        path(place, kind, "getIamPolicy")
    ))?;
    if answer.is_success() { Ok(answer.body) } else { Err(Failure::run(&answer)) }
}

/// The policy as gcloud shows it: its etag is bytes, which Google's clients write in the URL-safe kind of base64.
pub fn shown(mut policy: Value) -> Value {
    if let Some(Value::String(etag)) = policy.get_mut("etag") {
        *etag = etag.replace('+', "-").replace('/', "_");
    }
    policy
}

fn get(inv: &Invocation<'_>, kind: Kind) -> Result<(), Failure> {
    inv.show(&shown(read(inv, &place(inv, kind)?, kind)?), Display::YAML)
}

fn write(inv: &Invocation<'_>, place: &Place, kind: Kind, body: &Value) -> Result<(), Failure> {
    let answer = inv.api.post(&path(place, kind, "setIamPolicy"), body)?;
    if !answer.is_success() {
        return Err(Failure::run(&answer));
    }
    inv.status(&format!("Updated IAM policy for {} [{}].", kind.noun, place.service));
    inv.show(&shown(answer.body), Display::YAML)
}

fn set(inv: &Invocation<'_>, kind: Kind) -> Result<(), Failure> {
    let place = place(inv, kind)?;
    let file = inv.args.name("POLICY_FILE");
    let mut policy = parse_yaml(file, &read_file(inv, file)?)?;
    let mut fields: Vec<String> =
        policy.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    fields.retain(|name| name != "version");
    fields.sort();
    policy["version"] = json!(POLICY_VERSION);
    write(inv, &place, kind, &json!({"policy": policy, "updateMask": fields.join(",")}))
}

fn add(inv: &Invocation<'_>, kind: Kind) -> Result<(), Failure> {
    let place = place(inv, kind)?;
    let mut policy = read(inv, &place, kind)?;
    add_member(
        &mut policy,
        inv.args.text("member").unwrap_or_default(),
        inv.args.text("role").unwrap_or_default(),
    );
    policy["version"] = json!(POLICY_VERSION);
    write(inv, &place, kind, &json!({"policy": policy}))
}

fn remove(inv: &Invocation<'_>, kind: Kind) -> Result<(), Failure> {
    let place = place(inv, kind)?;
    let mut policy = read(inv, &place, kind)?;
    remove_member(
        &mut policy,
        inv.args.text("member").unwrap_or_default(),
        inv.args.text("role").unwrap_or_default(),
    )?;
    policy["version"] = json!(POLICY_VERSION);
    write(inv, &place, kind, &json!({"policy": policy}))
}

fn bindings(policy: &Value) -> Vec<Value> {
    policy.get("bindings").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn put_bindings(policy: &mut Value, bindings: Vec<Value>) {
    if !policy.is_object() {
        *policy = Value::Object(Map::new());
    }
    if let Value::Object(map) = policy {
        match bindings.is_empty() {
            true => drop(map.remove("bindings")),
            false => drop(map.insert("bindings".into(), Value::Array(bindings))),
        }
    }
}

fn is_for(binding: &Value, role: &str) -> bool {
    binding.get("role").and_then(Value::as_str) == Some(role) && binding.get("condition").is_none()
}

fn members(binding: &Value) -> Vec<Value> {
    binding.get("members").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Gives the member the role, without a condition. Whether the policy changed.
pub fn add_member(policy: &mut Value, member: &str, role: &str) -> bool {
    let mut all = bindings(policy);
    match all.iter_mut().find(|binding| is_for(binding, role)) {
        Some(binding) => {
            let mut held = members(binding);
            if held.iter().any(|m| m.as_str() == Some(member)) {
                return false;
            }
            held.push(json!(member));
            binding["members"] = Value::Array(held);
        }
        None => all.push(json!({"members": [member], "role": role})),
    }
    put_bindings(policy, all);
    true
}

/// Takes the role from the member. An empty binding goes.
pub fn remove_member(policy: &mut Value, member: &str, role: &str) -> Result<(), Failure> {
    let mut all = bindings(policy);
    let found = all
        .iter_mut()
        .find(|binding| is_for(binding, role) && members(binding).iter().any(|m| m.as_str() == Some(member)));
    let Some(binding) = found else {
        return Err(Failure::new(
            "Policy binding with the specified principal, role, and condition not found!",
        ));
    };
    let mut held = members(binding);
    held.retain(|m| m.as_str() != Some(member));
    binding["members"] = Value::Array(held);
    all.retain(|binding| !members(binding).is_empty());
    put_bindings(policy, all);
    Ok(())
}

/// Whether the caller may change the service's policy; also asked about services that do not exist yet.
pub fn may_set_policy(inv: &Invocation<'_>, place: &Place) -> Result<bool, Failure> {
    let permission = "run.services.setIamPolicy";
    let answer =
        inv.api.post(&path(place, SERVICES, "testIamPermissions"), &json!({"permissions": [permission]}))?;
    if !answer.is_success() {
        return Err(Failure::run(&answer));
    }
    let held = answer.body.get("permissions").and_then(Value::as_array);
    Ok(held.is_some_and(|held| held.iter().any(|p| p.as_str() == Some(permission))))
}

/// Opens the service to everybody, or closes it. Whether it worked.
pub fn set_public(inv: &Invocation<'_>, place: &Place, public: bool) -> Result<bool, Failure> {
    let answer = inv.api.get(&path(place, SERVICES, "getIamPolicy"))?;
    if !answer.is_success() {
        return Ok(false);
    }
    let mut policy = answer.body;
    let changed = match public {
        true => add_member(&mut policy, ALL_USERS, INVOKER),
        false => remove_member(&mut policy, ALL_USERS, INVOKER).is_ok(),
    };
    if !changed {
        return Ok(true);
    }
    Ok(inv.api.post(&path(place, SERVICES, "setIamPolicy"), &json!({"policy": policy}))?.is_success())
}

/// Whether everybody may call the service. A policy that cannot be read says no.
pub fn is_public(inv: &Invocation<'_>, place: &Place) -> Result<bool, Failure> {
    let answer = inv.api.get(&path(place, SERVICES, "getIamPolicy"))?;
    let open = |binding: &Value| {
        is_for(binding, INVOKER) && members(binding).iter().any(|m| m.as_str() == Some(ALL_USERS))
    };
    Ok(answer.is_success() && bindings(&answer.body).iter().any(open))
}
