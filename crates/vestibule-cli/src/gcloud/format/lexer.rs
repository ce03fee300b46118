//! Characters of a format or filter expression.

use super::ExpressionError;

/// A cursor over an expression. Errors point at the place with `*HERE*`, as gcloud's do.
pub struct Lexer<'e> {
    text: &'e str,
    at: usize,
}

impl<'e> Lexer<'e> {
    pub fn new(text: &'e str) -> Lexer<'e> {
        Lexer { text, at: 0 }
    }

    pub fn rest(&self) -> &'e str {
        &self.text[self.at..]
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest().is_empty()
    }

    pub fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes `token` if it comes next.
    pub fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Takes `token` or complains.
    pub fn expect(&mut self, token: &str) -> Result<(), ExpressionError> {
        self.skip_blanks();
        if self.take(token) {
            return Ok(());
        }
        Err(match self.rest().is_empty() {
            true => self.error("More tokens expected"),
            false => self.error(&format!("[{token}] expected")),
        })
    }

    /// Takes characters while they fit.
    pub fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'e str {
        let rest = self.rest();
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Moves on by some bytes of what [`Lexer::rest`] gave.
    pub fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// A quoted string, if a quote comes next. A backslash makes the next character plain.
    pub fn quoted(&mut self) -> Result<Option<String>, ExpressionError> {
        let Some(quote @ ('"' | '\'')) = self.peek() else { return Ok(None) };
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                '\\' => {
                    if let Some(next) = self.peek() {
                        self.at += next.len_utf8();
                        // Only the quote and the backslash lose theirs: a regular expression keeps its own.
                        if next != quote && next != '\\' {
                            text.push('\\');
                        }
                        text.push(next);
                    }
                }
                c if c == quote => return Ok(Some(text)),
                c => text.push(c),
            }
        }
        self.at = start;
        Err(self.error("Unterminated string"))
    }

    pub fn error(&self, message: &str) -> ExpressionError {
        let (before, after) = self.text.split_at(self.at);
        let blank = if before.is_empty() || before.ends_with(' ') { "" } else { " " };
        let tail = if after.is_empty() { String::new() } else { format!(" {}", after.trim_start()) };
        ExpressionError(format!("{message} [{before}{blank}*HERE*{tail}]."))
    }
}
