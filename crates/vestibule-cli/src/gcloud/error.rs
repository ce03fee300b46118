//! Why a gcloud command failed, in gcloud's words.

use crate::gcloud::format::{ExpressionError, yaml_document};
use crate::gcloud::grammar::Misuse;
use crate::http::{Answer, Unreachable};

/// How compute commands begin to tell of refused calls.
const REFUSED: &str = "Could not fetch resource:";

/// A command's failure.
#[derive(Debug)]
pub enum Failure {
    /// The command line itself was wrong; carries its own exit code.
    Misuse(Misuse),
    /// `ERROR: (gcloud.the.command) MESSAGE`, exit code 1.
    Failed(String),
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure::Failed(message.into())
    }

    /// What compute commands print for any refused call: one line each.
    pub fn compute(messages: &[String]) -> Failure {
        let lines: Vec<String> = messages.iter().map(|message| format!(" - {message}\n")).collect();
        Failure::Failed(format!("{REFUSED}\n{}", lines.concat()))
    }

    /// The same refusal under another first line.
    pub fn beginning(self, first: &str) -> Failure {
        match self {
            Failure::Failed(text) if text.starts_with(REFUSED) => {
                Failure::Failed(text.replacen(REFUSED, first, 1))
            }
            other => other,
        }
    }

    /// What commands of the other APIs print: `STATUS: message`, and the details as they came.
    pub fn googleapis(answer: &Answer) -> Failure {
        let message = match answer.error_status() {
            Some(status) => format!("{status}: {}", answer.error_message()),
            None => answer.error_message(),
        };
        match answer
            .body
            .pointer("/error/details")
            .filter(|details| details.as_array().is_some_and(|d| !d.is_empty()))
        {
            Some(details) => Failure::Failed(format!("{message}\n{}", yaml_document(details).trim_end())),
            None => Failure::Failed(message),
        }
    }

    /// What Cloud Run commands print: the fields that were wrong, else as [`Failure::googleapis`] without details.
    pub fn run(answer: &Answer) -> Failure {
        let violations =
            answer.body.pointer("/error/details").and_then(|d| d.as_array()).into_iter().flatten();
        let fields: Vec<String> = violations
            .filter_map(|detail| detail.get("fieldViolations")?.as_array())
            .flatten()
            .filter_map(|v| {
                Some(format!("{}: {}", v.get("field")?.as_str()?, v.get("description")?.as_str()?))
            })
            .collect();
        match (fields.is_empty(), answer.error_status()) {
            (false, _) => Failure::Failed(fields.join("\n")),
            (true, Some(status)) => Failure::Failed(format!("{status}: {}", answer.error_message())),
            (true, None) => Failure::Failed(answer.error_message()),
        }
    }

    /// What DNS commands print: the status's name, or its number where the answer has no name for it.
    pub fn http(answer: &Answer) -> Failure {
        match answer.error_status() {
            Some(_) => Failure::googleapis(answer),
            None => Failure::Failed(format!("HTTPError {}: {}", answer.status, answer.error_message())),
        }
    }
}

impl Failure {
    /// The same, where commands that make something tell of what is there already in other words.
    pub fn making(answer: &Answer, project: &str) -> Failure {
        match answer.status {
            409 => Failure::Failed(format!(
                "Resource in projects [{project}] is the subject of a conflict: {}",
                answer.error_message()
            )),
            _ => Failure::http(answer),
        }
    }
}

impl From<Unreachable> for Failure {
    fn from(error: Unreachable) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<Misuse> for Failure {
    fn from(misuse: Misuse) -> Failure {
        Failure::Misuse(misuse)
    }
}

impl From<ExpressionError> for Failure {
    fn from(error: ExpressionError) -> Failure {
        Failure::Failed(error.0)
    }
}
