//! Service accounts.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use vestibule_iam::{Principal, account, policy::Context};
use vestibule_model::fingerprint;

use super::find::{self, Account, find};
use super::{Iam, policy};
use crate::{Document, Error, document};

/// Most accounts on one page (iam.v1 `ListServiceAccountsRequest.pageSize`).
pub const PAGE_LIMIT: usize = 100;
/// Longest `displayName`, in bytes.
const MAX_DISPLAY_NAME: usize = 100;
/// Longest `description`, in bytes.
const MAX_DESCRIPTION: usize = 256;

impl Iam<'_> {
    /// Makes a service account from `{accountId, serviceAccount}`.
    pub fn create_account(&self, project: &str, body: &Document) -> Result<Value, Error> {
        let id = document::text(body, "accountId").unwrap_or_default();
        if !account::is_account_id(id) {
            let why = "It must have 6 to 30 lower-case letters, digits and hyphens, begin with a letter and not end \
                       in a hyphen.";
            return Err(Error::invalid("account_id", id, why));
        }
        let details = body.get("serviceAccount").and_then(Value::as_object).cloned().unwrap_or_default();
        check_texts(&details)?;
        let email = account::address(id, project);
        let (created, _) = self.control.change(|change| {
            let key = find::key(project, &email);
            if change.exists(&key) {
                return Err(Error::AlreadyExists {
                    message: format!(
                        "Service account {id} already exists within project projects/{project}."
                    ),
                });
            }
            let unique_id = account::random_unique_id();
            let mut doc = Map::new();
            for field in ["displayName", "description"] {
                if let Some(text) = document::text(&details, field) {
                    doc.insert(field.into(), text.into());
                }
            }
            for (field, value) in [
                ("name", format!("projects/{project}/serviceAccounts/{email}")),
                ("projectId", project.to_owned()),
                ("uniqueId", unique_id.clone()),
                ("email", email.clone()),
                ("oauth2ClientId", unique_id),
            ] {
                doc.insert(field.into(), value.into());
            }
            let sealed = seal(doc);
            change.put(&key, sealed.clone());
            Ok(sealed)
        })?;
        self.publish_accounts();
        Ok(created)
    }

    /// An account. `project` is `-` for any.
    pub fn account(&self, project: &str, account: &str) -> Result<Value, Error> {
        Ok(find(&self.control.view(), project, account)?.document)
    }

    /// All accounts of a project, in the order of their addresses, its default one first.
    pub fn accounts(&self, project: &str) -> Vec<Value> {
        let view = self.control.view();
        let prefix = find::key(project, "");
        let own = view.range(&prefix).filter(|kv| !kv.key[prefix.len()..].contains('/'));
        let default = find::of_project(project).document;
        std::iter::once(default).chain(own.map(|kv| (*kv.value).clone())).collect()
    }

    /// Changes the fields of an account that `updateMask` names. Returns those and the name.
    pub fn patch_account(&self, project: &str, account: &str, body: &Document) -> Result<Value, Error> {
        let wanted = body.get("serviceAccount").and_then(Value::as_object).cloned().unwrap_or_default();
        let mask = document::text(body, "updateMask").unwrap_or("display_name,description").to_owned();
        let mut fields = Vec::new();
        for path in mask.split(',').map(str::trim) {
            fields.push(match path {
                "displayName" | "display_name" => "displayName",
                "description" => "description",
                "etag" => continue,
                other => return Err(Error::invalid("update_mask", other, "It cannot be updated.")),
            });
        }
        let changed = self.change_account(project, account, &wanted, &fields)?;
        let mut shown = Map::new();
        for field in fields.iter().copied().chain(["name", "etag"]) {
            shown.insert(field.to_owned(), changed.get(field).cloned().unwrap_or_else(|| "".into()));
        }
        Ok(Value::Object(shown))
    }

    /// Replaces what can be changed of an account (PUT). Returns all of it.
    pub fn update_account(&self, project: &str, account: &str, body: &Document) -> Result<Value, Error> {
        self.change_account(project, account, body, &["displayName", "description"])
    }

    fn change_account(
        &self,
        project: &str,
        account: &str,
        wanted: &Document,
        fields: &[&str],
    ) -> Result<Value, Error> {
        check_texts(wanted)?;
        let (changed, _) = self.control.change(|change| {
            let found = changeable(find(change.view(), project, account)?)?;
            if let Some(etag) = document::text(wanted, "etag")
                && !document::same_bytes(etag, found.document["etag"].as_str())
            {
                return Err(Error::Aborted {
                    message: "There were concurrent changes of the service account. Read it again."
                        .to_owned(),
                });
            }
            let mut doc = document::object(&found.document).clone();
            for field in fields {
                match document::text(wanted, field) {
                    Some(text) => doc.insert((*field).to_owned(), text.into()),
                    None => doc.remove(*field),
                };
            }
            let sealed = seal(doc);
            change.put(&found.key(), sealed.clone());
            Ok(sealed)
        })?;
        Ok(changed)
    }

    /// Switches an account off or on.
    pub fn set_account_disabled(&self, project: &str, account: &str, disabled: bool) -> Result<(), Error> {
        self.control.change(|change| {
            let found = changeable(find(change.view(), project, account)?)?;
            let mut doc = document::object(&found.document).clone();
            match disabled {
                true => doc.insert("disabled".into(), true.into()),
                false => doc.remove("disabled"),
            };
            change.put(&found.key(), seal(doc));
            Ok(())
        })?;
        Ok(())
    }

    /// Deletes an account with its keys and its policy. Policies that name it keep it as deleted, so that an account
    /// made later under the same name gains nothing.
    pub fn delete_account(&self, project: &str, account: &str) -> Result<(), Error> {
        let (deleted, _) = self.control.change(|change| {
            let found = changeable(find(change.view(), project, account)?)?;
            for (key, _) in change.range(&format!("{}/", found.key())) {
                change.delete(&key);
            }
            change.delete(&found.policy_key());
            change.delete(&found.key());
            let member = Principal::from_email(&found.email).to_string();
            let gone = format!("deleted:{member}?uid={}", found.unique_id);
            for (key, stored) in change.range("policy/") {
                if let Some(renamed) = rename_member(&stored, &member, &gone) {
                    change.put(&key, renamed);
                }
            }
            Ok(found)
        })?;
        if let Err(error) = self.issuer.keyring().remove(&deleted.unique_id) {
            tracing::warn!(account = deleted.email, %error, "the key of a deleted account could not be removed");
        }
        self.publish_accounts();
        Ok(())
    }

    /// The policy of an account, for a client that understands policies up to `version`.
    pub fn account_policy(&self, project: &str, account: &str, version: u8) -> Result<Value, Error> {
        let view = self.control.view();
        let found = find(&view, project, account)?;
        Ok(policy::policy_at(&view, &found.policy_key()).to_json(version))
    }

    /// Replaces the policy of an account by the one in the request.
    pub fn set_account_policy(&self, project: &str, account: &str, request: &Value) -> Result<Value, Error> {
        let (policy, _) = self.control.change(|change| {
            let found = find(change.view(), project, account)?;
            policy::replace_policy(change, &found.policy_key(), request)
        })?;
        Ok(policy)
    }

    /// Which of the permissions a caller has on an account. One that does not exist grants none.
    pub fn test_account_permissions(
        &self,
        project: &str,
        account: &str,
        permissions: &[String],
        principal: &Principal,
    ) -> Result<Value, Error> {
        let view = self.control.view();
        let Ok(found) = find(&view, project, account) else { return Ok(json!({})) };
        let policies =
            [policy::policy_at(&view, &found.policy_key()), policy::project_policy(&view, &found.project)];
        let held = policy::held(&policies, permissions, principal, &Context::now())?;
        Ok(if held.is_empty() { json!({}) } else { json!({ "permissions": held }) })
    }

    /// Tells the issuer which unique id is whose, so that identity tokens without an address are understood. To be
    /// called at start; every change of accounts does it too.
    pub fn publish_accounts(&self) {
        let view = self.control.view();
        let pair = |document: &Value| {
            Some((document["uniqueId"].as_str()?.to_owned(), document["email"].as_str()?.to_owned()))
        };
        let accounts: HashMap<String, String> =
            view.range("iam/projects/").filter_map(|kv| pair(&kv.value)).collect();
        self.issuer.set_accounts(accounts);
    }
}

