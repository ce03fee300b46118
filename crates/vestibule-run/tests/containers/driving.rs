//! A driver, and instances that it starts.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use vestibule_run::Program;
use vestibule_run::desired::{Container, Ingress, Revision, Service, ServiceKey};
use vestibule_run::driver::container::{ContainerDriver, route};
use vestibule_run::driver::docker::DockerDriver;
use vestibule_run::driver::{Driver, Exit, Failure, Mounted, Order, Owner, Started, end};

use crate::images;

/// The longest that anything may take before it counts as failed. Generous: machines that test are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// This binary as the helper.
pub fn helper() -> Program {
    Program { path: std::env::current_exe().unwrap(), args: vec![crate::HELPER.into()] }
}

/// This binary as the first process of an engine's container.
pub fn inside() -> Program {
    Program { path: std::env::current_exe().unwrap(), args: vec![crate::INSIDE.into()] }
}

/// Whether this machine allows containers at all.
pub fn available() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    ContainerDriver::open(folder.path(), helper()).map(drop)
}

/// A driver in a folder of its own, and an executor on this thread.
pub struct World<D = ContainerDriver> {
    pub folder: tempfile::TempDir,
    pub driver: Arc<D>,
    executor: tokio::runtime::Runtime,
    count: std::cell::Cell<u32>,
}

/// A container that runs.
pub struct Running {
    pub started: Started,
    pub id: Arc<str>,
}

impl World {
    pub fn new() -> Self {
        Self::of(|folder| Arc::new(ContainerDriver::open(folder, helper()).unwrap()))
    }
}

impl World<DockerDriver> {
    /// One whose containers are an engine's.
    pub fn of_engine(socket: &Path) -> Self {
        Self::of(|folder| Arc::new(DockerDriver::open_at(socket, folder, &inside()).unwrap()))
    }
}

impl<D: Driver> World<D> {
    fn of(open: impl FnOnce(&Path) -> Arc<D>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let driver = open(folder.path());
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { folder, driver, executor, count: 0.into() }
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.executor.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("took too long") })
    }

    /// The usual image with these settings.
    pub fn image(&self, settings: Value) -> String {
        self.image_of(&images::usual(), settings)
    }

    pub fn image_of(&self, layers: &[Vec<images::File>], settings: Value) -> String {
        self.count.set(self.count.get() + 1);
        images::write(&self.folder.path().join(format!("image-{}", self.count.get())), layers, settings)
    }

    /// An order for the usual image in a mode.
    pub fn order(&self, mode: &str) -> Order {
        self.order_of(Container {
            args: vec![mode.into()],
            ..Container::new("app", &self.image(usual_settings()))
        })
    }

    pub fn order_of(&self, container: Container) -> Order {
        self.count.set(self.count.get() + 1);
        let revision = Arc::new(Revision::new(&format!("svc-{:05}", self.count.get()), container.clone()));
        Order {
            instance_id: format!("{:016x}", fastrand::u64(..)).into(),
            owner: Owner::Revision { service: Arc::new(service("svc", vec![revision.clone()])), revision },
            container,
            port: Some(8080),
            environment: vec![("K_SERVICE".into(), "svc".into())],
            mounts: Vec::<Mounted>::new(),
            network: None,
        }
    }

    pub fn try_start(&self, order: &Order) -> Result<Running, Failure> {
        let start = async {
            self.driver.prepare(&order.owner, &order.container).await?;
            self.driver.start(order).await
        };
        let started = self.run(start)?;
        Ok(Running { started, id: order.instance_id.clone() })
    }

    pub fn start(&self, order: &Order) -> Running {
        self.try_start(order).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    /// Starts the server and waits until it answers.
    pub fn serve(&self, order: &Order) -> Running {
        let running = self.start(order);
        self.until_serving(&running);
        running
    }

    pub fn until_serving(&self, running: &Running) {
        let end = Instant::now() + PATIENCE;
        while self.try_ask(running.started.address, "/").is_err() {
            assert!(Instant::now() < end, "it never listened");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn try_ask(&self, address: SocketAddr, path: &str) -> std::io::Result<String> {
        self.run(ask(address, path))
    }

    pub fn ask(&self, running: &Running, path: &str) -> String {
        self.try_ask(running.started.address, path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn end(&self, running: &Running, grace: Duration) -> Exit {
        self.run(end(&*running.started.handle, grace))
    }

    pub fn exit(&self, running: &Running) -> Exit {
        self.run(running.started.handle.exited())
    }
}

impl Running {
    /// All that it has written. It must have ended.
    pub fn output(&mut self) -> String {
        let mut text = String::new();
        let output = self.started.output.stdout.take().unwrap();
        fs::File::from(output).read_to_string(&mut text).unwrap();
        text
    }

    pub fn pid(&self) -> u32 {
        self.started.handle.pid().unwrap()
    }
}

pub async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = route::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::other("no answer"))
}

pub fn usual_settings() -> Value {
    json!({ "Entrypoint": ["/bin/program"], "Cmd": ["serve"], "Env": ["FROM_IMAGE=1", "PATH=/bin"] })
}

pub fn service(name: &str, revisions: Vec<Arc<Revision>>) -> Service {
    Service {
        key: ServiceKey { project: "demo".into(), region: "us-central1".into(), name: name.into() },
        project_number: "123456789012".into(),
        ingress: Ingress::All,
        invoker_check_disabled: true,
        policies: Vec::new(),
        audiences: Vec::new(),
        hosts: vec![format!("{name}-abc-uc.a.run.app")],
        default_url_disabled: false,
        traffic: Vec::new(),
        revisions,
    }
}

pub fn limits(cpu: &str, memory: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("cpu".to_owned(), cpu.to_owned()), ("memory".to_owned(), memory.to_owned())])
}

/// Whether a process exists, a zombie included.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until it is so.
pub fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Control groups of containers, wherever they are.
pub fn groups() -> Vec<PathBuf> {
    fn find(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth > 0 {
                if folder.file_name().is_some_and(|name| name == "vestibule") {
                    found.push(path);
                } else {
                    find(&path, depth - 1, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    find(Path::new("/sys/fs/cgroup"), 8, &mut found);
    found
}

/// Control groups of one instance.
pub fn groups_of(id: &str) -> usize {
    groups().iter().filter(|path| path.to_string_lossy().contains(id)).count()
}

/// Keeps one instance, until somebody kills this process, and says which.
pub fn run_until_killed(driver: &dyn Driver) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::new();
    let order = world.order("stubborn");
    let kept = runtime.block_on(async {
        driver.prepare(&order.owner, &order.container).await.unwrap();
        driver.start(&order).await.unwrap()
    });
    println!("{} {}", order.instance_id, kept.handle.pid().unwrap());
    runtime.block_on(std::future::pending())
}
