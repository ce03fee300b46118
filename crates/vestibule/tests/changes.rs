//! Changes while requests come in: none fails, none sees half a change, and memory stays what it is.
//!
//! `VESTIBULE_CHANGES=N` makes N changes instead of the few that every run of the tests can afford.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::process::{Child, Stdio};

use world::{BINARY, REGION, World, until};

/// Changes in an ordinary run.
const CHANGES: usize = 60;

/// How much more memory the server may hold after all changes than after the first of them, in KiB. A debug build's
/// allocator keeps some of what requests used; what leaks grows with the changes.
const GROWTH: u64 = 24 * 1024;

fn changes() -> usize {
    std::env::var("VESTIBULE_CHANGES").ok().and_then(|count| count.parse().ok()).unwrap_or(CHANGES)
}

fn prepared() -> World {
    let world = World::start();
    world.published_setup();
    for service in ["my-internal-service", "my-api", "my-web"] {
        world.ok(&format!(
            "run services add-iam-policy-binding {service} {REGION} --member=allUsers --role=roles/run.invoker"
        ));
        // Started, so that what follows measures changes and not starts.
    }
    for path in ["", "api/x", "web/x"] {
        assert_eq!(world.get(&format!("http://10.0.0.100/{path}"), &[]).0, 200);
    }
    world
}

/// Resident memory of the server, in KiB.
fn resident(world: &World) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A shell loop inside the network that goes on until a file is there.
struct Load {
    child: Child,
    /// Where the lines go: nobody reads them before the end, and a pipe would fill up.
    out: std::path::PathBuf,
    stop: std::path::PathBuf,
}

impl Load {
    /// `request` is a shell command that prints one line a request.
    fn start(world: &World, name: &str, request: &str) -> Load {
        let stop = world.path(name);
        let script = format!("while [ ! -e {} ]; do {request}; done", stop.display());
        let mut command = world.command(BINARY);
        command.args([
            "vm",
            "run",
            "--network",
            "my-vpc",
            "--subnet",
            "my-subnet",
            "--",
            "sh",
            "-c",
            &script,
        ]);
        let out = world.path(&format!("{name}.out"));
        let file = std::fs::File::create(&out).unwrap();
        let child = command.stdout(file).stderr(Stdio::null()).spawn().unwrap();
        Load { child, out, stop }
    }

