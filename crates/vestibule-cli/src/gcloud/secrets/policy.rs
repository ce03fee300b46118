//! IAM policies of secrets.

use serde_json::{Value, json};

use super::{call, files, secret_path};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::Command;
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::run::policy::{add_member, member_flags, remove_member, shown};

/// Policies of this version may have conditions.
const VERSION: u32 = 3;

pub fn get_command() -> Command {
    Command::new("get-iam-policy", "Get the IAM policy for the secret.", get)
        .arg("SECRET", "The name of the secret.")
}

pub fn set_command() -> Command {
    Command::new("set-iam-policy", "Set the IAM policy binding for a secret.", set)
        .arg("SECRET", "The name of the secret.")
        .arg("POLICY_FILE", "A JSON or YAML file with the policy.")
}

pub fn add_command() -> Command {
    Command::new("add-iam-policy-binding", "Add IAM policy binding to a secret.", add)
        .arg("SECRET", "The name of the secret.")
        .flags(member_flags())
}

pub fn remove_command() -> Command {
    Command::new("remove-iam-policy-binding", "Remove IAM policy binding for a secret.", remove)
        .arg("SECRET", "The name of the secret.")
        .flags(member_flags())
}

fn path(inv: &Invocation<'_>, method: &str) -> String {
    format!("{}:{method}?alt=json", secret_path(inv, inv.args.name("SECRET")))
}

fn read(inv: &Invocation<'_>) -> Result<Value, Failure> {
    let target = format!("{}&options.requestedPolicyVersion={VERSION}", path(inv, "getIamPolicy"));
    call(inv, "GET", &target, None)
}

fn write(inv: &Invocation<'_>, mut policy: Value) -> Result<(), Failure> {
    policy["version"] = json!(VERSION);
    let written = call(inv, "POST", &path(inv, "setIamPolicy"), Some(&json!({ "policy": policy })))?;
    inv.status(&format!("Updated IAM policy for secret [{}].", inv.args.name("SECRET")));
    inv.show(&shown(written), Display::YAML)
}

fn get(inv: &Invocation<'_>) -> Result<(), Failure> {
    inv.show(&shown(read(inv)?), Display::YAML)
}

fn set(inv: &Invocation<'_>) -> Result<(), Failure> {
    let file = inv.args.name("POLICY_FILE");
    let policy = files::parse_yaml(file, &files::read_file(inv, file)?)?;
    write(inv, policy)
}

fn add(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut policy = read(inv)?;
    let text = |flag: &str| inv.args.text(flag).unwrap_or_default();
    add_member(&mut policy, text("member"), text("role"));
    write(inv, policy)
}

fn remove(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut policy = read(inv)?;
    let text = |flag: &str| inv.args.text(flag).unwrap_or_default();
    remove_member(&mut policy, text("member"), text("role"))?;
    write(inv, policy)
}
