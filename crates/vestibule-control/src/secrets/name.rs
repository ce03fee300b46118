//! Names of secrets and versions, and the keys of their documents.

use vestibule_model::project;

use crate::Error;

/// Longest name of a secret. Secret Manager v1, `secretId`.
const MAX_ID: usize = 255;

/// The prefix of all secrets and versions of all projects.
pub(super) const ALL: &str = "secret/projects/";

/// The prefix of all documents that hold a payload.
pub(super) const PAYLOADS: &str = "secret-payload/";

/// A secret's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// The project's id.
    pub(super) project: String,
    pub(super) secret: String,
}

impl Name {
    pub(super) fn new(project: &str, secret: &str) -> Name {
        Name { project: project.to_owned(), secret: secret.to_owned() }
    }

    /// A name that a new secret may have.
    pub(super) fn checked(project: &str, secret: &str) -> Result<Name, Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if secret.is_empty() || secret.len() > MAX_ID || !secret.chars().all(fits) {
            return Err(Error::bad_request(format!(
                "The provided Secret ID [{secret}] does not match the expected format [[a-zA-Z_0-9-]{{1,{MAX_ID}}}]"
            )));
        }
        Ok(Name::new(project, secret))
    }

    /// `projects/NUMBER/secrets/S`: in answers a project is its number.
    pub(super) fn shown(&self) -> String {
        format!("projects/{}/secrets/{}", project::project_number(&self.project), self.secret)
    }

    pub(super) fn version_shown(&self, version: &str) -> String {
        format!("{}/versions/{version}", self.shown())
    }

    pub(super) fn key(&self) -> String {
        format!("{}{}", prefix(&self.project), self.secret)
    }

    pub(super) fn policy_key(&self) -> String {
        format!("policy/{}", self.key())
    }

    /// The prefix of the keys of all versions. Another than the secret's, so that secrets are listed without them.
    pub(super) fn versions_prefix(&self) -> String {
        format!("{ALL}{}/versions/{}/", self.project, self.secret)
    }

    pub(super) fn version_key(&self, number: u64) -> String {
        format!("{}{number}", self.versions_prefix())
    }

    pub(super) fn payload_key(&self, number: u64) -> String {
        format!("{PAYLOADS}projects/{}/{}/{number}", self.project, self.secret)
    }

    pub(super) fn not_found(&self) -> Error {
        Error::NotFound { message: format!("Secret [{}] not found.", self.shown()) }
    }

    pub(super) fn version_not_found(&self, version: &str) -> Error {
        let message = match version {
            "latest" => format!("Secret [{}] not found or has no versions.", self.shown()),
            version => format!("Secret Version [{}] not found.", self.version_shown(version)),
        };
        Error::NotFound { message }
    }
}

/// The prefix of the keys of a project's secrets.
pub(super) fn prefix(project: &str) -> String {
    format!("{ALL}{project}/secrets/")
}
