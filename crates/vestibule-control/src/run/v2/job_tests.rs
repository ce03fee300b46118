use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use vestibule_run::desired::{ExecutionKey, TaskFailure, TaskReport, TaskState};

use super::super::jobs::record;
use super::super::testing::{NUMBER, World, caller, members, place};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

impl World {
    fn make(&self, job: &str, body: Value) -> Result<Value, Error> {
        self.control.run().create_job_v2(caller(), place(), job, members(body))
    }

    /// Begins an execution; returns its operation's id and its name.
    fn begin(&self, request: Value) -> (String, String) {
        let operation = self.control.run().run_job_v2(caller(), place(), "job", &members(request)).unwrap();
        assert_eq!(operation["done"], Value::Null, "{operation}");
        assert_eq!(operation["metadata"]["@type"], "type.googleapis.com/google.cloud.run.v2.Execution");
        let last = |text: &Value| text.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        (last(&operation["name"]), last(&operation["metadata"]["name"]))
    }

    fn end(&self, execution: &str, state: TaskState) {
        let executions = self.executions();
        let wanted = executions.iter().find(|wanted| *wanted.key.name == *execution).unwrap();
        let execution: ExecutionKey = wanted.key.clone();
        let at = SystemTime::now();
        let task =
            TaskReport::Task { execution: execution.clone(), index: 0, attempt: 0, started: at, state };
        record::record(&self.control, &[task, TaskReport::Over { execution, at }]).unwrap();
    }
}

