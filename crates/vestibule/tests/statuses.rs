//! What a request gets that should not get through, and what a default URL answers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use world::{REGION, World};

fn public(world: &World, service: &str) {
    world.ok(&format!(
        "run services add-iam-policy-binding {service} {REGION} --member=allUsers --role=roles/run.invoker"
    ));
}

#[test]
fn tokens_are_really_checked() {
    let world = World::start();
    world.published_setup();
    let get = |token: &str| world.get("http://10.0.0.100/", &[&format!("Authorization: Bearer {token}")]).0;
    let mint = |audience: &str| {
        let words = format!(
            "auth print-identity-token --impersonate-service-account=caller@demo.iam.gserviceaccount.com --audiences={audience} --include-email"
        );
        world.ok(&words).trim().to_owned()
    };
    world.ok("iam service-accounts create caller");
    let url =
        world.ok("run services describe my-internal-service --region=us-central1 --format=value(status.url)");
    let good = mint(url.trim());

    assert_eq!(world.get("http://10.0.0.100/", &[]).0, 403, "no token");
    assert_eq!(get("nonsense"), 401, "a bad token");
    assert_eq!(get(&mint("https://another.example")), 401, "a token for another audience");
    assert_eq!(get(&good), 403, "a good token of somebody who may not invoke");
    world.ok(&format!(
        "run services add-iam-policy-binding my-internal-service {REGION} --member=serviceAccount:caller@demo.iam.gserviceaccount.com --role=roles/run.invoker"
    ));
    assert_eq!(get(&good), 200);
    let mut forged = good.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'Q' } else { 'A' });
    forged.replace_range(forged.len() - 8..forged.len() - 4, "AAAA");
    assert_eq!(get(&forged), 401, "a forged signature");
    world.ok(&format!(
        "run services remove-iam-policy-binding my-internal-service {REGION} --member=serviceAccount:caller@demo.iam.gserviceaccount.com --role=roles/run.invoker"
    ));
    assert_eq!(get(&good), 403, "the role was taken away");
}

#[test]
fn what_does_not_exist_is_404_or_503() {
    let world = World::start();
    world.published_setup();
    public(&world, "my-internal-service");
    assert_eq!(
        world.get("http://10.0.0.100/any/path", &["Host: unknown.example"]).0,
        200,
        "the default service"
    );
    world.ok(&format!("run services delete my-api {REGION} --quiet"));
    assert_eq!(world.get("http://10.0.0.100/api/x", &[]).0, 404, "the service is gone");
    world.ok(&format!(
        "compute backend-services remove-backend my-web-backend --network-endpoint-group=my-web-neg --network-endpoint-group-region=us-central1 {REGION}"
    ));
    let (status, body) = world.get("http://10.0.0.100/web/x", &[]);
    assert_eq!((status, body.as_str()), (503, "no healthy upstream"));
}

/// A way to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the load balancer.
    Balancer,
    /// A default URL (of either form, or of a tag), from inside the VPC.
    Vpc,
    /// The same from outside.
    Outside,
}

/// One of every way into `my-internal-service`, and the URLs that it has.
struct Ways {
    /// Host names: of either form of the default URL, each followed by that of the tag `blue`.
    hosts: Vec<String>,
}

impl Ways {
    fn of(world: &World) -> Ways {
        world.ok(&format!("run services update-traffic my-internal-service {REGION} --set-tags=blue=LATEST"));
        let list = world.ok(&format!(
            "run services describe my-internal-service {REGION} --format=value(metadata.annotations['run.googleapis.com/urls'])"
        ));
        let urls: Vec<String> = serde_json::from_str(list.trim()).unwrap();
        assert_eq!(urls.len(), 2, "{urls:?}");
        let hosts = urls.iter().map(|url| url.trim_start_matches("https://").to_owned());
        let hosts: Vec<String> = hosts.flat_map(|host| [host.clone(), format!("blue---{host}")]).collect();
        Ways { hosts }
    }

    /// Asks on every way, with the same headers. Says on which way and to which host the status was another.
    fn expect(&self, world: &World, headers: &[&str], what: &str, expected: impl Fn(Way, &str) -> u16) {
        let asked = [(Way::Balancer, "10.0.0.100")].into_iter();
        let hosts = self.hosts.iter().map(String::as_str);
        let asked = asked.chain(hosts.clone().map(|host| (Way::Vpc, host)));
        for (way, host) in asked.chain(hosts.map(|host| (Way::Outside, host))) {
            let status = match way {
                Way::Balancer => world.get(&format!("http://{host}/"), headers).0,
                Way::Vpc => world.get(&format!("https://{host}/"), headers).0,
                Way::Outside => from_outside(world, host, headers),
            };
            assert_eq!(status, expected(way, host), "{what}: {way:?}, {host}");
        }
    }
}

