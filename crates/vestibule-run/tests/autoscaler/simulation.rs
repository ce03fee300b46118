//! A service with simulated instances, requests and time. The decisions are the autoscaler's own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use vestibule_run::autoscaler::{Limits, Observation, ReadyInstance, decide};

/// How far time goes at once.
const STEP: Duration = Duration::from_millis(100);
/// Share of an instance that is filled before the next is used, as in the pool of a revision.
const PREFERRED_PERCENT: u32 = 60;

/// Requests that come.
pub struct Load {
    /// At a second since the beginning of a run.
    pub per_second: Box<dyn Fn(f64) -> f64>,
    /// How long each takes.
    pub takes: Duration,
}

impl Load {
    pub fn none() -> Load {
        Load { per_second: Box::new(|_| 0.0), takes: Duration::ZERO }
    }
}

/// What was seen in a part of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Requests in instances, on average.
    pub in_flight: f64,
    /// Requests in line, on average.
    pub waiting: f64,
    /// Instances, starting ones too, at most.
    pub instances: usize,
    /// How much one instance takes.
    pub concurrency: u32,
    /// How long the part was.
    pub length: Duration,
}

struct Simulated {
    number: u64,
    ready_at: Instant,
    ends: BinaryHeap<Reverse<Instant>>,
    last_used: Instant,
}

pub struct Simulation {
    limits: Limits,
    startup: Duration,
    now: Instant,
    instances: Vec<Simulated>,
    queue: VecDeque<(Instant, Duration)>,
    /// Instances that were ever started.
    pub started: u32,
    /// Requests that did not find a slot at once.
    pub waited: u64,
    pub longest_wait: Duration,
    fraction: f64,
    chance: u64,
}

impl Simulation {
    pub fn new(limits: Limits, startup: Duration) -> Simulation {
        Simulation {
            limits,
            startup,
            now: Instant::now(),
            instances: Vec::new(),
            queue: VecDeque::new(),
            started: 0,
            waited: 0,
            longest_wait: Duration::ZERO,
            fraction: 0.0,
            chance: 1,
        }
    }

    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    /// So many requests at this moment.
    pub fn arrive(&mut self, requests: usize, takes: Duration) {
        for _ in 0..requests {
            self.queue.push_back((self.now, takes));
        }
        self.settle(self.queue.len().saturating_sub(requests));
    }

    /// Lets time go by. At most some hundred samples, each over a part of it.
    pub fn run(&mut self, length: Duration, load: &Load) -> Vec<Sample> {
        let steps = (length.as_millis() / STEP.as_millis()) as u64;
        let part = (steps / 480).max(1);
        let mut samples = Vec::new();
        let (mut in_flight, mut waiting, mut most) = (0, 0, 0);
        for step in 1..=steps {
            self.now += STEP;
            self.finish();
            let before = self.queue.len();
            for _ in 0..self.coming((load.per_second)(step as f64 * STEP.as_secs_f64())) {
                self.queue.push_back((self.now, load.takes));
            }
            self.settle(before);
            in_flight += self.instances.iter().map(|instance| instance.ends.len()).sum::<usize>();
            waiting += self.queue.len();
            most = most.max(self.instances.len());
            if step % part == 0 {
                let mean = |sum: usize| sum as f64 / part as f64;
                samples.push(Sample {
                    in_flight: mean(in_flight),
                    waiting: mean(waiting),
                    instances: most,
                    concurrency: self.limits.concurrency,
                    length: STEP * part as u32,
                });
                (in_flight, waiting, most) = (0, 0, 0);
            }
        }
        samples
    }

    /// How many come in a step at this rate: a whole number, sometimes more and sometimes less, the same in every run.
    fn coming(&mut self, per_second: f64) -> usize {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (self.chance >> 33) as f64 / (1_u64 << 31) as f64;
        self.fraction += per_second * STEP.as_secs_f64() * 2.0 * random;
        let whole = self.fraction.floor();
        self.fraction -= whole;
        whole as usize
    }

    fn finish(&mut self) {
        for instance in &mut self.instances {
            while let Some(Reverse(end)) =
                instance.ends.peek().copied().filter(|Reverse(end)| *end <= self.now)
            {
                instance.ends.pop();
                instance.last_used = end;
            }
        }
    }

    /// Hands out slots and does what the autoscaler says. `before`: those of the line who waited already.
    fn settle(&mut self, before: usize) {
        let waited = before;
        let served = self.hand_out();
        self.waited += self.queue.len().saturating_sub(waited.saturating_sub(served)) as u64;
        let seen = self.observe();
        let actions = decide(&seen, self.now);
        self.instances.retain(|instance| !actions.stop.contains(&instance.number));
        for _ in 0..actions.start {
            self.started += 1;
            self.instances.push(Simulated {
                number: u64::from(self.started),
                ready_at: self.now + self.startup,
                ends: BinaryHeap::new(),
                last_used: self.now + self.startup,
            });
        }
    }

    fn hand_out(&mut self) -> usize {
        let preferred = (self.limits.concurrency * PREFERRED_PERCENT).div_ceil(100) as usize;
        let all = self.limits.concurrency as usize;
        let mut served = 0;
        while let Some((came, takes)) = self.queue.front().copied() {
            let now = self.now;
            let free =
                |limit: usize| self.instances.iter().position(|i| i.ready_at <= now && i.ends.len() < limit);
            let Some(at) = free(preferred).or_else(|| free(all)) else { break };
            self.queue.pop_front();
            self.instances[at].ends.push(Reverse(now + takes));
            assert!(self.instances[at].ends.len() <= all, "more than its concurrency in one instance");
            self.longest_wait = self.longest_wait.max(now - came);
            served += 1;
        }
        served
    }

    fn observe(&self) -> Observation {
        let ready = self.instances.iter().filter(|instance| instance.ready_at <= self.now);
        let ready: Vec<_> = ready
            .map(|instance| ReadyInstance {
                number: instance.number,
                in_flight: instance.ends.len() as u32,
                resting: false,
                last_used: instance.last_used,
            })
            .collect();
        Observation {
            limits: self.limits,
            queued: self.queue.len() as u32,
            starting: (self.instances.len() - ready.len()) as u32,
            ready,
            reachable: true,
            proof_wanted: false,
            retry_at: None,
            retired: false,
        }
    }
}
