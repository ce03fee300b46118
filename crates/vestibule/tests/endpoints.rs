//! Network endpoint groups with endpoints: health checks, balancing, draining, and where connections come from.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use world::{BINARY, World};

const ZONE: &str = "--zone=us-central1-a";
const REGION: &str = "--region=us-central1";

/// Attach and detach calls under load: `VESTIBULE_TEST_CHANGES`.
const CHANGES: usize = 40;

/// A small HTTP server that says its name. It can be killed, and revived at the same address.
struct Backend {
    name: &'static str,
    /// Further lines of the heads of its answers.
    head: &'static str,
    address: SocketAddr,
    running: Mutex<Option<Running>>,
    /// Requests that it answered, those of health checks left out.
    served: Arc<AtomicUsize>,
}

struct Running {
    stop: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Backend {
    fn start(name: &'static str) -> Backend {
        Backend::with_head(name, "")
    }

    fn with_head(name: &'static str, head: &'static str) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let backend = Backend { name, head, address, running: Mutex::default(), served: Arc::default() };
        backend.listen(listener);
        backend
    }

    fn revive(&self) {
        // The port may be held by connections that are closing.
        let listener = world::until(|| TcpListener::bind(self.address), |bound| bound.is_ok()).unwrap();
        self.listen(listener);
    }

