//! `gcloud iam service-accounts`.

use serde_json::{Map, Value, json};

use super::error::Failure;
use super::grammar::{Command, Flag, Group};
use super::invocation::{Display, Invocation};
use super::segment;

const TABLE: Display = Display::computed(
    "table(displayName:label='DISPLAY NAME',email,is_disabled:label=DISABLED)",
    |account, name| {
        (name == "is_disabled")
            .then(|| json!(account.get("disabled").and_then(Value::as_bool).unwrap_or(false)))
    },
);

pub fn group() -> Group {
    let email = "The account's address.";
    Group::new("iam", "Manage service accounts.").group(
        Group::new("service-accounts", "Create and manipulate service accounts.")
            .command(
                Command::new("create", "Create a service account for a project.", create)
                    .arg("NAME", "The first part of the account's address.")
                    .flag(Flag::text("display-name", "The name to show."))
                    .flag(Flag::text("description", "What the account is for.")),
            )
            .command(
                Command::new("list", "List all of a project's service accounts.", list)
                    .flags(super::tree::list_flags()),
            )
            .command(
                Command::new("describe", "Show metadata for a service account from a project.", describe)
                    .arg("SERVICE_ACCOUNT", email),
            )
            .command(
                Command::new("delete", "Delete a service account from a project.", delete)
                    .arg("SERVICE_ACCOUNT", email),
            ),
    )
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = inv.args.name("NAME");
    let mut account = Map::new();
    for (flag, field) in [("display-name", "displayName"), ("description", "description")] {
        if let Some(value) = inv.args.text(flag) {
            account.insert(field.into(), json!(value));
        }
    }
    let body = json!({"accountId": name, "serviceAccount": account});
    let answer = inv.api.post(&format!("/v1/projects/{}/serviceAccounts?alt=json", inv.project()), &body)?;
    match answer.status {
        409 => {
            let why = answer.error_message();
            return Err(Failure::new(format!(
                "Resource in projects [{}] is the subject of a conflict: {why}",
                inv.project()
            )));
        }
        _ if !answer.is_success() => return Err(Failure::googleapis(&answer)),
        _ => {}
    }
    inv.status(&format!("Created service account [{name}]."));
    inv.show_made(&[answer.body], Display::NOTHING)
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut page = String::new();
    loop {
        let answer = inv
            .api
            .get(&format!("/v1/projects/{}/serviceAccounts?alt=json&pageSize=100{page}", inv.project()))?;
        if !answer.is_success() {
            return Err(Failure::googleapis(&answer));
        }
        found.extend(answer.body.get("accounts").and_then(Value::as_array).into_iter().flatten().cloned());
        match answer.body.get("nextPageToken").and_then(Value::as_str).filter(|token| !token.is_empty()) {
            Some(token) => page = format!("&pageToken={}", super::query(token)),
            None => break,
        }
    }
    inv.list_with_uri(found, TABLE, &|account| account.get("name")?.as_str().map(str::to_owned))
}

/// Accounts of any project: the address says which.
fn path(inv: &Invocation<'_>) -> String {
    format!("/v1/projects/-/serviceAccounts/{}?alt=json", segment(inv.args.name("SERVICE_ACCOUNT")))
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = inv.api.get(&path(inv))?;
    match answer.is_success() {
        true => inv.show(&answer.body, Display::YAML),
        false => Err(Failure::googleapis(&answer)),
    }
}

fn delete(inv: &Invocation<'_>) -> Result<(), Failure> {
    let email = inv.args.name("SERVICE_ACCOUNT");
    inv.confirm_or_abort(&format!("You are about to delete service account [{email}]"))?;
    let answer = inv.api.call("DELETE", &path(inv), None)?;
    if !answer.is_success() {
        return Err(Failure::googleapis(&answer));
    }
    inv.status(&format!("deleted service account [{email}]"));
    Ok(())
}
