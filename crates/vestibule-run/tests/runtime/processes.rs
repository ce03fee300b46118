//! The runtime over real processes: deploying, serving, failing, ending.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::client::{get, get_async};
use crate::support::{self, World, admit, exists, hello, revision, service, until};
use vestibule_run::desired::{Container, Probe, ProbeKind, Revision, RevisionState};
use vestibule_run::driver::Owner;
use vestibule_run::front::{Cause, Lease};
use vestibule_run::{InstanceState, MetadataSource};

fn unproven(revision: Revision) -> Revision {
    Revision { proven: false, ..revision }
}

/// A revision with another ingress container.
fn with(mut revision: Revision, change: impl FnOnce(&mut Container)) -> Revision {
    change(&mut revision.container);
    revision
}

#[test]
fn the_sample_service_is_deployed_and_answers() {
    let world = World::new();
    world.apply(1, vec![service("svc", vec![unproven(hello("svc-00001-abc"))])]);
    let ready = RevisionState::Ready { image_digest: "gcr.io/cloudrun/hello:latest".into() };
    assert_eq!(world.outcome("svc-00001-abc"), ready);
    let lease = world.acquire("svc");
    let status = world.status();
    assert_eq!(status.len(), 1);
    assert_eq!((status[0].state, status[0].in_flight), (InstanceState::Ready, 1));
    assert_eq!((status[0].address, &status[0].id), (Some(lease.address), &lease.instance_id));

    let (status_code, body) = get(lease.address, "/any/path?q=1").unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status_code, 200);
    for (name, value) in [
        ("service", "svc"),
        ("revision", "svc-00001-abc"),
        ("project", "demo"),
        ("region", "us-central1"),
        ("path", "/any/path?q=1"),
        ("method", "GET"),
    ] {
        assert_eq!(body[name], value, "{body}");
    }
    assert_eq!(body["headers"]["host"], "test");

    drop(lease);
    let pid = status[0].pid.unwrap();
    assert!(exists(pid));
    world.runtime.shutdown();
    assert!(!exists(pid), "left running, or a zombie");
    assert!(world.status().is_empty());
    assert!(world.reports.is_closed());
    let said = world.texts("varlog/system").join("\n");
    assert!(said.contains("Starting new instance. Reason: DEPLOYMENT_ROLLOUT"), "{said}");
    assert!(said.contains(
        "Default STARTUP TCP probe succeeded after 1 attempt for container \"app-1\" on port 8080."
    ));
    assert!(world.texts("stdout").iter().any(|line| line.contains("Hello from Cloud Run!")));
}

#[test]
fn a_proven_revision_waits_for_its_first_request() {
    let world = World::new();
    world.apply(1, vec![service("svc", vec![hello("svc-1")])]);
    assert!(world.status().is_empty());
    let front = world.runtime.front();
    let start = Instant::now();
    let lease = world.acquire("svc");
    let took = start.elapsed();
    assert!(admit(&front, "svc").try_acquire().is_some(), "the second request finds it ready");
    drop(lease);
    assert_eq!(world.reports.try_recv(), None);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// 1,000 requests at once to a service at zero: every one is answered, no instance has too many at once.
#[test]
fn a_burst_from_zero() {
    const REQUESTS: usize = 1_000;
    let world = World::new();
    world.apply(1, vec![service("svc", vec![revision("svc-1", "ok")])]);
    let front = world.runtime.front();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let load: Arc<Mutex<BTreeMap<Arc<str>, u32>>> = Arc::default();
    let answers = runtime.block_on(async {
        let ask = |_| {
            let (front, load) = (front.clone(), load.clone());
            tokio::spawn(async move {
                let lease: Lease =
                    admit(&front, "svc").acquire(Instant::now() + support::PATIENCE).await.unwrap();
                let id = lease.instance_id.clone();
                let at_once = {
                    let mut load = load.lock().unwrap();
                    let count = load.entry(id.clone()).or_default();
                    *count += 1;
                    *count
                };
                let answer = get_async(lease.address, "/wait/20").await;
                *load.lock().unwrap().get_mut(&id).unwrap() -= 1;
                drop(lease);
                (answer, at_once)
            })
        };
        let tasks: Vec<_> = (0..REQUESTS).map(ask).collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.unwrap());
        }
        answers
    });
    for (answer, at_once) in &answers {
        assert_eq!(answer.as_ref().unwrap().0, 200);
        assert!(*at_once <= 80, "{at_once} at once");
    }
    assert!(world.status().len() <= 13, "{} instances", world.status().len());
    assert!(world.status().iter().all(|status| status.in_flight == 0));
}

