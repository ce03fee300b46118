//! `gcloud compute ssl-policies`.

use serde_json::{Map, Value, json};

use super::link::{Kind, Link, Scopes, basename};
use super::operation::Operation;
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};

pub const SSL_POLICIES: Kind =
    Kind { collection: "sslPolicies", scopes: Scopes::GlobalUnlessRegion, plural: "ssl policies" };

const TABLE: Display = Display::new("table(name,profile,minTlsVersion,postQuantumKeyExchange)");
const LIST_TABLE: Display =
    Display::new("table(name,region.basename(),profile,minTlsVersion,postQuantumKeyExchange)");
const FEATURES: Display = Display::new("table([])");

const NAME: &str = "SSL_POLICY";

pub fn group() -> Group {
    Group::new("ssl-policies", "List, create, delete and update Compute Engine SSL policies.")
        .command(
            Command::new("create", "Create a new Compute Engine SSL policy.", create)
                .arg(NAME, "The name of the policy.")
                .flags(super::scope_flags())
                .flags(settings())
                .flag(Flag::text("description", "What the policy is for."))
                .examples(&["gcloud compute ssl-policies create my-policy --profile=MODERN --min-tls-version=1.2 --region=us-central1"]),
        )
        .command(
            Command::new("update", "Update a Compute Engine SSL policy.", update)
                .arg(NAME, "The name of the policy.")
                .flags(super::scope_flags())
                .flags(settings()),
        )
        .command(
            Command::new("delete", "Delete Compute Engine SSL policies.", delete)
                .args(NAME, "The names of the policies.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("describe", "Describe a Compute Engine ssl policy.", describe)
            .arg(NAME, "The name of the policy.")
            .flags(super::scope_flags()),
        )
        .command(
            Command::new("list", "List SSL policies.", |inv| verbs::list(inv, &SSL_POLICIES, LIST_TABLE))
                .flags(super::list_scope_flags()),
        )
        .command(
            Command::new(
                "list-available-features",
                "List available features that can be specified in an SSL policy.",
                list_available_features,
            )
            .flags(super::list_flags())
            .flag(Flag::text("region", "The region whose features are listed. Default: the global ones.")),
        )
}

fn settings() -> Vec<Flag> {
    vec![
        Flag::choice(
            "profile",
            &["COMPATIBLE", "CUSTOM", "FIPS_202205", "MODERN", "RESTRICTED"],
            "The set of features. Default of a new policy: COMPATIBLE.",
        ),
        Flag::choice(
            "min-tls-version",
            &["1.0", "1.1", "1.2", "1.3"],
            "The lowest version of TLS. Default of a new policy: 1.0.",
        ),
        Flag::list("custom-features", "The features of the profile CUSTOM.").metavar("CUSTOM_FEATURES"),
        Flag::choice(
            "post-quantum-key-exchange",
            &["DEFAULT", "DEFERRED", "ENABLED"],
            "Whether to use post-quantum key exchange.",
        ),
    ]
}

fn version(word: &str) -> String {
    format!("TLS_{}", word.replace('.', "_"))
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = SSL_POLICIES.resolve(inv, inv.args.name(NAME))?;
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert("profile".into(), json!(inv.args.text("profile").unwrap_or("COMPATIBLE")));
    body.insert("minTlsVersion".into(), json!(version(inv.args.text("min-tls-version").unwrap_or("1.0"))));
    if let Some(features) = inv.args.list("custom-features").filter(|features| !features.is_empty()) {
        body.insert("customFeatures".into(), json!(features));
    }
    if let Some(exchange) = inv.args.text("post-quantum-key-exchange") {
        body.insert("postQuantumKeyExchange".into(), json!(exchange));
    }
    if let Some(description) = inv.args.text("description") {
        body.insert("description".into(), json!(description));
    }
    carry_out(inv, "Creating SSL policy", vec![Change::insert(link, Value::Object(body))])
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = SSL_POLICIES.resolve(inv, inv.args.name(NAME))?;
    let features = custom_features(inv)?;
    let old = read(inv, &link)?;
    let mut body = Map::new();
    body.insert("fingerprint".into(), old.get("fingerprint").cloned().unwrap_or(Value::Null));
    if let Some(profile) = inv.args.text("profile") {
        body.insert("profile".into(), json!(profile));
    }
    if let Some(word) = inv.args.text("min-tls-version") {
        body.insert("minTlsVersion".into(), json!(version(word)));
    }
    if let Some(features) = features {
        body.insert("customFeatures".into(), json!(features));
    }
    if let Some(exchange) = inv.args.text("post-quantum-key-exchange") {
        body.insert("postQuantumKeyExchange".into(), json!(exchange));
    }
    carry_out(inv, "Updating SSL policy", vec![Change::patch(link, Value::Object(body))])
}

/// What the patch says of custom features: another profile than CUSTOM clears them.
fn custom_features<'i>(inv: &'i Invocation<'_>) -> Result<Option<&'i [String]>, Failure> {
    let given = inv.args.list("custom-features");
    match inv.args.text("profile") {
        Some(profile) if profile != "CUSTOM" => match given {
            Some(features) if !features.is_empty() => Err(Failure::new(
                "Invalid value for [--custom-features]: Custom features cannot be specified when using non-CUSTOM profiles.",
            )),
            _ => Ok(Some(&[])),
        },
        _ => Ok(given),
    }
}

fn delete(inv: &Invocation<'_>) -> Result<(), Failure> {
    let words = inv.args.words(NAME);
    let links =
        words.iter().map(|word| SSL_POLICIES.resolve(inv, word)).collect::<Result<Vec<_>, Failure>>()?;
    verbs::confirm_deletion(inv, &SSL_POLICIES, &links)?;
    let what = if links.len() > 1 { "Deleting SSL policies" } else { "Deleting SSL policy" };
    carry_out(inv, what, links.into_iter().map(Change::delete).collect())
}

/// Makes the calls behind a line of progress, and shows the resources that are left. A call that is refused ends the
/// command before the line is begun.
fn carry_out(inv: &Invocation<'_>, progress: &str, changes: Vec<Change>) -> Result<(), Failure> {
    let mut accepted = Vec::new();
    for change in changes {
        let path = format!("{}?alt=json", change.path);
        let answer = inv.api.call(change.method, &path, change.body.as_ref())?;
        if !answer.is_success() {
            return Err(Failure::http(&answer));
        }
        accepted.push((Operation::accept(&change.link, answer).map_err(Failure::new)?, change));
    }
    inv.printer.note(&format!("{progress}...\n....."));
    let mut left = Vec::new();
    let mut warnings = Vec::new();
    for (operation, change) in accepted {
        match operation.settle(inv) {
            Ok(done) => warnings.extend(done.warnings),
            Err(messages) => {
                inv.status("failed.");
                return Err(Failure::new(messages.join("\n")));
            }
        }
        if change.method != "DELETE" {
            left.push(read(inv, &change.link)?);
        }
    }
    inv.status("done.");
    warnings.iter().for_each(|warning| inv.warn(&format!("{warning}\n")));
    if left.is_empty() { Ok(()) } else { inv.show_made(&left, TABLE) }
}

/// The policy as it is, or why it cannot be read.
fn read(inv: &Invocation<'_>, link: &Link) -> Result<Value, Failure> {
    verbs::fetch(inv, link)?.map_err(|answer| Failure::http(&answer))
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = SSL_POLICIES.resolve(inv, inv.args.name(NAME))?;
    inv.show(&read(inv, &link)?, Display::YAML)
}

fn list_available_features(inv: &Invocation<'_>) -> Result<(), Failure> {
    let scope = match inv.args.text("region") {
        Some(region) => format!("regions/{}", basename(region)),
        None => "global".to_owned(),
    };
    let path = format!("/compute/v1/projects/{}/{scope}/sslPolicies/listAvailableFeatures", inv.project());
    let answer = inv.api.get(&format!("{path}?alt=json"))?;
    if !answer.is_success() {
        return Err(Failure::compute(&[answer.error_message()]));
    }
    let features = answer.body.get("features").and_then(Value::as_array).cloned().unwrap_or_default();
    if inv.is_default_format() && !inv.args.has("format") {
        let lines: Vec<String> =
            features.iter().filter_map(Value::as_str).map(|name| format!("{name}\n")).collect();
        inv.printer.data(&lines.concat());
        return Ok(());
    }
    inv.list(features, FEATURES)
}
