//! From tokens to tests, by recursive descent.
//!
//! ```text
//! all     := any { ["AND"] any }
//! any     := not { "OR" not }
//! not     := { "NOT" | "-" } single
//! single  := "(" all ")" | function | [source op] value | source op "(" values ")"
//! ```
//!
//! The same three levels read the values of a list, where `single` is a value. Parentheses are the only way to nest, and
//! how deep they may is limited, so that no filter overflows the stack, here or when it is run.

use super::Fault;
use super::datum::{CastType, Source, check_literal};
use super::lexer::{Op, Spanned, Term, Token, tokens};
use super::literal::Literal;
use super::node::Node;
use super::predicate::{Network, Predicate};
use super::schema::{Kind, resolve};
use super::search::TokenSearch;
use regex::{Regex, RegexBuilder};

/// How deep parentheses and function calls may nest.
const MAX_NESTING: usize = 100;

/// How much memory one compiled regular expression may take, in bytes. Text to search for is exempt: it cannot be
/// longer than a filter.
const MAX_REGEX_BYTES: usize = 2 << 20;

/// How much memory the expression of a plain text may take, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 20;

pub(crate) fn parse(text: &str) -> Result<Node, Fault> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(Node::default());
    }
    let mut parser = Parser { tokens, at: 0, nesting: 0, in_list: false, length: text.len() };
    let node = parser.all(&mut Parser::single)?;
    match parser.tokens.get(parser.at) {
        None => Ok(node),
        Some(_) => Err(parser.unexpected()),
    }
}

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    nesting: usize,
    /// Whether the values of a list are being read: `-5` is a number there, and elsewhere the negation of `5`.
    in_list: bool,
    length: usize,
}

