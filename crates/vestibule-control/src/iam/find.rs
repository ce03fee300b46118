//! Finding service accounts.
//!
//! An account is named by its address or by its unique id, with its project or with `-` for any. The default Compute
//! Engine account of a project is described by no document: it is there as soon as the project is.

use std::borrow::Cow;

use serde_json::{Value, json};
use vestibule_iam::account;
use vestibule_model::{fingerprint, project};
use vestibule_store::View;

use crate::Error;

/// A service account that exists.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) project: String,
    pub(super) email: String,
    pub(super) unique_id: String,
    /// Made by nobody: it cannot be changed.
    pub(super) is_default: bool,
    pub(super) document: Value,
}

impl Account {
    /// `projects/P/serviceAccounts/EMAIL`
    pub(super) fn relative(&self) -> String {
        format!("projects/{}/serviceAccounts/{}", self.project, self.email)
    }

    pub(super) fn key(&self) -> String {
        format!("iam/{}", self.relative())
    }

    pub(super) fn policy_key(&self) -> String {
        format!("policy/{}", self.key())
    }

    /// Refuses an account that was switched off.
    pub(super) fn check_enabled(&self) -> Result<(), Error> {
        if self.document["disabled"].as_bool() != Some(true) {
            return Ok(());
        }
        Err(Error::FailedPrecondition { message: format!("Service account {} is disabled.", self.email) })
    }
}

/// The key of an account by its address.
pub(super) fn key(project: &str, email: &str) -> String {
    format!("iam/projects/{project}/serviceAccounts/{email}")
}

/// Finds an account. `project` is `-` for any.
pub(super) fn find(view: &View, project: &str, account: &str) -> Result<Account, Error> {
    let unknown = || match project {
        // Whether it exists is nobody's business who does not know where.
        "-" => Error::PermissionDenied {
            message: format!(
                "Permission 'iam.serviceAccounts.get' denied on resource 'projects/-/serviceAccounts/{account}' (or it \
                 may not exist)."
            ),
        },
        _ => Error::NotFound { message: "Unknown service account".to_owned() },
    };
    look_up(view, project, account).ok_or_else(unknown)
}

/// Finds an account in any project, where it must exist for a token to be minted.
pub(super) fn find_bearer(view: &View, account: &str) -> Result<Account, Error> {
    look_up(view, "-", account).ok_or_else(|| Error::NotFound {
        message: format!("Not found; Gaia id not found for email {account}"),
    })
}

fn look_up(view: &View, project: &str, account: &str) -> Option<Account> {
    let fits = |found: &Account| project == "-" || found.project == project;
    let email = match account.contains('@') {
        true => Cow::Owned(account.to_ascii_lowercase()),
        false => Cow::Owned(email_of(view, project, account)?),
    };
    let found = match account::project_of(&email) {
        Some(of) => stored(view, of, &email)?,
        None => default_account(view, project, &email)?,
    };
    Some(found).filter(fits)
}

fn stored(view: &View, project: &str, email: &str) -> Option<Account> {
    let document = &view.get(&key(project, email))?.value;
    Some(Account {
        project: project.to_owned(),
        email: email.to_owned(),
        unique_id: document["uniqueId"].as_str().unwrap_or_default().to_owned(),
        is_default: false,
        document: (**document).clone(),
    })
}

/// The address of the account with a unique id.
fn email_of(view: &View, project: &str, unique_id: &str) -> Option<String> {
    if let Some(email) = account::default_compute_by_id(unique_id) {
        return Some(email);
    }
    let prefix = if project == "-" { "iam/projects/".to_owned() } else { format!("iam/projects/{project}/") };
    let found = view.range(&prefix).find(|kv| kv.value["uniqueId"] == unique_id)?;
    found.value["email"].as_str().map(str::to_owned)
}

/// The default account of a project that is in use.
fn default_account(view: &View, project: &str, email: &str) -> Option<Account> {
    let number: u64 = account::default_compute_project(email)?.parse().ok()?;
    let id = match project {
        "-" => projects(view).find(|id| project::project_number(id) == number)?,
        project => Some(project.to_owned()).filter(|id| project::project_number(id) == number)?,
    };
    Some(of_project(&id))
}

/// The default account of a project.
pub(super) fn of_project(project: &str) -> Account {
    let email = project::default_service_account(project);
    let unique_id = account::unique_id(&email);
    let mut document = json!({
        "name": format!("projects/{project}/serviceAccounts/{email}"),
        "projectId": project,
        "uniqueId": unique_id,
        "email": email,
        "displayName": "Compute Engine default service account",
        "oauth2ClientId": unique_id,
    });
    document["etag"] = fingerprint(&document).into();
    Account { project: project.to_owned(), email, unique_id, is_default: true, document }
}

/// The ids of projects that anything is stored of, some more than once.
fn projects(view: &View) -> impl Iterator<Item = String> {
    view.range("").filter_map(|kv| {
        let mut parts = kv.key.split('/');
        parts.by_ref().find(|part| *part == "projects")?;
        parts.next().map(str::to_owned)
    })
}
