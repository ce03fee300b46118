//! Requests while everything around them changes: deployments, rollbacks, traffic, scale-downs, and a server that is
//! killed. None of them may fail that need not.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use world::{REGION, World, processes_of, until};

/// Requests in all; `VESTIBULE_REQUESTS` asks for more.
const REQUESTS: usize = 2_000;
/// How many times the server is killed; `VESTIBULE_KILLS` asks for more.
const KILLS: usize = 3;
/// How long a killed server may take to answer again, from its start. Its target is a second; a machine that tests is
/// busy with other things.
const BACK: Duration = Duration::from_secs(10);
const CLIENTS: usize = 4;
const SERVICE: &str = "my-internal-service";

fn wanted(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A connection to the virtual IP, through the gateway.
/// The second value: the last answer ends it.
struct Client(BufReader<TcpStream>, bool);

impl Client {
    fn connect(gateway: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(gateway)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut client = Client(BufReader::new(stream), false);
        client.0.get_mut().write_all(b"CONNECT 10.0.0.100:80 HTTP/1.1\r\nHost: 10.0.0.100:80\r\n\r\n")?;
        match client.head()?.0 {
            200 => Ok(client),
            status => Err(io::Error::other(format!("the gateway says {status}"))),
        }
    }

    /// The status of a request, its body read and thrown away.
    fn get(&mut self, path: &str) -> io::Result<u16> {
        self.0.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: app\r\n\r\n").as_bytes())?;
        let (status, length) = self.head()?;
        io::copy(&mut (&mut self.0).take(length), &mut io::sink())?;
        Ok(status)
    }

    /// The status and the length of the body.
    fn head(&mut self) -> io::Result<(u16, u64)> {
        let (mut status, mut length) = (0, 0);
        for number in 0.. {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if number == 0 {
                status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            } else if line == "connection: close" {
                self.1 = true;
            } else if line.is_empty() {
                break;
            }
        }
        Ok((status, length))
    }
}

fn start() -> World {
    start_in("loopback")
}

fn start_in(network_mode: &'static str) -> World {
    let world = World::start_with(network_mode, &["--idle-timeout=1"]);
    world.published_setup();
    let grant = "--member=allUsers --role=roles/run.invoker";
    world.ok(&format!("run services add-iam-policy-binding {SERVICE} {REGION} {grant}"));
    world
}

/// Everything that one can do to a running service, over and over until `over`.
fn change(world: &World, over: impl Fn() -> bool) -> usize {
    let mut deployed = 0;
    while !over() {
        deployed += 1;
        world.ok(&format!(
            "run deploy {SERVICE} --image=gcr.io/cloudrun/hello {REGION} --set-env-vars=ROUND={deployed}"
        ));
        let revisions = world
            .ok(&format!("run revisions list --service={SERVICE} {REGION} --format=value(metadata.name)"));
        let names: Vec<&str> = revisions.split_whitespace().collect();
        let traffic = |to: &str| world.ok(&format!("run services update-traffic {SERVICE} {REGION} {to}"));
        traffic(&format!("--to-revisions={}=50,{}=50", names[0], names[1]));
        // Long enough for what gets less to be stopped.
        sleep(Duration::from_millis(300));
        traffic(&format!("--to-revisions={}=100", names[1]));
        sleep(Duration::from_millis(1_200));
        traffic("--to-latest");
        world.ok(&format!("run services update {SERVICE} {REGION} --concurrency={}", 1 + deployed % 3));
    }
    deployed
}

#[test]
fn none_fails_while_the_service_changes() {
    let world = start();
    let each = wanted("VESTIBULE_REQUESTS", REQUESTS) / CLIENTS;
    let (served, working) = (AtomicUsize::new(0), AtomicUsize::new(CLIENTS));
    let begun = Instant::now();
    let changes = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (served, working, world) = (&served, &working, &world);
            scope.spawn(move || {
                let work = || -> io::Result<()> {
                    let mut client = Client::connect(world.ready("gateway"))?;
                    for request in 0..each {
                        // One of them comes rarely, so that instances go meanwhile; all together take some seconds.
                        let pause = if number == 0 && request % 50 == 0 { 1_500 } else { 3 };
                        sleep(Duration::from_millis(pause));
                        let status = client.get(&format!("/{number}/{request}"))?;
                        assert_eq!(status, 200, "request {request} of client {number}");
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                };
                let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                working.fetch_sub(1, Ordering::SeqCst);
                worked.unwrap().unwrap();
            });
        }
        change(&world, || working.load(Ordering::SeqCst) == 0)
    });
    let served = served.into_inner();
    println!("{served} requests in {:?}, {changes} rounds of changes, none failed", begun.elapsed());
    assert_eq!(served, each * CLIENTS);
}

