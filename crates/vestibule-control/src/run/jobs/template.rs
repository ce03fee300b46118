//! Templates of executions: what Cloud Run fills in, and what it refuses.

use serde_json::{Map, Value, json};
use vestibule_model::project;

use super::super::template as containers;
use super::super::validate::containers::{self as rules, Kind};
use super::super::validate::{self, within};
use super::super::{annotation, json as reach};
use super::TOKENS;
use crate::{Document, Error, document};

/// Where an execution's template has the specification of its tasks.
pub(super) const TASK: &str = "spec.template.spec.template.spec";
/// Where a job has the specification of its executions.
const EXECUTION: &str = "spec.template.spec";

/// Tasks of an execution, where nobody says.
const DEFAULT_TASKS: u64 = 1;
/// Most tasks of an execution. `ExecutionSpec.taskCount`.
const MAX_TASKS: i64 = 10_000;
/// How often a task is tried again, where nobody says. `TaskSpec.maxRetries`.
const DEFAULT_RETRIES: u64 = 3;
const MAX_RETRIES: i64 = 10;
/// How long an attempt may take, where nobody says, in seconds. `TaskSpec.timeoutSeconds`.
const DEFAULT_TIMEOUT: u64 = 600;
/// Seven days.
const MAX_TIMEOUT: i64 = 604_800;

/// Fills in what was left out of a job's specification, and drops what is none of it. Doing it again changes nothing.
pub(super) fn complete(spec: &mut Document, project: &str) {
    for (_, value) in spec.iter_mut() {
        reach::prune_nulls(value);
    }
    let is_known = |member: &str| member == "template" || TOKENS.contains(&member);
    spec.retain(|member, value| is_known(member) && *value != "");
    let execution = reach::object_mut(reach::object_mut(spec, "template"), "spec");
    complete_execution(execution, project);
}

/// Fills in what was left out of an execution's specification.
pub(super) fn complete_execution(execution: &mut Document, project: &str) {
    containers::default_number(execution, "taskCount", DEFAULT_TASKS);
    if execution.get("parallelism").is_some_and(|number| number.as_i64() == Some(0)) {
        execution.remove("parallelism");
    }
    let task = reach::object_mut(reach::object_mut(execution, "template"), "spec");
    if let Some(Value::Array(containers)) = task.get_mut("containers") {
        for (index, container) in containers.iter_mut().enumerate() {
            if let Value::Object(container) = container {
                containers::complete_common(container, index);
            }
        }
    }
    // Here zero is a number like any other.
    task.entry("maxRetries").or_insert_with(|| DEFAULT_RETRIES.into());
    let timeout = match task.get("timeoutSeconds") {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    };
    // As a text: in Google's JSON that is how numbers of 64 bits are written.
    let timeout = if matches!(timeout.as_str(), "" | "0") { DEFAULT_TIMEOUT.to_string() } else { timeout };
    task.insert("timeoutSeconds".into(), timeout.into());
    if task.get("serviceAccountName").and_then(Value::as_str).unwrap_or_default().is_empty() {
        task.insert("serviceAccountName".into(), project::default_service_account(project).into());
    }
}

/// What the containers of an execution's tasks are: a document with metadata and specification, as [`super::super::pod`]
/// reads it. `execution` is an execution, or the template of one.
pub(super) fn task(execution: &Value) -> Value {
    json!({
        "metadata": { "annotations": execution["metadata"]["annotations"] },
        "spec": execution["spec"]["template"]["spec"],
    })
}

/// Checks a job: its labels, its annotations and its completed specification.
pub(super) fn check(labels: &Document, annotations: &Document, spec: &Value) -> Result<(), Error> {
    validate::labels(labels, "metadata.labels")?;
    validate::labels(
        document::object(&spec["template"]["metadata"]["labels"]),
        "spec.template.metadata.labels",
    )?;
    let binary = [annotation::BINARY_AUTHORIZATION, annotation::BREAKGLASS];
    if let Some(name) = binary.iter().find(|name| annotations.contains_key(**name)) {
        return Err(Error::not_built(format!("run.jobs.annotations[{name}]")));
    }
    let tokens = TOKENS.iter().filter_map(|member| Some((member, reach::text(spec, &[member])?)));
    for (at, (member, token)) in tokens.enumerate() {
        if at > 0 {
            let why = "Only one of startExecutionToken and runExecutionToken may be set.";
            return Err(Error::invalid(format!("spec.{member}"), token, why));
        }
        let fits = token.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !fits || token.ends_with('-') {
            let why = "Must have only lowercase letters, numbers and '-', and not end with a '-'.";
            return Err(Error::invalid(format!("spec.{member}"), token, why));
        }
    }
    check_execution(&spec["template"])
}

