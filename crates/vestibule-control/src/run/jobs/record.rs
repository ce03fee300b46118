//! What the runtime tells of tasks, kept beside the resources.
//!
//! Two documents: one for each task that has begun, and one for each execution with the counts of them, so that an
//! execution of ten thousand tasks can be shown without reading them all. Both lie outside of the keys that the
//! reconciler follows; only the end of an execution is written into the execution itself.

use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::{Value, json};
use vestibule_model::time;
use vestibule_run::desired::{Begun, ExecutionKey, TaskFailure, TaskReport, TaskState};
use vestibule_store::View;

use super::super::name::{Kind, Name};
use super::execution;
use crate::{Change, Control, Error};

/// The counts of an execution's tasks.
fn progress_key(execution: &Name) -> String {
    format!("task/{}", execution.relative(Kind::Execution))
}

fn tasks_prefix(execution: &Name) -> String {
    let Name { project, location, name } = execution;
    format!("task/projects/{project}/locations/{location}/tasks/{name}/")
}

fn task_key(execution: &Name, index: u32) -> String {
    format!("{}{index}", tasks_prefix(execution))
}

/// What is known of an execution's tasks together. `null` before one of them has begun.
pub(super) fn progress<'v>(view: &'v View, execution: &Name) -> &'v Value {
    view.get(&progress_key(execution)).map_or(&Value::Null, |kv| &*kv.value)
}

/// What is known of one task. `null` before it has begun.
pub(super) fn task<'v>(view: &'v View, execution: &Name, index: u32) -> &'v Value {
    view.get(&task_key(execution, index)).map_or(&Value::Null, |kv| &*kv.value)
}

/// How far the tasks of an execution are that have begun.
pub(super) fn begun(view: &View, execution: &Name) -> BTreeMap<u32, Begun> {
    let prefix = tasks_prefix(execution);
    let known = view.range(&prefix).filter_map(|kv| {
        let index = kv.key.strip_prefix(&prefix)?.parse().ok()?;
        let attempt = kv.value["attempt"].as_u64().and_then(|attempt| u32::try_from(attempt).ok());
        let over = matches!(kv.value["state"].as_str(), Some("Succeeded" | "Failed"));
        Some((index, Begun { attempt: attempt.unwrap_or(0), over }))
    });
    known.collect()
}

/// Stages the deletion of all that is known of an execution's tasks.
pub(super) fn forget(change: &mut Change<'_>, execution: &Name) {
    for (key, _) in change.range(&tasks_prefix(execution)) {
        change.delete(&key);
    }
    change.delete(&progress_key(execution));
}

/// Writes reports, in one change.
pub(in super::super) fn record(control: &Control, reports: &[TaskReport]) -> Result<(), Error> {
    control.change(|change| {
        for report in reports {
            one(change, report);
        }
        Ok(())
    })?;
    Ok(())
}

fn one(change: &mut Change<'_>, report: &TaskReport) {
    let (TaskReport::Task { execution: key, .. } | TaskReport::Over { execution: key, .. }) = report;
    let ExecutionKey { project, region, job, name } = key;
    let name = Name::new(project, region, name);
    // A report may come after its execution is gone.
    let Some(stored) = change.get(&name.key(Kind::Execution)) else { return };
    if execution::job_of(&stored) != Some(job) || execution::is_over(&stored) {
        return;
    }
    match report {
        TaskReport::Task { index, attempt, started, state, .. } => {
            tell(change, &name, *index, *attempt, text(*started), state);
        }
        TaskReport::Over { at, .. } => {
            let mut document = (*stored).clone();
            execution::finish(&mut document, timestamp(*at));
            change.put(&name.key(Kind::Execution), document);
        }
    }
}

/// Writes what became of a task.
fn tell(
    change: &mut Change<'_>,
    execution: &Name,
    index: u32,
    attempt: u32,
    started: String,
    state: &TaskState,
) {
    let key = task_key(execution, index);
    let old = change.get(&key).map(|old| (*old).clone()).unwrap_or_default();
    let word = word(state);
    let first = old["startTime"].as_str().map_or_else(|| started.clone(), str::to_owned);
    let mut task = json!({ "state": word, "attempt": attempt, "startTime": first });
    match state {
        TaskState::Running => {}
        TaskState::Succeeded { at } | TaskState::Cancelled { at } => {
            task["completionTime"] = text(*at).into()
        }
        TaskState::Failed { at, failure } => {
            task["completionTime"] = text(*at).into();
            task["failure"] = self::failure(failure);
        }
    }
    let mut progress = change.get(&progress_key(execution)).map(|old| (*old).clone()).unwrap_or_default();
    if progress["startTime"].is_null() {
        progress["startTime"] = started.into();
    }
    let mut count = |what: &str, by: i64| {
        progress[what] = (progress[what].as_i64().unwrap_or(0) + by).max(0).into();
    };
    if let Some(before) = old["state"].as_str() {
        count(before, -1);
    }
    count(word, 1);
    if attempt > 0 && old["attempt"].as_u64().unwrap_or(0) == 0 {
        count("Retried", 1);
    }
    if !task["failure"].is_null() && progress["failure"].is_null() {
        progress["failure"] = task["failure"].clone();
        progress["failure"]["index"] = index.into();
    }
    change.put(&progress_key(execution), progress);
    change.put(&key, task);
}

fn word(state: &TaskState) -> &'static str {
    match state {
        TaskState::Running => "Running",
        TaskState::Succeeded { .. } => "Succeeded",
        TaskState::Failed { .. } => "Failed",
        TaskState::Cancelled { .. } => "Cancelled",
    }
}

fn failure(failure: &TaskFailure) -> Value {
    let mut out = json!({ "reason": failure.reason, "message": failure.message });
    if let Some(code) = failure.exit_code {
        out["exitCode"] = code.into();
    }
    if let Some(signal) = failure.signal {
        out["signal"] = signal.into();
    }
    out
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

fn text(time: SystemTime) -> String {
    time::rfc3339(timestamp(time))
}
