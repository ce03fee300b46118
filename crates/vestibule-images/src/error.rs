//! What can be wrong with an image.

use std::fmt;
use std::io;
use std::path::Path;

/// Why an image cannot be had.
#[derive(Debug)]
pub struct ImageError {
    pub kind: Kind,
    /// For people. Names the image or its part, not the reason's class.
    pub message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The class of an [`ImageError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is no such image.
    NotFound,
    /// The registry does not let us read it.
    Denied,
    /// The registry does not answer, or not sensibly. Another try may help.
    Unreachable,
    /// It has no variant for this machine.
    Platform,
    /// Its reference, manifest or configuration makes no sense.
    Invalid,
    /// Its content is not what its digest says, or breaks a rule that protects this machine.
    Refused,
    /// This machine could not store it.
    Io,
}

impl ImageError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn because(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }

    /// There is no such image. In the words of Cloud Run.
    pub(crate) fn not_found(reference: &str) -> Self {
        Self::new(Kind::NotFound, format!("Image '{reference}' not found."))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        Self::because(Kind::Io, path.display().to_string(), error)
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Io)
    }

    /// The message with everything that led to it.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl From<io::Error> for ImageError {
    fn from(error: io::Error) -> Self {
        Self::because(Kind::Io, "the machine could not do it", error)
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
