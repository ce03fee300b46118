use std::time::{Duration, SystemTime};

use serde_json::json;
use vestibule_run::desired::{Begun, ExecutionKey, ProbeKind, TaskFailure, TaskReport, TaskState};

use super::super::testing::{NUMBER, PROJECT, World, caller, condition, members, place};
use super::*;

/// A job of one image, as gcloud would send it.
fn body(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": PROJECT, "annotations": {}, "labels": {}},
        "spec": {"template": {
            "metadata": {"annotations": {}, "labels": {"client.knative.dev/nonce": "abcdefghij"}},
            "spec": {"template": {"spec": {"containers": [{"image": image, "name": ""}], "nodeSelector": {}}}},
        }},
        "status": {},
    })
}

fn task_spec(job: &mut Value) -> &mut Value {
    &mut job["spec"]["template"]["spec"]["template"]["spec"]
}

impl World {
    fn create_job(&self, body: Value) -> Value {
        self.control.run().create_job(caller(), place(), members(body)).expect("accepted")
    }

    fn refused_job(&self, body: Value) -> String {
        self.control.run().create_job(caller(), place(), members(body)).expect_err("refused").to_string()
    }

    fn job(&self, job: &str) -> Value {
        self.control.run().job(place(), job).expect("it exists")
    }

    /// Begins an execution. Returns its name.
    fn run_job(&self, job: &str, overrides: Value) -> String {
        let request = members(json!({ "overrides": overrides }));
        let execution = self.control.run().run_job(caller(), place(), job, &request).expect("begun");
        execution["metadata"]["name"].as_str().unwrap().to_owned()
    }

    fn execution(&self, execution: &str) -> Value {
        self.control.run().execution(place(), execution).expect("it exists")
    }

    fn key(&self, execution: &str) -> ExecutionKey {
        let executions = self.executions();
        let found = executions.iter().find(|wanted| *wanted.key.name == *execution);
        found.expect("it is wanted").key.clone()
    }

    fn tell(&self, key: &ExecutionKey, tasks: Vec<(u32, u32, TaskState)>) {
        let started = SystemTime::now();
        let reports: Vec<TaskReport> = tasks
            .into_iter()
            .map(|(index, attempt, state)| TaskReport::Task {
                execution: key.clone(),
                index,
                attempt,
                started,
                state,
            })
            .collect();
        record::record(&self.control, &reports).expect("recorded");
    }

    fn over(&self, key: &ExecutionKey) {
        let over =
            TaskReport::Over { execution: key.clone(), at: SystemTime::now() + Duration::from_secs(2) };
        record::record(&self.control, &[over]).expect("recorded");
    }
}

fn succeeded() -> TaskState {
    TaskState::Succeeded { at: SystemTime::now() }
}

fn failed(message: &str) -> TaskState {
    let failure = TaskFailure {
        reason: "NonZeroExitCode".to_owned(),
        message: message.to_owned(),
        exit_code: Some(3),
        signal: None,
    };
    TaskState::Failed { at: SystemTime::now(), failure }
}

#[test]
fn a_job_gets_every_default_and_is_ready_at_once() {
    let world = World::new();
    let job = world.create_job(body("job", "gcr.io/demo/work:1"));
    assert_eq!(job["metadata"]["namespace"], NUMBER);
    assert_eq!(job["metadata"]["generation"], 1);
    assert_eq!(job["metadata"]["annotations"]["run.googleapis.com/creator"], "me@example.com");
    assert_eq!(job["metadata"]["labels"]["cloud.googleapis.com/location"], "us-central1");
    assert_eq!(
        job["spec"]["template"]["spec"],
        json!({
            "taskCount": 1,
            "template": {"spec": {
                "containers": [{
                    "image": "gcr.io/demo/work:1", "name": "work-1",
                    "resources": {"limits": {"cpu": "1000m", "memory": "512Mi"}},
                }],
                "nodeSelector": {},
                "maxRetries": 3,
                "timeoutSeconds": "600",
                "serviceAccountName": "496268734596-compute@developer.gserviceaccount.com",
            }},
        })
    );
    assert_eq!(condition(&job, "Ready").0, "True");
    assert_eq!(job["status"]["executionCount"], Value::Null);
    assert!(world.executions().is_empty());
    assert!(job["vestibule"].is_null());
}

