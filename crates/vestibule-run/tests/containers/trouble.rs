//! Programs that misbehave: contained, and the machine none the worse.

use std::time::Duration;

use vestibule_run::driver::Exit;

use crate::Test;
use crate::driving::{PATIENCE, World, groups_of, limits};

pub const TESTS: &[Test] = &[
    ("a_fork_bomb_is_contained", a_fork_bomb_is_contained),
    ("too_much_memory_ends_the_instance_alone", too_much_memory_ends_the_instance_alone),
    ("files_count_as_memory", files_count_as_memory),
    ("a_flood_of_output_is_no_harm", a_flood_of_output_is_no_harm),
];

fn limited(world: &World, what: &str) -> bool {
    let missing = world.driver.missing_limits();
    let is = !missing.iter().any(|limit| limit == what);
    if !is {
        println!("not run: no control groups to write to: {missing:?}");
    }
    is
}

fn a_fork_bomb_is_contained() {
    let world = World::new();
    if !limited(&world, "pids") {
        return;
    }
    let running = world.serve(&world.order("serve"));
    let bystander = world.serve(&world.order("serve"));
    let answer = world.ask(&running, "/bomb");
    let (made, why) = answer.split_once(' ').unwrap();
    assert_eq!(why, "Resource temporarily unavailable");
    assert!((900..1_024).contains(&made.parse::<u32>().unwrap()), "{answer}");
    assert_eq!(world.ask(&bystander, "/"), "hello");
    world.end(&running, Duration::from_millis(100));
    assert_eq!(groups_of(&running.id), 0);
    world.end(&bystander, PATIENCE);
}

fn too_much_memory_ends_the_instance_alone() {
    let world = World::new();
    if !limited(&world, "memory") {
        return;
    }
    let mut order = world.order("serve");
    order.container.limits = limits("1", "32Mi");
    let running = world.serve(&order);
    let bystander = world.serve(&world.order("serve"));
    assert!(world.try_ask(running.started.address, "/memory").is_err());
    let exit = world.exit(&running);
    let Exit::OutOfMemory { limit, .. } = exit else { panic!("{exit:?}") };
    assert_eq!(limit, 32 << 20);
    assert!(exit.to_string().starts_with("Memory limit of 32 MiB exceeded with "), "{exit}");
    assert_eq!(world.ask(&bystander, "/"), "hello");
    world.end(&bystander, PATIENCE);
    assert_eq!(groups_of(&running.id), 0);
}

fn files_count_as_memory() {
    let world = World::new();
    let mut order = world.order("serve");
    order.container.limits = limits("1", "64Mi");
    let running = world.serve(&order);
    let mounts = world.ask(&running, "/read?/proc/self/mounts");
    assert!(mounts.lines().any(|line| line.starts_with("overlay / overlay rw,nosuid,nodev")), "{mounts}");
    world.end(&running, PATIENCE);
}

/// Nobody reads: it waits for a reader, and ends when told to.
fn a_flood_of_output_is_no_harm() {
    let world = World::new();
    let flood = world.start(&world.order("flood"));
    assert_eq!(world.end(&flood, PATIENCE), Exit::Signal(15));
}
