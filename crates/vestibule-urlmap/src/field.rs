//! Where in a document something stands, spelt as Google's error messages spell it: `resource.pathMatchers[0].name`.

use std::fmt;

/// A path into a document. Building one costs nothing; it becomes text only when an error is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'p> {
    parent: Option<&'p Field<'p>>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Member(&'p str),
    Item(&'p str, usize),
}

impl<'p> Field<'p> {
    /// The document itself.
    pub(crate) const ROOT: Field<'static> = Field { parent: None, step: Step::Member("resource") };

    /// A member of the object at this path.
    pub(crate) fn member(&'p self, name: &'p str) -> Field<'p> {
        Field { parent: Some(self), step: Step::Member(name) }
    }

    /// An item of the list that is a member of the object at this path.
    pub(crate) fn item(&'p self, name: &'p str, index: usize) -> Field<'p> {
        Field { parent: Some(self), step: Step::Item(name, index) }
    }

    /// An error about the value here.
    pub(crate) fn invalid(&self, value: impl fmt::Display, why: impl Into<String>) -> CompileError {
        CompileError { field: self.to_string(), value: Some(value.to_string()), why: why.into() }
    }

    /// An error about a value that should be here and is not.
    pub(crate) fn required(&self) -> CompileError {
        let field = self.to_string();
        CompileError { why: format!("Required field '{field}' not specified"), field, value: None }
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        match self.step {
            Step::Member(name) => f.write_str(name),
            Step::Item(name, index) => write!(f, "{name}[{index}]"),
        }
    }
}

/// What is wrong with a URL map, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// Path from the document's root, e.g. `resource.pathMatchers[0].pathRules[1].paths[0]`.
    pub field: String,
    /// The offending value as text. `None`: a required value is missing.
    pub value: Option<String>,
    /// A sentence.
    pub why: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "Invalid value for field '{}': '{value}'. {}", self.field, self.why),
            None => f.write_str(&self.why),
        }
    }
}

impl std::error::Error for CompileError {}
