//! `--filter`: which resources to list.
//!
//! gcloud is changing what `:` and `=` mean, from substrings to words, and warns where a term gives two answers. The old
//! meaning still decides; both are computed here so that the warning is the same.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::ExpressionError;
use super::expression::{Column, column};
use super::lexer::Lexer;
use super::python::text;
use super::render::Names;
use super::transform::moment_or_duration;

/// A parsed filter.
#[derive(Debug)]
pub struct Filter {
    root: Node,
}

/// What a filter says about a resource, beyond yes or no.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Terms that will answer differently one day: the warning, once each.
    pub warnings: Vec<String>,
    /// Keys that some resource has.
    pub seen: Vec<String>,
}

#[derive(Debug)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Term(Term),
    /// A word without a key: in any value.
    Anywhere(String),
}

#[derive(Debug)]
struct Term {
    key: Column,
    /// As written, for messages.
    name: String,
    operator: Operator,
    operands: Vec<Operand>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Has,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Matches,
    NotMatches,
}

#[derive(Debug)]
struct Operand {
    text: String,
    pattern: Option<Regex>,
}

impl Filter {
    pub fn parse(expression: &str) -> Result<Filter, ExpressionError> {
        let mut lexer = Lexer::new(expression);
        if lexer.at_end() {
            return Ok(Filter { root: Node::And(Vec::new()) });
        }
        let root = conjunction(&mut lexer)?;
        match lexer.at_end() {
            true => Ok(Filter { root }),
            false => Err(lexer.error("Syntax error")),
        }
    }

    /// Whether the resource is wanted.
    pub fn matches(&self, resource: &Value, names: &Names, verdict: &mut Verdict) -> bool {
        evaluate(&self.root, resource, names, verdict)
    }

    /// The keys of all terms, as written.
    pub fn keys(&self) -> Vec<&str> {
        fn collect<'f>(node: &'f Node, into: &mut Vec<&'f str>) {
            match node {
                Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| collect(node, into)),
                Node::Not(node) => collect(node, into),
                Node::Term(term) => into.push(&term.name),
                Node::Anywhere(_) => {}
            }
        }
        let mut keys = Vec::new();
        collect(&self.root, &mut keys);
        keys.dedup();
        keys
    }
}

/// Terms side by side bind weaker than `OR`, and `AND` stronger.
fn conjunction(lexer: &mut Lexer<'_>) -> Result<Node, ExpressionError> {
    let mut nodes = vec![disjunction(lexer)?];
    while !lexer.at_end() && lexer.peek() != Some(')') {
        nodes.push(disjunction(lexer)?);
    }
    Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::And(nodes) })
}

fn disjunction(lexer: &mut Lexer<'_>) -> Result<Node, ExpressionError> {
    let mut nodes = vec![all_of(lexer)?];
    while keyword(lexer, "OR") {
        nodes.push(all_of(lexer)?);
    }
    Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Or(nodes) })
}

fn all_of(lexer: &mut Lexer<'_>) -> Result<Node, ExpressionError> {
    let mut nodes = vec![negation(lexer)?];
    while keyword(lexer, "AND") {
        nodes.push(negation(lexer)?);
    }
    Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::And(nodes) })
}

fn negation(lexer: &mut Lexer<'_>) -> Result<Node, ExpressionError> {
    lexer.skip_blanks();
    if keyword(lexer, "NOT") || lexer.take("-") {
        return Ok(Node::Not(Box::new(negation(lexer)?)));
    }
    if lexer.take("(") {
        let inner = conjunction(lexer)?;
        lexer.expect(")")?;
        return Ok(inner);
    }
    term(lexer)
}

/// Takes a word in capitals that stands alone.
fn keyword(lexer: &mut Lexer<'_>, word: &str) -> bool {
    lexer.skip_blanks();
    let after = lexer.rest().strip_prefix(word);
    let alone = after.is_some_and(|rest| rest.chars().next().is_none_or(|c| c.is_whitespace() || c == '('));
    alone && lexer.take(word)
}

fn term(lexer: &mut Lexer<'_>) -> Result<Node, ExpressionError> {
    if lexer.at_end() || lexer.peek() == Some(')') {
        return Err(lexer.error("Term expected"));
    }
    let start = lexer.rest();
    if let Some(word) = lexer.quoted()? {
        return Ok(Node::Anywhere(word));
    }
    // A key ends before an operator; its own syntax has no colon, so the column reader must not see attributes.
    let end = key_end(start);
    let name = start[..end].trim();
    let key = column(&mut Lexer::new(name))?;
    lexer.advance(end);
    lexer.skip_blanks();
    let Some(operator) = operator(lexer)? else {
        return match name.is_empty() {
            true => Err(lexer.error("Term expected")),
            false => Ok(Node::Anywhere(name.to_owned())),
        };
    };
    let operands = operands(lexer, operator)?;
    Ok(Node::Term(Term { key, name: name.to_owned(), operator, operands }))
}

