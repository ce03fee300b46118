//! YAML as gcloud writes it: block style, keys in order, lines folded behind column 80.
//!
//! serde_yaml's emitter decides quoting and folding in its own way, and scripts compare these texts; so the rules are
//! spelled out here. They are those of the usual Python emitter with YAML 1.2 scalars (`yes` is a plain word).

use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Map, Value};

/// A line is folded at the first blank behind this column.
const FOLD_BEHIND: usize = 80;

/// A key longer than this is written with a question mark.
const LONGEST_SIMPLE_KEY: usize = 128;

/// One document without its `---`, ending in a line feed.
pub fn document(value: &Value) -> String {
    let mut writer = Writer { out: String::new() };
    match value {
        Value::Object(map) if !map.is_empty() => writer.mapping(map, 0),
        Value::Array(items) if !items.is_empty() => writer.sequence(items, 0),
        Value::Null => writer.out += "  null\n",
        other => {
            writer.scalar(other, 0);
            writer.out.push('\n');
        }
    }
    writer.out
}

struct Writer {
    out: String,
}

impl Writer {
    /// Entries at `indent`; the cursor stands where the first key goes, which is a fresh line or behind `- `.
    fn mapping(&mut self, map: &Map<String, Value>, indent: usize) {
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort();
        for (index, key) in keys.into_iter().enumerate() {
            if index > 0 || !self.out.ends_with("- ") {
                self.blanks(indent);
            }
            let simple = !key.is_empty() && !key.contains('\n') && key.chars().count() < LONGEST_SIMPLE_KEY;
            if simple {
                self.text(key, indent, true);
                self.out.push(':');
            } else {
                self.out += "? ";
                self.text(key, indent, true);
                self.out.push('\n');
                self.blanks(indent);
                self.out.push(':');
            }
            self.under_key(&map[key], indent);
        }
    }

