//! Keys: `a.b[0].c`, and what they find.

use serde_json::{Map, Value};

use super::ExpressionError;
use super::lexer::Lexer;

/// One step of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Name(String),
    Index(i64),
    /// `[]`: every element.
    Every,
}

/// The way to a value inside a resource. Empty means the resource itself.
pub type Key = Vec<Step>;

/// Reads a key. A name that is followed by `(` is a transform and is left for the caller.
pub fn parse_key(lexer: &mut Lexer<'_>) -> Result<(Key, Option<String>), ExpressionError> {
    let mut key = Key::new();
    loop {
        lexer.skip_blanks();
        if lexer.take("[") {
            key.push(subscript(lexer)?);
        } else {
            let name = match lexer.quoted()? {
                Some(quoted) => quoted,
                None => lexer.take_while(is_name).to_owned(),
            };
            if lexer.peek() == Some('(') && !name.is_empty() {
                return Ok((key, Some(name)));
            }
            if !name.is_empty() {
                key.push(Step::Name(name));
            }
        }
        if lexer.peek() == Some('[') {
            continue;
        }
        if !lexer.take(".") {
            return Ok((key, None));
        }
    }
}

fn subscript(lexer: &mut Lexer<'_>) -> Result<Step, ExpressionError> {
    lexer.skip_blanks();
    let text = match lexer.quoted()? {
        Some(quoted) => quoted,
        None => lexer.take_while(|c| c != ']').trim().to_owned(),
    };
    lexer.expect("]")?;
    Ok(match text.parse() {
        _ if text.is_empty() => Step::Every,
        Ok(index) => Step::Index(index),
        Err(_) => Step::Name(text),
    })
}

/// Characters of an unquoted name.
pub fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '@' | '/' | '{' | '}')
}

/// The value at `key`. A name under a list is looked up in every element.
pub fn lookup(value: &Value, key: &[Step]) -> Option<Value> {
    let Some((step, rest)) = key.split_first() else { return Some(value.clone()) };
    match (step, value) {
        (Step::Name(name), Value::Object(map)) => lookup(map.get(name)?, rest),
        (Step::Name(_), Value::Array(items)) => every(items, key),
        (Step::Every, Value::Array(items)) => every(items, rest),
        (Step::Index(index), Value::Array(items)) => {
            let position = if *index < 0 { items.len() as i64 + index } else { *index };
            lookup(items.get(usize::try_from(position).ok()?)?, rest)
        }
        _ => None,
    }
}

fn every(items: &[Value], rest: &[Step]) -> Option<Value> {
    let found: Vec<Value> = items.iter().filter_map(|item| lookup(item, rest)).collect();
    (!found.is_empty()).then_some(Value::Array(found))
}

/// Writes `value` at `key` of a fresh structure that holds nothing else.
pub fn place(into: &mut Value, key: &[Step], value: Value) {
    let Some((step, rest)) = key.split_first() else {
        merge(into, value);
        return;
    };
    match step {
        Step::Name(name) => {
            if !into.is_object() {
                *into = Value::Object(Map::new());
            }
            if let Value::Object(map) = into {
                place(map.entry(name.clone()).or_insert(Value::Null), rest, value);
            }
        }
        Step::Index(_) => {
            if !into.is_array() {
                *into = Value::Array(Vec::new());
            }
            if let Value::Array(items) = into {
                let mut item = Value::Null;
                place(&mut item, rest, value);
                items.push(item);
            }
        }
        Step::Every => {
            let values = if let Value::Array(values) = value { values } else { vec![value] };
            if !into.is_array() {
                *into = Value::Array(Vec::new());
            }
            if let Value::Array(items) = into {
                for (index, value) in values.into_iter().enumerate() {
                    if items.len() <= index {
                        items.push(Value::Null);
                    }
                    place(&mut items[index], rest, value);
                }
            }
        }
    }
}

fn merge(into: &mut Value, value: Value) {
    match (into, value) {
        (Value::Object(old), Value::Object(new)) => old.extend(new),
        (into, value) => *into = value,
    }
}

/// The heading a column gets from its key: the last name, in capitals with underscores.
pub fn heading(key: &[Step]) -> String {
    let last = key.iter().rev().find_map(|step| match step {
        Step::Name(name) => Some(name.as_str()),
        _ => None,
    });
    let chars: Vec<char> = last.unwrap_or_default().chars().collect();
    let mut out = String::new();
    for (index, &c) in chars.iter().enumerate() {
        if index > 0 && c.is_uppercase() && begins_word(&chars, index) {
            out.push('_');
        }
        out.extend(if c == '-' { '_'.to_uppercase() } else { c.to_uppercase() });
    }
    out
}

/// Whether the capital at `index` begins a word: behind a small letter or digit, or as the last capital of a run of
/// three or more (`IPAddress`, but not `IPv4`).
fn begins_word(chars: &[char], index: usize) -> bool {
    let before = chars[index - 1];
    let ends_acronym = index >= 2 && before.is_uppercase() && chars[index - 2].is_uppercase();
    let small_follows = chars.get(index + 1).is_some_and(|next| next.is_lowercase());
    before.is_lowercase() || before.is_ascii_digit() || (ends_acronym && small_follows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(text: &str) -> Key {
        parse_key(&mut Lexer::new(text)).unwrap().0
    }

    #[test]
    fn finds() {
        let value = json!({"a": [{"b": 1}, {"b": 2}, {}], "c": {"x.y/z": true}, "d": []});
        assert_eq!(lookup(&value, &key("a.b")), Some(json!([1, 2])));
        assert_eq!(lookup(&value, &key("a[].b")), Some(json!([1, 2])));
        assert_eq!(lookup(&value, &key("a[1].b")), Some(json!(2)));
        assert_eq!(lookup(&value, &key("a[-3].b")), Some(json!(1)));
        assert_eq!(lookup(&value, &key("c.'x.y/z'")), Some(json!(true)));
        assert_eq!(lookup(&value, &key("c[x.y/z]")), Some(json!(true)));
        assert_eq!(lookup(&value, &key("d.e")), None);
        assert_eq!(lookup(&value, &key("a[9]")), None);
    }

    #[test]
    fn headings() {
        assert_eq!(heading(&key("privateVisibilityConfig.networks[0].networkUrl")), "NETWORK_URL");
        assert_eq!(heading(&key("gatewayIPv4")), "GATEWAY_IPV4");
        assert_eq!(heading(&key("internalIpv6Range")), "INTERNAL_IPV6_RANGE");
        assert_eq!(heading(&key("IPAddress")), "IP_ADDRESS");
        assert_eq!(heading(&key("IPProtocol")), "IP_PROTOCOL");
    }
}
