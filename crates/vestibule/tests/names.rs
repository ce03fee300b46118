//! Private names, asked of the running program as clients ask them: with dig, with dnspython, and with packets that no
//! client should send.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use world::{Answer, World};

/// How long an answer may take. Far more than it needs: a slow machine is no failure.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must come where nothing should. It bounds what the test notices, not whether it passes.
const SILENCE: Duration = Duration::from_millis(200);

/// Two networks that both have a zone `internal.example.com.`.
fn networks(world: &World) {
    for network in ["my", "other"] {
        world.ok(&format!("compute networks create {network}-vpc --subnet-mode=custom"));
        world.ok(&format!(
            "compute networks subnets create {network}-subnet --network={network}-vpc --range=10.0.0.0/24 {}",
            world::REGION
        ));
        world.ok(&format!(
            "dns managed-zones create {network}-zone --dns-name=internal.example.com. --visibility=private --networks={network}-vpc"
        ));
    }
}

fn add(world: &World, zone: &str, name: &str, kind: &str, data: &str) {
    let name = format!("{name}.internal.example.com.");
    let (zone, kind) = (format!("--zone={zone}"), format!("--type={kind}"));
    let data = format!("--rrdatas={data}");
    let answer = world.gcloud_args(&["dns", "record-sets", "create", &name, &zone, &kind, "--ttl=60", &data]);
    assert_eq!(answer.code, 0, "{name}: {}", answer.stderr);
}

fn run_in(world: &World, network: &str, words: &[&str]) -> Answer {
    let mut command = world.command(world::BINARY);
    let (vpc, subnet) = (format!("{network}-vpc"), format!("{network}-subnet"));
    command.args(["vm", "run", "--network", &vpc, "--subnet", &subnet, "--"]).args(words);
    Answer::of(command.output().unwrap())
}

/// Where a network's resolver is reached in loopback mode.
fn resolver(world: &World, network: &str) -> SocketAddr {
    let told = run_in(world, network, &["sh", "-c", "echo $VESTIBULE_RESOLVER"]);
    told.stdout.trim().parse().unwrap_or_else(|_| panic!("no address of a resolver: {told:?}"))
}

/// The header of a question, its name and type; `id` 7, recursion desired.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

const OPT: [u8; 11] = [0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0];

fn with(mut message: Vec<u8>, additional: &[&[u8]]) -> Vec<u8> {
    message[11] = additional.len() as u8;
    additional.iter().for_each(|record| message.extend_from_slice(record));
    message
}

fn changed(mut message: Vec<u8>, at: usize, to: u8) -> Vec<u8> {
    message[at] = to;
    message
}

struct Client(UdpSocket);

impl Client {
    fn of(resolver: SocketAddr) -> Client {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket.connect(resolver).unwrap();
        Client(socket)
    }

    fn ask(&self, message: &[u8], patience: Duration) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        self.0.send(message).unwrap();
        let mut answer = vec![0; 65_535];
        let length = self.0.recv(&mut answer).ok()?;
        answer.truncate(length);
        Some(answer)
    }
}

fn counts(answer: &[u8]) -> [u16; 4] {
    [4, 6, 8, 10].map(|at| u16::from_be_bytes([answer[at], answer[at + 1]]))
}

/// The response code with the part of it that an OPT record at the end has.
fn code(answer: &[u8]) -> u16 {
    let low = u16::from(answer[3] & 0xf);
    match answer.len().checked_sub(OPT.len()).filter(|_| counts(answer)[3] == 1) {
        Some(at) => low | u16::from(answer[at + 5]) << 4,
        None => low,
    }
}

