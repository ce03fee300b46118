//! A change while it is being made.
//!
//! A [`Change`] is a view of the store with staged writes on top. Whatever reads through it sees its own writes, so a
//! hook that creates a subnetwork can at once ask which ranges are taken. Nothing reaches the store before the whole
//! change has been built; then it is one transaction.
//!
//! References are kept as documents of their own, `uses/TARGET//USER`, written in the same transaction as the
//! document that refers: "who uses this?" is one short range read, for one process as for many, and no cache can
//! disagree with the store. They are derived from the documents by [`crate::references`], never set by hand, so they
//! cannot drift. Two rules are checked for every change, whoever made it: what is referred to exists, and what is
//! referred to does not go away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use vestibule_model::{ResourceName, project};
use vestibule_store::{Compare, Op, Txn, View};

use crate::{Conformance, Control, Document, Error, document, references};

/// A remark on an accepted change: it ends up in `warnings[]` of the operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// One of Google's warning codes, e.g. `NOT_CRITICAL_ERROR`.
    pub code: &'static str,
    pub message: String,
}

/// Staged writes over a view of the store.
pub struct Change<'c> {
    control: &'c Control,
    view: View,
    /// `None` stands for a deletion.
    staged: BTreeMap<String, Option<Arc<Value>>>,
    warnings: Vec<Warning>,
    now: Timestamp,
}

impl<'c> Change<'c> {
    pub(crate) fn new(control: &'c Control, view: View) -> Change<'c> {
        Change { control, view, staged: BTreeMap::new(), warnings: Vec::new(), now: Timestamp::now() }
    }

    pub fn control(&self) -> &'c Control {
        self.control
    }

    /// Whether to refuse what Google refuses.
    pub fn strict(&self) -> bool {
        self.control.settings().conformance == Conformance::Google
    }

    /// The one moment at which everything in this change happens.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The committed state beneath the staged writes.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Adds a remark to the operation.
    pub fn warn(&mut self, code: &'static str, message: impl Into<String>) {
        self.warnings.push(Warning { code, message: message.into() });
    }

    /// Refuses in `google` conformance, warns otherwise.
    pub fn refuse_or_warn(&mut self, error: Error) -> Result<(), Error> {
        if self.strict() {
            return Err(error);
        }
        self.warn("SCHEMA_VALIDATION_IGNORED", error.to_string());
        Ok(())
    }

    pub(crate) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    // --- documents by key -------------------------------------------------------------------------------------

    /// The document at a key, as this change leaves it so far.
    pub fn get(&self, key: &str) -> Option<Arc<Value>> {
        match self.staged.get(key) {
            Some(staged) => staged.clone(),
            None => self.view.get(key).map(|kv| kv.value.clone()),
        }
    }

    pub fn exists(&self, key: &str) -> bool {
        match self.staged.get(key) {
            Some(staged) => staged.is_some(),
            None => self.view.get(key).is_some(),
        }
    }

    /// Every document under a prefix, in the order of keys.
    pub fn range(&self, prefix: &str) -> Vec<(String, Arc<Value>)> {
        let mut found: BTreeMap<String, Arc<Value>> = self
            .view
            .range(prefix)
            .filter(|kv| !self.staged.contains_key(&*kv.key))
            .map(|kv| (kv.key.to_string(), kv.value.clone()))
            .collect();
        for (key, value) in self.staged_under(prefix) {
            if let Some(value) = value {
                found.insert(key.clone(), value.clone());
            }
        }
        found.into_iter().collect()
    }

    /// Stages a document and the references it makes.
    pub fn put(&mut self, key: &str, value: Value) {
        let value = Arc::new(value);
        self.relink(key, Some(&value));
        self.staged.insert(key.to_owned(), Some(value));
    }

    /// Stages a deletion and forgets the references the document made.
    pub fn delete(&mut self, key: &str) {
        self.relink(key, None);
        self.staged.insert(key.to_owned(), None);
    }

    /// Forgets everything that was staged.
    pub(crate) fn reset(&mut self) {
        self.staged.clear();
        self.warnings.clear();
    }

    // --- references -------------------------------------------------------------------------------------------

    /// Keys of the documents that refer to the one at `key`, in order.
    pub fn users(&self, key: &str) -> Vec<String> {
        let prefix = uses_prefix(key);
        let mut users: BTreeSet<String> = BTreeSet::new();
        for kv in self.view.range(&prefix) {
            if !self.staged.contains_key(&*kv.key) {
                users.insert(kv.key[prefix.len()..].to_owned());
            }
        }
        for (key, value) in self.staged_under(&prefix) {
            if value.is_some() {
                users.insert(key[prefix.len()..].to_owned());
            }
        }
        users.into_iter().collect()
    }

    fn relink(&mut self, user: &str, new: Option<&Value>) {
        let old = self.get(user).map(|old| references(user, &old)).unwrap_or_default();
        let new = new.map(|new| references(user, new)).unwrap_or_default();
        for target in old.difference(&new) {
            self.staged.insert(uses_key(target, user), None);
        }
        for target in new.difference(&old) {
            self.staged.insert(uses_key(target, user), Some(Arc::new(Value::Bool(true))));
        }
    }

