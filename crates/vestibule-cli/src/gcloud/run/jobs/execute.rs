//! `gcloud run jobs execute`, and what `--execute-now` shares with it.

use std::time::Duration;

use serde_json::{Value, json};

use super::deploy::show;
use super::place::{Place, body};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Args, Command, Flag, Kind, Rule};
use crate::gcloud::invocation::Invocation;
use crate::gcloud::run::changes::at_least;
use crate::gcloud::run::rollout::Progress;
use crate::gcloud::run::service::Document;

/// Pauses between two looks at an execution. gcloud waits for its end without a limit: a task may take a week.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub fn command() -> Command {
    Command::new("execute", "Execute a job.", execute)
        .about("What the flags say differently from the job is so for this execution only.")
        .arg("JOB", "The name of the job.")
        .flags([
            Flag::int("tasks", "How many tasks the execution has."),
            Flag::new("task-timeout", Kind::Duration, "How long an attempt may take."),
            Flag::switch("wait", "Wait for the end of the execution."),
            Flag::switch("async", "Return at once."),
        ])
        .container_flags([
            Flag::list("args", "Arguments instead of the job's.").metavar("ARG"),
            Flag::pairs("update-env-vars", "Environment variables to set."),
        ])
        .rule(Rule::Exclusive(vec![vec!["async"], vec!["wait"]]))
        .examples(&["gcloud run jobs execute my-job --wait --region=us-central1"])
}

fn execute(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (place, job) = (Place::of(inv)?, inv.args.name("JOB"));
    let overrides = overrides(inv)?;
    let (wait, later) = (inv.args.on("wait"), inv.args.on("async"));
    let mut progress = Progress::start(inv, "Creating execution...");
    let failed = |progress: Progress<'_>, failure| progress.fail_as("Executing job failed", failure);
    let request = if overrides == json!({}) { overrides } else { json!({"overrides": overrides}) };
    let execution = match Execution::begin(inv, &place, job, &request) {
        Ok(execution) => execution,
        Err(failure) if later => return Err(failure),
        Err(failure) => return Err(failed(progress, failure)),
    };
    if later {
        inv.status(&format!("Execution [{}] is being started asynchronously.", execution.name));
    } else {
        if let Err(failure) = execution.watch(inv, &mut progress, wait) {
            return Err(failed(progress, failure));
        }
        progress.done();
        let how = if wait { "completed" } else { "started running" };
        inv.status(&format!("Execution [{}] has successfully {how}.", execution.name));
    }
    execution.say_where(inv);
    if inv.args.has("format") {
        let current = place.read(inv, "executions", &execution.name)?;
        return show(inv, &current.unwrap_or(execution.document));
    }
    Ok(())
}

/// What is different this once.
fn overrides(inv: &Invocation<'_>) -> Result<Value, Failure> {
    at_least(inv, "tasks", 1)?;
    at_least(inv, "task-timeout", 1)?;
    let mut overrides = json!({});
    if let Some(tasks) = inv.args.int("tasks") {
        overrides["taskCount"] = json!(tasks);
    }
    if let Some(seconds) = inv.args.int("task-timeout") {
        overrides["timeoutSeconds"] = json!(seconds);
    }
    let mut containers: Vec<Value> = Vec::new();
    containers.extend(of_container(&inv.args, None));
    for (name, args) in inv.args.containers() {
        let Some(changes) = of_container(args, Some(name)) else {
            return Err(Failure::new(format!(
                "No container overrides requested to container `{name}`. Did you mean to include the flags \
                 `--update-env-vars`, `--args` after `--container` flag?"
            )));
        };
        containers.push(changes);
    }
    if !containers.is_empty() {
        overrides["containerOverrides"] = Value::Array(containers);
    }
    Ok(overrides)
}

fn of_container(args: &Args, name: Option<&str>) -> Option<Value> {
    if !args.has_any(&["args", "update-env-vars"]) {
        return None;
    }
    let mut changes = json!({});
    if let Some(name) = name {
        changes["name"] = json!(name);
    }
    match args.list("args") {
        Some([]) => changes["clearArgs"] = json!(true),
        Some(words) => changes["args"] = json!(words),
        None => {}
    }
    if let Some(variables) = args.pairs("update-env-vars") {
        changes["env"] =
            variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    }
    Some(changes)
}

/// An execution that was begun.
pub struct Execution<'p> {
    place: &'p Place,
    pub name: String,
    document: Value,
}

impl<'p> Execution<'p> {
    pub fn begin(
        inv: &Invocation<'_>,
        place: &'p Place,
        job: &str,
        request: &Value,
    ) -> Result<Execution<'p>, Failure> {
        let answer = inv.api.post(&format!("{}/{job}:run?alt=json", place.collection("jobs")), request)?;
        let document = body(answer)?;
        let name = Document(&document).name().to_owned();
        Ok(Execution { place, name, document })
    }

    /// Follows the execution through its steps: until it runs, or with `to_the_end` until it is over.
    pub fn watch(
        &self,
        inv: &Invocation<'_>,
        progress: &mut Progress<'_>,
        to_the_end: bool,
    ) -> Result<(), Failure> {
        let mut steps =
            vec![("ResourcesAvailable", "Provisioning resources"), ("Started", "Starting execution")];
        if to_the_end {
            steps.push(("Completed", "Running execution"));
        }
        for (condition, title) in steps {
            progress.step(title);
            let mut pause = FIRST_PAUSE;
            loop {
                let Some(current) = self.place.read(inv, "executions", &self.name)? else {
                    return Err(Failure::new(format!("Execution [{}] could not be found.", self.name)));
                };
                let current = Document(&current);
                let status = |kind: &str| current.condition(kind).and_then(|found| found["status"].as_str());
                if status(condition) == Some("True") {
                    break;
                }
                if status("Completed") == Some("False") || status(condition) == Some("False") {
                    return Err(Failure::new(format!("The execution failed.{}", self.whereabouts())));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            progress.end_step("done");
        }
        Ok(())
    }

    fn whereabouts(&self) -> String {
        let Execution { place, name, document } = self;
        let namespace = Document(document).namespace().unwrap_or(&place.project);
        format!(
            "\nView details about this execution by running:\ngcloud run jobs executions describe {name}\n\nOr visit \
             https://console.cloud.google.com/run/jobs/executions/details/{}/{name}?project={namespace}",
            place.region
        )
    }

    /// How to look at it.
    pub fn say_where(&self, inv: &Invocation<'_>) {
        inv.status(&self.whereabouts());
    }
}
