#![allow(clippy::print_stdout)]
//! A proxy in front of one backend, for measurements: `forward BACKEND [WORKERS [PEM]]`.
//!
//! Prints where it listens. With `FORWARD_NETWORKS=namespace` that is inside a network namespace, and the namespace of
//! a client in it is printed too. Every request is logged, into a temporary directory that goes when the program is ended
//! by closing its standard input.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vestibule_iam::Issuer;
use vestibule_logs::{LogLimits, LogStore};
use vestibule_proxy::snapshot::{
    Backend, BackendService, DEFAULT_KEEP_ALIVE, Listener, LogConfig, Routes, Snapshot,
};
use vestibule_proxy::tls::{Certificate, Tls};
use vestibule_proxy::{Dependencies, Proxy, ProxyConfig};
use vestibule_run::{Program, Runtime, RuntimeConfig};
use vestibule_urlmap::UrlMap;
use vestibule_vpc::{Loopback, Namespaces, NetworkId, Subnet, Vpc};

const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const PORT: u16 = 8080;
const SUBNET: Subnet =
    Subnet { range: Ipv4Addr::new(10, 0, 0, 0), prefix: 24, gateway: Ipv4Addr::new(10, 0, 0, 1) };
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let backend: SocketAddr = args.next().ok_or("usage: forward BACKEND [WORKERS [PEM]]")?.parse()?;
    let workers = args.next().map_or(Ok(1), |count| count.parse())?;
    let tls = args.next().map(|pem| tls(&pem)).transpose()?;
    let dir = tempfile::tempdir()?;
    let is_inside = std::env::var("FORWARD_NETWORKS").is_ok_and(|mode| mode == "namespace");
    let vpc = if is_inside { Vpc::new(Namespaces::new()?) } else { Vpc::new(Loopback::claim()?) };
    let logs = LogStore::open(&dir.path().join("logs"), LogLimits::default())?;
    let runtime = runtime(dir.path().to_owned(), &logs)?;
    let dependencies = Dependencies { vpc: vpc.clone(), run: runtime.front(), logs: logs.sink() };
    let proxy = Proxy::start(ProxyConfig { workers, ..ProxyConfig::default() }, dependencies)?;
    let listener = Listener { tls, ..listener(backend)? };
    let network = listener.network.clone();
    let applied =
        proxy.apply(Snapshot { generation: 1, listeners: vec![Arc::new(listener)], fronts: Vec::new() });
    applied.map_err(|errors| format!("{errors:?}"))?;
    if is_inside {
        vpc.configure(&network, &[SUBNET])?;
        let client = vpc.attach(&network, CLIENT, SUBNET.gateway)?.ok_or("no namespace")?;
        println!("{IP}:{PORT} {}", client.network);
    } else {
        println!("{}", vpc.locate(&network, IP, PORT).ok_or("no listener")?);
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    proxy.drain(Duration::from_secs(2));
    runtime.shutdown();
    Ok(())
}

/// HTTPS with the chain and the key that one file holds.
fn tls(pem: &str) -> Result<Arc<Tls>, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(pem)?;
    let certificate = Certificate::from_pem(&text, &text, Vec::new())?;
    Ok(Arc::new(Tls::new(vec![certificate])?))
}

/// A runtime without services.
fn runtime(dir: PathBuf, logs: &LogStore) -> Result<Runtime, Box<dyn std::error::Error>> {
    let nothing = || Program { path: PathBuf::from("/nonexistent"), args: Vec::new() };
    let dependencies = vestibule_run::Dependencies {
        verifier: Issuer::open(&dir.join("iam"))?.verifier(),
        logs: logs.sink(),
        metadata: None,
        networks: None,
        secrets: None,
        containers: None,
    };
    Ok(Runtime::start(RuntimeConfig::new(dir.join("run"), nothing(), nothing()), dependencies)?)
}

fn listener(backend: SocketAddr) -> Result<Listener, Box<dyn std::error::Error>> {
    let document = serde_json::from_value(serde_json::json!({ "defaultService": "bs" }))?;
    let url_map = UrlMap::compile(&document, |_| Some(0)).map_err(|error| format!("{error:?}"))?;
    let service = BackendService {
        name: "bs".into(),
        log: LogConfig { enable: true, sample_rate: 1.0, tls_fields: false },
        timeout: Duration::from_secs(30),
        protocol: Default::default(),
        backend: Backend::Endpoints { neg: "neg".into(), endpoints: vec![backend] },
    };
    Ok(Listener {
        network: NetworkId::new("p", "vpc"),
        ip: IP,
        port: PORT,
        region: "us-central1".into(),
        project: "p".into(),
        project_number: "123456789012".into(),
        clients: None,
        forwarding_rule: "fr".into(),
        target_proxy: "tp".into(),
        url_map_name: "um".into(),
        keep_alive: DEFAULT_KEEP_ALIVE,
        tls: None,
        routes: Arc::new(Routes { url_map: Arc::new(url_map), services: vec![Arc::new(service)] }),
    })
}
