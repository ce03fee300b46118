//! A whole proxy for one test: its own network, runtime, log store and state directory, all gone afterwards.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vestibule_iam::Issuer;
use vestibule_logs::store::ListRequest;
use vestibule_logs::{LogLimits, LogStore, Query};
use vestibule_proxy::limits::Timeouts;
use vestibule_proxy::snapshot::{
    Backend, BackendService, Endpoints, Front, Listener, LogConfig, Optional, Protocol, Routes, Snapshot,
};
use vestibule_proxy::tls::Tls;
use vestibule_proxy::{Dependencies, ListenerError, Proxy, ProxyConfig};
use vestibule_run::desired::{Container, Desired, Ingress, Revision, Service, ServiceKey, TrafficTarget};
use vestibule_run::{Program, Runtime, RuntimeConfig};
use vestibule_urlmap::UrlMap;
use vestibule_vpc::{Loopback, NetworkId, Vpc};

use crate::instances::Instances;
use crate::wire::Wire;

pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
pub const PORT: u16 = 8080;

/// Everything a test runs against.
pub struct World {
    pub vpc: Vpc,
    pub network: NetworkId,
    proxy: Option<Proxy>,
    pub runtime: Runtime,
    pub logs: LogStore,
    generation: Cell<u64>,
    // Last: the others keep files in it.
    _dir: TempDir,
}

/// What a listener serves, with everything that a test does not care about filled in.
pub struct Site {
    pub url_map: Value,
    /// In the order of their indices: the map names them `s0`, `s1`, …
    pub services: Vec<BackendService>,
    pub tls: Option<Arc<Tls>>,
    pub keep_alive: Duration,
    pub port: u16,
}

impl Site {
    /// Everything goes to one service.
    pub fn of(backend: Backend) -> Site {
        Site::map(json!({ "defaultService": "s0" }), vec![service(backend)])
    }

    pub fn map(url_map: Value, services: Vec<BackendService>) -> Site {
        Site { url_map, services, tls: None, keep_alive: Duration::from_secs(610), port: PORT }
    }
}

/// A backend service that logs everything.
pub fn service(backend: Backend) -> BackendService {
    BackendService {
        name: "bs".into(),
        log: LogConfig { enable: true, sample_rate: 1.0, optional: Optional { tls: true, mtls: true } },
        timeout: Duration::from_secs(30),
        protocol: Protocol::Http1,
        headers: None,
        backend,
    }
}

/// A group of these addresses.
pub fn endpoints(addresses: &[SocketAddr]) -> Backend {
    Backend::Endpoints(Arc::new(Endpoints::outside(addresses)))
}

/// An issuer of tokens. Its keys are made once for all tests: making one takes longer than most tests, and goes on in
/// the background when the test is over and its directory gone.
fn issuer(dir: &Path) -> Issuer {
    static KEYS: OnceLock<Vec<(OsString, Vec<u8>)>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(dir.path()).unwrap();
        while !issuer.is_ready() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.metadata().unwrap().is_file());
        files.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
    });
    DirBuilder::new().mode(0o700).create(dir).unwrap();
    for (name, content) in keys {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(name)).unwrap();
        file.write_all(content).unwrap();
    }
    Issuer::open(dir).unwrap()
}

impl World {
    pub fn new() -> World {
        World::with(ProxyConfig::default(), None)
    }

    /// With short waits, for tests of what happens when they pass.
    pub fn hasty(limit: Duration) -> World {
        let timeouts = Timeouts { head: limit, tls_handshake: limit, stream_idle: limit };
        World::with(ProxyConfig { timeouts, ..ProxyConfig::default() }, None)
    }

