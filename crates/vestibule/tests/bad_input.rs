//! Bad input: Google's exit code and words, and nothing has changed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use world::{PROJECT, REGION, World};

/// Flags that every forwarding rule of this file starts with.
const RULE: &str = "compute forwarding-rules create bad --load-balancing-scheme=INTERNAL_MANAGED \
                    --network=my-vpc --region=us-central1";
const PROXY: &str = "--target-http-proxy=my-internal-proxy --target-http-proxy-region=us-central1";

/// Everything that the commands of this file could change, as the API tells it.
fn state(world: &World) -> String {
    let compute = [
        "networks",
        "networks subnets",
        "addresses",
        "network-endpoint-groups",
        "backend-services",
        "url-maps",
        "target-http-proxies",
        "target-https-proxies",
        "ssl-certificates",
        "forwarding-rules",
        "firewall-rules",
    ]
    .map(|collection| format!("compute {collection} list --format=json"));
    let others = [
        "run services list --format=json".to_owned(),
        "dns managed-zones list --format=json".to_owned(),
        "dns record-sets list --zone=internal-zone --format=json".to_owned(),
        format!("run services get-iam-policy my-internal-service {REGION} --format=json"),
    ];
    compute.iter().chain(&others).map(|words| world.ok(words)).collect()
}

/// Runs commands that must fail, each with an exit code and a text on stderr, and leave everything as it was.
fn refused(world: &World, cases: &[(&str, i32, &str)]) {
    let before = state(world);
    for (words, code, text) in cases {
        let answer = world.gcloud(words);
        assert_eq!(answer.code, *code, "gcloud {words}\n{}", answer.stderr);
        assert!(answer.stderr.contains(text), "gcloud {words}\n{}wanted: {text}", answer.stderr);
        assert!(answer.stderr.contains("ERROR: (gcloud."), "gcloud {words}\n{}", answer.stderr);
        assert_eq!(answer.stdout, "", "gcloud {words}");
        assert_eq!(state(world), before, "gcloud {words} failed and changed something");
    }
}

#[test]
fn commands_that_gcloud_does_not_understand() {
    let world = World::start();
    world.published_setup();
    refused(
        &world,
        &[
            (
                "compute networks create bad --subnet-mode=custom --no-such-flag",
                2,
                "unrecognized arguments: --no-such-flag",
            ),
            ("compute networks creat bad", 2, "Invalid choice: 'creat'."),
            ("compute networks create", 2, "argument NAME: Must be specified."),
            (
                "run deploy bad --image=gcr.io/cloudrun/hello --region=us-central1 --ingress=nope",
                2,
                "argument --ingress: Invalid choice: 'nope'.",
            ),
            (
                "compute ssl-certificates create bad --certificate=missing.pem --private-key=key.pem --region=us-central1",
                1,
                "Unable to read file [missing.pem]",
            ),
            (
                "compute forwarding-rules create bad --load-balancing-scheme=INTERNAL_MANAGED --network=my-vpc \
                 --subnet=my-subnet --ports=80 --region=us-central1",
                2,
                "Exactly one of (",
            ),
        ],
    );
}

#[test]
fn references_to_what_does_not_exist() {
    let world = World::start();
    world.published_setup();
    let not_found = |name: &str| format!(" - The resource 'projects/{PROJECT}/{name}' was not found");
    let regional = |name: &str| not_found(&format!("regions/us-central1/{name}"));
    let rule_proxy = format!(
        "{RULE} --subnet=my-subnet --ports=80 --target-http-proxy=nope --target-http-proxy-region=us-central1"
    );
    let rule_subnet = format!("{RULE} --subnet=nope --ports=80 {PROXY}");
    refused(
        &world,
        &[
            (
                "compute networks subnets create bad --network=nope --range=10.7.0.0/24 --region=us-central1",
                1,
                &not_found("global/networks/nope"),
            ),
            (
                "compute backend-services add-backend my-internal-backend --network-endpoint-group=nope \
                 --network-endpoint-group-region=us-central1 --region=us-central1",
                1,
                &regional("networkEndpointGroups/nope"),
            ),
            (
                "compute url-maps create bad --default-service=nope --region=us-central1",
                1,
                &regional("backendServices/nope"),
            ),
            (
                "compute url-maps add-path-matcher my-internal-url-map --path-matcher-name=bad \
                 --default-service=my-internal-backend --new-hosts=bad.example --path-rules=/api/*=nope \
                 --region=us-central1",
                1,
                &regional("backendServices/nope"),
            ),
            (
                "compute target-http-proxies create bad --url-map=nope --region=us-central1",
                1,
                &regional("urlMaps/nope"),
            ),
            (
                "compute target-https-proxies create bad --url-map=my-internal-url-map --ssl-certificates=nope \
                 --region=us-central1",
                1,
                &regional("sslCertificates/nope"),
            ),
            (&rule_proxy, 1, &regional("targetHttpProxies/nope")),
            (&rule_subnet, 1, &regional("subnetworks/nope")),
            (
                "dns record-sets create a.example.com. --zone=nope --type=A --ttl=300 --rrdatas=10.0.0.1",
                1,
                "'nope'",
            ),
            (
                "run services update nope --region=us-central1 --concurrency=5",
                1,
                "Service [nope] could not be found.",
            ),
        ],
    );
}

