//! The two filter languages of list methods.
//!
//! New clients write AIP-160 (`name = web* AND (labels.env = prod OR NOT labels.env:*)`), older ones compute's own
//! `field eq|ne REGEX`, where the expression must match the whole value. Both parse to the same tree.

use std::cmp::Ordering;

use regex::Regex;
use serde_json::Value;
use vestibule_control::Error;
use vestibule_model::time;

/// How deep parentheses may nest.
const MAX_DEPTH: usize = 32;

/// Longest filter, in bytes.
const MAX_LENGTH: usize = 16 << 10;

/// Most memory of a compiled expression, in bytes: Google's RE2 has a similar bound.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A parsed filter.
#[derive(Debug)]
pub struct Filter(Expression);

#[derive(Debug)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Is { field: Vec<String>, test: Test },
}

#[derive(Debug)]
enum Test {
    Equal(String),
    Order(String, fn(Ordering) -> bool),
    /// `:` – holds, contains, is present.
    Has(String),
    /// `eq` – the whole value matches.
    Matches(Regex),
}

impl Filter {
    /// Parses a filter of either language.
    pub fn parse(text: &str) -> Result<Filter, Error> {
        let refuse =
            |why: &str| Error::invalid("filter", text, format!("Invalid list filter expression. {why}"));
        if text.len() > MAX_LENGTH {
            return Err(refuse("It is too long."));
        }
        let tokens = tokens(text).ok_or_else(|| refuse("A quote is not closed."))?;
        let mut parser = Parser { tokens: &tokens, next: 0 };
        let parsed = parser.all(0).filter(|_| parser.next == tokens.len());
        parsed.map(Filter).ok_or_else(|| refuse("It cannot be parsed."))
    }

    /// Whether a document fits.
    pub fn matches(&self, document: &Value) -> bool {
        self.0.holds(document)
    }
}

impl Expression {
    fn holds(&self, document: &Value) -> bool {
        match self {
            Expression::All(parts) => parts.iter().all(|part| part.holds(document)),
            Expression::Any(parts) => parts.iter().any(|part| part.holds(document)),
            Expression::Not(inner) => !inner.holds(document),
            Expression::Is { field, test } => at(document, field, test),
        }
    }
}

/// Whether any value that a path leads to passes; lists lead to each of their items.
fn at(value: &Value, path: &[String], test: &Test) -> bool {
    match (value, path.split_first()) {
        (Value::Array(items), Some(_)) => items.iter().any(|item| at(item, path, test)),
        (Value::Object(members), Some((first, rest))) => {
            // A label's name may have dots of its own.
            members.get(first).is_some_and(|member| at(member, rest, test))
                || members.get(&path.join(".")).is_some_and(|member| test.passes(member))
        }
        (_, Some(_)) => false,
        (value, None) => test.passes(value),
    }
}

impl Test {
    fn passes(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) => false,
            (Test::Has(wanted), _) if wanted == "*" => true,
            (Test::Has(wanted), Value::Object(members)) => members.contains_key(wanted),
            (_, Value::Array(items)) => items.iter().any(|item| self.passes(item)),
            (Test::Has(wanted), Value::String(text)) => {
                text.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase())
            }
            (Test::Equal(wanted), Value::String(text)) => {
                wildcard(wanted, text) || time::parse(text).is_some_and(|at| Some(at) == time::parse(wanted))
            }
            (Test::Has(wanted) | Test::Equal(wanted), value) => {
                compare(value, wanted) == Some(Ordering::Equal)
            }
            (Test::Order(wanted, fits), value) => compare(value, wanted).is_some_and(fits),
            (Test::Matches(regex), Value::String(text)) => regex.is_match(text),
            (Test::Matches(regex), value) => regex.is_match(&value.to_string()),
        }
    }
}

fn compare(value: &Value, wanted: &str) -> Option<Ordering> {
    match value {
        Value::Bool(value) => (wanted.eq_ignore_ascii_case("true") || wanted.eq_ignore_ascii_case("false"))
            .then(|| value.cmp(&wanted.eq_ignore_ascii_case("true"))),
        Value::Number(value) => value.as_f64()?.partial_cmp(&wanted.parse().ok()?),
        Value::String(text) => {
            let times = time::parse(text).zip(time::parse(wanted));
            let numbers = || text.parse::<i128>().ok().zip(wanted.parse::<i128>().ok());
            Some(match times {
                Some((a, b)) => a.cmp(&b),
                None => match numbers() {
                    Some((a, b)) => a.cmp(&b),
                    None => text.as_str().cmp(wanted),
                },
            })
        }
        _ => None,
    }
}

