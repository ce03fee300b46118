//! `gcloud secrets`.

mod checksum;
mod policy;
mod versions;

use serde_json::{Map, Value, json};

use super::error::Failure;
use super::grammar::{Command, Flag, Group};
use super::invocation::{Display, Invocation};
use super::tree::list_flags;
use super::{files, query, segment};

/// How many entries a page has.
const PAGE: usize = 100;

const TABLE: Display = Display::computed(
    "table(name.basename():label=NAME,createTime.date():label=CREATED,replication_policy:label=REPLICATION_POLICY,\
     locations:label=LOCATIONS)",
    |secret, name| {
        let replication = secret.get("replication");
        let part = |kind: &str| replication.and_then(|replication| replication.get(kind));
        Some(Value::from(match name {
            "replication_policy" if part("automatic").is_some() => "automatic".to_owned(),
            "replication_policy" if part("userManaged").is_some() => "user_managed".to_owned(),
            "locations" if part("automatic").is_some() => "-".to_owned(),
            "locations" => {
                let replicas = part("userManaged")?.get("replicas")?.as_array()?.iter();
                let places: Vec<&str> = replicas.filter_map(|r| r.get("location")?.as_str()).collect();
                places.join(",")
            }
            "replication_policy" => "ERROR".to_owned(),
            _ => return None,
        }))
    },
);

pub fn group() -> Group {
    Group::new("secrets", "Manage secrets on Google Cloud.")
        .command(
            Command::new("create", "Create a new secret.", create)
                .about("With --data-file, its first version too.")
                .arg("SECRET", "The name of the secret.")
                .flag(
                    Flag::text(
                        "data-file",
                        "The file with the data of the first version; - is standard input.",
                    )
                    .metavar("PATH"),
                )
                .flag(
                    Flag::text("replication-policy", "automatic (the default) or user-managed.")
                        .metavar("POLICY"),
                )
                .flag(Flag::list("locations", "Where a user-managed secret is kept.").metavar("LOCATION"))
                .flag(Flag::pairs("labels", "Labels."))
                .flag(Flag::pairs("set-annotations", "Annotations."))
                .flags(expiry())
                .examples(&["printf s3cr3t | gcloud secrets create my-secret --data-file=-"]),
        )
        .command(
            Command::new("update", "Update a secret's metadata.", update)
                .arg("SECRET", "The name of the secret.")
                .flag(Flag::pairs("update-labels", "Labels to set."))
                .flag(Flag::list("remove-labels", "Labels to remove.").metavar("KEY"))
                .flag(Flag::switch("clear-labels", "Removes all labels."))
                .flag(Flag::pairs("update-annotations", "Annotations to set."))
                .flag(Flag::list("remove-annotations", "Annotations to remove.").metavar("KEY"))
                .flag(Flag::switch("clear-annotations", "Removes all annotations."))
                .flag(Flag::pairs("update-version-aliases", "Aliases of versions to set."))
                .flag(Flag::list("remove-version-aliases", "Aliases of versions to remove.").metavar("KEY"))
                .flag(Flag::switch("clear-version-aliases", "Removes all aliases of versions."))
                .flag(Flag::switch("remove-expiration", "The secret does not expire."))
                .flag(Flag::text("etag", "The update fails if the secret's etag is another."))
                .flags(expiry()),
        )
        .command(
            Command::new("describe", "Describe a secret's metadata.", describe)
                .arg("SECRET", "The name of the secret."),
        )
        .command(Command::new("list", "List all secret names.", list).flags(list_flags()))
        .command(
            Command::new("delete", "Delete a secret.", delete)
                .about("All its versions are destroyed.")
                .arg("SECRET", "The name of the secret.")
                .flag(Flag::text("etag", "The deletion fails if the secret's etag is another.")),
        )
        .command(policy::get_command())
        .command(policy::set_command())
        .command(policy::add_command())
        .command(policy::remove_command())
        .group(versions::group())
}

