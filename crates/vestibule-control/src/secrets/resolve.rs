//! Payloads for instances: what a template refers to, read in the name of its service account.

use jiff::Timestamp;
use vestibule_iam::Principal;
use vestibule_model::project;
use vestibule_store::View;

use super::name::{self, Name};
use super::{Secrets, policy, version};

/// A version of a secret as a template names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The project's id or number.
    pub project: String,
    pub secret: String,
    /// A number, an alias or `latest`.
    pub version: String,
}

/// Why a payload is not to be had. `Display` is the sentence of Cloud Run's condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial(String);

impl std::fmt::Display for Denial {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl Secrets<'_> {
    /// The payload that a reference leads to, for a service that runs as `account`.
    pub fn resolve(&self, reference: &Reference, account: &str) -> Result<Vec<u8>, Denial> {
        let view = self.control.view();
        let project = project_id(&view, &reference.project);
        let name = Name::new(&project, &reference.secret);
        let shown = name.version_shown(&reference.version);
        let principal = Principal::from_email(account);
        if !policy::may_access(self.control, &view, &name, &reference.version, &principal) {
            return Err(Denial(format!(
                "Permission denied on secret: {shown} for Revision service account {account}. The service account used \
                 must be granted the 'Secret Manager Secret Accessor' role (roles/secretmanager.secretAccessor) at the \
                 secret, project or higher level."
            )));
        }
        let (_, payload) = version::payload(&view, &name, &reference.version, Timestamp::now())
            .map_err(|error| denial(&shown, &error))?;
        version::decode(payload["data"].as_str().unwrap_or_default()).map_err(|error| denial(&shown, &error))
    }
}

fn denial(shown: &str, error: &crate::Error) -> Denial {
    match error {
        crate::Error::NotFound { .. } => Denial(format!("Secret {shown} was not found")),
        error => Denial(error.to_string()),
    }
}

/// The id of a project that has secrets and is perhaps named by its number.
fn project_id(view: &View, project: &str) -> String {
    if !project::is_number(project) {
        return project.to_owned();
    }
    let number = project::project_number(project);
    let mut ids = view.range(name::ALL).filter_map(|kv| kv.key.split('/').nth(2));
    ids.find(|id| project::project_number(id) == number).unwrap_or(project).to_owned()
}