/// Equality where `*` stands for anything. Linear: the first fit of every piece is as good as any.
fn wildcard(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let Some(last) = pieces.pop() else { return true };
    for piece in pieces {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A bare word, an operator or a parenthesis.
    Word(String),
    Quoted(String),
}

const OPERATORS: [&str; 7] = ["!=", "<=", ">=", "=", "<", ">", ":"];

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            let (content, after) = quoted(&rest[1..], first)?;
            out.push(Token::Quoted(content));
            rest = after;
        } else if let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
            out.push(Token::Word((*operator).to_owned()));
            rest = &rest[operator.len()..];
        } else if first == '(' || first == ')' {
            out.push(Token::Word(first.to_string()));
            rest = &rest[1..];
        } else {
            let value = after_value_operator(&out);
            let end = rest.find(|c: char| ends_word(c, value)).unwrap_or(rest.len());
            out.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Some(out)
}

/// Whether the next word is a value, which may hold what would be an operator after a field's name: links do.
fn after_value_operator(tokens: &[Token]) -> bool {
    let is = |word: &String| OPERATORS.contains(&word.as_str()) || word == "eq" || word == "ne";
    matches!(tokens.last(), Some(Token::Word(word)) if is(word))
}

fn ends_word(c: char, value: bool) -> bool {
    c.is_whitespace() || c == '(' || c == ')' || !value && matches!(c, '=' | '!' | '<' | '>' | ':' | '"')
}

/// The text up to the closing quote, and what follows it. A backslash takes the next character as it is.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                // An escape of a regular expression, not of the quotes.
                next if next != quote && next != '\\' => content.extend(['\\', next]),
                next => content.push(next),
            },
            c if c == quote => return Some((content, &text[at + c.len_utf8()..])),
            c => content.push(c),
        }
    }
    None
}

struct Parser<'t> {
    tokens: &'t [Token],
    next: usize,
}

