//! `vestibule serve`: everything wired together, in one process.
//!
//! Order matters at both ends. At the start the planes take over the stored state before the API answers, so a client
//! never sees an operation that is DONE and not obeyed. At the end the proxy drains first, while everything that its
//! clients need to get through (leases, the gateway, names) is still there; then the API and the networks end, then
//! instances go, and the log is written last. What is changed while the proxy drains is stored, and obeyed by the next
//! start.

mod authority;
mod clients;
mod egress;
mod firewall_log;
mod firewalls;
mod health_log;
mod instances;
mod metrics;
mod networks;
mod options;
mod takeover;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use vestibule_api::{Api, ApiDeps, Turnstile};
use vestibule_control::lb::{Fronts, GOOGLE_APIS};
use vestibule_control::run::InstanceSecrets;
use vestibule_control::{Control, Settings};
use vestibule_dns::{QueryLog, Resolver};
use vestibule_health::Prober;
use vestibule_iam::Issuer;
use vestibule_logs::{LogLimits, LogStore};
use vestibule_proxy::snapshot::{Front, FrontAddress};
use vestibule_run::driver::Driver;
use vestibule_run::driver::container::ContainerDriver;
use vestibule_run::driver::docker::DockerDriver;
use vestibule_run::{Dependencies, Program, Runtime, RuntimeConfig};
use vestibule_store::Store;
use vestibule_vpc::{Loopback, Namespaces, NetworkId, Vpc, namespace};

use clients::{Clients, Surroundings, mode_name};
use firewall_log::FirewallLog;
use instances::Instances;
use metrics::Metrics;
use networks::{Networks, Services};
pub use options::state_dir;
use options::{Conformance, NetworkMode, Options, RunDriver};
use takeover::{Adopted, Donor, Handed, Inheritance, Parts, Settings as Agreed};

/// The subcommand that is the built-in sample service.
pub const HELLO: &str = "internal-hello";
/// The subcommand that becomes another program.
pub const EXEC: &str = "internal-exec";

/// The subcommand that makes one container.
pub const CONTAINER: &str = "internal-container";
/// The subcommand that is the first process of a container of an engine.
pub const IN_CONTAINER: &str = "internal-in-container";

/// How long the planes may take to take over the stored state before the API answers all the same.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How often those who follow the store are woken at the end.
const WAKE_PERIOD: Duration = Duration::from_millis(2);
/// What is told of tasks that is written in one change, at most.
const REPORTS_AT_ONCE: usize = 1000;
/// Threads for the APIs, the gateway, the resolvers and the metadata servers.
const SERVICE_THREADS: usize = 2;

type Failure = Box<dyn Error>;

