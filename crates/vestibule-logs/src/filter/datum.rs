//! The left-hand side of a comparison: values of an entry, as the schema says they are meant.

use super::literal::{Literal, Number, parse_bool};
use super::schema::{Kind, Path};
use crate::severity::Severity;
use crate::time::{parse_duration, parse_lenient, parse_rfc3339, parse_seconds};
use jiff::Timestamp;
use regex::Regex;
use serde_json::Value;
use std::borrow::Cow;

/// One value to compare.
#[derive(Debug, Clone)]
pub(crate) enum Datum<'a> {
    Text(Cow<'a, str>),
    Number(Number),
    Bool(bool),
    Time(Timestamp),
    /// In nanoseconds.
    Duration(i128),
    Severity(Severity),
    Null,
    /// An object: can be searched, not compared.
    Composite(&'a Value),
}

impl Datum<'_> {
    /// The value as text, for regular expressions, `cast` and `sample`.
    pub(crate) fn to_text(&self) -> Cow<'_, str> {
        match self {
            Datum::Text(text) => Cow::Borrowed(text),
            Datum::Number(Number::Int(n)) => Cow::Owned(n.to_string()),
            Datum::Number(Number::Float(n)) => Cow::Owned(n.to_string()),
            Datum::Bool(b) => Cow::Borrowed(if *b { "true" } else { "false" }),
            Datum::Time(time) => Cow::Owned(time.to_string()),
            Datum::Duration(nanos) => Cow::Owned(format!("{}s", *nanos as f64 / 1e9)),
            Datum::Severity(severity) => Cow::Owned(severity.to_string()),
            Datum::Null => Cow::Borrowed("null"),
            Datum::Composite(value) => Cow::Owned(value.to_string()),
        }
    }
}

/// Where a comparison takes its values from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Field(Path),
    /// `cast(source, type)`
    Cast(Box<Source>, CastType),
    /// `regexp_extract(source, "…(…)…")`
    Extract(Box<Source>, Regex),
}

/// What `cast` can make of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CastType {
    Text,
    Int,
    Float,
    Bool,
    Time,
    Duration,
}

impl CastType {
    pub(crate) fn from_name(name: &str) -> Option<CastType> {
        Some(match name.to_ascii_uppercase().as_str() {
            "STRING" => CastType::Text,
            "INT64" => CastType::Int,
            "FLOAT64" => CastType::Float,
            "BOOL" => CastType::Bool,
            "TIMESTAMP" => CastType::Time,
            "DURATION" => CastType::Duration,
            _ => return None,
        })
    }

    fn apply(self, datum: &Datum<'_>) -> Option<Datum<'static>> {
        let text = datum.to_text();
        Some(match self {
            CastType::Text => Datum::Text(Cow::Owned(text.into_owned())),
            CastType::Int => Datum::Number(match (datum, Number::parse(&text)?) {
                (_, n @ Number::Int(_)) => n,
                (Datum::Number(_), Number::Float(f)) => Number::Int(f as i64),
                _ => return None,
            }),
            CastType::Float => Datum::Number(Number::Float(text.parse().ok()?)),
            CastType::Bool => Datum::Bool(parse_bool(&text)?),
            CastType::Time => Datum::Time(parse_lenient(&text)?),
            CastType::Duration => Datum::Duration(parse_duration(&text)?),
        })
    }

    /// The kind of field this behaves like.
    pub(crate) fn kind(self) -> Kind {
        match self {
            CastType::Text => Kind::Text,
            CastType::Int | CastType::Float => Kind::Int,
            CastType::Bool => Kind::Bool,
            CastType::Time => Kind::Time,
            CastType::Duration => Kind::Duration,
        }
    }
}

impl Source {
    /// The kind of values, for checking literals.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Source::Field(path) => path.kind,
            Source::Cast(_, to) => to.kind(),
            Source::Extract(..) => Kind::Text,
        }
    }

    /// Whether any value of the entry passes. A missing field that has a default is its default; any other missing
    /// field has no value, so that nothing passes.
    pub(crate) fn any(&self, entry: &Value, test: &mut dyn FnMut(&Datum<'_>) -> bool) -> bool {
        match self {
            Source::Field(path) => any_of_field(path, entry, test),
            Source::Cast(inner, to) => {
                inner.any(entry, &mut |datum| to.apply(datum).is_some_and(|d| test(&d)))
            }
            Source::Extract(inner, regex) => inner.any(entry, &mut |datum| {
                let text = datum.to_text();
                let group = regex.captures(&text).and_then(|c| c.get(1));
                group.is_some_and(|found| test(&Datum::Text(Cow::Borrowed(found.as_str()))))
            }),
        }
    }

    /// Whether the field is really there.
    pub(crate) fn present(&self, entry: &Value) -> bool {
        match self {
            Source::Field(path) => visit(entry, &path.keys, &mut |_| true),
            Source::Cast(..) | Source::Extract(..) => self.any(entry, &mut |_| true),
        }
    }
}

