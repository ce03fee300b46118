//! `gcloud run jobs list`, `describe` and `delete`.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::place::{Place, namespace};
use crate::gcloud::error::Failure;
use crate::gcloud::format::moment;
use crate::gcloud::grammar::{Command, Flag};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::run::service::{Document, LOCATION};
use crate::gcloud::run::{describe, services};
use crate::gcloud::tree::list_flags;

/// How long something deleted may take to go.
const DELETE_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Between two looks whether it has gone.
const PAUSE: Duration = Duration::from_millis(20);
pub const CREATOR: &str = "run.googleapis.com/creator";
/// The label with an execution's job.
pub const JOB: &str = "run.googleapis.com/job";

const TABLE: Display = Display::computed(
    "table(glyph:label='',metadata.name:label=JOB,region:label=REGION,last_run:label='LAST RUN AT',created:label=CREATED,\
     author:label='CREATED BY')",
    column,
);

/// What columns of jobs, executions and tasks show that stands in a document as something else.
pub fn column(document: &Value, name: &str) -> Option<Value> {
    let document = Document(document);
    let time = |pointer: &str| {
        let time = moment(document.text(pointer)?)?;
        Some(Value::from(time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()))
    };
    Some(match name {
        "glyph" => Value::from(document.glyph()),
        "region" => Value::from(document.label(LOCATION)?),
        "last_run" => time("/status/latestCreatedExecution/creationTimestamp")?,
        "created" => time("/metadata/creationTimestamp")?,
        "started" => time("/status/startTime")?,
        "completed" => time("/status/completionTime")?,
        "author" => Value::from(document.annotation(CREATOR)?),
        _ => return None,
    })
}

pub fn list_command() -> Command {
    Command::new("list", "List jobs.", list)
        .about("Without --region, the jobs of all regions.")
        .flags(list_flags())
}

pub fn describe_command() -> Command {
    Command::new("describe", "Obtain details about jobs.", describe_job)
        .about("--format=export prints what `jobs replace` takes.")
        .arg("JOB", "The name of the job.")
}

pub fn delete_command() -> Command {
    Command::new("delete", "Delete a job.", |inv| delete(inv, "jobs", "job", inv.args.name("JOB")))
        .about("Its executions go with it; those that run are ended.")
        .arg("JOB", "The name of the job.")
        .flag(Flag::switch("async", "Return at once."))
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let project = inv.project();
    let target = match inv.args.text("region") {
        Some(_) => Place::of(inv)?.collection("jobs"),
        None => format!("{}/jobs", namespace(&project)),
    };
    let mut found = services::collect(inv, &target)?;
    found.sort_by(|a, b| Document(a).name().cmp(Document(b).name()));
    show_list(inv, found, TABLE)
}

pub fn show_list(inv: &Invocation<'_>, found: Vec<Value>, display: Display) -> Result<(), Failure> {
    let base = inv.api.base().to_owned();
    inv.list_with_uri(found, display, &|item| {
        Some(format!("{base}{}", Document(item).text("/metadata/selfLink")?))
    })
}

fn describe_job(inv: &Invocation<'_>) -> Result<(), Failure> {
    let name = inv.args.name("JOB");
    let Some(job) = Place::of(inv)?.read(inv, "jobs", name)? else {
        return Err(Failure::new(format!("Cannot find job [{name}].")));
    };
    print(inv, &job, describe::job)
}

/// One document in the format that is asked for, else as text for people.
pub fn print(inv: &Invocation<'_>, document: &Value, text: fn(&Value) -> String) -> Result<(), Failure> {
    match inv.args.text("format").map(str::trim) {
        None | Some("default") => inv.printer.data(&text(document)),
        Some("export") => inv.printer.data(&describe::export(document)),
        Some(_) => inv.show(document, Display::YAML)?,
    }
    Ok(())
}

/// Deletes a job or an execution, and waits until it is gone.
pub fn delete(inv: &Invocation<'_>, collection: &str, noun: &str, name: &str) -> Result<(), Failure> {
    let place = Place::of(inv)?;
    let title = format!("{}{}", noun[..1].to_uppercase(), &noun[1..]);
    inv.confirm_or_abort(&format!("{title} [{name}] will be deleted."))?;
    let later = inv.args.on("async");
    if !later {
        inv.status(&format!("Deleting [{name}]..."));
    }
    let target = format!("{}/{name}?alt=json", place.collection(collection));
    let answer = inv.api.call("DELETE", &target, None)?;
    if !answer.is_success() {
        if !later {
            inv.status("failed.");
        }
        return Err(match answer.status {
            404 => Failure::new(format!("{title} [{name}] could not be found.")),
            _ => Failure::run(&answer),
        });
    }
    if later {
        inv.status(&format!("{title} [{name}] is being deleted."));
        return Ok(());
    }
    let start = Instant::now();
    while place.read(inv, collection, name)?.is_some() {
        if start.elapsed() > DELETE_LIMIT {
            return Err(Failure::new(format!("Failed to delete [{name}].")));
        }
        std::thread::sleep(PAUSE);
    }
    inv.status("done.");
    inv.status(&format!("Deleted {noun} [{name}]."));
    Ok(())
}
