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
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(gateway: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(gateway)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut client = Client(BufReader::new(stream));
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
            } else if line.is_empty() {
                break;
            }
        }
        Ok((status, length))
    }
}

fn start() -> World {
    let world = World::start_with("loopback", &["--idle-timeout=1"]);
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

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
