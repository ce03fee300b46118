//! Namespace mode: the same set-up, in networks of the kernel's own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use world::{Answer, REGION, World};

/// A world with real networks, or `None` and a line that says why not.
fn world() -> Option<World> {
    let world = World::start_in("auto");
    if world.ready("network-mode") != "namespace" {
        println!("not run: this user may make no network namespace here");
        return None;
    }
    Some(world)
}

fn run_in(world: &World, network: &str, subnet: &str, words: &[&str]) -> Answer {
    let mut command = world.command(world::BINARY);
    command.args(["vm", "run", "--network", network, "--subnet", subnet, "--"]).args(words);
    Answer::of(command.output().unwrap())
}

#[test]
fn the_published_setup_in_a_real_network() {
    let Some(world) = world() else { return };
    world.published_setup();
    assert_eq!(world.ready("network-mode"), "namespace");
    world.ok(&format!(
        "run services add-iam-policy-binding my-internal-service {REGION} --member=allUsers --role=roles/run.invoker"
    ));
    let (status, body) = world.get("http://10.0.0.100/", &[]);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("x-forwarded-for: 10.0.0.2,10.0.0.100"), "the client's own address: {body}");
    assert_eq!(world.get("http://api.internal.example.com/by-name", &[]).0, 200);
    assert_eq!(world.get("https://api.internal.example.com/", &[]).0, 200);
    let found = world.vm(&["getent", "hosts", "api.internal.example.com"]);
    assert!(found.stdout.starts_with("10.0.0.100"), "{found:?}");
    let dug = world.vm(&["dig", "+short", "+tcp", "api.internal.example.com"]);
    assert_eq!(dug.stdout.trim(), "10.0.0.100", "{dug:?}");
    let email = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/email";
    let (status, email) = world.get(email, &["Metadata-Flavor: Google"]);
    assert_eq!(status, 200);
    assert!(email.ends_with("-compute@developer.gserviceaccount.com"), "{email}");

    assert!(TcpListener::bind("10.0.0.100:0").is_err(), "the machine itself has the virtual IP");
}

#[test]
fn two_networks_with_the_same_ranges_never_meet() {
    let Some(world) = world() else { return };
    world.published_setup();
    world.ok("compute networks create other-vpc --subnet-mode=custom");
    world.ok("compute networks subnets create other-subnet --network=other-vpc --range=10.0.0.0/24 --region=us-central1");
    let words = ["curl", "-sS", "--max-time", "3", "http://10.0.0.100/"];
    let answer = run_in(&world, "other-vpc", "other-subnet", &words);
    assert_ne!(answer.code, 0, "the other network reaches the virtual IP: {answer:?}");
    let answer =
        run_in(&world, "other-vpc", "other-subnet", &["getent", "hosts", "api.internal.example.com"]);
    assert_ne!(answer.code, 0, "the other network resolves the name: {answer:?}");
    assert_eq!(world.get("http://10.0.0.100/", &[]).0, 403, "and the first one still does");
}

#[test]
fn an_address_comes_back_when_its_client_is_gone() {
    let Some(world) = world() else { return };
    world.published_setup();
    let own = |world: &World| world.vm(&["sh", "-c", "echo $VESTIBULE_VM_ADDRESS"]).stdout.trim().to_owned();
    assert_eq!(own(&world), "10.0.0.2");
    let again = world::until(|| own(&world), |address| address == "10.0.0.2");
    assert_eq!(again, "10.0.0.2");
}

/// Everything that passes on the links of the machine itself.
struct Capture(Socket);

impl Capture {
    /// `ETH_P_ALL`, as the kernel wants it.
    const EVERYTHING: u16 = 3u16.to_be();
    /// Room for what comes until it is looked at, bytes.
    const ROOM: usize = 8 << 20;