/// Where a key ends: at an operator, a blank, or a closing parenthesis that is not its own.
fn key_end(text: &str) -> usize {
    let mut depth = 0i32;
    let mut quote = None;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') if depth > 0 => depth -= 1,
            (None, ')' | ':' | '=' | '<' | '>' | '~' | '!') if depth == 0 => return index,
            (None, c) if c.is_whitespace() && depth == 0 => return index,
            _ => {}
        }
    }
    text.len()
}

fn operator(lexer: &mut Lexer<'_>) -> Result<Option<Operator>, ExpressionError> {
    let table = [
        ("!=", Operator::NotEqual),
        ("!~", Operator::NotMatches),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        (":", Operator::Has),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("~", Operator::Matches),
    ];
    for (token, operator) in table {
        if lexer.rest().starts_with(token) {
            if lexer.rest()[token.len()..].starts_with(['=', '<', '>', '~', ':']) {
                return Err(lexer.error("Malformed operator"));
            }
            lexer.take(token);
            return Ok(Some(operator));
        }
    }
    Ok(None)
}

fn operands(lexer: &mut Lexer<'_>, operator: Operator) -> Result<Vec<Operand>, ExpressionError> {
    lexer.skip_blanks();
    if lexer.rest().is_empty() {
        return Err(lexer.error("Operand expected"));
    }
    let mut operands = Vec::new();
    if lexer.take("(") {
        loop {
            lexer.skip_blanks();
            if lexer.take(")") {
                break;
            }
            if lexer.rest().is_empty() {
                return Err(lexer.error("More tokens expected"));
            }
            let text = match lexer.quoted()? {
                Some(quoted) => quoted,
                None => lexer.take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ')')).to_owned(),
            };
            lexer.skip_blanks();
            lexer.take(",");
            if text != "OR" && !text.is_empty() {
                operands.push(Operand::new(text, operator)?);
            }
        }
    } else {
        let text = match lexer.quoted()? {
            Some(quoted) => quoted,
            None => lexer.take_while(|c| !c.is_whitespace() && c != ')').to_owned(),
        };
        operands.push(Operand::new(text, operator)?);
    }
    Ok(operands)
}

impl Operand {
    fn new(text: String, operator: Operator) -> Result<Operand, ExpressionError> {
        let pattern = match operator {
            Operator::Matches | Operator::NotMatches => {
                let wrong =
                    |_| ExpressionError(format!("Filter expression RE pattern [{text}] does not compile."));
                Some(Regex::new(&text).map_err(wrong)?)
            }
            // Words: the meaning of `:` and `=` that is to come.
            Operator::Has | Operator::Equal | Operator::NotEqual => {
                let star = text.ends_with('*') && operator == Operator::Has;
                let stem = if star { &text[..text.len() - 1] } else { text.as_str() };
                let start = if stem.starts_with(|c: char| c.is_alphanumeric()) { r"\b" } else { "" };
                let end = if !star && stem.ends_with(|c: char| c.is_alphanumeric()) { r"\b" } else { "" };
                let words = format!("{start}{}{end}", regex::escape(stem));
                RegexBuilder::new(&words).case_insensitive(true).build().ok()
            }
            _ => None,
        };
        Ok(Operand { text, pattern })
    }
}

fn evaluate(node: &Node, resource: &Value, names: &Names, verdict: &mut Verdict) -> bool {
    match node {
        Node::And(nodes) => nodes.iter().all(|node| evaluate(node, resource, names, verdict)),
        Node::Or(nodes) => nodes.iter().any(|node| evaluate(node, resource, names, verdict)),
        Node::Not(node) => !evaluate(node, resource, names, verdict),
        Node::Anywhere(word) => {
            let word = word.to_lowercase();
            any_leaf(resource, &mut |leaf| leaf.to_lowercase().contains(&word))
        }
        Node::Term(term) => term.matches(names.find(resource, &term.key), verdict),
    }
}

fn any_leaf(value: &Value, test: &mut dyn FnMut(&str) -> bool) -> bool {
    match value {
        Value::Object(map) => map.values().any(|value| any_leaf(value, test)),
        Value::Array(items) => items.iter().any(|value| any_leaf(value, test)),
        other => test(&text(other)),
    }
}

