//! HTTP/2 and gRPC through the whole of it, with clients and servers that nobody here wrote.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::path::Path;

use world::{REGION, World};

/// The interpreter with grpcio; `cargo xtask test` makes it.
const PYTHON: &str = "VESTIBULE_PYTHON";

fn public(world: &World, service: &str) {
    world.ok(&format!(
        "run services add-iam-policy-binding {service} {REGION} --member=allUsers --role=roles/run.invoker"
    ));
}

#[test]
fn curl_agrees_on_http2_over_tls() {
    let world = World::start();
    world.published_setup();
    public(&world, "my-internal-service");
    world.ok(&format!(
        "compute backend-services update my-internal-backend --enable-logging --logging-sample-rate=1 {REGION}"
    ));
    let ask = |flags: &[&str]| {
        let mut words = vec!["curl", "-sS", "-k", "--max-time", "60"];
        words.extend(["-w", "%{http_version} %{response_code} "]);
        for flag in flags {
            if flag.starts_with("http") {
                words.extend(["-o", "/dev/null"]);
            }
            words.push(flag);
        }
        let answer = world.vm(&words);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.stdout
    };
    assert_eq!(ask(&["--http2", "https://10.0.0.100/a", "https://10.0.0.100/b"]), "2 200 2 200 ");
    assert_eq!(ask(&["--http1.1", "https://10.0.0.100/"]), "1.1 200 ");
    assert_eq!(ask(&["--http2", "-d", "body", "https://10.0.0.100/"]), "2 200 ");
    // On a plain port it is not offered, and asking for an upgrade is answered in HTTP/1.1.
    assert_eq!(ask(&["--http2", "http://10.0.0.100/"]), "1.1 200 ");
    let entries = world::until(
        || world.ok("logging read resource.type=internal_http_lb_rule --format=value(httpRequest.protocol)"),
        |text| text.lines().filter(|line| !line.is_empty()).count() >= 5,
    );
    assert_eq!(entries.lines().filter(|line| *line == "HTTP/2").count(), 3, "{entries}");
}

#[test]
fn grpc_goes_through_to_a_service_and_back() {
    let Some(python) = std::env::var_os(PYTHON).filter(|python| has_grpc(Path::new(python))) else {
        println!("not run: {PYTHON} names no interpreter with grpcio; cargo xtask test makes one");
        return;
    };
    let python = python.to_str().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/grpc_calls.py");
    let world = World::start_with("loopback", &["--driver", "process", "--h2c"]);
    world.published_setup();
    for (service, access) in [("grpc", "--allow-unauthenticated"), ("closed", "--no-allow-unauthenticated")] {
        world.ok(&format!(
            "run deploy {service} --image=python --command={python} --args={script},serve --use-http2 {access} \
             {REGION} --ingress=internal-and-cloud-load-balancing"
        ));
        world.ok(&format!(
            "compute network-endpoint-groups create {service}-neg {REGION} --network-endpoint-type=serverless \
             --cloud-run-service={service}"
        ));
        world.ok(&format!(
            "compute backend-services create {service}-backend --load-balancing-scheme=INTERNAL_MANAGED {REGION}"
        ));
        world.ok(&format!(
            "compute backend-services add-backend {service}-backend --network-endpoint-group={service}-neg \
             --network-endpoint-group-region=us-central1 {REGION}"
        ));
    }
    for words in [
        "url-maps create grpc-map --default-service=grpc-backend",
        "url-maps add-path-matcher grpc-map --path-matcher-name=m --default-service=grpc-backend \
         --path-rules=/closed.test.Echo/*=closed-backend",
        "target-http-proxies create grpc-http --url-map=grpc-map",
        "target-https-proxies create grpc-https --url-map=grpc-map --ssl-certificates=my-internal-cert",
        "forwarding-rules create grpc-http-rule --load-balancing-scheme=INTERNAL_MANAGED --network=my-vpc \
         --subnet=my-subnet --address=10.0.0.101 --ports=80 --target-http-proxy=grpc-http \
         --target-http-proxy-region=us-central1",
        "forwarding-rules create grpc-https-rule --load-balancing-scheme=INTERNAL_MANAGED --network=my-vpc \
         --subnet=my-subnet --address=10.0.0.101 --ports=443 --target-https-proxy=grpc-https \
         --target-https-proxy-region=us-central1",
    ] {
        world.ok(&format!("compute {words} {REGION}"));
    }
    let certificate = world.path("cert.pem");
    let answer =
        world.vm(&[python, script, "call", "10.0.0.101:443", certificate.to_str().unwrap(), "10.0.0.101:80"]);
    assert_eq!(answer.code, 0, "{}\n{}", answer.stdout, answer.stderr);
}

fn has_grpc(python: &Path) -> bool {
    let found = std::process::Command::new(python).args(["-c", "import grpc"]).output();
    found.is_ok_and(|output| output.status.success())
}
