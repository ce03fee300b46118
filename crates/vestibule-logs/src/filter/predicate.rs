//! One test of an entry.

use super::TimeRange;
use super::datum::{Datum, Source};
use super::lexer::Op;
use super::literal::Literal;
use super::schema::Kind;
use super::search::TokenSearch;
use crate::names::id_of;
use regex::Regex;
use serde_json::Value;
use std::cmp::Ordering;
use std::net::IpAddr;

#[derive(Debug, Clone)]
pub(crate) enum Predicate {
    /// `field op literal`, without a pattern.
    Compare(Source, Op, Literal),
    /// `field : text`, `field =~ pattern`: text that must be found. The literal is for fields that are no text.
    Find(Source, Regex, Literal),
    /// `field =~ pattern` and `field !~ pattern`.
    Match { source: Source, regex: Regex, wanted: bool },
    /// `field:*`
    Present(Source),
    /// A value alone: somewhere in the entry.
    Anywhere(Regex, Literal),
    /// `log_id("…")`
    LogId(String),
    /// `source(projects/p)`
    Container(String),
    /// `sample(field, fraction)`: the share of hash values that pass.
    Sample(Source, u64),
    /// `ip_in_net(field, "network")`
    InNet(Source, Network),
    /// `SEARCH(field, "words")`; no field means the whole entry.
    Search(Option<Source>, TokenSearch),
}

impl Predicate {
    pub(crate) fn matches(&self, entry: &Value) -> bool {
        match self {
            Predicate::Compare(source, op, literal) => source.any(entry, &mut |d| compare(d, *op, literal)),
            Predicate::Find(source, regex, literal) => source.any(entry, &mut |d| has(d, regex, literal)),
            Predicate::Match { source, regex, wanted } => {
                source.any(entry, &mut |d| regex.is_match(&d.to_text()) == *wanted)
            }
            Predicate::Present(source) => source.present(entry),
            Predicate::Anywhere(regex, literal) => anywhere(entry, regex, literal),
            Predicate::LogId(id) => log_name(entry).and_then(id_of).is_some_and(|found| found == *id),
            Predicate::Container(prefix) => log_name(entry).is_some_and(|name| name.starts_with(prefix)),
            Predicate::Sample(source, share) => source.any(entry, &mut |d| hash(&d.to_text()) <= *share),
            Predicate::InNet(source, network) => {
                source.any(entry, &mut |d| network.contains_text(&d.to_text()))
            }
            Predicate::Search(None, search) => search.matches(&[entry]),
            Predicate::Search(Some(source), search) => source.any(entry, &mut |d| match d {
                Datum::Composite(value) => search.matches(&[value]),
                _ => search.matches(&[&Value::String(d.to_text().into_owned())]),
            }),
        }
    }

    /// Narrows a span of time by what this demands of `timestamp`.
    pub(crate) fn narrow(&self, range: &mut TimeRange) {
        let Predicate::Compare(Source::Field(path), op, literal) = self else { return };
        let (Kind::Time, Some(time)) = (path.kind, literal.time) else { return };
        if path.keys.len() != 1 || path.keys[0] != "timestamp" {
            return;
        }
        match op {
            Op::Gt | Op::Ge => range.not_before(time),
            Op::Lt | Op::Le => range.not_after(time),
            Op::Eq | Op::Has => {
                range.not_before(time);
                range.not_after(time);
            }
            Op::Ne | Op::Match | Op::NotMatch => {}
        }
    }
}

fn log_name(entry: &Value) -> Option<&str> {
    entry.get("logName").and_then(Value::as_str)
}

fn compare(datum: &Datum<'_>, op: Op, literal: &Literal) -> bool {
    if literal.null {
        let null = matches!(datum, Datum::Null);
        return match op {
            Op::Eq | Op::Has => null,
            Op::Ne => !null,
            _ => false,
        };
    }
    let order = match datum {
        Datum::Text(text) => return compare_text(text, op, &literal.text),
        Datum::Number(number) => literal.number.and_then(|wanted| number.compare(wanted)),
        Datum::Bool(value) => literal.boolean.map(|wanted| value.cmp(&wanted)),
        Datum::Time(time) => literal.time.map(|wanted| time.cmp(&wanted)),
        Datum::Duration(nanos) => literal.duration.map(|wanted| nanos.cmp(&wanted)),
        Datum::Severity(severity) => literal.severity.map(|wanted| severity.cmp(&wanted)),
        Datum::Null | Datum::Composite(_) => None,
    };
    order.is_some_and(|order| holds(op, order))
}

fn holds(op: Op, order: Ordering) -> bool {
    match op {
        Op::Eq | Op::Has => order.is_eq(),
        Op::Ne => order.is_ne(),
        Op::Lt => order.is_lt(),
        Op::Le => order.is_le(),
        Op::Gt => order.is_gt(),
        Op::Ge => order.is_ge(),
        Op::Match | Op::NotMatch => false,
    }
}

/// Text is compared without regard to case.
fn compare_text(text: &str, op: Op, wanted: &str) -> bool {
    if matches!(op, Op::Eq | Op::Ne) && text.is_ascii() && wanted.is_ascii() {
        return text.eq_ignore_ascii_case(wanted) == (op == Op::Eq);
    }
    let folded = |s: &'_ str| s.chars().flat_map(char::to_lowercase).collect::<String>();
    holds(op, folded(text).cmp(&folded(wanted)))
}

/// `:`, on one value: a part of text, the same number, something inside of an object.
fn has(datum: &Datum<'_>, regex: &Regex, literal: &Literal) -> bool {
    match datum {
        Datum::Text(text) if !literal.null => regex.is_match(text),
        Datum::Composite(value) => anywhere(value, regex, literal),
        _ => compare(datum, Op::Eq, literal),
    }
}

/// Whether any text in the value contains the text, or any number equals it.
fn anywhere(value: &Value, regex: &Regex, literal: &Literal) -> bool {
    match value {
        Value::String(text) => regex.is_match(text),
        Value::Number(_) => {
            let same = |wanted| {
                let number = value.as_i64().map(super::literal::Number::Int);
                let number = number.or_else(|| value.as_f64().map(super::literal::Number::Float));
                number.and_then(|n| n.compare(wanted)).is_some_and(Ordering::is_eq)
            };
            literal.number.is_some_and(same)
        }
        Value::Bool(b) => literal.boolean == Some(*b),
        Value::Null => false,
        Value::Array(items) => items.iter().any(|item| anywhere(item, regex, literal)),
        Value::Object(map) => map.values().any(|item| anywhere(item, regex, literal)),
    }
}

/// A stable hash (FNV-1a with a final mix): the same entries are in the sample of every query, on every machine.
fn hash(text: &str) -> u64 {
    let mut hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A subnet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`; an address alone is a network of one.
    pub(crate) fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most)?,
            None => most,
        };
        Some(Network { address, bits })
    }

    fn contains_text(&self, text: &str) -> bool {
        text.parse().is_ok_and(|address| self.contains(address))
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                u32::from(network).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                u128::from(network).checked_shr(shift) == u128::from(address).checked_shr(shift)
            }
            _ => false,
        }
    }
}
