//! `gcloud logging`.

use serde_json::{Value, json};

use super::error::Failure;
use super::files;
use super::grammar::{self, Command, Flag, Group};
use super::invocation::{Display, Invocation};

/// Seconds.
pub const DAY: i64 = 86_400;

/// The most entries one page may have.
const PAGE: usize = 1000;

pub fn group() -> Group {
    Group::new("logging", "Manage logs.")
        .command(
            Command::new("read", "Read log entries.", read)
                .about("Without a timestamp in the filter, entries of the last day are read, newest first.")
                .optional_arg("LOG_FILTER", "Which entries, in Cloud Logging's language.")
                .flag(Flag::int("limit", "The most entries."))
                .flag(Flag::new("freshness", grammar::Kind::Duration, "How old entries may be, with --order=desc. Default: 1d."))
                .flag(Flag::choice("order", &["asc", "desc"], "By time. Default: desc."))
                .examples(&[
                    "gcloud logging read 'resource.type=\"internal_http_lb_rule\"' --limit=5",
                    "gcloud logging read 'resource.type=\"internal_http_lb_rule\" AND httpRequest.status>=500' --format='value(httpRequest.requestUrl,jsonPayload.statusDetails)'",
                ]),
        )
        .command(
            Command::new("write", "Write a log entry.", write)
                .arg("LOG_NAME", "The log's name.")
                .arg("MESSAGE", "The text, or with --payload-type=json an object.")
                .flag(Flag::choice("payload-type", &["text", "json"], "What the message is. Default: text."))
                .flag(Flag::choice(
                    "severity",
                    &["DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"],
                    "How grave. Default: DEFAULT.",
                )),
        )
}

/// The time some seconds ago, as filters have it.
pub fn since(seconds: i64) -> String {
    let now = jiff::Timestamp::now();
    let then =
        now.checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    then.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Entries that fit, page after page, up to the limit.
pub fn read_entries(
    inv: &Invocation<'_>,
    filter: &str,
    order: &str,
    limit: Option<usize>,
) -> Result<Vec<Value>, Failure> {
    let mut found: Vec<Value> = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let wanted = limit.map_or(PAGE, |limit| (limit - found.len()).min(PAGE));
        let mut body = json!({
            "resourceNames": [format!("projects/{}", inv.project())],
            "filter": filter,
            "orderBy": order,
            "pageSize": wanted,
        });
        if let Some(token) = &token {
            body["pageToken"] = json!(token);
        }
        let answer = inv.api.post("/v2/entries:list?alt=json", &body)?;
        if !answer.is_success() {
            return Err(Failure::googleapis(&answer));
        }
        found.extend(answer.body.get("entries").and_then(Value::as_array).into_iter().flatten().cloned());
        found.truncate(limit.unwrap_or(usize::MAX));
        token = answer
            .body
            .get("nextPageToken")
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
            .map(str::to_owned);
        if token.is_none() || limit.is_some_and(|limit| found.len() >= limit) {
            return Ok(found);
        }
    }
}

fn read(inv: &Invocation<'_>) -> Result<(), Failure> {
    let given = inv.args.word("LOG_FILTER").unwrap_or_default();
    let order = inv.args.text("order").unwrap_or("desc");
    let mut parts = Vec::new();
    if order == "desc" && !given.contains("timestamp") {
        parts.push(format!("timestamp>=\"{}\"", since(inv.args.int("freshness").unwrap_or(DAY))));
    }
    if !given.is_empty() {
        parts.push(given.to_owned());
    }
    let limit = inv.args.int("limit").map(|limit| usize::try_from(limit).unwrap_or(0));
    if limit == Some(0) {
        return Err(Failure::new("argument --limit: Value must be greater than or equal to 1; received: 0"));
    }
    let entries = read_entries(inv, &parts.join(" AND "), &format!("timestamp {order}"), limit)?;
    inv.show_made(&entries, Display::YAML)
}

fn write(inv: &Invocation<'_>) -> Result<(), Failure> {
    let message = inv.args.name("MESSAGE");
    let mut entry = json!({
        "logName": format!("projects/{}/logs/{}", inv.project(), super::segment(inv.args.name("LOG_NAME"))),
        "resource": {"type": "global"},
        "severity": inv.args.text("severity").unwrap_or("DEFAULT"),
    });
    match inv.args.text("payload-type") {
        Some("json") => entry["jsonPayload"] = files::parse_yaml("MESSAGE", message)?,
        _ => entry["textPayload"] = json!(message),
    }
    let answer = inv.api.post("/v2/entries:write?alt=json", &json!({"entries": [entry]}))?;
    if !answer.is_success() {
        return Err(Failure::googleapis(&answer));
    }
    inv.status("Created log entry.");
    Ok(())
}
