//! `--format`, `--filter`, `--sort-by`: from resources to text.
//!
//! A format is `name[attributes](projection)`; a projection is a list of keys, each with transforms and attributes
//! ([`expression`]). Keys look values up in plain JSON ([`key`]), transforms change them ([`transform`]), and one file a
//! printer writes the text. Everything here is pure: resources in, a string out.

mod expression;
mod filter;
mod key;
mod lexer;
mod python;
mod render;
mod table;
mod text;
mod transform;
mod yaml;

#[cfg(test)]
mod properties_test;

pub use expression::Format;
pub use filter::{Filter, Verdict};
pub use render::{Names, render};
pub use transform::moment;
pub use yaml::document as yaml_document;

use std::fmt;

/// A format or filter expression that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError(pub String);

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ExpressionError {}