#[test]
fn a_killed_server_is_back_at_once_and_leaves_nothing() {
    let mut world = start();
    let mut times = Vec::new();
    for round in 0..wanted("VESTIBULE_KILLS", KILLS) {
        let over = AtomicBool::new(false);
        let gateway = world.ready("gateway").to_owned();
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let Ok(mut client) = Client::connect(&gateway) else { return };
                    // Until it is killed in the middle of one.
                    let mut is_served = true;
                    while is_served && !over.load(Ordering::Relaxed) {
                        is_served = client.get("/").is_ok_and(|status| status == 200);
                    }
                });
            }
            sleep(Duration::from_millis(50 + fastrand::u64(..150)));
            world.kill();
            over.store(true, Ordering::Relaxed);
        });
        let begun = Instant::now();
        world.serve();
        let answered = until(
            || Client::connect(world.ready("gateway")).and_then(|mut client| client.get("/")).unwrap_or(0),
            |status| *status == 200,
        );
        times.push(begun.elapsed());
        assert_eq!(answered, 200, "round {round}");
        assert!(times[round] < BACK, "round {round}: {:?}", times[round]);
    }
    times.sort_unstable();
    let longest = times[times.len() - 1];
    println!(
        "{} kills: back in {:?} in the median, {longest:?} at most",
        times.len(),
        times[times.len() / 2]
    );
    // What belongs to servers that are gone is gone: what there is are this server and its instances.
    let state = world.path("state");
    let own = |pid: &u32| *pid == world.pid() || parent(*pid) == Some(world.pid());
    let strangers = || processes_of(&state).into_iter().filter(|pid| !own(pid)).collect::<Vec<_>>();
    let left = until(strangers, Vec::is_empty);
    assert!(left.is_empty(), "left behind: {left:?}");
    assert!(world.stop().success());
    let left = until(|| processes_of(&state), Vec::is_empty);
    assert!(left.is_empty(), "outlives the server: {left:?}");
}

/// Takeovers; `VESTIBULE_TAKEOVERS` asks for more.
const TAKEOVERS: usize = 3;

