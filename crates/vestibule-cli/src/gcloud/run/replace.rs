//! `gcloud run services replace`.

use serde_json::{Value, json};

use super::changes::object;
use super::region;
use super::rollout::{Place, Progress, wait};
use super::service::{CREATOR, Document, LAST_MODIFIER, Readiness};
use crate::gcloud::error::Failure;
use crate::gcloud::files::{parse_yaml, unreadable};
use crate::gcloud::grammar::{Command, Flag, Misuse};
use crate::gcloud::invocation::Invocation;

pub fn command() -> Command {
    Command::new("replace", "Create or replace a service from a YAML service specification.", replace)
        .usage_head("[FILE]")
        .arg("FILE", "The YAML file, as `services describe --format=export` prints it.")
        .flag(Flag::switch("async", "Return at once."))
        .flag(Flag::switch("dry-run", "Only check whether the server would take it."))
}

fn replace(inv: &Invocation<'_>) -> Result<(), Failure> {
    let file = inv.args.name("FILE");
    let text = std::fs::read_to_string(inv.environment.path(file)).map_err(|error| {
        let message =
            format!("argument FILE: Failed to load YAML from [{file}]: {}", unreadable(file, &error));
        Failure::Misuse(Misuse::usage(&inv.path, &command(), &[&Flag::text("region", "")], message))
    })?;
    let mut document = parse_yaml(file, &text)?;
    if document.get("kind").and_then(Value::as_str) != Some("Service") {
        return Err(Failure::new(format!("[{file}] is not a Service: its kind must be Service.")));
    }
    let Some(service) = document.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned) else {
        return Err(Failure::new(format!("[{file}] has no metadata.name.")));
    };
    check_namespace(inv, &document)?;
    let place = Place { project: inv.project(), region: region(inv)?, service };
    let old = place.read(inv)?;
    prepare(&mut document, &place, old.as_ref());
    let dry = inv.args.on("dry-run");
    inv.status(&format!(
        "{} Cloud Run service [{}] in project [{}] region [{}]",
        if dry { "Validating new configuration for" } else { "Applying new configuration to" },
        place.service,
        place.project,
        place.region
    ));
    if dry {
        let answer = place.write(inv, &document, old.is_some(), "&dryRun=all")?;
        if !answer.is_success() {
            return Err(Failure::run(&answer));
        }
        inv.status(&format!("New configuration has been validated for service [{}].", place.service));
        return Ok(());
    }
    put(inv, &place, &document, old.is_some())
}

/// A namespace in the file must be the project, by its id or its number.
pub fn check_namespace(inv: &Invocation<'_>, document: &Value) -> Result<(), Failure> {
    let project = inv.project();
    let Some(namespace) = Document(document).namespace().filter(|namespace| *namespace != project) else {
        return Ok(());
    };
    let answer = inv.api.get(&format!("/v1/projects/{project}?alt=json"))?;
    let number = answer.body.get("projectNumber").and_then(Value::as_str).unwrap_or_default();
    match number == namespace {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "Namespace must be project ID [{project}] or quoted number [{number}] for Cloud Run (fully managed)."
        ))),
    }
}

/// The file's document as the one to write: under our namespace, and as the next version of the old one.
fn prepare(document: &mut Value, place: &Place, old: Option<&Value>) {
    if let Value::Object(map) = document {
        map.remove("status");
    }
    let metadata = object(document, &["metadata"]);
    metadata.insert("namespace".into(), json!(place.project));
    metadata.entry("labels").or_insert_with(|| json!({}));
    metadata.entry("annotations").or_insert_with(|| json!({}));
    let Some(old) = old.map(Document) else { return };
    if let Some(version) = old.text("/metadata/resourceVersion") {
        metadata.insert("resourceVersion".into(), json!(version));
    }
    let annotations = object(document, &["metadata", "annotations"]);
    for name in [CREATOR, LAST_MODIFIER] {
        if let Some(value) = old.annotation(name) {
            annotations.insert(name.into(), json!(value));
        }
    }
}

fn put(inv: &Invocation<'_>, place: &Place, document: &Value, exists: bool) -> Result<(), Failure> {
    let mut progress = Progress::start(inv, if exists { "Deploying..." } else { "Deploying new service..." });
    let answer = place.write(inv, document, exists, "")?;
    if !answer.is_success() {
        return Err(progress.fail(Failure::run(&answer)));
    }
    if inv.args.on("async") {
        inv.status(&format!("New configuration for [{}] is being applied asynchronously.", place.service));
        return Ok(());
    }
    let waits = Document(&answer.body).readiness() != Readiness::Ready;
    if waits {
        progress.step("Creating Revision");
    }
    let done = match wait(inv, place, answer.body) {
        Ok(done) => done,
        Err(failure) => return Err(progress.fail(failure)),
    };
    if waits {
        progress.end_step("done");
        progress.step("Routing traffic");
        progress.end_step("done");
    }
    progress.done();
    inv.status(&format!("New configuration has been applied to service [{}].", place.service));
    inv.status(&format!("URL: {}", Document(&done).url().unwrap_or_else(|| "None".into())));
    Ok(())
}
