//! How much a container adds to the program's own start.

use std::time::{Duration, Instant};

use crate::Test;
use crate::driving::{PATIENCE, World};

pub const TESTS: &[Test] = &[("a_cold_start_is_quick", a_cold_start_is_quick)];

/// What the median of starts may take on a machine that does nothing else.
const TARGET: Duration = Duration::from_millis(40);
/// How much longer it may take on one that is busy with other tests before this one fails.
const SLACK: u32 = 10;

fn a_cold_start_is_quick() {
    let world = World::new();
    let order = world.order("serve");
    world
        .run(async {
            vestibule_run::driver::Driver::prepare(&*world.driver, &order.owner, &order.container).await
        })
        .unwrap();
    let mut times: Vec<(Duration, Duration)> = (0..15)
        .map(|number| {
            let mut order = order.clone();
            order.instance_id = format!("speed-{number}").into();
            let start = Instant::now();
            let running = world.start(&order);
            let started = start.elapsed();
            world.until_serving(&running);
            let served = start.elapsed();
            world.end(&running, PATIENCE);
            (started, served)
        })
        .collect();
    times.sort();
    let (started, served) = times[times.len() / 2];
    println!("cold start: median {started:?} until the program runs, {served:?} until it answers; {times:?}");
    assert!(started < TARGET * SLACK, "{started:?}");
}
