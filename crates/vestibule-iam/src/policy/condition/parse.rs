//! Reads the supported part of CEL by recursive descent.

use jiff::Timestamp;

/// Deepest nesting of parentheses and negations; deeper is refused rather than recursed into.
const MAX_DEPTH: usize = 32;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Constant(bool),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Compare(Literal, Comparison, Literal),
    Function(Attribute, StringFunction, String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Time(Timestamp),
    Attribute(Attribute),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Attribute {
    RequestTime,
    ResourceName,
    ResourceType,
    ResourceService,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum StringFunction {
    StartsWith,
    EndsWith,
    Contains,
}

/// Reads a whole expression, or tells what in it is beyond us.
pub(super) fn parse(source: &str) -> Result<Expression, String> {
    let mut parser = Parser { rest: source, depth: 0 };
    let expression = parser.any()?;
    parser.skip_space();
    match parser.rest {
        "" => Ok(expression),
        rest => Err(format!("unexpected {:?}", head(rest))),
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// `a || b || …`
    fn any(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.all()?];
        while self.take("||") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Or(parts) })
    }

    /// `a && b && …`
    fn all(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.term()?];
        while self.take("&&") {
            parts.push(self.term()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::And(parts) })
    }

    fn term(&mut self) -> Result<Expression, String> {
        self.skip_space();
        if self.rest.starts_with('!') && !self.rest.starts_with("!=") {
            self.rest = &self.rest[1..];
            return self.nested(|parser| Ok(Expression::Not(Box::new(parser.term()?))));
        }
        if self.take("(") {
            let inner = self.nested(Parser::any)?;
            return if self.take(")") { Ok(inner) } else { Err("a parenthesis is not closed".to_owned()) };
        }
        self.comparison()
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth == MAX_DEPTH {
            return Err("it nests too deeply".to_owned());
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let left = self.operand()?;
        let left = match left {
            Operand::Decided(expression) => return Ok(expression),
            Operand::Value(value) => value,
        };
        self.skip_space();
        const COMPARISONS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (text, comparison) in COMPARISONS {
            if self.take(text) {
                return match self.operand()? {
                    Operand::Value(right) => Ok(Expression::Compare(left, comparison, right)),
                    Operand::Decided(_) => Err("a truth value is compared".to_owned()),
                };
            }
        }
        Err(format!("a comparison is missing before {:?}", head(self.rest)))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.skip_space();
        if self.rest.starts_with(['"', '\'']) {
            return Ok(Operand::Value(Literal::Text(self.string()?)));
        }
        let name = self.name();
        match name {
            "true" => Ok(Operand::Decided(Expression::Constant(true))),
            "false" => Ok(Operand::Decided(Expression::Constant(false))),
            "timestamp" => {
                let text = self.argument(name)?;
                let time = text.parse().map_err(|_| format!("{text:?} is no timestamp"))?;
                Ok(Operand::Value(Literal::Time(time)))
            }
            _ => self.attribute(name),
        }
    }

    fn attribute(&mut self, path: &str) -> Result<Operand, String> {
        const ATTRIBUTES: [(&str, Attribute); 4] = [
            ("request.time", Attribute::RequestTime),
            ("resource.name", Attribute::ResourceName),
            ("resource.type", Attribute::ResourceType),
            ("resource.service", Attribute::ResourceService),
        ];
        for (name, attribute) in ATTRIBUTES {
            if path == name {
                return Ok(Operand::Value(Literal::Attribute(attribute)));
            }
            let function = match path.strip_prefix(name) {
                Some(".startsWith") => StringFunction::StartsWith,
                Some(".endsWith") => StringFunction::EndsWith,
                Some(".contains") => StringFunction::Contains,
                _ => continue,
            };
            let argument = self.argument(path)?;
            return Ok(Operand::Decided(Expression::Function(attribute, function, argument)));
        }
        Err(match path {
            "" => format!("unexpected {:?}", head(self.rest)),
            path => format!("{path:?} is not supported"),
        })
    }

    /// `("text")`
    fn argument(&mut self, of: &str) -> Result<String, String> {
        if !self.take("(") {
            return Err(format!("{of} has no argument"));
        }
        self.skip_space();
        let text = self.string()?;
        if self.take(")") { Ok(text) } else { Err(format!("the argument of {of} is not one string")) }
    }

    /// A quoted string; the escapes of a quote and a backslash are understood.
    fn string(&mut self) -> Result<String, String> {
        let mut chars = self.rest.char_indices();
        let quote = match chars.next() {
            Some((_, quote @ ('"' | '\''))) => quote,
            _ => return Err(format!("a string is missing before {:?}", head(self.rest))),
        };
        let mut text = String::new();
        while let Some((at, char)) = chars.next() {
            match char {
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\'' | '\\'))) => text.push(escaped),
                    _ => return Err("an escape in a string is not supported".to_owned()),
                },
                char if char == quote => {
                    self.rest = &self.rest[at + char.len_utf8()..];
                    return Ok(text);
                }
                char => text.push(char),
            }
        }
        Err("a string is not closed".to_owned())
    }

    /// A name with dots.
    fn name(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|char: char| !char.is_ascii_alphanumeric() && char != '_' && char != '.')
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

enum Operand {
    Value(Literal),
    Decided(Expression),
}

/// The first characters of a text, for an error.
fn head(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!("{}true{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(parse(&deep).unwrap_err().contains("deeply"));
        assert!(parse(&"!".repeat(100_000)).unwrap_err().contains("deeply"));
        assert!(parse(&format!("{}true{}", "(".repeat(20), ")".repeat(20))).is_ok());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(source in r#"[a-z.()!&|<>="' \\é]{0,60}"#) {
            let _ = parse(&source);
        }
    }
}
