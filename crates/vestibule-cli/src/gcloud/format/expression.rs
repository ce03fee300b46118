//! Format expressions: `table[box](name, x.basename():label=X)`.

use std::collections::BTreeMap;

use super::ExpressionError;
use super::key::{Key, heading, parse_key};
use super::lexer::Lexer;
use super::transform::{Transform, is_transform};

/// A parsed `--format`.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub columns: Vec<Column>,
}

/// One key of a projection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Column {
    pub key: Key,
    pub transforms: Vec<Transform>,
    pub label: Option<String>,
    pub right: bool,
    pub sort: Option<u32>,
    pub reverse: bool,
    /// Left out of a table where no row has it.
    pub optional: bool,
}

/// gcloud's formats that Vestibule prints.
const NAMES: &[&str] = &[
    "csv",
    "default",
    "disable",
    "flattened",
    "get",
    "json",
    "list",
    "none",
    "table",
    "text",
    "value",
    "yaml",
];

impl Format {
    pub fn parse(text: &str) -> Result<Format, ExpressionError> {
        let mut lexer = Lexer::new(text);
        lexer.skip_blanks();
        let name = lexer.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned();
        if !NAMES.contains(&name.as_str()) {
            return Err(ExpressionError(format!(
                "Format must be one of {}; received [{name}].\n\nFor information on output formats:\n  $ gcloud topic formats\n",
                NAMES.join(", ")
            )));
        }
        let mut format = Format { name, attributes: BTreeMap::new(), columns: Vec::new() };
        while !lexer.at_end() {
            if lexer.take("[") {
                attributes(&mut lexer, &mut format.attributes)?;
            } else if lexer.take("(") {
                format.columns = projection(&mut lexer)?;
            } else {
                return Err(lexer.error("Syntax error"));
            }
        }
        if format.columns.is_empty() && matches!(format.name.as_str(), "table" | "csv" | "value" | "get") {
            return Err(ExpressionError(format!(
                "Format [{0}] requires a non-empty projection. Use key parameters to specify a projection like so `{0}(foo, bar.baz)`",
                format.name
            )));
        }
        Ok(format)
    }

    pub fn on(&self, attribute: &str) -> bool {
        self.attributes.get(attribute).is_some_and(|value| value != "0" && value != "false")
    }

    pub fn off(&self, attribute: &str) -> bool {
        self.attributes.contains_key(&format!("no-{attribute}"))
    }
}

impl Column {
    pub fn heading(&self) -> String {
        self.label.clone().unwrap_or_else(|| heading(&self.key))
    }
}

/// `a=b, flag, title="x"` up to the closing bracket.
fn attributes(lexer: &mut Lexer<'_>, into: &mut BTreeMap<String, String>) -> Result<(), ExpressionError> {
    loop {
        lexer.skip_blanks();
        if lexer.take("]") {
            return Ok(());
        }
        let name = lexer.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).to_owned();
        let value = if lexer.take("=") { word(lexer, ",]")? } else { "1".to_owned() };
        if name.is_empty() {
            return Err(lexer.error("Attribute name expected"));
        }
        into.insert(name, value);
        lexer.skip_blanks();
        if !lexer.take(",") {
            lexer.expect("]")?;
            return Ok(());
        }
    }
}

/// Keys up to the closing parenthesis.
fn projection(lexer: &mut Lexer<'_>) -> Result<Vec<Column>, ExpressionError> {
    let mut columns = Vec::new();
    loop {
        lexer.skip_blanks();
        if lexer.take(")") {
            return Ok(columns);
        }
        columns.push(column(lexer)?);
        lexer.skip_blanks();
        if !lexer.take(",") {
            lexer.expect(")")?;
            return Ok(columns);
        }
    }
}

/// One key with its transforms and attributes.
pub fn column(lexer: &mut Lexer<'_>) -> Result<Column, ExpressionError> {
    let mut column = Column::default();
    let (key, mut call) = parse_key(lexer)?;
    column.key = key;
    while let Some(name) = call.take() {
        lexer.expect("(")?;
        if !is_transform(&name) {
            return Err(lexer.error(&format!("Unknown transform function {name}")));
        }
        column.transforms.push(arguments(lexer, name)?);
        if lexer.take(".") {
            let (more, next) = parse_key(lexer)?;
            if !more.is_empty() {
                return Err(lexer.error("Transform function expected"));
            }
            call = next;
        }
    }
    lexer.skip_blanks();
    while lexer.take(":") {
        lexer.skip_blanks();
        let name = lexer.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).to_owned();
        let value = if lexer.take("=") { Some(word(lexer, ":,)")?) } else { None };
        match (name.as_str(), value) {
            ("label", value) => column.label = Some(value.unwrap_or_default()),
            ("align", Some(value)) => column.right = value == "right",
            ("sort", value) => column.sort = Some(value.and_then(|v| v.parse().ok()).unwrap_or(1)),
            ("reverse", _) => column.reverse = true,
            ("optional", _) => column.optional = true,
            // Widths, wrapping and the like do not change what is printed off a terminal.
            (
                "alias" | "width" | "wrap" | "subformat" | "hidden" | "min" | "max" | "no-hidden" | "no-wrap",
                _,
            ) => {}
            _ => return Err(lexer.error(&format!("Unknown key attribute [{name}]"))),
        }
        lexer.skip_blanks();
    }
    Ok(column)
}

fn arguments(lexer: &mut Lexer<'_>, name: String) -> Result<Transform, ExpressionError> {
    let mut transform = Transform { name, positional: Vec::new(), named: BTreeMap::new() };
    loop {
        lexer.skip_blanks();
        if lexer.take(")") {
            return Ok(transform);
        }
        let quoted = lexer.quoted()?;
        let is_quoted = quoted.is_some();
        let value = match quoted {
            Some(quoted) => quoted,
            None => lexer.take_while(|c| !matches!(c, ',' | ')' | '=')).trim().to_owned(),
        };
        if !is_quoted && lexer.take("=") {
            let argument = word(lexer, ",)")?;
            transform.named.insert(value, argument);
        } else {
            transform.positional.push(value);
        }
        lexer.skip_blanks();
        if !lexer.take(",") {
            lexer.expect(")")?;
            return Ok(transform);
        }
    }
}

fn word(lexer: &mut Lexer<'_>, ends: &str) -> Result<String, ExpressionError> {
    lexer.skip_blanks();
    match lexer.quoted()? {
        Some(quoted) => Ok(quoted),
        None => Ok(lexer.take_while(|c| !ends.contains(c)).trim().to_owned()),
    }
}
