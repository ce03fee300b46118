//! Durations and moments in secrets' documents.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use vestibule_model::time;

use crate::Error;

/// Shortest and longest `versionDestroyTtl`: 24 hours and 1,000 days.
const DESTROY_TTL: std::ops::RangeInclusive<i64> = 86_400..=86_400_000;
/// Longest `ttl` and latest `expireTime` from now: 100 years, as for `rotation` of Secret Manager v1.
const MAX_TTL_SECONDS: i64 = 3_153_600_000;

/// A moment at a member of a document.
pub(super) fn moment(document: &Value, member: &str) -> Option<Timestamp> {
    document[member].as_str().and_then(time::parse)
}

/// Reads `"86400s"`. The schema has let nothing else through but fractions, which are cut.
fn seconds(text: &str) -> Option<i64> {
    let number: f64 = text.strip_suffix('s')?.parse().ok()?;
    (number.is_finite() && number.abs() < 1e12).then_some(number as i64)
}

/// When a secret with this `ttl` expires.
pub(super) fn after_ttl(now: Timestamp, ttl: &str) -> Result<Timestamp, Error> {
    let seconds = seconds(ttl).filter(|seconds| (1..=MAX_TTL_SECONDS).contains(seconds));
    let end = seconds.and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok());
    end.ok_or_else(|| Error::invalid("secret.ttl", ttl, "It must be positive and at most 100 years."))
}

/// Refuses an `expireTime` that has passed.
pub(super) fn check_expiry(now: Timestamp, expiry: &str) -> Result<(), Error> {
    match time::parse(expiry) {
        Some(at) if at > now => Ok(()),
        _ => Err(Error::invalid("secret.expireTime", expiry, "It must be in the future.")),
    }
}

/// How long a version waits for its destruction.
pub(super) fn destroy_ttl(document: &Value) -> Result<Option<SignedDuration>, Error> {
    let Some(text) = document["versionDestroyTtl"].as_str() else { return Ok(None) };
    match seconds(text) {
        Some(0) => Ok(None),
        Some(seconds) if DESTROY_TTL.contains(&seconds) => Ok(Some(SignedDuration::from_secs(seconds))),
        _ => {
            let why = "It must be between 24 hours and 1000 days.";
            Err(Error::invalid("secret.versionDestroyTtl", text, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(after_ttl(now, "60s").unwrap().as_second(), 60);
        for bad in ["0s", "-1s", "9999999999s", "1", "NaNs", "infs"] {
            assert!(after_ttl(now, bad).is_err(), "{bad}");
        }
        assert_eq!(destroy_ttl(&json!({})).unwrap(), None);
        assert_eq!(destroy_ttl(&json!({"versionDestroyTtl": "0s"})).unwrap(), None);
        let day = destroy_ttl(&json!({"versionDestroyTtl": "86400s"})).unwrap();
        assert_eq!(day, Some(SignedDuration::from_hours(24)));
        assert!(destroy_ttl(&json!({"versionDestroyTtl": "60s"})).is_err());
    }

    #[test]
    fn expiry_lies_ahead() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        assert!(check_expiry(now, "2026-01-01T00:00:01Z").is_ok());
        assert!(check_expiry(now, "2026-01-01T00:00:00Z").is_err());
        assert!(check_expiry(now, "soon").is_err());
    }
}
