//! `gcloud run jobs create`, `update` and `deploy`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::execute::Execution;
use super::place::Place;
use crate::gcloud::GCLOUD_VERSION;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::Command;
use crate::gcloud::invocation::Invocation;
use crate::gcloud::run::changes::{self, flags, letters, object};
use crate::gcloud::run::rollout::Progress;
use crate::gcloud::run::service::{Document, NONCE, Readiness};

/// How long a job may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Between two looks at a job.
const PAUSE: Duration = Duration::from_millis(20);

pub fn create_command() -> Command {
    with_rules(
        Command::new("create", "Create a Cloud Run job.", |inv| run(inv, &CREATE))
            .arg("JOB", "The name of the job.")
            .flags(flags::job())
            .container_flags(flags::container_of_job())
            .examples(&["gcloud run jobs create my-job --image=us-docker.pkg.dev/my-project/my-repo/job --tasks=10 --region=us-central1"]),
    )
}

pub fn update_command() -> Command {
    with_rules(
        Command::new("update", "Update a Cloud Run job.", |inv| run(inv, &UPDATE))
            .arg("JOB", "The name of the job.")
            .flags(flags::job_for_update())
            .container_flags(flags::container_of_job()),
    )
}

pub fn deploy_command() -> Command {
    with_rules(
        Command::new("deploy", "Create or update a Cloud Run job.", |inv| run(inv, &DEPLOY))
            .arg("JOB", "The name of the job.")
            .flags(flags::job_for_update())
            .container_flags(flags::container_of_job()),
    )
}

fn with_rules(command: Command) -> Command {
    flags::job_rules().into_iter().fold(command, Command::rule)
}

/// What tells the three commands apart.
struct Verb {
    /// What the first line says.
    first: &'static str,
    /// What has been done in the end.
    done: &'static str,
    needs_image: bool,
    may_exist: bool,
    may_be_new: bool,
}

const CREATE: Verb =
    Verb { first: "Creating", done: "created", needs_image: true, may_exist: false, may_be_new: true };
const UPDATE: Verb =
    Verb { first: "Updating", done: "updated", needs_image: false, may_exist: true, may_be_new: false };
const DEPLOY: Verb = Verb {
    first: "Deploying container to",
    done: "deployed",
    needs_image: true,
    may_exist: true,
    may_be_new: true,
};

fn run(inv: &Invocation<'_>, verb: &Verb) -> Result<(), Failure> {
    if verb.needs_image {
        check_images(inv, verb)?;
    }
    let (place, job) = (Place::of(inv)?, inv.args.name("JOB"));
    let old = if verb.may_exist { place.read(inv, "jobs", job)? } else { None };
    inv.status(&format!(
        "{} Cloud Run job [{job}] in project [{}] region [{}]",
        verb.first, place.project, place.region
    ));
    let (wait, execute) = (inv.args.on("wait"), inv.args.on("wait") || inv.args.on("execute-now"));
    let begun = if old.is_some() || !verb.may_be_new { "Updating" } else { "Creating" };
    let mut progress =
        Progress::start(inv, &format!("{begun}{} job...", if execute { " and running" } else { "" }));
    if old.is_none() && !verb.may_be_new {
        return Err(failed(progress, Failure::new(format!("Job [{job}] could not be found."))));
    }
    let mut document = old.clone().unwrap_or_else(|| fresh(&place, job));
    if let Err(failure) = changes::apply_to_job(inv, &mut document) {
        return Err(failed(progress, failure));
    }
    sign(&mut document);
    let written = match write(inv, &place, job, &document, old.is_some()) {
        Ok(written) => written,
        Err(failure) => return Err(failed(progress, failure)),
    };
    let execution = match execute.then(|| Execution::begin(inv, &place, job, &json!({}))).transpose() {
        Ok(execution) => execution,
        Err(failure) => return Err(failed(progress, failure)),
    };
    if inv.args.on("async") {
        inv.status(&format!("Job [{job}] is being {} asynchronously.", verb.done));
        return show(inv, &written);
    }
    if let Some(execution) = &execution
        && let Err(failure) = execution.watch(inv, &mut progress, wait)
    {
        return Err(failed(progress, failure));
    }
    progress.done();
    finish(inv, job, verb, execution.as_ref(), wait);
    show(inv, &written)
}