/// Parses the flags, serves until SIGTERM or SIGINT, and says how it ended.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let words = args.into_iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, word)| word);
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level()).with_target(false).init();
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("vestibule serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `VESTIBULE_LOG`: error, warn (default), info, debug or trace.
fn level() -> tracing::Level {
    let word = std::env::var("VESTIBULE_LOG").unwrap_or_default();
    word.parse().unwrap_or(tracing::Level::WARN)
}

fn serve(options: &Options) -> Result<(), Failure> {
    // Clients and instances are told of it, and work elsewhere.
    let state_dir = std::path::absolute(options.state_dir())?;
    let mut inheritance =
        options.takeover.then(|| Inheritance::ask(&state_dir, &options.settings())).transpose()?;
    // Before the first thread: a process with threads cannot enter a user namespace.
    let vpc = match &mut inheritance {
        Some(inheritance) => inheritance.vpc()?,
        None => networks_of(options.network_mode)?,
    };
    let provider = rustls::crypto::ring::default_provider();
    // Only a second call fails, and there is none.
    let _ = provider.install_default();
    let services = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SERVICE_THREADS)
        .thread_name("services")
        .enable_all()
        .build()?;
    let sockets = Sockets::of(options, &vpc, inheritance.as_ref())?;
    let store = open_store(&state_dir.join("store"))?;
    let run_dir = state_dir.join("run");
    std::fs::create_dir_all(&run_dir)?;
    let authority = authority::open(&state_dir.join("ca"))?;
    let logs = LogStore::open(&state_dir.join("logs"), LogLimits::default())?;
    let issuer = Issuer::open(&state_dir.join("iam"))?;
    let control = Control::open(store, settings(options, &vpc));
    let resolver = Resolver::in_vpc(options.dns_upstream.servers(), vpc.clone());
    let (gateway, front) = (sockets.gateway_address()?, sockets.front_address()?);
    let ready =
        Ready { api: sockets.api.local_addr()?, state: state_dir.clone(), gateway, front, mode: vpc.mode() };
    let (stop, stopped) = watch::channel(false);
    let (leave, left) = watch::channel(false);
    let (open, opened) = watch::channel(false);

    let egress = egress::Networks::new(control.clone(), vpc.clone(), resolver.clone(), front, options.egress);
    let egress = Arc::new(egress);
    let parts = (&control, &issuer, &logs);
    let runtime = start_runtime(options, &state_dir, parts, egress.clone(), services.handle())?;
    let runtime = Arc::new(runtime);
    let proxy = Arc::new(vestibule_proxy::Proxy::start(
        vestibule_proxy::ProxyConfig { open: Some(opened.clone()), ..proxy_config(options) },
        vestibule_proxy::Dependencies { vpc: vpc.clone(), run: runtime.front(), logs: logs.sink() },
    )?);
    let surroundings = Surroundings {
        gateway,
        ca_bundle: authority.bundle.clone(),
        run_dir: run_dir.clone(),
        status: ready.status(),
        metrics: Metrics {
            proxy: proxy.clone(),
            runtime: runtime.clone(),
            resolver: resolver.clone(),
            logs: logs.sink(),
        },
    };
    let clients = Clients::new(control.clone(), vpc.clone(), resolver.clone(), runtime.front(), surroundings);
    egress.join(clients.clone());
    let known = clients.clone();
    let who = Box::new(move |network: &NetworkId, address| known.machine(network, address));
    resolver.log_to(QueryLog::start(logs.sink(), who)?);
    let adopted = Adopted::default();
    let mut seats = Vec::new();
    if let Some(inheritance) = &mut inheritance {
        inheritance.give_fronts(&proxy);
        for (described, connection) in std::mem::take(&mut inheritance.leases) {
            let lease = clients.adopt(described);
            match connection {
                Some(connection) => {
                    adopted.keep(lease, connection, services.handle(), stopped.clone())?;
                }
                None => seats.push(lease),
            }
        }
    }
    let log = FirewallLog { control: control.clone(), clients: clients.clone(), logs: logs.sink() };
    vpc.log_firewall(Arc::new(move |event| log.write(&event)));
    let findings = logs.sink();
    let prober = Prober::start(vpc.clone(), Arc::new(move |finding| health_log::write(&findings, finding)))?;
    let present = Services::default();
    let networks = Networks {
        control: control.clone(),
        vpc: vpc.clone(),
        resolver: resolver.clone(),
        issuer: issuer.clone(),
        clients: clients.clone(),
        runtime: services.handle().clone(),
        services: present.clone(),
        open: opened,
    };
    let networks = networks.start(left.clone())?;
    let reconcilers = reconcilers(&control, &resolver, &runtime, &proxy, &authority, front, prober)?;
    if !control.planes().wait(control.view().revision(), SETTLE_LIMIT) {
        if inheritance.is_some() {
            return Err("the data planes did not take over the stored state in time".into());
        }
        tracing::warn!("the data planes have not taken over the stored state yet");
    }
    if let Some(inheritance) = &inheritance {
        inheritance.ready()?;
    }

    // From here on the state is ours.
    control.store().begin();
    open.send_replace(true);
    let clients = Arc::new(clients);
    let api =
        Api::new(ApiDeps { control: control.clone(), issuer, host: clients.clone(), logs: logs.clone() });
    let turnstile = Turnstile::default();
    let parts = Parts {
        state_dir: state_dir.clone(),
        services: services.handle().clone(),
        asked: options.settings(),
        actual: ready.agreed(options),
        turnstile: turnstile.clone(),
        control: control.clone(),
        logs: logs.clone(),
        runtime: runtime.clone(),
        proxy: proxy.clone(),
        vpc: vpc.clone(),
        networks: present,
        clients: Clients::clone(&clients),
        adopted,
        api: sockets.api.try_clone()?,
        gateway: sockets.gateway.as_ref().map(TcpListener::try_clone).transpose()?,
        front: sockets.front.try_clone()?,
    };
    let api = services.spawn(api.serve_behind(turnstile, sockets.api, ended(stopped.clone())));
    let gateway =
        sockets.gateway.map(|listener| services.spawn(serve_gateway(listener, Arc::clone(&clients), left)));
    // Whatever was not asked for is served by nobody.
    vpc.inherit(Default::default());
    let (socket, predecessor) = match inheritance {
        Some(inheritance) => {
            let socket = inheritance.socket.try_clone()?;
            (Some(socket), Some(inheritance.served(logs.clone(), seats)?))
        }
        None => (None, None),
    };
    let handed = Donor::new(parts, socket)?.start(predecessor)?;
    // Who reads that it is ready may end it at once.
    let signals = Signals::listen(&services)?;
    announce(&ready)?;
    let successor = services.block_on(end(handed, signals));

    match &successor {
        Some(handed) => {
            handed.wait_until_served();
            leave.send_replace(true);
            control.store().interrupt();
            proxy.leave(options.drain_timeout());
        }
        None => {
            Donor::remove_socket(&state_dir);
            proxy.drain(options.drain_timeout());
        }
    }
    clients.close();
    leave.send_replace(true);
    if let (Some(_), Some(gateway)) = (&successor, gateway) {
        // What goes through it ends with its connections to the proxy, most of it.
        let _ = services.block_on(async { tokio::time::timeout(options.drain_timeout(), gateway).await });
    }
    stop.send_replace(true);
    services.block_on(api)??;
    reconcilers.stop(&control);
    let _ = networks.join();
    runtime.shutdown();
    services.shutdown_timeout(Duration::from_secs(1));
    logs.flush();
    Ok(())
}