    fn under_key(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                self.out.push('\n');
                self.mapping(map, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                self.out.push('\n');
                self.sequence(items, indent);
            }
            other => {
                self.out.push(' ');
                self.scalar(other, indent);
                self.end_line();
            }
        }
    }

    fn sequence(&mut self, items: &[Value], indent: usize) {
        for (index, item) in items.iter().enumerate() {
            if index > 0 || !self.out.ends_with("- ") {
                self.blanks(indent);
            }
            self.out += "- ";
            match item {
                Value::Object(map) if !map.is_empty() => self.mapping(map, indent + 2),
                Value::Array(inner) if !inner.is_empty() => self.sequence(inner, indent + 2),
                other => {
                    self.scalar(other, indent);
                    self.end_line();
                }
            }
        }
    }

    /// A leaf inside something that stands at `indent`.
    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Null => self.out += "null",
            Value::Bool(on) => self.out += if *on { "true" } else { "false" },
            Value::Number(number) => self.out += &number.to_string(),
            Value::String(text) => self.text(text, indent, false),
            Value::Array(_) => self.out += "[]",
            Value::Object(_) => self.out += "{}",
        }
    }

    fn text(&mut self, text: &str, indent: usize, key: bool) {
        match style(text, key) {
            Style::Plain => self.folded(text, indent, !key),
            Style::Single => {
                self.out.push('\'');
                self.folded(&text.replace('\'', "''"), indent, !key);
                self.out.push('\'');
            }
            Style::Double => self.double_quoted(text, indent, !key),
            Style::Literal => self.literal(text, indent),
        }
    }

    /// Words, with a line break in place of a lone blank behind the limit.
    fn folded(&mut self, text: &str, indent: usize, fold: bool) {
        let mut rest = text;
        loop {
            let word_end = rest.find(' ').unwrap_or(rest.len());
            self.out += &rest[..word_end];
            rest = &rest[word_end..];
            let blanks = rest.len() - rest.trim_start_matches(' ').len();
            if blanks == 0 {
                return;
            }
            let inside = blanks < rest.len();
            if fold && blanks == 1 && inside && self.column() > FOLD_BEHIND {
                self.out.push('\n');
                self.blanks(indent + 2);
            } else {
                self.out += &rest[..blanks];
            }
            rest = &rest[blanks..];
        }
    }

    fn double_quoted(&mut self, text: &str, indent: usize, fold: bool) {
        self.out.push('"');
        let chars: Vec<char> = text.chars().collect();
        let mut pending = String::new();
        for (index, &c) in chars.iter().enumerate() {
            let escaped = escape(c);
            pending += &escaped;
            let inside = index > 0 && index + 1 < chars.len();
            // A fold needs a blank (or an escape) to stand at, and announces itself with a backslash.
            if fold
                && inside
                && (c == ' ' || escaped.len() > 1)
                && self.column() + pending.chars().count() > FOLD_BEHIND
            {
                let blank = c == ' ';
                if blank {
                    pending.pop();
                }
                self.out += &pending;
                pending.clear();
                self.out += "\\\n";
                self.blanks(indent + 2);
                // A blank at the start of a line would be taken for indentation.
                if blank {
                    pending += "\\ ";
                } else if chars.get(index + 1) == Some(&' ') {
                    pending.push('\\');
                }
            }
        }
        self.out += &pending;
        self.out.push('"');
    }

    /// A `|` block.
    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push('|');
        if text.starts_with([' ', '\n']) {
            self.out.push('2');
        }
        let body = text.strip_suffix('\n');
        match body {
            None => self.out.push('-'),
            Some(body) if body.is_empty() || body.ends_with('\n') => self.out.push('+'),
            Some(_) => {}
        }
        for line in body.unwrap_or(text).split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                self.blanks(indent + 2);
                self.out += line;
            }
        }
    }

    fn column(&self) -> usize {
        let line = self.out.rsplit('\n').next().unwrap_or("");
        line.chars().count()
    }

    fn blanks(&mut self, count: usize) {
        self.out.extend(std::iter::repeat_n(' ', count));
    }

    fn end_line(&mut self) {
        self.out.push('\n');
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// How a string must be written so that it reads back as the same string.
fn style(text: &str, key: bool) -> Style {
    let multiline = text.contains('\n');
    if text.chars().any(is_special) || (key && multiline) {
        return Style::Double;
    }
    if multiline {
        return Style::Literal;
    }
    // A single quote costs an escape; double quotes are shorter then, as gcloud has it.
    let quoted = if text.contains('\'') { Style::Double } else { Style::Single };
    if text.is_empty() || is_other_type(text) || has_indicator(text) { quoted } else { Style::Plain }
}

/// Characters that only double quotes can carry.
fn is_special(c: char) -> bool {
    matches!(c, '\0'..='\x08' | '\t' | '\x0b'..='\x0c' | '\x0e'..='\x1f' | '\x7f'..='\u{9f}' | '\u{feff}')
        && c != '\u{85}'
}

fn escape(c: char) -> String {
    match c {
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        '\0' => "\\0".into(),
        '\x07' => "\\a".into(),
        '\x08' => "\\b".into(),
        '\t' => "\\t".into(),
        '\n' => "\\n".into(),
        '\x0b' => "\\v".into(),
        '\x0c' => "\\f".into(),
        '\r' => "\\r".into(),
        '\x1b' => "\\e".into(),
        '\u{a0}' => "\\_".into(),
        '\u{2028}' => "\\L".into(),
        '\u{2029}' => "\\P".into(),
        c if is_special(c) && (c as u32) < 0x100 => format!("\\x{:02X}", c as u32),
        c if is_special(c) => format!("\\u{:04X}", c as u32),
        c => c.to_string(),
    }
}

/// Whether the characters would be read as YAML syntax.
fn has_indicator(text: &str) -> bool {
    let leading = text
        .starts_with(['#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ']);
    let marker = text.starts_with("---") || text.starts_with("...");
    let lone =
        matches!(text.chars().next(), Some('-' | '?' | ':')) && text.chars().nth(1).is_none_or(|c| c == ' ');
    leading
        || marker
        || lone
        || text.ends_with(' ')
        || text.contains(": ")
        || text.ends_with(':')
        || text.contains(" #")
}

/// Whether a plain scalar of these characters would be something else than a string.
fn is_other_type(text: &str) -> bool {
    static PATTERN: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        Regex::new(
            r"(?x)^(?:
                true|True|TRUE|false|False|FALSE
              | ~|null|Null|NULL
              | [-+]?0b[0-1_]+ | [-+]?0o?[0-7_]+ | [-+]?[0-9_]+ | [-+]?0x[0-9a-fA-F_]+
              | [-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
              | [-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
              | [-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?
              | [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN)
              | <<|=
              | [0-9]{4}-[0-9]{2}-[0-9]{2}
              | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[\ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?
                (?:[\ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?
            )$",
        )
        .ok()
    });
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}
