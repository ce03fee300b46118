//! Jobs through the command line, from their making to their end.
//!
//! Programs of this machine stand for containers here, so that the tests run wherever there is a shell; what differs in a
//! container is tested beside its driver.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop where its world is not as it should be"
)]

mod world;

use std::path::Path;

use serde_json::Value;
use world::{REGION, World, processes_of, until};

fn start() -> World {
    World::start_with("loopback", &["--driver", "process"])
}

/// A job that runs a script.
fn make(world: &World, job: &str, script: &str, more: &[&str]) {
    let args = format!("--args=^@^-c@{script}");
    let words = ["run", "jobs", "create", job, REGION, "--image=process:/bin/sh", &args];
    let answer = world.gcloud_args(&[&words[..], more].concat());
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(
        answer.stderr.contains(&format!("Job [{job}] has successfully been created.")),
        "{}",
        answer.stderr
    );
}

fn json(world: &World, words: &str) -> Value {
    serde_json::from_str(&world.ok(&format!("{words} {REGION} --format=json"))).unwrap()
}

/// The newest execution of a job.
fn latest(world: &World, job: &str) -> Value {
    json(world, &format!("run jobs executions describe-latest --job={job}"))
}

fn completed(execution: &Value) -> (&str, &str) {
    let conditions = execution["status"]["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|condition| condition["type"] == "Completed").unwrap();
    (condition["status"].as_str().unwrap(), condition["message"].as_str().unwrap_or_default())
}

#[test]
fn every_task_knows_which_it_is() {
    let world = start();
    let script = "echo $CLOUD_RUN_JOB $CLOUD_RUN_TASK_INDEX of $CLOUD_RUN_TASK_COUNT, attempt $CLOUD_RUN_TASK_ATTEMPT, $WHO";
    make(&world, "hello", script, &["--tasks=3", "--parallelism=2", "--set-env-vars=WHO=job"]);
    let answer = world.gcloud(&format!("run jobs execute hello --wait {REGION}"));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    for line in ["Provisioning resources...done", "Running execution...done", "has successfully completed."] {
        assert!(answer.stderr.contains(line), "{}", answer.stderr);
    }
    let lines = world.ok(&format!("run jobs logs read hello {REGION}"));
    for index in 0..3 {
        let line = format!("hello {index} of 3, attempt 0, job");
        assert!(lines.contains(&line), "{lines}");
    }
    // What is said for one execution is so for that one alone.
    world.ok(&format!("run jobs execute hello --wait --tasks=1 --update-env-vars=WHO=once {REGION}"));
    let lines = world.ok(&format!("run jobs logs read hello {REGION}"));
    assert!(lines.contains("hello 0 of 1, attempt 0, once"), "{lines}");
    let described = world.ok(&format!("run jobs describe hello {REGION}"));
    for line in ["Executed 2 times", "Tasks:", "Parallelism:     2", "    WHO          job"] {
        assert!(described.contains(line), "{described}");
    }
    let listed = world.ok(&format!("run jobs executions list --job=hello {REGION} --format=value(complete)"));
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["1 / 1", "3 / 3"]);
}

#[test]
fn a_task_is_tried_again_and_then_fails() {
    let world = start();
    make(&world, "fails", "echo try $CLOUD_RUN_TASK_ATTEMPT; exit 3", &["--max-retries=1"]);
    let answer = world.gcloud(&format!("run jobs execute fails --wait {REGION}"));
    assert_eq!(answer.code, 1);
    assert!(answer.stderr.contains("The execution failed."), "{}", answer.stderr);
    let execution = latest(&world, "fails");
    let name = execution["metadata"]["name"].as_str().unwrap();
    let (status, message) = completed(&execution);
    assert_eq!(status, "False");
    assert_eq!(
        message,
        format!("Task {name}-task0 failed with message: The container exited with an error.")
    );
    assert_eq!(execution["status"]["failedCount"], 1);
    assert_eq!(execution["status"]["retriedCount"], 1);
    let task = world.ok(&format!("run jobs executions tasks describe {name}-task0 {REGION}"));
    assert!(task.contains("Exit Code:     3"), "{task}");
    let failed = world.ok(&format!(
        "run jobs executions tasks list --execution={name} --failed {REGION} --format=value(retries)"
    ));
    assert_eq!(failed.trim(), "1");
    let lines = world.ok(&format!("run jobs logs read fails {REGION}"));
    assert!(lines.contains("try 0") && lines.contains("try 1") && !lines.contains("try 2"), "{lines}");
}