fn any_of_field(path: &Path, entry: &Value, test: &mut dyn FnMut(&Datum<'_>) -> bool) -> bool {
    let mut present = false;
    let found = visit(entry, &path.keys, &mut |value| {
        present = true;
        elements(value, &mut |element| read(path.kind, element).is_some_and(|datum| test(&datum)))
    });
    if present || !path.defaulted {
        return found;
    }
    default(path.kind).is_some_and(|datum| test(&datum))
}

/// Calls `test` with every value under `keys`, through lists, until it says yes.
pub(crate) fn visit<'a>(value: &'a Value, keys: &[String], test: &mut dyn FnMut(&'a Value) -> bool) -> bool {
    let Some((key, rest)) = keys.split_first() else { return test(value) };
    match value {
        Value::Object(map) => map.get(key).is_some_and(|inner| visit(inner, rest, test)),
        Value::Array(items) => items.iter().any(|item| visit(item, keys, test)),
        _ => false,
    }
}

/// Calls `test` with every element of a list, or with the value itself.
fn elements<'a>(value: &'a Value, test: &mut dyn FnMut(&'a Value) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| elements(item, test)),
        _ => test(value),
    }
}

/// Reads a value as its field's kind; `None` when it is not of that kind.
fn read(kind: Kind, value: &Value) -> Option<Datum<'_>> {
    let text = || value.as_str();
    Some(match kind {
        Kind::Text | Kind::Labels | Kind::Any | Kind::Message(_) | Kind::Messages(_) => {
            return dynamic(value);
        }
        Kind::Int => Datum::Number(match value {
            // 64-bit integers travel as strings.
            Value::String(digits) => Number::parse(digits)?,
            _ => number(value)?,
        }),
        Kind::Bool => Datum::Bool(value.as_bool()?),
        Kind::Time => Datum::Time(parse_rfc3339(text()?)?),
        Kind::Duration => Datum::Duration(parse_seconds(text()?)?),
        Kind::Severity => Datum::Severity(match value {
            Value::String(name) => Severity::from_name(name)?,
            _ => Severity::from_number(u16::try_from(value.as_u64()?).ok()?),
        }),
    })
}

fn dynamic(value: &Value) -> Option<Datum<'_>> {
    Some(match value {
        Value::String(text) => Datum::Text(Cow::Borrowed(text)),
        Value::Number(_) => Datum::Number(number(value)?),
        Value::Bool(b) => Datum::Bool(*b),
        Value::Null => Datum::Null,
        Value::Object(_) | Value::Array(_) => Datum::Composite(value),
    })
}

fn number(value: &Value) -> Option<Number> {
    value.as_i64().map(Number::Int).or_else(|| value.as_f64().map(Number::Float))
}

/// The value a defined field has when an entry leaves it out.
fn default(kind: Kind) -> Option<Datum<'static>> {
    Some(match kind {
        Kind::Text => Datum::Text(Cow::Borrowed("")),
        Kind::Int => Datum::Number(Number::Int(0)),
        Kind::Bool => Datum::Bool(false),
        Kind::Time => Datum::Time(Timestamp::UNIX_EPOCH),
        Kind::Duration => Datum::Duration(0),
        Kind::Severity => Datum::Severity(Severity::DEFAULT),
        Kind::Message(_) | Kind::Messages(_) | Kind::Labels | Kind::Any => return None,
    })
}

/// Whether a literal can be compared with values of a kind; the error says what is expected.
pub(crate) fn check_literal(kind: Kind, literal: &Literal) -> Result<(), &'static str> {
    let (fits, expected) = match kind {
        Kind::Int => (literal.number.is_some(), "a number"),
        Kind::Bool => (literal.boolean.is_some(), "true or false"),
        Kind::Time => (literal.time.is_some(), "a timestamp such as \"2026-01-01T00:00:00Z\""),
        Kind::Duration => (literal.duration.is_some(), "a duration such as \"0.5s\""),
        Kind::Severity => (literal.severity.is_some(), "a severity"),
        Kind::Text | Kind::Labels | Kind::Any | Kind::Message(_) | Kind::Messages(_) => (true, ""),
    };
    if fits { Ok(()) } else { Err(expected) }
}
