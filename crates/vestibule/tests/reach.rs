//! Who reaches whom inside a network: firewall rules between clients, and regions at virtual IPs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use world::{Answer, BINARY, World};

const SERVER: &str = "10.1.0.9";

/// A world with real networks, one of them with a subnet in each of two regions; or `None` and a line that says why not.
fn world() -> Option<World> {
    let world = World::start_in("auto");
    if world.ready("network-mode") != "namespace" {
        println!("not run: this user may make no network namespace here");
        return None;
    }
    Some(world)
}

fn run(world: &World, subnet: &str, words: &[&str]) -> Answer {
    let mut command = world.command(BINARY);
    command.args(["vm", "run", "--network", "my-vpc", "--subnet", subnet, "--"]).args(words);
    Answer::of(command.output().unwrap())
}

/// Whether a client of a subnet gets an answer; waits longer if it should.
fn reaches(world: &World, subnet: &str, url: &str, expected: bool) -> bool {
    let patience = if expected { "60" } else { "1" };
    run(world, subnet, &["curl", "-sS", "-o", "/dev/null", "--max-time", patience, url]).code == 0
}

/// A client that serves on port 8000, with a tag and a service account. It stands for 192.0.2.5 as well, if somebody
/// leads packets there.
fn serve(world: &World) -> Server {
    const PROGRAM: &str = "
import fcntl, http.server, socket, struct
SIOCSIFADDR = 0x8916
request = struct.pack('16sHH4s8x', b'lo:1', socket.AF_INET, 0, socket.inet_aton('192.0.2.5'))
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), SIOCSIFADDR, request)
server = http.server.HTTPServer(('', 8000), http.server.SimpleHTTPRequestHandler)
print('serving', flush=True)
server.serve_forever()
";
    let mut command = world.command(BINARY);
    command.args([
        "vm",
        "run",
        "--network",
        "my-vpc",
        "--subnet",
        "far",
        "--address",
        SERVER,
        "--tags",
        "web",
    ]);
    command.args([
        "--service-account",
        "server@demo.iam.gserviceaccount.com",
        "--",
        "python3",
        "-c",
        PROGRAM,
    ]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "serving\n");
    Server(child)
}

/// A client that ends with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Killed without a chance to pass the signal on: its command must go all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn firewall_rules_hold_when_the_command_has_answered() {
    let Some(world) = world() else { return };
    world.ok("compute networks create my-vpc --subnet-mode=custom");
    world
        .ok("compute networks subnets create near --network=my-vpc --range=10.0.0.0/24 --region=us-central1");
    world
        .ok("compute networks subnets create far --network=my-vpc --range=10.1.0.0/24 --region=europe-west1");
    let server = serve(&world);
    let reached = |expected| reaches(&world, "near", &format!("http://{SERVER}:8000/"), expected);
    let rule = |name: &str, flags: &str| {
        world.ok(&format!("compute firewall-rules create {name} --network=my-vpc {flags}"));
    };
    let remove = |name: &str| world.ok(&format!("compute firewall-rules delete {name} --quiet"));

    assert!(!reached(false), "without a rule");
    rule("by-tag", "--allow=tcp:8000 --target-tags=web");
    assert!(reached(true), "allowed by tag");
    rule("closer", "--action=DENY --rules=tcp --source-ranges=10.0.0.0/24 --priority=10");
    assert!(!reached(false), "denied with a lower number");
    world.ok("compute firewall-rules update closer --disabled");
    assert!(reached(true), "the denying rule is disabled");
    remove("by-tag");
    rule("by-account", "--allow=tcp:8000 --target-service-accounts=server@demo.iam.gserviceaccount.com");
    assert!(reached(true), "allowed by service account");
    rule("stay", "--direction=EGRESS --action=DENY --rules=all --destination-ranges=10.1.0.0/16");
    assert!(!reached(false), "not let out");
    remove("stay");
    remove("by-account");
    rule("by-other", "--allow=tcp:8000 --target-tags=other");
    assert!(!reached(false), "a rule about others");

    drop(server);
    let left = world::until(|| world::processes_of(&world.path("")), |left| left == &[world.pid()]);
    assert_eq!(left, [world.pid()], "only the server is left");
}

