//! From the start of an instance to its end, and what is left.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vestibule_iam::token::Issuer;
use vestibule_logs::{LogLimits, LogStore};
use vestibule_run::desired::{Container, Desired, Revision, RevisionState, Service, TrafficTarget};
use vestibule_run::driver::container::ContainerDriver;
use vestibule_run::driver::{Driver, Exit, Labels, Owner};
use vestibule_run::front::{Ask, Origin, Target};
use vestibule_run::{Dependencies, MetadataSource, Program, Runtime, RuntimeConfig};

use crate::Test;
use crate::driving::{self, PATIENCE, World, exists, groups_of, helper, until, usual_settings};

/// The word that makes this binary a runtime that is killed.
pub const RUNTIME: &str = "runtime-to-be-killed";

pub const TESTS: &[Test] = &[
    ("ends_as_asked_or_by_force", ends_as_asked_or_by_force),
    ("everything_in_it_ends_with_it", everything_in_it_ends_with_it),
    ("output_and_exit_codes", output_and_exit_codes),
    ("what_cannot_be_started_leaves_nothing", what_cannot_be_started_leaves_nothing),
    ("a_killed_runtime_leaves_nothing_running", a_killed_runtime_leaves_nothing_running),
    ("a_revision_is_deployed_and_serves", a_revision_is_deployed_and_serves),
    ("the_metadata_server_is_where_google_has_it", the_metadata_server_is_where_google_has_it),
];

fn ends_as_asked_or_by_force() {
    let world = World::new();
    let mut polite = world.serve(&world.order("polite"));
    assert_eq!(world.end(&polite, PATIENCE), Exit::Code(3));
    assert!(polite.output().ends_with("bye\n"));

    // No handler for SIGTERM: it does not have to be waited for.
    let plain = world.serve(&world.order("serve"));
    let start = Instant::now();
    assert_eq!(world.end(&plain, PATIENCE), Exit::Signal(15));
    assert!(start.elapsed() < PATIENCE / 2);

    let stubborn = world.serve(&world.order("stubborn"));
    let pid = stubborn.pid();
    let start = Instant::now();
    assert_eq!(world.end(&stubborn, Duration::from_millis(300)), Exit::Signal(9));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(!exists(pid));
    // Asked again, it has still ended.
    assert_eq!(world.end(&stubborn, PATIENCE), Exit::Signal(9));
}

fn everything_in_it_ends_with_it() {
    let world = World::new();
    let running = world.serve(&world.order("serve"));
    assert_eq!(world.ask(&running, "/orphan"), "ok");
    let children = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(&running.pid().to_string());
        all.filter(|entry| own.is_some() && namespace(&entry.file_name().to_string_lossy()) == own).count()
    };
    assert_eq!(children(), 2);
    let helper = parent(running.pid());
    world.end(&running, PATIENCE);
    assert_eq!(children(), 0);
    assert!(!exists(running.pid()) && !exists(helper), "left running, or a zombie");
    assert_eq!(groups_of(&running.id), 0);
    assert!(world.run(world.driver.list(&Labels::new())).is_empty());

    // Nobody asks for its end: dropping the handle ends it all the same.
    let dropped = world.serve(&world.order("stubborn"));
    let (pid, id) = (dropped.pid(), dropped.id.clone());
    drop(dropped);
    until_run(&world, "the dropped container ends", || !exists(pid) && groups_of(&id) == 0);
}

/// Waits until it is so, while the world's executor runs.
fn until_run(world: &World, what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        world.run(async { tokio::time::sleep(Duration::from_millis(5)).await });
    }
}

fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

fn output_and_exit_codes() {
    let world = World::new();
    let mut ended = world.start(&world.order("exit"));
    assert_eq!(world.exit(&ended), Exit::Code(7));
    assert_eq!(ended.output(), "started exit\n");
    let mut settings = usual_settings();
    settings["User"] = "app".into();
    let container =
        Container { args: vec!["reopen".into()], ..Container::new("app", &world.image(settings)) };
    let order = world.order_of(container);
    let mut running = world.serve(&order);
    // It ends in the middle of the request.
    assert!(world.try_ask(running.started.address, "/exit?5").is_err());
    assert_eq!(world.exit(&running), Exit::Code(5));
    let output = running.output();
    assert!(output.starts_with("started reopen\n") && output.contains("reopened\n"), "{output}");
}

