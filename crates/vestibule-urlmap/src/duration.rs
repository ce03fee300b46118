//! The Compute API's `Duration`: seconds as text, nanoseconds as a number.

use std::time::Duration;

use vestibule_model::compute;

use crate::field::{CompileError, Field};

/// Longest duration the API takes, in seconds: 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;

pub(crate) fn duration(doc: &compute::Duration, at: &Field<'_>) -> Result<Duration, CompileError> {
    let seconds = match doc.seconds.as_deref() {
        None | Some("") => 0,
        Some(text) => match text.parse::<u64>() {
            Ok(seconds) if seconds <= MAX_SECONDS => seconds,
            _ => {
                return Err(at
                    .member("seconds")
                    .invalid(text, format!("Must be between 0 and {MAX_SECONDS}.")));
            }
        },
    };
    let nanos = doc.nanos.unwrap_or(0);
    match u32::try_from(nanos) {
        Ok(valid) if valid < 1_000_000_000 => Ok(Duration::new(seconds, valid)),
        _ => Err(at.member("nanos").invalid(nanos, "Must be between 0 and 999,999,999.")),
    }
}

/// A duration that must not be zero.
pub(crate) fn positive(doc: &compute::Duration, at: &Field<'_>) -> Result<Duration, CompileError> {
    match duration(doc, at)? {
        Duration::ZERO => Err(at.invalid("0", "Must be greater than 0.")),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(seconds: Option<&str>, nanos: Option<i32>) -> Result<Duration, CompileError> {
        duration(&compute::Duration { seconds: seconds.map(String::from), nanos }, &Field::ROOT)
    }

    #[test]
    fn reads_and_refuses() {
        assert_eq!(read(Some("1"), Some(5)), Ok(Duration::new(1, 5)));
        assert_eq!(read(None, None), Ok(Duration::ZERO));
        for (seconds, nanos) in
            [(Some("-1"), None), (Some("x"), None), (Some("315576000001"), None), (None, Some(1_000_000_000))]
        {
            assert!(read(seconds, nanos).is_err(), "{seconds:?} {nanos:?}");
        }
    }
}
