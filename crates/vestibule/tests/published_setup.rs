//! The published set-up, word for word, through a link named `gcloud`; then what it promises.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use world::{PROJECT, World};

#[test]
fn the_commands_exit_0_and_carry_traffic() {
    let world = World::start();
    world.published_setup();

    // Private: no token, no entry. The path rules lead to their own services.
    let (status, body) = world.get("http://10.0.0.100/", &[]);
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("Your client does not have permission to get URL <code>/</code>"), "{body}");

    let token = identity_token(&world);
    let bearer = format!("Authorization: Bearer {token}");
    for (path, service) in [("/", "my-internal-service"), ("/api/x", "my-api"), ("/web/", "my-web")] {
        let (status, body) = world.get(&format!("http://10.0.0.100{path}"), &[&bearer]);
        assert_eq!(status, 200, "{path}: {body}");
        assert!(body.contains(service), "{path} went to the wrong service: {body}");
    }
    let host = "Host: api.internal.example.com";
    assert_eq!(world.get("http://10.0.0.100/", &[host, &bearer]).0, 200);
    assert_eq!(world.get("http://api.internal.example.com/", &[&bearer]).0, 200);
    assert_eq!(world.get("https://api.internal.example.com/", &[&bearer]).0, 200);
}

/// A token of a service account that may invoke every service of the set-up.
fn identity_token(world: &World) -> String {
    world.ok("iam service-accounts create caller");
    let member = format!("serviceAccount:caller@{PROJECT}.iam.gserviceaccount.com");
    for service in ["my-internal-service", "my-api", "my-web"] {
        world.ok(&format!(
            "run services add-iam-policy-binding {service} --region=us-central1 --member={member} --role=roles/run.invoker"
        ));
    }
    let urls: Vec<String> = ["my-internal-service", "my-api", "my-web"]
        .iter()
        .map(|s| {
            let url = world
                .ok(&format!("run services describe {s} --region=us-central1 --format=value(status.url)"));
            url.trim().to_owned()
        })
        .collect();
    for (service, url) in ["my-api", "my-web"].iter().zip(&urls[1..]) {
        // One token for three services: the first one's URL is made an audience of the others.
        assert!(url.contains(service), "{url}");
        world.ok(&format!(
            "run services update {service} --region=us-central1 --add-custom-audiences={}",
            urls[0]
        ));
    }
    let words = format!(
        "auth print-identity-token --impersonate-service-account=caller@{PROJECT}.iam.gserviceaccount.com --audiences={} --include-email",
        urls[0]
    );
    world.ok(&words).trim().to_owned()
}

#[test]
fn the_log_tells_of_every_request() {
    let world = World::start();
    world.published_setup();
    world.ok("compute backend-services update my-internal-backend --enable-logging --logging-sample-rate=1.0 --region=us-central1");
    assert_eq!(world.get("http://10.0.0.100/seen?x=1", &[]).0, 403);
    let filter = r#"resource.type="internal_http_lb_rule""#;
    let read = || -> serde_json::Value {
        let text = world.gcloud_args(&["logging", "read", filter, "--format=json"]).stdout;
        serde_json::from_str(&text).unwrap()
    };
    // A request never waits for its log entry, so the entry may come a moment later.
    let entries = world::until(read, |entries| entries != &serde_json::json!([]));
    let entry = &entries[0];
    assert_eq!(entries.as_array().map(Vec::len), Some(1), "{entries}");
    assert_eq!(entry["httpRequest"]["status"], 403);
    assert_eq!(entry["httpRequest"]["requestUrl"], "http://10.0.0.100/seen?x=1");
    assert_eq!(entry["resource"]["labels"]["forwarding_rule_name"], "my-internal-lb-rule");
    assert_eq!(entry["resource"]["labels"]["backend_target_name"], "my-internal-backend");
    assert_eq!(entry["resource"]["labels"]["network_name"], "my-vpc");
    assert_eq!(entry["severity"], "WARNING");
    let remote = entry["httpRequest"]["remoteIp"].as_str().unwrap();
    assert!(remote.starts_with("10.0.0."), "the client's own private address, not {remote}");
}

#[test]
fn a_url_mask_takes_the_service_from_the_path() {
    let world = World::start();
    world.published_setup();
    world.ok("run services add-iam-policy-binding my-api --region=us-central1 --member=allUsers --role=roles/run.invoker");
    world.ok("compute backend-services create flexible --load-balancing-scheme=INTERNAL_MANAGED --protocol=HTTP --region=us-central1");
    world.ok("compute backend-services add-backend flexible --network-endpoint-group=my-flexible-neg --network-endpoint-group-region=us-central1 --region=us-central1");
    world.ok("compute url-maps set-default-service my-internal-url-map --default-service=flexible --region=us-central1");
    world.ok("compute url-maps add-path-matcher my-internal-url-map --path-matcher-name=flexible --default-service=flexible --new-hosts=mask.example --region=us-central1");
    let (status, body) = world.get("http://10.0.0.100/my-api/path", &["Host: mask.example"]);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("/my-api/path"), "the path is not rewritten: {body}");
    for path in ["/", "/no-such-service/path"] {
        let (status, body) = world.get(&format!("http://10.0.0.100{path}"), &["Host: mask.example"]);
        assert_eq!(status, 404, "{path}: {body}");
        assert!(!body.contains("neg") && !body.contains("flexible"), "internals are named: {body}");
    }
}

#[test]
fn a_name_resolves_only_inside_its_network() {
    let world = World::start();
    world.published_setup();
    world.ok("compute networks create other-vpc --subnet-mode=custom");
    world.ok("compute networks subnets create other-subnet --network=other-vpc --range=10.0.0.0/24 --region=us-central1");
    let mut command = world.command(world::BINARY);
    command.args(["vm", "run", "--network", "other-vpc", "--subnet", "other-subnet", "--"]);
    let output = command.args(["curl", "-sS", "-f", "http://api.internal.example.com/"]).output().unwrap();
    assert!(!output.status.success(), "the name resolves in another VPC");
}
