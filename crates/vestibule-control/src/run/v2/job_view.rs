//! From v1 documents of jobs, executions and tasks to what a v2 client sees.

use serde_json::{Value, json};
use vestibule_store::View;

use super::super::annotation as a;
use super::super::jobs::{self, show};
use super::super::json as reach;
use super::super::name::{Kind, Name};
use super::condition::condition;
use super::unreserved;
use super::view::{Sparse, containers, etag, execution_environment, update_time, volumes, vpc_access};

/// A job.
pub(in super::super) fn job(view: &View, name: &Name, stored: &Value) -> Value {
    let metadata = &stored["metadata"];
    let annotation = |key: &str| reach::text(metadata, &["annotations", key]);
    let number = |value: &Value| value.as_i64().map(|number| number.to_string());
    let shown = show::job(view, name, stored);
    let status = &shown["status"];
    let mut out = Sparse::new();
    out.set("name", name.relative(Kind::Job))
        .set("uid", metadata["uid"].clone())
        .set("generation", number(&metadata["generation"]))
        .set("labels", unreserved(&metadata["labels"]))
        .set("annotations", unreserved(&metadata["annotations"]))
        .set("createTime", metadata["creationTimestamp"].clone())
        .set("updateTime", update_time(stored))
        .set("creator", annotation(a::JOB_CREATOR))
        .set("lastModifier", annotation(a::JOB_LAST_MODIFIER))
        .set("client", annotation(a::CLIENT_NAME))
        .set("clientVersion", annotation(a::CLIENT_VERSION))
        .set("launchStage", annotation(a::LAUNCH_STAGE).unwrap_or("GA"))
        .set("template", template(&stored["spec"]["template"]))
        .set("startExecutionToken", stored["spec"]["startExecutionToken"].clone())
        .set("runExecutionToken", stored["spec"]["runExecutionToken"].clone())
        .set("observedGeneration", number(&metadata["generation"]))
        .set("terminalCondition", reach::items(status, &["conditions"]).first().map(condition))
        .set("executionCount", status["executionCount"].clone())
        .set("latestCreatedExecution", latest(&status["latestCreatedExecution"]))
        .set("reconciling", !jobs::is_decided(view, name, stored))
        .set("etag", etag(stored));
    out.value()
}

fn latest(v1: &Value) -> Value {
    let mut out = Sparse::new();
    out.set("name", v1["name"].clone())
        .set("createTime", v1["creationTimestamp"].clone())
        .set("completionTime", v1["completionTimestamp"].clone())
        .set("completionStatus", v1["completionStatus"].clone());
    out.value()
}

/// The template of an execution.
fn template(template: &Value) -> Value {
    let metadata = &template["metadata"];
    let annotation = |key: &str| reach::text(metadata, &["annotations", key]);
    let mut out = Sparse::new();
    out.set("labels", unreserved(&metadata["labels"]))
        .set("annotations", unreserved(&metadata["annotations"]))
        .set("client", annotation(a::CLIENT_NAME))
        .set("clientVersion", annotation(a::CLIENT_VERSION))
        .set("parallelism", template["spec"]["parallelism"].clone())
        .set("taskCount", template["spec"]["taskCount"].clone())
        .set("template", task_template(template).value());
    out.value()
}

/// What the tasks of an execution are. `execution` is one, or the template of one.
fn task_template(execution: &Value) -> Sparse {
    let spec = &execution["spec"]["template"]["spec"];
    let annotation = |key: &str| reach::text(execution, &["metadata", "annotations", key]);
    // Secrets may have aliases in annotations.
    let task = json!({ "metadata": execution["metadata"], "spec": spec });
    let mut out = Sparse::new();
    out.set("containers", containers(&task, |_| {}))
        .set("volumes", volumes(&task))
        .set("maxRetries", spec["maxRetries"].clone())
        .set("timeout", spec["timeoutSeconds"].as_str().map(|seconds| format!("{seconds}s")))
        .set("serviceAccount", spec["serviceAccountName"].clone())
        .set("executionEnvironment", execution_environment(&annotation))
        .set("vpcAccess", vpc_access(&annotation));
    out
}