fn body() -> Value {
    json!({
        "labels": {"team": "a"},
        "annotations": {"mine.example/x": "1"},
        "client": "tool",
        "template": {
            "labels": {"run": "yes"},
            "taskCount": 1,
            "parallelism": 1,
            "template": {
                "containers": [{
                    "image": "work", "command": ["w"], "args": ["-x"], "workingDir": "/srv",
                    "env": [
                        {"name": "A", "value": "1"},
                        {"name": "S", "valueSource": {"secretKeyRef": {"secret": "sec", "version": "2"}}},
                    ],
                    "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }],
                "volumes": [{"name": "v", "emptyDir": {"medium": "MEMORY", "sizeLimit": "1Mi"}}],
                "maxRetries": 0,
                "timeout": "30s",
                "serviceAccount": "sa@demo.iam.gserviceaccount.com",
                "executionEnvironment": "EXECUTION_ENVIRONMENT_GEN2",
            },
        },
    })
}

#[test]
fn a_job_reads_back_as_it_was_written() {
    let world = World::new();
    let operation = world.make("job", body()).unwrap();
    assert_eq!(operation["done"], true, "{operation}");
    assert_eq!(operation["response"]["@type"], "type.googleapis.com/google.cloud.run.v2.Job");
    let job = world.control.run().job_v2(place(), "job").unwrap();
    for (member, value) in body().as_object().unwrap() {
        assert_eq!(job[member], *value, "{member}");
    }
    assert_eq!(job["name"], "projects/demo/locations/us-central1/jobs/job");
    assert_eq!(job["terminalCondition"]["state"], "CONDITION_SUCCEEDED");
    assert_eq!((&job["generation"], &job["observedGeneration"]), (&json!("1"), &json!("1")));
    assert_eq!((&job["reconciling"], &job["executionCount"]), (&Value::Null, &Value::Null));
    let v1 = world.control.run().job(place(), "job").unwrap();
    let task = &v1["spec"]["template"]["spec"]["template"]["spec"];
    assert_eq!(task["timeoutSeconds"], "30");
    assert_eq!(
        task["containers"][0]["env"][1]["valueFrom"]["secretKeyRef"],
        json!({"name": "sec", "key": "2"})
    );
    let all = world.control.run().jobs_v2(place());
    assert_eq!(all, [job]);
}

#[test]
fn a_bare_job_gets_every_default() {
    let world = World::new();
    world.make("job", json!({"template": {"template": {"containers": [{"image": "work"}]}}})).unwrap();
    let job = world.control.run().job_v2(place(), "job").unwrap();
    assert_eq!(
        job["template"],
        json!({
            "taskCount": 1,
            "template": {
                "containers": [{"image": "work", "resources": {"limits": {"cpu": "1000m", "memory": "512Mi"}}}],
                "maxRetries": 3,
                "timeout": "600s",
                "serviceAccount": format!("{NUMBER}-compute@developer.gserviceaccount.com"),
            },
        })
    );
    assert_eq!(job.get("labels"), None);
}

#[test]
fn patching_replaces_and_keeps_what_v2_cannot_say() {
    let world = World::new();
    let run = world.control.run();
    let mut v1 = json!({
        "metadata": {"name": "job", "annotations": {"run.googleapis.com/other": "kept"}},
        "spec": {"template": {"spec": {"template": {"spec": {"containers": [{"image": "work"}]}}}}},
    });
    v1["spec"]["template"]["metadata"] = json!({"annotations": {"run.googleapis.com/more": "kept"}});
    run.create_job(caller(), place(), members(v1)).unwrap();
    let mut job = run.job_v2(place(), "job").unwrap();
    let etag = job["etag"].clone();
    job["template"]["template"]["maxRetries"] = json!(1);
    let patched = run.patch_job_v2(caller(), place(), "job", members(job.clone()), false).unwrap();
    assert_eq!(done(&patched)["template"]["template"]["maxRetries"], 1);
    assert_eq!(done(&patched)["generation"], "2");
    assert_ne!(done(&patched)["etag"], etag);
    let stale = run.patch_job_v2(caller(), place(), "job", members(job), false).unwrap_err();
    assert!(matches!(stale, Error::Aborted { .. }), "{stale}");
    let v1 = run.job(place(), "job").unwrap();
    assert_eq!(v1["metadata"]["annotations"]["run.googleapis.com/other"], "kept");
    assert_eq!(v1["spec"]["template"]["metadata"]["annotations"], json!({"run.googleapis.com/more": "kept"}));
    let fresh = || members(body());
    assert!(run.patch_job_v2(caller(), place(), "new", fresh(), false).is_err());
    done(&run.patch_job_v2(caller(), place(), "new", fresh(), true).unwrap());
}

fn done(operation: &Value) -> &Value {
    assert_eq!(operation["done"], true, "{operation}");
    &operation["response"]
}

#[test]
fn the_operation_of_a_run_is_done_when_the_execution_is() {
    let world = World::new();
    world.make("job", body()).unwrap();
    let run = world.control.run();
    let (operation, execution) = world.begin(json!({"overrides": {
        "timeout": "5s",
        "containerOverrides": [{"args": ["y"], "env": [{"name": "A", "value": "2"}]}],
    }}));
    let wanted = world.executions()[0].clone();
    assert_eq!((wanted.timeout, &wanted.containers[0].args), (Duration::from_secs(5), &vec!["y".to_owned()]));
    let waiting = {
        let (control, operation) = (world.control.clone(), operation.clone());
        std::thread::spawn(move || control.run().wait_v2(place(), &operation, PATIENCE).unwrap())
    };
    world.end(&execution, TaskState::Succeeded { at: SystemTime::now() });
    let waited = waiting.join().unwrap();
    let response = done(&waited);
    assert_eq!(response["@type"], "type.googleapis.com/google.cloud.run.v2.Execution");
    assert_eq!(
        response["name"],
        format!("projects/demo/locations/us-central1/jobs/job/executions/{execution}")
    );
    assert_eq!((&response["succeededCount"], &response["job"]), (&json!(1), &json!("job")));
    assert_eq!(response["conditions"][0]["state"], "CONDITION_SUCCEEDED");
    assert_eq!(response["labels"], json!({"run": "yes"}));
    let tasks = run.tasks_v2(place(), "job", &execution).unwrap();
    let [task] = tasks.as_slice() else { panic!("{tasks:?}") };
    assert_eq!(task["lastAttemptResult"], json!({"status": {}}));
    assert_eq!(*task, run.task_v2(place(), "-", &execution, &format!("{execution}-task0")).unwrap());
    assert!(run.task_v2(place(), "other", &execution, &format!("{execution}-task0")).is_err());
    assert!(run.execution_v2(place(), "other", &execution).is_err());
    assert_eq!(run.executions_v2(place(), "job").unwrap().len(), 1);
    let latest = run.job_v2(place(), "job").unwrap()["latestCreatedExecution"].clone();
    assert_eq!(
        (&latest["name"], &latest["completionStatus"]),
        (&json!(execution), &json!("EXECUTION_SUCCEEDED"))
    );
}

#[test]
fn the_operation_of_a_run_fails_with_the_execution() {
    let world = World::new();
    world.make("job", body()).unwrap();
    let (operation, execution) = world.begin(json!({}));
    let failure = TaskFailure {
        reason: "NonZeroExitCode".to_owned(),
        message: "The container exited with an error.".to_owned(),
        exit_code: None,
        signal: Some(11),
    };
    world.end(&execution, TaskState::Failed { at: SystemTime::now(), failure });
    let run = world.control.run();
    let operation = run.operation_v2(place(), &operation).unwrap();
    assert_eq!(operation["done"], true);
    let message = operation["error"]["message"].as_str().unwrap();
    assert_eq!(
        message,
        format!("Task {execution}-task0 failed with message: The container exited with an error.")
    );
    let shown = run.execution_v2(place(), "job", &execution).unwrap();
    assert_eq!(shown["conditions"][0]["executionReason"], "NON_ZERO_EXIT_CODE");
    let task = run.task_v2(place(), "job", &execution, &format!("{execution}-task0")).unwrap();
    assert_eq!(task["lastAttemptResult"]["termSignal"], 11);
}

#[test]
fn cancelling_and_deleting() {
    let world = World::new();
    world.make("job", body()).unwrap();
    let run = world.control.run();
    let (_, execution) = world.begin(json!({}));
    let wrong = run.cancel_execution_v2(caller(), place(), "job", &execution, Some("\"x\"")).unwrap_err();
    assert!(matches!(wrong, Error::Aborted { .. }), "{wrong}");
    let operation = run.cancel_execution_v2(caller(), place(), "job", &execution, None).unwrap();
    assert_eq!(operation["done"], Value::Null);
    world.end(&execution, TaskState::Cancelled { at: SystemTime::now() });
    let id = operation["name"].as_str().unwrap().rsplit('/').next().unwrap();
    let operation = run.wait_v2(place(), id, PATIENCE).unwrap();
    assert_eq!(operation["done"], true, "{operation}");
    let deleted = run.delete_execution_v2(caller(), place(), "job", &execution, None).unwrap();
    assert!(done(&deleted)["deleteTime"].is_string());
    assert!(run.executions_v2(place(), "job").unwrap().is_empty());
    let deleted = run.delete_job_v2(caller(), place(), "job", None).unwrap();
    assert_eq!(done(&deleted)["@type"], "type.googleapis.com/google.cloud.run.v2.Job");
    assert!(run.executions_v2(place(), "job").is_err());
}

#[test]
fn what_is_not_built_is_named() {
    let world = World::new();
    for (pointer, value, text) in [
        ("/binaryAuthorization", json!({"useDefault": true}), "binaryAuthorization"),
        ("/template/delayExecution", json!(true), "delayExecution"),
        ("/template/template/encryptionKey", json!("k"), "encryptionKey"),
        ("/template/template/volumes/0/nfs", json!({"server": "s"}), "nfs"),
        ("/labels/run.googleapis.com~1x", json!("y"), "labels"),
        ("/template/template/timeout", json!("1.5s"), "timeout"),
        ("/template/template/maxRetries", json!(-1), "template.template.maxRetries"),
    ] {
        let mut body = body();
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[member.replace("~1", "/")] = value;
        let error = world.make("job", body).unwrap_err().to_string();
        assert!(error.contains(text), "{pointer}: {error}");
    }
}
