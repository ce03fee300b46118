//! `gcloud dns record-sets export` and `import`.

use serde::Deserialize;
use serde_json::Value;

use super::import::{self, Wishes};
use super::record_sets::{read_all, zone_flag};
use super::transaction::{plain, report};
use super::{zone_file, zone_path};
use crate::gcloud::error::Failure;
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
        .about("Records that are there already are a conflict, unless all that is there is replaced.")
        .arg("RECORDS_FILE", "The file to read.")
        .flag(zone_flag())
        .flag(Flag::switch("zone-file-format", "The file is a zone file instead of YAML."))
        .flag(Flag::switch(
            "delete-all-existing",
            "Replaces all records of the zone, but not its own NS records.",
        ))
        .flag(Flag::switch("replace-origin-ns", "Takes the zone's own NS records from the file."))
        .flag(Flag::switch("skip-soa-update", "Leaves the serial number as it is."))
}

/// The name that the zone's records end with.
fn origin(inv: &Invocation<'_>) -> Result<String, Failure> {
    let zone =
        inv.api.get(&format!("{}?alt=json", zone_path(inv, inv.args.text("zone").unwrap_or_default())))?;
    match zone.is_success() {
        true => Ok(zone.body.get("dnsName").and_then(Value::as_str).unwrap_or_default().to_owned()),
        false => Err(Failure::http(&zone)),
    }
}

fn export(inv: &Invocation<'_>) -> Result<(), Failure> {
    let file = inv.args.name("RECORDS_FILE");
    origin(inv)?;
    let records: Vec<Value> = read_all(inv, None, None)?.iter().map(plain).collect();
    let text = match inv.args.on("zone-file-format") {
        true => zone_file::write(&records),
        false => records.iter().map(|record| format!("---\n{}", yaml_document(record))).collect(),
    };
    let written = std::fs::write(inv.environment.path(file), text);
    written
        .map_err(|error| Failure::new(format!("Unable to export record-sets to file [{file}]: {error}")))?;
    inv.status(&format!("Exported record-sets to [{file}]."));
    Ok(())
}

fn import(inv: &Invocation<'_>) -> Result<(), Failure> {
    let file = inv.args.name("RECORDS_FILE");
    let path = inv.environment.path(file);
    if !path.exists() {
        return Err(Failure::new(format!("Specified record file [{file}] not found.")));
    }
    if path.is_dir() {
        return Err(Failure::new(format!("Specified record file [{file}] is a directory")));
    }
    let origin = origin(inv)?;
    let held = read_all(inv, None, None)?;
    let wanted = read(inv, &path, &origin).map_err(|why| {
        Failure::new(format!(
            "Unable to read record-sets from specified records-file [{file}] because [{why}]"
        ))
    })?;
    let wishes = Wishes {
        replace_all: inv.args.on("delete-all-existing"),
        replace_origin_ns: inv.args.on("replace-origin-ns"),
        update_soa: !inv.args.on("skip-soa-update"),
    };
    let Some(change) = import::change(&held, &wanted, &origin, wishes).map_err(Failure::new)? else {
        inv.status(&format!("Nothing to do, all the records in [{file}] already exist."));
        return Ok(());
    };
    let zone = inv.args.text("zone").unwrap_or_default();
    let changes = format!("{}/changes", zone_path(inv, zone));
    let answer = inv.api.post(&format!("{changes}?alt=json"), &change)?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    inv.status(&format!("Imported record-sets from [{file}] into managed-zone [{zone}]."));
    report(inv, &changes, &answer.body)
}

fn read(inv: &Invocation<'_>, path: &std::path::Path, origin: &str) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match inv.args.on("zone-file-format") {
        true => zone_file::read(&text, origin),
        false => documents(&text),
    }
}

/// All documents of a YAML file, each a record.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    let one = |document: serde_yaml_ng::Deserializer<'_>| {
        let record = Value::deserialize(document).map_err(|error| error.to_string())?;
        match ["name", "ttl", "type"].iter().find(|field| record.get(**field).is_none()) {
            Some(field) => Err(format!("'{field}'")),
            None => Ok(plain(&record)),
        }
    };
    serde_yaml_ng::Deserializer::from_str(text).map(one).collect()
}
