//! The autoscaler over days of load, in seconds: what it does, checked and drawn.
//!
//! The drawings are `docs/autoscaler-*.svg`. A run compares them with what it draws, so they cannot grow old;
//! `VESTIBULE_WRITE_PLOTS=1 cargo test -p vestibule-run --test autoscaler` draws them anew.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]

mod plot;
mod simulation;

use std::time::Duration;

use plot::Plot;
use simulation::{Load, Simulation};
use vestibule_run::autoscaler::Limits;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Cloud Run's defaults, with a concurrency that makes for pictures.
fn limits(concurrency: u32) -> Limits {
    Limits { concurrency, min: 0, max: 100, idle_timeout: vestibule_run::config::IDLE_TIMEOUT }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// From `low` to `high` requests a second and back in a day.
fn day(low: f64, high: f64) -> impl Fn(f64) -> f64 {
    move |second: f64| {
        let turn = second / (24 * HOUR) as f64 * std::f64::consts::TAU;
        low + (high - low) * (1.0 - turn.cos()) / 2.0
    }
}

#[test]
fn a_day() {
    let mut world = Simulation::new(limits(10), Duration::from_millis(500));
    let load = Load { per_second: Box::new(day(0.2, 40.0)), takes: seconds(2) };
    let seen = world.run(seconds(24 * HOUR), &load);
    Plot::new("A day: 0.2 to 40 requests a second, 2 s each, 10 at once an instance").check("day", &seen);
    assert!(world.longest_wait <= Duration::from_millis(700), "{:?}", world.longest_wait);
    assert!(world.waited <= u64::from(world.started) * 10, "only what makes an instance start waits");
    let most = seen.iter().map(|sample| sample.instances).max().unwrap();
    // 80 in flight fill 8 instances; a filled one is at 100 %, and chance needs a few more.
    assert!((8..=13).contains(&most), "{most}");
    world.run(seconds(HOUR), &Load::none());
    assert_eq!(world.instances(), 0, "nobody came for an hour");
}

#[test]
fn a_burst_from_zero() {
    let mut world = Simulation::new(limits(80), Duration::from_millis(500));
    let mut seen = world.run(seconds(MINUTE), &Load::none());
    world.arrive(1_000, seconds(5));
    seen.extend(world.run(seconds(20 * MINUTE), &Load::none()));
    Plot::new("1,000 requests at once to a service at zero, 5 s each, 80 at once an instance")
        .check("burst", &seen);
    assert_eq!(world.started, 13, "as many as it takes, at once");
    assert!(world.longest_wait <= Duration::from_millis(600));
    assert_eq!(world.instances(), 0, "15 minutes after the last request");
}

#[test]
fn spikes() {
    let mut world = Simulation::new(limits(10), Duration::from_millis(500));
    let load = Load { per_second: Box::new(|_| 2.0), takes: seconds(1) };
    let mut seen = Vec::new();
    for gap in [10, 10, 10, 40, 10] {
        seen.extend(world.run(seconds(gap * MINUTE), &load));
        world.arrive(150, seconds(1));
    }
    seen.extend(world.run(seconds(30 * MINUTE), &load));
    Plot::new("Spikes of 150 over 2 requests a second, 1 s each, 10 at once an instance")
        .check("spikes", &seen);
    // Those of the first spike serve the next ones, unless the pause is longer than the idle timeout.
    assert!((30..=34).contains(&world.started), "{}", world.started);
    assert_eq!(world.instances(), 1);
}

#[test]
fn a_floor_and_a_ceiling() {
    let mut world = Simulation::new(Limits { min: 2, max: 6, ..limits(10) }, Duration::from_millis(500));
    let load = Load { per_second: Box::new(day(0.0, 35.0)), takes: seconds(2) };
    let seen = world.run(seconds(24 * HOUR), &load);
    Plot::new("2 to 6 instances: 0 to 35 requests a second, 2 s each, 10 at once an instance")
        .check("bounds", &seen);
    let settled = &seen[10..];
    assert!(settled.iter().all(|sample| (2..=6).contains(&sample.instances)));
    assert!(settled.iter().any(|sample| sample.waiting > 0.0), "more than 60 at once must wait");
}

#[test]
fn one_request_an_instance_and_a_thousand() {
    for (concurrency, expected) in [(1, 40), (1_000, 1)] {
        let mut world = Simulation::new(limits(concurrency), Duration::from_millis(200));
        world.arrive(40, seconds(30));
        world.run(seconds(10), &Load::none());
        assert_eq!(world.started, expected);
        assert_eq!(world.waited, 40, "all came before there was an instance");
    }
}

#[test]
fn manual_scaling_is_a_floor_that_is_a_ceiling() {
    let mut world = Simulation::new(Limits { min: 3, max: 3, ..limits(10) }, Duration::from_millis(200));
    world.run(seconds(HOUR), &Load::none());
    assert_eq!(world.instances(), 3);
    world.arrive(100, seconds(1));
    world.run(seconds(HOUR), &Load::none());
    assert_eq!((world.instances(), world.started), (3, 3));
}