/// Checks an execution, or the template of one.
pub(super) fn check_execution(execution: &Value) -> Result<(), Error> {
    validate::annotations_not_built(&execution["metadata"]["annotations"], Kind::Job)?;
    let spec = &execution["spec"];
    if spec["delayExecution"].as_bool() == Some(true) {
        return Err(Kind::Job.not_built("delayExecution"));
    }
    within(&spec["taskCount"], &format!("{EXECUTION}.taskCount"), 1..=MAX_TASKS)?;
    within(&spec["parallelism"], &format!("{EXECUTION}.parallelism"), 1..=MAX_TASKS)?;
    let task = &spec["template"]["spec"];
    within(&task["maxRetries"], &format!("{TASK}.maxRetries"), 0..=MAX_RETRIES)?;
    let timeout = task["timeoutSeconds"].as_str().unwrap_or_default();
    if !timeout.parse::<i64>().is_ok_and(|seconds| (1..=MAX_TIMEOUT).contains(&seconds)) {
        let why = format!("Must be between 1 and {MAX_TIMEOUT}.");
        return Err(Error::invalid(format!("{TASK}.timeoutSeconds"), timeout, why));
    }
    rules::check(TASK, &self::task(execution), Kind::Job)
}

/// A specification of an execution with what is different this once. `overrides` are those of v1.
pub(super) fn overridden(execution: &Value, overrides: &Value) -> Result<Value, Error> {
    let mut execution = execution.clone();
    if overrides["delayExecution"].as_bool() == Some(true) {
        return Err(Kind::Job.not_built("overrides.delayExecution"));
    }
    if let Some(count) = overrides["taskCount"].as_i64().filter(|count| *count != 0) {
        execution["spec"]["taskCount"] = count.into();
    }
    let task = &mut execution["spec"]["template"]["spec"];
    if let Some(seconds) = overrides["timeoutSeconds"].as_i64().filter(|seconds| *seconds != 0) {
        task["timeoutSeconds"] = seconds.to_string().into();
    }
    let mut named = task.clone();
    containers::name_containers(&mut named);
    for (at, changes) in reach::items(overrides, &["containerOverrides"]).iter().enumerate() {
        let field = |member: &str| format!("overrides.containerOverrides[{at}].{member}");
        let name = reach::text(changes, &["name"]);
        let containers = reach::items(&named, &["containers"]);
        // Without a name the only container is meant.
        if name.is_none() && containers.len() > 1 {
            return Err(Error::required(field("name")));
        }
        let index = containers.iter().position(|container| name.is_none_or(|name| container["name"] == name));
        let Some(index) = index else {
            return Err(Error::invalid(
                field("name"),
                name.unwrap_or_default(),
                "There is no such container.",
            ));
        };
        let args = reach::items(changes, &["args"]);
        let clear = changes["clearArgs"].as_bool() == Some(true);
        if clear && !args.is_empty() {
            return Err(Error::invalid(field("args"), args.len(), "Must be empty if clearArgs is true."));
        }
        let container = &mut task["containers"][index];
        if clear || !args.is_empty() {
            container["args"] = args.into();
        }
        for variable in reach::items(changes, &["env"]) {
            set(container, variable);
        }
    }
    Ok(execution)
}

/// Gives a container a variable, or another value.
fn set(container: &mut Value, variable: &Value) {
    if !container["env"].is_array() {
        container["env"] = json!([]);
    }
    let Some(variables) = container["env"].as_array_mut() else { return };
    let mut members = Map::new();
    for member in ["name", "value", "valueFrom"] {
        if !variable[member].is_null() {
            members.insert(member.to_owned(), variable[member].clone());
        }
    }
    match variables.iter_mut().find(|old| old["name"] == variable["name"]) {
        Some(old) => *old = Value::Object(members),
        None => variables.push(Value::Object(members)),
    }
}
