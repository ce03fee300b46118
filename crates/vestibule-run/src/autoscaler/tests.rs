use super::*;
use std::collections::BTreeMap;

fn quiet(limits: Limits) -> Observation {
    Observation {
        limits,
        queued: 0,
        starting: 0,
        ready: Vec::new(),
        reachable: true,
        proof_wanted: false,
        retry_at: None,
        retired: false,
    }
}

fn limits() -> Limits {
    Limits { concurrency: 80, min: 0, max: 100, idle_timeout: Duration::from_secs(900) }
}

fn idle(number: u64, last_used: Instant) -> ReadyInstance {
    ReadyInstance { number, in_flight: 0, resting: false, last_used }
}

#[test]
fn nothing_to_do_starts_nothing() {
    assert_eq!(decide(&quiet(limits()), Instant::now()), Actions::default());
}

#[test]
fn a_burst_from_zero_starts_what_it_needs_at_once() {
    let now = Instant::now();
    for (queued, expected) in [(1, 1), (80, 1), (81, 2), (200, 3), (1_000, 13), (100_000, 100)] {
        assert_eq!(decide(&Observation { queued, ..quiet(limits()) }, now).start, expected, "{queued}");
    }
}

#[test]
fn what_is_starting_counts() {
    let seen = Observation { queued: 160, starting: 2, ..quiet(limits()) };
    assert_eq!(decide(&seen, Instant::now()).start, 0);
    assert_eq!(decide(&Observation { queued: 161, ..seen }, Instant::now()).start, 1);
}

#[test]
fn free_slots_count() {
    let now = Instant::now();
    let busy = ReadyInstance { number: 1, in_flight: 70, resting: false, last_used: now };
    let seen = Observation { queued: 10, ready: vec![busy], ..quiet(limits()) };
    assert_eq!(decide(&seen, now).start, 0);
    assert_eq!(decide(&Observation { queued: 11, ..seen }, now).start, 1);
}

#[test]
fn minimum_only_while_reachable() {
    let now = Instant::now();
    let warm = Limits { min: 3, ..limits() };
    assert_eq!(decide(&quiet(warm), now).start, 3);
    assert_eq!(decide(&Observation { reachable: false, ..quiet(warm) }, now).start, 0);
    assert_eq!(decide(&Observation { retired: true, ..quiet(warm) }, now).start, 0);
}

#[test]
fn minimum_is_never_stopped_and_the_longest_idle_goes_first() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let ready = vec![idle(1, at(10)), idle(2, at(0)), idle(3, at(5))];
    let seen = Observation { ready, ..quiet(Limits { min: 2, ..limits() }) };
    assert_eq!(decide(&seen, at(899)).wake_at, Some(at(900)));
    assert_eq!(decide(&seen, at(5_000)), Actions { start: 0, stop: vec![2], wake_at: None });
}

#[test]
fn a_busy_instance_is_never_stopped() {
    let start = Instant::now();
    let busy = ReadyInstance { number: 1, in_flight: 1, resting: false, last_used: start };
    for retired in [false, true] {
        let seen = Observation { ready: vec![busy], retired, ..quiet(limits()) };
        assert_eq!(decide(&seen, start + Duration::from_secs(100_000)).stop, Vec::<u64>::new());
    }
}

#[test]
fn a_busy_instance_is_looked_at_again() {
    let start = Instant::now();
    let busy = ReadyInstance { number: 1, in_flight: 1, resting: false, last_used: start };
    let seen = Observation { ready: vec![busy], ..quiet(limits()) };
    let now = start + Duration::from_secs(70);
    assert_eq!(decide(&seen, now).wake_at, Some(now + Duration::from_secs(900)));
    let warm = Limits { min: 1, ..limits() };
    assert_eq!(decide(&Observation { limits: warm, ..seen }, now).wake_at, None);
}

#[test]
fn a_retired_revision_ends_idle_instances_at_once() {
    let now = Instant::now();
    let seen = Observation { ready: vec![idle(4, now)], retired: true, queued: 5, ..quiet(limits()) };
    assert_eq!(decide(&seen, now), Actions { start: 0, stop: vec![4], wake_at: None });
}

#[test]
fn proof_takes_one_instance() {
    let seen = Observation { proof_wanted: true, reachable: false, ..quiet(limits()) };
    assert_eq!(decide(&seen, Instant::now()).start, 1);
    assert_eq!(decide(&Observation { starting: 1, ..seen }, Instant::now()).start, 0);
}

#[test]
fn after_a_failure_wait_then_try_one() {
    let now = Instant::now();
    let retry = now + Duration::from_secs(1);
    let seen = Observation { queued: 1_000, retry_at: Some(retry), ..quiet(limits()) };
    assert_eq!(decide(&seen, now), Actions { start: 0, stop: vec![], wake_at: Some(retry) });
    assert_eq!(decide(&seen, retry).start, 1);
    assert_eq!(decide(&Observation { starting: 1, ..seen }, retry).start, 0);
}

/// A revision whose instances and requests exist only as numbers, driven by `decide` alone.
struct World {
    now: Instant,
    limits: Limits,
    startup: Duration,
    next: u64,
    starting: BTreeMap<u64, Instant>,
    /// Ends of the requests in each instance, and when it was last used.
    ready: BTreeMap<u64, (Vec<Instant>, Instant)>,
    queued: Vec<Duration>,
    served: u64,
    started: u64,
    peak: usize,
    wake_at: Option<Instant>,
}

