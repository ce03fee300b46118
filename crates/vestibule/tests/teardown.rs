//! Taking the published set-up down: in the wrong order each step is refused, in the right one nothing is left.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use world::{PROJECT, REGION, World};

/// Every part of the set-up and the command that deletes it, users before what they use.
const STEPS: &[&str] = &[
    "dns record-sets delete api.internal.example.com. --zone=internal-zone --type=A",
    "dns managed-zones delete internal-zone",
    "compute forwarding-rules delete my-internal-lb-rule my-https-rule",
    "compute target-https-proxies delete my-internal-https-proxy",
    "compute ssl-certificates delete my-internal-cert",
    "compute target-http-proxies delete my-internal-proxy",
    "compute url-maps delete my-internal-url-map",
    "compute backend-services delete my-internal-backend my-api-backend my-web-backend",
    "compute network-endpoint-groups delete my-serverless-neg",
    "compute network-endpoint-groups delete my-flexible-neg",
    "compute network-endpoint-groups delete my-api-neg",
    "compute network-endpoint-groups delete my-web-neg",
    "compute networks subnets delete proxy-only-subnet",
    "compute networks subnets delete my-subnet",
    "compute networks delete my-vpc",
    "run services delete my-internal-service",
    "run services delete my-api",
    "run services delete my-web",
];

fn with_region(step: &str) -> String {
    let regional = !step.starts_with("dns ") && !step.starts_with("compute networks delete");
    if regional { format!("{step} {REGION} --quiet") } else { format!("{step} --quiet") }
}

#[test]
fn nothing_is_left() {
    let world = World::start();
    world.published_setup();
    for step in STEPS {
        world.ok(&with_region(step));
    }
    for (collection, empty) in [
        ("compute networks list --filter=name!=default", "[]\n"),
        ("compute networks subnets list --filter=name!=default", "[]\n"),
        ("compute network-endpoint-groups list", "[]\n"),
        ("compute backend-services list", "[]\n"),
        ("compute url-maps list", "[]\n"),
        ("compute target-http-proxies list", "[]\n"),
        ("compute target-https-proxies list", "[]\n"),
        ("compute ssl-certificates list", "[]\n"),
        ("compute forwarding-rules list", "[]\n"),
        ("dns managed-zones list", "[]\n"),
        ("run services list", "[]\n"),
        ("run revisions list", "[]\n"),
    ] {
        let region = if collection == "run revisions list" { REGION } else { "" };
        assert_eq!(world.ok(&format!("{collection} {region} --format=json")), empty, "{collection}");
    }
    // The whole name space is free again.
    world.published_setup();
    assert_eq!(world.get("http://10.0.0.100/", &[]).0, 403);
}

#[test]
fn what_is_in_use_stays() {
    let world = World::start();
    world.published_setup();
    let used = |kind: &str, name: &str, user: &str| {
        format!(
            "The {kind} resource 'projects/{PROJECT}/{name}' is already being used by 'projects/{PROJECT}/regions/us-central1/{user}'"
        )
    };
    for (step, text) in [
        (
            "compute target-http-proxies delete my-internal-proxy",
            used(
                "target_http_proxy",
                "regions/us-central1/targetHttpProxies/my-internal-proxy",
                "forwardingRules/my-internal-lb-rule",
            ),
        ),
        (
            "compute url-maps delete my-internal-url-map",
            used("url_map", "regions/us-central1/urlMaps/my-internal-url-map", "targetHttpProxies/my-internal-proxy"),
        ),
        (
            "compute ssl-certificates delete my-internal-cert",
            used(
                "ssl_certificate",
                "regions/us-central1/sslCertificates/my-internal-cert",
                "targetHttpsProxies/my-internal-https-proxy",
            ),
        ),
        (
            "compute backend-services delete my-api-backend",
            used("backend_service", "regions/us-central1/backendServices/my-api-backend", "urlMaps/my-internal-url-map"),
        ),
        (
            "compute network-endpoint-groups delete my-api-neg",
            used(
                "network_endpoint_group",
                "regions/us-central1/networkEndpointGroups/my-api-neg",
                "backendServices/my-api-backend",
            ),
        ),
        ("dns managed-zones delete internal-zone", "it contains one or more 'resource records'.".to_owned()),
        (
            "compute networks subnets delete proxy-only-subnet",
            "The subnetwork resource 'projects/demo/regions/us-central1/subnetworks/proxy-only-subnet' is already \
             being used by"
                .to_owned(),
        ),
        (
            "compute networks delete my-vpc",
            "The network resource 'projects/demo/global/networks/my-vpc' is already being used by".to_owned(),
        ),
    ] {
        let answer = world.gcloud(&with_region(step));
        assert_eq!(answer.code, 1, "{step}: {answer:?}");
        assert!(answer.stderr.contains(&text), "{step}\n{}wanted: {text}", answer.stderr);
    }
    assert_eq!(world.get("http://10.0.0.100/", &[]).0, 403, "still served");
    assert_eq!(world.get("http://api.internal.example.com/", &[]).0, 403, "still resolved");
}