#[test]
fn none_fails_while_servers_take_over_from_each_other() {
    let mut world = start_in("loopback");
    let over = AtomicBool::new(false);
    let (gateway, api) = (world.ready("gateway").to_owned(), world.api().to_owned());
    let (served, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let names = "compute networks list --format=value(name)";
    std::thread::scope(|scope| {
        for keeps in [true, false] {
            let (gateway, over, served) = (&gateway, &over, &served);
            scope.spawn(move || {
                let mut client = None;
                while !over.load(Ordering::Relaxed) {
                    let mut now = match client.take() {
                        Some(client) => client,
                        None => Client::connect(gateway).unwrap(),
                    };
                    assert_eq!(now.get("/").unwrap(), 200);
                    served.fetch_add(1, Ordering::Relaxed);
                    client = Some(now).filter(|client| keeps && !client.1);
                }
            });
        }
        let (calls, api, over_) = (&calls, api.trim_start_matches("http://"), &over);
        scope.spawn(move || {
            while !over_.load(Ordering::Relaxed) {
                let mut client = Client(BufReader::new(TcpStream::connect(api).unwrap()), false);
                assert_eq!(client.get("/vestibule/v1/status").unwrap(), 200);
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
        let guard = Over(&over);
        // A client of the network that stays, and asks again when it is told to.
        let mut stays = world.command(world::BINARY);
        stays.args(["vm", "run", "--network", "my-vpc", "--subnet", "my-subnet", "--", "sh", "-c"]);
        stays.arg("while read line; do curl -sS -o /dev/null -w '%{http_code}\\n' http://10.0.0.100/; done");
        let mut stays = stays.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut ask, mut answers) =
            (stays.stdin.take().unwrap(), BufReader::new(stays.stdout.take().unwrap()).lines());
        for round in 0..wanted("VESTIBULE_TAKEOVERS", TAKEOVERS) {
            ask.write_all(b"\n").unwrap();
            assert_eq!(answers.next().unwrap().unwrap(), "200", "round {round}");
            // A request that is under way before, and ends after the new server is ready: the old one waits for it.
            let mut slow = half(&gateway);
            let slow = std::thread::spawn(move || {
                sleep(Duration::from_millis(1_000));
                slow.0.get_mut().write_all(b"2").unwrap();
                slow.head().unwrap().0
            });
            assert!(world.take_over().success());
            assert_eq!(slow.join().unwrap(), 200, "round {round}");
            assert!(world.ok(names).contains("my-vpc"));
            ask.write_all(b"\n").unwrap();
            assert_eq!(answers.next().unwrap().unwrap(), "200", "round {round}");
        }
        drop(ask);
        assert!(stays.wait().unwrap().success());
        drop(guard);
    });
    println!("{} requests and {} calls, none failed", served.into_inner(), calls.into_inner());
    assert!(world.stop().success());
    let left = until(|| processes_of(&world.path("state")), Vec::is_empty);
    assert!(left.is_empty(), "outlives the server: {left:?}");
    assert!(!world.path("state/takeover.sock").exists());
}

/// Ends the load, also when a test fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request of two bytes, of which one is sent.
fn half(gateway: &str) -> Client {
    let mut client = Client::connect(gateway).unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\n1";
    client.0.get_mut().write_all(head).unwrap();
    client
}

/// What is under way when the server is told to end is finished, and connections that stay are told to go.
#[test]
fn told_to_end_the_server_finishes_what_is_under_way() {
    let mut world = start();
    let gateway = world.ready("gateway").to_owned();
    let (mut slow, mut stays) = (half(&gateway), Client::connect(&gateway).unwrap());
    assert_eq!((stays.get("/").unwrap(), stays.1), (200, false));
    let mut idle = Client::connect(&gateway).unwrap();
    assert_eq!(idle.get("/").unwrap(), 200);
    let rest = std::thread::spawn(move || {
        let told = until(|| (stays.get("/").unwrap(), stays.1), |(_, told)| *told);
        assert_eq!(told, (200, true), "the server drains, and says so in an answer");
        assert_eq!(stays.0.read(&mut [0]).unwrap(), 0, "and ends the connection behind it");
        slow.0.get_mut().write_all(b"2").unwrap();
        assert_eq!((slow.head().unwrap().0, slow.1), (200, true));
        assert_eq!(idle.0.read(&mut [0]).unwrap_or(0), 0, "an idle connection gets an end and no answer");
    });
    assert!(world.stop().success());
    rest.join().unwrap();
}

/// Who does not finish within the drain time is cut off.
#[test]
fn the_drain_time_is_the_end() {
    let mut world = World::start_with("loopback", &["--drain-timeout=1"]);
    world.published_setup();
    let grant = "--member=allUsers --role=roles/run.invoker";
    world.ok(&format!("run services add-iam-policy-binding {SERVICE} {REGION} {grant}"));
    let gateway = world.ready("gateway").to_owned();
    assert_eq!(Client::connect(&gateway).unwrap().get("/").unwrap(), 200);
    let mut never = half(&gateway);
    assert!(world.stop().success());
    assert!(!matches!(never.head(), Ok((200, _))), "there is no answer to half a request");
    let left = until(|| processes_of(&world.path("state")), Vec::is_empty);
    assert!(left.is_empty(), "outlives the server: {left:?}");
}

/// A server that cannot take over says why, and the running one goes on, at whatever point the new one ends.
#[test]
fn a_takeover_that_fails_changes_nothing() {
    let mut world = start_in("loopback");
    let works = |world: &World| {
        assert_eq!(Client::connect(world.ready("gateway")).unwrap().get("/").unwrap(), 200);
        let name = format!("n{}", fastrand::u32(..));
        world.ok(&format!("compute networks create {name} --subnet-mode=custom"));
        world.ok(&format!("compute networks delete {name} --quiet"));
    };
    let free = "127.0.0.1:0";
    for (flags, why) in [
        (vec!["--takeover", "--api-listen", "127.0.0.1:9"], "--api-listen is 127.0.0.1:9"),
        (vec!["--takeover", "--api-listen", free, "--workers", "200"], "--workers is 200"),
        (vec!["--takeover", "--api-listen", free, "--no-such-flag"], "--no-such-flag"),
        (vec!["--api-listen", free], "--takeover"),
    ] {
        let output = world.serve_command(&flags).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(why), "{flags:?}: {stderr}");
        works(&world);
    }
    // One that ends when everything was handed to it already.
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let hello = format!(
        r#"{{"protocol":1,"schema":1,"version":"x","api":"{free}","gateway":"{free}","front":"{free}","networkMode":"auto","workers":{workers}}}"#
    );
    let mut stream = UnixStream::connect(world.path("state/takeover.sock")).unwrap();
    stream.write_all(b"J").unwrap();
    stream.write_all(&(hello.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(hello.as_bytes()).unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut offer = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize];
    stream.read_exact(&mut offer).unwrap();
    assert!(String::from_utf8_lossy(&offer).contains("10.0.0.100"), "the virtual IP is handed over");
    assert_eq!(Client::connect(world.ready("gateway")).unwrap().get("/").unwrap(), 200, "serves meanwhile");
    drop(stream);
    works(&world);
    assert!(world.take_over().success(), "and it can be taken over from afterwards");
    works(&world);
}

/// What was said holds where networks are namespaces, too.
#[test]
fn namespaces_and_their_clients_are_taken_over() {
    let mut world = start_in("auto");
    if world.ready("network-mode") != "namespace" {
        println!("not run: this user may make no network namespaces here");
        return;
    }
    let mut client = world.command(world::BINARY);
    client.args(["vm", "run", "--network", "my-vpc", "--subnet", "my-subnet", "--", "sh", "-c"]);
    client.arg("while read line; do curl -sS -o /dev/null -w '%{http_code}\\n' http://10.0.0.100/; done");
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut ask, mut answers) =
        (client.stdin.take().unwrap(), BufReader::new(client.stdout.take().unwrap()).lines());
    for round in 0..3 {
        ask.write_all(b"\n").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), "200", "before round {round}");
        assert!(world.take_over().success());
        // A newcomer beside the client that stayed: addresses and links go on where they were.
        assert_eq!(world.get("http://10.0.0.100/", &[]).0, 200, "round {round}");
    }
    ask.write_all(b"\n").unwrap();
    assert_eq!(answers.next().unwrap().unwrap(), "200");
    drop(ask);
    assert!(client.wait().unwrap().success());
    assert!(world.stop().success());
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
