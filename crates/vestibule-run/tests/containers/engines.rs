//! The same over an engine: Docker's own, started here for the purpose if there is none.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vestibule_run::desired::Container;
use vestibule_run::driver::docker::DockerDriver;
use vestibule_run::driver::{Contents, Driver as _, Exit, File, Labels, Mounted, Share};

use crate::Test;
use crate::driving::{self, PATIENCE, World, exists, inside, limits, until, usual_settings};
use crate::engine::Engine;

/// The word that makes this binary a runtime that is killed.
pub const RUNTIME: &str = "engine-runtime-to-be-killed";

pub const TESTS: &[Test] = &[
    ("an_engine_keeps_the_contract", an_engine_keeps_the_contract),
    ("an_engine_ends_what_it_is_told_to", an_engine_ends_what_it_is_told_to),
    ("an_engine_says_what_cannot_be_started", an_engine_says_what_cannot_be_started),
    ("containers_of_an_engine_share_network_and_volumes", containers_share),
    ("an_engine_keeps_nothing_of_a_killed_runtime", an_engine_keeps_nothing_of_a_killed_runtime),
];

/// One engine for all tests.
static ENGINE: Mutex<Option<Option<Engine>>> = Mutex::new(None);

/// Ends the engine if it was started here: nothing drops what is static.
pub fn finish() {
    drop(ENGINE.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn with_world(test: impl FnOnce(&World<DockerDriver>, &Path)) {
    let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = engine.get_or_insert_with(Engine::find) {
        test(&World::of_engine(&engine.socket), &engine.socket);
    }
}

fn an_engine_keeps_the_contract() {
    with_world(|world, _| {
        let mut order = world.order("serve");
        order.container.limits = limits("500m", "64Mi");
        let running = world.serve(&order);
        let processors = running.started.handle.processors();
        if rustix::process::geteuid().is_root() {
            let processors = processors.expect("the engine's control groups can be changed");
            processors.allot(Share::Idle);
            processors.allot(Share::Full);
        }
        // It has no link to anywhere, so nobody but this process reaches it.
        let links = std::fs::read_to_string(format!("/proc/{}/net/dev", running.pid())).unwrap();
        let links: Vec<_> = links.lines().skip(2).filter_map(|line| line.trim().split(':').next()).collect();
        assert_eq!(links, ["lo"]);
        let listed = world.run(world.driver.list(&Labels::new()));
        assert_eq!(listed.len(), 1);
        assert_eq!((&*listed[0].instance_id, listed[0].left_behind), (&*running.id, false));
        assert_eq!(listed[0].labels, order.labels());
        assert_eq!(world.end(&running, PATIENCE), Exit::Signal(15));
        assert!(world.run(world.driver.list(&Labels::new())).is_empty());
    });
}

fn an_engine_ends_what_it_is_told_to() {
    with_world(|world, _| {
        let mut polite = world.serve(&world.order("polite"));
        assert_eq!(world.end(&polite, PATIENCE), Exit::Code(3));
        assert!(polite.output().ends_with("bye\n"));
        let stubborn = world.serve(&world.order("stubborn"));
        let pid = stubborn.pid();
        assert_eq!(world.end(&stubborn, Duration::from_millis(300)), Exit::Signal(9));
        assert!(!exists(pid));
        let mut ended = world.start(&world.order("exit"));
        assert_eq!(world.exit(&ended), Exit::Code(7));
        assert_eq!(ended.output(), "started exit\n");
        // Nobody asks for its end: dropping the handle ends it all the same.
        let dropped = world.serve(&world.order("stubborn"));
        let pid = dropped.pid();
        drop(dropped);
        let end = Instant::now() + PATIENCE;
        while exists(pid) || !world.run(world.driver.list(&Labels::new())).is_empty() {
            assert!(Instant::now() < end, "the dropped container stays");
            world.run(async { tokio::time::sleep(Duration::from_millis(5)).await });
        }
    });
}

fn an_engine_says_what_cannot_be_started() {
    with_world(|world, _| {
        let image = world.image(usual_settings());
        let with =
            |command: &str| Container { command: vec![command.into()], ..Container::new("app", &image) };
        for (container, reason, text) in [
            (with("/bin/nothing"), "ContainerCreationError", "failed to run \"/bin/nothing\": No such file"),
            (with("/etc/passwd"), "ContainerCreationError", "Permission denied"),
            (Container::new("app", "oci:/nowhere"), "ContainerMissing", "Image 'oci:/nowhere' not found."),
        ] {
            let failure = world.try_start(&world.order_of(container)).err().unwrap();
            assert_eq!(failure.reason, reason);
            assert!(failure.message.contains(text), "{}", failure.message);
            assert!(world.run(world.driver.list(&Labels::new())).is_empty());
        }
    });
}

fn containers_share() {
    with_world(|world, _| {
        let secret = File { path: "a/key".into(), data: b"hidden".to_vec(), mode: 0o444 };
        let mount = |volume: &str, source: Contents, path: &str| Mounted {
            volume: volume.into(),
            source,
            path: path.into(),
            read_only: false,
            sub_path: String::new(),
        };
        let mounts = vec![
            mount("files", Contents::Files(vec![secret].into()), "/files"),
            mount("memory", Contents::Memory { size_limit: Some(1 << 20) }, "/memory"),
        ];
        let mut first = world.order("serve");
        first.mounts = mounts.clone();
        let running = world.serve(&first);
        let mut second = world.order("sleep");
        (second.instance_id, second.mounts, second.port) = (first.instance_id.clone(), mounts, None);
        let other = world.start(&second);
        assert_eq!(running.started.address.ip(), other.started.address.ip());
        let (pid, other_pid) = (running.pid(), other.pid());
        let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        assert_eq!(network(pid), network(other_pid));
        if rustix::process::geteuid().is_root() {
            let seen = |pid: u32, path: &str| std::fs::read_to_string(format!("/proc/{pid}/root{path}"));
            assert_eq!(seen(other_pid, "/files/a/key").unwrap(), "hidden");
            std::fs::write(format!("/proc/{pid}/root/memory/x"), "shared").unwrap();
            assert_eq!(seen(other_pid, "/memory/x").unwrap(), "shared");
            assert!(std::fs::write(format!("/proc/{pid}/root/files/x"), "").is_err(), "files can be changed");
            let big = std::fs::write(format!("/proc/{pid}/root/memory/y"), vec![0; 2 << 20]);
            assert!(big.is_err(), "the volume has no limit");
        }
        world.end(&running, PATIENCE);
        world.end(&other, Duration::ZERO);
        assert!(world.run(world.driver.list(&Labels::new())).is_empty());
    });
}

/// A runtime that keeps one instance, until somebody kills it.
pub fn run_until_killed(socket: &str, folder: &str) -> ! {
    driving::run_until_killed(&DockerDriver::open_at(socket.as_ref(), folder.as_ref(), &inside()).unwrap())
}

fn an_engine_keeps_nothing_of_a_killed_runtime() {
    with_world(|_, socket| {
        let folder = tempfile::tempdir().unwrap();
        let mut runtime = Command::new(std::env::current_exe().unwrap())
            .args([RUNTIME, &socket.display().to_string(), &folder.path().display().to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(runtime.stdout.take().unwrap()), &mut line)
            .unwrap();
        let (_, pid) = line.trim().split_once(' ').unwrap();
        let pid: u32 = pid.parse().unwrap();
        assert!(exists(pid));
        runtime.kill().unwrap();
        runtime.wait().unwrap();
        // It sees that the runtime is gone, and the engine removes it.
        until("the container ends with its runtime", || !exists(pid));
        let next = DockerDriver::open_at(socket, folder.path(), &inside()).unwrap();
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            let left = executor.block_on(next.list(&Labels::new()));
            assert!(left.iter().all(|listed| listed.left_behind));
            for listed in &left {
                executor.block_on(next.remove(&listed.instance_id));
            }
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "a container stays");
        }
    });
}