/// Refuses a change of an account that no document describes.
fn changeable(account: Account) -> Result<Account, Error> {
    if account.is_default {
        return Err(Error::not_built(format!("iam.projects.serviceAccounts (changing {})", account.email)));
    }
    Ok(account)
}

fn check_texts(details: &Document) -> Result<(), Error> {
    for (field, longest) in [("displayName", MAX_DISPLAY_NAME), ("description", MAX_DESCRIPTION)] {
        if let Some(text) = document::text(details, field)
            && text.len() > longest
        {
            return Err(Error::invalid(field, text, format!("It must have at most {longest} bytes.")));
        }
    }
    Ok(())
}

/// Gives a document its etag.
fn seal(mut document: Document) -> Value {
    document.remove("etag");
    let mut document = Value::Object(document);
    document["etag"] = fingerprint(&document).into();
    document
}

/// A policy with a member under another name; `None` if it does not name it.
fn rename_member(policy: &Value, from: &str, to: &str) -> Option<Value> {
    let mut renamed = policy.clone();
    let mut found = false;
    for binding in renamed.get_mut("bindings")?.as_array_mut()? {
        for member in binding.get_mut("members").and_then(Value::as_array_mut).into_iter().flatten() {
            if *member == from {
                *member = to.into();
                found = true;
            }
        }
    }
    found.then_some(renamed)
}
