//! `gcloud run jobs executions tasks`.

use serde_json::Value;

use super::manage::{column, print, show_list};
use super::place::Place;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::run::service::{Document, RUNNING_STATE};
use crate::gcloud::run::{describe, services};
use crate::gcloud::tree::list_flags;

const EXECUTION: &str = "run.googleapis.com/execution";

/// Flags that choose states: those of the flag, and for a toggle those of its opposite.
const STATES: [(&str, &[&str], &[&str]); 8] = [
    ("succeeded", &["Succeeded"], &[]),
    ("failed", &["Failed"], &[]),
    ("cancelled", &["Cancelled"], &[]),
    ("running", &["Running"], &[]),
    ("abandoned", &["Abandoned"], &[]),
    ("pending", &["Pending"], &[]),
    ("completed", &["Succeeded", "Failed", "Cancelled"], &["Running", "Pending"]),
    ("started", &["Succeeded", "Failed", "Cancelled", "Running"], &["Pending", "Abandoned"]),
];

const TABLE: Display = Display::computed(
    "table(glyph:label='',index:label=INDEX,state:label=STATE,metadata.name:label=TASK,started:label=STARTED,\
     completed:label=COMPLETED,retries:label=RETRIES)",
    |task, name| {
        let number = |pointer: &str| task.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        Some(match name {
            "index" => Value::from(number("/status/index")),
            "state" => Value::from(Document(task).label(RUNNING_STATE)?),
            "retries" => {
                // One that has not begun has not been tried again either.
                task.pointer("/status/startTime")?;
                Value::from(number("/status/retried"))
            }
            _ => return column(task, name),
        })
    },
);

pub fn list_command() -> Command {
    let command = Command::new("list", "List tasks.", list)
        .flags(list_flags())
        .flag(Flag::text("execution", "The execution.").required());
    STATES.iter().fold(command, |command, (name, _, opposite)| {
        let help = "Only tasks in this state; several of these flags add up.";
        command.flag(match opposite.is_empty() {
            true => Flag::switch(name, help),
            false => Flag::toggle(name, help),
        })
    })
}

pub fn describe_command() -> Command {
    Command::new("describe", "Obtain details about tasks.", describe_task)
        .arg("TASK", "The name of the task.")
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut selector = format!("{EXECUTION} = {}", inv.args.text("execution").unwrap_or_default());
    let states = STATES.iter().flat_map(|(name, states, opposite)| match inv.args.toggle(name) {
        Some(true) => *states,
        Some(false) => *opposite,
        None => &[],
    });
    let states: Vec<&str> = states.copied().collect();
    if !states.is_empty() {
        selector += &format!(",{RUNNING_STATE} in ({})", states.join(","));
    }
    let target =
        format!("{}?labelSelector={}", Place::of(inv)?.collection("tasks"), crate::gcloud::query(&selector));
    let mut found = services::collect(inv, &target)?;
    found.sort_by_key(|task| task.pointer("/status/index").and_then(Value::as_i64).unwrap_or(0));
    show_list(inv, found, TABLE)
}

fn describe_task(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = inv.args.name("TASK");
    let Some(task) = Place::of(inv)?.read(inv, "tasks", name)? else {
        return Err(Failure::new(format!("Cannot find task [{name}].")));
    };
    print(inv, &task, describe::task)
}