#[test]
fn programs_that_do_not_start_are_told() {
    let world = World::new();
    let soon =
        Probe { period: Duration::from_secs(1), timeout: Duration::from_secs(1), ..Probe::default_tcp(8080) };
    let never = with(unproven(revision("never-1", "never")), |c| c.startup_probe = Some(soon));
    let broken = vec![
        service("exit", vec![unproven(revision("exit-1", "exit"))]),
        service("never", vec![never]),
        service(
            "absent",
            vec![unproven(with(revision("absent-1", ""), |c| c.image = "process:/does/not/exist".into()))],
        ),
        service(
            "image",
            vec![unproven(with(revision("image-1", ""), |c| c.image = "docker.io/library/nginx".into()))],
        ),
    ];
    world.apply(1, broken);
    let mut outcomes = BTreeMap::new();
    until("all are told", || {
        outcomes.extend(world.reports.try_recv().map(|report| (report.revision.to_string(), report.state)));
        outcomes.len() == 4 && outcomes.values().all(|state| *state != RevisionState::Deploying)
    });
    for (revision, expected) in [
        ("exit-1", "HealthCheckContainerError"),
        ("never-1", "HealthCheckContainerError"),
        ("absent-1", "HealthCheckContainerError"),
        ("image-1", "ContainerMissing"),
    ] {
        let RevisionState::Failed { reason, message } = &outcomes[revision] else {
            panic!("{revision} is ready")
        };
        assert_eq!(reason, expected, "{revision}: {message}");
    }
    let RevisionState::Failed { message, .. } = &outcomes["image-1"] else { unreachable!() };
    assert!(message.starts_with("Image 'docker.io/library/nginx' not found."), "{message}");

    until("all are gone", || world.status().is_empty());
    let front = world.runtime.front();
    let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for name in ["exit", "never", "absent", "image"] {
        let refusal =
            bare.block_on(admit(&front, name).acquire(Instant::now() + support::PATIENCE)).unwrap_err();
        assert_eq!((refusal.status, refusal.cause), (503, Cause::StartFailed), "{name}");
        assert_eq!(&*refusal.service.unwrap().key.name, name);
    }
    let said = world.texts("varlog/system").join("\n");
    assert!(said.contains("Container called exit(3)."), "{said}");
    assert!(said.contains("Container called exit(127)."), "{said}");
    assert!(
        said.contains("STARTUP TCP probe failed 1 time consecutively for container \"app-1\" on port 8080.")
    );
}

#[test]
fn programs_of_the_machine_are_not_run_unless_that_is_allowed() {
    let world = World::with(|config, _| config.allow_programs = false);
    let command = with(revision("command-1", ""), |container| {
        container.image = "nginx".into();
        container.command = vec!["/bin/true".into()];
    });
    let hello_command = with(hello("hello-1"), |c| c.command = vec!["/bin/true".into()]);
    world.apply(
        1,
        vec![
            service("program", vec![unproven(revision("program-1", "ok"))]),
            service("command", vec![unproven(command)]),
            service("hello", vec![unproven(hello_command)]),
        ],
    );
    for name in ["program-1", "command-1", "hello-1"] {
        let mut state = None;
        until("told", || {
            state = world
                .reports
                .try_recv()
                .filter(|report| report.state != RevisionState::Deploying)
                .or(state.take());
            state.is_some()
        });
        let RevisionState::Failed { reason, message } = state.unwrap().state else {
            panic!("{name} was run")
        };
        assert_eq!(reason, "ContainerMissing");
        assert!(message.contains("--driver=process"), "{message}");
    }
}

