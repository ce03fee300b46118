//! Jobs, executions and tasks as v1 shows them: the documents, and a status made from what is known of the tasks.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use vestibule_model::time;
use vestibule_store::View;

use super::super::annotation::{EXECUTION, JOB, LOCATION, RUNNING_STATE, SERVING_STATE};
use super::super::name::{Kind, Name};
use super::super::{json as reach, status, template};
use super::{execution, record, token};

/// What separates a task's index from the name of its execution.
const TASK: &str = "-task";

/// A job.
pub(in super::super) fn job(view: &View, name: &Name, stored: &Value) -> Value {
    let mut shown = without_own(stored);
    template::name_containers(&mut shown["spec"]["template"]["spec"]["template"]["spec"]);
    let mut status = json!({
        "observedGeneration": stored["metadata"]["generation"],
        "conditions": [ready(view, name, stored)],
    });
    if let Some(count) = stored["vestibule"]["executions"].as_u64().filter(|count| *count > 0) {
        status["executionCount"] = count.into();
    }
    if let Some(latest) = latest(view, name, stored) {
        status["latestCreatedExecution"] = latest;
    }
    shown["status"] = status;
    shown
}

fn without_own(stored: &Value) -> Value {
    let mut shown = stored.clone();
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("vestibule");
    }
    shown
}

/// What a job says of its newest execution.
fn latest(view: &View, name: &Name, job: &Value) -> Option<Value> {
    let mut latest = Value::Object(job["vestibule"]["latest"].as_object()?.clone());
    let execution = name.sibling(latest["name"].as_str()?);
    let Some(stored) = view.get(&execution.key(Kind::Execution)) else { return Some(latest) };
    latest["completionStatus"] = completion(view, &execution, &stored.value).into();
    if let Some(over) = reach::text(&stored.value, &["vestibule", "over"]) {
        latest["completionTimestamp"] = over.into();
    }
    Some(latest)
}

/// How far an execution is, in one word.
fn completion(view: &View, name: &Name, execution: &Value) -> &'static str {
    let completed = completed(view, name, execution);
    match completed["status"].as_str() {
        Some("True") => "EXECUTION_SUCCEEDED",
        Some("False") if completed["reason"] == "Cancelled" => "EXECUTION_CANCELLED",
        Some("False") => "EXECUTION_FAILED",
        _ if record::progress(view, name)["startTime"].is_string() => "EXECUTION_RUNNING",
        _ => "EXECUTION_PENDING",
    }
}

/// The `Ready` condition of a job: true at once, unless it asks for an execution.
pub(in super::super) fn ready(view: &View, name: &Name, job: &Value) -> Value {
    let written = instant(&job["vestibule"]["updateTime"]).unwrap_or_default();
    let ready = || status::condition("Ready", "True", None, written);
    let Some(token) = token(job) else { return ready() };
    let execution = name.sibling(&format!("{}-{token}", name.name));
    let Some(stored) = view.get(&execution.key(Kind::Execution)) else { return ready() };
    let mut condition = if reach::text(job, &["spec", "runExecutionToken"]).is_some() {
        completed(view, &execution, &stored.value)
    } else {
        match provisioned(view, &execution, &stored.value) {
            (_, container) if container["status"] == "False" => container,
            _ => started(view, &execution, &stored.value),
        }
    };
    condition["type"] = "Ready".into();
    if condition["status"] == "True"
        && let Some(condition) = condition.as_object_mut()
    {
        condition.remove("message");
    }
    condition
}

/// An execution.
pub(in super::super) fn execution(view: &View, name: &Name, stored: &Value) -> Value {
    let mut shown = without_own(stored);
    template::name_containers(&mut shown["spec"]["template"]["spec"]);
    if !execution::is_over(stored) {
        shown["metadata"]["labels"][SERVING_STATE] = "Active".into();
    }
    let progress = record::progress(view, name);
    let mut out = Map::new();
    out.insert("observedGeneration".into(), 1.into());
    out.insert("conditions".into(), conditions(view, name, stored));
    if let Some(start) = reach::text(progress, &["startTime"]) {
        out.insert("startTime".into(), start.into());
    }
    if let Some(over) = reach::text(stored, &["vestibule", "over"]) {
        out.insert("completionTime".into(), over.into());
    }
    for (member, count) in counts(view, name, stored) {
        if count > 0 {
            out.insert(member.into(), count.into());
        }
    }
    out.insert("logUri".into(), log_uri(name, stored, None).into());
    shown["status"] = Value::Object(out);
    shown
}

