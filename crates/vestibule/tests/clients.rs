//! Clients under `vm run`: how they end, what they may ask for, and that nothing of them is left.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Stdio};

use world::{Answer, BINARY, World, processes_of, until};

/// A world in this mode with one network, or `None` and a line that says why not.
fn world(mode: &'static str) -> Option<World> {
    let world = World::start_in(if mode == "namespace" { "auto" } else { mode });
    if world.ready("network-mode") != mode {
        println!("not run: this user may make no network namespace here");
        return None;
    }
    world.ok("compute networks create my-vpc --subnet-mode=custom");
    world.ok(
        "compute networks subnets create my-subnet --network=my-vpc --range=10.0.0.0/24 --region=us-central1",
    );
    Some(world)
}

const MODES: [&str; 2] = ["loopback", "namespace"];

/// A client whose shell has printed its first line.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(world: &World, script: &str) -> Running {
        let mut command = world.command(BINARY);
        command.args(["vm", "run", "--network", "my-vpc", "--subnet", "my-subnet", "--", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "{script}");
        Running { child, output }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its end: exit code or 128 and its own signal, and what it said.
    fn end(mut self) -> Answer {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.output.read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap();
        Answer { code, stdout, stderr }
    }
}

/// The addresses that two clients get at the same moment: the second proves that the first is held.
fn address(world: &World) -> String {
    world.vm(&["sh", "-c", "echo $VESTIBULE_VM_ADDRESS"]).stdout.trim().to_owned()
}

fn assert_only_serve_is_left(world: &World) {
    let left = until(|| processes_of(&world.path("")), |left| left == &[world.pid()]);
    assert_eq!(left, [world.pid()], "only the server is left");
}

#[test]
fn the_exit_code_and_the_signals_are_the_commands() {
    for world in MODES.into_iter().filter_map(world) {
        assert_eq!(world.vm(&["sh", "-c", "exit 7"]).code, 7);
        assert_eq!(world.vm(&["sh", "-c", "kill -9 $$"]).code, 137);
        let missing = world.vm(&["./no-such-program"]);
        assert_eq!(missing.code, 127, "{missing:?}");
        assert!(missing.stderr.contains("no-such-program"), "{missing:?}");
        assert_eq!(world.vm(&["/"]).code, 126);
        let script = "trap 'echo terminated; exit 5' TERM; trap 'echo used' USR1; echo up; while :; do sleep 0.02; done";
        let client = Running::start(&world, script);
        client.signal("USR1");
        // The second must not overtake the first.
        std::thread::sleep(std::time::Duration::from_millis(100));
        client.signal("TERM");
        let answer = client.end();
        assert_eq!((answer.code, answer.stdout.as_str()), (5, "used\nterminated\n"), "{answer:?}");
    }
}

#[test]
fn whatever_a_command_started_ends_with_it() {
    let Some(world) = world("namespace") else { return };
    let answer = world.vm(&["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & exit 3"]);
    assert_eq!(answer.code, 3);
    assert_only_serve_is_left(&world);
    let shown = world.vm(&["sh", "-c", "ls -d /proc/[0-9]*"]).stdout;
    if shown.lines().count() > 10 {
        println!("not run: this machine forbids a new view of /proc, and clients see its own");
    }
}

#[test]
fn a_killed_client_leaves_nothing_and_its_address_is_free() {
    for world in MODES.into_iter().filter_map(world) {
        let is_held = world.ready("network-mode") == "namespace";
        // Nobody holds what a command starts in loopback mode: there it is the command itself that stays.
        let script = if is_held { "echo up; sleep 1000" } else { "echo up; exec sleep 1000" };
        let mut client = Running::start(&world, script);
        assert_eq!(address(&world), "10.0.0.3");
        client.child.kill().unwrap();
        client.child.wait().unwrap();
        let again = until(|| address(&world), |address| address == "10.0.0.2");
        assert_eq!(again, "10.0.0.2");
        assert_only_serve_is_left(&world);
    }
}

#[test]
fn a_client_ends_with_serve_and_is_told() {
    for mut world in MODES.into_iter().filter_map(world) {
        let polite =
            Running::start(&world, "trap 'echo told; exit 4' TERM; echo up; while :; do sleep 0.02; done");
        assert_eq!(world.stop().code(), Some(0));
        let answer = polite.end();
        assert_eq!((answer.code, answer.stdout.as_str()), (4, "told\n"), "{answer:?}");
        assert!(answer.stderr.contains("`serve` has ended"), "{answer:?}");

        world.serve();
        let stubborn = Running::start(&world, "trap '' TERM; echo up; exec sleep 1000");
        let gone = Running::start(&world, "echo up; exec sleep 1000");
        world.kill();
        assert_eq!(gone.end().code, 143);
        assert_eq!(stubborn.end().code, 137);
        let left = until(|| processes_of(&world.path("")), Vec::is_empty);
        assert_eq!(left, [0; 0], "nothing is left");

        world.serve();
        assert_eq!(address(&world), "10.0.0.2", "no address is lost");
    }
}