/// The status of a request to a default URL that comes from no network of the project.
fn from_outside(world: &World, host: &str, headers: &[&str]) -> u16 {
    let (name, port) = world.ready("front").rsplit_once(':').unwrap();
    let mut command = world.command("curl");
    command.args(["-sS", "-k", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}"]);
    command.args(["--connect-to", &format!("{host}:443:{name}:{port}"), &format!("https://{host}/")]);
    command.args(headers.iter().flat_map(|header| ["-H", header]));
    let answer = world::Answer::of(command.output().unwrap());
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.stdout.parse().unwrap()
}

#[test]
fn ingress_is_enforced_on_every_way_in() {
    let world = World::start();
    world.published_setup();
    public(&world, "my-internal-service");
    let ways = Ways::of(&world);
    for (ingress, inside, outside) in [
        ("internal-and-cloud-load-balancing", 200, 404),
        ("internal", 200, 404),
        ("none", 404, 404),
        ("all", 200, 200),
    ] {
        // gcloud knows three; the fourth is the API's.
        let patch = world.shell(&format!(
            "curl -sS --fail-with-body -X PATCH $VESTIBULE_API/v2/projects/demo/locations/us-central1/services/my-internal-service?updateMask=ingress \
             -H 'Authorization: Bearer x' -H 'Content-Type: application/json' -d '{{\"ingress\":\"{}\"}}'",
            match ingress {
                "internal-and-cloud-load-balancing" => "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
                "internal" => "INGRESS_TRAFFIC_INTERNAL_ONLY",
                "none" => "INGRESS_TRAFFIC_NONE",
                _ => "INGRESS_TRAFFIC_ALL",
            }
        ));
        assert_eq!(patch.code, 0, "{patch:?}");
        let expected = |way, _: &str| if way == Way::Outside { outside } else { inside };
        ways.expect(&world, &[], ingress, expected);
        // Ingress is looked at first: not even who has no token learns that there is a service.
        ways.expect(&world, &["Authorization: Bearer nonsense"], ingress, expected);
    }
    world.ok(&format!("run services update my-internal-service {REGION} --no-default-url"));
    ways.expect(&world, &[], "no default URL", |way, _| if way == Way::Balancer { 200 } else { 404 });
}

#[test]
fn a_service_is_switched_off_and_on_by_its_scaling() {
    let world = World::start();
    world.published_setup();
    public(&world, "my-internal-service");
    let ways = Ways::of(&world);
    let scaled = |to: &str| {
        world.ok(&format!(
            "run services update my-internal-service {REGION} --ingress=all --no-invoker-iam-check --scaling={to}"
        ));
    };
    scaled("2");
    ways.expect(&world, &[], "two instances", |_, _| 200);
    scaled("0");
    // A tag is part of the traffic, of which there is none now.
    ways.expect(&world, &[], "none", |_, host| if host.starts_with("blue---") { 404 } else { 503 });
    scaled("auto");
    ways.expect(&world, &[], "as many as it takes", |_, _| 200);
}

#[test]
fn identity_is_checked_on_every_way_in() {
    let world = World::start();
    world.published_setup();
    let ways = Ways::of(&world);
    world.ok(&format!(
        "run services update my-internal-service {REGION} --ingress=all --add-custom-audiences=https://api.example"
    ));
    world.ok("iam service-accounts create caller");
    world.ok("iam service-accounts create stranger");
    world.ok(&format!(
        "run services add-iam-policy-binding my-internal-service {REGION} --member=serviceAccount:caller@demo.iam.gserviceaccount.com --role=roles/run.invoker"
    ));
    let mint = |who: &str, audience: &str| {
        let words = format!(
            "auth print-identity-token --impersonate-service-account={who}@demo.iam.gserviceaccount.com --audiences={audience} --include-email"
        );
        world.ok(&words).trim().to_owned()
    };
    let url = format!("https://{}", ways.hosts[0]);
    let good = mint("caller", &url);
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let serverless = |token: &str| format!("X-Serverless-Authorization: Bearer {token}");
    let access =
        world.ok("auth print-access-token --impersonate-service-account=caller@demo.iam.gserviceaccount.com");
    let cases: Vec<(&str, Vec<String>, u16)> = vec![
        ("no token", vec![], 403),
        ("nonsense", vec![bearer("nonsense")], 401),
        ("no bearer token", vec!["Authorization: Basic dXNlcjpwYXNz".to_owned()], 401),
        ("an access token", vec![bearer(access.trim())], 401),
        ("for another service", vec![bearer(&mint("caller", "https://another.example"))], 401),
        ("of a stranger", vec![bearer(&mint("stranger", &url))], 403),
        ("good", vec![bearer(&good)], 200),
        ("for the URL with a slash", vec![bearer(&mint("caller", &format!("{url}/")))], 200),
        ("for the other URL", vec![bearer(&mint("caller", &format!("https://{}", ways.hosts[2])))], 200),
        ("for a tag's URL", vec![bearer(&mint("caller", &format!("https://{}", ways.hosts[1])))], 200),
        ("for a custom audience", vec![bearer(&mint("caller", "https://api.example"))], 200),
        ("in the other header", vec![serverless(&good)], 200),
        ("good in the one that counts", vec![serverless(&good), bearer("nonsense")], 200),
        ("bad in the one that counts", vec![serverless("nonsense"), bearer(&good)], 401),
    ];
    for (what, headers, expected) in &cases {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        ways.expect(&world, &headers, what, |_, _| *expected);
    }
    world.ok(&format!("run services update my-internal-service {REGION} --no-invoker-iam-check"));
    ways.expect(&world, &[], "without a check", |_, _| 200);
    world.ok(&format!("run services update my-internal-service {REGION} --invoker-iam-check"));
    ways.expect(&world, &[], "with a check again", |_, _| 403);
    public(&world, "my-internal-service");
    ways.expect(&world, &[bearer("nonsense").as_str()], "public, whatever the token", |_, _| 200);
}

/// `run services proxy` on a free port.
struct Proxy {
    child: Child,
    address: String,
}

impl Proxy {
    fn start(world: &World, words: &str) -> Proxy {
        let mut command = world.command(world.path("bin/gcloud"));
        command.args(["run", "services", "proxy", "--port=0", REGION]).args(words.split_whitespace());
        Proxy::of(command)
    }

    fn of(mut command: Command) -> Proxy {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said =
            lines.find_map(|line| line.unwrap().split_once(" proxies to ").map(|(at, _)| at.to_owned()));
        let address = said.expect("it says where it listens").trim_start_matches("http://").to_owned();
        Proxy { child, address }
    }

    /// The status and the body of an answer of curl's.
    fn curl(&self, world: &World, words: &str) -> (String, String) {
        let answer =
            world.shell(&format!("curl -sS -w '\n%{{http_code}}' {words} http://{}/path", self.address));
        let (body, status) = answer.stdout.rsplit_once('\n').unwrap_or_default();
        (status.to_owned(), body.to_owned())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers with what it was asked, and echoes once it was asked to upgrade.
const ECHO: &str = r#"
import os, socket, threading
def serve(c):
    seen = b""
    while b"\r\n\r\n" not in seen:
        more = c.recv(4096)
        if not more: return
        seen += more
    if b"websocket" in seen:
        c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while more := c.recv(4096): c.sendall(more)
    else:
        while b"last words" not in seen and b"POST" in seen: seen += c.recv(4096)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(seen) + seen)
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

#[test]
fn a_private_service_through_the_local_proxy() {
    let world = World::start_with("loopback", &["--driver", "process"]);
    std::fs::write(world.path("echo.py"), ECHO).unwrap();
    let args = format!("--args={}", world.path("echo.py").display());
    let python = world.shell("command -v python3").stdout.trim().to_owned();
    let image = format!("--image=process:{python}");
    let words = ["run", "deploy", "echo", REGION, "--no-allow-unauthenticated", "--tag=blue", &image, &args];
    let answer = world.gcloud_args(&words);
    assert_eq!(answer.code, 0, "{}", answer.stderr);

    let proxy = Proxy::start(&world, "echo");
    let (status, seen) = proxy.curl(&world, "-H 'Authorization: Basic mine' -X DELETE");
    assert_eq!(status, "200", "{seen}");
    let seen = seen.to_lowercase();
    assert!(seen.starts_with("delete /path http/1.1\r\n") && seen.contains(".a.run.app"), "{seen}");
    assert!(!seen.contains("basic mine"), "{seen}");
    // A body in pieces, without a length.
    let body = "-H 'Transfer-Encoding: chunked' --data-binary 'last words'";
    assert!(proxy.curl(&world, body).1.contains("last words"));

    let mut socket = TcpStream::connect(&proxy.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let head: Vec<String> =
        reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    assert!(head[0].starts_with("HTTP/1.1 101"), "{head:?}");
    for word in ["one", "two"] {
        socket.write_all(word.as_bytes()).unwrap();
        let mut echoed = [0; 3];
        reader.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, word.as_bytes());
    }

    assert_eq!(Proxy::start(&world, "echo --token=nonsense").curl(&world, "").0, "401");
    let tagged = Proxy::start(&world, "echo --tag=blue").curl(&world, "").1;
    assert!(tagged.to_lowercase().contains("blue---echo-"), "{tagged}");
    for (words, why) in [
        ("none", "Cannot find service [none]"),
        ("echo --tag=green", "Cannot find tag [green] in service [echo]."),
    ] {
        let refused = world.gcloud(&format!("run services proxy {words} --port=0 {REGION}"));
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    // The program that Google's gcloud would start.
    let url = world.ok(&format!("run services describe echo {REGION} --format=value(status.url)"));
    let token = world.ok("auth print-identity-token");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vestibule"), world.path("bin/cloud-run-proxy")).unwrap();
    let mut component = world.command(world.path("bin/cloud-run-proxy"));
    component.args([
        "-host",
        url.trim(),
        "-token",
        token.trim(),
        "-bind",
        "127.0.0.1:0",
        "-server-up-time",
        "55m",
    ]);
    assert_eq!(Proxy::of(component).curl(&world, "").0, "200");

    // Ctrl-C ends it, and that is no failure.
    let mut proxy = proxy;
    let pid = proxy.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    assert!(world::wait(&mut proxy.child).success());
}
