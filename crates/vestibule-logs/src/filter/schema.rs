//! The fields of `google.logging.v2.LogEntry`.
//!
//! A filter that names a field which cannot exist is an error, not a filter that never matches, so the compiler must
//! know the fields. This is the table of the discovery document's schema `LogEntry` and what it refers to.

use super::lexer::{Part, Term};

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Int,
    Bool,
    Time,
    Duration,
    Severity,
    /// A message with these fields.
    Message(&'static [Field]),
    /// A list of messages with these fields.
    Messages(&'static [Field]),
    /// A map from text to text.
    Labels,
    /// Any JSON.
    Any,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

use Kind::{Any, Bool, Duration, Int, Labels, Message, Messages, Severity, Text, Time};

pub(crate) const LOG_ENTRY: &[Field] = &[
    field("apphub", Message(APP_HUB)),
    field("apphubDestination", Message(APP_HUB)),
    field("apphubSource", Message(APP_HUB)),
    field("errorGroups", Messages(&[field("id", Text)])),
    field("httpRequest", Message(HTTP_REQUEST)),
    field("insertId", Text),
    field("jsonPayload", Any),
    field("labels", Labels),
    field("logName", Text),
    field("metadata", Message(&[field("systemLabels", Any), field("userLabels", Labels)])),
    field(
        "operation",
        Message(&[field("first", Bool), field("id", Text), field("last", Bool), field("producer", Text)]),
    ),
    field("otel", Any),
    field("protoPayload", Any),
    field("receiveTimestamp", Time),
    field("resource", Message(&[field("labels", Labels), field("type", Text)])),
    field("severity", Severity),
    field("sourceLocation", Message(&[field("file", Text), field("function", Text), field("line", Int)])),
    field("spanId", Text),
    field("split", Message(&[field("index", Int), field("totalSplits", Int), field("uid", Text)])),
    field("textPayload", Text),
    field("timestamp", Time),
    field("trace", Text),
    field("traceSampled", Bool),
];

pub(crate) const HTTP_REQUEST: &[Field] = &[
    field("cacheFillBytes", Int),
    field("cacheHit", Bool),
    field("cacheLookup", Bool),
    field("cacheValidatedWithOriginServer", Bool),
    field("latency", Duration),
    field("protocol", Text),
    field("referer", Text),
    field("remoteIp", Text),
    field("requestMethod", Text),
    field("requestSize", Int),
    field("requestUrl", Text),
    field("responseSize", Int),
    field("serverIp", Text),
    field("status", Int),
    field("userAgent", Text),
];

const APP_HUB: &[Field] = &[
    field("application", Message(&[field("container", Text), field("id", Text), field("location", Text)])),
    field("service", Message(APP_HUB_PART)),
    field("workload", Message(APP_HUB_PART)),
];

const APP_HUB_PART: &[Field] =
    &[field("criticalityType", Text), field("environmentType", Text), field("id", Text)];

/// A field path that was found in the schema.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    /// The JSON keys from the entry down.
    pub(crate) keys: Vec<String>,
    pub(crate) kind: Kind,
    /// Whether an entry without the field counts as having its default value.
    pub(crate) defaulted: bool,
}

/// Looks a path up. The error names the part that is unknown.
pub(crate) fn resolve(term: &Term) -> Result<Path, String> {
    let mut fields = LOG_ENTRY;
    let mut path = Path { keys: Vec::new(), kind: Any, defaulted: true };
    let mut parts = term.parts.iter();
    while let Some(part) = parts.next() {
        if part.text.is_empty() && !part.quoted {
            return Err(format!("empty part in field '{}'", term.raw));
        }
        let found = lookup(fields, &part.text).ok_or_else(|| format!("unknown field '{}'", term.raw))?;
        path.keys.push(found.name.to_owned());
        path.kind = found.kind;
        match found.kind {
            Message(inner) => fields = inner,
            Messages(inner) => {
                fields = inner;
                path.defaulted = false;
            }
            Labels => return below_map(path, parts.as_slice(), Text, term),
            Any => return below_map(path, parts.as_slice(), Any, term),
            _ if parts.len() > 0 => return Err(format!("field '{}' has no fields of its own", found.name)),
            _ => {}
        }
    }
    Ok(path)
}

/// The rest of a path inside a map: its keys are data, case counts, and what is missing has no default.
fn below_map(mut path: Path, rest: &[Part], kind: Kind, term: &Term) -> Result<Path, String> {
    path.defaulted = false;
    if rest.is_empty() {
        return Ok(path);
    }
    if rest.iter().any(|part| part.text.is_empty() && !part.quoted) {
        return Err(format!("empty part in field '{}'", term.raw));
    }
    path.keys.extend(rest.iter().map(|part| part.text.clone()));
    path.kind = kind;
    Ok(path)
}

/// Finds a field by its JSON name or by its name in the proto file (`log_name`).
fn lookup(fields: &'static [Field], name: &str) -> Option<&'static Field> {
    fields.iter().find(|field| field.name == name || is_snake_of(name, field.name))
}

fn is_snake_of(snake: &str, camel: &str) -> bool {
    if !snake.contains('_') {
        return false;
    }
    let mut expected = String::with_capacity(snake.len());
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            expected.push('_');
        }
        expected.push(c.to_ascii_lowercase());
    }
    expected == snake
}
