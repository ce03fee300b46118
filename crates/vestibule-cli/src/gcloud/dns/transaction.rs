//! `gcloud dns record-sets transaction`: changes collected in a file and then made at once.
//!
//! The file is a DNS change, additions and deletions, in YAML. Its first entries replace the SOA record, so that a
//! change made by somebody else in between is noticed: the deletion would no longer fit.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::record_sets::{as_data, read_all, zone_flag};
use super::{absolute, import, zone_path};
use crate::gcloud::error::Failure;
use crate::gcloud::files::parse_yaml;
use crate::gcloud::format::yaml_document;
use crate::gcloud::grammar::{Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};

pub const CHANGE_TABLE: Display = Display::new("table(id,startTime,status)");

pub fn group() -> Group {
    Group::new("transaction", "Make scriptable and transactional changes to your record-sets.")
        .flag(Flag::text(
            "transaction-file",
            "The file that collects the changes. Default: transaction.yaml.",
        ))
        .command(
            Command::new("start", "Start a transaction.", start)
                .flag(zone_flag())
                .flag(Flag::switch("skip-soa-update", "Leaves the serial number as it is.")),
        )
        .command(record_command("add", "Append a record-set addition to a transaction.", add))
        .command(record_command("remove", "Append a record-set deletion to a transaction.", remove))
        .command(Command::new("describe", "Describe a transaction.", describe).flag(zone_flag()))
        .command(Command::new("execute", "Execute the transaction on Cloud DNS.", execute).flag(zone_flag()))
        .command(Command::new("abort", "Abort transaction.", abort).flag(zone_flag()))
}

fn record_command(
    name: &'static str,
    summary: &'static str,
    run: crate::gcloud::grammar::Handler,
) -> Command {
    Command::new(name, summary, run)
        .args("RRDATAS", "The data of the records.")
        .flag(zone_flag())
        .flag(Flag::text("name", "The name of the records.").required())
        .flag(Flag::int("ttl", "The time to live, seconds.").required())
        .flag(Flag::text("type", "The record type.").required())
}

fn file(inv: &Invocation<'_>) -> (String, PathBuf) {
    let name = inv.args.text("transaction-file").unwrap_or("transaction.yaml").to_owned();
    let path = inv.environment.path(&name);
    (name, path)
}

fn load(inv: &Invocation<'_>) -> Result<Value, Failure> {
    let (name, path) = file(inv);
    let text = std::fs::read_to_string(path)
        .map_err(|_| Failure::new(format!("Transaction not found at [{name}]")))?;
    let corrupted =
        || Failure::new("Corrupted transaction file.\n\nPlease abort and start a new transaction.");
    match parse_yaml(&name, &text) {
        Ok(change) if ["additions", "deletions"].iter().all(|list| is_list(&change[*list])) => Ok(change),
        _ if text.trim().is_empty() => Ok(json!({})),
        _ => Err(corrupted()),
    }
}

/// Whether a part of the transaction is a list of records, or not there.
fn is_list(part: &Value) -> bool {
    part.is_null() || part.as_array().is_some_and(|list| list.iter().all(Value::is_object))
}

fn store(inv: &Invocation<'_>, change: &Value) -> Result<(), Failure> {
    let (name, path) = file(inv);
    let written = std::fs::write(path, format!("---\n{}", yaml_document(change)));
    written.map_err(|error| Failure::new(format!("Unable to write file [{name}]: {error}")))
}

fn start(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (name, path) = file(inv);
    if path.exists() {
        return Err(Failure::new(format!("Transaction already exists at [{name}]")));
    }
    let zone =
        inv.api.get(&format!("{}?alt=json", zone_path(inv, inv.args.text("zone").unwrap_or_default())))?;
    if !zone.is_success() {
        return Err(Failure::http(&zone));
    }
    let domain = zone.body.get("dnsName").and_then(Value::as_str).unwrap_or_default();
    let mut change = json!({"additions": [], "deletions": []});
    if !inv.args.on("skip-soa-update")
        && let Some(old) = read_all(inv, Some(domain), Some("SOA"))?.first().map(plain)
    {
        change["additions"] = json!([next_serial(&old)]);
        change["deletions"] = json!([old]);
    }
    store(inv, &change)?;
    inv.status(&format!("Transaction started [{name}]."));
    Ok(())
}

