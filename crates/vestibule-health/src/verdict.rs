//! When an endpoint counts as healthy.
//!
//! The first probe decides at once, as in Envoy: an endpoint that was just attached need not wait for its thresholds to
//! get, or to be kept from, its first request. After that it takes as many in a row as the thresholds say.

use vestibule_balance::State;

/// What the probes of one endpoint have come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict {
    state: State,
    /// Probes in a row that speak against it.
    against: u32,
}

impl Verdict {
    pub(crate) fn new(state: State) -> Verdict {
        Verdict { state, against: 0 }
    }

    /// Takes note of a probe; returns what the endpoint counts as from now on.
    pub(crate) fn note(&mut self, good: bool, healthy: u32, unhealthy: u32) -> State {
        let (other, threshold) = match self.state {
            State::Unknown => (if good { State::Healthy } else { State::Unhealthy }, 1),
            State::Healthy if !good => (State::Unhealthy, unhealthy),
            State::Unhealthy if good => (State::Healthy, healthy),
            State::Healthy | State::Unhealthy => {
                self.against = 0;
                return self.state;
            }
        };
        self.against += 1;
        if self.against >= threshold {
            *self = Verdict::new(other);
        }
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(start: State, probes: &str) -> Vec<State> {
        let mut verdict = Verdict::new(start);
        probes.bytes().map(|probe| verdict.note(probe == b'+', 2, 3)).collect()
    }

    use State::{Healthy as H, Unhealthy as U, Unknown};

    #[test]
    fn the_first_probe_decides_and_then_the_thresholds() {
        assert_eq!(states(Unknown, "+"), [H]);
        assert_eq!(states(Unknown, "-++"), [U, U, H]);
        assert_eq!(states(H, "--+---"), [H, H, H, H, H, U]);
        assert_eq!(states(U, "+-++-"), [U, U, U, H, H]);
    }
}