/// The last lines: what was done, and what may be done next.
fn finish(inv: &Invocation<'_>, job: &str, verb: &Verb, execution: Option<&Execution<'_>>, wait: bool) {
    let executed = match execution {
        Some(execution) if wait => format!(" and completed execution [{}]", execution.name),
        Some(execution) => format!(" and started running execution [{}]", execution.name),
        None => String::new(),
    };
    inv.status(&format!("Job [{job}] has successfully been {}{executed}.", verb.done));
    if let Some(execution) = execution {
        execution.say_where(inv);
    }
    let again = if execution.is_some() { " again" } else { "" };
    inv.status(&format!("\nTo execute this job{again}, use:\ngcloud run jobs execute {job}"));
}

fn failed(progress: Progress<'_>, failure: Failure) -> Failure {
    progress.fail_as("Job failed to deploy", failure)
}

/// gcloud prints jobs only when it is asked to.
pub fn show(inv: &Invocation<'_>, document: &Value) -> Result<(), Failure> {
    if inv.args.has("format") {
        return inv.show(document, crate::gcloud::invocation::Display::NOTHING);
    }
    Ok(())
}

/// Every container needs an image.
fn check_images(inv: &Invocation<'_>, verb: &Verb) -> Result<(), Failure> {
    let named = inv.args.containers();
    let without: Vec<&str> =
        named.iter().filter(|(_, args)| !args.has("image")).map(|(name, _)| name.as_str()).collect();
    if !without.is_empty() {
        return Err(Failure::new(format!(
            "Missing required argument [--image]: Containers {} require a container image to deploy.",
            without.join(", ")
        )));
    }
    if named.is_empty() && !inv.args.has("image") {
        if !verb.may_exist {
            return Err(Failure::new("argument --image: Must be specified."));
        }
        return Err(Failure::new(
            "Missing required argument [--image]: Requires a container image to deploy (e.g. \
             `us-docker.pkg.dev/cloudrun/container/job:latest`) if no  build source is provided.",
        ));
    }
    Ok(())
}

/// The document of a job that does not exist yet.
fn fresh(place: &Place, job: &str) -> Value {
    json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": job, "namespace": place.project, "annotations": {}, "labels": {}},
        "spec": {"template": {
            "metadata": {"annotations": {}, "labels": {}},
            "spec": {
                "taskCount": 1,
                "template": {"spec": {"containers": [{"name": ""}], "nodeSelector": {}}},
            },
        }},
    })
}

/// Says which client made the job and its executions, and gives them a word to be found by.
pub fn sign(document: &mut Value) {
    for path in [&["metadata", "annotations"][..], &["spec", "template", "metadata", "annotations"][..]] {
        let annotations = object(document, path);
        annotations.insert("run.googleapis.com/client-name".into(), json!("gcloud"));
        annotations.insert("run.googleapis.com/client-version".into(), json!(GCLOUD_VERSION));
    }
    let labels = object(document, &["spec", "template", "metadata", "labels"]);
    labels.entry(NONCE).or_insert_with(|| json!([letters(3), letters(3), letters(3)].join("_")));
}

/// Writes a job and waits until it is ready.
pub fn write(
    inv: &Invocation<'_>,
    place: &Place,
    job: &str,
    document: &Value,
    exists: bool,
) -> Result<Value, Failure> {
    let mut written = place.write(inv, job, document, exists)?;
    let start = Instant::now();
    loop {
        match Document(&written).readiness() {
            Readiness::Ready => return Ok(written),
            Readiness::Failed(message) => return Err(Failure::new(message)),
            Readiness::Unknown if start.elapsed() > READY_LIMIT => {
                return Err(Failure::new(format!(
                    "The job did not become ready within {} minutes.",
                    READY_LIMIT.as_secs() / 60
                )));
            }
            Readiness::Unknown => std::thread::sleep(PAUSE),
        }
        match place.read(inv, "jobs", job)? {
            Some(current) => written = current,
            None => return Err(Failure::new(format!("Job [{job}] could not be found."))),
        }
    }
}
