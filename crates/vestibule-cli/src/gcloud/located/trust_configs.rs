//! What only trust configs have: their certificates on the command line.

use serde_json::{Map, Value, json};

use super::{TRUST_CONFIGS, async_flag, carry_out, id, insert, location_flag, path, read, texts};
use crate::gcloud::error::Failure;
use crate::gcloud::files::read_file;
use crate::gcloud::grammar::{Command, Flag, Rule};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::query;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

const ALLOWLISTED: &str = "allowlistedCertificates";

pub fn create_command() -> Command {
    Command::new("create", "Create a trust config.", create)
        .arg(TRUST_CONFIGS.arg, "The ID of the trust config.")
        .flag(location_flag())
        .flag(Flag::text("description", "What the trust config is for."))
        .flag(trust_store_flag())
        .flag(files_flag("allowlisted-certificates", "Files of certificates that are always trusted."))
        .flag(Flag::pairs("labels", "Labels."))
        .flag(async_flag())
        .rule(Rule::AnyOf(vec!["allowlisted-certificates", "trust-store"]))
        .examples(&["gcloud certificate-manager trust-configs create my-trust-config --location=us-central1 --trust-store=trust-anchors=ca.pem"])
}

pub fn update_command() -> Command {
    Command::new("update", "Update a trust config.", update)
        .arg(TRUST_CONFIGS.arg, "The ID of the trust config.")
        .flag(location_flag())
        .flag(Flag::text("description", "What the trust config is for."))
        .flag(trust_store_flag())
        .flag(files_flag("add-allowlisted-certificates", "Files of certificates to trust always."))
        .flag(files_flag("remove-allowlisted-certificates", "Files of certificates to trust always no more."))
        .flag(Flag::switch("clear-allowlisted-certificates", "Removes all allowlisted certificates."))
        .flag(Flag::pairs("update-labels", "Labels to set."))
        .flag(Flag::list("remove-labels", "Labels to remove.").metavar("KEY"))
        .flag(Flag::switch("clear-labels", "Removes all labels."))
        .flag(async_flag())
        .rule(Rule::Exclusive(vec![
            vec!["remove-allowlisted-certificates"],
            vec!["clear-allowlisted-certificates"],
        ]))
        .rule(Rule::Exclusive(vec![vec!["remove-labels"], vec!["clear-labels"]]))
}

/// Of `delete` and of `import`.
pub fn flags() -> [Vec<Flag>; 2] {
    [
        vec![Flag::text("etag", "The deletion fails if the trust config's etag is another.")],
        vec![Flag::text("update-mask", "The fields to replace. Default: all.").metavar("FIELDS")],
    ]
}

fn trust_store_flag() -> Flag {
    Flag::pairs(
        "trust-store",
        "Files of certificates: trust-anchors=FILE[;FILE…],intermediate-cas=FILE[;FILE…].",
    )
}

fn files_flag(name: &'static str, help: &'static str) -> Flag {
    Flag::list(name, help).metavar("FILE")
}

/// All certificates of a file, each as the API has one.
fn certificates(inv: &Invocation<'_>, file: &str) -> Result<Vec<Value>, Failure> {
    let text = read_file(inv, file)?;
    let pieces = text.split(BEGIN).skip(1).filter_map(|piece| piece.split_once(END));
    Ok(pieces.map(|(inside, _)| json!({ "pemCertificate": format!("{BEGIN}{inside}{END}") })).collect())
}

fn all_certificates<'f>(
    inv: &Invocation<'_>,
    files: impl Iterator<Item = &'f str>,
) -> Result<Vec<Value>, Failure> {
    let read = files.map(|file| certificates(inv, file)).collect::<Result<Vec<_>, Failure>>()?;
    Ok(read.concat())
}

fn of_flag(inv: &Invocation<'_>, flag: &str) -> Result<Option<Vec<Value>>, Failure> {
    let files = inv.args.list(flag);
    files.map(|files| all_certificates(inv, files.iter().map(String::as_str))).transpose()
}

