//! `gcloud secrets versions`.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::checksum::crc32c;
use super::{call, files, pages, secret_path};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::segment;
use crate::gcloud::tree::list_flags;

/// The largest payload.
const MAX_BYTES: u64 = 64 << 10;

const TABLE: Display = Display::computed(
    "table(name.basename():label=NAME,state_word:label=STATE,createTime.date():label=CREATED,\
     destroyTime.date(undefined='-'):label=DESTROYED)",
    |version, name| match name {
        "state_word" => Some(Value::from(match version.get("state").and_then(Value::as_str) {
            Some("ENABLED") => "enabled",
            Some("DISABLED") => "disabled",
            Some("DESTROYED") => "destroyed",
            _ => "unknown",
        })),
        _ => None,
    },
);

pub fn group() -> Group {
    let secret = || Flag::text("secret", "The name of the secret.").required();
    let version = |name, summary, run| {
        Command::new(name, summary, run).arg("VERSION", "The number of the version.").flag(secret())
    };
    let etag = || Flag::text("etag", "The command fails if the version's etag is another.");
    Group::new("versions", "Manage secret versions.")
        .command(
            Command::new("add", "Create a new version of an existing secret.", add)
                .arg("SECRET", "The name of the secret.")
                .flag(
                    Flag::text("data-file", "The file with the data; - is standard input.")
                        .metavar("PATH")
                        .required(),
                )
                .examples(&["printf s3cr3t | gcloud secrets versions add my-secret --data-file=-"]),
        )
        .command(
            Command::new("access", "Access a secret version's data.", access)
                .arg("VERSION", "The number of the version, an alias, or latest.")
                .flag(secret())
                .flag(Flag::text("out-file", "The file to write the data to.").metavar("PATH")),
        )
        .command(
            Command::new("list", "List all versions for a secret.", list)
                .arg("SECRET", "The name of the secret.")
                .flags(list_flags()),
        )
        .command(
            Command::new("describe", "Describe metadata about the secret version.", describe)
                .arg("VERSION", "The number of the version, an alias, or latest.")
                .flag(secret()),
        )
        .command(version("enable", "Enable the version of the provided secret.", enable).flag(etag()))
        .command(version("disable", "Disable the version of the provided secret.", disable).flag(etag()))
        .command(
            version("destroy", "Destroy a secret version's metadata and secret data.", destroy).flag(etag()),
        )
}

/// What a `--data-file` holds.
pub(super) fn read_data(inv: &Invocation<'_>, file: &str) -> Result<Vec<u8>, Failure> {
    if file.is_empty() {
        return Err(Failure::new(
            "The value provided for --data-file is the empty string. This can happen if you pass or pipe a variable that \
             is undefined. Please verify that the --data-file flag is not the empty string.",
        ));
    }
    let mut data = Vec::new();
    let read = match file {
        "-" => std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut data),
        file => std::fs::File::open(inv.environment.path(file))
            .and_then(|open| open.take(MAX_BYTES + 1).read_to_end(&mut data)),
    };
    read.map_err(|error| {
        Failure::new(format!("Failed to read file [{file}]: {}", files::unreadable(file, &error)))
    })?;
    if data.len() as u64 > MAX_BYTES {
        return Err(Failure::new(format!(
            "The file [{file}] is larger than the maximum size of {MAX_BYTES} bytes."
        )));
    }
    Ok(data)
}

/// Adds a version with some data and says so.
pub(super) fn add_data(inv: &Invocation<'_>, secret: &str, data: &[u8]) -> Result<Value, Failure> {
    let payload = json!({ "data": STANDARD.encode(data), "dataCrc32c": crc32c(data).to_string() });
    let target = format!("{}:addVersion?alt=json", secret_path(inv, secret));
    let made = call(inv, "POST", &target, Some(&json!({ "payload": payload })))?;
    inv.status(&format!("Created version [{}] of the secret [{secret}].", number(&made)));
    Ok(made)
}

