//! `gcloud run jobs executions`.

use std::time::Duration;

use serde_json::Value;

use super::manage::{JOB, column, delete, print, show_list};
use super::place::{Place, body};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::run::service::Document;
use crate::gcloud::run::{describe, services};
use crate::gcloud::tree::list_flags;

/// Between two looks whether an execution has ended. It ends within the grace that containers have.
const PAUSE: Duration = Duration::from_millis(50);

const TABLE: Display = Display::computed(
    "table(glyph:label='',job:label=JOB,metadata.name:label=EXECUTION,region:label=REGION,running:label=RUNNING,\
     complete:label=COMPLETE,created:label=CREATED,author:label='RUN BY')",
    |execution, name| {
        let number = |pointer: &str| execution.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        Some(match name {
            "job" => Value::from(Document(execution).label(JOB)?),
            "running" => Value::from(number("/status/runningCount")),
            "complete" => {
                Value::from(format!("{} / {}", number("/status/succeededCount"), number("/spec/taskCount")))
            }
            _ => return column(execution, name),
        })
    },
);

pub fn list_command() -> Command {
    Command::new("list", "List executions.", list)
        .flags(list_flags())
        .flag(Flag::text("job", "Only executions of this job."))
}

pub fn describe_command() -> Command {
    Command::new("describe", "Obtain details about executions.", |inv| {
        describe_execution(inv, &Place::of(inv)?, inv.args.name("EXECUTION"))
    })
    .arg("EXECUTION", "The name of the execution.")
}

pub fn describe_latest_command() -> Command {
    Command::new("describe-latest", "Obtain details about the latest execution of a job.", describe_latest)
        .flag(Flag::text("job", "The job.").required())
}

pub fn cancel_command() -> Command {
    Command::new("cancel", "Cancel an execution.", cancel)
        .arg("EXECUTION", "The name of the execution.")
        .flag(Flag::switch("async", "Return at once."))
}

pub fn delete_command() -> Command {
    Command::new("delete", "Delete an execution.", |inv| {
        delete(inv, "executions", "execution", inv.args.name("EXECUTION"))
    })
    .arg("EXECUTION", "The name of the execution.")
    .flag(Flag::switch("async", "Return at once."))
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut target = Place::of(inv)?.collection("executions");
    if let Some(job) = inv.args.text("job") {
        target += &format!("?labelSelector={}", crate::gcloud::query(&format!("{JOB} = {job}")));
    }
    let mut found = services::collect(inv, &target)?;
    // What has not begun first, then the newest.
    found.sort_by_cached_key(|execution| {
        let started = Document(execution).condition("Started");
        let begun =
            started.is_some_and(|started| matches!(started["status"].as_str(), Some("True" | "False")));
        let time = started.and_then(|started| started["lastTransitionTime"].as_str()).unwrap_or_default();
        (std::cmp::Reverse((!begun, time.to_owned())), Document(execution).name().to_owned())
    });
    show_list(inv, found, TABLE)
}

fn describe_execution(inv: &Invocation<'_>, place: &Place, name: &str) -> Result<(), Failure> {
    let Some(execution) = place.read(inv, "executions", name)? else {
        return Err(Failure::new(format!("Cannot find execution [{name}].")));
    };
    print(inv, &execution, describe::execution)
}

fn describe_latest(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (place, job) = (Place::of(inv)?, inv.args.text("job").unwrap_or_default());
    let Some(document) = place.read(inv, "jobs", job)? else {
        return Err(Failure::new(format!("Cannot find job [{job}].")));
    };
    match Document(&document).text("/status/latestCreatedExecution/name") {
        Some(name) => describe_execution(inv, &place, name),
        None => Err(Failure::new(format!("Job [{job}] has no executions."))),
    }
}

fn cancel(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (place, name) = (Place::of(inv)?, inv.args.name("EXECUTION"));
    inv.confirm_or_abort(&format!("Execution [{name}] will be cancelled."))?;
    let later = inv.args.on("async");
    if !later {
        inv.status(&format!("Cancelling [{name}]..."));
    }
    let failed = |failure: Failure| {
        if !later {
            inv.status("failed.");
        }
        failure
    };
    let target = format!("{}/{name}:cancel?alt=json", place.collection("executions"));
    let answer = inv.api.post(&target, &serde_json::json!({}))?;
    if answer.status == 404 {
        return Err(failed(Failure::new(format!("Execution [{name}] could not be found."))));
    }
    body(answer).map_err(failed)?;
    if later {
        inv.status(&format!("Execution [{name}] is being cancelled."));
        return Ok(());
    }
    loop {
        let Some(current) = place.read(inv, "executions", name)? else {
            return Err(failed(Failure::new(format!("Failed to cancel [{name}]."))));
        };
        match Document(&current).condition("Completed").and_then(|condition| condition["status"].as_str()) {
            Some("True") => {
                let why = format!("[{name}] has completed successfully before it could be cancelled.");
                return Err(failed(Failure::new(why)));
            }
            Some("False") => break,
            _ => std::thread::sleep(PAUSE),
        }
    }
    inv.status("done.");
    inv.status(&format!("Cancelled execution [{name}]."));
    Ok(())
}
