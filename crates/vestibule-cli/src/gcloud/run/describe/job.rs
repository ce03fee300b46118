//! Jobs, executions and tasks as text for people.

use serde_json::Value;

use super::page::Page;
use super::{container_lines, header, labels, network_lines, ready_message, volume_lines};
use crate::gcloud::format::moment;
use crate::gcloud::run::service::Document;

const MODIFIER: &str = "run.googleapis.com/lastModifier";
const UPDATED: &str = "run.googleapis.com/lastUpdatedTime";

/// `jobs describe`.
pub fn job(value: &Value) -> String {
    let job = Document(value);
    let count = value.pointer("/status/executionCount").and_then(Value::as_i64).unwrap_or(0);
    let mut out = format!("{}Executed {}\n", header(value, "Job"), counted("time", count));
    if let Some(name) = job.text("/status/latestCreatedExecution/name") {
        let when = job.text("/status/latestCreatedExecution/creationTimestamp").unwrap_or_default();
        out += &format!("Last executed {when} with execution {name}\n");
    }
    let (when, who) = (job.label(UPDATED).unwrap_or("?"), job.annotation(MODIFIER).unwrap_or("?"));
    out += &format!("Last updated on {when} by {who}\n \n");
    let template = value.pointer("/spec/template").unwrap_or(&Value::Null);
    out + &specification(value, template) + &ready_message(value, "Ready")
}

/// `jobs executions describe`.
pub fn execution(value: &Value) -> String {
    let execution = Document(value);
    let count =
        |member: &str| value.pointer(&format!("/status/{member}")).and_then(Value::as_i64).unwrap_or(0);
    let mut out = header(value, "Execution");
    let completed = execution.condition("Completed").and_then(|condition| condition["status"].as_str());
    if !matches!(completed, Some("True" | "False")) {
        out += &format!("{} currently running\n", counted("task", count("runningCount")));
    }
    out += &format!("{} completed successfully\n", counted("task", count("succeededCount")));
    for (member, words) in [("failedCount", "failed to complete"), ("cancelledCount", "cancelled")] {
        if count(member) > 0 {
            out += &format!("{} {words}\n", counted("task", count(member)));
        }
    }
    let times = ["/metadata/creationTimestamp", "/status/completionTime"];
    if let [Some(start), Some(end)] = times.map(|pointer| execution.text(pointer).and_then(moment)) {
        // gcloud looks at whole seconds.
        out += &format!(
            "Elapsed time: {}\n",
            elapsed(end.timestamp().as_second() - start.timestamp().as_second())
        );
    }
    if let Some(uri) = execution.text("/status/logUri") {
        out += &format!(" \nLog URI: {uri}\n");
    }
    out + " \n" + &specification(value, value) + &ready_message(value, "Completed")
}

/// `jobs executions tasks describe`.
pub fn task(value: &Value) -> String {
    let task = Document(value);
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let mut page = Page::default();
    page.field(0, "Running state", task.label("run.googleapis.com/runningState"));
    let result = value.pointer("/status/lastAttemptResult").unwrap_or(&Value::Null);
    // gcloud leaves a code of zero out, as it leaves out what is empty.
    let code = result["exitCode"].as_i64().filter(|code| *code != 0);
    let message = result.pointer("/status/message").and_then(Value::as_str).filter(|text| !text.is_empty());
    if code.is_some() || message.is_some() {
        page.text(0, "Last Attempt Result:");
        page.field(2, "Exit Code", code.map(|code| code.to_string()));
        page.field(2, "Message", message);
    }
    page.text(0, " ");
    task_lines(&mut page, value, spec);
    header(value, "Task") + &page.render() + &ready_message(value, "Completed")
}

/// What an execution does: `holder` has labels and annotations, `template` the specification.
fn specification(holder: &Value, template: &Value) -> String {
    let mut page = Page::default();
    let number = |member: &str| template.pointer(&format!("/spec/{member}")).and_then(Value::as_i64);
    page.field(0, "Tasks", number("taskCount").map(|count| count.to_string()));
    let parallelism = number("parallelism").filter(|count| *count > 0);
    page.field(0, "Parallelism", Some(parallelism.map_or("No limit".to_owned(), |count| count.to_string())));
    let task = template.pointer("/spec/template/spec").unwrap_or(&Value::Null);
    task_lines(&mut page, template, task);
    labels(holder).map(|labels| format!("{labels}\n \n")).unwrap_or_default() + &page.render()
}

fn task_lines(page: &mut Page, holder: &Value, spec: &Value) {
    container_lines(page, holder, spec, 0);
    let timeout = match spec.get("timeoutSeconds") {
        Some(Value::String(text)) => text.parse().ok(),
        Some(number) => number.as_i64(),
        None => None,
    };
    page.field(0, "Task Timeout", timeout.map(short));
    page.field(0, "Max Retries", spec.get("maxRetries").map(Value::to_string));
    page.field(0, "Service account", spec.get("serviceAccountName").and_then(Value::as_str));
    network_lines(page, holder, 0);
    volume_lines(page, spec, 0);
}

/// `1 task`, `2 tasks`.
fn counted(word: &str, count: i64) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// `1d2h3m4s`.
fn short(seconds: i64) -> String {
    if seconds == 0 {
        return "0s".to_owned();
    }
    let parts =
        [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}

/// `5 seconds`, `1 minute and 3 seconds`, `2 hours and 4 minutes`.
fn elapsed(seconds: i64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => counted("second", seconds),
        (0, _) => format!("{} and {}", counted("minute", minutes), counted("second", seconds)),
        _ => format!("{} and {}", counted("hour", hours), counted("minute", minutes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(short(600), "10m");
        assert_eq!(short(90_061), "1d1h1m1s");
        assert_eq!(elapsed(1), "1 second");
        assert_eq!(elapsed(63), "1 minute and 3 seconds");
        assert_eq!(elapsed(7500), "2 hours and 5 minutes");
    }
}
