//! Timestamps in the two ways Google's APIs write them.

use jiff::Timestamp;
use jiff::tz::Offset;

/// Compute writes local time of Google's home. A fixed offset says the same instant and needs no time zone database.
const COMPUTE_OFFSET: Offset = Offset::constant(-7);

/// Now as most APIs write it: RFC 3339 in UTC with microseconds, e.g. `2026-01-31T09:00:00.123456Z`.
pub fn now() -> String {
    rfc3339(Timestamp::now())
}

/// Now as compute writes it: RFC 3339 with milliseconds and `-07:00`, e.g. `2026-01-31T02:00:00.123-07:00`.
pub fn now_compute() -> String {
    compute(Timestamp::now())
}

/// RFC 3339 in UTC with microseconds.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// RFC 3339 in UTC with whole seconds, as Kubernetes-style objects want them (`metadata.creationTimestamp`).
pub fn rfc3339_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 3339 with milliseconds and the fixed offset `-07:00`.
pub fn compute(time: Timestamp) -> String {
    let local = COMPUTE_OFFSET.to_datetime(time);
    format!("{}-07:00", local.strftime("%Y-%m-%dT%H:%M:%S.%3f"))
}

/// Reads RFC 3339 with any offset and any precision.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_name_the_same_instant() {
        let time = parse("2026-01-31T09:00:00.123456Z").unwrap();
        assert_eq!(rfc3339(time), "2026-01-31T09:00:00.123456Z");
        assert_eq!(rfc3339_seconds(time), "2026-01-31T09:00:00Z");
        assert_eq!(compute(time), "2026-01-31T02:00:00.123-07:00");
        assert_eq!(parse(&compute(time)).unwrap().as_millisecond(), time.as_millisecond());
    }

    #[test]
    fn whole_seconds_keep_their_zeros() {
        let time = parse("2026-01-31T09:00:00Z").unwrap();
        assert_eq!(rfc3339(time), "2026-01-31T09:00:00.000000Z");
        assert_eq!(compute(time), "2026-01-31T02:00:00.000-07:00");
    }

    #[test]
    fn nonsense_is_no_time() {
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse("2026-01-31"), None);
    }
}
