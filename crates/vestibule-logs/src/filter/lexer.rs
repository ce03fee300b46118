//! From text to tokens.

use super::Fault;

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `:`, has.
    Has,
    /// `=~`
    Match,
    /// `!~`
    NotMatch,
}

/// One dot-separated part of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) quoted: bool,
}

/// A field path, a value, a keyword or a function's name: only the parser can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) parts: Vec<Part>,
    /// The text as it stands in the filter.
    pub(crate) raw: String,
}

impl Term {
    /// The text, when no part is quoted.
    pub(crate) fn bare(&self) -> Option<&str> {
        self.parts.iter().all(|p| !p.quoted).then_some(self.raw.as_str())
    }

    /// The text, when the whole term is one quoted string.
    pub(crate) fn quoted(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part { text, quoted: true }] => Some(text),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Open,
    Close,
    Comma,
    /// `-` directly before a term.
    Minus,
    Op(Op),
    Term(Term),
}

/// A token and the bytes it spans.
#[derive(Debug, Clone)]
pub(crate) struct Spanned {
    pub(crate) token: Token,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

pub(crate) fn tokens(text: &str) -> Result<Vec<Spanned>, Fault> {
    let mut lexer = Lexer { text, at: 0 };
    let mut found: Vec<Spanned> = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let Some(first) = lexer.peek() else { return Ok(found) };
        let value_follows = matches!(found.last(), Some(Spanned { token: Token::Op(_), .. }));
        let token = lexer.token(first, value_follows)?;
        found.push(Spanned { token, start, end: lexer.at });
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            if blank > 0 {
                self.at += blank;
            } else if rest.starts_with("--") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else {
                return;
            }
        }
    }

    fn token(&mut self, first: char, value_follows: bool) -> Result<Token, Fault> {
        let simple = match first {
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            ',' => Some(Token::Comma),
            '-' if !value_follows => Some(Token::Minus),
            _ => None,
        };
        if let Some(token) = simple {
            self.at += 1;
            return Ok(token);
        }
        match self.operator() {
            Some(op) => Ok(Token::Op(op)),
            None => self.term().map(Token::Term),
        }
    }

    fn operator(&mut self) -> Option<Op> {
        const OPERATORS: [(&str, Op); 9] = [
            ("=~", Op::Match),
            ("!~", Op::NotMatch),
            ("!=", Op::Ne),
            (">=", Op::Ge),
            ("<=", Op::Le),
            ("=", Op::Eq),
            (">", Op::Gt),
            ("<", Op::Lt),
            (":", Op::Has),
        ];
        let (text, op) = OPERATORS.iter().find(|(text, _)| self.rest().starts_with(text))?;
        self.at += text.len();
        Some(*op)
    }

    fn term(&mut self) -> Result<Term, Fault> {
        let start = self.at;
        let mut parts = Vec::new();
        loop {
            let part = match self.peek() {
                Some(quote @ ('"' | '\'')) => Part { text: self.quoted(quote)?, quoted: true },
                _ => Part { text: self.word().to_owned(), quoted: false },
            };
            parts.push(part);
            if self.peek() != Some('.') {
                break;
            }
            self.at += 1;
        }
        if self.at == start {
            return Err(self.unexpected());
        }
        if self.peek().is_some_and(|c| is_word(c) || matches!(c, '"' | '\'')) {
            return Err(self.unexpected());
        }
        Ok(Term { parts, raw: self.text[start..self.at].to_owned() })
    }

    /// Unquoted text up to the next dot or anything that cannot be unquoted.
    fn word(&mut self) -> &str {
        let start = self.at;
        let rest = &self.text[start..];
        self.at += rest.find(|c: char| c == '.' || !is_word(c)).unwrap_or(rest.len());
        &self.text[start..self.at]
    }

    fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else { return Err(Fault::new(start, "unterminated string")) };
            self.at += c.len_utf8();
            match c {
                _ if c == quote => return Ok(text),
                '\\' => self.escape(&mut text)?,
                _ => text.push(c),
            }
        }
    }

    /// What follows a backslash. A sequence that is no escape stands for itself, backslash included, so that regular
    /// expressions can be written as in `=~"\d+"`.
    fn escape(&mut self, text: &mut String) -> Result<(), Fault> {
        let Some(c) = self.peek() else { return Ok(()) };
        self.at += c.len_utf8();
        match c {
            '"' | '\'' | '\\' => text.push(c),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'u' => text.push(self.code_point()?),
            _ => text.extend(['\\', c]),
        }
        Ok(())
    }

    fn code_point(&mut self) -> Result<char, Fault> {
        let at = self.at;
        let wrong = || Fault::new(at, "invalid \\u escape");
        let high = self.hex4().ok_or_else(wrong)?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high).ok_or_else(wrong);
        }
        if !self.rest().starts_with("\\u") {
            return Err(wrong());
        }
        self.at += 2;
        let low = self.hex4().filter(|low| (0xdc00..0xe000).contains(low)).ok_or_else(wrong)?;
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or_else(wrong)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        self.at += 4;
        Some(number)
    }

    fn unexpected(&self) -> Fault {
        match self.peek() {
            Some(c) => Fault::new(self.at, format!("syntax error: unexpected '{}'", c.escape_debug())),
            None => Fault::new(self.at, "syntax error: unexpected end"),
        }
    }
}

/// Whether a character may stand in unquoted text.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || (c.is_ascii_graphic() && !"\"'(),=!<>:~\\`{}[];|^?.".contains(c))
}