#[test]
fn packets_that_no_client_should_send() {
    let world = World::start();
    networks(&world);
    add(&world, "my-zone", "api", "A", "10.0.0.100");
    let client = Client::of(resolver(&world, "my"));
    let plain = question("api.internal.example.com", 1);
    let long_label = [&plain[..12], &[64], &[b'x'; 64], &plain[12..]].concat();
    let long_name = question(&"abcdefg.".repeat(32), 1);
    let pointing = |to: u8| [&plain[..12], &[0xc0, to, 0, 1, 0, 1]].concat();

    for (what, message) in [
        ("nothing", vec![]),
        ("less than a header", plain[..11].to_vec()),
        ("an answer", changed(plain.clone(), 2, 0x81)),
    ] {
        assert_eq!(client.ask(&message, SILENCE), None, "{what} gets no answer");
    }
    for (what, message, expected) in [
        ("two questions", changed(plain.clone(), 5, 2), 1),
        ("no question", changed(plain.clone(), 5, 0), 1),
        ("a header alone", plain[..12].to_vec(), 1),
        ("a long label", long_label, 1),
        ("a long name", long_name, 1),
        ("a pointer to itself", pointing(12), 1),
        ("a pointer ahead", pointing(16), 1),
        ("a pointer out of the message", pointing(0xff), 1),
        ("no type", plain[..plain.len() - 3].to_vec(), 1),
        ("bytes behind the message", [&plain[..], &[0]].concat(), 1),
        ("two OPT records", with(plain.clone(), &[&OPT, &OPT]), 1),
        ("half an OPT record", with(plain.clone(), &[&OPT[..9]]), 1),
        ("EDNS version 1", with(plain.clone(), &[&changed(OPT.to_vec(), 6, 1)]), 16),
        ("an opcode that nobody knows", changed(plain.clone(), 2, 0x79), 4),
        ("a notification", changed(plain.clone(), 2, 0x21), 4),
        ("another class", changed(plain.clone(), plain.len() - 1, 3), 5),
        ("a transfer", question("internal.example.com", 252), 5),
        ("a name out of our zones, without recursion", changed(question("example.net", 1), 2, 0), 5),
        ("a name out of our zones, and nobody to ask", question("example.net", 1), 2),
        ("a name that does not exist", question("nope.internal.example.com", 1), 3),
        ("a type that nobody knows", question("api.internal.example.com", 65_280), 0),
        (
            "an option and flags that nobody knows",
            with(plain.clone(), &[&[0, 0, 41, 4, 0, 0, 0, 0x7f, 0xff, 0, 6, 0xff, 1, 0, 2, 1, 2]]),
            0,
        ),
    ] {
        let answer = client.ask(&message, PATIENCE).unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!((code(&answer), &answer[..2]), (expected, &[0, 7][..]), "{what}");
        let authoritative = answer[2] & 4 != 0;
        assert_eq!(
            authoritative,
            matches!(expected, 0 | 3),
            "{what}: only our own data is said with authority"
        );
    }
    let answer = client.ask(&plain, PATIENCE).unwrap();
    assert_eq!((code(&answer), counts(&answer)), (0, [1, 1, 0, 0]), "and the resolver goes on");
}

/// The type and the TTL of each record behind the question, and the data.
fn records(answer: &[u8]) -> Vec<(u16, u32, Vec<u8>)> {
    let skip = |mut at: usize| loop {
        match answer[at] {
            0 => return at + 1,
            0xc0.. => return at + 2,
            length => at += usize::from(length) + 1,
        }
    };
    let mut at = skip(12) + 4;
    let mut found = Vec::new();
    for _ in 0..counts(answer)[1] + counts(answer)[2] {
        at = skip(at);
        let word = |i: usize| u16::from_be_bytes([answer[at + i], answer[at + i + 1]]);
        let end = at + 10 + usize::from(word(8));
        found.push((word(0), u32::from(word(4)) << 16 | u32::from(word(6)), answer[at + 10..end].to_vec()));
        at = end;
    }
    found
}

fn serial(client: &Client) -> u32 {
    let answer = client.ask(&question("internal.example.com", 6), PATIENCE).unwrap();
    let data = &records(&answer)[0].2;
    let at = data.len() - 20;
    u32::from_be_bytes(data[at..at + 4].try_into().unwrap())
}