fn number(version: &Value) -> &str {
    version["name"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default()
}

fn add(inv: &Invocation<'_>) -> Result<(), Failure> {
    let data = read_data(inv, inv.args.text("data-file").unwrap_or_default())?;
    let made = add_data(inv, inv.args.name("SECRET"), &data)?;
    if made["clientSpecifiedPayloadChecksum"] != true {
        return Err(Failure::new(
            "Version created but payload data corruption may have occurred, please destroy the created version, and \
             retry. See also https://cloud.google.com/secret-manager/docs/data-integrity.",
        ));
    }
    inv.show_made(&[made], Display::NOTHING)
}

/// The path of the version that the command names.
fn version_path(inv: &Invocation<'_>) -> String {
    let secret = inv.args.text("secret").unwrap_or_default();
    format!("{}/versions/{}", secret_path(inv, secret), segment(inv.args.name("VERSION")))
}

fn access(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = call(inv, "GET", &format!("{}:access?alt=json", version_path(inv)), None)?;
    let payload = &answer["payload"];
    let data = STANDARD.decode(payload["data"].as_str().unwrap_or_default()).unwrap_or_default();
    let checksum = payload["dataCrc32c"].as_str().and_then(|text| text.parse::<i64>().ok());
    if checksum.is_some_and(|checksum| checksum != i64::from(crc32c(&data))) {
        return Err(Failure::new(
            "An incorrect data_crc32c was calculated for the provided payload. This might be a transient issue that \
             resolves with a retry.",
        ));
    }
    match inv.args.text("out-file") {
        Some("") => Err(Failure::new(
            "The value provided for --out-file is the empty string. This can happen if you pass or pipe a variable that \
             is undefined. Please verify that the --out-file flag is not the empty string.",
        )),
        Some(file) => write_private(inv, file, &data),
        None if inv.is_default_format() => {
            inv.printer.data(&String::from_utf8_lossy(&data));
            Ok(())
        }
        None => inv.show(&answer, Display::YAML),
    }
}

/// Writes a file that only its owner can read.
fn write_private(inv: &Invocation<'_>, file: &str, data: &[u8]) -> Result<(), Failure> {
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let written = open.open(inv.environment.path(file)).and_then(|mut open| open.write_all(data));
    written.map_err(|error| Failure::new(format!("Unable to write file [{file}]: {error}")))
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let found = pages(inv, &format!("{}/versions", secret_path(inv, inv.args.name("SECRET"))), "versions")?;
    let base = inv.api.base().to_owned();
    inv.list_with_uri(found, TABLE, &|version| Some(format!("{base}/v1/{}", version.get("name")?.as_str()?)))
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    inv.show(&call(inv, "GET", &format!("{}?alt=json", version_path(inv)), None)?, Display::YAML)
}

fn change(inv: &Invocation<'_>, method: &str) -> Result<Value, Failure> {
    let body = match inv.args.text("etag") {
        Some(etag) => json!({ "etag": etag }),
        None => json!({}),
    };
    call(inv, "POST", &format!("{}:{method}?alt=json", version_path(inv)), Some(&body))
}

fn say(inv: &Invocation<'_>, done: &str) {
    let secret = inv.args.text("secret").unwrap_or_default();
    inv.status(&format!("{done} version [{}] of the secret [{secret}].", inv.args.name("VERSION")));
}

fn enable(inv: &Invocation<'_>) -> Result<(), Failure> {
    let changed = change(inv, "enable")?;
    say(inv, "Enabled");
    inv.show(&changed, Display::NOTHING)
}

fn disable(inv: &Invocation<'_>) -> Result<(), Failure> {
    let changed = change(inv, "disable")?;
    say(inv, "Disabled");
    inv.show(&changed, Display::NOTHING)
}

fn destroy(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (version, secret) = (inv.args.name("VERSION"), inv.args.text("secret").unwrap_or_default());
    inv.confirm_or_abort(&format!(
        "You are about to destroy version [{version}] of the secret [{secret}]. This action cannot be reversed."
    ))?;
    let changed = change(inv, "destroy")?;
    match changed["scheduledDestroyTime"].as_str() {
        Some(time) => inv.status(&format!(
            "Disabled version [{version}] of the secret [{secret}] and scheduled for destruction at [{time}]."
        )),
        None => say(inv, "Destroyed"),
    }
    inv.show(&changed, Display::NOTHING)
}