#[test]
fn an_http_probe_decides_when_it_is_ready() {
    let world = World::new();
    let kind = ProbeKind::Http { port: 8080, path: "/".into(), headers: Vec::new() };
    let probe = Probe { kind, timeout: Duration::from_secs(10), ..Probe::default_tcp(8080) };
    let slow = with(unproven(revision("svc-1", "slow 300")), |c| c.startup_probe = Some(probe));
    let start = Instant::now();
    world.apply(1, vec![service("svc", vec![slow])]);
    assert!(matches!(world.outcome("svc-1"), RevisionState::Ready { .. }));
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_crash_is_noticed_and_the_next_request_gets_another_instance() {
    let world = World::new();
    world.apply(1, vec![service("svc", vec![revision("svc-1", "ok")])]);
    let lease = world.acquire("svc");
    let pid = world.status()[0].pid.unwrap();
    assert!(get(lease.address, "/exit").is_err());
    until("noticed", || world.status().is_empty());
    assert!(!exists(pid), "a zombie");
    drop(lease);
    let lease = world.acquire("svc");
    assert_eq!(get(lease.address, "/").unwrap().0, 200);
    assert!(world.texts("varlog/system").contains(&"Container called exit(4).".to_owned()));
}

#[test]
fn who_ignores_sigterm_is_killed_after_the_grace_period() {
    let world = World::with(|config, _| config.shutdown_grace = Duration::from_millis(300));
    world.apply(1, vec![service("svc", vec![revision("svc-1", "deaf")])]);
    drop(world.acquire("svc"));
    let pid = world.status()[0].pid.unwrap();
    let start = Instant::now();
    world.runtime.shutdown();
    assert!(start.elapsed() >= Duration::from_millis(300), "no grace");
    assert!(!exists(pid));
}

#[test]
fn what_an_instance_started_ends_with_it() {
    let world = World::new();
    let file = world.folder.path().join("child");
    world.apply(1, vec![service("svc", vec![revision("svc-1", &format!("parent {}", file.display()))])]);
    drop(world.acquire("svc"));
    let child: u32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    assert!(support::runs(child));
    world.runtime.shutdown();
    // It is a zombie of whoever inherited it for a moment.
    until("the child has ended", || !support::runs(child));
}

#[test]
fn idle_instances_go_and_no_request_is_lost_over_it() {
    let world = World::with(|config, _| config.idle_timeout = Duration::from_millis(30));
    world.apply(1, vec![service("svc", vec![hello("svc-1")])]);
    let mut instances = std::collections::BTreeSet::new();
    for trial in 0..60 {
        let lease = world.acquire("svc");
        instances.insert(lease.instance_id.clone());
        assert_eq!(get(lease.address, "/").unwrap().0, 200, "trial {trial}");
        drop(lease);
        std::thread::sleep(Duration::from_millis(27 + trial % 8));
    }
    assert!(instances.len() > 1, "never scaled down");
    until("at zero", || world.status().is_empty());
    assert!(world.texts("varlog/system").iter().any(|text| text.starts_with("Stopping instance.")));
}

#[test]
fn the_environment_is_the_contracts_and_no_more() {
    struct Metadata(Mutex<Vec<String>>);
    impl MetadataSource for Metadata {
        fn open(&self, id: &str, owner: &Owner) -> Option<String> {
            let said = format!("open {id} {} {}", owner.name(), owner.service_account());
            self.0.lock().unwrap().push(said);
            Some("127.0.0.1:4711".into())
        }
        fn close(&self, id: &str) {
            self.0.lock().unwrap().push(format!("close {id}"));
        }
    }
    let metadata = Arc::new(Metadata(Mutex::default()));
    let world = World::with(|_, dependencies| dependencies.metadata = Some(metadata.clone()));
    let mut revision = revision("svc-1", "ok");
    revision.container.env.push(("MINE".into(), "a b=c".into()));
    world.apply(1, vec![service("svc", vec![revision])]);
    let lease = world.acquire("svc");
    let body = get(lease.address, "/env").unwrap().1;
    let variables: BTreeMap<_, _> = body.lines().filter_map(|line| line.split_once('=')).collect();
    let port = lease.address.port().to_string();
    for (name, value) in [
        ("K_SERVICE", "svc"),
        ("K_REVISION", "svc-1"),
        ("K_CONFIGURATION", "svc"),
        ("PORT", port.as_str()),
        ("MINE", "a b=c"),
        ("GCE_METADATA_HOST", "127.0.0.1:4711"),
    ] {
        assert_eq!(variables.get(name), Some(&value), "{name}");
    }
    let foreign: Vec<_> = variables.keys().filter(|name| name.starts_with("CARGO")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let id = lease.instance_id.clone();
    drop(lease);
    world.runtime.shutdown();
    let expected = [format!("open {id} svc-1 sa@demo.iam.gserviceaccount.com"), format!("close {id}")];
    assert_eq!(*metadata.0.lock().unwrap(), expected);
}

#[test]
fn what_is_printed_is_logged() {
    let world = World::new();
    world.apply(1, vec![service("svc", vec![revision("svc-1", "print")])]);
    drop(world.acquire("svc"));
    until("stdout", || {
        let texts = world.texts("stdout");
        ["plain words", "structured words"].iter().all(|text| texts.iter().any(|line| line == text))
    });
    until("stderr", || world.texts("stderr").contains(&"words on stderr".to_owned()));
}

#[test]
fn a_flood_of_output_keeps_nobody_waiting() {
    let world = World::new();
    let services = vec![
        service("flood", vec![revision("flood-1", "flood")]),
        service("quiet", vec![revision("quiet-1", "print")]),
    ];
    world.apply(1, services);
    drop(world.acquire("flood"));
    let said = |log, text: &str| world.texts(log).iter().any(|line| line.contains(text));
    until("the flood is noticed", || said("varlog/system", "lines of output were dropped"));
    let lease = world.acquire("quiet");
    assert_eq!(get(lease.address, "/").unwrap().0, 200);
    until("others are heard", || said("stderr", "words on stderr"));
    let flooding = world.acquire("flood");
    assert_eq!(get(flooding.address, "/").unwrap().0, 200);
}

#[test]
fn traffic_moves_with_what_is_applied() {
    let world = World::new();
    let both = || vec![revision("svc-1", "ok"), revision("svc-2", "ok")];
    world.apply(1, vec![service("svc", both())]);
    let old = world.acquire("svc");
    let mut moved = service("svc", both());
    moved.traffic[0].revision = "svc-2".into();
    world.apply(2, vec![moved]);
    let new = world.acquire("svc");
    assert_ne!(old.instance_id, new.instance_id);
    let front = world.runtime.front();
    assert_eq!(&*admit(&front, "svc").revision.name, "svc-2");

    let stale = vestibule_run::desired::Desired { generation: 1, ..Default::default() };
    assert_eq!(world.runtime.apply(stale), 2, "an older state changes nothing");
    assert_eq!(world.runtime.generation(), 2);

    // The old revision goes; the request in it does not notice.
    let mut only_new = service("svc", vec![revision("svc-2", "ok")]);
    only_new.revisions[0] = Arc::new(Revision { min_instances: 2, ..revision("svc-2", "ok") });
    world.apply(3, vec![only_new]);
    until("more of the new one", || {
        world.status().iter().filter(|status| &*status.revision == "svc-2").count() == 2
    });
    assert_eq!(get(old.address, "/").unwrap().0, 200);
    drop(old);
    until("the old one is gone", || world.status().iter().all(|status| &*status.revision == "svc-2"));

    drop(new);
    world.apply(4, Vec::new());
    until("nothing is left", || world.status().is_empty());
    assert!(front.service(&vestibule_run::front::Target::Host("svc-abc-uc.a.run.app")).is_none());
}

/// Deleted and made anew under the same names between two states that were applied.
#[test]
fn a_revision_with_another_program_is_another_revision() {
    let world = World::new();
    world.apply(1, vec![service("svc", vec![revision("svc-1", "ok")])]);
    let old = world.acquire("svc");
    let mut other = revision("svc-1", "ok");
    other.container.env.push(("NEW".into(), "yes".into()));
    world.apply(2, vec![service("svc", vec![other.clone()])]);
    let new = world.acquire("svc");
    assert!(get(new.address, "/env").unwrap().1.contains("NEW=yes"));
    drop(old);
    until("the old instance is gone", || world.status().len() == 1);
    // Numbers that may change do not make it another.
    other.max_instances = 7;
    world.apply(3, vec![service("svc", vec![other])]);
    assert_eq!(world.acquire("svc").instance_id, new.instance_id);
}

#[test]
fn after_the_shutdown_nothing_starts() {
    let world = World::new();
    world.apply(1, vec![service("svc", vec![revision("svc-1", "ok")])]);
    world.runtime.shutdown();
    world.runtime.shutdown();
    let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let admitted = admit(&world.runtime.front(), "svc");
    let refusal = bare.block_on(admitted.acquire(Instant::now() + support::PATIENCE)).unwrap_err();
    assert_eq!((refusal.status, refusal.cause), (503, Cause::ShuttingDown));
    world.apply(2, vec![service("new", vec![unproven(revision("new-1", "ok"))])]);
    let refusal =
        bare.block_on(admit(&world.runtime.front(), "new").acquire(Instant::now() + support::PATIENCE));
    assert_eq!(refusal.unwrap_err().cause, Cause::ShuttingDown);
    assert!(world.status().is_empty());
}
