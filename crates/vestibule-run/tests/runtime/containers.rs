//! What instances are made of: secrets, probes, several containers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::client::get;
use crate::support::{World, admit, exists, revision, runs, service, until};
use vestibule_run::desired::*;
use vestibule_run::{InstanceState, SecretSource};

/// One secret, `s`, whose versions are their own names.
struct Secrets;

impl SecretSource for Secrets {
    fn read(&self, secret: &SecretRef, service_account: &str) -> Result<Vec<u8>, String> {
        match secret.secret.as_str() {
            "s" => Ok(format!("{}/{}/{service_account}", secret.project, secret.version).into_bytes()),
            other => Err(format!("Secret {other} was not found")),
        }
    }
}

fn with_secret(name: &str, secret: &str) -> Revision {
    let mut revision = revision(name, "ok");
    revision.container.secret_env = vec![SecretEnv {
        name: "TOP".into(),
        secret: SecretRef { project: "p".into(), secret: secret.into(), version: "latest".into() },
        field: "spec.template.spec.containers[0].env[0].value_from.secret_key_ref.name".into(),
    }];
    revision
}

#[test]
fn secrets_reach_the_program_and_nobody_else() {
    let world = World::with(|_, dependencies| dependencies.secrets = Some(Arc::new(Secrets)));
    let missing = Revision { proven: false, ..with_secret("missing-1", "none") };
    world.apply(1, vec![service("svc", vec![with_secret("svc-1", "s")]), service("missing", vec![missing])]);
    let RevisionState::Failed { reason, message } = world.outcome("missing-1") else { panic!("it runs") };
    assert_eq!(reason, "SecretsAccessCheckFailed");
    let field = "spec.template.spec.containers[0].env[0].value_from.secret_key_ref.name";
    assert_eq!(message, format!("{field}: Secret none was not found"));

    let lease = world.acquire("svc");
    let (_, body) = get(lease.address, "/env").unwrap();
    assert!(body.contains("\nTOP=p/latest/sa@demo.iam.gserviceaccount.com\n"), "{body}");
    drop(lease);
    world.runtime.shutdown();
    for log in ["varlog/system", "stdout", "stderr"] {
        assert!(!world.texts(log).iter().any(|text| text.contains("p/latest/")), "a secret in the log");
    }
    let stored =
        std::process::Command::new("grep").args(["-r", "p/latest/"]).arg(world.folder.path()).output();
    assert!(stored.unwrap().stdout.is_empty(), "a secret in the state directory");
}

#[test]
fn a_program_starts_in_its_working_directory() {
    let world = World::new();
    let mut revision = revision("svc-1", "ok");
    revision.container.working_dir = Some("/".into());
    world.apply(1, vec![service("svc", vec![revision])]);
    assert_eq!(get(world.acquire("svc").address, "/cwd").unwrap(), (200, "/".to_owned()));
}

fn probe() -> Probe {
    Probe {
        kind: ProbeKind::Http { port: 8080, path: "/health".into(), headers: Vec::new() },
        initial_delay: Duration::ZERO,
        period: Duration::from_millis(20),
        timeout: Duration::from_secs(30),
        failure_threshold: 2,
    }
}

/// One instance whose program is sick while `file` exists.
fn sick(file: &Path, change: impl FnOnce(&mut Container)) -> Revision {
    let mut revision = Revision { min_instances: 1, max_instances: 1, ..revision("svc-1", "ok") };
    revision.container.env.push(("SICK".into(), file.display().to_string()));
    change(&mut revision.container);
    revision
}

fn ready(world: &World) -> Option<u32> {
    world.status().iter().find(|status| status.state == InstanceState::Ready)?.pid
}

#[test]
fn an_instance_that_fails_its_liveness_probe_is_replaced() {
    let world = World::new();
    let file = world.folder.path().join("sick");
    world.apply(1, vec![service("svc", vec![sick(&file, |c| c.liveness_probe = Some(probe()))])]);
    until("it runs", || ready(&world).is_some());
    let first = ready(&world).unwrap();
    std::fs::write(&file, "").unwrap();
    until("it is ended", || !exists(first));
    std::fs::remove_file(&file).unwrap();
    // While the file was there the next may have been ended too.
    until("another runs", || ready(&world).is_some_and(|pid| pid != first));
    drop(world.acquire("svc"));
    world.runtime.shutdown();
    let text = "LIVENESS HTTP probe failed 2 times consecutively for container \"app-1\" on port 8080 path \
                \"/health\". The instance was shut down.";
    assert!(world.texts("varlog/system").iter().any(|said| said == text));
}