    // --- compute resources ------------------------------------------------------------------------------------

    /// A compute resource, as this change leaves it so far.
    pub fn find(&self, name: &ResourceName) -> Option<Arc<Value>> {
        self.get(&name.key())
    }

    /// A compute resource that must be there.
    pub fn expect(&self, name: &ResourceName) -> Result<Arc<Value>, Error> {
        self.find(name).ok_or_else(|| Error::not_found(name))
    }

    /// All resources of one collection in one scope.
    pub fn list(&self, parent: &ResourceName) -> Vec<(ResourceName, Arc<Value>)> {
        let named = |(key, value): (String, Arc<Value>)| Some((ResourceName::from_key(&key)?, value));
        self.range(&parent.parent_key()).into_iter().filter_map(named).collect()
    }

    /// The compute resources that refer to this one.
    pub fn users_of(&self, name: &ResourceName) -> Vec<ResourceName> {
        self.users(&name.key()).iter().filter_map(|key| ResourceName::from_key(key)).collect()
    }

    /// The compute resources of one collection that refer to this one, with their documents.
    pub fn users_in(&self, name: &ResourceName, collection: &str) -> Vec<(ResourceName, Arc<Value>)> {
        let users = self.users_of(name).into_iter().filter(|user| user.collection == collection);
        users.filter_map(|user| self.find(&user).map(|doc| (user, doc))).collect()
    }

    /// Reads a reference from a field of `doc` (the resource `of`), checks that its resource exists and writes the
    /// canonical link back. A bare name is taken in `of`'s project, in `scope` and the first of `collections`.
    /// `None` where the field is absent.
    pub fn resolve(
        &self,
        of: &ResourceName,
        doc: &mut Document,
        field: &str,
        scope: &vestibule_model::Scope,
        collections: &[&str],
    ) -> Result<Option<ResourceName>, Error> {
        let Some(reference) = document::text(doc, field) else { return Ok(None) };
        let name = self.reference(of, &format!("resource.{field}"), reference, scope, collections)?;
        doc.insert(field.to_owned(), Value::String(name.self_link()));
        Ok(Some(name))
    }

    /// Parses a reference found at `path` (`resource.` and the JSON path) and checks that its resource exists.
    pub fn reference(
        &self,
        of: &ResourceName,
        path: &str,
        reference: &str,
        scope: &vestibule_model::Scope,
        collections: &[&str],
    ) -> Result<ResourceName, Error> {
        let first = collections.first().copied().unwrap_or_default();
        let mut name = ResourceName::parse_with(reference, &of.project, scope, first)
            .and_then(|name| name.expect_collection(collections))
            .map_err(|error| Error::invalid(path, reference, error.to_string()))?;
        // A project may be named by its number.
        name.project = project::resolve(&name.project, [of.project.as_str()]).to_owned();
        self.expect(&name)?;
        Ok(name)
    }

    // --- the end ----------------------------------------------------------------------------------------------

    /// Checks that no reference dangles after this change: every new target exists, every deleted one is unused.
    pub(crate) fn verify(&self) -> Result<(), Error> {
        for (key, value) in &self.staged {
            match (key.strip_prefix(USES), value) {
                (Some(link), Some(_)) => {
                    let target = link.split_once("//").map_or(link, |(target, _)| target);
                    if !self.exists(target) {
                        return Err(Error::not_found(readable(target)));
                    }
                }
                (None, None) => {
                    if let Some(user) = self.users(key).first() {
                        return Err(Error::in_use(crate::type_word(key), readable(key), readable(user)));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The transaction: every staged write, guarded by what it was based on.
    pub(crate) fn into_txn(self) -> Txn {
        let mut txn = Txn::default();
        for (key, value) in self.staged {
            let before = self.view.get(&key).map(|kv| kv.modified);
            if value.is_none() && before.is_none() {
                continue;
            }
            txn.compares.push(match before {
                Some(modified) => Compare::ModifiedAt(key.clone(), modified),
                None => Compare::Absent(key.clone()),
            });
            txn.ops.push(match value {
                Some(value) => Op::Put(key, Arc::unwrap_or_clone(value)),
                None => Op::Delete(key),
            });
        }
        txn
    }

    fn staged_under<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Option<Arc<Value>>)> {
        self.staged.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
    }
}

const USES: &str = "uses/";

fn uses_prefix(target: &str) -> String {
    format!("{USES}{target}//")
}

fn uses_key(target: &str, user: &str) -> String {
    format!("{USES}{target}//{user}")
}

/// Keys of the documents that refer to the one at `key`, in a committed state.
pub fn users(view: &View, key: &str) -> Vec<String> {
    let prefix = uses_prefix(key);
    view.range(&prefix).map(|kv| kv.key[prefix.len()..].to_owned()).collect()
}

/// A key as error texts name it: without the service in front.
fn readable(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, name)| name)
}