#[test]
fn what_a_client_cannot_have_is_refused_by_name() {
    let Some(world) = world("loopback") else { return };
    world.ok("compute networks subnets create proxies --network=my-vpc --range=10.129.0.0/23 --region=us-central1 --purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE");
    world.ok(
        "compute networks subnets create twice --network=my-vpc --range=10.1.0.0/24 --region=us-central1",
    );
    world.ok(
        "compute networks subnets create twice --network=my-vpc --range=10.2.0.0/24 --region=europe-west1",
    );
    world.ok("compute networks create other --subnet-mode=custom");
    world.ok("compute addresses create shared --region=us-central1 --subnet=my-subnet --addresses=10.0.0.50 --purpose=SHARED_LOADBALANCER_VIP");
    world.ok("compute addresses create kept --region=us-central1 --subnet=my-subnet --addresses=10.0.0.51");
    let _held = Running::start(&world, "echo up; exec sleep 1000");
    for (flags, text) in [
        (
            "--network nope --subnet my-subnet",
            "The network 'projects/demo/global/networks/nope' was not found",
        ),
        (
            "--network my-vpc --subnet nope",
            "Network my-vpc has no subnetwork nope; it has my-subnet, proxies, twice",
        ),
        (
            "--network other --subnet my-subnet",
            "Network other has no subnetwork my-subnet; it has none at all",
        ),
        (
            "--network my-vpc --subnet my-subnet --region europe-west1",
            "Network my-vpc has no subnetwork my-subnet in region europe-west1; it has one in us-central1",
        ),
        ("--network my-vpc --subnet twice", "name the region (europe-west1, us-central1)"),
        ("--network my-vpc --subnet proxies", "must have purpose=PRIVATE"),
        ("--network my-vpc --subnet my-subnet --address 10.0.0.2", "'10.0.0.2' is already being used"),
        ("--network my-vpc --subnet my-subnet --address 10.0.0.50", "'10.0.0.50' is already being used"),
        ("--network my-vpc --subnet my-subnet --address 10.0.0.1", "one of the four that are reserved"),
        ("--network my-vpc --subnet my-subnet --address 10.0.0.254", "one of the four that are reserved"),
        ("--network my-vpc --subnet my-subnet --address 10.7.0.9", "not in the range 10.0.0.0/24"),
        ("--network my-vpc --subnet my-subnet --service-account me", "a service account's email address"),
        ("--network my-vpc --subnet my-subnet --tags Web", "a match of regex"),
    ] {
        let mut command = world.command(BINARY);
        command.args(["vm", "run"]).args(flags.split(' ')).args(["--", "true"]);
        let answer = Answer::of(command.output().unwrap());
        assert_eq!(answer.code, 1, "{flags}: {answer:?}");
        assert!(answer.stderr.contains(text), "{flags}\n{}wanted: {text}", answer.stderr);
    }
    let mut command = world.command(BINARY);
    command.args(["vm", "run", "--network", "my-vpc", "--subnet", "twice", "--region", "europe-west1"]);
    command.args(["--address", "10.2.0.77", "--service-account", "a@demo.iam.gserviceaccount.com", "--"]);
    command.args(["sh", "-c", "echo $VESTIBULE_VM_ADDRESS"]);
    let answer = Answer::of(command.output().unwrap());
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "10.2.0.77\n"), "{answer:?}");
    let mut command = world.command(BINARY);
    command.args(["vm", "run", "--network=my-vpc", "--subnet=my-subnet", "--address=10.0.0.51", "--"]);
    command.args(["sh", "-c", "echo $VESTIBULE_VM_ADDRESS"]);
    let answer = Answer::of(command.output().unwrap());
    assert_eq!(answer.stdout, "10.0.0.51\n", "a reservation for clients is for clients: {answer:?}");
}

#[test]
fn links_have_the_networks_mtu() {
    let Some(world) = world("namespace") else { return };
    let mtu = |world: &World| world.vm(&["cat", "/sys/class/net/eth0/mtu"]).stdout.trim().to_owned();
    assert_eq!(mtu(&world), "1460");
    world.ok("compute networks update my-vpc --mtu=1500 --quiet");
    assert_eq!(mtu(&world), "1500");
}