/// Members of an execution's status that count tasks.
pub(in super::super) fn counts(view: &View, name: &Name, stored: &Value) -> [(&'static str, u64); 5] {
    let progress = record::progress(view, name);
    let count = |state: &str| progress[state].as_u64().unwrap_or(0);
    let (succeeded, failed) = (count("Succeeded"), count("Failed"));
    let cancelled = if execution::is_over(stored) && execution::is_cancelled(stored) {
        // Those that had not begun too.
        u64::from(task_count(stored)).saturating_sub(succeeded + failed)
    } else {
        count("Cancelled")
    };
    [
        ("runningCount", count("Running")),
        ("succeededCount", succeeded),
        ("failedCount", failed),
        ("cancelledCount", cancelled),
        ("retriedCount", count("Retried")),
    ]
}

/// When an execution began to run.
pub(in super::super) fn start_time<'v>(view: &'v View, name: &Name) -> Option<&'v str> {
    reach::text(record::progress(view, name), &["startTime"])
}

/// All conditions of an execution.
pub(in super::super) fn conditions(view: &View, name: &Name, stored: &Value) -> Value {
    let (resources, container) = provisioned(view, name, stored);
    json!([completed(view, name, stored), resources, started(view, name, stored), container])
}

/// The condition that tells whether an execution is over, and how it ended.
pub(in super::super) fn completed(view: &View, name: &Name, stored: &Value) -> Value {
    const KIND: &str = "Completed";
    let created = created(stored);
    let Some(over) = instant(&stored["vestibule"]["over"]) else {
        return match instant(&stored["vestibule"]["cancelled"]) {
            Some(at) => {
                status::condition(KIND, "Unknown", Some(("Cancelling", "Execution is being cancelled.")), at)
            }
            None => status::condition(KIND, "Unknown", None, created),
        };
    };
    let progress = record::progress(view, name);
    let failure = &progress["failure"];
    if execution::is_cancelled(stored) {
        return status::condition(KIND, "False", Some(("Cancelled", "Execution was cancelled.")), over);
    }
    if let Some(message) = failure["message"].as_str() {
        let index = failure["index"].as_u64().unwrap_or(0);
        let message = format!("Task {} failed with message: {message}", task_name(&name.name, index));
        let reason = failure["reason"].as_str().unwrap_or("NonZeroExitCode");
        return status::condition(KIND, "False", Some((reason, &message)), over);
    }
    let took = seconds(over.duration_since(created));
    said(
        status::condition(KIND, "True", None, over),
        &format!("Execution completed successfully in {took}s."),
    )
}

/// The condition that tells whether a task of an execution has started.
fn started(view: &View, name: &Name, stored: &Value) -> Value {
    const KIND: &str = "Started";
    let created = created(stored);
    match start_time(view, name).and_then(time::parse) {
        Some(start) => {
            let took = seconds(start.duration_since(created));
            let started = status::condition(KIND, "True", None, start);
            said(started, &format!("Started deployed execution in {took}s."))
        }
        None => status::condition(KIND, "Unknown", None, created),
    }
}

/// The conditions that tell whether there was room for an execution, and a container to run.
fn provisioned(view: &View, name: &Name, stored: &Value) -> (Value, Value) {
    let start = start_time(view, name).and_then(time::parse);
    let (word, at) = match start {
        Some(start) => ("True", start),
        None => ("Unknown", created(stored)),
    };
    let failure = &record::progress(view, name)["failure"];
    // A program that ran had a container; what else fails is the container.
    let container = match (failure["reason"].as_str(), failure["message"].as_str()) {
        (Some(reason), Some(message)) if reason != "NonZeroExitCode" => {
            status::condition("ContainerReady", "False", Some((reason, message)), at)
        }
        _ => status::condition("ContainerReady", word, None, at),
    };
    (status::condition("ResourcesAvailable", word, None, at), container)
}