impl Term {
    fn matches(&self, found: Option<Value>, verdict: &mut Verdict) -> bool {
        if found.as_ref().is_some_and(|value| !value.is_null()) && !verdict.seen.contains(&self.name) {
            verdict.seen.push(self.name.clone());
        }
        match self.operator {
            Operator::NotEqual => !self
                .operands
                .iter()
                .any(|operand| self.equal(found.as_ref(), operand, &mut Verdict::default())),
            Operator::NotMatches => !self.regex(found.as_ref()),
            Operator::Matches => self.regex(found.as_ref()),
            Operator::Equal => {
                self.operands.iter().any(|operand| self.equal(found.as_ref(), operand, verdict))
            }
            Operator::Has => self.operands.iter().any(|operand| self.has(found.as_ref(), operand, verdict)),
            order => self
                .operands
                .iter()
                .any(|operand| found.as_ref().is_some_and(|v| ordered(v, &operand.text, order))),
        }
    }

    fn regex(&self, found: Option<&Value>) -> bool {
        let Some(value) = found.filter(|v| !v.is_null()) else { return false };
        let patterns: Vec<&Regex> = self.operands.iter().filter_map(|o| o.pattern.as_ref()).collect();
        any_leaf(value, &mut |leaf| patterns.iter().any(|pattern| pattern.is_match(leaf)))
    }

    fn equal(&self, found: Option<&Value>, operand: &Operand, verdict: &mut Verdict) -> bool {
        let wanted = operand.text.to_lowercase();
        let same = |leaf: &str| {
            let numbers = leaf.parse::<f64>().ok().zip(operand.text.parse::<f64>().ok());
            leaf.to_lowercase() == wanted || numbers.is_some_and(|(a, b)| a == b)
        };
        let now = match found {
            None | Some(Value::Null) => wanted.is_empty(),
            Some(Value::Object(map)) => {
                map.keys().any(|k| same(k)) || any_leaf(&Value::Object(map.clone()), &mut |leaf| same(leaf))
            }
            Some(value) => any_leaf(value, &mut |leaf| same(leaf)),
        };
        self.compare_with_words("=", now, found, operand, verdict);
        now
    }

    fn has(&self, found: Option<&Value>, operand: &Operand, verdict: &mut Verdict) -> bool {
        let Some(value) = found.filter(|v| !v.is_null()) else {
            return operand.text.is_empty();
        };
        if operand.text == "*" {
            return true;
        }
        let wanted = operand.text.to_lowercase();
        let test = |leaf: &str| match wanted.split_once('*') {
            // A star inside stands for anything; one at the end makes a prefix.
            Some((head, "")) => leaf.starts_with(head),
            Some((head, tail)) => leaf.starts_with(head) && leaf.ends_with(tail),
            None => leaf.contains(&wanted),
        };
        let in_keys = matches!(value, Value::Object(map) if map.keys().any(|key| test(&key.to_lowercase())));
        let now = in_keys || any_leaf(value, &mut |leaf| test(&leaf.to_lowercase()));
        self.compare_with_words(":", now, found, operand, verdict);
        now
    }

    /// Notes a warning where words would answer differently.
    fn compare_with_words(
        &self,
        operator: &str,
        now: bool,
        found: Option<&Value>,
        operand: &Operand,
        verdict: &mut Verdict,
    ) {
        let (Some(value), Some(words)) = (found.filter(|v| !v.is_null()), &operand.pattern) else { return };
        let in_keys = matches!(value, Value::Object(map) if map.keys().any(|key| words.is_match(key)));
        let scalar = matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_));
        let soon = in_keys || any_leaf(value, &mut |leaf| words.is_match(leaf));
        if !scalar || now == soon || (operator == "=" && operand.text.parse::<f64>().is_ok()) {
            return;
        }
        let (currently, will) =
            if now { ("matches", "will not match") } else { ("does not match", "will match") };
        let warning = format!(
            "--filter : operator evaluation is changing for consistency across Google APIs.  {}{operator}{} currently {currently} but {will} in \
             the near future.  Run `gcloud topic filters` for details.",
            self.name, operand.text
        );
        if !verdict.warnings.contains(&warning) {
            verdict.warnings.push(warning);
        }
    }
}

/// `<` and its kin: numbers by size, times by time, the rest by characters.
fn ordered(value: &Value, operand: &str, operator: Operator) -> bool {
    let leaf = text(value);
    let order = match (leaf.parse::<f64>(), operand.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.partial_cmp(&b),
        _ => match (moment_or_duration(&leaf), moment_or_duration(operand)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => Some(leaf.to_lowercase().cmp(&operand.to_lowercase())),
        },
    };
    order.is_some_and(|order| match operator {
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
        _ => false,
    })
}
