//! Weights by what endpoints report of their load (`localityLbPolicy` `WEIGHTED_ROUND_ROBIN`).
//!
//! An endpoint that serves many requests for little of its capacity has much of it: its weight is its rate of requests
//! over its utilisation, as in Envoy's client-side weighted round robin and with its times. A weight counts only after
//! reports came in for a while, since a program that has just begun says little about itself; it is forgotten when they
//! cease. Endpoints without a weight get the mean of the others'.

use std::time::{Duration, Instant};

/// Weights are worked out that often (Envoy's `weight_update_period`).
pub const UPDATE_PERIOD: Duration = Duration::from_secs(1);

/// An endpoint's reports must have come in for so long (Envoy's `blackout_period`).
pub const BLACKOUT: Duration = Duration::from_secs(10);

/// A report is believed for so long (Envoy's `weight_expiration_period`).
pub const EXPIRATION: Duration = Duration::from_secs(180);

/// The largest weight that is given out; others are in proportion.
const SCALE: f64 = 1000.0;

/// What is known of one endpoint's load.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// The first report of those that have come in without a long pause, and the last one.
    first: Option<Instant>,
    last: Option<Instant>,
    utilization: f64,
    /// Requests a second by the endpoint's own word.
    reported_rate: f64,
    /// Requests a second as counted here, for endpoints that do not say.
    counted_rate: f64,
    /// Answers since the rate was worked out.
    answers: u32,
    counted_at: Option<Instant>,
}

impl Load {
    /// An answer came, whatever it says.
    pub fn answered(&mut self) {
        self.answers = self.answers.saturating_add(1);
    }

    /// An answer said how full the endpoint is, and how many requests a second it serves (0: it did not say).
    pub fn report(&mut self, utilization: f64, rate: f64, now: Instant) {
        if self.is_forgotten(now) {
            self.first = Some(now);
        }
        self.last = Some(now);
        self.utilization = utilization;
        self.reported_rate = rate;
    }

    /// Works out the rate of the time since this was called last, half of which it was before: single seconds are
    /// noisy.
    pub fn count(&mut self, now: Instant) {
        let since = self.counted_at.map(|at| now.saturating_duration_since(at).as_secs_f64());
        if let Some(seconds) = since.filter(|seconds| *seconds > 0.0) {
            let rate = f64::from(self.answers) / seconds;
            self.counted_rate =
                if self.counted_rate > 0.0 { f64::midpoint(self.counted_rate, rate) } else { rate };
        }
        self.answers = 0;
        self.counted_at = Some(now);
    }

    /// Requests a second that the endpoint could serve, if it is known.
    pub fn capacity(&self, now: Instant) -> Option<f64> {
        let first = self.first.filter(|first| now.saturating_duration_since(*first) >= BLACKOUT)?;
        if self.is_forgotten(now) || first > now {
            return None;
        }
        let rate = if self.reported_rate > 0.0 { self.reported_rate } else { self.counted_rate };
        let capacity = rate / self.utilization;
        (capacity.is_finite() && capacity > 0.0).then_some(capacity)
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= EXPIRATION)
    }
}

/// Weights in proportion to capacities and to the shares of a configuration. A share of 0 stays 0, and every other one
/// at least 1: who gets no requests could never report that things are better.
pub fn weights(endpoints: &[(u32, Option<f64>)]) -> Vec<u32> {
    let known: Vec<f64> = endpoints.iter().filter_map(|(_, capacity)| *capacity).collect();
    let Some(most) = known.iter().copied().reduce(f64::max) else {
        return endpoints.iter().map(|(share, _)| *share).collect();
    };
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let weight = |(share, capacity): &(u32, Option<f64>)| {
        let part = (capacity.unwrap_or(mean) / most * SCALE).round().max(1.0);
        // A float becomes the nearest integer that there is.
        (f64::from(*share) * part) as u32
    };
    endpoints.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_weight_counts_after_a_while_and_for_a_while() {
        let start = Instant::now();
        let mut load = Load::default();
        assert_eq!(load.capacity(start), None);
        load.report(0.5, 100.0, start);
        assert_eq!(load.capacity(after(start, 9)), None, "too early");
        load.report(0.25, 100.0, after(start, 10));
        assert_eq!(load.capacity(after(start, 10)), Some(400.0), "by the last report");
        assert_eq!(load.capacity(after(start, 189)), Some(400.0));
        assert_eq!(load.capacity(after(start, 190)), None, "too old");
        load.report(0.25, 100.0, after(start, 200));
        assert_eq!(load.capacity(after(start, 201)), None, "it begins anew");
        assert_eq!(load.capacity(after(start, 210)), Some(400.0));
    }

    #[test]
    fn requests_are_counted_for_who_does_not_say() {
        let start = Instant::now();
        let mut load = Load::default();
        load.count(start);
        load.report(0.5, 0.0, start);
        (0..50).for_each(|_| load.answered());
        load.count(after(start, 1));
        assert_eq!(load.capacity(after(start, 10)), Some(100.0));
        (0..150).for_each(|_| load.answered());
        load.count(after(start, 2));
        assert_eq!(load.capacity(after(start, 10)), Some(200.0), "half of what it was, half of what it is");
        load.report(0.5, 10.0, after(start, 10));
        assert_eq!(load.capacity(after(start, 10)), Some(20.0), "its own word counts more");
    }

    #[test]
    fn weights_are_in_proportion() {
        assert_eq!(weights(&[(1, None), (2, None)]), [1, 2], "nobody reported");
        assert_eq!(weights(&[(1, Some(100.0)), (1, Some(300.0))]), [333, 1000]);
        assert_eq!(weights(&[(1, Some(100.0)), (1, Some(300.0)), (1, None)]), [333, 1000, 667]);
        assert_eq!(weights(&[(0, Some(100.0)), (2, Some(100.0))]), [0, 2000]);
        assert_eq!(weights(&[(1, Some(1e-9)), (1, Some(1e9))]), [1, 1000], "nobody starves");
        assert_eq!(weights(&[(u32::MAX, Some(1.0))]), [u32::MAX]);
    }
}
