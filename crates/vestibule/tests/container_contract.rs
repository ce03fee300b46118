//! The container contract of Cloud Run (Knative's runtime contract and what Cloud Run adds), and programs that break
//! it: over containers and over processes, with a program in Python.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

#[path = "../../vestibule-run/tests/containers/engine.rs"]
mod engine;
mod rootfs;
mod world;

use std::time::{Duration, Instant};

use rootfs::{curl, deploy, server, url};
use serde_json::Value;
use world::{REGION, World, until};

const PROBE: &str = "--startup-probe=tcpSocket.port=8080,periodSeconds=1,timeoutSeconds=1,failureThreshold=3";

/// A world whose services are the program in Python.
struct Stage {
    world: World,
    image: String,
    run: &'static str,
    contained: bool,
    /// Whose containers they are, if they are not our own.
    engine: Option<engine::Engine>,
}

impl Stage {
    fn containers() -> Option<Stage> {
        let world = World::start();
        let image = rootfs::image(&world)?;
        let (image, run) = server(&world, Some(&image));
        Some(Stage { world, image, run, contained: true, engine: None })
    }

    fn engine() -> Option<Stage> {
        let engine = engine::Engine::find()?;
        let host = format!("unix://{}", engine.socket.display());
        let world = World::start_where("loopback", &["--driver=docker"], &[("DOCKER_HOST", &host)]);
        let image = rootfs::image(&world)?;
        let (image, run) = server(&world, Some(&image));
        Some(Stage { world, image, run, contained: true, engine: Some(engine) })
    }

    fn processes() -> Option<Stage> {
        if !std::path::Path::new("/usr/bin/python3").exists() {
            println!("not run: no /usr/bin/python3");
            return None;
        }
        let world = World::start_with("loopback", &["--driver=process"]);
        let (image, run) = server(&world, None);
        Some(Stage { world, image, run, contained: false, engine: None })
    }

    /// Deploys the program, and answers with its URL.
    fn service(&self, name: &str, flags: &str) -> String {
        let deployed = self.deploy(name, flags);
        assert_eq!(deployed.code, 0, "{deployed:?}");
        url(&self.world, name)
    }

    fn deploy(&self, name: &str, flags: &str) -> world::Answer {
        deploy(&self.world, name, &self.image, &format!("{} {flags}", self.run))
    }

    fn ask(&self, url: &str, path: &str) -> (u16, String) {
        curl(&self.world, &format!("{url}/{path}"), &[])
    }