fn expiry() -> Vec<Flag> {
    vec![
        Flag::text("expire-time", "When the secret is deleted, such as 2030-01-01T15:30:00Z.")
            .metavar("TIME"),
        Flag::text("ttl", "After how long the secret is deleted, such as 3600s.").metavar("DURATION"),
        Flag::new(
            "version-destroy-ttl",
            super::grammar::Kind::Duration,
            "How long a version waits for its destruction, such as 86400s.",
        ),
    ]
}

/// The path of a project's secrets.
fn secrets_path(inv: &Invocation<'_>) -> String {
    format!("/v1/projects/{}/secrets", segment(&inv.project()))
}

fn secret_path(inv: &Invocation<'_>, secret: &str) -> String {
    format!("{}/{}", secrets_path(inv), segment(secret))
}

/// Sends one request and reads its answer.
fn call(inv: &Invocation<'_>, method: &str, target: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let answer = inv.api.call(method, target, body)?;
    if answer.is_success() { Ok(answer.body) } else { Err(Failure::googleapis(&answer)) }
}

/// All entries of a list.
fn pages(inv: &Invocation<'_>, path: &str, member: &str) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let more = token.map(|token: String| format!("&pageToken={}", query(&token))).unwrap_or_default();
        let answer = call(inv, "GET", &format!("{path}?alt=json&pageSize={PAGE}{more}"), None)?;
        found.extend(answer.get(member).and_then(Value::as_array).cloned().unwrap_or_default());
        token = answer.get("nextPageToken").and_then(Value::as_str).map(str::to_owned);
        if token.is_none() {
            return Ok(found);
        }
    }
}

fn texts(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
}

fn replication(inv: &Invocation<'_>) -> Result<Value, Failure> {
    let locations = inv.args.list("locations").unwrap_or_default();
    match (inv.args.text("replication-policy"), locations) {
        (None | Some("automatic"), []) => Ok(json!({ "automatic": {} })),
        (Some("automatic"), _) => Err(Failure::new(
            "Invalid value for [locations]: If --replication-policy is \"automatic\" then --locations are not allowed. \
             Please remove the --locations flag or set the --replication-policy to \"user-managed\".",
        )),
        (None, _) => Err(Failure::new(
            "Invalid value for [locations]: Locations are only allowed when creating a secret with a \"user-managed\" \
             replication policy. Please use the --replication-policy flag to set it or remove --locations to use an \
             automatic replication policy.",
        )),
        (Some("user-managed"), []) => Err(Failure::new(
            "Missing required argument [locations]: If --replication-policy is user-managed then --locations must also \
             be provided. Please set the desired storage regions in --locations or the secrets/locations property. For \
             an automatic replication policy, please set --replication-policy or the secrets/replication-policy property \
             to \"automatic\".",
        )),
        (Some("user-managed"), locations) => {
            let replicas: Vec<Value> = locations.iter().map(|place| json!({ "location": place })).collect();
            Ok(json!({ "userManaged": { "replicas": replicas } }))
        }
        (Some(_), _) => Err(Failure::new(
            "Invalid value for [replication-policy]: The value provided for --replication-policy is invalid. Valid \
             values are \"automatic\" and \"user-managed\".",
        )),
    }
}

/// The fields that tell when things end, and their names in a mask.
fn endings(inv: &Invocation<'_>) -> Vec<(&'static str, Value)> {
    let text = |flag: &str| inv.args.text(flag).map(|value| json!(value));
    let wait = inv.args.int("version-destroy-ttl").map(|seconds| json!(format!("{seconds}s")));
    let all = [("expireTime", text("expire-time")), ("ttl", text("ttl")), ("versionDestroyTtl", wait)];
    all.into_iter().filter_map(|(field, value)| Some((field, value?))).collect()
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = inv.args.name("SECRET");
    let data = inv.args.text("data-file").map(|file| versions::read_data(inv, file)).transpose()?;
    let mut body = Map::from_iter([("replication".to_owned(), replication(inv)?)]);
    for (field, flag) in [("labels", "labels"), ("annotations", "set-annotations")] {
        if let Some(pairs) = inv.args.pairs(flag) {
            body.insert(field.to_owned(), Value::Object(texts(pairs)));
        }
    }
    body.extend(endings(inv).into_iter().map(|(field, value)| (field.to_owned(), value)));
    let target = format!("{}?alt=json&secretId={}", secrets_path(inv), query(name));
    let made = call(inv, "POST", &target, Some(&Value::Object(body)))?;
    match data {
        Some(data) => {
            versions::add_data(inv, name, &data)?;
        }
        None => inv.status(&format!("Created secret [{name}].")),
    }
    inv.show_made(&[made], Display::NOTHING)
}

