//! Times as log entries carry them.
//!
//! Entries are written on request paths and scanned by the million, so both directions are done by hand: formatting
//! keeps the text of the current second, parsing knows only the fixed layout of RFC 3339.

use jiff::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A [`Timestamp`] in files of ours: RFC 3339 text.
pub(crate) mod as_text {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("not a timestamp"))
    }
}

/// How many digits of a second to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digits {
    Micros,
    Nanos,
}

/// Formats times as RFC 3339 in UTC. Remembers the last second, so that formatting many times of about now costs a copy
/// and a few digits; keep one a thread.
#[derive(Debug, Clone)]
pub struct TimeWriter {
    second: i64,
    /// `YYYY-MM-DDTHH:MM:SS` of that second.
    text: [u8; 19],
}

impl Default for TimeWriter {
    fn default() -> TimeWriter {
        TimeWriter::new()
    }
}

impl TimeWriter {
    /// A writer that remembers nothing yet.
    pub fn new() -> TimeWriter {
        TimeWriter { second: 0, text: *b"1970-01-01T00:00:00" }
    }

    /// Appends a time with microseconds, as `2026-01-01T00:00:00.123456Z`. Times before 1970 are printed as 1970.
    pub fn micros(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        self.write(out, time, Digits::Micros);
    }

    /// Appends a time with nanoseconds, as `2026-01-01T00:00:00.123456789Z`. Times before 1970 are printed as 1970.
    pub fn nanos(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        self.write(out, time, Digits::Nanos);
    }

    fn write(&mut self, out: &mut Vec<u8>, time: SystemTime, digits: Digits) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(since.as_secs()).unwrap_or(0);
        if second != self.second {
            self.second = second;
            self.text = date_and_time(second);
        }
        out.extend_from_slice(&self.text);
        out.push(b'.');
        match digits {
            Digits::Micros => write_digits(out, since.subsec_micros(), 6),
            Digits::Nanos => write_digits(out, since.subsec_nanos(), 9),
        }
        out.push(b'Z');
    }
}

/// Appends a duration as Google's JSON does: seconds with microseconds and `s`, as `0.007911s`.
pub fn write_duration(out: &mut Vec<u8>, duration: Duration) {
    out.extend_from_slice(duration.as_secs().to_string().as_bytes());
    out.push(b'.');
    write_digits(out, duration.subsec_micros(), 6);
    out.push(b's');
}

/// Appends `value` with leading zeros.
fn write_digits(out: &mut Vec<u8>, value: u32, count: usize) {
    let mut digits = [b'0'; 9];
    let mut rest = value;
    for digit in digits[..count].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[..count]);
}

fn date_and_time(second: i64) -> [u8; 19] {
    let mut text = *b"1970-01-01T00:00:00";
    if let Ok(time) = Timestamp::from_second(second) {
        let printed = time.to_string();
        if let Some(Ok(fixed)) = printed.as_bytes().get(..19).map(<[u8; 19]>::try_from) {
            text = fixed;
        }
    }
    text
}

/// Parses an RFC 3339 time: `2026-01-01T00:00:00Z`, with up to nine digits of a second, `Z` or an offset. Nothing else.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (time, rest) = parse_local(text.as_bytes(), true)?;
    let offset = parse_offset(rest)?;
    shifted(time, offset)
}

/// Parses what filters accept beyond RFC 3339: ISO 8601's date alone, minutes without seconds, offset without a colon
/// (Google's Python client writes `+0000`), and no zone, which means UTC.
pub fn parse_lenient(text: &str) -> Option<Timestamp> {
    let (time, rest) = parse_local(text.as_bytes(), false)?;
    let offset = match rest {
        [] => 0,
        [sign @ (b'+' | b'-'), h1, h2, m1, m2] => parse_offset(&[*sign, *h1, *h2, b':', *m1, *m2])?,
        other => parse_offset(other)?,
    };
    shifted(time, offset)
}

/// Parses a duration as Google's JSON prints it, `0.5s`, in nanoseconds.
pub fn parse_seconds(text: &str) -> Option<i128> {
    unit_amount(text.strip_suffix('s')?, 1_000_000_000)
}

/// Parses a duration as filters write it: a number with a unit of `ns us ms s m h`, or several of these in a row
/// (`1h30m`), with an optional sign. In nanoseconds.
pub fn parse_duration(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut total: i128 = 0;
    loop {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (amount, after) = rest.split_at(number);
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let nanos = match &after[..unit] {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(unit_amount(amount, nanos)?)?;
        rest = &after[unit..];
        if rest.is_empty() {
            return Some(sign * total);
        }
    }
}

/// `amount` times `nanos`, where `amount` is a decimal number. Digits below a nanosecond are cut off.
fn unit_amount(amount: &str, nanos: i128) -> Option<i128> {
    let (negative, amount) = match amount.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, amount),
    };
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || amount.len() > 30 {
        return None;
    }
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()?.checked_mul(nanos)? };
    let mut place = nanos;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(i128::from(digit - b'0') * place)?;
    }
    Some(if negative { -total } else { total })
}

/// Seconds since 1970 as if the text were UTC, and nanoseconds; and what follows.
type Local<'a> = ((i64, i32), &'a [u8]);