/// How a `single` is read: a test, or a value of a list.
type Single<'a> = &'a mut dyn FnMut(&mut Parser) -> Result<Node, Fault>;

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|spanned| &spanned.token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(self.length, |spanned| spanned.start)
    }

    fn unexpected(&self) -> Fault {
        let what = match self.tokens.get(self.at) {
            None => "unexpected end".to_owned(),
            Some(spanned) => match &spanned.token {
                Token::Open => "unexpected '('".to_owned(),
                Token::Close => "unexpected ')'".to_owned(),
                Token::Comma => "unexpected ','".to_owned(),
                Token::Minus => "unexpected '-'".to_owned(),
                Token::Op(_) => "unexpected operator".to_owned(),
                Token::Term(term) => format!("unexpected '{}'", term.raw),
            },
        };
        Fault::new(self.position(), format!("syntax error: {what}"))
    }

    fn keyword(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Term(term)) if term.bare() == Some(word))
    }

    fn take(&mut self, token: &Token) -> bool {
        let taken = self.peek() == Some(token);
        self.at += usize::from(taken);
        taken
    }

    fn expect(&mut self, token: &Token) -> Result<(), Fault> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Parser) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.nesting == MAX_NESTING {
            return Err(Fault::new(self.position(), format!("nested deeper than {MAX_NESTING} levels")));
        }
        self.nesting += 1;
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    fn all(&mut self, single: Single<'_>) -> Result<Node, Fault> {
        let mut nodes = vec![self.any(single)?];
        while !matches!(self.peek(), None | Some(Token::Close | Token::Comma)) {
            if self.keyword("AND") {
                self.at += 1;
            }
            nodes.push(self.any(single)?);
        }
        Ok(Node::all(nodes))
    }

    fn any(&mut self, single: Single<'_>) -> Result<Node, Fault> {
        let mut nodes = vec![self.not(single)?];
        while self.keyword("OR") {
            self.at += 1;
            nodes.push(self.not(single)?);
        }
        Ok(Node::any(nodes))
    }

    fn not(&mut self, single: Single<'_>) -> Result<Node, Fault> {
        let mut negated = false;
        while self.keyword("NOT") || self.minus() {
            self.at += 1;
            negated = !negated;
        }
        let node = single(self)?;
        Ok(if negated { Node::Not(Box::new(node)) } else { node })
    }

    /// Whether a minus stands directly before a term.
    fn minus(&self) -> bool {
        let [minus, next, ..] = &self.tokens[self.at..] else { return false };
        minus.token == Token::Minus && minus.end == next.start && !self.negative_number()
    }

    /// Whether a negative number of a list is at hand.
    fn negative_number(&self) -> bool {
        let [minus, next, ..] = &self.tokens[self.at..] else { return false };
        let number =
            matches!(&next.token, Token::Term(term) if term.raw.starts_with(|c: char| c.is_ascii_digit()));
        self.in_list && number && minus.token == Token::Minus && minus.end == next.start
    }

    fn single(&mut self) -> Result<Node, Fault> {
        if self.take(&Token::Open) {
            let node = self.deeper(|parser| parser.all(&mut Parser::single))?;
            self.expect(&Token::Close)?;
            return Ok(node);
        }
        let start = self.position();
        let term = self.term()?;
        if self.calls() {
            return self.call_test(&term, start);
        }
        match self.peek() {
            Some(Token::Op(op)) => {
                let op = *op;
                let source = Source::Field(resolve(&term).map_err(|why| Fault::new(start, why))?);
                self.comparison(source, op)
            }
            _ => self.anywhere(&term, start),
        }
    }

    /// The next term; keywords are none.
    fn term(&mut self) -> Result<Term, Fault> {
        if ["AND", "OR", "NOT"].iter().any(|word| self.keyword(word)) {
            return Err(self.unexpected());
        }
        match self.peek() {
            Some(Token::Term(term)) => {
                let term = term.clone();
                self.at += 1;
                Ok(term)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Whether the term before is a function's name: a parenthesis follows without a gap.
    fn calls(&self) -> bool {
        let before = &self.tokens[self.at - 1];
        let bare = matches!(&before.token, Token::Term(term) if term.bare().is_some());
        let touches = |next: &Spanned| next.token == Token::Open && next.start == before.end;
        bare && self.tokens.get(self.at).is_some_and(touches)
    }

    fn anywhere(&mut self, term: &Term, start: usize) -> Result<Node, Fault> {
        let literal = literal(term, start)?;
        let regex = text_regex(&literal.text, start)?;
        Ok(Node::Test(Predicate::Anywhere(regex, literal)))
    }

    /// After a source: the operator at hand and its value or values.
    fn comparison(&mut self, source: Source, op: Op) -> Result<Node, Fault> {
        self.at += 1;
        if self.peek() == Some(&Token::Open) {
            self.in_list = true;
            let list = self.listed(&source, op);
            self.in_list = false;
            return list;
        }
        let start = self.position();
        let term = self.term()?;
        if self.calls() {
            return Err(Fault::new(start, format!("'{}' cannot be a value", term.raw)));
        }
        compare(source, op, &term, start)
    }

    /// One value of a list, or a list inside of it.
    fn listed(&mut self, source: &Source, op: Op) -> Result<Node, Fault> {
        if self.take(&Token::Open) {
            let node = self.deeper(|parser| parser.all(&mut |parser| parser.listed(source, op)))?;
            self.expect(&Token::Close)?;
            return Ok(node);
        }
        let start = self.position();
        let negative = self.negative_number();
        self.at += usize::from(negative);
        let mut term = self.term()?;
        if negative {
            term.raw.insert(0, '-');
        }
        compare(source.clone(), op, &term, start)
    }

    /// A function where a test is expected: either it is one, or a comparison with its value follows.
    fn call_test(&mut self, name: &Term, start: usize) -> Result<Node, Fault> {
        self.deeper(|parser| {
            if let Some(source) = parser.call_source(name)? {
                return match parser.peek() {
                    Some(Token::Op(op)) => {
                        let op = *op;
                        parser.comparison(source, op)
                    }
                    _ => Err(parser.unexpected()),
                };
            }
            parser.expect(&Token::Open)?;
            let predicate = match name.raw.to_ascii_lowercase().as_str() {
                "log_id" => Predicate::LogId(parser.text_argument()?.0),
                "source" => Predicate::Container(parser.container_argument()?),
                "sample" => parser.sample()?,
                "ip_in_net" => parser.ip_in_net()?,
                "search" => parser.search()?,
                _ => return Err(Fault::new(start, format!("unknown function '{}'", name.raw))),
            };
            parser.expect(&Token::Close)?;
            Ok(Node::Test(predicate))
        })
    }

    /// A function that gives a value; `None`, with nothing consumed, when the name is none of these.
    fn call_source(&mut self, name: &Term) -> Result<Option<Source>, Fault> {
        let lower = name.raw.to_ascii_lowercase();
        if !matches!(lower.as_str(), "cast" | "regexp_extract") {
            return Ok(None);
        }
        self.expect(&Token::Open)?;
        let inner = Box::new(self.source_argument()?);
        self.expect(&Token::Comma)?;
        let (argument, at) = self.text_argument()?;
        let source = if lower == "cast" {
            let to = CastType::from_name(&argument);
            Source::Cast(inner, to.ok_or_else(|| Fault::new(at, format!("unknown type '{argument}'")))?)
        } else {
            let regex = pattern(&argument, at)?;
            if regex.captures_len() != 2 {
                return Err(Fault::new(at, "regexp_extract needs exactly one capturing group"));
            }
            Source::Extract(inner, regex)
        };
        self.expect(&Token::Close)?;
        Ok(Some(source))
    }

    /// A field, or a function that gives a value.
    fn source_argument(&mut self) -> Result<Source, Fault> {
        let start = self.position();
        let term = self.term()?;
        if !self.calls() {
            return resolve(&term).map(Source::Field).map_err(|why| Fault::new(start, why));
        }
        let source = self.deeper(|parser| parser.call_source(&term))?;
        source.ok_or_else(|| Fault::new(start, format!("'{}' gives no value", term.raw)))
    }

    /// A value as an argument, and where it stands.
    fn text_argument(&mut self) -> Result<(String, usize), Fault> {
        let start = self.position();
        let term = self.term()?;
        Ok((literal(&term, start)?.text, start))
    }

    fn container_argument(&mut self) -> Result<String, Fault> {
        let (name, at) = self.text_argument()?;
        if !crate::names::is_container(&name) {
            return Err(Fault::new(at, format!("'{name}' is no project, folder or organization")));
        }
        Ok(format!("{name}/logs/"))
    }

    fn sample(&mut self) -> Result<Predicate, Fault> {
        let source = self.source_argument()?;
        self.expect(&Token::Comma)?;
        let (text, at) = self.text_argument()?;
        let fraction = text.parse::<f64>().ok().filter(|f| *f > 0.0 && *f <= 1.0);
        let fraction =
            fraction.ok_or_else(|| Fault::new(at, "a sample is a fraction above 0 and up to 1"))?;
        Ok(Predicate::Sample(source, (fraction * u64::MAX as f64) as u64))
    }

    fn ip_in_net(&mut self) -> Result<Predicate, Fault> {
        let source = self.source_argument()?;
        self.expect(&Token::Comma)?;
        let (text, at) = self.text_argument()?;
        let network = Network::parse(&text);
        let network = network.ok_or_else(|| Fault::new(at, format!("'{text}' is no subnet")))?;
        Ok(Predicate::InNet(source, network))
    }

    fn search(&mut self) -> Result<Predicate, Fault> {
        let scoped =
            matches!(self.tokens.get(self.at + 1), Some(Spanned { token: Token::Comma | Token::Open, .. }));
        let source = if scoped {
            let source = self.source_argument()?;
            self.expect(&Token::Comma)?;
            Some(source)
        } else {
            None
        };
        let (text, at) = self.text_argument()?;
        let search = TokenSearch::parse(&text);
        Ok(Predicate::Search(
            source,
            search.ok_or_else(|| Fault::new(at, "SEARCH needs words to search for"))?,
        ))
    }
}

fn literal(term: &Term, at: usize) -> Result<Literal, Fault> {
    match (term.quoted(), term.bare()) {
        (Some(text), _) => Ok(Literal::new(text, true)),
        (None, Some(text)) => Ok(Literal::new(text, false)),
        (None, None) => Err(Fault::new(at, format!("'{}' is neither quoted nor unquoted", term.raw))),
    }
}

fn compare(source: Source, op: Op, term: &Term, at: usize) -> Result<Node, Fault> {
    if op == Op::Has && term.bare() == Some("*") {
        return Ok(Node::Test(Predicate::Present(source)));
    }
    let literal = literal(term, at)?;
    let kind = source.kind();
    let predicate = match op {
        Op::Match | Op::NotMatch => {
            comparable(kind, &source, at)?;
            Predicate::Match { source, regex: pattern(&literal.text, at)?, wanted: op == Op::Match }
        }
        Op::Has => {
            expected(kind, &literal, at)?;
            Predicate::Find(source, text_regex(&literal.text, at)?, literal)
        }
        _ => {
            comparable(kind, &source, at)?;
            expected(kind, &literal, at)?;
            Predicate::Compare(source, op, literal)
        }
    };
    Ok(Node::Test(predicate))
}

/// A whole message or map cannot be compared, only searched.
fn comparable(kind: Kind, source: &Source, at: usize) -> Result<(), Fault> {
    match (kind, source) {
        (Kind::Message(_) | Kind::Messages(_) | Kind::Labels, Source::Field(path)) => {
            Err(Fault::new(at, format!("field '{}' can only be searched with ':'", path.keys.join("."))))
        }
        _ => Ok(()),
    }
}

fn expected(kind: Kind, literal: &Literal, at: usize) -> Result<(), Fault> {
    if literal.null {
        return Ok(());
    }
    check_literal(kind, literal)
        .map_err(|expected| Fault::new(at, format!("invalid value '{}', expected {expected}", literal.text)))
}

/// A regular expression of the filter's author.
fn pattern(text: &str, at: usize) -> Result<Regex, Fault> {
    let built = RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build();
    built.map_err(|_| Fault::new(at, format!("invalid regular expression '{text}'")))
}

/// An expression that finds a text in any case, in linear time.
fn text_regex(text: &str, at: usize) -> Result<Regex, Fault> {
    let built =
        RegexBuilder::new(&regex::escape(text)).case_insensitive(true).size_limit(MAX_TEXT_BYTES).build();
    built.map_err(|_| Fault::new(at, "the text is too long to search for"))
}
