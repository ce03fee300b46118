//! Instances do not outlive a runtime that is killed, and the next one ends what they left.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::support::{self, hello, revision, runs, runtime, service, until};

const FOLDER: &str = "TEST_ORPHANS_FOLDER";

/// A runtime in a process of its own, to be killed. Tells the instances' processes and that of a child of one.
#[test]
fn role_runtime() {
    let Some(folder) = std::env::var_os(FOLDER).map(std::path::PathBuf::from) else { return };
    if support::is_instance() {
        return;
    }
    let child = folder.join("child");
    let (runtime, _logs) = runtime(&folder, |_, _| {});
    let services = vec![
        service("svc", vec![revision("svc-1", &format!("parent {}", child.display()))]),
        service("hello", vec![hello("hello-1")]),
    ];
    let services = services.into_iter().map(std::sync::Arc::new).collect();
    runtime.apply(vestibule_run::desired::Desired { generation: 1, services, ..Default::default() });
    let _leases = ["svc", "hello"].map(|name| support::acquire(&runtime.front(), name));
    let instances: Vec<_> = runtime.status().iter().map(|status| status.pid.unwrap().to_string()).collect();
    println!("\nPIDS {} {}", instances.join(" "), std::fs::read_to_string(child).unwrap());
    loop {
        std::thread::park();
    }
}

#[test]
fn instances_die_with_a_killed_runtime_and_what_they_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let mut killed = Command::new(std::env::current_exe().unwrap());
    killed.args(["orphans::role_runtime", "--exact", "--nocapture"]).env(FOLDER, folder.path());
    let mut killed = killed.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    let pids =
        lines.map_while(Result::ok).find_map(|line| line.strip_prefix("PIDS ").map(str::to_owned)).unwrap();
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    let [hello, instance, child] = pids[..] else { panic!("{pids:?}") };
    assert!(pids.iter().all(|pid| runs(*pid)));

    killed.kill().unwrap();
    killed.wait().unwrap();
    until("the instance died with its runtime", || !runs(instance) && !runs(hello));
    assert!(runs(child), "nothing is left to sweep");

    let (next, _logs) = runtime(folder.path(), |_, _| {});
    until("what was left is swept", || !runs(child));
    let services = || vec![std::sync::Arc::new(service("svc", vec![revision("svc-1", "ok")]))];
    next.apply(vestibule_run::desired::Desired { generation: 1, services: services(), ..Default::default() });
    drop(support::acquire(&next.front(), "svc"));
    let instance = next.status()[0].pid.unwrap();
    let records = || std::fs::read_dir(folder.path().join("run/processes")).unwrap().count();
    assert_eq!(records(), 1);
    next.shutdown();
    assert!(!support::exists(instance));
    assert_eq!(records(), 0);
}