/// Opens the store on hold: nothing is written before the state is ours.
fn open_store(dir: &Path) -> Result<Store, Failure> {
    Store::open_held(dir).map_err(|error| match error {
        vestibule_store::OpenError::Locked { .. } => {
            format!("{error}; `vestibule serve --takeover` takes over from a running server").into()
        }
        other => other.into(),
    })
}

/// The listening sockets that are this process's own, of no network.
struct Sockets {
    api: TcpListener,
    /// The way in where clients have no namespace of their own.
    gateway: Option<TcpListener>,
    /// Holds the address of the front, which the proxy's own sockets share.
    front: OwnedFd,
}

impl Sockets {
    /// From the server before this one, or new ones.
    fn of(options: &Options, vpc: &Vpc, inheritance: Option<&Inheritance>) -> Result<Sockets, Failure> {
        match inheritance {
            Some(from) => Ok(Sockets {
                api: from.api.try_clone()?,
                gateway: from.gateway.as_ref().map(TcpListener::try_clone).transpose()?,
                front: from.front.try_clone()?,
            }),
            None => Ok(Sockets {
                api: listen(options.api_listen, "--api-listen")?,
                gateway: gateway_listener(options, vpc)?,
                front: reserve(options.front_listen)?.into(),
            }),
        }
    }

    fn gateway_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.gateway.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Known before the proxy listens there.
    fn front_address(&self) -> Result<SocketAddr, Failure> {
        let bound = socket2::SockRef::from(&self.front).local_addr()?;
        bound.as_socket().ok_or_else(|| "a TCP socket has no address".into())
    }
}

