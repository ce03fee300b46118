//! `gcloud run services logs read` and `gcloud run jobs logs read`.

use serde_json::{Value, json};

use super::region;
use crate::gcloud::error::Failure;
use crate::gcloud::format::moment;
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::logging::{self, DAY};

pub fn read_command() -> Command {
    Command::new("read", "Read logs for a Cloud Run service.", |inv| {
        read(inv, "cloud_run_revision", "service_name", inv.args.name("SERVICE"))
    })
    .arg("SERVICE", "The name of the service.")
    .flags(flags())
}

pub fn read_job_command() -> Command {
    Command::new("read", "Read logs for Cloud Run jobs.", |inv| {
        read(inv, "cloud_run_job", "job_name", inv.args.name("JOB"))
    })
    .arg("JOB", "The name of the job.")
    .flags(flags())
}

fn flags() -> [Flag; 4] {
    [
        Flag::int("limit", "The most entries. Default: 100."),
        Flag::text("log-filter", "A filter besides the resource's."),
        Flag::new(
            "freshness",
            crate::gcloud::grammar::Kind::Duration,
            "How old entries may be. Default: 1d.",
        ),
        Flag::choice("order", &["asc", "desc"], "By time. Default: desc."),
    ]
}

fn read(inv: &Invocation<'_>, kind: &str, label: &str, name: &str) -> Result<(), Failure> {
    let mut filter = format!(
        "resource.type = {kind} \n AND resource.labels.{label} = {name} \n AND resource.labels.location = {} \n AND \
         severity >= DEFAULT",
        region(inv)?
    );
    if let Some(more) = inv.args.text("log-filter") {
        filter += &format!(" \n AND {more}");
    }
    filter += &format!(" \n AND timestamp>=\"{}\"", logging::since(inv.args.int("freshness").unwrap_or(DAY)));
    let limit = usize::try_from(inv.args.int("limit").unwrap_or(100)).unwrap_or(0);
    let mut entries = logging::read_entries(inv, &filter, "timestamp desc", Some(limit))?;
    if inv.args.text("order") != Some("desc") || !inv.args.has("order") {
        entries.reverse();
    }
    // What the program wrote and what it was asked are lines of its log; what was noted about it is not.
    entries.retain(|entry| {
        let log = entry.get("logName").and_then(Value::as_str);
        let log = log.and_then(|name| name.split_once("/run.googleapis.com%2F")).map(|(_, log)| log);
        matches!(log, Some("requests" | "stdout" | "stderr"))
    });
    if inv.is_default_format() {
        entries.iter().for_each(|entry| inv.printer.line(&line(entry)));
        return Ok(());
    }
    inv.show_made(&entries, Display::YAML)
}

/// `2026-11-23 15:07:29 GET 200 https://…`, or the text of the entry.
fn line(entry: &Value) -> String {
    let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str);
    let time = text("/timestamp")
        .and_then(moment)
        .map_or(String::new(), |t| t.strftime("%Y-%m-%d %H:%M:%S ").to_string());
    let message = match (entry.get("httpRequest"), text("/textPayload"), entry.get("jsonPayload")) {
        (Some(request), _, _) => {
            let field = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
            let status = request.get("status").cloned().unwrap_or_else(|| json!(0));
            format!("{} {status} {}", field("requestMethod"), field("requestUrl"))
        }
        (None, Some(words), _) => words.trim_end().to_owned(),
        (None, None, Some(payload)) => {
            payload.get("message").and_then(Value::as_str).map_or_else(|| payload.to_string(), str::to_owned)
        }
        (None, None, None) => String::new(),
    };
    format!("{time}{message}")
}