    fn start() -> std::io::Result<Capture> {
        let everything = Protocol::from(i32::from(Capture::EVERYTHING));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(everything))?;
        socket.set_recv_buffer_size(Capture::ROOM)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Capture(socket))
    }

    /// Sender and receiver of every IPv4 packet since the start. Whatever else the machine does, they end with a packet
    /// of our own, which is the last thing that was to be seen.
    fn packets(mut self) -> Vec<[Ipv4Addr; 2]> {
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut found = Vec::new();
        let mut frame = [0; 2048];
        loop {
            // Again and again: what finds the capture full is lost.
            if found.len() % 1000 == 0 {
                own.send_to(END, own.local_addr().unwrap()).unwrap();
            }
            let length = self.0.read(&mut frame).expect("the capture sees packets");
            // Behind an Ethernet header, which the loopback link has too.
            if length >= 34 && frame[12..14] == [8, 0] {
                let address =
                    |at: usize| Ipv4Addr::from([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
                found.push([address(26), address(30)]);
            }
            if frame[..length].ends_with(END) {
                return found;
            }
        }
    }
}

/// What the last packet of a capture carries.
const END: &[u8] = b"nothing more to see";

/// The addresses of the networks in the test below.
fn is_inside(address: Ipv4Addr) -> bool {
    let octets = address.octets();
    octets[..3] == [10, 0, 0] || octets[..2] == [10, 129] || address == Ipv4Addr::new(169, 254, 169, 254)
}

#[test]
fn the_machine_sees_nothing_of_a_network_and_has_no_way_in() {
    let routes = || std::fs::read_to_string("/proc/net/fib_trie").unwrap();
    if routes().contains("10.0.0.") || routes().contains("10.129.") {
        println!("not run: this machine has addresses in 10.0.0.0/24 or 10.129.0.0/16 itself");
        return;
    }
    let Some(world) = world() else { return };
    world.published_setup();
    let (before, capture) = (routes(), Capture::start());
    assert_eq!(world.get("http://10.0.0.100/", &[]).0, 403);
    assert_eq!(world.get("http://api.internal.example.com/", &[]).0, 403);
    let words = ["curl", "-sS", "--max-time", "2", "http://10.0.0.77/"];
    assert_ne!(run_in(&world, "my-vpc", "my-subnet", &words).code, 0, "nobody is there");
    for line in routes().lines() {
        assert!(!line.contains("10.0.0.") && !line.contains("10.129."), "a way in: {line}");
    }
    assert_eq!(routes(), before, "the machine's routes and addresses are as they were");
    match capture {
        Ok(capture) => {
            let packets = capture.packets();
            let inside: Vec<_> =
                packets.iter().filter(|packet| packet.iter().any(|a| is_inside(*a))).collect();
            assert!(inside.is_empty(), "packets of the network: {inside:?}");
        }
        Err(error) => println!("no capture of packets: this user may not: {error}"),
    }
}

#[test]
fn without_namespaces_auto_falls_back_and_says_so() {
    let dir = tempfile::TempDir::new().unwrap();
    // Inside a user namespace root may forbid itself network namespaces.
    let script = format!(
        "echo 0 >/proc/sys/user/max_net_namespaces || exit 9; {binary} doctor || exit 8; echo; exec {binary} serve \
         --api-listen 127.0.0.1:0 --dns-upstream none --state-dir {state}",
        binary = world::BINARY,
        state = dir.path().join("state").display(),
    );
    let mut child = Command::new("unshare")
        .args(["-Ur", "sh", "-c", &script])
        .env("HOME", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut doctor, mut line) = (String::new(), String::new());
    while output.read_line(&mut line).unwrap() > 0 && !line.starts_with("ready ") {
        doctor += &std::mem::take(&mut line);
    }
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    child.wait().unwrap();
    if line.is_empty() {
        println!("not run: this user may make no user namespace here: {told}");
        return;
    }
    assert!(line.contains(" network-mode=loopback "), "{line}");
    assert!(told.contains("no network namespaces here"), "{told}");
    let advice = "as root: sysctl user.max_net_namespaces=10000";
    assert!(
        doctor.contains("loopback mode: no network namespaces here") && doctor.contains(advice),
        "{doctor}"
    );
}

/// What a client of a network hears when it asks the name server at an address.
fn dig(world: &World, server: &str, flags: &str) -> Answer {
    let command = format!("dig +short +tries=1 +time=3 {flags} @{server} api.internal.example.com");
    world.vm(&["sh", "-c", &command])
}

#[test]
fn the_resolver_answers_at_inbound_forwarders_too() {
    let Some(world) = world() else { return };
    world.published_setup();
    world.ok("dns policies create inbound --description=d --networks=my-vpc --enable-inbound-forwarding");
    let list = "compute addresses list --filter=purpose=DNS_RESOLVER --format=csv[no-heading](address,region.basename(),subnetwork.basename())";
    let listed = world.ok(list);
    assert_eq!(listed.trim(), "10.0.0.2,us-central1,my-subnet");
    for flags in ["", "+tcp"] {
        let answer = dig(&world, "10.0.0.2", flags);
        assert_eq!(answer.stdout.trim(), "10.0.0.100", "{flags} {answer:?}");
    }
    // Unlike 169.254.169.254, a forwarder is an address as any other to the rules for what leaves a client.
    world.ok("compute firewall-rules create no-names --network=my-vpc --direction=EGRESS --action=DENY --rules=udp:53,tcp:53");
    assert_ne!(dig(&world, "10.0.0.2", "+tcp").stdout.trim(), "10.0.0.100", "a rule denies it");
    assert_eq!(dig(&world, "169.254.169.254", "").stdout.trim(), "10.0.0.100");
    world.ok("compute firewall-rules delete no-names");
    world.ok("dns policies update inbound --no-enable-inbound-forwarding");
    assert_eq!(world.ok(list).trim(), "");
    assert_ne!(dig(&world, "10.0.0.2", "+tcp").stdout.trim(), "10.0.0.100", "nobody is there any more");
    world.ok("dns policies update inbound --networks=");
    world.ok("dns policies delete inbound");
}

#[test]
fn questions_are_logged_and_names_translated_as_the_policy_says() {
    let Some(world) = world() else { return };
    world.published_setup();
    world.ok("dns policies create log --description=d --networks=my-vpc --enable-logging --enable-dns64-all-queries --enable-inbound-forwarding");
    let question = |server: &str, kind: &str, name: &str| {
        let command = format!("dig +short +tries=1 +time=3 @{server} {name} {kind}");
        world.vm(&["sh", "-c", &command]).stdout.trim().to_owned()
    };
    let (own, forwarder) = ("169.254.169.254", "10.0.0.2");
    assert_eq!(question(own, "AAAA", "api.internal.example.com"), "64:ff9b::a00:64");
    assert_eq!(question(forwarder, "AAAA", "api.internal.example.com"), "");
    assert_eq!(question(own, "A", "nobody.internal.example.com"), "");
    let fields = "jsonPayload.queryName,jsonPayload.queryType,jsonPayload.responseCode,jsonPayload.rdata,\
                  jsonPayload.dns64Translated,resource.labels.source_type,resource.labels.target_name,\
                  resource.labels.location,jsonPayload.sourceIP,severity";
    let filter = "logName=projects/demo/logs/dns.googleapis.com%2Fdns_queries AND resource.type=dns_query";
    let format = format!("--format=csv[no-heading,separator='|']({fields})");
    let filter = format!("{filter} AND jsonPayload.vmInstanceName:vm-10-0-0-3 AND jsonPayload.protocol=UDP");
    let read = world.gcloud_args(&["logging", "read", &filter, "--order=asc", &format]);
    let lines: Vec<&str> = read.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "api.internal.example.com.|AAAA|NOERROR|api.internal.example.com.\t300\tIN\taaaa\t64:ff9b::a00:64|True|gce-vm|internal-zone|us-central1|10.0.0.3|INFO",
            "api.internal.example.com.|AAAA|NOERROR||False|inbound-forwarding|internal-zone|us-central1|10.0.0.3|INFO",
            "nobody.internal.example.com.|A|NXDOMAIN||False|gce-vm|internal-zone|us-central1|10.0.0.3|NOTICE",
        ],
        "{read:?}"
    );
    world.ok("dns policies update log --no-enable-logging --no-enable-dns64-all-queries");
    assert_eq!(question(own, "AAAA", "api.internal.example.com"), "");
    let read = world.gcloud_args(&["logging", "read", &filter, "--format=value(insertId)"]);
    assert_eq!(read.stdout.lines().count(), 3, "nothing more is logged");
}
