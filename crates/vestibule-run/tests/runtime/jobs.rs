//! Executions of jobs over real processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{self, PATIENCE, World, exists, until};
use vestibule_run::desired::*;
use vestibule_run::reports::TaskReceiver;

const NAME: &str = "job-abcde";

/// An execution of three tasks of the test program in a mode.
fn execution(mode: &str) -> Execution {
    Execution {
        key: ExecutionKey {
            project: "demo".into(),
            region: "us-central1".into(),
            job: "job".into(),
            name: NAME.into(),
        },
        project_number: "123456789012".into(),
        containers: vec![support::revision("unused", mode).container],
        volumes: Vec::new(),
        vpc: None,
        task_count: 3,
        parallelism: 0,
        max_retries: 0,
        timeout: Duration::from_secs(600),
        service_account: "sa@demo.iam.gserviceaccount.com".into(),
        cancelled: false,
        begun: BTreeMap::new(),
    }
}

fn apply(world: &World, generation: u64, executions: Vec<Execution>) {
    let executions = executions.into_iter().map(Arc::new).collect();
    world.runtime.apply(Desired { generation, executions, ..Desired::default() });
}

/// The last state of each task, once the execution is over, with the number of its attempt.
fn outcome(reports: &TaskReceiver) -> BTreeMap<u32, (u32, TaskState)> {
    let mut tasks = BTreeMap::new();
    loop {
        match reports.recv_timeout(PATIENCE).expect("the execution is over some day") {
            TaskReport::Task { index, attempt, state, .. } => drop(tasks.insert(index, (attempt, state))),
            TaskReport::Over { execution, .. } => {
                assert_eq!(&*execution.name, NAME);
                return tasks;
            }
        }
    }
}

fn succeeded(state: &TaskState) -> bool {
    matches!(state, TaskState::Succeeded { .. })
}

#[test]
fn every_task_runs_once_and_not_too_many_at_once() {
    let world = World::new();
    let folder = world.folder.path().join("out");
    std::fs::create_dir(&folder).unwrap();
    let execution =
        Execution { task_count: 7, parallelism: 2, ..execution(&format!("task {}", folder.display())) };
    let reports = world.runtime.task_reports();
    apply(&world, 1, vec![execution.clone()]);
    let tasks = outcome(&reports);
    assert_eq!(tasks.len(), 7);
    assert!(tasks.values().all(|(attempt, state)| *attempt == 0 && succeeded(state)), "{tasks:?}");
    for index in 0..7 {
        let seen = std::fs::read_to_string(folder.join(index.to_string())).unwrap();
        let mut lines = seen.lines();
        let at_once: usize = lines.next().unwrap().parse().unwrap();
        assert!(at_once <= 2, "{at_once} at once");
        let variables: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once('=')).collect();
        let index = index.to_string();
        for (name, value) in [
            ("CLOUD_RUN_JOB", "job"),
            ("CLOUD_RUN_EXECUTION", NAME),
            ("CLOUD_RUN_TASK_INDEX", index.as_str()),
            ("CLOUD_RUN_TASK_ATTEMPT", "0"),
            ("CLOUD_RUN_TASK_COUNT", "7"),
        ] {
            assert_eq!(variables.get(name), Some(&value), "{name}");
        }
        assert!(!variables.contains_key("PORT") && !variables.contains_key("K_SERVICE"));
    }
    // It is over, and stays so however often it is said.
    apply(&world, 2, vec![execution]);
    assert_eq!(reports.recv_timeout(Duration::from_millis(50)), None);

    world.runtime.shutdown();
    let entries = world.entries("resource.type=\"cloud_run_job\" AND textPayload=\"task done\"");
    assert_eq!(entries.len(), 7);
    let labels = &entries[0]["resource"]["labels"];
    assert_eq!((&labels["job_name"], &labels["location"]), (&"job".into(), &"us-central1".into()));
    assert_eq!(entries[0]["labels"]["run.googleapis.com/execution_name"], NAME);
    assert_eq!(entries[0]["labels"]["run.googleapis.com/task_attempt"], "0");
    assert!(entries[0]["labels"]["run.googleapis.com/task_index"].is_string());
    assert!(world.texts("varlog/system").iter().any(|text| text == "Container called exit(0)."));
}