/// Completes when the process is told to end: by a signal, or because another server has taken over.
async fn end(handed: oneshot::Receiver<Handed>, signals: Signals) -> Option<Handed> {
    let handed = async {
        match handed.await {
            Ok(handed) => handed,
            // The thread has ended: nobody can take over any more.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.told() => None,
        handed = handed => Some(handed),
    }
}

/// The networks in the wanted mode. Must be called before the process has a second thread.
fn networks_of(mode: NetworkMode) -> Result<Vpc, Failure> {
    let loopback = || Ok(Vpc::new(Loopback::claim()?));
    match mode {
        NetworkMode::Loopback => loopback(),
        NetworkMode::Namespace => Ok(Vpc::new(namespaces()?)),
        NetworkMode::Auto => match namespaces() {
            Ok(driver) => Ok(Vpc::new(driver)),
            Err(error) => {
                tracing::warn!(%error, "no network namespaces here: private addresses are served on loopback, see `vestibule doctor`");
                loopback()
            }
        },
    }
}

/// Networks of the kernel's own, in a user namespace where this user is not root.
pub fn namespaces() -> std::io::Result<Namespaces> {
    if !rustix::process::geteuid().is_root() {
        namespace::enter_user_namespace()?;
    }
    Namespaces::new()
}

fn settings(options: &Options, vpc: &Vpc) -> Settings {
    Settings {
        conformance: match options.conformance {
            Conformance::Permissive => vestibule_control::Conformance::Permissive,
            Conformance::Google => vestibule_control::Conformance::Google,
        },
        firewall_gap: vpc.firewall_gap(),
        firewall_log_gap: vpc.firewall_log_gap(),
        default_networks: !options.skip_default_network,
    }
}

fn listen(at: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(at).map_err(|error| {
        format!(
            "cannot listen on {at}: {error}; choose another address with {flag}, or stop what listens there"
        )
        .into()
    })
}

/// The gateway is the way in only where clients have no namespace of their own.
fn gateway_listener(options: &Options, vpc: &Vpc) -> Result<Option<TcpListener>, Failure> {
    match vpc.mode() {
        vestibule_vpc::Mode::Loopback => listen(options.gateway_listen, "--gateway-listen").map(Some),
        vestibule_vpc::Mode::Namespace => Ok(None),
    }
}

/// Holds an address for the proxy's own sockets, which share it: the port is known before the proxy listens.
fn reserve(at: SocketAddr) -> Result<socket2::Socket, Failure> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket
        .bind(&at.into())
        .map_err(|e| format!("cannot use {at}: {e}; choose another with --front-listen"))?;
    Ok(socket)
}

fn start_runtime(
    options: &Options,
    state_dir: &Path,
    (control, issuer, logs): (&Control, &Issuer, &LogStore),
    egress: Arc<egress::Networks>,
    services: &tokio::runtime::Handle,
) -> Result<Runtime, Failure> {
    let own = std::env::current_exe()?;
    let program = |word: &str| Program { path: own.clone(), args: vec![word.to_owned()] };
    let mut config = RuntimeConfig::new(state_dir.join("run"), program(HELLO), program(EXEC));
    config.allow_programs = options.driver == RunDriver::Process;
    config.idle_timeout = options.idle_timeout();
    let dependencies = Dependencies {
        verifier: issuer.verifier(),
        logs: logs.sink(),
        metadata: Some(Arc::new(Instances::new(issuer.clone(), services.clone()))),
        networks: Some(egress),
        containers: containers(options.driver, state_dir, program)?,
        secrets: Some(Arc::new(InstanceSecrets::new(control.clone()))),
    };
    Ok(Runtime::start(config, dependencies)?)
}

/// What runs images. Where nobody said what, the first that works here, or nothing.
fn containers(
    driver: RunDriver,
    state_dir: &Path,
    program: impl Fn(&str) -> Program,
) -> Result<Option<Arc<dyn Driver>>, Failure> {
    let own = || ContainerDriver::open(state_dir, program(CONTAINER));
    let docker = || {
        let driver = DockerDriver::open(state_dir, &program(IN_CONTAINER))?;
        tracing::info!(engine = driver.describe(), "images run as containers of an engine");
        Ok::<_, std::io::Error>(driver)
    };
    match driver {
        RunDriver::Process => Ok(None),
        RunDriver::Container => Ok(Some(Arc::new(own().map_err(|error| format!("--driver=container: {error}"))?))),
        RunDriver::Docker => Ok(Some(Arc::new(docker().map_err(|error| format!("--driver=docker: {error}"))?))),
        RunDriver::Auto => match own() {
            Ok(driver) => Ok(Some(Arc::new(driver))),
            Err(error) => Ok(docker().map(|driver| Arc::new(driver) as Arc<dyn Driver>).inspect_err(|engine| {
                tracing::warn!(%error, %engine, "no containers here: only built-in images run; `vestibule doctor` says what is missing");
            }).ok()),
        },
    }
}

fn proxy_config(options: &Options) -> vestibule_proxy::ProxyConfig {
    let mut config = vestibule_proxy::ProxyConfig::default();
    if let Some(workers) = options.workers {
        config.workers = usize::from(workers);
    }
    config.clear_http2 = options.h2c;
    config.limits = options.limits();
    config
}

