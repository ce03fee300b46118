//! What an instance sees and reaches of its surroundings, in both network modes, with an image of Debian's busybox.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod rootfs;
mod world;

use rootfs::{curl, deploy, inside, url};
use world::{REGION, World};

const METADATA: &str =
    "curl -sS -H 'Metadata-Flavor: Google' http://metadata.google.internal/computeMetadata/v1";

fn in_mode(mode: &'static str) {
    if mode == "namespace"
        && let Err(error) = vestibule_vpc::Namespaces::new()
    {
        println!("not run: this user may make no network namespace here: {error}");
        return;
    }
    let world = World::start_in(mode);
    let Some(image) = rootfs::image(&world) else { return };
    world.published_setup();
    for service in ["my-internal-service", "my-api"] {
        let grant = "--member=allUsers --role=roles/run.invoker";
        world.ok(&format!("run services add-iam-policy-binding {service} {REGION} {grant}"));
    }
    world.ok(&format!("run services update my-api {REGION} --ingress=internal"));
    outside(&world, &image);
    in_the_network(&world, &image);
}

/// Without VPC settings.
fn outside(world: &World, image: &str) {
    let deployed = deploy(world, "alone", image, "");
    assert_eq!(deployed.code, 0, "{deployed:?}");
    let alone = url(world, "alone");
    let run = |script: &str| inside(world, &alone, script);
    assert_eq!(run(&format!("{METADATA}/project/project-id")), "demo");
    assert_eq!(run(&format!("{METADATA}/instance/service-accounts/default/email | head -c 5")).len(), 5);
    assert!(run("cat /etc/resolv.conf").contains("nameserver 169.254.169.254"));
    assert!(run("nslookup anything.run.app").contains("199.36.153.8"), "the default URLs have an address");
    assert!(
        !run("nslookup api.internal.example.com").contains("10.0.0.100"),
        "a private name is known outside"
    );
    for closed in ["10.0.0.100:80", world.api().trim_start_matches("http://"), "169.254.99.99:8080"] {
        let said = run(&format!("curl -sS -m 5 http://{closed}/ || echo closed"));
        assert!(said.ends_with("closed\n"), "{closed}: {said}");
    }
    let called = |name: &str| {
        let to = url(world, name).replace("https://", "");
        run(&format!("curl -sS -k -i -m 20 https://{to}/"))
    };
    let said = called("my-internal-service");
    assert!(
        said.starts_with("HTTP/2 404") || said.starts_with("HTTP/1.1 404"),
        "another service is outside without VPC egress: {said}"
    );
    let said = called("alone");
    assert!(said.contains("hello from busybox"), "{said}");
}

/// With an address in the subnet.
fn in_the_network(world: &World, image: &str) {
    let flags = "--network=my-vpc --subnet=my-subnet --network-tags=web --vpc-egress=all-traffic";
    let deployed = deploy(world, "joined", image, flags);
    assert_eq!(deployed.code, 0, "{deployed:?}");
    let joined = url(world, "joined");
    let run = |script: &str| inside(world, &joined, script);
    let seen = run("curl -sS -m 20 http://10.0.0.100/");
    let line = seen.lines().find(|line| line.contains("x-forwarded-for")).unwrap_or(&seen).to_owned();
    assert!(line.contains("10.0.0.") && line.contains(",10.0.0.100"), "an address of the subnet: {line}");
    assert!(run("curl -sS -m 20 http://api.internal.example.com/").contains("my-internal-service"));
    let internal = url(world, "my-api").replace("https://", "");
    let called = run(&format!("curl -sS -k -m 20 https://{internal}/"));
    assert!(
        called.contains("my-api"),
        "a service with ingress internal is reached through the network: {called}"
    );
    assert_eq!(curl(world, &url(world, "my-api"), &[]).0, 404, "and not from outside");

    world.ok(
        "compute firewall-rules create no-web --network=my-vpc --direction=EGRESS --action=DENY --rules=tcp:80 \
         --target-tags=web --destination-ranges=10.0.0.100/32",
    );
    let denied = run("curl -sS -m 5 http://10.0.0.100/ || echo denied");
    assert!(denied.ends_with("denied\n"), "{denied}");

    let flags = "--network=my-vpc --subnet=no-such-subnet";
    let refused = deploy(world, "lost", image, flags);
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("no-such-subnet' of the revision's VPC network settings was not found"),
        "{refused:?}"
    );
}

#[test]
fn instances_in_loopback_mode() {
    in_mode("loopback");
}

#[test]
fn instances_in_namespace_mode() {
    in_mode("namespace");
}
