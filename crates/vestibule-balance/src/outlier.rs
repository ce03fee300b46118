//! Who has failed too often, and how long it is left alone: `outlierDetection`, by Envoy's rules and Google's defaults.

use std::time::{Duration, Instant};

/// The longest ejection, unless the base is longer (Envoy's default `max_ejection_time`).
pub const LONGEST: Duration = Duration::from_secs(300);

/// `outlierDetection` of a backend service. Defaults are the API's.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierDetection {
    /// `baseEjectionTime`, default 30 s: how long the first ejection lasts; the n-th lasts n times as long.
    pub base: Duration,
    /// `interval`, default 1 s: how often success rates are compared and earlier ejections are forgiven.
    pub interval: Duration,
    /// `maxEjectionPercent`, default 50: the share of endpoints that may be ejected at once. One always may.
    pub max_percent: u32,
    /// `consecutiveErrors`, default 5: answers of 5xx in a row. 0 switches it off.
    pub errors: u32,
    /// `enforcingConsecutiveErrors`, default 0: the share of such findings, in percent, that eject.
    pub enforcing_errors: u32,
    /// `consecutiveGatewayFailure`, default 3: answers of 502, 503 or 504, or none, in a row. 0 switches it off.
    pub gateway: u32,
    /// `enforcingConsecutiveGatewayFailure`, default 100.
    pub enforcing_gateway: u32,
    /// `enforcingSuccessRate`, default 100.
    pub enforcing_success: u32,
    /// `successRateMinimumHosts`, default 5: fewer with enough requests are not compared.
    pub success_hosts: u32,
    /// `successRateRequestVolume`, default 100: requests in an interval that make a rate.
    pub success_volume: u32,
    /// `successRateStdevFactor`, default 1900: how many thousandths of a standard deviation below the mean is too low.
    pub success_factor: u32,
}

impl Default for OutlierDetection {
    fn default() -> OutlierDetection {
        OutlierDetection {
            base: Duration::from_secs(30),
            interval: Duration::from_secs(1),
            max_percent: 50,
            errors: 5,
            enforcing_errors: 0,
            gateway: 3,
            enforcing_gateway: 100,
            enforcing_success: 100,
            success_hosts: 5,
            success_volume: 100,
            success_factor: 1900,
        }
    }
}

/// What a request to an endpoint came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Any answer below 500.
    Good,
    /// An answer of 5xx that is not one of the gateway's.
    Error,
    /// 502, 503 or 504, no connection, or no answer.
    Gateway,
}

impl Outcome {
    pub fn of_status(status: u16) -> Outcome {
        match status {
            502..=504 => Outcome::Gateway,
            500.. => Outcome::Error,
            _ => Outcome::Good,
        }
    }
}

/// Who else is there when somebody may be ejected.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    pub endpoints: usize,
    pub ejected: usize,
}

impl Crowd {
    fn may_lose_one(self, max_percent: u32) -> bool {
        self.ejected == 0 || (self.ejected + 1) * 100 <= self.endpoints * max_percent as usize
    }
}

/// What is remembered of one endpoint.
#[derive(Debug, Default, Clone)]
pub struct Strikes {
    errors: u32,
    gateway: u32,
    /// How many times the base the last ejection lasted.
    times: u32,
    until: Option<Instant>,
    /// In this interval.
    requests: u32,
    good: u32,
}

impl Strikes {
    pub fn is_ejected(&self) -> bool {
        self.until.is_some()
    }

    /// When the ejection ends.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes note of a request. `random` decides by the enforcing shares. Returns whether the endpoint is ejected now.
    pub fn note(
        &mut self,
        rules: &OutlierDetection,
        outcome: Outcome,
        crowd: Crowd,
        now: Instant,
        random: u64,
    ) -> bool {
        self.requests = self.requests.saturating_add(1);
        if outcome == Outcome::Good {
            self.good = self.good.saturating_add(1);
            (self.errors, self.gateway) = (0, 0);
            return false;
        }
        self.errors = self.errors.saturating_add(1);
        self.gateway = if outcome == Outcome::Gateway { self.gateway.saturating_add(1) } else { 0 };
        let reached = |count: &mut u32, limit: u32| {
            let reached = limit > 0 && *count >= limit;
            if reached {
                *count = 0;
            }
            reached
        };
        let by_errors = reached(&mut self.errors, rules.errors) && hits(random, rules.enforcing_errors);
        let by_gateway = reached(&mut self.gateway, rules.gateway) && hits(random, rules.enforcing_gateway);
        (by_errors || by_gateway) && self.eject(rules, crowd, now)
    }

    fn eject(&mut self, rules: &OutlierDetection, crowd: Crowd, now: Instant) -> bool {
        if self.until.is_some() || !crowd.may_lose_one(rules.max_percent) {
            return false;
        }
        self.times += 1;
        let lasts = rules.base.saturating_mul(self.times).min(LONGEST.max(rules.base));
        self.until = now.checked_add(lasts);
        self.until.is_some()
    }

    /// Ends an ejection whose time is up. Returns whether it did.
    pub fn forgive(&mut self, now: Instant) -> bool {
        let over = self.until.is_some_and(|until| until <= now);
        if over {
            *self = Strikes { times: self.times, ..Strikes::default() };
        }
        over
    }

    /// An interval has ended. An endpoint that was there all along has a little of its past forgotten.
    fn turn_over(&mut self) {
        (self.requests, self.good) = (0, 0);
        if self.until.is_none() {
            self.times = self.times.saturating_sub(1);
        }
    }
}

