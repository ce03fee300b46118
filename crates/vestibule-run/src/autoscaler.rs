//! How many instances a revision should have: a pure function from what is seen to what to do.
//!
//! Nothing here reads a clock, starts a process or takes a lock. The time comes in with the observation, so tests run
//! days of traffic in milliseconds, and every decision can be explained from its input alone.
//!
//! Cloud Run aims at 60 % utilisation averaged over a minute. Here the rule is simpler and easier to predict: a request
//! goes to any instance with a free slot; what finds none waits, and for what waits as many instances are started as it
//! takes to serve it, at once. So a burst of 1,000 requests to a service at zero with 80 requests an instance starts
//! 13 instances, not 21, and not one after another.

use std::time::{Duration, Instant};

/// The numbers of a revision that bound its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests that one instance serves at once. 0 counts as 1.
    pub concurrency: u32,
    /// Instances kept warm while the revision can be reached.
    pub min: u32,
    /// Instances that may run at once. 0 counts as 1: a revision that may never run could not serve anything.
    pub max: u32,
    /// How long an instance without a request is kept. Cloud Run: up to 15 minutes.
    pub idle_timeout: Duration,
}

/// An instance that can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyInstance {
    /// Rises with every start, so it also orders by age.
    pub number: u64,
    pub in_flight: u32,
    /// It is alive and takes no new requests for now, as its readiness probe fails.
    pub resting: bool,
    /// When its last request ended, or when it became ready if it had none.
    pub last_used: Instant,
}

/// What is to be seen of a revision at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub limits: Limits,
    /// Requests that wait for a slot.
    pub queued: u32,
    /// Instances that were started and are not ready yet.
    pub starting: u32,
    pub ready: Vec<ReadyInstance>,
    /// A request can be routed to the revision: it has a share of traffic, or a tag.
    pub reachable: bool,
    /// The revision is new: one instance must show that it can start, and as many as are kept warm have to be there
    /// before it takes traffic.
    pub proof_wanted: bool,
    /// The last starts failed: no start before this, and then one at a time.
    pub retry_at: Option<Instant>,
    /// The revision is to go: instances are started only for those who wait already, and everything idle ends.
    pub retired: bool,
}

/// What to do about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    /// Instances to start now.
    pub start: u32,
    /// Numbers of instances to stop, provided that they have no request when it comes to it.
    pub stop: Vec<u64>,
    /// When to look again even if nothing happens.
    pub wake_at: Option<Instant>,
}

/// Decides how many instances to start and which to stop.
pub fn decide(seen: &Observation, now: Instant) -> Actions {
    let (start, retry) = starts(seen, now);
    let (stop, idle) = stops(seen, now);
    Actions { start, stop, wake_at: earlier(retry, idle) }
}

/// How many to start, and when to look again if a start has to wait.
fn starts(seen: &Observation, now: Instant) -> (u32, Option<Instant>) {
    let wanted = missing(seen);
    if wanted == 0 {
        return (0, None);
    }
    match seen.retry_at {
        Some(at) if now < at => (0, Some(at)),
        // After a failure one instance has to show that starting works again before more are tried.
        Some(_) => (wanted.min(1_u32.saturating_sub(seen.starting)), None),
        None => (wanted, None),
    }
}

/// How many instances are missing, all limits respected.
fn missing(seen: &Observation) -> u32 {
    let alive = seen.starting.saturating_add(seen.ready.len() as u32);
    let room = seen.limits.max.max(1).saturating_sub(alive);
    if seen.retired {
        // Whoever came while the revision still had traffic is served.
        return for_queue(seen).min(room);
    }
    let for_warmth = warm(seen).saturating_sub(alive);
    let for_proof = u32::from(seen.proof_wanted && alive == 0);
    for_queue(seen).max(for_warmth).max(for_proof).min(room)
}

/// Instances that what waits needs beyond those that are starting and slots that are free.
fn for_queue(seen: &Observation) -> u32 {
    let each = seen.limits.concurrency.max(1);
    let taking = seen.ready.iter().filter(|instance| !instance.resting);
    let free: u32 = taking.map(|instance| each.saturating_sub(instance.in_flight)).sum();
    let coming = seen.starting.saturating_mul(each).saturating_add(free);
    seen.queued.saturating_sub(coming).div_ceil(each)
}

/// Instances to keep even when they are idle.
fn warm(seen: &Observation) -> u32 {
    let wanted = (seen.reachable || seen.proof_wanted) && !seen.retired;
    if wanted { seen.limits.min.min(seen.limits.max.max(1)) } else { 0 }
}

/// Which to stop, and when the next may have been idle for long enough.
fn stops(seen: &Observation, now: Instant) -> (Vec<u64>, Option<Instant>) {
    let alive = seen.ready.len() as u32;
    let spare = alive.saturating_sub(warm(seen)) as usize;
    // What was used last goes last; of those that were used at the same time the youngest goes first.
    let mut idle: Vec<_> = seen.ready.iter().filter(|instance| instance.in_flight == 0).collect();
    idle.sort_by_key(|instance| (instance.last_used, std::cmp::Reverse(instance.number)));
    let patience = if seen.retired { Duration::ZERO } else { seen.limits.idle_timeout };
    let mut stop = Vec::new();
    for instance in idle.into_iter().take(spare) {
        let end = instance.last_used + patience;
        if end > now {
            return (stop, Some(end));
        }
        stop.push(instance.number);
    }
    // The end of a request wakes nobody unless one waits for its slot or the revision is retired, so look again when
    // an instance that is busy now could be idle for long enough at the earliest.
    let again = (stop.len() < spare && !seen.retired).then(|| now + patience);
    (stop, again)
}

/// The earlier of two moments, where there are any.
pub fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