fn parse_local(text: &[u8], strict: bool) -> Option<Local<'_>> {
    let year = digits(text.get(0..4)?)?;
    let month = digits(text.get(5..7)?)?;
    let day = digits(text.get(8..10)?)?;
    if text[4] != b'-' || text[7] != b'-' || !valid_date(year, month, day) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * 86_400;
    if text.len() == 10 {
        return if strict { None } else { Some(((midnight, 0), &[])) };
    }
    if !matches!(text[10], b'T' | b't') || text.get(13) != Some(&b':') {
        return None;
    }
    let hour = digits(text.get(11..13)?)?;
    let minute = digits(text.get(14..16)?)?;
    if hour > 23 || minute > 59 {
        return None;
    }
    let second_of_day = hour * 3600 + minute * 60;
    if text.get(16) != Some(&b':') {
        return if strict { None } else { Some(((midnight + second_of_day, 0), &text[16..])) };
    }
    let second = digits(text.get(17..19)?)?;
    if second > 59 {
        return None;
    }
    let (nanos, rest) = parse_fraction(&text[19..])?;
    Some(((midnight + second_of_day + second, nanos), rest))
}

fn parse_fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let mut nanos = digits[..count].iter().fold(0, |n, b| n * 10 + i32::from(b - b'0'));
    for _ in count..9 {
        nanos *= 10;
    }
    Some((nanos, &digits[count..]))
}

/// Seconds east of UTC.
fn parse_offset(text: &[u8]) -> Option<i64> {
    if matches!(text, b"Z" | b"z") {
        return Some(0);
    }
    let [sign @ (b'+' | b'-'), hours @ .., b':', m1, m2] = text else { return None };
    let (hours, minutes) = (digits(hours)?, digits(&[*m1, *m2])?);
    if text.len() != 6 || hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some(if *sign == b'-' { -seconds } else { seconds })
}

fn shifted((second, nanos): (i64, i32), offset: i64) -> Option<Timestamp> {
    let start_of_second = Timestamp::from_second(second - offset).ok()?;
    Timestamp::from_nanosecond(start_of_second.as_nanosecond() + i128::from(nanos)).ok()
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn valid_date(year: i64, month: i64, day: i64) -> bool {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    year >= 1 && (1..=days).contains(&day)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn formats_micros_nanos_and_durations() {
        let time = UNIX_EPOCH + Duration::new(1_767_225_600, 123_456_789);
        let mut writer = TimeWriter::new();
        assert_eq!(text(|out| writer.micros(out, time)), "2026-01-01T00:00:00.123456Z");
        assert_eq!(text(|out| writer.nanos(out, time)), "2026-01-01T00:00:00.123456789Z");
        assert_eq!(text(|out| write_duration(out, Duration::from_micros(7911))), "0.007911s");
        assert_eq!(text(|out| write_duration(out, Duration::from_secs(61))), "61.000000s");
    }

    #[test]
    fn parses_rfc3339_and_nothing_else() {
        let parsed = |s: &str| parse_rfc3339(s).map(|t| t.to_string());
        assert_eq!(parsed("2026-01-01T00:00:00Z").as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(parsed("2026-01-01T01:30:00.5+01:30").as_deref(), Some("2026-01-01T00:00:00.5Z"));
        assert_eq!(parsed("0001-01-01T00:00:00Z").as_deref(), Some("0001-01-01T00:00:00Z"));
        assert_eq!(
            parsed("2024-02-29T23:59:59.999999999Z").as_deref(),
            Some("2024-02-29T23:59:59.999999999Z")
        );
        for bad in [
            "",
            "2026",
            "2026-01-01",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.1234567890Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00Zx",
            "2026-01-01 00:00:00Z",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn filters_may_leave_parts_out() {
        let parsed = |s: &str| parse_lenient(s).map(|t| t.to_string());
        assert_eq!(parsed("2026-01-01").as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(parsed("2026-01-01T10:30").as_deref(), Some("2026-01-01T10:30:00Z"));
        assert_eq!(parsed("2026-01-01T10:30:01.5").as_deref(), Some("2026-01-01T10:30:01.5Z"));
        assert_eq!(parsed("2026-01-01T01:30:00.5+0130").as_deref(), Some("2026-01-01T00:00:00.5Z"));
        for bad in
            ["yesterday", "2026-01-01T00:00:00+01", "2026-01-01T00:00:00+2400", "2026-01-01T00:00:00+01300"]
        {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("0.5s"), Some(500_000_000));
        assert_eq!(parse_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(parse_duration("-10ms"), Some(-10_000_000));
        assert_eq!(parse_duration("1.5us"), Some(1_500));
        for bad in ["", "s", "5", "5x", "1s2", ".s", "1.2.3s", "--1s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(parse_seconds("0.007911s"), Some(7_911_000));
        assert_eq!(parse_seconds("-1.5s"), Some(-1_500_000_000));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed(second in -62_135_596_800i64..253_402_300_799, nanos in 0i32..1_000_000_000) {
            let time = Timestamp::from_nanosecond(i128::from(second) * 1_000_000_000 + i128::from(nanos)).unwrap();
            prop_assert_eq!(parse_rfc3339(&time.to_string()), Some(time));
        }

        #[test]
        fn any_text_is_safe(text in "\\PC{0,40}") {
            let _ = (parse_rfc3339(&text), parse_lenient(&text), parse_duration(&text), parse_seconds(&text));
        }
    }
}