/// The record without what only answers have.
pub fn plain(record: &Value) -> Value {
    let mut plain = json!({"kind": "dns#resourceRecordSet"});
    for field in ["name", "routingPolicy", "rrdatas", "ttl", "type"] {
        if let Some(value) = record.get(field) {
            plain[field] = value.clone();
        }
    }
    plain
}

/// An SOA record with its serial number (the third word) one higher.
pub fn next_serial(soa: &Value) -> Value {
    let mut next = soa.clone();
    let words: Vec<String> = soa
        .pointer("/rrdatas/0")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned)
        .collect();
    let bumped = words.iter().enumerate().map(|(index, word)| match (index, word.parse::<u32>()) {
        (2, Ok(serial)) => serial.wrapping_add(1).to_string(),
        _ => word.clone(),
    });
    next["rrdatas"] = json!([bumped.collect::<Vec<_>>().join(" ")]);
    next
}

/// The record that the command line describes.
fn record(inv: &Invocation<'_>) -> Value {
    json!({
        "kind": "dns#resourceRecordSet",
        "name": absolute(inv.args.text("name").unwrap_or_default()),
        "rrdatas": as_data(inv.args.text("type").unwrap_or_default(), inv.args.words("RRDATAS")),
        "ttl": inv.args.int("ttl"),
        "type": inv.args.text("type"),
    })
}

fn append(inv: &Invocation<'_>, list: &str, what: &str) -> Result<(), Failure> {
    let mut change = load(inv)?;
    if !change[list].is_array() {
        change[list] = json!([]);
    }
    if let Some(entries) = change[list].as_array_mut() {
        entries.push(record(inv));
    }
    store(inv, &change)?;
    inv.status(&format!("Record {what} appended to transaction at [{}].", file(inv).0));
    Ok(())
}

fn add(inv: &Invocation<'_>) -> Result<(), Failure> {
    append(inv, "additions", "addition")
}

fn remove(inv: &Invocation<'_>) -> Result<(), Failure> {
    load(inv)?;
    let held = read_all(inv, inv.args.text("name"), inv.args.text("type"))?;
    if !held.iter().any(|found| plain(found) == record(inv)) {
        return Err(Failure::new("Record to be removed does not exist"));
    }
    append(inv, "deletions", "removal")
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    inv.show(&load(inv)?, Display::YAML)
}

fn execute(inv: &Invocation<'_>) -> Result<(), Failure> {
    let change = load(inv)?;
    let (name, path) = file(inv);
    let list = |field: &str| change[field].as_array().cloned().unwrap_or_default();
    if import::is_nothing(&list("additions"), &list("deletions")) {
        inv.status(&format!("Nothing to do, empty transaction [{name}]"));
        std::fs::remove_file(path)
            .map_err(|error| Failure::new(format!("[{name}] could not be removed: {error}")))?;
        return inv.list(Vec::new(), CHANGE_TABLE);
    }
    let zone = inv.args.text("zone").unwrap_or_default();
    let changes = format!("{}/changes", zone_path(inv, zone));
    let answer = inv.api.post(&format!("{changes}?alt=json"), &change)?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    let removed = std::fs::remove_file(path);
    removed.map_err(|error| {
        Failure::new(format!("The change was made, but [{name}] could not be removed: {error}"))
    })?;
    inv.status(&format!("Executed transaction [{name}] for managed-zone [{zone}]."));
    report(inv, &changes, &answer.body)
}

/// Says which change was made.
pub fn report(inv: &Invocation<'_>, changes: &str, change: &Value) -> Result<(), Failure> {
    let id = change.get("id").and_then(Value::as_str).unwrap_or_default();
    inv.status(&format!("Created [{}{changes}/{id}].", inv.api.base()));
    inv.show_made(std::slice::from_ref(change), CHANGE_TABLE)
}

fn abort(inv: &Invocation<'_>) -> Result<(), Failure> {
    load(inv)?;
    let (name, path) = file(inv);
    std::fs::remove_file(path)
        .map_err(|error| Failure::new(format!("[{name}] could not be removed: {error}")))?;
    inv.status(&format!("Aborted transaction [{name}]."));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_rises() {
        let soa = json!({"name": "a.", "ttl": 1, "type": "SOA", "rrdatas": ["ns. host. 7 1 2 3 4"]});
        assert_eq!(next_serial(&soa)["rrdatas"], json!(["ns. host. 8 1 2 3 4"]));
    }
}
