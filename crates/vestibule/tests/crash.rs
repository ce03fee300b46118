//! `kill -9` of `serve` at any moment: what was acknowledged is there, and traffic flows.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail loudly and say what it leaves out"
)]

mod world;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use world::{REGION, World};

/// How many times a stream of writes is cut; `VESTIBULE_KILLS` asks for more.
const KILLS: usize = 5;

fn kills() -> usize {
    std::env::var("VESTIBULE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS)
}

/// Makes addresses one after the other and prints each name once the API has acknowledged it.
const WRITER: &str = r#"
i=0
while gcloud compute addresses create "a-$1-$i" --region=us-central1 --subnet=my-subnet 2>/dev/null >&2; do
    echo "a-$1-$i"
    i=$((i + 1))
done
"#;

#[test]
fn acknowledged_writes_survive_kill_9() {
    let mut world = World::start();
    world.ok("compute networks create my-vpc --subnet-mode=custom");
    world.ok(
        "compute networks subnets create my-subnet --network=my-vpc --range=10.0.0.0/16 --region=us-central1",
    );
    let mut acknowledged = Vec::new();
    for round in 0..kills() {
        let mut writer = world
            .command("sh")
            .args(["-c", WRITER, "writer", &round.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // Cut it after a few acknowledged writes and a random moment more.
        for _ in 0..fastrand::usize(1..6) {
            acknowledged.push(lines.next().unwrap().unwrap());
        }
        std::thread::sleep(Duration::from_micros(fastrand::u64(..8000)));
        world.kill();
        acknowledged.extend(lines.map(Result::unwrap));
        writer.wait().unwrap();
        world.serve();
    }
    let listed = world.ok("compute addresses list --format=value(name,address,status)");
    let rows: Vec<Vec<&str>> = listed.lines().map(|l| l.split_whitespace().collect()).collect();
    for name in &acknowledged {
        assert!(rows.iter().any(|r| r[0] == name), "{name} was acknowledged and is lost");
    }
    for row in &rows {
        assert_eq!((row.len(), row[2]), (3, "RESERVED"), "half a write: {row:?}");
    }
    let mut addresses: Vec<&str> = rows.iter().map(|r| r[1]).collect();
    addresses.sort_unstable();
    let all = addresses.len();
    addresses.dedup();
    assert_eq!(addresses.len(), all, "an address was handed out twice");
    let open = world.ok("compute operations list --format=value(name,status)");
    assert!(open.lines().all(|l| l.ends_with("DONE")), "an operation stays open:\n{open}");
}

#[test]
fn traffic_flows_after_kill_9() {
    let mut world = World::start();
    world.published_setup();
    world.ok(&format!(
        "run services add-iam-policy-binding my-internal-service {REGION} --member=allUsers --role=roles/run.invoker"
    ));
    assert_eq!(world.get("http://10.0.0.100/", &[]).0, 200);
    world.kill();
    world.serve();
    assert_eq!(world.get("http://api.internal.example.com/", &[]).0, 200);
    assert_eq!(world.get("https://10.0.0.100/", &[]).0, 200);
}

#[test]
fn nothing_is_left_after_the_end() {
    let mut world = World::start();
    world.published_setup();
    world.kill();
    world.serve();
    assert!(world.stop().success());
    let left = world::until(|| world::processes_of(&world.path("state")), |left| left.is_empty());
    assert!(left.is_empty(), "processes outlive serve: {left:?}");
}
