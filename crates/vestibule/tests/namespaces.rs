//! Namespace mode: the same set-up, in networks of the kernel's own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::net::TcpListener;

use world::{Answer, REGION, World};

/// A world with real networks, or `None` and a line that says why not.
fn world() -> Option<World> {
    if let Err(error) = vestibule_vpc::Namespaces::new() {
        println!("not run: this user may make no network namespace here: {error}");
        return None;
    }
    Some(World::start_in("namespace"))
}

fn run_in(world: &World, network: &str, subnet: &str, words: &[&str]) -> Answer {
    let mut command = world.command(world::BINARY);
    command.args(["vm", "run", "--network", network, "--subnet", subnet, "--"]).args(words);
    Answer::of(command.output().unwrap())
}

#[test]
fn the_published_setup_in_a_real_network() {
    let Some(world) = world() else { return };
    world.published_setup();
    assert_eq!(world.ready("network-mode"), "namespace");
    world.ok(&format!(
        "run services add-iam-policy-binding my-internal-service {REGION} --member=allUsers --role=roles/run.invoker"
    ));
    let (status, body) = world.get("http://10.0.0.100/", &[]);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("x-forwarded-for: 10.0.0.2,10.0.0.100"), "the client's own address: {body}");
    assert_eq!(world.get("http://api.internal.example.com/by-name", &[]).0, 200);
    assert_eq!(world.get("https://api.internal.example.com/", &[]).0, 200);
    let found = world.vm(&["getent", "hosts", "api.internal.example.com"]);
    assert!(found.stdout.starts_with("10.0.0.100"), "{found:?}");
    let dug = world.vm(&["dig", "+short", "+tcp", "api.internal.example.com"]);
    assert_eq!(dug.stdout.trim(), "10.0.0.100", "{dug:?}");
    let email = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/email";
    let (status, email) = world.get(email, &["Metadata-Flavor: Google"]);
    assert_eq!(status, 200);
    assert!(email.ends_with("-compute@developer.gserviceaccount.com"), "{email}");

    assert!(TcpListener::bind("10.0.0.100:0").is_err(), "the machine itself has the virtual IP");
}

#[test]
fn two_networks_with_the_same_ranges_never_meet() {
    let Some(world) = world() else { return };
    world.published_setup();
    world.ok("compute networks create other-vpc --subnet-mode=custom");
    world.ok("compute networks subnets create other-subnet --network=other-vpc --range=10.0.0.0/24 --region=us-central1");
    let words = ["curl", "-sS", "--max-time", "3", "http://10.0.0.100/"];
    let answer = run_in(&world, "other-vpc", "other-subnet", &words);
    assert_ne!(answer.code, 0, "the other network reaches the virtual IP: {answer:?}");
    let answer =
        run_in(&world, "other-vpc", "other-subnet", &["getent", "hosts", "api.internal.example.com"]);
    assert_ne!(answer.code, 0, "the other network resolves the name: {answer:?}");
    assert_eq!(world.get("http://10.0.0.100/", &[]).0, 403, "and the first one still does");
}

#[test]
fn an_address_comes_back_when_its_client_is_gone() {
    let Some(world) = world() else { return };
    world.published_setup();
    let own = |world: &World| world.vm(&["sh", "-c", "echo $VESTIBULE_VM_ADDRESS"]).stdout.trim().to_owned();
    assert_eq!(own(&world), "10.0.0.2");
    let again = world::until(|| own(&world), |address| address == "10.0.0.2");
    assert_eq!(again, "10.0.0.2");
}
