//! The right-hand side of a comparison.

use crate::severity::Severity;
use crate::time::{parse_duration, parse_lenient};
use jiff::Timestamp;
use std::cmp::Ordering;

/// A number of an entry or of a filter. Integers are kept as such: sizes and ids do not fit a double.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub(crate) fn parse(text: &str) -> Option<Number> {
        // Rust also reads "inf", "nan" and "infinity"; those are words here.
        if !text.bytes().any(|b| b.is_ascii_digit()) {
            return None;
        }
        let float = || text.parse().ok().map(Number::Float);
        text.parse().ok().map(Number::Int).or_else(float)
    }

    pub(crate) fn compare(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
            (a, b) => a.float().partial_cmp(&b.float()),
        }
    }

    fn float(self) -> f64 {
        match self {
            Number::Int(n) => n as f64,
            Number::Float(n) => n,
        }
    }
}

/// A value as the filter writes it, with all that it can mean. Which meaning counts depends on the field, and for
/// payloads that is known entry by entry only.
#[derive(Debug, Clone)]
pub(crate) struct Literal {
    pub(crate) text: String,
    /// `NULL_VALUE`, unquoted.
    pub(crate) null: bool,
    pub(crate) number: Option<Number>,
    pub(crate) boolean: Option<bool>,
    pub(crate) time: Option<Timestamp>,
    /// In nanoseconds.
    pub(crate) duration: Option<i128>,
    pub(crate) severity: Option<Severity>,
}

impl Literal {
    pub(crate) fn new(text: &str, quoted: bool) -> Literal {
        let number = Number::parse(text);
        Literal {
            text: text.to_owned(),
            null: !quoted && text == "NULL_VALUE",
            number,
            boolean: parse_bool(text),
            time: parse_lenient(text),
            duration: parse_duration(text),
            severity: Severity::from_name(text).or_else(|| level(number?)),
        }
    }
}

pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn level(number: Number) -> Option<Severity> {
    match number {
        Number::Int(n) => u16::try_from(n).ok().map(Severity::from_number),
        Number::Float(_) => None,
    }
}