/// A map after `--update-…`, `--remove-…` and `--clear-…`; `None` if none of them was given.
fn edited(inv: &Invocation<'_>, of: &Value, field: &str, what: &str) -> Option<Map<String, Value>> {
    let (update, remove) = (format!("update-{what}"), format!("remove-{what}"));
    let clear = inv.args.on(&format!("clear-{what}"));
    if !clear && !inv.args.has(&update) && !inv.args.has(&remove) {
        return None;
    }
    let mut map = match of.get(field).and_then(Value::as_object) {
        Some(map) if !clear => map.clone(),
        _ => Map::new(),
    };
    inv.args.list(&remove).unwrap_or_default().iter().for_each(|key| drop(map.remove(key)));
    map.extend(texts(inv.args.pairs(&update).unwrap_or_default()));
    Some(map)
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = inv.args.name("SECRET");
    let path = secret_path(inv, name);
    let current = call(inv, "GET", &format!("{path}?alt=json"), None)?;
    let mut body = Map::new();
    let mut mask = Vec::new();
    for (field, what) in
        [("labels", "labels"), ("annotations", "annotations"), ("versionAliases", "version-aliases")]
    {
        if let Some(map) = edited(inv, &current, field, what) {
            mask.push(field);
            body.insert(field.to_owned(), Value::Object(map));
        }
    }
    for (field, value) in endings(inv) {
        mask.push(field);
        body.insert(field.to_owned(), value);
    }
    if inv.args.on("remove-expiration") {
        mask.push("expireTime");
    }
    if mask.is_empty() {
        return Err(Failure::new(
            "Exactly one of the flags that change something must be specified, such as --update-labels.",
        ));
    }
    if let Some(etag) = inv.args.text("etag") {
        body.insert("etag".to_owned(), json!(etag));
    }
    let target = format!("{path}?alt=json&updateMask={}", query(&mask.join(",")));
    let changed = call(inv, "PATCH", &target, Some(&Value::Object(body)))?;
    inv.status(&format!("Updated secret [{name}]."));
    inv.show(&changed, Display::NOTHING)
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let target = format!("{}?alt=json", secret_path(inv, inv.args.name("SECRET")));
    inv.show(&call(inv, "GET", &target, None)?, Display::YAML)
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let found = pages(inv, &secrets_path(inv), "secrets")?;
    let base = inv.api.base().to_owned();
    inv.list_with_uri(found, TABLE, &|secret| Some(format!("{base}/v1/{}", secret.get("name")?.as_str()?)))
}

fn delete(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = inv.args.name("SECRET");
    let path = secret_path(inv, name);
    let versions = pages(inv, &format!("{path}/versions"), "versions")?;
    let alive = versions.iter().filter(|version| version["state"] != "DESTROYED").count();
    inv.confirm_or_abort(&format!(
        "You are about to destroy the secret [{name}] and its [{alive}] version(s). This action cannot be reversed."
    ))?;
    let etag = inv.args.text("etag").map(|etag| format!("&etag={}", query(etag))).unwrap_or_default();
    call(inv, "DELETE", &format!("{path}?alt=json{etag}"), None)?;
    inv.status(&format!("Deleted secret [{name}]."));
    Ok(())
}