/// What turns stored documents into what the planes obey. Dropping them ends them.
struct Reconcilers {
    _lb: vestibule_control::lb::Reconciler,
    _run: vestibule_control::run::reconcile::Reconciler,
    _dns: vestibule_control::dns::Reconciler,
}

fn reconcilers(
    control: &Control,
    resolver: &Resolver,
    runtime: &Arc<Runtime>,
    proxy: &Arc<vestibule_proxy::Proxy>,
    authority: &authority::Authority,
    front: SocketAddr,
    prober: Prober,
) -> Result<Reconcilers, Failure> {
    let machine = Front { at: FrontAddress::Machine(front), tls: Some(authority.tls.clone()) };
    let fronts = Fronts::new(vec![Arc::new(machine)], Some(authority.tls.clone()));
    let runs = runtime.clone();
    let dns = vestibule_control::dns::start(control.clone(), resolver.clone(), Some(GOOGLE_APIS))?;
    let run = vestibule_control::run::reconcile::start(control.clone(), move |desired| {
        runs.apply(desired);
    })?;
    let reports = runtime.reports();
    vestibule_control::run::reconcile::start_reports(control.clone(), move || reports.recv())?;
    let tasks = runtime.task_reports();
    vestibule_control::run::reconcile::start_task_reports(control.clone(), move || {
        tasks.recv_many(REPORTS_AT_ONCE)
    })?;
    let lb = vestibule_control::lb::start(control.clone(), proxy.clone(), prober, fronts)?;
    Ok(Reconcilers { _lb: lb, _run: run, _dns: dns })
}

impl Reconcilers {
    /// Ends them. They end by themselves, but one after the other would each wait for its next look at the store.
    fn stop(self, control: &Control) {
        let Reconcilers { _lb: lb, _run: run, _dns: dns } = self;
        let ends = [
            std::thread::spawn(move || drop(lb)),
            std::thread::spawn(move || drop(run)),
            std::thread::spawn(move || drop(dns)),
        ];
        // Each has to be told before it is woken, and which comes first is not known: wake until all have ended.
        while ends.iter().any(|end| !end.is_finished()) {
            control.store().interrupt();
            std::thread::sleep(WAKE_PERIOD);
        }
    }
}

async fn serve_gateway(listener: TcpListener, clients: Arc<Clients>, stopped: watch::Receiver<bool>) {
    let serving = async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        vestibule_gateway::serve(listener, clients.vpc(), clients, ended(stopped)).await
    };
    if let Err(error) = serving.await {
        tracing::error!(%error, "the gateway ended");
    }
}

/// Completes when the process is told to end.
async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error says that the sender is gone: also an end.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The signals that end the process in order. Before they are listened to they kill it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen(runtime: &tokio::runtime::Runtime) -> std::io::Result<Signals> {
        let _entered = runtime.enter();
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Completes when the process is told to end.
    async fn told(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where everything is, for the ready line and for `/vestibule/v1/status`.
struct Ready {
    api: SocketAddr,
    state: PathBuf,
    gateway: Option<SocketAddr>,
    front: SocketAddr,
    mode: vestibule_vpc::Mode,
}

impl Ready {
    /// Where everything really is, for a server that wants to take over.
    fn agreed(&self, options: &Options) -> Agreed {
        let asked = options.settings();
        Agreed {
            api: self.api,
            gateway: self.gateway.unwrap_or(asked.gateway),
            front: self.front,
            network_mode: mode_name(self.mode).to_owned(),
            ..asked
        }
    }

    fn status(&self) -> serde_json::Value {
        json!({
            "api": format!("http://{}", self.api),
            "state_dir": self.state,
            "network_mode": mode_name(self.mode),
            "gateway": self.gateway.map(|at| at.to_string()),
            "front": self.front.to_string(),
        })
    }
}

/// The one line on stdout.
fn announce(ready: &Ready) -> std::io::Result<()> {
    let gateway = ready.gateway.map(|at| format!(" gateway={at}")).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "ready api=http://{} state={} network-mode={}{gateway} front={}",
        ready.api,
        ready.state.display(),
        mode_name(ready.mode),
        ready.front,
    )?;
    out.flush()
}
