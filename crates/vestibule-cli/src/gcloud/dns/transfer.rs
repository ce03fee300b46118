//! `gcloud dns record-sets export` and `import`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::record_sets::{read_all, zone_flag};
use super::transaction::{plain, report};
use super::{zone_file, zone_path};
use crate::gcloud::error::Failure;
use crate::gcloud::files::read_file;
use crate::gcloud::format::yaml_document;
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::Invocation;

pub fn export_command() -> Command {
    Command::new("export", "Export your record-sets into a file.", export)
        .arg("RECORDS_FILE", "The file to write.")
        .flag(zone_flag())
        .flag(Flag::switch("zone-file-format", "Writes a zone file instead of YAML."))
}

pub fn import_command() -> Command {
    Command::new("import", "Import record-sets into your managed-zone.", import)
        .about("Records that are there already stay as they are.")
        .arg("RECORDS_FILE", "The file to read.")
        .flag(zone_flag())
        .flag(Flag::switch("zone-file-format", "The file is a zone file instead of YAML."))
        .flag(Flag::switch("delete-all-existing", "Drops all records of the zone first, but SOA and NS."))
        .flag(Flag::switch("replace-origin-ns", "Takes the zone's own NS records from the file."))
}

fn export(inv: &Invocation<'_>) -> Result<(), Failure> {
    let file = inv.args.name("RECORDS_FILE");
    let records: Vec<Value> = read_all(inv, None, None)?.iter().map(plain).collect();
    let text = match inv.args.on("zone-file-format") {
        true => zone_file::write(&records),
        false => records.iter().map(|record| format!("---\n{}", yaml_document(record))).collect(),
    };
    std::fs::write(inv.environment.path(file), text)
        .map_err(|error| Failure::new(format!("Unable to write file [{file}]: {error}")))?;
    inv.status(&format!("Exported record-sets to [{file}]."));
    Ok(())
}

fn import(inv: &Invocation<'_>) -> Result<(), Failure> {
    let file = inv.args.name("RECORDS_FILE");
    let zone_name = inv.args.text("zone").unwrap_or_default();
    let zone = inv.api.get(&format!("{}?alt=json", zone_path(inv, zone_name)))?;
    if !zone.is_success() {
        return Err(Failure::http(&zone));
    }
    let origin = zone.body.get("dnsName").and_then(Value::as_str).unwrap_or_default();
    let text = read_file(inv, file)?;
    let wrong = |why: String| {
        Failure::new(format!(
            "Unable to read record-sets from specified records-file [{file}] because [{why}]"
        ))
    };
    let records = match inv.args.on("zone-file-format") {
        true => zone_file::read(&text, origin).map_err(wrong)?,
        false => documents(&text).map_err(wrong)?,
    };
    let held = read_all(inv, None, None)?;
    let change = difference(inv, origin, &records, &held);
    let is_empty = |list: &str| change[list].as_array().is_none_or(Vec::is_empty);
    if is_empty("additions") && is_empty("deletions") {
        inv.status("Nothing to do.");
        return Ok(());
    }
    let changes = format!("{}/changes", zone_path(inv, zone_name));
    let answer = inv.api.post(&format!("{changes}?alt=json"), &change)?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    inv.status(&format!("Imported record-sets from [{file}] into managed-zone [{zone_name}]."));
    report(inv, &changes, &answer.body)
}

/// All documents of a YAML file, each a record.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    let one = |document: serde_yaml_ng::Deserializer<'_>| {
        Value::deserialize(document).map_err(|error| error.to_string())
    };
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| one(document).map(|record| plain(&record)))
        .collect()
}

/// The change that brings the file's records into the zone.
fn difference(inv: &Invocation<'_>, origin: &str, records: &[Value], held: &[Value]) -> Value {
    let text = |record: &Value, field: &str| {
        record.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let own = |record: &Value| match (text(record, "type").as_str(), text(record, "name") == origin) {
        ("SOA", true) => true,
        ("NS", true) => !inv.args.on("replace-origin-ns"),
        _ => false,
    };
    let same =
        |a: &Value, b: &Value| text(a, "name") == text(b, "name") && text(a, "type") == text(b, "type");
    let wanted: Vec<&Value> = records.iter().filter(|record| !own(record)).collect();
    let replaced = |record: &Value| {
        let is_origin_ns = text(record, "type") == "NS" && text(record, "name") == origin;
        inv.args.on("delete-all-existing") || (is_origin_ns && wanted.iter().any(|w| same(w, record)))
    };
    let deletions: Vec<Value> = held
        .iter()
        .map(plain)
        .filter(|record| !own(record) && replaced(record) && !wanted.contains(&record))
        .collect();
    let stays =
        |record: &Value| held.iter().any(|h| same(h, record)) && !deletions.iter().any(|d| same(d, record));
    let additions: Vec<&Value> = wanted.iter().copied().filter(|record| !stays(record)).collect();
    json!({"additions": additions, "deletions": deletions})
}