/// Says that it is over when it is dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A set of two addresses is changed as a whole, again and again, under load. Nobody sees a failure, or half a change, or
/// an older answer than one already seen.
#[test]
fn records_change_under_load() {
    const CHANGES: u32 = 40;
    let mut world = World::start();
    networks(&world);
    add(&world, "my-zone", "pair", "A", "10.0.0.0,10.1.0.0");
    let at = resolver(&world, "my");
    let before = serial(&Client::of(at));
    let done = AtomicBool::new(false);
    let asked: u32 = std::thread::scope(|scope| {
        let load = || {
            let (client, message) = (Client::of(at), question("pair.internal.example.com", 1));
            let (mut last, mut asked) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let answer = client.ask(&message, PATIENCE).expect("an answer");
                let mut addresses: Vec<Vec<u8>> =
                    records(&answer).into_iter().map(|record| record.2).collect();
                addresses.sort();
                assert_eq!((code(&answer), addresses.len()), (0, 2));
                assert_eq!(addresses[0][2..], addresses[1][2..], "half a change: {addresses:?}");
                assert!(addresses[0][3] >= last, "an older answer after a newer one");
                (last, asked) = (addresses[0][3], asked + 1);
            }
            asked
        };
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(load)).collect();
        // Also when an assertion below fails: nothing else ends the clients.
        let end = Ending(&done);
        let own = Client::of(at);
        for n in 1..=CHANGES {
            world.ok(&format!(
                "dns record-sets update pair.internal.example.com. --zone=my-zone --type=A --ttl=60 --rrdatas=10.0.0.{n},10.1.0.{n}"
            ));
            let answer = own.ask(&question("pair.internal.example.com", 1), PATIENCE).unwrap();
            assert_eq!(u32::from(records(&answer)[0].2[3]), n, "visible when the API has answered");
        }
        drop(end);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(asked > CHANGES, "{asked} questions are no load");
    assert_eq!(serial(&Client::of(at)), before + CHANGES, "each change counts");
    world.kill();
    world.serve();
    let client = Client::of(resolver(&world, "my"));
    assert_eq!(serial(&client), before + CHANGES, "as before the crash");
    let answer = client.ask(&question("pair.internal.example.com", 1), PATIENCE).unwrap();
    assert_eq!(u32::from(records(&answer)[0].2[3]), CHANGES);
}

#[test]
fn idle_and_slow_conversations_end() {
    let world = World::start();
    networks(&world);
    let at = resolver(&world, "my");
    let mut streams: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(at).unwrap()).collect();
    // One says nothing, one half a length, one half a message.
    use std::io::{Read, Write};
    streams[1].write_all(&[0]).unwrap();
    streams[2].write_all(&[0, 40, 1, 2]).unwrap();
    for stream in &mut streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "closed, and nothing said");
    }
}

/// dnspython reads every type that a zone may hold, over UDP and TCP.
#[test]
fn dnspython_agrees() {
    let Some(python) = std::env::var_os("VESTIBULE_PYTHON") else {
        println!("not run: VESTIBULE_PYTHON names no interpreter with dnspython; cargo xtask test makes one");
        return;
    };
    let world = World::start();
    networks(&world);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/names.py");
    let mut command = world.command(python);
    command.args([script, world.api(), &resolver(&world, "my").to_string()]);
    let output = command.output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("\"passed\": true"), "{text}\n{errors}");
}

