//! Percentages of requests: for faults and mirrors.

use crate::field::{CompileError, Field};

/// A share of requests, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance(u32);

impl Chance {
    /// Every request.
    pub const ALWAYS: Chance = Chance(1_000_000);

    /// From a percentage of 0 to 100.
    pub(crate) fn percent(value: f64, at: &Field<'_>) -> Result<Chance, CompileError> {
        if (0.0..=100.0).contains(&value) {
            return Ok(Chance((value * 10_000.0).round() as u32));
        }
        Err(at.invalid(value, "Must be between 0.0 and 100.0 inclusive."))
    }

    /// Whether a request that drew this random number is among them.
    pub fn hits(self, random: u64) -> bool {
        // The high half of the product is uniform over the millionths, without a division.
        ((u128::from(random) * 1_000_000) >> 64) < u128::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let chance = |value| Chance::percent(value, &Field::ROOT);
        assert!(chance(100.0).is_ok_and(|all| all.hits(u64::MAX) && all.hits(0)));
        assert!(chance(0.0).is_ok_and(|none| !none.hits(0) && !none.hits(u64::MAX)));
        assert!(
            chance(50.0)
                .is_ok_and(|half| half.hits(u64::MAX / 2 - 1_000_000_000_000_000) && !half.hits(u64::MAX))
        );
        assert!(chance(-1.0).is_err() && chance(100.1).is_err() && chance(f64::NAN).is_err());
    }
}