/// `projects/P/locations/L/jobs/J/executions/E`
fn execution_name(name: &Name, job: &str) -> String {
    format!("{}/executions/{}", name.sibling(job).relative(Kind::Job), name.name)
}

/// An execution.
pub(in super::super) fn execution(view: &View, name: &Name, stored: &Value) -> Value {
    let metadata = &stored["metadata"];
    let job = jobs::job_of(stored).unwrap_or_default();
    let annotation = |key: &str| reach::text(metadata, &["annotations", key]);
    let shown = show::execution(view, name, stored);
    let status = &shown["status"];
    let mut out = Sparse::new();
    out.set("name", execution_name(name, job))
        .set("uid", metadata["uid"].clone())
        .set("generation", "1")
        .set("labels", unreserved(&metadata["labels"]))
        .set("annotations", unreserved(&metadata["annotations"]))
        .set("createTime", metadata["creationTimestamp"].clone())
        .set("startTime", status["startTime"].clone())
        .set("completionTime", status["completionTime"].clone())
        .set("updateTime", last_change(stored, status))
        .set("creator", annotation(a::JOB_CREATOR))
        .set("client", annotation(a::CLIENT_NAME))
        .set("clientVersion", annotation(a::CLIENT_VERSION))
        .set("launchStage", "GA")
        .set("job", job)
        .set("parallelism", stored["spec"]["parallelism"].clone())
        .set("taskCount", stored["spec"]["taskCount"].clone())
        .set("template", task_template(stored).value())
        .set("reconciling", !jobs::is_over(stored))
        .set("conditions", conditions(status))
        .set("observedGeneration", "1");
    for count in ["runningCount", "succeededCount", "failedCount", "cancelledCount", "retriedCount"] {
        out.set(count, status[count].clone());
    }
    out.set("logUri", status["logUri"].clone()).set("etag", etag(stored));
    out.value()
}

fn last_change(stored: &Value, status: &Value) -> Value {
    let times = [&status["completionTime"], &stored["vestibule"]["cancelled"], &status["startTime"]];
    let last = times.into_iter().find(|time| time.is_string());
    last.unwrap_or(&stored["metadata"]["creationTimestamp"]).clone()
}

fn conditions(status: &Value) -> Value {
    reach::items(status, &["conditions"]).iter().map(condition).collect()
}

/// A task.
pub(super) fn task(view: &View, name: &Name, stored: &Value, index: u32) -> Value {
    let job = jobs::job_of(stored).unwrap_or_default();
    let shown = show::task(view, name, stored, index);
    let (metadata, status) = (&shown["metadata"], &shown["status"]);
    let mut out = task_template(stored);
    let mut own = Sparse::new();
    own.set("name", format!("{}/tasks/{}", execution_name(name, job), show::task_name(&name.name, index)))
        .set("uid", metadata["uid"].clone())
        .set("generation", "1")
        .set("labels", unreserved(&stored["metadata"]["labels"]))
        .set("annotations", unreserved(&stored["metadata"]["annotations"]))
        .set("createTime", metadata["creationTimestamp"].clone())
        .set("scheduledTime", status["startTime"].clone())
        .set("startTime", status["startTime"].clone())
        .set("completionTime", status["completionTime"].clone())
        .set("updateTime", last_change(stored, status))
        .set("job", job)
        .set("execution", name.name.as_str())
        .set("reconciling", status["completionTime"].is_null() && !jobs::is_over(stored))
        .set("conditions", conditions(status))
        .set("observedGeneration", "1")
        .set("retried", status["retried"].clone())
        .set("lastAttemptResult", status["lastAttemptResult"].clone())
        .set("logUri", status["logUri"].clone())
        .set("etag", etag(stored));
    if index > 0 {
        own.set("index", index);
    }
    out.extend(own);
    out.value()
}