fn what_cannot_be_started_leaves_nothing() {
    let world = World::new();
    let image = world.image(usual_settings());
    let with = |command: &str| Container { command: vec![command.into()], ..Container::new("app", &image) };
    for (container, reason, text) in [
        (with("/bin/nothing"), "ContainerCreationError", "failed to run \"/bin/nothing\": No such file"),
        (with("nothing"), "ContainerCreationError", "failed to run \"nothing\": No such file"),
        (with("/etc/passwd"), "ContainerCreationError", "Permission denied"),
        (
            Container::new("app", &world.image(serde_json::json!({}))),
            "ContainerCreationError",
            "names no program",
        ),
        (Container::new("app", "oci:/nowhere"), "ContainerMissing", "Image 'oci:/nowhere' not found."),
    ] {
        let order = world.order_of(container);
        let failure = world.try_start(&order).err().unwrap();
        assert_eq!(failure.reason, reason);
        assert!(failure.message.contains(text), "{}", failure.message);
        assert_eq!(groups_of(&order.instance_id), 0);
        assert!(world.run(world.driver.list(&Labels::new())).is_empty());
    }
}

/// A runtime that keeps one instance, until somebody kills it.
pub fn run_until_killed(folder: &str) -> ! {
    driving::run_until_killed(&ContainerDriver::open(folder.as_ref(), helper()).unwrap())
}

fn a_killed_runtime_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = Command::new(std::env::current_exe().unwrap())
        .args([RUNTIME, folder.path().to_str().unwrap()])
        // What it cannot remove goes with the folder.
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(runtime.stdout.take().unwrap()), &mut line)
        .unwrap();
    let (id, pid) = line.trim().split_once(' ').unwrap();
    let pid: u32 = pid.parse().unwrap();
    assert!(exists(pid));
    runtime.kill().unwrap();
    runtime.wait().unwrap();
    until("the container ends", || {
        !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    });
    // The next runtime finds what is left: a record and control groups.
    let driver = ContainerDriver::open(folder.path(), helper()).unwrap();
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let listed = driver.list(&Labels::new()).await;
        assert_eq!(listed.len(), 1);
        assert!(listed[0].left_behind && listed[0].instance_id == id);
        driver.remove(id).await;
        assert!(driver.list(&Labels::new()).await.is_empty());
    });
    assert_eq!(groups_of(id), 0);
}

/// A whole runtime over the driver.
struct Whole {
    runtime: Runtime,
    world: World,
    _logs: LogStore,
}

impl Whole {
    fn new(metadata: Option<Arc<dyn MetadataSource>>) -> Self {
        let world = World::new();
        let logs = LogStore::open(&world.folder.path().join("logs"), LogLimits::default()).unwrap();
        let nothing = || Program { path: "/nonexistent".into(), args: Vec::new() };
        let mut config = RuntimeConfig::new(world.folder.path().to_owned(), nothing(), nothing());
        config.shutdown_grace = Duration::from_millis(500);
        let dependencies = Dependencies {
            verifier: Issuer::open(&world.folder.path().join("keys")).unwrap().verifier(),
            logs: logs.sink(),
            metadata,
            networks: None,
            containers: Some(world.driver.clone()),
            secrets: None,
        };
        Self { runtime: Runtime::start(config, dependencies).unwrap(), world, _logs: logs }
    }