#[test]
fn an_instance_that_is_not_ready_rests() {
    let world = World::new();
    let file = world.folder.path().join("sick");
    let revision = sick(&file, |container| {
        container.readiness_probe = Some(probe());
        container.liveness_probe = None;
    });
    world.apply(1, vec![service("svc", vec![revision])]);
    until("it runs", || ready(&world).is_some());
    let first = ready(&world).unwrap();
    let front = world.runtime.front();
    let takes = || admit(&front, "svc").try_acquire().is_some();
    until("it takes requests", takes);
    std::fs::write(&file, "").unwrap();
    until("it takes none", || !takes());
    assert!(runs(first), "it was ended");
    std::fs::remove_file(&file).unwrap();
    until("it takes requests again", takes);
    assert_eq!(ready(&world), Some(first));
}

/// A port that nothing listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A revision whose program cannot start before its sidecar listens.
fn with_sidecar(name: &str, port: u16) -> Revision {
    let mut revision = revision(name, &format!("after {port}"));
    let sidecar = self::revision(name, &format!("at {port}")).container;
    let tcp = Probe { kind: ProbeKind::Tcp { port }, ..Probe::default_tcp(port) };
    revision.sidecars = vec![Container { name: "sidecar".into(), startup_probe: Some(tcp), ..sidecar }];
    revision.container.depends_on = vec!["sidecar".into()];
    revision
}

#[test]
fn a_sidecar_starts_first_and_shares_the_instance_s_fate() {
    let world = World::new();
    let port = free_port();
    let revision =
        Revision { min_instances: 1, max_instances: 1, proven: false, ..with_sidecar("svc-1", port) };
    world.apply(1, vec![service("svc", vec![revision])]);
    assert!(
        matches!(world.outcome("svc-1"), RevisionState::Ready { .. }),
        "{:?}",
        world.texts("varlog/system")
    );
    let lease = world.acquire("svc");
    let sidecar = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let variables = |address| get(address, "/env").unwrap().1;
    assert!(variables(lease.address).contains("\nPORT="));
    let of_sidecar = variables(sidecar);
    assert!(!of_sidecar.contains("PORT="), "{of_sidecar}");
    assert!(of_sidecar.contains("K_REVISION=svc-1"), "{of_sidecar}");
    drop(lease);

    let first = ready(&world).unwrap();
    let pid: u32 = get(sidecar, "/").unwrap().1.parse().unwrap();
    // The sidecar ends without an answer, and takes the instance with it.
    assert!(get(sidecar, "/exit").is_err());
    until("the instance has ended", || !exists(first) && !exists(pid));
    until("another runs", || ready(&world).is_some_and(|pid| pid != first));
    let pid: u32 = get(sidecar, "/").unwrap().1.parse().unwrap();
    world.runtime.shutdown();
    assert!(!exists(pid), "the sidecar was left running");
    assert!(world.texts("varlog/system").iter().any(|text| text == "Container called exit(4)."));
}

#[test]
fn a_sidecar_that_does_not_start_fails_the_revision() {
    let world = World::new();
    let mut revision = Revision { proven: false, ..with_sidecar("svc-1", free_port()) };
    // It listens elsewhere than its probe looks.
    let soon = Duration::from_millis(500);
    revision.sidecars[0].startup_probe =
        Some(Probe { period: soon, timeout: soon, ..Probe::default_tcp(free_port()) });
    world.apply(1, vec![service("svc", vec![revision])]);
    let RevisionState::Failed { reason, message } = world.outcome("svc-1") else { panic!("it runs") };
    assert_eq!(reason, "HealthCheckContainerError");
    assert!(message.contains("container 'sidecar' failed to start"), "{message}");
    until("nothing is left", || world.status().is_empty());
}
