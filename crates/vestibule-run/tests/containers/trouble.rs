//! Programs that misbehave: contained, and the machine none the worse.

use std::time::Duration;

use vestibule_run::driver::{Driver as _, Exit, Labels, Order};

use crate::Test;
use crate::driving::{PATIENCE, World, groups_of, limits};

pub const TESTS: &[Test] = &[
    ("a_fork_bomb_is_contained", a_fork_bomb_is_contained),
    ("too_much_memory_ends_the_instance_alone", too_much_memory_ends_the_instance_alone),
    ("files_count_as_memory", files_count_as_memory),
    ("a_flood_of_output_is_no_harm", a_flood_of_output_is_no_harm),
    ("many_starts_leave_nothing", many_starts_leave_nothing),
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

/// Starts of the test below: enough that what each of them left would be seen.
const STARTS: usize = 40;
/// Variable that says another number, to look for what shows only after thousands.
const STARTS_VARIABLE: &str = "VESTIBULE_TEST_STARTS";
/// Bytes by which memory may grow: allocators keep some.
const GROWTH: u64 = 16 << 20;

/// What this process holds of the machine.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    children: usize,
    mounts: usize,
    groups: usize,
    files: usize,
}

impl Holdings {
    fn of(world: &World, ids: &str) -> Self {
        let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
        let children = std::fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.split_whitespace().count()
        });
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let folder = world.folder.path().display().to_string();
        Self {
            descriptors: count("/proc/self/fd"),
            children: children.sum(),
            mounts: mounts.lines().filter(|line| line.contains(&folder)).count(),
            groups: groups_of(ids),
            files: files(world.folder.path()),
        }
    }
}

fn files(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { 1 + files(&entry.path()) } else { 1 }).sum()
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Starts that succeed and are ended, end by themselves, are dropped, or fail.
fn many_starts_leave_nothing() {
    let world = World::new();
    let starts = std::env::var(STARTS_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(STARTS);
    let (serve, mut fails) = (world.order("serve"), world.order("serve"));
    fails.container.command = vec!["/bin/nothing".into()];
    let exits = world.order("exit");
    let ids = format!("{:08x}", fastrand::u32(..));
    let round = |number: usize| {
        let order =
            |order: &Order| Order { instance_id: format!("{ids}{number:08x}").into(), ..order.clone() };
        match number % 4 {
            0 => drop(world.end(&world.serve(&order(&serve)), PATIENCE)),
            1 => drop(world.exit(&world.start(&order(&exits)))),
            2 => assert!(world.try_start(&order(&fails)).is_err()),
            _ => drop(world.start(&order(&serve))),
        }
    };
    let settle = |done: &dyn Fn() -> bool| {
        let end = std::time::Instant::now() + PATIENCE;
        while !done() {
            assert!(std::time::Instant::now() < end, "left: {:?}", Holdings::of(&world, &ids));
            world.run(async { tokio::time::sleep(Duration::from_millis(5)).await });
        }
    };
    // What is made once: the image's layers, and what keeps them.
    (0..4).for_each(round);
    settle(&|| world.run(world.driver.list(&Labels::new())).is_empty() && groups_of(&ids) == 0);
    let before = Holdings::of(&world, &ids);
    let memory = resident();
    (4..4 + starts).for_each(round);
    settle(&|| Holdings::of(&world, &ids) == before);
    let grown = resident().saturating_sub(memory);
    assert!(grown < GROWTH, "{starts} starts took {grown} bytes of memory");
}
