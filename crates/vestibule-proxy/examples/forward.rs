#![allow(clippy::print_stdout)]
//! A proxy in front of one backend, for measurements:
//! `forward BACKEND [--workers N] [--tls PEM] [--url-map FILE] [--no-logs] [--other BACKEND]`.
//!
//! Prints where it listens. With `FORWARD_NETWORKS=namespace` that is inside a network namespace, and the namespace of
//! a client in it is printed too; with `ruled` there are a second client and firewall rules besides. With another backend every line of standard input has it take the next map, which
//! sends everything to the one or the other and says so in `x-map`; it prints the map's number once that is served.
//! Every request is logged, into a temporary directory that goes when the program is ended by closing its standard
//! input.

use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vestibule_iam::Issuer;
use vestibule_logs::{LogLimits, LogStore};
use vestibule_proxy::snapshot::{
    Backend, BackendService, DEFAULT_KEEP_ALIVE, Endpoints, Listener, LogConfig, Optional, Routes, Snapshot,
};
use vestibule_proxy::tls::{Certificate, Tls};
use vestibule_proxy::{Dependencies, Proxy, ProxyConfig};
use vestibule_run::{Program, Runtime, RuntimeConfig};
use vestibule_urlmap::UrlMap;
use vestibule_vpc::firewall::{Action, Direction, Traffic};
use vestibule_vpc::{Addresses, FirewallRule, Loopback, Namespaces, NetworkId, Subnet, Vpc};

const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const PORT: u16 = 8080;
const SUBNET: Subnet =
    Subnet { range: Ipv4Addr::new(10, 0, 0, 0), prefix: 24, gateway: Ipv4Addr::new(10, 0, 0, 1) };
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SECOND_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse()?;
    let workers = options.workers;
    let dir = tempfile::tempdir()?;
    let networks = std::env::var("FORWARD_NETWORKS").unwrap_or_default();
    let is_inside = ["namespace", "ruled"].contains(&networks.as_str());
    let vpc = if is_inside { Vpc::new(Namespaces::new()?) } else { Vpc::new(Loopback::claim()?) };
    let logs = LogStore::open(&dir.path().join("logs"), LogLimits::default())?;
    let runtime = runtime(dir.path().to_owned(), &logs)?;
    let dependencies = Dependencies { vpc: vpc.clone(), run: runtime.front(), logs: logs.sink() };
    let proxy = Proxy::start(ProxyConfig { workers, ..ProxyConfig::default() }, dependencies)?;
    let apply = |generation: u64| {
        let listener = listener(&options, generation)?;
        let snapshot = Snapshot { generation, listeners: vec![Arc::new(listener)], fronts: Vec::new() };
        proxy.apply(snapshot).map_err(|errors| format!("{errors:?}"))
    };
    apply(1)?;
    if is_inside {
        vpc.configure(&network(), &[SUBNET])?;
        let client = vpc.attach(&network(), CLIENT, SUBNET.gateway)?.ok_or("no namespace")?;
        if networks == "ruled" {
            vpc.attach(&network(), SECOND_CLIENT, SUBNET.gateway)?;
            vpc.set_firewall(&network(), &rules())?;
        }
        println!("{IP}:{PORT} {}", client.network);
    } else {
        println!("{}", vpc.locate(&network(), IP, PORT).ok_or("no listener")?);
    }
    for (line, generation) in std::io::stdin().lock().lines().zip(2..) {
        line?;
        apply(generation)?;
        println!("{generation}");
    }
    proxy.drain(Duration::from_secs(2));
    runtime.shutdown();
    Ok(())
}

/// Rules of both directions, so that the kernel asks and tracks all it ever does.
fn rules() -> [FirewallRule; 2] {
    let rule = |direction, action, destinations| FirewallRule {
        name: "rule".into(),
        direction,
        priority: 1000,
        action,
        sources: Addresses::all(),
        destinations,
        traffic: vec![Traffic::ALL],
        log: false,
    };
    let nobody = Addresses::network(Ipv4Addr::new(192, 0, 2, 0), 24);
    [rule(Direction::Ingress, Action::Allow, Addresses::all()), rule(Direction::Egress, Action::Deny, nobody)]
}

struct Options {
    backends: Vec<SocketAddr>,
    workers: usize,
    tls: Option<Arc<Tls>>,
    url_map: Option<serde_json::Value>,
    logs: bool,
}

impl Options {
    fn parse() -> Result<Options, Box<dyn std::error::Error>> {
        let mut args = std::env::args().skip(1);
        let backend = args.next().ok_or("usage: forward BACKEND [--workers N] [--tls PEM] …")?.parse()?;
        let mut options =
            Options { backends: vec![backend], workers: 1, tls: None, url_map: None, logs: true };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--workers" => options.workers = value()?.parse()?,
                "--tls" => options.tls = Some(tls(&value()?)?),
                "--url-map" => {
                    options.url_map = Some(serde_json::from_str(&std::fs::read_to_string(value()?)?)?);
                }
                "--other" => options.backends.push(value()?.parse()?),
                "--no-logs" => options.logs = false,
                _ => return Err(format!("unknown argument {flag}").into()),
            }
        }
        Ok(options)
    }

    /// The map of that number.
    fn document(&self, generation: u64) -> serde_json::Value {
        let index = generation as usize % self.backends.len();
        let name = if index == 0 { "bs" } else { "other" };
        let said = serde_json::json!([{"headerName": "x-map", "headerValue": index.to_string()}]);
        match (&self.url_map, self.backends.len()) {
            (Some(map), _) => map.clone(),
            (None, 1) => serde_json::json!({"defaultService": name}),
            (None, _) => {
                serde_json::json!({"defaultService": name, "headerAction": {"responseHeadersToAdd": said}})
            }
        }
    }
}

fn network() -> NetworkId {
    NetworkId::new("p", "vpc")
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

fn listener(options: &Options, generation: u64) -> Result<Listener, String> {
    let document = serde_json::from_value(options.document(generation)).map_err(|e| e.to_string())?;
    let url_map = UrlMap::compile(&document, |name| Some(usize::from(name != "bs")));
    let url_map = url_map.map_err(|error| format!("{error:?}"))?;
    let service = |backend: &SocketAddr| BackendService {
        name: "bs".into(),
        log: LogConfig { enable: options.logs, sample_rate: 1.0, optional: Optional::default() },
        timeout: Duration::from_secs(30),
        protocol: Default::default(),
        headers: None,
        backend: Backend::Endpoints(Arc::new(Endpoints::outside(&[*backend]))),
    };
    let services = options.backends.iter().map(|backend| Arc::new(service(backend))).collect();
    Ok(Listener {
        network: network(),
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
        tls: options.tls.clone(),
        routes: Arc::new(Routes { url_map: Arc::new(url_map), services }),
    })
}
