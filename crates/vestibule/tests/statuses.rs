//! What a request gets that should not get through, and what a default URL answers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

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

#[test]
fn ingress_is_enforced_on_every_way_in() {
    let world = World::start();
    world.published_setup();
    public(&world, "my-internal-service");
    let url =
        world.ok("run services describe my-internal-service --region=us-central1 --format=value(status.url)");
    let host = url.trim().trim_start_matches("https://").to_owned();
    let outside = |world: &World| {
        let (name, port) = world.ready("front").rsplit_once(':').unwrap();
        let script = format!(
            "curl -sS -k -o /dev/null -w '%{{http_code}}' --connect-to {host}:443:{name}:{port} https://{host}/"
        );
        world.shell(&script).stdout
    };
    for (ingress, from_outside, from_vpc, from_balancer) in [
        ("internal-and-cloud-load-balancing", "404", 200, 200),
        ("internal", "404", 200, 200),
        ("all", "200", 200, 200),
    ] {
        world.ok(&format!("run services update my-internal-service {REGION} --ingress={ingress}"));
        assert_eq!(outside(&world), from_outside, "{ingress}, default URL from outside");
        assert_eq!(world.get(url.trim(), &[]).0, from_vpc, "{ingress}, default URL from the VPC");
        assert_eq!(world.get("http://10.0.0.100/", &[]).0, from_balancer, "{ingress}, load balancer");
    }
}