#[test]
fn rules_with_logging_write_what_they_decide() {
    let Some(world) = world() else { return };
    world.ok("compute networks create my-vpc --subnet-mode=custom");
    for (name, range) in [("near", "10.0.0.0/24"), ("far", "10.1.0.0/24")] {
        world.ok(&format!(
            "compute networks subnets create {name} --network=my-vpc --range={range} --region=us-central1"
        ));
    }
    let _server = serve(&world);
    let reached = |expected| reaches(&world, "near", &format!("http://{SERVER}:8000/"), expected);
    world
        .ok("compute firewall-rules create shut --network=my-vpc --action=DENY --rules=tcp --enable-logging");
    assert!(!reached(false));
    world.ok("compute firewall-rules create web --network=my-vpc --allow=tcp:8000 --target-tags=web \
         --priority=10 --enable-logging --logging-metadata=exclude-all");
    assert!(reached(true));
    let read = |disposition: &str| {
        let filter = format!(
            "logName:\"compute.googleapis.com%2Ffirewall\" AND jsonPayload.disposition={disposition}"
        );
        let ask = || world.gcloud_args(&["logging", "read", &filter, "--format=json"]).stdout;
        let text = world::until(ask, |text| text.contains("rule_details"));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[0].clone()
    };
    let denied = read("DENIED");
    assert_eq!(denied["resource"]["type"], "gce_subnetwork");
    let payload = &denied["jsonPayload"];
    assert_eq!(payload["connection"]["dest_ip"], SERVER);
    assert_eq!(
        (&payload["connection"]["dest_port"], &payload["connection"]["protocol"]),
        (&8000.into(), &6.into())
    );
    assert_eq!(payload["rule_details"]["reference"], "network:my-vpc/firewall:shut");
    assert_eq!(payload["rule_details"]["action"], "DENY");
    assert_eq!(payload["rule_details"]["ip_port_info"][0]["ip_protocol"], "TCP");
    assert_eq!(payload["vpc"]["vpc_name"], "my-vpc");
    let name = payload["instance"]["vm_name"].as_str().unwrap();
    assert!(name.starts_with("vm-"), "{name}");
    assert_eq!(payload["remote_vpc"]["subnetwork_name"], "near");
    let allowed = &read("ALLOWED")["jsonPayload"];
    assert_eq!(allowed["rule_details"], serde_json::json!({"reference": "network:my-vpc/firewall:web"}));
    assert!(allowed.get("instance").is_none(), "metadata is excluded: {allowed}");
}

#[test]
fn a_static_route_leads_beyond_the_network() {
    let Some(world) = world() else { return };
    world.ok("compute networks create my-vpc --subnet-mode=custom");
    world
        .ok("compute networks subnets create near --network=my-vpc --range=10.0.0.0/24 --region=us-central1");
    world
        .ok("compute networks subnets create far --network=my-vpc --range=10.1.0.0/24 --region=europe-west1");
    world.ok("compute addresses create nat --region=europe-west1 --subnet=far --addresses=10.1.0.9");
    let server = serve(&world);
    let address = world.ok("compute addresses describe nat --region=europe-west1");
    assert!(address.contains("status: IN_USE") && address.contains("instances/vm-10-1-0-9"), "{address}");
    world.ok("compute firewall-rules create web --network=my-vpc --allow=tcp:8000");
    let reached = |expected| reaches(&world, "near", "http://192.0.2.5:8000/", expected);
    assert!(!reached(false), "without a route");
    let made = world.ok(&format!(
        "compute routes create beyond --network=my-vpc --destination-range=192.0.2.0/24 \
         --next-hop-address={SERVER}"
    ));
    assert!(made.contains("192.0.2.0/24  10.1.0.9  1000"), "{made}");
    assert!(reached(true), "the route was made");
    world.ok("compute routes create shut --network=my-vpc --destination-range=192.0.2.5/32 \
         --next-hop-gateway=default-internet-gateway");
    assert!(!reached(false), "a narrower route leads out");
    world.ok("compute routes delete shut --quiet");
    assert!(reached(true), "the narrower route is gone");
    drop(server);
    assert!(!reached(false), "the next hop is gone");
    let _server = serve(&world);
    assert!(reached(true), "and back");
}

#[test]
fn clients_of_other_regions_need_global_access() {
    let Some(world) = world() else { return };
    world.published_setup();
    world
        .ok("compute networks subnets create far --network=my-vpc --range=10.1.0.0/24 --region=europe-west1");
    assert!(reaches(&world, "my-subnet", "http://10.0.0.100/", true), "the rule's own region");
    assert!(!reaches(&world, "far", "http://10.0.0.100/", false), "another region");
    world.ok(
        "compute forwarding-rules create everywhere --load-balancing-scheme=INTERNAL_MANAGED --network=my-vpc \
         --subnet=my-subnet --address=10.0.0.101 --ports=80 --region=us-central1 --allow-global-access \
         --target-http-proxy=my-internal-proxy --target-http-proxy-region=us-central1",
    );
    assert!(reaches(&world, "far", "http://10.0.0.101/", true), "with global access");
}