#[test]
fn a_task_that_fails_is_tried_again_so_often() {
    let world = World::new();
    let reports = world.runtime.task_reports();
    apply(&world, 1, vec![Execution { max_retries: 2, ..execution("stubborn 2") }]);
    let tasks = outcome(&reports);
    assert!(tasks.values().all(|(attempt, state)| *attempt == 2 && succeeded(state)), "{tasks:?}");

    apply(&world, 2, Vec::new());
    apply(&world, 3, vec![Execution { max_retries: 1, ..execution("stubborn 2") }]);
    for (attempt, state) in outcome(&reports).values() {
        let TaskState::Failed { failure, .. } = state else { panic!("{state:?}") };
        assert_eq!((*attempt, failure.exit_code, failure.signal), (1, Some(7), None));
        assert_eq!(
            (failure.reason.as_str(), failure.message.as_str()),
            ("NonZeroExitCode", "The container exited with an error.")
        );
    }
}

#[test]
fn what_cannot_run_is_not_tried_again() {
    let world = World::new();
    let reports = world.runtime.task_reports();
    let mut execution = Execution { task_count: 1, max_retries: 3, ..execution("") };
    execution.containers[0].image = "docker.io/library/nothing".into();
    apply(&world, 1, vec![execution]);
    let tasks = outcome(&reports);
    let (attempt, TaskState::Failed { failure, .. }) = &tasks[&0] else { panic!("{tasks:?}") };
    assert_eq!((*attempt, failure.reason.as_str(), failure.exit_code), (0, "ContainerMissing", None));
}

#[test]
fn an_attempt_that_takes_too_long_is_ended() {
    let world = World::new();
    let reports = world.runtime.task_reports();
    let timeout = Duration::from_millis(300);
    apply(&world, 1, vec![Execution { task_count: 1, timeout, ..execution("never") }]);
    let tasks = outcome(&reports);
    let (_, TaskState::Failed { failure, .. }) = &tasks[&0] else { panic!("{tasks:?}") };
    assert_eq!(failure.message, "The configured timeout was reached.");
}

/// A container of the test program in a mode, with a name.
fn container(name: &str, mode: &str, depends_on: &[&str]) -> Container {
    let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
    let container = support::revision("unused", mode).container;
    Container { name: name.into(), depends_on, startup_probe: None, ..container }
}

/// What becomes of a task that has these containers.
fn outcome_of(containers: Vec<Container>, max_retries: u32) -> (World, (u32, TaskState)) {
    let world = World::new();
    let reports = world.runtime.task_reports();
    apply(&world, 1, vec![Execution { task_count: 1, max_retries, containers, ..execution("never") }]);
    let mut tasks = outcome(&reports);
    (world, tasks.remove(&0).unwrap())
}

#[test]
fn a_task_has_succeeded_when_nothing_is_left_to_wait_for() {
    // What others wait for may go on for ever.
    let containers = vec![container("work", "stubborn 0", &["helper"]), container("helper", "never", &[])];
    let (world, (_, state)) = outcome_of(containers, 0);
    assert!(succeeded(&state), "{state:?}");
    assert!(pids(&world).is_empty(), "the helper has ended with the task");
    // Where none waits, all must end well; another attempt is one of all.
    let containers = || vec![container("a", "stubborn 1", &[]), container("b", "stubborn 1", &[])];
    assert!(!succeeded(&outcome_of(containers(), 0).1.1));
    let (_, (attempt, state)) = outcome_of(containers(), 1);
    assert!(attempt == 1 && succeeded(&state), "{state:?}");
}