    fn listen(&self, listener: TcpListener) {
        let (stop, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (name, head, served) = (self.name, self.head, self.served.clone());
        let thread = std::thread::spawn({
            let (stop, connections) = (stop.clone(), connections.clone());
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    connections.lock().unwrap().push(stream.try_clone().unwrap());
                    let served = served.clone();
                    std::thread::spawn(move || answer(&stream, name, head, &served));
                }
            }
        });
        *self.running.lock().unwrap() = Some(Running { stop, connections, thread });
    }

    /// Stops listening and closes what is open, as a process does that is killed.
    fn kill(&self) {
        let Some(running) = self.running.lock().unwrap().take() else { return };
        running.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        running.thread.join().unwrap();
        for stream in running.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

fn answer(stream: &TcpStream, name: &str, lines: &str, served: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        if !head.starts_with("GET /health ") {
            served.fetch_add(1, Ordering::SeqCst);
        }
        let text = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{name}", name.len());
        if (&mut &*stream).write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// A client inside the network that asks again and again, on several threads, until its input ends; then it tells how
/// often it got which answer.
struct Load(Child);

impl Load {
    fn start(world: &World, url: &str) -> Load {
        const PROGRAM: &str = "
import collections, json, sys, threading, urllib.error, urllib.request
counts, lock, done = collections.Counter(), threading.Lock(), threading.Event()
def work():
    while not done.is_set():
        try:
            with urllib.request.urlopen(sys.argv[1], timeout=30) as response:
                answer = '%d %s' % (response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            answer = '%d %s' % (error.code, error.read().decode())
        except Exception as error:
            answer = repr(error)
        with lock:
            counts[answer] += 1
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
print('asking', flush=True)
sys.stdin.read()
done.set()
[thread.join() for thread in threads]
print(json.dumps(counts), flush=True)
";
        let mut command = world.command(BINARY);
        command.args(["vm", "run", "--network", "my-vpc", "--subnet", "my-subnet", "--", "python3", "-c"]);
        command.args([PROGRAM, url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Load(command.spawn().unwrap())
    }

    /// Ends it; how often each answer came.
    fn end(mut self) -> Vec<(String, u64)> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.wait().unwrap();
        let counts: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let counts = counts.as_object().unwrap().iter();
        counts.map(|(answer, count)| (answer.clone(), count.as_u64().unwrap())).collect()
    }
}

/// A network with a proxy-only subnetwork, a backend service with a health check, and an address in front of it.
fn set_up(world: &World, kind: &str, check: &str) {
    for words in [
        "compute networks create my-vpc --subnet-mode=custom",
        "compute networks subnets create my-subnet --network=my-vpc --range=10.0.0.0/24 --region=us-central1",
        "compute networks subnets create proxy-only --purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE \
         --region=us-central1 --network=my-vpc --range=10.129.0.0/23",
    ] {
        world.ok(words);
    }
    world.ok(&format!(
        "compute network-endpoint-groups create neg {ZONE} --network=my-vpc --network-endpoint-type={kind}"
    ));
    world.ok(&format!("compute health-checks create {check} hc {REGION} --check-interval=1s --timeout=1s"));
    world.ok(&format!(
        "compute backend-services create bs --load-balancing-scheme=INTERNAL_MANAGED --protocol=HTTP {REGION} \
         --health-checks=hc --health-checks-region=us-central1 --connection-draining-timeout=30s"
    ));
    world.ok(&format!(
        "compute backend-services add-backend bs {REGION} --network-endpoint-group=neg \
         --network-endpoint-group-zone=us-central1-a --balancing-mode=RATE --max-rate-per-endpoint=100"
    ));
    world.ok(&format!("compute url-maps create um --default-service=bs {REGION}"));
    world.ok(&format!("compute target-http-proxies create tp --url-map=um {REGION}"));
    world.ok(&format!(
        "compute forwarding-rules create fr --load-balancing-scheme=INTERNAL_MANAGED --network=my-vpc \
         --subnet=my-subnet --address=10.0.0.100 --ports=80 {REGION} --target-http-proxy=tp \
         --target-http-proxy-region=us-central1"
    ));
}

fn attach(world: &World, verb: &str, backend: &Backend) {
    let (ip, port) = (backend.address.ip(), backend.address.port());
    world.ok(&format!("compute network-endpoint-groups update neg {ZONE} --{verb}=ip={ip},port={port}"));
}

/// The health of every endpoint, in the order in which they were attached.
fn health(world: &World) -> Vec<String> {
    let text = world.ok(&format!("compute backend-services get-health bs {REGION} --format=json"));
    let answer: Value = serde_json::from_str(&text).unwrap();
    let all = answer[0]["status"]["healthStatus"].as_array().cloned().unwrap_or_default();
    all.iter().map(|status| status["healthState"].as_str().unwrap().to_owned()).collect()
}

fn wait_for_health(world: &World, wanted: &[&str]) {
    let found = world::until(|| health(world), |found| found == wanted);
    assert_eq!(found, wanted);
}

fn a_change_of_health_is_logged(world: &World, killed: &Backend) {
    let neg: Value = serde_json::from_str(
        &world.ok(&format!("compute network-endpoint-groups describe neg {ZONE} --format=json")),
    )
    .unwrap();
    let filter = "logName:healthchecks AND jsonPayload.healthCheckProbeResult.healthState=UNHEALTHY";
    let read = || {
        let output = world.gcloud_args(&["logging", "read", filter, "--format=json"]);
        serde_json::from_str::<Value>(&output.stdout).unwrap()
    };
    let entries = world::until(read, |entries| entries[0].is_object());
    let (entry, result) = (&entries[0], &entries[0]["jsonPayload"]["healthCheckProbeResult"]);
    assert_eq!(entry["resource"]["type"], "gce_network_endpoint_group", "{entries}");
    assert_eq!(entry["resource"]["labels"]["network_endpoint_group_id"], neg["id"], "{entry}");
    assert_eq!(entry["resource"]["labels"]["location"], "us-central1-a", "{entry}");
    assert_eq!(
        (&result["healthCheckProtocol"], &result["probeRequest"]),
        (&"HTTP".into(), &"/health".into())
    );
    assert_eq!(result["targetPort"], killed.address.port(), "{entry}");
    assert_eq!(result["previousHealthState"], "HEALTHY", "{entry}");
    assert!(result["probeResultText"].as_str().is_some_and(|text| !text.is_empty()), "{entry}");
}

#[test]
fn endpoints_come_and_go_under_load_and_no_request_fails() {
    let world = World::start();
    set_up(&world, "non-gcp-private-ip-port", "http --use-serving-port --request-path=/health");
    let (status, body) = world.get("http://10.0.0.100/", &[]);
    assert_eq!((status, body.as_str()), (503, "no healthy upstream"), "a group without endpoints");
    world.ok(&format!("compute health-checks update http hc {REGION} --enable-logging"));
    let backends = ["a", "b", "c"].map(Backend::start);
    attach(&world, "add-endpoint", &backends[0]);
    attach(&world, "add-endpoint", &backends[1]);
    wait_for_health(&world, &["HEALTHY", "HEALTHY"]);
    let listed = world.ok(&format!("compute network-endpoint-groups list-network-endpoints neg {ZONE}"));
    assert!(
        listed.contains(&format!("127.0.0.1   {}", backends[1].address.port()))
            || listed.contains("127.0.0.1"),
        "{listed}"
    );

    let load = Load::start(&world, "http://10.0.0.100/");
    world::until(|| backends[0].served(), |served| *served >= 20);
    // Killed: what it had and did not answer goes to the other.
    backends[0].kill();
    wait_for_health(&world, &["UNHEALTHY", "HEALTHY"]);
    a_change_of_health_is_logged(&world, &backends[0]);
    let before = backends[1].served();
    world::until(|| backends[1].served(), |served| *served >= before + 20);
    let before = backends[0].served();
    backends[0].revive();
    wait_for_health(&world, &["HEALTHY", "HEALTHY"]);
    let served = world::until(|| backends[0].served(), |served| *served >= before + 20);
    assert!(served >= before + 20, "it gets requests again");
    let changes = std::env::var("VESTIBULE_TEST_CHANGES").ok().and_then(|count| count.parse().ok());
    for change in 0..changes.unwrap_or(CHANGES) {
        let backend = &backends[1 + change / 2 % 2];
        let verb = ["remove-endpoint", "add-endpoint"][change % 2];
        // The third one comes first and goes later.
        match (change / 2 % 2, change % 2) {
            (1, 0) => attach(&world, "add-endpoint", backend),
            (1, _) => attach(&world, "remove-endpoint", backend),
            _ => attach(&world, verb, backend),
        }
    }
    let counts = load.end();
    assert!(counts.iter().all(|(answer, _)| answer.starts_with("200 ")), "{counts:?}");
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    println!("{total} requests, each answered 200");

    backends.iter().for_each(Backend::kill);
    let last =
        world::until(|| world.get("http://10.0.0.100/", &[]), |(_, body)| body == "no healthy upstream");
    assert_eq!(last.0, 503, "all unhealthy: {last:?}");
}

#[test]
fn a_cookie_keeps_a_client_with_its_endpoint() {
    let world = World::start();
    set_up(&world, "non-gcp-private-ip-port", "tcp --use-serving-port");
    world.ok(&format!("compute backend-services update bs {REGION} --session-affinity=GENERATED_COOKIE"));
    let backends = ["a", "b", "c", "d"].map(Backend::start);
    backends.iter().for_each(|backend| attach(&world, "add-endpoint", backend));
    wait_for_health(&world, &["HEALTHY"; 4]);
    let answer = world.vm(&["curl", "-sS", "-i", "http://10.0.0.100/"]);
    let text = answer.stdout.to_lowercase();
    let cookie = text.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.starts_with("gcilb=\"") && cookie.contains("httponly"), "{cookie}");
    let pair = format!("Cookie: GCILB={}", cookie["gcilb=".len()..].split(';').next().unwrap());
    let first = world.get("http://10.0.0.100/", &[&pair]).1;
    for _ in 0..6 {
        assert_eq!(world.get("http://10.0.0.100/", &[&pair]).1, first);
    }
}

/// Who says that it is nearly idle gets more requests than who says that it is nearly full.
#[test]
fn requests_follow_the_load_that_endpoints_report() {
    let world = World::start();
    set_up(&world, "non-gcp-private-ip-port", "tcp --use-serving-port");
    world.ok(&format!(
        "compute backend-services update bs {REGION} --locality-lb-policy=WEIGHTED_ROUND_ROBIN \
         --custom-metrics=name=queue --custom-metrics=name=orca.cpu_utilization,dryRun=true"
    ));
    let backends = [
        Backend::with_head(
            "idle",
            "Endpoint-Load-Metrics: TEXT named_metrics.queue=0.1,cpu_utilization=0.9\r\n",
        ),
        Backend::with_head("busy", "Endpoint-Load-Metrics: JSON {\"named_metrics\": {\"queue\": 0.9}}\r\n"),
    ];
    backends.iter().for_each(|backend| attach(&world, "add-endpoint", backend));
    wait_for_health(&world, &["HEALTHY"; 2]);
    let load = Load::start(&world, "http://10.0.0.100/");
    let served = || [backends[0].served(), backends[1].served()];
    let mut before = served();
    // Of the last hundred requests or more.
    let share = || {
        let now = world::until(served, |now| now.iter().sum::<usize>() >= before.iter().sum::<usize>() + 100);
        let [idle, busy] = [now[0] - before[0], now[1] - before[1]];
        before = now;
        idle as f64 / (idle + busy).max(1) as f64
    };
    let share = world::until(share, |share| *share > 0.8);
    assert!(share > 0.8, "the idle one gets {share} of the requests");
    let counts = load.end();
    assert!(counts.iter().all(|(answer, _)| answer.starts_with("200 ")), "{counts:?}");
}

/// A client of the network that serves on port 8000 and answers with the address that it was asked from.
fn serve(world: &World, address: &str) -> Server {
    const PROGRAM: &str = "
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = self.client_address[0].encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(('', 8000), Handler)
print('serving', flush=True)
server.serve_forever()
";
    let mut command = world.command(BINARY);
    command.args(["vm", "run", "--network", "my-vpc", "--subnet", "my-subnet", "--address", address, "--"]);
    command.args(["python3", "-c", PROGRAM]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "serving\n");
    Server(child)
}

/// A client that ends with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// No client gets an address of the proxy-only subnetwork, by whichever words.
fn proxies_keep_their_addresses(world: &World) {
    for (subnet, address, why) in [
        ("proxy-only", "10.129.0.9", "only the proxies of load balancers have addresses in it"),
        ("my-subnet", "10.129.0.9", "The address is not in the range 10.0.0.0/24 of the subnetwork"),
    ] {
        let mut command = world.command(BINARY);
        command.args(["vm", "run", "--network", "my-vpc", "--subnet", subnet, "--address", address]);
        let output = command.args(["--", "true"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(why), "{told}");
    }
}

#[test]
fn a_client_of_the_network_sees_the_proxy_only_subnetwork() {
    if let Err(error) = vestibule_vpc::Namespaces::new() {
        println!("not run: this user may make no network namespace here: {error}");
        return;
    }
    let world = World::start_in("namespace");
    set_up(&world, "gce-vm-ip-port", "http --port=8000");
    let server = serve(&world, "10.0.0.9");
    world.ok(&format!(
        "compute network-endpoint-groups update neg {ZONE} --add-endpoint=instance=web,ip=10.0.0.9,port=8000"
    ));
    wait_for_health(&world, &["UNHEALTHY"]);
    let (status, body) = world.get("http://10.0.0.100/", &[]);
    assert_eq!((status, body.as_str()), (503, "no healthy upstream"), "no firewall rule lets the prober in");
    let explained = world.command(BINARY).args(["explain", "http://10.0.0.100/"]).output().unwrap();
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("refused by the check `firewall`"), "{explained}");
    assert!(explained.contains("allows tcp:8000 from"), "{explained}");
    proxies_keep_their_addresses(&world);
    world.ok("compute firewall-rules create from-proxies --network=my-vpc --allow=tcp:8000 \
         --source-ranges=10.129.0.0/23");
    wait_for_health(&world, &["HEALTHY"]);
    let (status, body) = world.get("http://10.0.0.100/", &[]);
    assert_eq!(status, 200, "{body}");
    assert!(body.starts_with("10.129."), "asked from {body}");
    drop(server);
    wait_for_health(&world, &["UNHEALTHY"]);
}
