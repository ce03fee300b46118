//! Why a change or a question was refused.
//!
//! One enum for every service, and it knows no HTTP: the API front maps each variant to a status, a reason word and
//! an envelope in one place. A variant carries what the caller may read; what only we should read travels as
//! `context` in [`Error::Internal`] and [`Error::Unavailable`], goes to the log and never into an answer.

use std::fmt;

/// A refusal. `Display` prints the text for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A field holds a value it may not hold. `field` is `resource.` and the JSON path, or a parameter's name.
    Invalid {
        field: String,
        value: String,
        why: String,
    },
    /// A rule that one service has, with the word that service has for it, e.g. Cloud DNS's `containerNotEmpty`. Always
    /// the caller's fault.
    Named {
        reason: &'static str,
        message: String,
    },
    /// A field that must be there is missing.
    Required {
        field: String,
    },
    /// Fields that are fine one by one contradict each other, or the request makes no sense.
    BadRequest {
        message: String,
    },
    NotFound {
        message: String,
    },
    AlreadyExists {
        message: String,
    },
    /// Something refers to the resource that was to go.
    InUse {
        message: String,
    },
    /// Something that is still coming or going was referred to.
    NotReady {
        message: String,
    },
    /// A fingerprint or entity tag is not the current one.
    ConditionNotMet {
        message: String,
    },
    /// The private address already serves another resource.
    IpInUse {
        address: String,
    },
    /// A subnetwork has no free address left.
    IpSpaceExhausted {
        message: String,
    },
    /// A documented field, value or parameter that is not built. `what` is the method's resource and the field in it,
    /// as the caller knows them.
    ///
    /// The caller's fault, as far as status codes go: an answer that says "ours" (5xx) is tried again, and clients that
    /// retry PUT keep their user waiting for a setting that will not come.
    NotBuilt {
        what: String,
    },
    /// A documented method that is not built. `method` is the method's name, as the caller knows it.
    NotImplemented {
        method: String,
    },
    PermissionDenied {
        message: String,
    },
    Unauthenticated {
        message: String,
    },
    /// Another writer won a race; the caller should read again and retry.
    Aborted {
        message: String,
    },
    FailedPrecondition {
        message: String,
    },
    /// A named limit was reached.
    ResourceExhausted {
        message: String,
    },
    /// The state could not be written; nothing was changed.
    Unavailable {
        context: String,
    },
    /// Our own fault.
    Internal {
        context: String,
    },
}

impl Error {
    /// `Invalid value for field '…': '…'. …`
    pub fn invalid(field: impl Into<String>, value: impl fmt::Display, why: impl Into<String>) -> Error {
        Error::Invalid { field: field.into(), value: value.to_string(), why: why.into() }
    }

    /// `Required field '…' not specified`
    pub fn required(field: impl Into<String>) -> Error {
        Error::Required { field: field.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> Error {
        Error::BadRequest { message: message.into() }
    }

    /// Compute's text for a missing resource; `name` is relative, `projects/…`.
    pub fn not_found(name: impl fmt::Display) -> Error {
        Error::NotFound { message: format!("The resource '{name}' was not found") }
    }

    /// Compute's text for a name that is taken; `name` is relative, `projects/…`.
    pub fn already_exists(name: impl fmt::Display) -> Error {
        Error::AlreadyExists { message: format!("The resource '{name}' already exists") }
    }

    /// Compute's text for a deletion that a user forbids; `word` is the type in snake case (`url_map`).
    pub fn in_use(word: &str, name: impl fmt::Display, user: impl fmt::Display) -> Error {
        Error::InUse { message: format!("The {word} resource '{name}' is already being used by '{user}'") }
    }

    pub fn condition_not_met(message: impl Into<String>) -> Error {
        Error::ConditionNotMet { message: message.into() }
    }

    pub fn not_implemented(method: impl Into<String>) -> Error {
        Error::NotImplemented { method: method.into() }
    }

    pub fn not_built(what: impl Into<String>) -> Error {
        Error::NotBuilt { what: what.into() }
    }

    pub fn internal(context: impl Into<String>) -> Error {
        Error::Internal { context: context.into() }
    }

    /// What only the log may say.
    pub fn context(&self) -> Option<&str> {
        match self {
            Error::Internal { context } | Error::Unavailable { context } => Some(context),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid { field, value, why } => {
                write!(f, "Invalid value for field '{field}': '{value}'. {why}")
            }
            Error::Required { field } => write!(f, "Required field '{field}' not specified"),
            Error::IpInUse { address } => write!(
                f,
                "IP_IN_USE_BY_ANOTHER_RESOURCE - IP '{address}' is already being used by another resource."
            ),
            Error::NotImplemented { method } => write!(f, "{method} is not implemented"),
            Error::NotBuilt { what } => write!(f, "{what} is not supported by Vestibule"),
            Error::Unavailable { .. } => f.write_str("The service is currently unavailable."),
            Error::Internal { .. } => f.write_str("Internal error encountered."),
            Error::Named { message, .. }
            | Error::BadRequest { message }
            | Error::NotFound { message }
            | Error::AlreadyExists { message }
            | Error::InUse { message }
            | Error::NotReady { message }
            | Error::ConditionNotMet { message }
            | Error::IpSpaceExhausted { message }
            | Error::PermissionDenied { message }
            | Error::Unauthenticated { message }
            | Error::Aborted { message }
            | Error::FailedPrecondition { message }
            | Error::ResourceExhausted { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_invalid_field_is_googles() {
        let error = Error::invalid("resource.ipCidrRange", "10.0.0.5/24", "Host bits are set.");
        assert_eq!(
            error.to_string(),
            "Invalid value for field 'resource.ipCidrRange': '10.0.0.5/24'. Host bits are set."
        );
    }

    #[test]
    fn internal_context_never_shows() {
        let error = Error::internal("disk on fire at /var/lib");
        assert!(!error.to_string().contains("disk"));
        assert_eq!(error.context(), Some("disk on fire at /var/lib"));
    }
}
