//! Jobs over HTTP, with a runtime behind them that runs every task at once.

use std::collections::HashSet;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use vestibule_control::run::reconcile;
use vestibule_run::desired::{Desired, TaskReport, TaskState};

use crate::testing::World;

const V1: &str = "/apis/run.googleapis.com/v1/namespaces/demo";
const V2: &str = "/v2/projects/demo/locations/us-central1";
/// Longest time that a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct JobWorld {
    world: World,
    _reconciler: reconcile::Reconciler,
}

impl JobWorld {
    fn new() -> JobWorld {
        let world = World::new();
        let control = world.api.deps().control.clone();
        let (tell, reports) = mpsc::channel();
        let seen = Mutex::new(HashSet::new());
        let runtime = move |desired: Desired| {
            for execution in &desired.executions {
                let key = execution.key.clone();
                if !seen.lock().unwrap().insert(key.clone()) {
                    continue;
                }
                let at = SystemTime::now();
                let succeeded = |index| TaskReport::Task {
                    execution: key.clone(),
                    index,
                    attempt: 0,
                    started: at,
                    state: TaskState::Succeeded { at },
                };
                let tasks = (0..execution.task_count).map(succeeded);
                let all: Vec<TaskReport> =
                    tasks.chain([TaskReport::Over { execution: key.clone(), at }]).collect();
                // The other end goes when the world goes.
                let _ = tell.send(all);
            }
        };
        let _reconciler = reconcile::start(control.clone(), runtime).unwrap();
        reconcile::start_task_reports(control, move || reports.recv().unwrap_or_default()).unwrap();
        JobWorld { world, _reconciler }
    }

    fn ok(&self, verb: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.world.send(verb, path, body);
        assert_eq!(status, 200, "{verb} {path}: {answer}");
        answer
    }

    fn status(&self, verb: &str, path: &str, body: Value) -> u16 {
        self.world.send(verb, path, body).0
    }

    /// Reads until what is read is as it should be.
    fn until(&self, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ok("GET", path, Value::Null);
            if fits(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path}: {answer}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[test]
fn a_v1_job_from_creation_to_deletion() {
    let world = JobWorld::new();
    let body = json!({
        "apiVersion": "run.googleapis.com/v1", "kind": "Job",
        "metadata": {"name": "job", "namespace": "demo"},
        "spec": {"template": {"spec": {"taskCount": 12, "template": {"spec": {"containers": [{"image": "work"}]}}}}},
    });
    let made = world.ok("POST", &format!("{V1}/jobs"), body.clone());
    assert_eq!(made["kind"], "Job");
    assert_eq!(world.status("POST", &format!("{V1}/jobs"), body), 409);
    assert_eq!(names(&world.ok("GET", &format!("{V1}/jobs"), Value::Null)), ["job"]);
    let replaced = world.ok("PUT", &format!("{V1}/jobs/job"), made);
    assert_eq!(replaced["metadata"]["generation"], 1);

    let execution = world.ok("POST", &format!("{V1}/jobs/job:run"), json!({}));
    let name = execution["metadata"]["name"].as_str().unwrap().to_owned();
    let path = format!("{V1}/executions/{name}");
    let over = world.until(&path, |execution| execution["status"]["completionTime"].is_string());
    assert_eq!(over["status"]["succeededCount"], 12);
    let listed = world.ok(
        "GET",
        &format!("{V1}/executions?labelSelector=run.googleapis.com%2Fjob%3Djob"),
        Value::Null,
    );
    assert_eq!((names(&listed), &listed["kind"]), (vec![name.as_str()], &json!("ExecutionsList")));
    assert_eq!(listed["apiVersion"], "run.googleapis.com/v1");
    let tasks = format!("{V1}/tasks?labelSelector=run.googleapis.com%2Fexecution%20%3D%20{name}&limit=11");
    let tasks = world.ok("GET", &tasks, Value::Null);
    assert_eq!(names(&tasks)[..3], [0, 1, 2].map(|index| format!("{name}-task{index}")));
    assert!(tasks["metadata"]["continue"].is_string());
    world.ok("GET", &format!("{V1}/tasks/{name}-task11"), Value::Null);
    assert_eq!(world.status("GET", &format!("{V1}/tasks/{name}-task12"), Value::Null), 404);
    assert_eq!(world.status("POST", &format!("{path}:cancel"), json!({})), 400);

    assert_eq!(world.ok("DELETE", &path, Value::Null)["status"], "Success");
    assert_eq!(world.status("GET", &path, Value::Null), 404);
    world.ok("DELETE", &format!("{V1}/jobs/job"), Value::Null);
    assert_eq!(world.status("GET", &format!("{V1}/jobs/job"), Value::Null), 404);
}

#[test]
fn a_v2_run_is_waited_for() {
    let world = JobWorld::new();
    let body = json!({"template": {"template": {"containers": [{"image": "work"}]}}});
    let made = world.ok("POST", &format!("{V2}/jobs?jobId=job"), body);
    assert_eq!(made["done"], true);
    let run = world.ok("POST", &format!("{V2}/jobs/job:run"), json!({"overrides": {"taskCount": 2}}));
    let operation = format!("/v2/{}", run["name"].as_str().unwrap());
    let done = world.until(&operation, |operation| operation["done"] == true);
    assert_eq!(done["response"]["succeededCount"], 2);
    let execution = done["response"]["name"].as_str().unwrap();
    assert!(
        execution.starts_with("projects/demo/locations/us-central1/jobs/job/executions/job-"),
        "{execution}"
    );
    let tasks = world.ok("GET", &format!("/v2/{execution}/tasks"), Value::Null);
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 2);
    world.ok("GET", &format!("/v2/{}", tasks["tasks"][1]["name"].as_str().unwrap()), Value::Null);
    let listed = world.ok("GET", &format!("{V2}/jobs/job/executions"), Value::Null);
    assert_eq!(listed["executions"][0]["name"], execution);
    assert_eq!(world.ok("GET", &format!("{V2}/jobs"), Value::Null)["jobs"][0]["executionCount"], 1);
    let deleted = world.ok("DELETE", &format!("{V2}/jobs/job"), Value::Null);
    assert_eq!(deleted["done"], true);
    assert_eq!(world.status("GET", &format!("/v2/{execution}"), Value::Null), 404);
}

#[test]
fn a_job_has_a_policy() {
    let world = JobWorld::new();
    let body = json!({"template": {"template": {"containers": [{"image": "work"}]}}});
    world.ok("POST", &format!("{V2}/jobs?jobId=job"), body);
    let policy =
        json!({"policy": {"bindings": [{"role": "roles/run.invoker", "members": ["user:a@example.com"]}]}});
    world.ok("POST", &format!("{V2}/jobs/job:setIamPolicy"), policy);
    for path in [
        format!("{V2}/jobs/job:getIamPolicy"),
        "/v1/projects/demo/locations/us-central1/jobs/job:getIamPolicy".to_owned(),
    ] {
        let policy = world.ok("GET", &path, Value::Null);
        assert_eq!(policy["bindings"][0]["role"], "roles/run.invoker", "{path}");
    }
    let held = world.ok(
        "POST",
        &format!("{V2}/jobs/job:testIamPermissions"),
        json!({"permissions": ["run.jobs.run"]}),
    );
    assert_eq!(held["permissions"], json!(["run.jobs.run"]));
    assert_eq!(world.status("GET", &format!("{V2}/jobs/other:getIamPolicy"), Value::Null), 404);
}
