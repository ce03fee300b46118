//! `gcloud dns record-sets`.

use serde_json::{Value, json};

use super::{absolute, changes, limited, pages, routing, shown, transaction, transfer, zone_path};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group, Rule};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::{query, segment, tree::list_flags};

pub const TABLE: Display =
    Display::computed("table(name,type,ttl,shownData:label=DATA)", routing::shown_data);

/// The time to live of a record that names none, seconds.
const DEFAULT_TTL: i64 = 0;

pub fn zone_flag() -> Flag {
    Flag::text("zone", "The managed zone.").short('z').required()
}

fn type_flag() -> Flag {
    Flag::text("type", "The record type, such as A.").required()
}

pub fn group() -> Group {
    let name = "The name of the records, such as api.internal.example.com.";
    Group::new("record-sets", "Manage the record-sets within your managed-zones.")
        .group(transaction::group())
        .group(changes::group())
        .command(
            Command::new("create", "Create a record-set in a managed-zone.", create)
                .arg("DNS_NAME", name)
                .flags([zone_flag(), type_flag()])
                .flag(Flag::int("ttl", "The time to live, seconds."))
                .flag(Flag::list("rrdatas", "The data of the records.").metavar("RRDATA"))
                .flags(routing::flags())
                .rule(Rule::OneOf(vec![vec!["rrdatas"], vec!["routing-policy-type"]]))
                .examples(&["gcloud dns record-sets create api.internal.example.com. --zone=internal-zone --type=A --ttl=300 --rrdatas=10.0.0.100"]),
        )
        .command(
            Command::new("update", "Update a record-set in a managed-zone.", update)
                .arg("DNS_NAME", name)
                .flags([zone_flag(), type_flag()])
                .flag(Flag::int("ttl", "The time to live, seconds."))
                .flag(Flag::list("rrdatas", "The data of the records.").metavar("RRDATA"))
                .flags(routing::flags())
                .rule(Rule::OneOf(vec![vec!["rrdatas"], vec!["routing-policy-type"]])),
        )
        .command(Command::new("delete", "Delete a record-set from a managed-zone.", delete).arg("DNS_NAME", name).flags([zone_flag(), type_flag()]))
        .command(
            Command::new("describe", "Describe a record-set in a managed-zone.", describe)
                .arg("DNS_NAME", name)
                .flags([zone_flag(), type_flag()]),
        )
        .command(
            Command::new("list", "View the list of record-sets in a managed-zone.", list)
                .flag(zone_flag())
                .flag(Flag::text("name", "Only records of this name."))
                .flag(Flag::text("type", "Only records of this type."))
                .flags(list_flags()),
        )
        .command(transfer::export_command())
        .command(transfer::import_command())
}

/// The path of the zone's records.
pub fn rrsets_path(inv: &Invocation<'_>) -> String {
    format!("{}/rrsets", zone_path(inv, inv.args.text("zone").unwrap_or_default()))
}

/// The path of the records that the command line names.
fn rrset_path(inv: &Invocation<'_>) -> String {
    let name = absolute(inv.args.name("DNS_NAME"));
    format!("{}/{}/{}", rrsets_path(inv), segment(&name), inv.args.text("type").unwrap_or_default())
}

fn record(inv: &Invocation<'_>) -> Result<Value, Failure> {
    let kind = inv.args.text("type").unwrap_or_default();
    let mut record = json!({
        "kind": "dns#resourceRecordSet",
        "name": absolute(inv.args.name("DNS_NAME")),
        "type": inv.args.text("type"),
    });
    if let Some(ttl) = inv.args.int("ttl") {
        record["ttl"] = json!(ttl);
    }
    if let Some(data) = inv.args.list("rrdatas") {
        record["rrdatas"] = json!(as_data(kind, data));
    }
    if let Some(policy) = routing::policy(inv, kind)? {
        record["routingPolicy"] = policy;
    }
    Ok(record)
}

/// Data from the command line, as the API wants it: texts in quotes.
pub fn as_data(kind: &str, words: &[String]) -> Vec<String> {
    let quoted = |word: &String| match word {
        word if word.starts_with('"') && word.ends_with('"') => word.clone(),
        word => format!("\"{word}\""),
    };
    match kind {
        "TXT" | "SPF" => words.iter().map(quoted).collect(),
        _ => words.to_vec(),
    }
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut body = record(inv)?;
    if body.get("ttl").is_none() {
        body["ttl"] = json!(DEFAULT_TTL);
    }
    let answer = inv.api.post(&format!("{}?alt=json", rrsets_path(inv)), &body)?;
    match answer.is_success() {
        true => inv.show_made(&[shown(answer.body)], TABLE),
        false => Err(Failure::http(&answer)),
    }
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = inv.api.call("PATCH", &format!("{}?alt=json", rrset_path(inv)), Some(&record(inv)?))?;
    match answer.is_success() {
        true => inv.show_made(&[shown(answer.body)], TABLE),
        false => Err(Failure::http(&answer)),
    }
}

fn delete(inv: &Invocation<'_>) -> Result<(), Failure> {
    let path = rrset_path(inv);
    let answer = inv.api.call("DELETE", &format!("{path}?alt=json"), None)?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    inv.status(&format!("Deleted [{}{path}].", inv.api.base()));
    Ok(())
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = inv.api.get(&format!("{}?alt=json", rrset_path(inv)))?;
    match answer.is_success() {
        true => inv.show(&shown(answer.body), TABLE),
        false => Err(Failure::http(&answer)),
    }
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let found = read_all(inv, inv.args.text("name"), inv.args.text("type"))?;
    inv.list(limited(inv, found.into_iter().map(shown).collect()), TABLE)
}

/// The zone's records, of a name and type where they are given.
pub fn read_all(inv: &Invocation<'_>, name: Option<&str>, kind: Option<&str>) -> Result<Vec<Value>, Failure> {
    let mut filter = String::new();
    if let Some(name) = name {
        filter += &format!("&name={}", query(&absolute(name)));
    }
    if let Some(kind) = kind {
        filter += &format!("&type={}", query(kind));
    }
    pages(inv, &rrsets_path(inv), &filter, "rrsets")
}