#[test]
fn the_same_again_changes_nothing_and_an_old_version_is_refused() {
    let world = World::new();
    let first = world.create_job(body("job", "work"));
    let run = world.control.run();
    let same = run.replace_job(caller(), place(), "job", members(first.clone())).unwrap();
    assert_eq!(same, first);
    let mut other = first.clone();
    task_spec(&mut other)["maxRetries"] = json!(0);
    let other = run.replace_job(caller(), place(), "job", members(other)).unwrap();
    assert_eq!(other["metadata"]["generation"], 2);
    assert_eq!(other["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(other["spec"]["template"]["spec"]["template"]["spec"]["maxRetries"], 0);
    let stale = run.replace_job(caller(), place(), "job", members(first)).unwrap_err();
    assert!(matches!(stale, Error::Aborted { .. }), "{stale}");
    let twice = run.create_job(caller(), place(), members(body("job", "work"))).unwrap_err();
    assert!(matches!(twice, Error::AlreadyExists { .. }), "{twice}");
}

#[test]
fn what_a_job_must_not_say_is_refused() {
    let world = World::new();
    let refused = |edit: &dyn Fn(&mut Value)| {
        let mut body = body("job", "work");
        edit(&mut body);
        world.refused_job(body)
    };
    for (text, edit) in [
        (
            "metadata.labels",
            &(|job: &mut Value| job["metadata"]["labels"] = json!({"Team": "x"})) as &dyn Fn(&mut Value),
        ),
        (
            "taskCount",
            &(|job: &mut Value| job["spec"]["template"]["spec"]["taskCount"] = json!(10_001))
                as &dyn Fn(&mut Value),
        ),
        ("maxRetries", &|job| task_spec(job)["maxRetries"] = json!(11)),
        ("timeoutSeconds", &|job| task_spec(job)["timeoutSeconds"] = json!(604_801)),
        ("timeoutSeconds", &|job| task_spec(job)["timeoutSeconds"] = json!("soon")),
        ("ports", &|job| task_spec(job)["containers"][0]["ports"] = json!([{"containerPort": 8080}])),
        ("CLOUD_RUN_TASK_INDEX", &|job| {
            task_spec(job)["containers"][0]["env"] = json!([{"name": "CLOUD_RUN_TASK_INDEX", "value": "1"}]);
        }),
        ("containers", &|job| task_spec(job)["containers"] = json!([])),
        ("given twice", &|job| {
            task_spec(job)["containers"] = json!([{"image": "a", "name": "a"}, {"image": "b", "name": "a"}]);
        }),
        ("startupProbe.tcpSocket.port", &|job| {
            task_spec(job)["containers"][0]["startupProbe"] = json!({"tcpSocket": {}});
        }),
        ("run.jobs.template.delayExecution", &|job| {
            job["spec"]["template"]["spec"]["delayExecution"] = json!(true);
        }),
        ("run.jobs.template.containers.livenessProbe", &|job| {
            task_spec(job)["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"port": 1}});
        }),
        ("startExecutionToken", &|job| job["spec"]["startExecutionToken"] = json!("No")),
        ("kind", &|job| job["kind"] = json!("Service")),
        ("name", &|job| job["metadata"]["name"] = json!("Bad")),
    ] {
        let error = refused(edit);
        assert!(error.contains(text), "{text}: {error}");
    }
}

#[test]
fn an_execution_goes_from_start_to_end() {
    let world = World::new();
    let mut job = body("job", "work");
    job["spec"]["template"]["spec"]["taskCount"] = json!(3);
    job["spec"]["template"]["spec"]["parallelism"] = json!(2);
    task_spec(&mut job)["timeoutSeconds"] = json!(90);
    world.create_job(job);
    let name = world.run_job("job", json!(null));
    assert!(name.starts_with("job-") && name.len() == "job-".len() + 5, "{name}");

    let wanted = world.executions();
    let [wanted] = wanted.as_slice() else { panic!("{wanted:?}") };
    assert_eq!((wanted.task_count, wanted.parallelism, wanted.max_retries), (3, 2, 3));
    assert_eq!(wanted.timeout, Duration::from_secs(90));
    assert_eq!((&*wanted.key.job, &*wanted.key.name), ("job", name.as_str()));
    assert_eq!(wanted.containers[0].image, "work");
    assert!(wanted.containers[0].startup_probe.is_none());
    assert_eq!(&*wanted.project_number, NUMBER);

    let execution = world.execution(&name);
    assert_eq!(condition(&execution, "Completed").0, "Unknown");
    assert_eq!(condition(&execution, "Started").0, "Unknown");
    assert_eq!(execution["metadata"]["labels"]["run.googleapis.com/servingState"], "Active");
    assert_eq!(execution["metadata"]["ownerReferences"][0]["name"], "job");
    let latest = world.job("job")["status"]["latestCreatedExecution"].clone();
    assert_eq!((&latest["name"], &latest["completionStatus"]), (&json!(name), &json!("EXECUTION_PENDING")));

    let key = wanted.key.clone();
    world.tell(&key, vec![(0, 0, TaskState::Running), (1, 0, TaskState::Running)]);
    let execution = world.execution(&name);
    assert_eq!(execution["status"]["runningCount"], 2);
    assert_eq!(condition(&execution, "Started").0, "True");
    assert_eq!(world.job("job")["status"]["latestCreatedExecution"]["completionStatus"], "EXECUTION_RUNNING");

    world.tell(&key, vec![(0, 0, succeeded()), (1, 1, TaskState::Running), (2, 0, TaskState::Running)]);
    world.tell(&key, vec![(1, 1, succeeded()), (2, 0, succeeded())]);
    world.over(&key);
    let execution = world.execution(&name);
    let status = &execution["status"];
    assert_eq!((&status["succeededCount"], &status["retriedCount"]), (&json!(3), &json!(1)));
    assert_eq!(status["runningCount"], Value::Null);
    let (completed, _, message) = condition(&execution, "Completed");
    assert_eq!(completed, "True");
    assert!(message.starts_with("Execution completed successfully in 2."), "{message}");
    assert!(execution["metadata"]["labels"]["run.googleapis.com/servingState"].is_null());
    let job = world.job("job");
    assert_eq!(job["status"]["executionCount"], 1);
    assert_eq!(job["status"]["latestCreatedExecution"]["completionStatus"], "EXECUTION_SUCCEEDED");
    assert!(world.executions().is_empty());
}

#[test]
fn an_execution_fails_when_a_task_does() {
    let world = World::new();
    let mut job = body("job", "work");
    job["spec"]["template"]["spec"]["taskCount"] = json!(2);
    world.create_job(job);
    let name = world.run_job("job", json!(null));
    let key = world.key(&name);
    world.tell(&key, vec![(1, 3, failed("The container exited with an error.")), (0, 0, succeeded())]);
    // Not yet: the other task is still to end.
    assert_eq!(condition(&world.execution(&name), "Completed").0, "Unknown");
    world.over(&key);
    assert_eq!(
        condition(&world.execution(&name), "Completed"),
        (
            "False",
            "NonZeroExitCode",
            format!("Task {name}-task1 failed with message: The container exited with an error.").as_str()
        )
    );
    let run = world.control.run();
    let task = run.task(place(), &format!("{name}-task1")).unwrap();
    assert_eq!(task["metadata"]["labels"]["run.googleapis.com/runningState"], "Failed");
    let status = &task["status"];
    assert_eq!((&status["index"], &status["retried"]), (&json!(1), &json!(3)));
    assert_eq!(status["lastAttemptResult"]["exitCode"], 3);
    assert_eq!(condition(&task, "Completed").0, "False");
    assert_eq!(task["spec"]["containers"][0]["image"], "work");
    for missing in ["task2", "task01", "task", "task-1"] {
        assert!(run.task(place(), &format!("{name}-{missing}")).is_err(), "{missing}");
    }
    let select = |selector: &str| {
        let items = run.tasks(place(), selector).unwrap().items;
        items.iter().map(|task| task["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(select(""), [format!("{name}-task0"), format!("{name}-task1")]);
    let states = "run.googleapis.com/runningState in (Succeeded,Failed)";
    assert_eq!(select(&format!("run.googleapis.com/execution = {name},{states}")).len(), 2);
    assert_eq!(
        select(&format!("run.googleapis.com/execution = {name},run.googleapis.com/runningState in (Failed)"))
            .len(),
        1
    );
    assert!(select("run.googleapis.com/execution = other").is_empty());
}

#[test]
fn a_run_may_differ_from_its_job() {
    let world = World::new();
    let mut job = body("job", "work");
    task_spec(&mut job)["containers"][0] = json!({
        "image": "work", "args": ["old"],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    });
    world.create_job(job);
    let name = world.run_job(
        "job",
        json!({"taskCount": 4, "timeoutSeconds": 7, "containerOverrides": [
            {"name": "work-1", "args": ["x", "y"], "env": [{"name": "B", "value": "9"}, {"name": "C", "value": "3"}]},
        ]}),
    );
    let executions = world.executions();
    let wanted = executions.iter().find(|wanted| *wanted.key.name == *name).unwrap();
    assert_eq!((wanted.task_count, wanted.timeout), (4, Duration::from_secs(7)));
    assert_eq!(wanted.containers[0].args, ["x", "y"]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(wanted.containers[0].env, [pair("A", "1"), pair("B", "9"), pair("C", "3")]);
    // The job stays as it was.
    assert_eq!(world.job("job")["spec"]["template"]["spec"]["taskCount"], 1);

    let cleared = world.run_job("job", json!({"containerOverrides": [{"clearArgs": true}]}));
    let executions = world.executions();
    let wanted = executions.iter().find(|wanted| *wanted.key.name == *cleared).unwrap();
    assert!(wanted.containers[0].args.is_empty());
    for bad in [
        json!({"containerOverrides": [{"name": "other", "args": ["x"]}]}),
        json!({"containerOverrides": [{"clearArgs": true, "args": ["x"]}]}),
        json!({"containerOverrides": [{"env": [{"name": "CLOUD_RUN_JOB", "value": "x"}]}]}),
        json!({"taskCount": 10_001}),
        json!({"delayExecution": true}),
    ] {
        let request = members(json!({ "overrides": bad }));
        assert!(world.control.run().run_job(caller(), place(), "job", &request).is_err(), "{request:?}");
    }
}

#[test]
fn what_was_cancelled_says_so() {
    let world = World::new();
    let mut job = body("job", "work");
    job["spec"]["template"]["spec"]["taskCount"] = json!(3);
    world.create_job(job);
    let name = world.run_job("job", json!(null));
    let key = world.key(&name);
    world.tell(&key, vec![(0, 0, succeeded()), (1, 0, TaskState::Running)]);
    let run = world.control.run();
    let execution = run.cancel_execution(caller(), place(), &name).unwrap();
    assert_eq!(condition(&execution, "Completed").1, "Cancelling");
    assert!(world.executions()[0].cancelled);
    world.tell(&key, vec![(1, 0, TaskState::Cancelled { at: SystemTime::now() })]);
    world.over(&key);
    let execution = world.execution(&name);
    assert_eq!(condition(&execution, "Completed").1, "Cancelled");
    assert_eq!(execution["status"]["cancelledCount"], 2);
    assert_eq!(
        world.job("job")["status"]["latestCreatedExecution"]["completionStatus"],
        "EXECUTION_CANCELLED"
    );
    let untouched = run.task(place(), &format!("{name}-task2")).unwrap();
    assert_eq!(untouched["metadata"]["labels"]["run.googleapis.com/runningState"], "Cancelled");
    let again = run.cancel_execution(caller(), place(), &name).unwrap_err();
    assert!(matches!(again, Error::FailedPrecondition { .. }), "{again}");
}

#[test]
fn a_new_runtime_learns_how_far_tasks_were() {
    let world = World::new();
    let mut job = body("job", "work");
    job["spec"]["template"]["spec"]["taskCount"] = json!(12);
    world.create_job(job);
    let name = world.run_job("job", json!(null));
    let key = world.key(&name);
    world.tell(&key, vec![(0, 0, succeeded()), (3, 2, TaskState::Running), (11, 3, failed("no"))]);
    let wanted = desired(&world.control.view());
    let begun: Vec<(u32, Begun)> = wanted[0].begun.clone().into_iter().collect();
    assert_eq!(
        begun,
        [
            (0, Begun { attempt: 0, over: true }),
            (3, Begun { attempt: 2, over: false }),
            (11, Begun { attempt: 3, over: true }),
        ]
    );
}

#[test]
fn deleting_leaves_nothing_behind() {
    let world = World::new();
    world.create_job(body("job", "work"));
    world.create_job(body("other", "work"));
    let run = world.control.run();
    let (first, second) = (world.run_job("job", json!(null)), world.run_job("job", json!(null)));
    let kept = world.run_job("other", json!(null));
    let (one, two) = (world.key(&first), world.key(&second));
    world.tell(&one, vec![(0, 0, TaskState::Running)]);
    world.tell(&two, vec![(0, 0, TaskState::Running)]);
    run.delete_execution(caller(), place(), &first).unwrap();
    // A late report finds nothing to write into.
    world.tell(&one, vec![(0, 0, succeeded())]);
    world.over(&one);
    assert!(run.execution(place(), &first).is_err());
    run.delete_job(caller(), place(), "job").unwrap();
    assert!(run.job(place(), "job").is_err());
    assert!(run.execution(place(), &second).is_err());
    let left: Vec<String> = world.control.view().range("task/").map(|kv| kv.key.to_string()).collect();
    assert!(left.is_empty(), "{left:?}");
    let wanted: Vec<String> = world.executions().iter().map(|e| e.key.name.to_string()).collect();
    assert_eq!(wanted, [kept]);
}

#[test]
fn old_executions_are_forgotten_but_not_those_that_run() {
    let world = World::new();
    world.create_job(body("job", "work"));
    let running = world.run_job("job", json!(null));
    let over: Vec<String> = (0..6)
        .map(|_| {
            let name = world.run_job("job", json!(null));
            let key = world.key(&name);
            world.tell(&key, vec![(0, 0, succeeded())]);
            world.over(&key);
            name
        })
        .collect();
    let left = world.control.run().executions(place(), "run.googleapis.com/job = job").unwrap().items;
    let left: Vec<&str> = left.iter().map(|e| e["metadata"]["name"].as_str().unwrap()).collect();
    assert!(left.contains(&running.as_str()), "{left:?}");
    assert!(left.contains(&over[5].as_str()) && !left.contains(&over[0].as_str()), "{left:?}");
    assert_eq!(world.job("job")["status"]["executionCount"], 7);
    let active = "run.googleapis.com/job = job, run.googleapis.com/servingState = Active";
    assert_eq!(world.control.run().executions(place(), active).unwrap().items.len(), 1);
}

#[test]
fn a_token_begins_an_execution_at_once() {
    let world = World::new();
    let mut job = body("job", "work");
    job["spec"]["runExecutionToken"] = json!("one");
    let job = world.create_job(job);
    assert_eq!(condition(&job, "Ready").0, "Unknown");
    let key = world.key("job-one");
    world.tell(&key, vec![(0, 0, TaskState::Running)]);
    assert_eq!(condition(&world.job("job"), "Ready").0, "Unknown");
    world.tell(&key, vec![(0, 0, failed("no"))]);
    world.over(&key);
    assert_eq!(condition(&world.job("job"), "Ready").0, "False");

    let run = world.control.run();
    let mut next = world.job("job");
    next["spec"] = json!({"template": next["spec"]["template"], "startExecutionToken": "two"});
    let next = run.replace_job(caller(), place(), "job", members(next)).unwrap();
    assert_eq!(condition(&next, "Ready").0, "Unknown");
    world.tell(&world.key("job-two"), vec![(0, 0, TaskState::Running)]);
    let ready = world.job("job");
    assert_eq!(condition(&ready, "Ready"), ("True", "", ""));
    // The same token again is the same execution.
    let again = run.replace_job(caller(), place(), "job", members(ready)).unwrap();
    assert_eq!(again["status"]["executionCount"], 2);
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = World::new();
    let dry = Caller { dry_run: true, ..caller() };
    let run = world.control.run();
    run.create_job(dry, place(), members(body("job", "work"))).unwrap();
    assert!(run.job(place(), "job").is_err());
    world.create_job(body("job", "work"));
    run.run_job(dry, place(), "job", &Document::new()).unwrap();
    run.delete_job(dry, place(), "job").unwrap();
    assert!(world.job("job")["status"]["executionCount"].is_null());
}

#[test]
fn several_containers_wait_for_each_other_in_a_network() {
    let world = World::new();
    let mut body = body("job", "work");
    let template = &mut body["spec"]["template"];
    template["metadata"]["annotations"] = json!({
        "run.googleapis.com/container-dependencies": r#"{"work":["db"]}"#,
        "run.googleapis.com/network-interfaces": r#"[{"network":"n","subnetwork":"s","tags":["t"]}]"#,
        "run.googleapis.com/vpc-access-egress": "all-traffic",
    });
    template["spec"]["template"]["spec"]["containers"] = json!([
        {"image": "work", "name": "work"},
        {"image": "db", "name": "db", "startupProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1}},
    ]);
    world.create_job(body);
    let refused = world.control.run().run_job(
        caller(),
        place(),
        "job",
        &members(json!({"overrides": {"containerOverrides": [{"args": ["x"]}]}})),
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Required field 'overrides.containerOverrides[0].name' not specified"
    );
    world.run_job("job", json!({"containerOverrides": [{"name": "db", "args": ["--fast"]}]}));
    let wanted = world.executions()[0].clone();
    let [work, db] = &*wanted.containers else { panic!("{wanted:?}") };
    assert_eq!((&*work.name, &*work.depends_on), ("work", &["db".to_owned()][..]));
    assert_eq!(db.startup_probe.as_ref().unwrap().kind, ProbeKind::Tcp { port: 5432 });
    assert_eq!((work.args.len(), &*db.args), (0, &["--fast".to_owned()][..]));
    let vpc = wanted.vpc.as_ref().unwrap();
    assert_eq!((&*vpc.subnetwork, &*vpc.tags, vpc.all_traffic), ("s", &["t".to_owned()][..], true));

    // v2 says the same in fields of its own, and what it says comes back unchanged.
    let shown = world.control.run().job_v2(place(), "job").unwrap();
    let task = &shown["template"]["template"];
    assert_eq!(task["containers"][0]["dependsOn"], json!(["db"]));
    let interface = json!({"network": "n", "subnetwork": "s", "tags": ["t"]});
    assert_eq!(task["vpcAccess"], json!({"egress": "ALL_TRAFFIC", "networkInterfaces": [interface]}));
    let before = world.job("job");
    world.control.run().patch_job_v2(caller(), place(), "job", members(shown), false).unwrap();
    assert_eq!(world.job("job")["spec"], before["spec"]);
    assert_eq!(world.job("job")["metadata"]["generation"], before["metadata"]["generation"]);
}