#[test]
fn ranges_and_addresses_that_are_taken_or_unusable() {
    let world = World::start();
    world.published_setup();
    let rule = |flags: &str| format!("{RULE} {flags} --ports=80 {PROXY}");
    let address = |address: &str| rule(&format!("--subnet=my-subnet --address={address}"));
    let mut cases = vec![
        (
            "compute networks subnets create bad --network=my-vpc --range=10.0.0.128/25 --region=us-central1".to_owned(),
            "Invalid value for field 'resource.ipCidrRange': '10.0.0.128/25'. Invalid IPCidrRange: 10.0.0.128/25 \
             conflicts with existing subnetwork 'my-subnet' in region 'us-central1'.",
        ),
        (
            "compute networks subnets create bad --network=my-vpc --range=10.128.0.0/15 --region=europe-west1".to_owned(),
            "conflicts with existing subnetwork 'proxy-only-subnet' in region 'us-central1'.",
        ),
        (
            address("10.0.0.100"),
            "IP_IN_USE_BY_ANOTHER_RESOURCE - IP '10.0.0.100' is already being used by another resource.",
        ),
        (rule("--subnet=proxy-only-subnet"), "Forwarding rule's subnetwork must have purpose=PRIVATE."),
    ];
    // The network, the gateway, the one before last, the last; the proxies' range; another network's.
    for bad in ["10.0.0.0", "10.0.0.1", "10.0.0.254", "10.0.0.255", "10.129.0.5", "192.168.0.1"] {
        cases.push((address(bad), "Invalid value for field 'resource.IPAddress'"));
    }
    for bad in ["10.7.0.0/33", "127.0.0.0/24", "10.7.0.0/30", "hello"] {
        let words = format!(
            "compute networks subnets create bad --network=my-vpc --range={bad} --region=us-central1"
        );
        cases.push((words, "Invalid value for field 'resource.ipCidrRange'"));
    }
    // A zone for a region, and a mistyped one.
    for bad in ["us-central1-a", "us-centrl1"] {
        let words = format!(
            "compute networks subnets create bad --network=my-vpc --range=10.7.0.0/24 --region={bad}"
        );
        cases.push((words, "Unknown region."));
    }
    let cases: Vec<_> = cases.iter().map(|(words, text)| (words.as_str(), 1, *text)).collect();
    refused(&world, &cases);
}

#[test]
fn a_rule_needs_a_proxy_only_subnet_of_its_own_network() {
    let world = World::start();
    world.published_setup();
    world.ok("compute networks create other-vpc --subnet-mode=custom");
    world.ok("compute networks subnets create other-subnet --network=other-vpc --range=10.0.0.0/24 --region=us-central1");
    let words = format!(
        "compute forwarding-rules create bad --load-balancing-scheme=INTERNAL_MANAGED --network=other-vpc \
         --subnet=other-subnet --ports=80 {REGION} {PROXY}"
    );
    let text =
        "An active proxy-only subnetwork is required in the same region and VPC as the forwarding rule.";
    refused(&world, &[(&words, 1, text)]);
}

#[test]
fn broken_certificates() {
    let world = World::start();
    world.published_setup();
    std::fs::create_dir(world.path("other")).unwrap();
    let (_, key) = world.certificate(&["other.example"]);
    std::fs::rename(key, world.path("other/key.pem")).unwrap();
    let (cert, _) = world.certificate(&["api.internal.example.com"]);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(world.path("broken.pem"), broken).unwrap();
    std::fs::write(world.path("text.pem"), "hello\n").unwrap();
    // No line break at the end of the last line is a certificate all the same.
    let text = std::fs::read_to_string(&cert).unwrap();
    std::fs::write(world.path("trimmed.pem"), text.trim_end()).unwrap();
    let create = |cert: &str, key: &str| {
        format!("compute ssl-certificates create bad --certificate={cert} --private-key={key} {REGION}")
    };
    refused(
        &world,
        &[
            (&create("broken.pem", "key.pem"), 1, "The SSL certificate could not be parsed."),
            (&create("text.pem", "key.pem"), 1, "The SSL certificate could not be parsed."),
            (&create("cert.pem", "text.pem"), 1, "The SSL key could not be parsed."),
            (&create("cert.pem", "other/key.pem"), 1, "The private key does not match the certificate."),
        ],
    );
    world.ok(&create("trimmed.pem", "key.pem").replace("create bad", "create trimmed"));
}

#[test]
fn a_url_map_whose_tests_fail_or_whose_patterns_are_broken_is_not_taken() {
    let world = World::start();
    world.published_setup();
    let services = format!("projects/{PROJECT}/regions/us-central1/backendServices");
    let failing = format!(
        "name: my-internal-url-map\ndefaultService: {services}/my-internal-backend\n\
         tests:\n- host: a.example\n  path: /x\n  service: {services}/my-api-backend\n"
    );
    let pattern = format!(
        "name: my-internal-url-map\ndefaultService: {services}/my-internal-backend\n\
         hostRules:\n- hosts: ['*']\n  pathMatcher: m\npathMatchers:\n- name: m\n  \
         defaultService: {services}/my-internal-backend\n  routeRules:\n  - priority: 1\n    \
         matchRules:\n    - regexMatch: '('\n    service: {services}/my-internal-backend\n"
    );
    std::fs::write(world.path("failing.yaml"), failing).unwrap();
    std::fs::write(world.path("pattern.yaml"), pattern).unwrap();
    world.ok(&format!(
        "run services add-iam-policy-binding my-api {REGION} --member=allUsers --role=roles/run.invoker"
    ));
    let import = |file: &str| {
        format!("compute url-maps import my-internal-url-map --source={file} --region=us-central1 --quiet")
    };
    refused(
        &world,
        &[
            (
                &import("failing.yaml"),
                1,
                "Test failure: Expect URL 'a.example/x' to map to service \
                 'https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1/backendServices/my-api-backend'",
            ),
            (
                &import("pattern.yaml"),
                1,
                "Invalid value for field 'resource.pathMatchers[0].routeRules[0].matchRules[0].regexMatch': '('.",
            ),
        ],
    );
    assert_eq!(world.get("http://10.0.0.100/api/x", &[]).0, 200, "the last good map is obeyed");
}