fn trust_stores(inv: &Invocation<'_>) -> Result<Option<Value>, Failure> {
    let Some(pairs) = inv.args.pairs("trust-store") else { return Ok(None) };
    let mut store = Map::new();
    for (key, files) in pairs {
        let member = match key.as_str() {
            "trust-anchors" => "trustAnchors",
            "intermediate-cas" => "intermediateCas",
            other => {
                let keys = "valid keys are [intermediate-cas, trust-anchors]";
                return Err(Failure::new(format!("argument --trust-store: {keys}; received: {other}")));
            }
        };
        store.insert(member.into(), all_certificates(inv, files.split(';'))?.into());
    }
    if !store.contains_key("trustAnchors") {
        return Err(Failure::new(
            "argument --trust-store: Key [trust-anchors] required in dict arg but not provided",
        ));
    }
    Ok(Some(json!([store])))
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut body = Map::new();
    if let Some(description) = inv.args.text("description") {
        body.insert("description".into(), json!(description));
    }
    if let Some(stores) = trust_stores(inv)? {
        body.insert("trustStores".into(), stores);
    }
    if let Some(allowlisted) = of_flag(inv, "allowlisted-certificates")? {
        body.insert(ALLOWLISTED.into(), allowlisted.into());
    }
    if let Some(labels) = inv.args.pairs("labels") {
        body.insert("labels".into(), Value::Object(texts(labels)));
    }
    match insert(inv, &TRUST_CONFIGS, "Create request issued", &Value::Object(body))? {
        Some(made) => {
            inv.status(&format!("Created trustConfig [{}].", id(&TRUST_CONFIGS.named(inv)?)));
            inv.show(&made, Display::YAML)
        }
        None => Ok(()),
    }
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = TRUST_CONFIGS.named(inv)?;
    let mut body = read(inv, &name)?;
    let mut mask = Vec::new();
    let mut set = |body: &mut Value, field: &'static str, value: Option<Value>| {
        if let Some(value) = value {
            body[field] = value;
            mask.push(field);
        }
    };
    set(&mut body, "description", inv.args.text("description").map(|text| json!(text)));
    set(&mut body, "trustStores", trust_stores(inv)?);
    let allowlisted = allowlisted(inv, &body)?;
    let labels = labels(inv, &body);
    set(&mut body, "labels", labels);
    set(&mut body, ALLOWLISTED, allowlisted);
    let target = format!("{}?alt=json&updateMask={}", path(&name), query(&mask.join(",")));
    match carry_out(inv, "Request issued", "PATCH", &target, &name, Some(&body))? {
        Some(made) => {
            inv.status(&format!("Updated trustConfig [{}].", id(&name)));
            inv.show(&made, Display::YAML)
        }
        None => Ok(()),
    }
}

/// The allowlist after what the flags ask for; `None` if they ask for nothing.
fn allowlisted(inv: &Invocation<'_>, current: &Value) -> Result<Option<Value>, Failure> {
    let clear = inv.args.on("clear-allowlisted-certificates");
    let add = of_flag(inv, "add-allowlisted-certificates")?;
    let remove = of_flag(inv, "remove-allowlisted-certificates")?;
    if !clear && add.is_none() && remove.is_none() {
        return Ok(None);
    }
    let plain = |entry: &Value| -> String {
        entry["pemCertificate"].as_str().unwrap_or_default().split_whitespace().collect()
    };
    let gone: Vec<String> = remove.iter().flatten().map(plain).collect();
    let held = current[ALLOWLISTED].as_array().into_iter().flatten().filter(|_| !clear);
    let mut kept: Vec<Value> = held.filter(|entry| !gone.contains(&plain(entry))).cloned().collect();
    kept.extend(add.into_iter().flatten());
    Ok(Some(kept.into()))
}

/// The labels after what the flags ask for; `None` if they ask for nothing.
fn labels(inv: &Invocation<'_>, current: &Value) -> Option<Value> {
    let clear = inv.args.on("clear-labels");
    if !clear && !inv.args.has_any(&["update-labels", "remove-labels"]) {
        return None;
    }
    let mut labels = match current["labels"].as_object() {
        Some(labels) if !clear => labels.clone(),
        _ => Map::new(),
    };
    inv.args.list("remove-labels").unwrap_or_default().iter().for_each(|key| drop(labels.remove(key)));
    labels.extend(texts(inv.args.pairs("update-labels").unwrap_or_default()));
    Some(Value::Object(labels))
}