impl World {
    fn new(limits: Limits, startup: Duration) -> Self {
        World {
            now: Instant::now(),
            limits,
            startup,
            next: 0,
            starting: BTreeMap::new(),
            ready: BTreeMap::new(),
            queued: Vec::new(),
            served: 0,
            started: 0,
            peak: 0,
            wake_at: None,
        }
    }

    fn observe(&self) -> Observation {
        let ready = self.ready.iter().map(|(&number, (requests, last_used))| ReadyInstance {
            number,
            in_flight: requests.len() as u32,
            resting: false,
            last_used: *last_used,
        });
        Observation {
            queued: self.queued.len() as u32,
            starting: self.starting.len() as u32,
            ready: ready.collect(),
            ..quiet(self.limits)
        }
    }

    /// Lets everything happen that is due now, and tells when the next thing is. Decides only when the runtime would
    /// be woken: an instance became ready, a request waits, or the time came that the last decision asked for.
    fn settle(&mut self) -> Option<Instant> {
        let now = self.now;
        let due: Vec<u64> = self.starting.iter().filter(|(_, at)| **at <= now).map(|(n, _)| *n).collect();
        for number in &due {
            self.starting.remove(number);
            self.ready.insert(*number, (Vec::new(), now));
        }
        for (requests, last_used) in self.ready.values_mut() {
            let before = requests.len();
            requests.retain(|end| *end > now);
            if requests.len() < before {
                *last_used = now;
                self.served += (before - requests.len()) as u64;
            }
        }
        let woken = !due.is_empty() || !self.queued.is_empty() || self.wake_at.is_some_and(|at| at <= now);
        self.hand_out();
        if woken {
            self.act();
        }
        let ends = self.ready.values().flat_map(|(requests, _)| requests.iter().min().copied()).min();
        let starts = self.starting.values().min().copied();
        earlier(earlier(ends, starts), self.wake_at)
    }

    fn act(&mut self) {
        let actions = decide(&self.observe(), self.now);
        for number in &actions.stop {
            let (requests, _) = self.ready.remove(number).expect("only what is ready is stopped");
            assert!(requests.is_empty(), "a request was cut");
        }
        for _ in 0..actions.start {
            self.next += 1;
            self.started += 1;
            self.starting.insert(self.next, self.now + self.startup);
        }
        let alive = self.starting.len() + self.ready.len();
        self.peak = self.peak.max(alive);
        assert!(alive <= self.limits.max as usize, "more than max");
        self.wake_at = actions.wake_at;
    }

    fn hand_out(&mut self) {
        for (requests, _) in self.ready.values_mut() {
            while requests.len() < self.limits.concurrency as usize
                && let Some(takes) = self.queued.pop()
            {
                requests.push(self.now + takes);
            }
            assert!(requests.len() <= self.limits.concurrency as usize, "more than concurrency");
        }
    }

    /// Runs until `end`, with nothing new arriving.
    fn run_until(&mut self, end: Instant) {
        while let Some(next) = self.settle().filter(|next| *next <= end) {
            assert!(next >= self.now, "woken in the past");
            // The step of a nanosecond shows a decision that asks to be woken at once for ever.
            self.now = next.max(self.now + Duration::from_nanos(1));
        }
        self.now = end;
    }

    fn arrive(&mut self, requests: usize, takes: Duration) {
        self.queued.extend(std::iter::repeat_n(takes, requests));
        self.settle();
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn days_of_traffic_are_served_and_end_at_zero() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut world = World::new(limits(), Duration::from_millis(300));
    let mut sent = 0;
    let end = world.now + 5 * 24 * 60 * MINUTE;
    while world.now < end {
        let burst = if random.u32(..50) == 0 { random.usize(..3_000) } else { random.usize(..20) };
        world.arrive(burst, Duration::from_millis(random.u64(1..20_000)));
        sent += burst as u64;
        let pause =
            if random.u32(..20) == 0 { 60 * MINUTE } else { Duration::from_millis(random.u64(..60_000)) };
        world.run_until(world.now + pause);
    }
    world.run_until(world.now + 30 * MINUTE);
    assert_eq!(world.served, sent);
    assert_eq!(world.starting.len() + world.ready.len(), 0, "not back at zero");
    assert!(world.peak <= 100 && world.peak >= 13, "{}", world.peak);
}

#[test]
fn steady_traffic_keeps_one_instance_for_days() {
    let mut world = World::new(limits(), Duration::from_millis(300));
    for _ in 0..3 * 24 * 60 {
        world.arrive(1, Duration::from_millis(50));
        world.run_until(world.now + MINUTE);
    }
    assert_eq!(world.started, 1);
}

#[test]
fn instances_beyond_the_need_go_after_the_idle_timeout() {
    let mut world = World::new(Limits { min: 2, ..limits() }, Duration::from_millis(300));
    world.arrive(1_000, Duration::from_secs(1));
    world.run_until(world.now + MINUTE);
    assert_eq!(world.ready.len(), 13);
    world.run_until(world.now + 13 * MINUTE);
    assert_eq!(world.ready.len(), 13, "gone before the idle timeout");
    world.run_until(world.now + 2 * MINUTE);
    assert_eq!(world.ready.len(), 2);
    world.run_until(world.now + 100 * MINUTE);
    assert_eq!(world.started, 13, "warm instances were replaced for nothing");
}