    fn deploy(&self, container: Container) -> RevisionState {
        let probe = container.startup_probe.clone();
        let mut revision = Revision { proven: false, ..Revision::new("svc-00001-abc", container) };
        if probe.is_some() {
            revision.container.startup_probe = probe;
        }
        let traffic = vec![TrafficTarget { revision: revision.name.clone(), percent: 100, tag: None }];
        let service = Service { traffic, ..driving::service("svc", vec![Arc::new(revision)]) };
        let reports = self.runtime.reports();
        self.runtime.apply(Desired {
            generation: 1,
            services: vec![Arc::new(service)],
            ..Desired::default()
        });
        let end = Instant::now() + PATIENCE;
        loop {
            let report =
                reports.recv_timeout(end.saturating_duration_since(Instant::now())).expect("no report");
            if report.state != RevisionState::Deploying {
                return report.state;
            }
        }
    }

    /// One request, through the front.
    fn ask(&self, path: &str) -> String {
        let target = Target::Service { project: "demo", region: "us-central1", service: "svc", tag: None };
        let ask = Ask {
            target,
            origin: Origin::InternalLoadBalancer,
            authorization: None,
            serverless_authorization: None,
            path,
            cookies: None,
        };
        let admitted = self.runtime.front().admit(&ask).unwrap();
        self.world.run(async {
            let lease = admitted.acquire(tokio::time::Instant::now().into_std() + PATIENCE).await.unwrap();
            driving::ask(lease.address, path).await.unwrap()
        })
    }
}

fn a_revision_is_deployed_and_serves() {
    let whole = Whole::new(None);
    let image = whole.world.image(usual_settings());
    let state = whole.deploy(Container::new("app", &image));
    let RevisionState::Ready { image_digest } = state else { panic!("{state:?}") };
    assert!(image_digest.starts_with(&format!("{image}@sha256:")), "{image_digest}");
    assert_eq!(whole.ask("/"), "hello");
    let environment = whole.ask("/env");
    for variable in ["K_SERVICE=svc", "K_REVISION=svc-00001-abc", "K_CONFIGURATION=svc", "PORT=8080"] {
        assert!(environment.lines().any(|line| line == variable), "{environment}");
    }
    let status = whole.runtime.status();
    assert_eq!(status.len(), 1);
    let pid = status[0].pid.unwrap();
    whole.runtime.shutdown();
    assert!(!exists(pid));

    let whole = Whole::new(None);
    let state = whole.deploy(Container::new("app", "oci:/nowhere"));
    let RevisionState::Failed { reason, message } = state else { panic!("{state:?}") };
    assert_eq!((&*reason, &*message), ("ContainerMissing", "Image 'oci:/nowhere' not found."));

    // It runs and never listens.
    let whole = Whole::new(None);
    let mut container = Container {
        args: vec!["sleep".into()],
        ..Container::new("app", &whole.world.image(usual_settings()))
    };
    let mut probe = vestibule_run::desired::Probe::default_tcp(8080);
    (probe.period, probe.timeout) = (Duration::from_millis(300), Duration::from_millis(300));
    container.startup_probe = Some(probe);
    let state = whole.deploy(container);
    let RevisionState::Failed { reason, .. } = state else { panic!("{state:?}") };
    assert_eq!(reason, "HealthCheckContainerError");
    whole.runtime.shutdown();
}

/// A metadata server that answers with one word.
struct Metadata(String);

impl MetadataSource for Metadata {
    fn open(&self, _: &str, _: &Owner) -> Option<String> {
        Some(self.0.clone())
    }

    fn close(&self, _: &str) {}
}

fn the_metadata_server_is_where_google_has_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.0 200 OK\r\n\r\nmetadata");
        }
    });
    let whole = Whole::new(Some(Arc::new(Metadata(address))));
    let state = whole.deploy(Container::new("app", &whole.world.image(usual_settings())));
    assert!(matches!(state, RevisionState::Ready { .. }), "{state:?}");
    assert!(whole.ask("/env").contains("GCE_METADATA_HOST=169.254.169.254\n"));
    assert!(whole.ask("/read?/etc/hosts").contains("169.254.169.254\tmetadata.google.internal"));
    assert!(whole.ask("/connect?169.254.169.254:80").ends_with("metadata"));
    whole.runtime.shutdown();
}
