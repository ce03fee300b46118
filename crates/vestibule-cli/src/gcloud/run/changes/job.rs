//! What is a job's alone.

use serde_json::{Value, json};

use super::{JOB, object};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::Misuse;
use crate::gcloud::invocation::Invocation;

const EXECUTION: &[&str] = &["spec", "template", "spec"];

/// Tasks, retries, limits.
pub fn spec(inv: &Invocation<'_>, job: &mut Value) -> Result<(), Failure> {
    for (flag, least) in [("tasks", 1), ("parallelism", 0), ("max-retries", 0), ("task-timeout", 1)] {
        at_least(inv, flag, least)?;
    }
    let execution = object(job, EXECUTION);
    if let Some(tasks) = inv.args.int("tasks") {
        execution.insert("taskCount".into(), json!(tasks));
    }
    match inv.args.int("parallelism") {
        Some(0) => drop(execution.remove("parallelism")),
        Some(number) => drop(execution.insert("parallelism".into(), json!(number))),
        None => {}
    }
    let task = object(job, JOB.pod);
    if let Some(retries) = inv.args.int("max-retries") {
        task.insert("maxRetries".into(), json!(retries));
    }
    if let Some(seconds) = inv.args.int("task-timeout") {
        // Numbers of 64 bits are texts in Google's JSON.
        task.insert("timeoutSeconds".into(), json!(seconds.to_string()));
    }
    if let Some(account) = inv.args.text("service-account") {
        task.insert("serviceAccountName".into(), json!(account));
    }
    Ok(())
}

/// A number that gcloud itself refuses.
pub fn at_least(inv: &Invocation<'_>, flag: &str, least: i64) -> Result<(), Failure> {
    match inv.args.int(flag) {
        Some(number) if number < least => {
            let why = format!("Value must be greater than or equal to {least}; received: {number}");
            Err(Misuse::plain(&inv.path, format!("argument --{flag}: {why}")).into())
        }
        _ => Ok(()),
    }
}
