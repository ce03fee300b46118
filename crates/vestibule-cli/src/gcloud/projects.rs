//! `gcloud projects`.

use serde_json::{Value, json};

use super::error::Failure;
use super::grammar::{Command, Group};
use super::invocation::{Display, Invocation};
use super::run::policy;
use crate::http::Answer;

const TABLE: Display = Display::new("table(projectId,name,projectNumber)");

/// Policies of this version may have conditions.
const POLICY_VERSION: u32 = 3;

const PROJECT: &str = "PROJECT_ID_OR_NUMBER";

pub fn group() -> Group {
    let project = "The project.";
    Group::new("projects", "Look at projects and who may do what in them.")
        .command(Command::new("describe", "Show metadata for a project.", describe).arg(PROJECT, project))
        .command(Command::new("list", "List projects.", list).flags(super::tree::list_flags()))
        .command(
            Command::new("get-iam-policy", "Get IAM policy for a project.", get_policy).arg(PROJECT, project),
        )
        .command(
            Command::new("add-iam-policy-binding", "Add IAM policy binding for a project.", add)
                .arg(PROJECT, project)
                .flags(policy::member_flags()),
        )
        .command(
            Command::new(
                "remove-iam-policy-binding",
                "Remove IAM policy binding from the IAM policy of a project.",
                remove,
            )
            .arg(PROJECT, project)
            .flags(policy::member_flags()),
        )
}

/// A refusal, in the words for projects.
pub fn refused(project: &str, answer: &Answer) -> Failure {
    match answer.status {
        404 => Failure::new(format!("Projects instance [{project}] not found: {}", answer.error_message())),
        _ => Failure::googleapis(answer),
    }
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let project = inv.args.name(PROJECT);
    let answer = inv.api.get(&format!("/v1/projects/{project}?alt=json"))?;
    match answer.is_success() {
        true => inv.show(&answer.body, Display::YAML),
        false => Err(refused(project, &answer)),
    }
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = inv.api.get("/v1/projects?alt=json&filter=lifecycleState%3AACTIVE&pageSize=500")?;
    if !answer.is_success() {
        return Err(Failure::googleapis(&answer));
    }
    let found = answer.body.get("projects").and_then(Value::as_array).cloned().unwrap_or_default();
    inv.list_with_uri(found, TABLE, &|project| {
        Some(format!("projects/{}", project.get("projectId")?.as_str()?))
    })
}

fn read_policy(inv: &Invocation<'_>, project: &str) -> Result<Value, Failure> {
    let body = json!({"options": {"requestedPolicyVersion": POLICY_VERSION}});
    let answer = inv.api.post(&format!("/v1/projects/{project}:getIamPolicy?alt=json"), &body)?;
    if answer.is_success() { Ok(answer.body) } else { Err(refused(project, &answer)) }
}

fn get_policy(inv: &Invocation<'_>) -> Result<(), Failure> {
    inv.show(&policy::shown(read_policy(inv, inv.args.name(PROJECT))?), Display::YAML)
}

fn add(inv: &Invocation<'_>) -> Result<(), Failure> {
    change_policy(inv, |policy, member, role| {
        policy::add_member(policy, member, role);
        Ok(())
    })
}

fn remove(inv: &Invocation<'_>) -> Result<(), Failure> {
    change_policy(inv, policy::remove_member)
}

fn change_policy(
    inv: &Invocation<'_>,
    change: fn(&mut Value, &str, &str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let project = inv.args.name(PROJECT);
    let mut policy = read_policy(inv, project)?;
    change(
        &mut policy,
        inv.args.text("member").unwrap_or_default(),
        inv.args.text("role").unwrap_or_default(),
    )?;
    policy["version"] = json!(POLICY_VERSION);
    let answer =
        inv.api.post(&format!("/v1/projects/{project}:setIamPolicy?alt=json"), &json!({"policy": policy}))?;
    if !answer.is_success() {
        return Err(refused(project, &answer));
    }
    inv.status(&format!("Updated IAM policy for project [{project}]."));
    inv.show(&policy::shown(answer.body), Display::YAML)
}