/// A task.
pub(in super::super) fn task(view: &View, name: &Name, stored: &Value, index: u32) -> Value {
    let known = record::task(view, name, index);
    let state = task_state(stored, known);
    let number = name.project_number();
    let task = task_name(&name.name, index);
    let metadata = &stored["metadata"];
    let mut labels = Map::new();
    for (key, value) in [
        (JOB, execution::job_of(stored).unwrap_or_default()),
        (EXECUTION, name.name.as_str()),
        (RUNNING_STATE, state),
        (LOCATION, name.location.as_str()),
    ] {
        labels.insert(key.to_owned(), value.into());
    }
    let mut spec = stored["spec"]["template"]["spec"].clone();
    template::name_containers(&mut spec);
    json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Task",
        "metadata": {
            "name": task,
            "namespace": number,
            "selfLink": format!("/apis/run.googleapis.com/v1/namespaces/{number}/tasks/{task}"),
            // Of the execution and the index alone, so that it is the same each time.
            "uid": task_uid(metadata["uid"].as_str().unwrap_or_default(), index),
            "resourceVersion": metadata["resourceVersion"],
            "generation": 1,
            "creationTimestamp": metadata["creationTimestamp"],
            "labels": labels,
            "annotations": metadata["annotations"],
            "ownerReferences": [{
                "apiVersion": "run.googleapis.com/v1",
                "kind": "Execution",
                "name": name.name,
                "uid": metadata["uid"],
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": spec,
        "status": task_status(name, stored, known, state, index),
    })
}

fn task_status(name: &Name, stored: &Value, known: &Value, state: &str, index: u32) -> Value {
    let mut out = Map::new();
    out.insert("observedGeneration".into(), 1.into());
    out.insert("conditions".into(), task_conditions(stored, known, state));
    if index > 0 {
        out.insert("index".into(), index.into());
    }
    for member in ["startTime", "completionTime"] {
        if let Some(time) = reach::text(known, &[member]) {
            out.insert(member.into(), time.into());
        }
    }
    if let Some(retried) = known["attempt"].as_u64().filter(|attempt| *attempt > 0) {
        out.insert("retried".into(), retried.into());
    }
    if let Some(result) = attempt_result(known) {
        out.insert("lastAttemptResult".into(), result);
    }
    out.insert("logUri".into(), log_uri(name, stored, Some(index)).into());
    Value::Object(out)
}

/// How the last attempt of a task ended.
fn attempt_result(known: &Value) -> Option<Value> {
    match known["state"].as_str()? {
        "Succeeded" => Some(json!({ "status": {} })),
        "Failed" => {
            let failure = &known["failure"];
            // 10 is `ABORTED`.
            let mut result = json!({ "status": { "code": 10, "message": failure["message"] } });
            if !failure["exitCode"].is_null() {
                result["exitCode"] = failure["exitCode"].clone();
            } else if !failure["signal"].is_null() {
                result["termSignal"] = failure["signal"].clone();
            }
            Some(result)
        }
        _ => None,
    }
}

fn task_state<'a>(execution: &Value, known: &'a Value) -> &'a str {
    let is_over = execution::is_over(execution);
    match known["state"].as_str() {
        // The runtime was gone when it was cancelled.
        Some("Running") if is_over => "Cancelled",
        Some(state) => state,
        None if is_over => "Cancelled",
        None => "Pending",
    }
}

fn task_conditions(execution: &Value, known: &Value, state: &str) -> Value {
    let created = created(execution);
    let start = instant(&known["startTime"]);
    let end = instant(&known["completionTime"])
        .or_else(|| instant(&execution["vestibule"]["over"]))
        .unwrap_or(created);
    let completed = match state {
        "Succeeded" => status::condition("Completed", "True", None, end),
        "Failed" => {
            let text = |member: &str| known["failure"][member].as_str().unwrap_or_default();
            status::condition("Completed", "False", Some((text("reason"), text("message"))), end)
        }
        "Cancelled" => {
            status::condition("Completed", "False", Some(("Cancelled", "Task was cancelled.")), end)
        }
        _ => status::condition("Completed", "Unknown", None, created),
    };
    let begun = |kind: &str| match start {
        Some(start) => status::condition(kind, "True", None, start),
        None => status::condition(kind, "Unknown", None, created),
    };
    json!([completed, begun("ResourcesAvailable"), begun("Started")])
}

/// The tasks of an execution.
pub(in super::super) fn task_count(execution: &Value) -> u32 {
    execution["spec"]["taskCount"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

/// The name of a task.
pub(in super::super) fn task_name(execution: &str, index: impl std::fmt::Display) -> String {
    format!("{execution}{TASK}{index}")
}

/// The execution and the index in a task's name.
pub(in super::super) fn parse_task(task: &str) -> Option<(&str, u32)> {
    let (execution, index) = task.rsplit_once(TASK)?;
    let parsed = index.parse::<u32>().ok()?;
    // Each task has one name only.
    (parsed.to_string() == index).then_some((execution, parsed))
}

fn task_uid(execution: &str, index: u32) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, format!("{execution}/{index}").as_bytes());
    let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

fn log_uri(name: &Name, stored: &Value, task: Option<u32>) -> String {
    let Name { project, location, name } = name;
    let job = execution::job_of(stored).unwrap_or_default();
    let mut uri = format!(
        "https://console.cloud.google.com/logs/viewer?project={project}&advancedFilter=resource.type%3D%22\
         cloud_run_job%22%0Aresource.labels.job_name%3D%22{job}%22%0Aresource.labels.location%3D%22{location}%22%0A\
         labels.%22run.googleapis.com/execution_name%22%3D%22{name}%22"
    );
    if let Some(index) = task {
        uri.push_str(&format!("%0Alabels.%22run.googleapis.com/task_index%22%3D%22{index}%22"));
    }
    uri
}

fn created(document: &Value) -> Timestamp {
    instant(&document["metadata"]["creationTimestamp"]).unwrap_or_default()
}

fn instant(text: &Value) -> Option<Timestamp> {
    text.as_str().and_then(time::parse)
}

/// With two decimals.
fn seconds(duration: SignedDuration) -> String {
    format!("{:.2}", duration.as_secs_f64().max(0.0))
}

/// A condition that is good and says something all the same.
fn said(mut condition: Value, message: &str) -> Value {
    condition["message"] = message.into();
    condition
}
