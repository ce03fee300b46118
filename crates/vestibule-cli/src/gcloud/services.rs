//! `gcloud services`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::Failure;
use super::grammar::{Command, Flag, Group};
use super::invocation::{Display, Invocation};
use super::projects::refused;

/// How long enabling may take.
const LIMIT: Duration = Duration::from_secs(5 * 60);

const TABLE: Display = Display::new("table(config.name:sort=1,config.title)");

pub fn group() -> Group {
    Group::new("services", "List, enable and disable APIs and services.")
        .command(
            Command::new("enable", "Enable a service for consumption for a project.", enable)
                .args("SERVICE", "Names such as run.googleapis.com.")
                .flag(Flag::switch("async", "Return at once.")),
        )
        .command(
            Command::new("disable", "Disable a service for consumption for a project.", disable)
                .args("SERVICE", "Names such as run.googleapis.com.")
                .flag(Flag::switch("force", "Also services that others need.")),
        )
        .command(
            Command::new("list", "List services for a project.", list)
                .flag(Flag::switch("enabled", "Only enabled services; the default."))
                .flag(Flag::switch("available", "All services."))
                .flags(super::tree::list_flags()),
        )
}

fn enable(inv: &Invocation<'_>) -> Result<(), Failure> {
    enable_services(inv, &inv.project(), inv.args.words("SERVICE"))
}

/// Enables services and waits for it.
pub fn enable_services(inv: &Invocation<'_>, project: &str, names: &[String]) -> Result<(), Failure> {
    let base = format!("/v1/projects/{project}/services");
    // A deployment enables by batch, also a single one.
    let answer = match names {
        [one] if inv.path.ends_with(&["enable"]) => {
            inv.api.post(&format!("{base}/{one}:enable?alt=json"), &json!({}))?
        }
        many => inv.api.post(&format!("{base}:batchEnable?alt=json"), &json!({"serviceIds": many}))?,
    };
    if !answer.is_success() {
        return Err(refused(project, &answer));
    }
    finish(inv, answer.body)
}

/// Waits for an operation; one that is done already is not mentioned.
fn finish(inv: &Invocation<'_>, operation: Value) -> Result<(), Failure> {
    let is_done = |operation: &Value| operation.get("done").and_then(Value::as_bool) == Some(true);
    let name = operation.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if is_done(&operation) || inv.args.on("async") {
        return Ok(());
    }
    let start = Instant::now();
    loop {
        let answer = inv.api.get(&format!("/v1/{name}?alt=json"))?;
        if !answer.is_success() {
            return Err(Failure::googleapis(&answer));
        }
        if let Some(message) = answer.body.pointer("/error/message").and_then(Value::as_str) {
            return Err(Failure::new(message));
        }
        if is_done(&answer.body) {
            inv.status(&format!("Operation \"{name}\" finished successfully."));
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            return Err(Failure::new(format!(
                "Operation {name} did not finish within {} minutes.",
                LIMIT.as_secs() / 60
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn disable(inv: &Invocation<'_>) -> Result<(), Failure> {
    let project = inv.project();
    for name in inv.args.words("SERVICE") {
        let path = format!("/v1/projects/{project}/services/{name}:disable?alt=json");
        let answer = inv.api.post(&path, &json!({"disableDependentServices": inv.args.on("force")}))?;
        if !answer.is_success() {
            return Err(refused(&project, &answer));
        }
        finish(inv, answer.body)?;
    }
    Ok(())
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let project = inv.project();
    let filter = if inv.args.on("available") { "" } else { "&filter=state%3AENABLED" };
    let mut found = Vec::new();
    let mut page = String::new();
    loop {
        let answer =
            inv.api.get(&format!("/v1/projects/{project}/services?alt=json{filter}&pageSize=200{page}"))?;
        if !answer.is_success() {
            return Err(refused(&project, &answer));
        }
        found.extend(answer.body.get("services").and_then(Value::as_array).into_iter().flatten().cloned());
        match answer.body.get("nextPageToken").and_then(Value::as_str).filter(|token| !token.is_empty()) {
            Some(token) => page = format!("&pageToken={}", super::query(token)),
            None => break,
        }
    }
    inv.list_with_uri(found, TABLE, &|service| service.get("name")?.as_str().map(str::to_owned))
}
