//! `gcloud run jobs replace`.

use serde_json::{Value, json};

use super::deploy::{show, sign, write};
use super::place::Place;
use crate::gcloud::error::Failure;
use crate::gcloud::files::{parse_yaml, read_file};
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::Invocation;
use crate::gcloud::run::changes::object;
use crate::gcloud::run::replace::check_namespace;
use crate::gcloud::run::rollout::Progress;
use crate::gcloud::run::service::Document;

/// The file that is meant when none is named.
const DEFAULT_FILE: &str = "job.yaml";

pub fn command() -> Command {
    Command::new("replace", "Create or replace a job from a YAML job specification.", replace)
        .optional_arg(
            "FILE",
            "The YAML file, as `jobs describe --format=export` prints it. Default: job.yaml.",
        )
        .flag(Flag::switch("async", "Return at once."))
}

fn replace(inv: &Invocation<'_>) -> Result<(), Failure> {
    let file = inv.args.word("FILE").unwrap_or(DEFAULT_FILE);
    let mut document = parse_yaml(file, &read_file(inv, file)?)?;
    if document.pointer("/spec/template").is_none() {
        return Err(Failure::new(
            "spec.template is required but missing. Please check the content in your yaml file.",
        ));
    }
    let Some(job) = Document(&document).text("/metadata/name").map(str::to_owned) else {
        return Err(Failure::new(format!("[{file}] has no metadata.name.")));
    };
    check_namespace(inv, &document)?;
    let place = Place::of(inv)?;
    let old = place.read(inv, "jobs", &job)?;
    prepare(&mut document, &place, old.as_ref());
    let (begun, done) = if old.is_some() { ("Updating", "updated") } else { ("Creating", "created") };
    inv.status(&format!(
        "{begun} Cloud Run job [{job}] in project [{}] region [{}]",
        place.project, place.region
    ));
    let progress = Progress::start(inv, &format!("{begun} job..."));
    let written = match write(inv, &place, &job, &document, old.is_some()) {
        Ok(written) => written,
        Err(failure) => return Err(progress.fail_as("Job failed to deploy", failure)),
    };
    if inv.args.on("async") {
        inv.status(&format!("Job [{job}] is being {done} asynchronously."));
    } else {
        progress.done();
        inv.status(&format!("Job [{job}] has been successfully {done}."));
    }
    inv.status(&format!("\nTo execute this job, use:\ngcloud run jobs execute {job}"));
    show(inv, &written)
}

/// The file's document as the one to write: under our namespace, and as the next version of the old one.
fn prepare(document: &mut Value, place: &Place, old: Option<&Value>) {
    if let Value::Object(map) = document {
        map.remove("status");
    }
    let metadata = object(document, &["metadata"]);
    metadata.insert("namespace".into(), json!(place.project));
    if let Some(version) = old.and_then(|old| Document(old).text("/metadata/resourceVersion")) {
        metadata.insert("resourceVersion".into(), json!(version));
    }
    sign(document);
}