#[test]
fn any_container_fails_the_task_for_all() {
    for (work, helper) in [("never", "exit"), ("exit", "never")] {
        let containers = vec![container("work", work, &["helper"]), container("helper", helper, &[])];
        let (world, (_, state)) = outcome_of(containers, 0);
        let TaskState::Failed { failure, .. } = state else { panic!("{state:?}") };
        assert_eq!(failure.exit_code, Some(3));
        assert!(pids(&world).is_empty());
    }
}

#[test]
fn a_container_that_never_listens_holds_up_those_that_wait_for_it() {
    let probe = Probe {
        period: Duration::from_millis(50),
        timeout: Duration::from_millis(50),
        failure_threshold: 2,
        ..Probe::default_tcp(1)
    };
    let helper = Container { startup_probe: Some(probe), ..container("helper", "never", &[]) };
    let (_, (_, state)) = outcome_of(vec![container("work", "stubborn 0", &["helper"]), helper], 0);
    let TaskState::Failed { failure, .. } = state else { panic!("{state:?}") };
    assert_eq!(failure.message, "The user-provided container 'helper' failed to start.");
}

/// Process ids of everything that runs the test program for this world.
fn pids(world: &World) -> Vec<u32> {
    let folder = world.folder.path().join("run/processes");
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let record = |file: std::fs::DirEntry| {
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
        record["process"]["pid"].as_u64().map(|pid| pid as u32)
    };
    files.filter_map(record).collect()
}

#[test]
fn a_cancelled_execution_ends_what_runs_and_starts_nothing_more() {
    let world = World::new();
    let reports = world.runtime.task_reports();
    let execution = Execution { parallelism: 2, ..execution("never") };
    apply(&world, 1, vec![execution.clone()]);
    until("two run", || pids(&world).len() == 2);
    let running = pids(&world);
    apply(&world, 2, vec![Execution { cancelled: true, ..execution }]);
    let tasks = outcome(&reports);
    assert_eq!(tasks.len(), 2, "the third never began");
    assert!(tasks.values().all(|(_, state)| matches!(state, TaskState::Cancelled { .. })), "{tasks:?}");
    assert!(!running.iter().any(|pid| exists(*pid)), "left running");
}

#[test]
fn an_execution_that_is_not_wanted_any_more_goes_without_a_word() {
    let world = World::new();
    let reports = world.runtime.task_reports();
    apply(&world, 1, vec![execution("never")]);
    until("all run", || pids(&world).len() == 3);
    while reports.recv_timeout(Duration::from_millis(10)).is_some() {}
    let running = pids(&world);
    apply(&world, 2, Vec::new());
    until("nothing runs", || !running.iter().any(|pid| exists(*pid)));
    assert_eq!(reports.recv_timeout(Duration::from_millis(50)), None);
}

#[test]
fn the_next_runtime_takes_up_what_was_unfinished() {
    let world = World::new();
    let reports = world.runtime.task_reports();
    apply(&world, 1, vec![execution("never")]);
    until("all run", || pids(&world).len() == 3);
    let running = pids(&world);
    world.runtime.shutdown();
    assert!(!running.iter().any(|pid| exists(*pid)), "left running");
    for report in reports.recv_many(100) {
        let TaskReport::Task { state, .. } = report else { panic!("it was not over: {report:?}") };
        assert_eq!(state, TaskState::Running);
    }

    let (next, _logs) = support::runtime(world.folder.path(), |_, _| {});
    let reports = next.task_reports();
    let begun =
        BTreeMap::from([(0, Begun { attempt: 0, over: true }), (1, Begun { attempt: 1, over: false })]);
    let execution = Execution { begun, ..execution("stubborn 1") };
    next.apply(Desired { generation: 1, executions: vec![Arc::new(execution)], ..Desired::default() });
    let tasks = outcome(&reports);
    assert_eq!(tasks.keys().copied().collect::<Vec<_>>(), [1, 2], "what was over is not run again");
    assert!(succeeded(&tasks[&1].1), "{tasks:?}");
    assert!(matches!(tasks[&2], (0, TaskState::Failed { .. })), "{tasks:?}");
}