    fn json(&self, url: &str, path: &str) -> Value {
        let (status, body) = self.ask(url, path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Entries of a service's log that contain a text, once there are so many.
    fn logged(&self, service: &str, filter: &str, wanted: usize) -> Vec<Value> {
        let filter = format!("resource.labels.service_name=\"{service}\" AND {filter}");
        let read = || {
            let answer = self.world.gcloud_args(&["logging", "read", &filter, "--format=json", "--limit=50"]);
            serde_json::from_str::<Vec<Value>>(&answer.stdout).unwrap_or_default()
        };
        let found = until(read, |found| found.len() >= wanted);
        assert!(found.len() >= wanted, "{filter}: {found:?}");
        found
    }
}

#[test]
fn containers_keep_the_contract() {
    Stage::containers().iter().for_each(contract);
}

#[test]
fn containers_of_an_engine_keep_the_contract() {
    Stage::engine().iter().for_each(contract);
}

#[test]
fn containers_of_an_engine_that_misbehave_harm_nobody() {
    Stage::engine().iter().for_each(stress);
}

#[test]
fn processes_keep_the_contract() {
    Stage::processes().iter().for_each(contract);
}

#[test]
fn containers_that_misbehave_harm_nobody() {
    Stage::containers().iter().for_each(stress);
}

#[test]
fn processes_that_misbehave_harm_nobody() {
    Stage::processes().iter().for_each(stress);
}

fn contract(stage: &Stage) {
    let app = stage.service("app", "--set-env-vars=MINE=1,K_SERVICE_NOT=2");
    environment(stage, &app);
    process(stage, &app);
    protocol(stage, &app);
    logs(stage, &app);
    signals(stage);
}

/// Cloud Run container contract, "Environment variables for services".
fn environment(stage: &Stage, app: &str) {
    let seen = stage.json(app, "environment");
    assert_eq!((&seen["K_SERVICE"], &seen["K_CONFIGURATION"]), (&"app".into(), &"app".into()));
    assert!(seen["K_REVISION"].as_str().unwrap().starts_with("app-00001-"), "{seen}");
    assert_eq!(seen["MINE"], "1");
    let port: u16 = seen["PORT"].as_str().unwrap().parse().unwrap();
    assert!(!stage.contained || port == 8080, "{port}");
    let names: Vec<&str> = seen.as_object().unwrap().keys().map(String::as_str).collect();
    for foreign in ["VESTIBULE_API", "CLOUDSDK_CONFIG", "CARGO_MANIFEST_DIR"] {
        assert!(!names.contains(&foreign), "the server's own variables get in: {names:?}");
    }
}

/// Who it is, what is open, where it stands.
fn process(stage: &Stage, app: &str) {
    let seen = stage.json(app, "process");
    assert_eq!(seen["stdin"], 0, "standard input is empty");
    let files = seen["files"].as_object().unwrap();
    assert!(files["1"].as_str().unwrap().starts_with("pipe:"), "{files:?}");
    assert!(files["2"].as_str().unwrap().starts_with("pipe:"), "{files:?}");
    // Its own sockets, and the folder that it just listed.
    let strangers = files.values().filter_map(Value::as_str).filter(|name| {
        !name.starts_with("pipe:")
            && !name.starts_with("socket:")
            && *name != "/dev/null"
            && !name.contains("/fd")
    });
    assert_eq!(strangers.count(), 0, "{files:?}");
    let pipes = files.values().filter(|name| name.as_str().is_some_and(|name| name.starts_with("pipe:")));
    assert_eq!(pipes.count(), 2, "no pipe of anybody else: {files:?}");
    if stage.contained {
        // In an engine's container the first process is ours.
        assert_eq!(seen["pid"] == 1, stage.engine.is_none(), "{seen}");
        assert_eq!((&seen["uid"], &seen["cwd"]), (&0.into(), &"/".into()));
        assert_eq!(seen["host"], "localhost");
        assert_eq!(stage.ask(app, "zombies").1, "made");
    }
}

fn protocol(stage: &Stage, app: &str) {
    let seen = stage.json(app, "headers");
    let host = app.trim_start_matches("https://");
    assert_eq!((&seen["host"], &seen["x-forwarded-proto"]), (&host.into(), &"https".into()));
    assert!(seen["x-forwarded-for"].is_string(), "{seen}");
    assert!(seen["traceparent"].is_string() && seen["x-cloud-trace-context"].is_string(), "{seen}");
    let chunked = ["-H", "transfer-encoding: chunked", "--data-binary", "0123456789"];
    assert_eq!(curl(&stage.world, app, &chunked), (200, "10".to_owned()));
    sizes(stage, app);
    for (said, seen) in [
        ("", "private"),
        ("public,max-age=60", "private"),
        ("no-store", "no-store"),
        ("max-age=5,private", "max-age=5,private"),
    ] {
        let (_, head) = curl(&stage.world, &format!("{app}/cookie?{said}"), &["-i"]);
        let found: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("cache-control: ")).collect();
        assert_eq!(found, [seen], "a cookie is not for others: {said}: {head}");
    }
    let late = stage.service("brief", "--timeout=1");
    assert_eq!(stage.ask(&late, "slow?30").0, 504, "the request's time is over");
    assert_eq!(stage.ask(&late, "slow?0").0, 200, "and its instance goes on");
}

/// Over HTTP/1 a body of a known length has at most 32 MiB; what is streamed has no limit.
fn sizes(stage: &Stage, app: &str) {
    let file = stage.world.path("large");
    let of = |mebibytes: u64, more: u64| {
        std::fs::File::create(&file).unwrap().set_len((mebibytes << 20) + more).unwrap();
        format!("@{}", file.display())
    };
    // In HTTP/2 this curl takes an answer that comes before the end of the body for an error.
    let sent = |body: &str| curl(&stage.world, app, &["--http1.1", "--data-binary", body, "-H", "expect:"]);
    assert_eq!(sent(&of(32, 0)), (200, (32_u32 << 20).to_string()));
    assert_eq!(sent(&of(32, 1)).0, 413);
    let length = |path: &str| {
        let (status, body) = stage.ask(app, path);
        (status, body.len() >> 20)
    };
    assert_eq!(length("huge?32"), (200, 32));
    assert_eq!(length("huge?33").0, 500);
    assert_eq!(length("streamed?40"), (200, 40));
    stage.logged("app", "textPayload:\"Response size was too large\"", 1);
}

fn logs(stage: &Stage, app: &str) {
    assert_eq!(stage.ask(app, "said").1, "said");
    assert_eq!(
        stage.logged("app", "textPayload=\"a plain line\"", 1)[0]["logName"],
        "projects/demo/logs/run.googleapis.com%2Fstdout"
    );
    let structured = &stage.logged("app", "jsonPayload.message=\"a structured line\"", 1)[0];
    assert_eq!(
        (&structured["severity"], &structured["jsonPayload"]["part"]["n"]),
        (&"ERROR".into(), &7.into())
    );
    assert_eq!(structured["labels"]["k"], "v");
    assert_eq!(structured["trace"], "projects/demo/traces/0123456789abcdef0123456789abcdef");
    assert_eq!(
        stage.logged("app", "textPayload:\"utf-8\"", 1).len(),
        1,
        "bytes that are no text are kept as text"
    );
    let long = &stage.logged("app", "textPayload:\"long y\"", 1)[0];
    assert!(long["textPayload"].as_str().unwrap().len() > 200_000);
    assert!(!stage.logged("app", "textPayload:Traceback", 1).is_empty());
    let errors = stage.logged("app", "textPayload=\"to stderr\"", 1);
    assert_eq!(errors[0]["logName"], "projects/demo/logs/run.googleapis.com%2Fstderr");
    assert!(!stage.logged("app", "textPayload:\"Starting new instance\"", 1).is_empty());
}

/// A deletion asks the program to end, and waits for what it says.
fn signals(stage: &Stage) {
    let brief = stage.service("polite", "");
    assert_eq!(stage.ask(&brief, "").0, 200);
    stage.world.ok(&format!("run services delete polite {REGION} --quiet"));
    stage.logged("polite", "textPayload=\"got SIGTERM\"", 1);
}

fn stress(stage: &Stage) {
    let bystander = stage.service("bystander", "");
    let victim = stage.service("victim", "--memory=128Mi --concurrency=4");
    let calm = |after: &str| {
        let begun = Instant::now();
        assert_eq!(stage.ask(&bystander, ""), (200, "hello".to_owned()), "after {after}");
        assert!(begun.elapsed() < Duration::from_secs(10), "after {after}: {:?}", begun.elapsed());
    };
    assert_eq!(stage.ask(&victim, "leave").0, 503, "it ends in the middle of a request");
    let (status, body) = stage.ask(&victim, "");
    assert_eq!(status, 200, "the next request gets another instance: {body}");
    let halfway = stage.world.command("curl").args(halfway(stage, &victim)).output().unwrap();
    assert_ne!(halfway.status.code(), Some(0), "a cut answer looks whole");
    assert_eq!(stage.ask(&victim, "").0, 200);
    stage.logged("victim", "textPayload=\"Container called exit(3).\"", 1);
    calm("exits");

    let (status, body) = stage.ask(&victim, "streamed?64");
    assert_eq!((status, body.len()), (200, 64 << 20));
    assert_eq!(stage.ask(&victim, "flood").0, 200);
    stage.logged("victim", "textPayload:\"lines of output were dropped\"", 1);
    calm("floods");
    if stage.contained {
        contained(stage, &victim, &calm);
    }
    failures(stage, &victim);
    calm("failures");
}

fn halfway(stage: &Stage, victim: &str) -> Vec<String> {
    let front = stage.world.ready("front").trim_start_matches("https://").to_owned();
    [
        "-sS",
        "-k",
        "--max-time",
        "60",
        "--connect-to",
        &format!("::{front}"),
        &format!("{victim}/leave_halfway"),
    ]
    .map(str::to_owned)
    .into()
}

/// What only containers hold back.
fn contained(stage: &Stage, victim: &str, calm: &dyn Fn(&str)) {
    let (status, body) = stage.ask(victim, "memory");
    assert_eq!(status, 500, "{body}");
    let said = stage.logged("victim", "textPayload:\"Memory limit of 128 MiB exceeded with\"", 1);
    assert!(said.iter().any(|entry| entry["severity"] == "ERROR"), "{said:?}");
    calm("too much memory");
    let bomber = stage.service("bomber", "--memory=2Gi");
    let (status, made) = stage.ask(&bomber, "bomb");
    assert_eq!(status, 200, "{made}");
    assert!((10..1_100).contains(&made.parse().unwrap()), "{made} processes");
    calm("a fork bomb");

    let throttled = |flags: &str| {
        let name = if flags.is_empty() { "throttled" } else { "unthrottled" };
        let app = stage.service(name, flags);
        let used = || stage.ask(&app, "used").1.parse::<i64>().unwrap();
        assert_eq!(stage.ask(&app, "burn").1, "burning");
        let before = used();
        std::thread::sleep(Duration::from_secs(1));
        used() - before
    };
    let (little, much) = (throttled(""), throttled("--no-cpu-throttling"));
    assert!(little * 2 < much, "between requests {little} against {much} hundredths of a second");
}

/// Programs that do not come to serve: the deployment says so, and what served before serves on.
fn failures(stage: &Stage, victim: &str) {
    for (mode, limit) in [("crash", 30), ("deaf", 30)] {
        let begun = Instant::now();
        let failed = stage.deploy("victim", &format!("--set-env-vars=MODE={mode} {PROBE}"));
        assert_ne!(failed.code, 0, "{mode}: {failed:?}");
        assert!(failed.stderr.contains("failed to start and listen on the port"), "{mode}: {failed:?}");
        assert!(begun.elapsed() < Duration::from_secs(limit), "{mode}: {:?}", begun.elapsed());
        assert_eq!(stage.ask(victim, "").0, 200, "{mode}: the revision before serves on");
    }
}
