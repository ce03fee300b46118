//! Cloud DNS: managed zones, their record sets, the changes made to them, and policies.
//!
//! A zone is one document, every record set another, so that a change of one record in a zone of ten thousand costs
//! one row. All ways to change records go through one function ([`records`]): a change is checked and applied as a
//! whole. The [`reconcile`]r turns the documents into the resolver's table.
//!
//! | key | document |
//! |---|---|
//! | `dns/projects/P/managedZones/Z` | the zone |
//! | `…/rrsets/NAME/TYPE` | a record set; NAME in lower case with its dot |
//! | `…/changes/N` | a change, numbered from 0 (the zone's creation) |
//! | `…/operations/ID` | an update of the zone |
//! | `dns/projects/P/policies/NAME` | a server policy |
//! | `dns/projects/P/responsePolicies/NAME` | a response policy |
//! | `…/rules/NAME` | a rule of it |

mod access;
mod balancers;
mod binding;
mod changes;
pub(crate) mod inbound;
mod keys;
mod operations;
mod policies;
mod quota;
mod reconcile;
mod records;
mod routing;
mod rules;
mod serial;
mod servers;
mod sets;
mod zone_config;
mod zones;

#[cfg(test)]
mod tests;

pub use changes::change_order;
pub use operations::Caller;
pub use policies::PolicyKind;
pub use quota::project;
pub use reconcile::{Reconciler, start};
pub use sets::set_order;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use vestibule_model::ResourceName;
use vestibule_store::{Revision, View};

use crate::{ANSWER_WITHIN, Change, Control, Document, Error, document};

/// Cloud DNS over a control plane.
#[derive(Clone, Copy)]
pub struct Dns<'c>(&'c Control);

impl Control {
    /// Cloud DNS.
    pub fn dns(&self) -> Dns<'_> {
        Dns(self)
    }
}

/// A zone that was found.
#[derive(Debug, Clone)]
struct Zone {
    key: String,
    document: Arc<Value>,
}

impl Zone {
    fn doc(&self) -> &Document {
        document::object(&self.document)
    }

    fn dns_name(&self) -> &str {
        document::text(self.doc(), "dnsName").unwrap_or_default()
    }

    /// Whether names are answered from record sets, and not by other servers or another network.
    fn is_plain(&self) -> bool {
        zone_config::holds_records(self.doc())
    }
}

/// What the handlers of all collections of a zone begin with. `zone` is a name or an id.
fn find_zone(view: &View, project: &str, zone: &str) -> Result<Zone, Error> {
    let key = keys::zone(project, zone);
    if let Some(found) = view.get(&key) {
        return Ok(Zone { key, document: found.value.clone() });
    }
    let by_id = || {
        let mut zones = keys::zones(view, project);
        zones.find(|kv| kv.value["id"].as_str() == Some(zone))
    };
    let numeric = zone.bytes().all(|b| b.is_ascii_digit());
    match numeric.then(by_id).flatten() {
        Some(kv) => Ok(Zone { key: kv.key.to_string(), document: kv.value.clone() }),
        None => Err(missing("managedZone", zone)),
    }
}

/// The same inside of a change. Changes are made one at a time, so what was read before is current.
fn find_zone_in(change: &Change<'_>, project: &str, zone: &str) -> Result<Zone, Error> {
    find_zone(change.view(), project, zone)
}

/// Cloud DNS's text for a resource in the path that is not there.
fn missing(parameter: &str, name: &str) -> Error {
    Error::NotFound {
        message: format!("The 'parameters.{parameter}' resource named '{name}' does not exist."),
    }
}

/// Cloud DNS's text for a value that is not allowed. `path` starts with `entity.`.
fn invalid(path: &str, value: impl std::fmt::Display) -> Error {
    Error::Named { reason: "invalid", message: format!("Invalid value for '{path}': '{value}'") }
}

/// Cloud DNS's text for a value that is not there.
fn required(path: &str) -> Error {
    Error::Named {
        reason: "required",
        message: format!("The '{path}' parameter is required but was missing."),
    }
}

impl Dns<'_> {
    /// Waits until the resolver obeys, so that the caller's next query already sees the change.
    fn obeyed(&self, revision: Revision) {
        self.0.planes().wait(revision, ANSWER_WITHIN);
    }

    /// `done` once the resolver obeys a revision, `pending` before.
    fn status(&self, revision: Revision) -> &'static str {
        if self.0.planes().settled() >= revision { "done" } else { "pending" }
    }
}

/// The networks that the document at `key` refers to, by their keys.
pub(crate) fn references(key: &str, doc: &Document) -> BTreeSet<String> {
    let links: Vec<&str> = if keys::is_zone(key) {
        zone_config::network_links(doc).collect()
    } else if keys::policy_kind(key).is_some() {
        binding::links(doc).collect()
    } else {
        Vec::new()
    };
    links.into_iter().filter_map(|link| ResourceName::parse(link).ok()).map(|name| name.key()).collect()
}

/// The word for a document's type in texts of refusals.
pub(crate) fn type_word(key: &str) -> &'static str {
    match keys::policy_kind(key) {
        Some(PolicyKind::Server) => "policy",
        Some(PolicyKind::Response) => "response_policy",
        None if keys::is_zone(key) => "managed_zone",
        None => "resource",
    }
}
