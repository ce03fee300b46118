//! A runtime over real processes: this very test binary, started again in another role.
//!
//! Roles are tests that do nothing unless they find themselves in an instance: `K_SERVICE` or `CLOUD_RUN_JOB` is set
//! there and nowhere else.

pub mod client;
pub mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vestibule_iam::token::Issuer;
use vestibule_logs::store::{ListRequest, Query};
use vestibule_logs::{LogLimits, LogStore};
use vestibule_run::desired::*;
use vestibule_run::front::{Admitted, Ask, Front, Lease, Origin, Target};
use vestibule_run::reports::Receiver;
use vestibule_run::{Dependencies, InstanceStatus, Program, Runtime, RuntimeConfig};

/// The longest that anything may take before it counts as failed. Generous, as machines that test are busy, but less
/// than the 60 s after which the test harness, which every instance here is, complains to an output that may be gone,
/// and ends.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Whether this process is an instance.
pub fn is_instance() -> bool {
    ["K_SERVICE", "CLOUD_RUN_JOB"].iter().any(|name| std::env::var_os(name).is_some())
}

fn role(name: &str) -> Vec<String> {
    [name, "--exact", "--nocapture"].map(str::to_owned).to_vec()
}

/// This binary in a role.
pub fn program(name: &str) -> Program {
    Program { path: std::env::current_exe().unwrap(), args: role(name) }
}

/// A revision that runs the test server in a mode.
pub fn revision(name: &str, mode: &str) -> Revision {
    let exe = std::env::current_exe().unwrap();
    let container = Container {
        args: role("role_server"),
        env: vec![("MODE".into(), mode.into())],
        ..Container::new("app-1", &format!("process:{}", exe.display()))
    };
    Revision { service_account: "sa@demo.iam.gserviceaccount.com".into(), ..Revision::new(name, container) }
}

/// The sample service.
pub fn hello(name: &str) -> Revision {
    let mut revision = revision(name, "");
    let container = &mut revision.container;
    container.image = "gcr.io/cloudrun/hello:latest".into();
    container.args.clear();
    container.env.clear();
    revision
}

/// A service that anyone may enter, all of whose traffic goes to the first of the revisions.
pub fn service(name: &str, revisions: Vec<Revision>) -> Service {
    let first = revisions[0].name.clone();
    Service {
        key: ServiceKey { project: "demo".into(), region: "us-central1".into(), name: name.into() },
        project_number: "123456789012".into(),
        ingress: Ingress::All,
        invoker_check_disabled: true,
        policies: Vec::new(),
        audiences: Vec::new(),
        hosts: vec![format!("{name}-abc-uc.a.run.app")],
        default_url_disabled: false,
        traffic: vec![TrafficTarget { revision: first, percent: 100, tag: None }],
        revisions: revisions.into_iter().map(Arc::new).collect(),
    }
}

pub struct World {
    // First, so that it ends before the folder goes.
    pub runtime: Runtime,
    pub reports: Receiver,
    pub logs: LogStore,
    pub folder: tempfile::TempDir,
}

/// A runtime with short times.
pub fn runtime(
    folder: &Path,
    change: impl FnOnce(&mut RuntimeConfig, &mut Dependencies),
) -> (Runtime, LogStore) {
    let logs = LogStore::open(&folder.join("logs"), LogLimits::default()).unwrap();
    let mut config = RuntimeConfig::new(folder.to_owned(), program("role_hello"), program("role_exec"));
    config.allow_programs = true;
    config.shutdown_grace = Duration::from_secs(2);
    let issuer = Issuer::open(&folder.join("keys")).unwrap();
    let mut dependencies = Dependencies {
        verifier: issuer.verifier(),
        logs: logs.sink(),
        metadata: None,
        networks: None,
        containers: None,
        secrets: None,
    };
    change(&mut config, &mut dependencies);
    (Runtime::start(config, dependencies).unwrap(), logs)
}

impl World {
    pub fn new() -> Self {
        Self::with(|_, _| {})
    }

    pub fn with(change: impl FnOnce(&mut RuntimeConfig, &mut Dependencies)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (runtime, logs) = runtime(folder.path(), change);
        Self { reports: runtime.reports(), runtime, logs, folder }
    }

    pub fn apply(&self, generation: u64, services: Vec<Service>) {
        let services = services.into_iter().map(Arc::new).collect();
        assert_eq!(self.runtime.apply(Desired { generation, services, ..Default::default() }), generation);
    }

    /// Waits for the final state of a revision.
    pub fn outcome(&self, revision: &str) -> RevisionState {
        let end = Instant::now() + PATIENCE;
        while let Some(report) = self.reports.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if *report.revision == *revision && report.state != RevisionState::Deploying {
                return report.state;
            }
        }
        panic!("nothing became of {revision}");
    }

    pub fn acquire(&self, service: &str) -> Lease {
        acquire(&self.runtime.front(), service)
    }

    pub fn status(&self) -> Vec<InstanceStatus> {
        self.runtime.status()
    }

    /// Texts of the entries of a log of Cloud Run.
    pub fn texts(&self, log: &str) -> Vec<String> {
        let entries = self.entries(&format!("log_id(\"run.googleapis.com/{log}\")"));
        let text = |entry: &serde_json::Value| entry["textPayload"].as_str().unwrap_or_default().to_owned();
        entries.iter().map(text).collect()
    }

    /// Entries that fit a filter.
    pub fn entries(&self, filter: &str) -> Vec<serde_json::Value> {
        let names = ["projects/demo".to_owned()];
        let request = ListRequest { resource_names: &names, filter, page_size: 1_000, ..Default::default() };
        self.logs.list(&Query::new(&request).unwrap()).unwrap().entries
    }
}

pub fn admit(front: &Front, service: &str) -> Admitted {
    let ask = Ask {
        target: Target::Service { project: "demo", region: "us-central1", service, tag: None },
        origin: Origin::InternalLoadBalancer,
        authorization: None,
        serverless_authorization: None,
        path: "/",
        cookies: None,
    };
    front.admit(&ask).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

pub fn acquire(front: &Front, service: &str) -> Lease {
    let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
    bare.block_on(admit(front, service).acquire(Instant::now() + PATIENCE)).unwrap()
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process runs or is a zombie that nobody reaped.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether a process runs. A zombie does not.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}
