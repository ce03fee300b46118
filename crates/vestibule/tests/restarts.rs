//! A `serve` that is killed in the middle of everything leaves nothing, and the next one starts as if nothing had been.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use world::{BINARY, World, processes_of, until};

/// How often it is killed: `VESTIBULE_TEST_CYCLES`, or this.
const CYCLES: usize = 3;
const CLIENTS: usize = 20;

fn cycles() -> usize {
    std::env::var("VESTIBULE_TEST_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(CYCLES)
}

/// Clients that have their address and stay.
fn clients(world: &World) -> (Vec<Child>, BTreeSet<String>) {
    let start = |_| {
        let mut command = world.command(BINARY);
        command.args(["vm", "run", "--network", "my-vpc", "--subnet", "my-subnet", "--", "sh", "-c"]);
        command.arg("echo $VESTIBULE_VM_ADDRESS; exec sleep 1000");
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut children: Vec<Child> = (0..CLIENTS).map(start).collect();
    let address = |child: &mut Child| {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    let addresses = children.iter_mut().map(address).collect();
    (children, addresses)
}

/// What the machine has of the kinds of things that a network is made of.
#[derive(Debug, PartialEq)]
struct Machine {
    links: String,
    mounts: usize,
    tables: String,
    control_groups: usize,
}

impl Machine {
    /// `state` tells ours from those of others who test at the same time.
    fn look(state: &Path) -> Machine {
        let output = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        };
        let state = state.display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        Machine {
            links: std::fs::read_to_string("/proc/net/dev")
                .unwrap()
                .lines()
                .filter_map(|l| l.split_once(':'))
                .map(|l| l.0.trim().to_owned() + " ")
                .collect(),
            mounts: mounts.lines().filter(|line| line.contains(&state)).count(),
            tables: output("nft", &["list", "tables"]),
            control_groups: groups(Path::new("/sys/fs/cgroup"), &state, 4),
        }
    }
}

/// Control groups that hold processes of this state folder, or none at all and bear our name.
fn groups(folder: &Path, state: &str, depth: usize) -> usize {
    if depth == 0 {
        return 0;
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .map(|entry| {
            let own = usize::from(is_of(&entry.path(), state));
            own + groups(&entry.path(), state, depth - 1)
        })
        .sum()
}

fn is_of(group: &Path, state: &str) -> bool {
    let processes = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let named = group.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vestibule"));
    let of_state = |pid: &str| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(state)
    };
    named && processes.lines().any(of_state)
}

/// Files of the state folder that are not its store, its logs or its images.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => folders.push(entry.path()),
                false => drop(found.insert(entry.path().display().to_string())),
            }
        }
    }
    found
}

fn no_process_is_left(world: &World, cycle: usize) {
    let left = until(|| processes_of(&world.path("")), Vec::is_empty);
    assert_eq!(
        left,
        [0; 0],
        "cycle {cycle}: processes are left: {:?}",
        left.iter().map(|pid| command_of(*pid)).collect::<Vec<_>>()
    );
}

fn command_of(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
        .replace('\0', " ")
}

#[test]
fn a_killed_serve_leaves_nothing_and_loses_no_address() {
    let mut world = World::start_in("auto");
    let mode = world.ready("network-mode").to_owned();
    if mode != "namespace" {
        println!("not run in namespace mode: this user may make no network namespace here");
    }
    world.published_setup();
    world.ok("run services add-iam-policy-binding my-internal-service --region=us-central1 --member=allUsers --role=roles/run.invoker");
    assert_eq!(world.get("http://10.0.0.100/", &[]).0, 200, "with an instance");
    world.kill();
    no_process_is_left(&world, 0);
    let before = Machine::look(&world.path("state"));
    let run_before = files(&world.path("state/run"));
    let expected: BTreeSet<String> = (2..2 + CLIENTS).map(|host| format!("10.0.0.{host}")).collect();
    for cycle in 1..=cycles() {
        world.serve();
        let (mut children, addresses) = clients(&world);
        assert_eq!(addresses, expected, "cycle {cycle}: addresses are lost");
        assert_eq!(world.get("http://10.0.0.100/", &[]).0, 200, "cycle {cycle}");
        world.kill();
        for child in &mut children {
            child.wait().unwrap();
        }
        no_process_is_left(&world, cycle);
        assert_eq!(Machine::look(&world.path("state")), before, "cycle {cycle}");
    }
    let more: Vec<String> = files(&world.path("state/run")).difference(&run_before).cloned().collect();
    assert!(more.len() <= run_before.len() + CLIENTS, "files pile up: {more:#?}");
    println!("{} cycles with {CLIENTS} clients in {mode} mode", cycles());
}

#[test]
fn another_serve_is_left_alone() {
    let mut killed = World::start();
    let other = World::start();
    for world in [&killed, &other] {
        world.published_setup();
        world.ok("run services add-iam-policy-binding my-internal-service --region=us-central1 --member=allUsers --role=roles/run.invoker");
        assert_eq!(world.get("http://10.0.0.100/", &[]).0, 200);
    }
    let of_other = processes_of(&other.path(""));
    assert!(of_other.len() > 1, "it has an instance");
    killed.kill();
    killed.serve();
    assert_eq!(killed.get("http://10.0.0.100/", &[]).0, 200);
    assert_eq!(processes_of(&other.path("")), of_other, "the other's processes");
    assert_eq!(other.get("http://10.0.0.100/", &[]).0, 200);
}