impl Parser<'_> {
    /// Factors joined by `AND` or by nothing.
    fn all(&mut self, depth: usize) -> Option<Expression> {
        let mut parts = vec![self.any(depth)?];
        while self.next < self.tokens.len() && !self.is(")") {
            let _ = self.take("AND");
            parts.push(self.any(depth)?);
        }
        Some(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    /// Terms joined by `OR`, which binds tighter than `AND` in AIP-160.
    fn any(&mut self, depth: usize) -> Option<Expression> {
        let mut parts = vec![self.term(depth)?];
        while self.take("OR") {
            parts.push(self.term(depth)?);
        }
        Some(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn term(&mut self, depth: usize) -> Option<Expression> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take("NOT") || self.take("-") {
            return Some(Expression::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.all(depth + 1)?;
            return self.take(")").then_some(inner);
        }
        self.restriction()
    }

    fn restriction(&mut self) -> Option<Expression> {
        let Token::Word(field) = self.tokens.get(self.next)? else { return None };
        let (negated, field) = match field.strip_prefix('-') {
            Some(field) => (true, field),
            None => (false, field.as_str()),
        };
        if field.is_empty() || OPERATORS.contains(&field) || field == ")" {
            return None;
        }
        let Token::Word(operator) = self.tokens.get(self.next + 1)? else { return None };
        let value = match self.tokens.get(self.next + 2)? {
            Token::Quoted(value) => value,
            Token::Word(value) if value != "(" && value != ")" => value,
            Token::Word(_) => return None,
        };
        self.next += 3;
        let (unlike, test) = test(operator, value)?;
        let is = Expression::Is { field: field.split('.').map(str::to_owned).collect(), test };
        Some(if unlike != negated { Expression::Not(Box::new(is)) } else { is })
    }

    fn is(&self, word: &str) -> bool {
        matches!(self.tokens.get(self.next), Some(Token::Word(next)) if next == word)
    }

    fn take(&mut self, word: &str) -> bool {
        let taken = self.is(word);
        self.next += usize::from(taken);
        taken
    }
}

/// Whether an operator negates its test, and the test.
fn test(operator: &str, value: &str) -> Option<(bool, Test)> {
    let whole = |value: &str| {
        let expression = format!("^(?:{value})$");
        regex::RegexBuilder::new(&expression).size_limit(MAX_REGEX_BYTES).build().ok().map(Test::Matches)
    };
    let value_owned = value.to_owned();
    Some(match operator {
        "=" => (false, Test::Equal(value_owned)),
        "!=" => (true, Test::Equal(value_owned)),
        "<" => (false, Test::Order(value_owned, Ordering::is_lt)),
        "<=" => (false, Test::Order(value_owned, Ordering::is_le)),
        ">" => (false, Test::Order(value_owned, Ordering::is_gt)),
        ">=" => (false, Test::Order(value_owned, Ordering::is_ge)),
        ":" => (false, Test::Has(value_owned)),
        "eq" => (false, whole(value)?),
        "ne" => (true, whole(value)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(filter: &str) -> bool {
        let document = json!({
            "name": "web-map", "region": "https://www.googleapis.com/compute/v1/projects/p/regions/us-central1",
            "timeoutSec": 30, "id": "4641442729111459716", "enabled": true, "gone": null,
            "labels": {"env": "prod", "a.b": "c"}, "backends": [{"group": "g1"}, {"group": "g2"}],
            "creationTimestamp": "2026-01-01T00:00:00.000-07:00"
        });
        Filter::parse(filter).unwrap_or_else(|error| panic!("{error}")).matches(&document)
    }

    #[test]
    fn aip_160() {
        for filter in [
            "name = web-map",
            "name=web-map",
            "name = \"web-map\"",
            "name = web*",
            "name = *map",
            "name = w*b*p",
            "name != other",
            "missing != other",
            "name:WEB",
            "labels.env = prod",
            "labels.env:*",
            "labels:env",
            "labels.a.b = c",
            "timeoutSec > 29 AND timeoutSec <= 30",
            "timeoutSec >= 30 timeoutSec < 31",
            "id = 4641442729111459716",
            "enabled = true",
            "NOT enabled = false",
            "-enabled = false",
            "backends.group = g2",
            "creationTimestamp < 2026-01-01T07:00:01Z",
            "creationTimestamp = 2026-01-01T07:00:00Z OR name = x",
            "(name = x OR name = web-map) AND labels.env = prod",
            "name = x OR name = web-map AND enabled = true",
            "region = https://www.googleapis.com/compute/v1/projects/p/regions/us-central1",
            "region:us-central1",
        ] {
            assert!(matches(filter), "{filter}");
        }
        for filter in [
            "name = web",
            "missing = x",
            "labels.team:*",
            "timeoutSec > 30",
            "enabled = false",
            "gone:*",
            "name = x AND name = web-map",
            "NOT (name = web-map)",
            "backends.group = g3",
        ] {
            assert!(!matches(filter), "{filter}");
        }
    }

    #[test]
    fn compute_s_older_language() {
        for filter in [
            "name eq web.*",
            "name eq 'web-map'",
            "name eq \"web-(map|x)\"",
            "name ne web",
            "(name eq web-map) (timeoutSec eq 30)",
            r#"region eq ".*/regions/us-central\d""#,
        ] {
            assert!(matches(filter), "{filter}");
        }
        for filter in ["name eq web", "name ne web.*", "missing eq .*"] {
            assert!(!matches(filter), "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let deep = format!("{}name = x{}", "(".repeat(100), ")".repeat(100));
        let long = format!("name = {}", "x".repeat(MAX_LENGTH));
        for filter in [
            "",
            "name",
            "name =",
            "= x",
            "(name = x",
            "name = x)",
            "name = \"x",
            "name eq (",
            "name eq \"(\"",
            "name ~ x",
            "AND",
            &deep,
            &long,
        ] {
            assert!(Filter::parse(filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn wildcards_in_linear_time() {
        assert!(wildcard("*", "") && wildcard("a*", "a") && wildcard("*a*", "bab") && !wildcard("a*a", "a"));
        let text = "a".repeat(50_000);
        assert!(!wildcard(&format!("{}b", "a*".repeat(1000)), &text));
    }
}