/// A decision that comes up in `percent` of all cases.
fn hits(random: u64, percent: u32) -> bool {
    random % 100 < u64::from(percent)
}

/// Compares the success rates of an interval that has ended, ejects those that stand out, and begins the next. Returns
/// whether anybody was ejected.
pub fn compare(rules: &OutlierDetection, all: &mut [&mut Strikes], now: Instant, random: u64) -> bool {
    let rate = |strikes: &Strikes| f64::from(strikes.good) / f64::from(strikes.requests.max(1));
    let counts =
        |strikes: &Strikes| strikes.until.is_none() && strikes.requests >= rules.success_volume.max(1);
    let rates: Vec<f64> = all.iter().filter(|strikes| counts(strikes)).map(|strikes| rate(strikes)).collect();
    let mut changed = false;
    if rates.len() >= rules.success_hosts.max(1) as usize && hits(random, rules.enforcing_success) {
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
        let lowest = mean - variance.sqrt() * f64::from(rules.success_factor) / 1000.0;
        let endpoints = all.len();
        let mut ejected = all.iter().filter(|strikes| strikes.is_ejected()).count();
        for strikes in all.iter_mut().filter(|strikes| counts(strikes) && rate(strikes) < lowest) {
            if strikes.eject(rules, Crowd { endpoints, ejected }, now) {
                ejected += 1;
                changed = true;
            }
        }
    }
    all.iter_mut().for_each(|strikes| strikes.turn_over());
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Crowd = Crowd { endpoints: 4, ejected: 0 };

    fn note(strikes: &mut Strikes, outcome: Outcome, now: Instant) -> bool {
        strikes.note(&OutlierDetection::default(), outcome, FOUR, now, 0)
    }

    #[test]
    fn three_gateway_failures_in_a_row_eject() {
        let (now, mut strikes) = (Instant::now(), Strikes::default());
        for outcome in [Outcome::Gateway, Outcome::Gateway, Outcome::Good, Outcome::Gateway, Outcome::Gateway]
        {
            assert!(!note(&mut strikes, outcome, now));
        }
        assert!(note(&mut strikes, Outcome::Gateway, now));
        assert_eq!(strikes.until(), Some(now + Duration::from_secs(30)));
    }

    #[test]
    fn each_ejection_is_longer_up_to_a_limit() {
        let (mut now, mut strikes) = (Instant::now(), Strikes::default());
        for times in [1, 2, 3] {
            (0..3).for_each(|_| _ = note(&mut strikes, Outcome::Gateway, now));
            let until = now + Duration::from_secs(30) * times;
            assert_eq!(strikes.until(), Some(until));
            assert!(!strikes.forgive(until - Duration::from_millis(1)) && strikes.forgive(until));
            now = until;
        }
        strikes.times = 100;
        (0..3).for_each(|_| _ = note(&mut strikes, Outcome::Gateway, now));
        assert_eq!(strikes.until(), Some(now + LONGEST));
    }

    #[test]
    fn five_errors_eject_only_where_that_is_enforced() {
        let now = Instant::now();
        let ejects = |enforcing_errors, random| {
            let rules = OutlierDetection { enforcing_errors, ..OutlierDetection::default() };
            let mut strikes = Strikes::default();
            (0..5).any(|_| strikes.note(&rules, Outcome::Error, FOUR, now, random))
        };
        assert!(!ejects(0, 0));
        assert!(ejects(100, 99));
        assert!(ejects(40, 39) && !ejects(40, 40));
    }

    #[test]
    fn not_more_than_half_but_always_one() {
        for (endpoints, ejected, may) in [
            (1, 0, true),
            (2, 1, false),
            (3, 1, false),
            (4, 1, true),
            (4, 2, false),
            (10, 4, true),
            (10, 5, false),
        ] {
            assert_eq!(Crowd { endpoints, ejected }.may_lose_one(50), may, "{ejected} of {endpoints}");
        }
        assert!(Crowd { endpoints: 2, ejected: 1 }.may_lose_one(100));
    }

    #[test]
    fn a_success_rate_that_stands_out_ejects() {
        let (now, rules) = (Instant::now(), OutlierDetection::default());
        let with = |good| Strikes { requests: 100, good, ..Strikes::default() };
        let mut all = [with(99), with(100), with(98), with(99), with(60), with(99)];
        let mut few = [with(99), with(99), with(99), with(10)];
        assert!(compare(&rules, &mut all.iter_mut().collect::<Vec<_>>(), now, 0));
        assert_eq!(all.each_ref().map(Strikes::is_ejected), [false, false, false, false, true, false]);
        assert!(!compare(&rules, &mut few.iter_mut().collect::<Vec<_>>(), now, 0), "fewer than five");
        assert_eq!(few[3].requests, 0, "a new interval has begun");
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let (now, rules) = (Instant::now(), OutlierDetection::default());
        let mut strikes = Strikes { times: 2, ..Strikes::default() };
        compare(&rules, &mut [&mut strikes], now, 0);
        assert_eq!(strikes.times, 1);
    }

    #[test]
    fn statuses() {
        for (status, outcome) in [
            (200, Outcome::Good),
            (404, Outcome::Good),
            (500, Outcome::Error),
            (503, Outcome::Gateway),
            (505, Outcome::Error),
        ] {
            assert_eq!(Outcome::of_status(status), outcome);
        }
    }
}
