//! How long to wait: between starts that fail, and for a slot.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// After the first failed start; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two starts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Failures longer ago than this do not count any more.
const FORGET: Duration = Duration::from_secs(60);
/// Requests wait at least this long for a slot. Cloud Run container contract.
pub(crate) const MIN_WAIT: Duration = Duration::from_secs(10);
/// Requests wait for so many tenths of the average start. Cloud Run container contract: 3.5 times.
const WAIT_TENTHS: u32 = 35;
/// Added to the time of the very first start, so that it is the start's own failure that ends a wait for it.
const FIRST_START_MARGIN: Duration = Duration::from_secs(1);
/// How many starts the average is over.
const STARTS: usize = 16;

/// Pauses between starts of a program that does not start.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// Those of them in a row that never came to be ready.
    stillborn: u32,
    last: Option<Instant>,
    retry_at: Option<Instant>,
}

impl Backoff {
    /// A start failed. Several that were made together and fail together count once. One that took all the time there
    /// is, or that another try cannot mend, is not `transient` and counts like two.
    pub(crate) fn failed(&mut self, now: Instant, transient: bool) {
        let weight = if transient { 1 } else { 2 };
        if self.pause(now, weight) {
            self.stillborn += weight;
        }
    }

    /// What was ready ended soon. There is a pause before the next start as well, but whoever waits may hope: a request
    /// can end a program that starts well.
    pub(crate) fn crashed(&mut self, now: Instant) {
        self.pause(now, 1);
    }

    /// Whether there was no pause already.
    fn pause(&mut self, now: Instant, weight: u32) -> bool {
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        if self.last.is_some_and(|last| now - last > FORGET) {
            (self.failures, self.stillborn) = (0, 0);
        }
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(weight);
        self.last = Some(now);
        self.retry_at = Some(now + pause);
        true
    }

    /// A start succeeded. What crashes soon afterwards still adds to the failures before.
    pub(crate) fn succeeded(&mut self) {
        self.retry_at = None;
        self.stillborn = 0;
    }

    /// No start before this.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// The program failed to start at least twice in a row and is not tried just now: whoever waits had better be told.
    pub(crate) fn is_hopeless(&self, now: Instant) -> bool {
        self.stillborn >= 2 && self.retry_at.is_some_and(|at| now < at)
    }
}

/// How long starts took.
#[derive(Debug, Default)]
pub(crate) struct StartupTimes {
    recent: VecDeque<Duration>,
}

impl StartupTimes {
    pub(crate) fn add(&mut self, took: Duration) {
        if self.recent.len() == STARTS {
            self.recent.pop_front();
        }
        self.recent.push_back(took);
    }

    /// How long a request may wait for a slot. Before the first start it is as long as that start may take.
    pub(crate) fn wait_limit(&self, budget: Duration) -> Duration {
        let count = self.recent.len() as u32;
        let wanted = match count {
            0 => budget + FIRST_START_MARGIN,
            _ => self.recent.iter().sum::<Duration>() / count * WAIT_TENTHS / 10,
        };
        wanted.max(MIN_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_failures_together_count_once() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            for _ in 0..13 {
                backoff.failed(now, true);
            }
            let at = backoff.retry_at().unwrap();
            pauses.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    #[test]
    fn one_failure_is_not_hopeless_and_old_ones_are_forgotten() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(!backoff.is_hopeless(now));
        backoff.failed(now, true);
        assert!(!backoff.is_hopeless(now));
        let later = now + Duration::from_secs(1);
        backoff.failed(later, true);
        assert!(backoff.is_hopeless(later));
        assert!(!backoff.is_hopeless(later + Duration::from_secs(1)));
        backoff.succeeded();
        assert!(!backoff.is_hopeless(later));
        assert_eq!(backoff.retry_at(), None);
        let much_later = later + Duration::from_secs(61);
        backoff.failed(much_later, true);
        assert!(!backoff.is_hopeless(much_later));
        let at_last = much_later + Duration::from_secs(61);
        backoff.failed(at_last, false);
        assert!(backoff.is_hopeless(at_last));
    }

    #[test]
    fn what_starts_well_is_not_hopeless() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.succeeded();
            backoff.crashed(now);
            assert!(!backoff.is_hopeless(now));
            now = backoff.retry_at().unwrap();
        }
        backoff.crashed(now);
        assert_eq!(
            backoff.retry_at(),
            Some(now + Duration::from_millis(3_200)),
            "the pause grows all the same"
        );
    }

    #[test]
    fn waits_follow_the_starts() {
        let seconds = Duration::from_secs;
        let mut times = StartupTimes::default();
        assert_eq!(times.wait_limit(seconds(240)), seconds(241));
        assert_eq!(times.wait_limit(seconds(3)), MIN_WAIT);
        times.add(seconds(1));
        assert_eq!(times.wait_limit(seconds(240)), MIN_WAIT);
        for _ in 0..STARTS {
            times.add(seconds(10));
        }
        assert_eq!(times.wait_limit(seconds(240)), seconds(35));
    }
}