#[test]
fn time_runs_out() {
    let world = start();
    make(&world, "slow", "sleep 1000", &["--task-timeout=1s", "--max-retries=0"]);
    assert_eq!(world.gcloud(&format!("run jobs execute slow --wait {REGION}")).code, 1);
    let execution = latest(&world, "slow");
    let (status, message) = completed(&execution);
    assert!(status == "False" && message.contains("timeout"), "{message}");
    nothing_runs(&world.path("state"));
}

#[test]
fn cancelled_and_deleted() {
    let world = start();
    make(&world, "long", "sleep 1000", &["--tasks=2"]);
    world.ok(&format!("run jobs execute long {REGION}"));
    let name = latest(&world, "long")["metadata"]["name"].as_str().unwrap().to_owned();
    world.ok(&format!("run jobs executions cancel {name} --quiet {REGION}"));
    let execution = latest(&world, "long");
    assert_eq!(completed(&execution), ("False", "Execution was cancelled."));
    assert_eq!(execution["status"]["cancelledCount"], 2);
    let again = world.gcloud(&format!("run jobs executions cancel {name} --quiet {REGION}"));
    assert!(again.code == 1 && again.stderr.contains("already"), "{}", again.stderr);
    world.ok(&format!("run jobs execute long {REGION}"));
    let other = latest(&world, "long")["metadata"]["name"].as_str().unwrap().to_owned();
    world.ok(&format!("run jobs executions delete {name} --quiet {REGION}"));
    world.ok(&format!("run jobs delete long --quiet {REGION}"));
    let gone = world.gcloud(&format!("run jobs executions describe {other} {REGION}"));
    assert!(gone.stderr.contains(&format!("Cannot find execution [{other}].")), "{}", gone.stderr);
    nothing_runs(&world.path("state"));
}

#[test]
fn an_execution_outlives_the_server() {
    let mut world = start();
    let marker = world.path("go");
    let script =
        format!("echo begun $CLOUD_RUN_TASK_INDEX; while [ ! -e {} ]; do sleep 0.05; done", marker.display());
    make(&world, "kept", &script, &["--tasks=2", "--parallelism=1"]);
    world.ok(&format!("run jobs execute kept {REGION}"));
    world.kill();
    world.serve();
    std::fs::write(&marker, "").unwrap();
    let execution = until(|| latest(&world, "kept"), |execution| completed(execution).0 != "Unknown");
    assert_eq!(completed(&execution).0, "True", "{execution}");
    assert_eq!(execution["status"]["succeededCount"], 2);
    nothing_runs(&world.path("state"));
}

#[test]
fn a_file_says_what_a_job_is() {
    let world = start();
    make(&world, "filed", "echo first", &["--labels=team=web"]);
    let file = world.path("job.yaml");
    let text = world.ok(&format!("run jobs describe filed {REGION} --format=export"));
    std::fs::write(&file, text.replace("echo first", "echo second")).unwrap();
    let answer = world.gcloud(&format!("run jobs replace job.yaml {REGION}"));
    assert!(
        answer.code == 0 && answer.stderr.contains("Job [filed] has been successfully updated."),
        "{}",
        answer.stderr
    );
    let job = json(&world, "run jobs describe filed");
    assert_eq!(job["metadata"]["generation"], 2);
    assert_eq!(job["metadata"]["labels"]["team"], "web");
    world.ok(&format!("run jobs update filed --update-labels=team=api --execute-now --wait {REGION}"));
    let lines = world.ok(&format!("run jobs logs read filed {REGION}"));
    assert!(lines.contains("second") && !lines.contains("first"), "{lines}");
    world.ok(&format!(
        "run jobs add-iam-policy-binding filed --member=user:a@example.com --role=roles/run.invoker {REGION}"
    ));
    let policy = world.ok(&format!("run jobs get-iam-policy filed {REGION}"));
    assert!(policy.contains("user:a@example.com"), "{policy}");
}

/// Waits until no program of the state directory is left but the server.
fn nothing_runs(state: &Path) {
    let sleepers = || {
        let pids = processes_of(state).into_iter();
        let words = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        pids.map(words).filter(|words| words.contains("sleep")).collect::<Vec<_>>()
    };
    let left = until(sleepers, Vec::is_empty);
    assert!(left.is_empty(), "{left:?}");
}