    /// Ends the loop; the lines that it printed.
    fn end(mut self) -> Vec<String> {
        std::fs::write(&self.stop, "").unwrap();
        self.child.wait().unwrap();
        let text = std::fs::read_to_string(&self.out).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// Bodies and what curl says of each behind it.
fn answers(lines: &[String]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut body = String::new();
    for line in lines {
        match line.strip_prefix("@@ ") {
            Some(told) => found.push((std::mem::take(&mut body), told.to_owned())),
            None => body.push_str(line),
        }
    }
    found
}

/// Calls the API with curl; the answer must be 200.
fn call(world: &World, verb: &str, path: &str, body: &str) -> serde_json::Value {
    let url = format!("{}/compute/v1/projects/demo/regions/us-central1/{path}", world.api());
    let mut command = world.command("curl");
    command.args(["-sS", "--fail-with-body", "--max-time", "60", "-X", verb, &url]);
    if !body.is_empty() {
        command.args(["-H", "content-type: application/json", "--data", body]);
    }
    let answer = world::Answer::of(command.output().unwrap());
    assert_eq!(answer.code, 0, "{verb} {path} {body}: {answer:?}");
    serde_json::from_str(&answer.stdout).unwrap()
}

#[test]
fn a_url_map_changes_under_load_and_no_request_sees_half_of_it() {
    let world = prepared();
    let path = "urlMaps/my-internal-url-map";
    // The route of each version of the map leads to its own service and says so in a header: a request that was
    // routed by one version and answered by another would not match.
    let version = |index: usize| {
        let name = ["api", "web"][index % 2];
        let service = format!("projects/demo/regions/us-central1/backendServices/my-{name}-backend");
        let action = serde_json::json!({"responseHeadersToAdd":
            [{"headerName": "x-map", "headerValue": format!("my-{name}"), "replace": true}]});
        let fingerprint = call(&world, "GET", path, "")["fingerprint"].clone();
        let body = serde_json::json!({
            "fingerprint": fingerprint,
            "pathMatchers": [{"name": "my-matcher", "defaultService": service, "headerAction": action}],
        });
        assert_eq!(call(&world, "PATCH", path, &body.to_string())["status"], "DONE");
        format!("my-{name}")
    };
    version(0);
    // The hello service names itself in its body, which curl prints first.
    let ask = "curl -sk --max-time 30 -w '\\n@@ %{http_code} %header{x-map} %{exitcode}\\n' \
               'http://10.0.0.100/api/[1-20]' 'https://10.0.0.100/api/[1-20]'";
    let loads: Vec<Load> = (0..2).map(|n| Load::start(&world, &format!("stop{n}"), ask)).collect();
    let mut before = 0;
    for index in 1..=changes() {
        let now = version(index);
        // DONE means that traffic obeys: the next request is served by the new map.
        if index % 20 == 0 {
            let (_, body) = world.get("http://10.0.0.100/api/after", &[]);
            assert!(body.contains(&now), "after change {index} to {now}: {body}");
        }
        if index == 10 {
            before = resident(&world);
        }
    }
    let answers: Vec<(String, String)> = loads.into_iter().flat_map(|load| answers(&load.end())).collect();
    let after = resident(&world);
    assert!(answers.len() >= changes(), "too little load to mean anything: {} requests", answers.len());
    for (body, told) in &answers {
        let [status, map, exit] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}: {body}") };
        assert_eq!((status, exit), ("200", "0"), "{told}: {body}");
        assert!(body.contains(map), "routed by one map and answered by another: {told}: {body}");
    }
    println!("{} requests, {} changes, {before} KiB then {after} KiB", answers.len(), changes());
    assert!(after < before + GROWTH, "memory grew from {before} to {after} KiB");
}

#[test]
fn certificates_are_swapped_under_load() {
    let world = prepared();
    world.certificate(&["api.internal.example.com"]);
    world.ok(&format!(
        "compute ssl-certificates create other --certificate=cert.pem --private-key=key.pem {REGION}"
    ));
    // Every run of curl makes a new connection.
    let ask = "curl -sk --max-time 30 -o /dev/null -w '%{http_code} %{exitcode}\\n' https://10.0.0.100/";
    let loads: Vec<Load> = (0..2).map(|n| Load::start(&world, &format!("stop{n}"), ask)).collect();
    for index in 0..changes() / 2 {
        let name = ["other", "my-internal-cert"][index % 2];
        let link = format!("projects/demo/regions/us-central1/sslCertificates/{name}");
        let body = serde_json::json!({ "sslCertificates": [link] }).to_string();
        let done =
            call(&world, "POST", "targetHttpsProxies/my-internal-https-proxy/setSslCertificates", &body);
        assert_eq!(done["status"], "DONE");
    }
    let lines: Vec<String> = loads.into_iter().flat_map(Load::end).collect();
    assert!(lines.len() >= 10, "too little load to mean anything: {lines:?}");
    assert!(lines.iter().all(|line| line == "200 0"), "{lines:?}");
}

#[test]
fn told_to_end_the_server_still_serves() {
    let mut world = prepared();
    let ask = "curl -sS --max-time 30 -o /dev/null -w '%{http_code} %{exitcode}\\n' http://10.0.0.100/";
    // Several, so that on a busy machine too no moment is without a request: the server ends when it has seen none for a
    // while.
    let loads: Vec<Load> = (0..4).map(|n| Load::start(&world, &format!("stop{n}"), ask)).collect();
    let served = |world: &World| {
        let answer = world.shell(&format!("curl -sS --max-time 10 {}/metrics", world.api()));
        let line = answer.stdout.lines().filter(|line| line.starts_with("vestibule_lb_requests_total"));
        line.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    let warm = served(&world) + 5;
    until(|| served(&world), |count| *count >= warm);
    // New connections are still taken for as long as they come, at most for half of the drain time.
    let (pid, stops): (u32, Vec<_>) = (world.pid(), loads.iter().map(|load| load.stop.clone()).collect());
    let ender = std::thread::spawn(move || {
        let exists = || std::path::Path::new(&format!("/proc/{pid}")).exists();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert!(exists(), "the server ended while requests still came");
        stops.iter().for_each(|stop| std::fs::write(stop, "").unwrap());
    });
    assert!(world.stop().success());
    ender.join().unwrap();
    let lines: Vec<String> = loads.into_iter().flat_map(Load::end).collect();
    assert!(lines.len() >= 8 && lines.iter().all(|line| line == "200 0"), "{lines:?}");
}

#[test]
fn a_restarted_server_serves_what_it_served_before_it_answers_calls() {
    let generation = |world: &World| {
        let answer = world.shell(&format!("curl -sS --max-time 10 {}/metrics", world.api()));
        let line = answer.stdout.lines().find_map(|line| line.strip_prefix("vestibule_config_generation "));
        line.unwrap().parse::<u64>().unwrap()
    };
    let mut world = prepared();
    let before = generation(&world);
    for _ in 0..3 {
        world.kill();
        world.serve();
        // The first call that is answered sees the proxy serve all that was acknowledged.
        assert!(generation(&world) >= before);
        assert_eq!(world.get("http://10.0.0.100/api/x", &[]).0, 200);
    }
}