    pub fn with(config: ProxyConfig, instances: Option<Instances>) -> World {
        let dir = tempfile::tempdir().unwrap();
        let vpc = Vpc::new(Loopback::claim().unwrap());
        let logs = LogStore::open(&dir.path().join("logs"), LogLimits::default()).unwrap();
        let issuer = issuer(&dir.path().join("iam"));
        let nothing = || Program { path: PathBuf::from("/nonexistent"), args: Vec::new() };
        let runtime = Runtime::start(
            RuntimeConfig::new(dir.path().join("run"), nothing(), nothing()),
            vestibule_run::Dependencies {
                verifier: issuer.verifier(),
                logs: logs.sink(),
                metadata: None,
                networks: None,
                containers: instances.map(|instances| Arc::new(instances) as _),
                secrets: None,
            },
        );
        let runtime = runtime.unwrap();
        let dependencies = Dependencies { vpc: vpc.clone(), run: runtime.front(), logs: logs.sink() };
        let proxy = Proxy::start(ProxyConfig { workers: 2, ..config }, dependencies).unwrap();
        let network = NetworkId::new("p", "vpc");
        World { vpc, network, proxy: Some(proxy), runtime, logs, generation: Cell::new(0), _dir: dir }
    }

    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().unwrap()
    }

    /// Takes the proxy out, to be ended in some way.
    pub fn take_proxy(&mut self) -> Proxy {
        self.proxy.take().unwrap()
    }

    pub fn listener(&self, site: Site) -> Arc<Listener> {
        let document = serde_json::from_value(site.url_map).unwrap();
        let url_map = UrlMap::compile(&document, |name| name.strip_prefix('s')?.parse().ok()).unwrap();
        Arc::new(Listener {
            network: self.network.clone(),
            ip: VIP,
            port: site.port,
            region: "us-central1".into(),
            project: "p".into(),
            project_number: "123456789012".into(),
            clients: None,
            forwarding_rule: "fr".into(),
            target_proxy: "tp".into(),
            url_map_name: "um".into(),
            keep_alive: site.keep_alive,
            tls: site.tls,
            routes: Arc::new(Routes {
                url_map: Arc::new(url_map),
                services: site.services.into_iter().map(Arc::new).collect(),
            }),
        })
    }

    /// Serves this and nothing else.
    pub fn apply(
        &self,
        listeners: Vec<Arc<Listener>>,
        fronts: Vec<Arc<Front>>,
    ) -> Result<(), Vec<ListenerError>> {
        self.generation.set(self.generation.get() + 1);
        let generation = self.generation.get();
        let result = self.proxy().apply(Snapshot { generation, listeners, fronts });
        assert_eq!(self.proxy().generation(), generation);
        result
    }

    /// Serves one site at the virtual address.
    pub fn serve(&self, site: Site) {
        self.apply(vec![self.listener(site)], Vec::new()).unwrap();
    }

    /// Where the virtual address really is.
    pub fn address(&self, port: u16) -> SocketAddr {
        self.vpc.locate(&self.network, VIP, port).expect("the listener is there")
    }

    pub fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address(PORT)).unwrap())
    }

    /// One request on a connection of its own, and the answer.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> crate::wire::Message {
        let mut client = self.connect();
        client.send(request);
        client.response()
    }

    /// A `GET` on a connection of its own.
    pub fn get(&self, path: &str) -> crate::wire::Message {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n"))
    }

    /// Waits until the log holds this many entries of a type, and gives them, the oldest first.
    pub fn entries(&self, resource: &str, count: usize) -> Vec<Value> {
        let names = ["projects/p".to_owned()];
        let filter = format!("resource.type=\"{resource}\" AND logName:\"requests\"");
        let request = ListRequest { resource_names: &names, filter: &filter, ..ListRequest::default() };
        loop {
            let found = self.logs.list(&Query::new(&request).unwrap()).unwrap().entries;
            if found.len() >= count {
                assert_eq!(found.len(), count, "{found:#?}");
                return found;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The only entry of the load balancer.
    pub fn entry(&self) -> Value {
        self.entries("internal_http_lb_rule", 1).remove(0)
    }

    /// Runs one service of one revision with this name.
    pub fn deploy(&self, name: &str, change: impl Fn(&mut Service, &mut Revision)) {
        let container = Container::new("app", "test/image");
        let mut revision = Revision::new(&format!("{name}-00001"), container);
        let mut service = Service {
            key: ServiceKey { project: "p".into(), region: "us-central1".into(), name: name.into() },
            project_number: "123456789012".into(),
            ingress: Ingress::All,
            invoker_check_disabled: true,
            policies: Vec::new(),
            audiences: Vec::new(),
            hosts: vec![format!("{name}-abc-uc.a.run.app")],
            default_url_disabled: false,
            traffic: vec![TrafficTarget { revision: revision.name.clone(), percent: 100, tag: None }],
            revisions: Vec::new(),
        };
        change(&mut service, &mut revision);
        service.revisions = vec![Arc::new(revision)];
        self.generation.set(self.generation.get() + 1);
        let generation = self.generation.get();
        self.runtime.apply(Desired { generation, services: vec![Arc::new(service)], ..Default::default() });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.proxy.take());
        self.runtime.shutdown();
    }
}