/// The order of resolution, seen from a machine in a real network, with a name server beside it.
#[test]
fn the_order_of_resolution_from_inside() {
    if let Err(error) = vestibule_vpc::Namespaces::new() {
        return println!("not run: this user may make no network namespace here: {error}");
    }
    for (program, package) in [("dig", "bind9-dnsutils"), ("dnsmasq", "dnsmasq-base")] {
        if Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return println!("not run: {program} (Debian's {package}) is missing");
        }
    }
    let world = World::start_in("namespace");
    networks(&world);
    add(&world, "my-zone", "api", "A", "10.0.0.1");
    add(&world, "my-zone", "alias", "CNAME", "x.corp.example.com.");
    add(&world, "my-zone", "shared", "CNAME", "one.shared.example.com.");
    add(&world, "other-zone", "api", "A", "10.0.0.2");
    for line in [
        "dns managed-zones create corp --dns-name=corp.example.com. --visibility=private --networks=my-vpc --forwarding-targets=10.0.0.53",
        "dns managed-zones create peer --dns-name=shared.example.com. --visibility=private --networks=my-vpc --target-network=other-vpc --target-project=demo",
        "dns managed-zones create shared --dns-name=shared.example.com. --visibility=private --networks=other-vpc",
        "dns record-sets create one.shared.example.com. --zone=shared --type=A --ttl=60 --rrdatas=10.0.0.3",
        "dns response-policies create rules --description=d --networks=my-vpc",
        "dns response-policies rules create all --response-policy=rules --dns-name=*.ruled.example.net. --local-data=name=*.ruled.example.net.,type=A,ttl=60,rrdatas=10.0.0.4",
        "dns response-policies rules create pass --response-policy=rules --dns-name=api.internal.example.com. --behavior=bypassResponsePolicy",
        "dns response-policies rules create hide --response-policy=rules --dns-name=hidden.internal.example.com. --local-data=name=hidden.internal.example.com.,type=A,ttl=60,rrdatas=10.0.0.5",
    ] {
        world.ok(line);
    }
    add(&world, "my-zone", "hidden", "A", "10.0.0.6");
    let server = Machine::start(
        &world,
        "10.0.0.53",
        &[
            "dnsmasq",
            "-k",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
            "--address=/x.corp.example.com/10.7.7.7",
            "--address=/elsewhere.test/10.7.7.8",
        ],
    );
    let dig = |network: &str, words: &str| -> String {
        let words: Vec<&str> =
            ["dig", "+noall", "+answer", "+comments"].into_iter().chain(words.split(' ')).collect();
        let answer = run_in(&world, network, &words);
        assert_eq!(answer.code, 0, "{words:?}: {answer:?}");
        let status =
            answer.stdout.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("none");
        let data = answer.stdout.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
        let data: Vec<&str> = data.filter_map(|line| line.split_whitespace().last()).collect();
        format!("{status} {}", data.join(" ")).trim().to_owned()
    };
    let forwarded = world::until(|| dig("my", "x.corp.example.com"), |answer| answer == "NOERROR 10.7.7.7");
    assert_eq!(forwarded, "NOERROR 10.7.7.7");
    for (network, words, expected) in [
        ("my", "api.internal.example.com", "NOERROR 10.0.0.1"),
        ("other", "api.internal.example.com", "NOERROR 10.0.0.2"),
        ("my", "api.internal.example.com AAAA", "NOERROR"),
        ("my", "nope.internal.example.com", "NXDOMAIN"),
        ("my", "x.corp.example.com +tcp", "NOERROR 10.7.7.7"),
        ("other", "x.corp.example.com", "SERVFAIL"),
        ("my", "alias.internal.example.com", "NOERROR x.corp.example.com. 10.7.7.7"),
        ("my", "shared.internal.example.com", "NOERROR one.shared.example.com. 10.0.0.3"),
        ("my", "two.shared.example.com", "NXDOMAIN"),
        ("my", "a.b.ruled.example.net", "NOERROR 10.0.0.4"),
        ("other", "a.b.ruled.example.net", "SERVFAIL"),
        ("my", "hidden.internal.example.com", "NOERROR 10.0.0.5"),
        ("my", "metadata.google.internal", "NOERROR 169.254.169.254"),
        ("my", "vm-10-0-0-53.us-central1-a.c.demo.internal", "NOERROR 10.0.0.53"),
        ("my", "-x 10.0.0.53", "NOERROR vm-10-0-0-53.us-central1-a.c.demo.internal."),
        ("other", "vm-10-0-0-53.us-central1-a.c.demo.internal", "NXDOMAIN"),
        ("my", "no.c.demo.internal", "NXDOMAIN"),
    ] {
        assert_eq!(dig(network, words), expected, "{words} from {network}");
    }
    let by_short_name = run_in(&world, "my", &["getent", "hosts", "vm-10-0-0-53"]);
    assert!(by_short_name.stdout.starts_with("10.0.0.53"), "{by_short_name:?}");
    world
        .ok("dns policies create all --description=d --networks=my-vpc --alternative-name-servers=10.0.0.53");
    assert_eq!(dig("my", "elsewhere.test"), "NOERROR 10.7.7.8", "all is asked there");
    assert_eq!(dig("my", "hidden.internal.example.com"), "SERVFAIL", "and nowhere else");
    drop(server);
}

/// A program that runs on a machine in `my-vpc` until this value is dropped.
struct Machine(Child);

impl Machine {
    fn start(world: &World, address: &str, words: &[&str]) -> Machine {
        let mut command = world.command(world::BINARY);
        command.args([
            "vm",
            "run",
            "--network",
            "my-vpc",
            "--subnet",
            "my-subnet",
            "--address",
            address,
            "--",
        ]);
        Machine(command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        world::terminate(&self.0);
        world::wait(&mut self.0);
    }
}
