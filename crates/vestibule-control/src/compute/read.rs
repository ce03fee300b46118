//! Reading compute resources.

use serde_json::Value;
use vestibule_model::{ResourceName, Scope};
use vestibule_store::{KeyValue, View};

use super::vms::Vms;
use super::{Compute, Kind, kind_of};
use crate::{Control, Document, Error, document};

impl Compute<'_> {
    /// One resource, as clients read it.
    pub fn get(&self, name: &ResourceName) -> Result<Value, Error> {
        let view = self.control.view();
        let kind = kind_of(&name.collection, &name.scope).ok_or_else(|| Error::not_found(name))?;
        match view.get(&name.key()) {
            Some(stored) => Ok(present(kind, self.control.vms(), &view, name, stored)),
            None => derived(kind, &view, name).map(Value::Object).ok_or_else(|| Error::not_found(name)),
        }
    }

    /// All resources of a collection in one scope, in the order of their names.
    pub fn list(&self, project: &str, scope: &Scope, collection: &str) -> Vec<Value> {
        list(self.control, &self.control.view(), project, scope, collection)
    }

    /// All resources of a collection in every scope of a project, in the order of scopes and names. Scopes without
    /// any are left out.
    pub fn aggregated(&self, project: &str, collection: &str) -> Vec<(Scope, Vec<Value>)> {
        let view = self.control.view();
        let scopes = scopes(&view, project);
        let listed = scopes.into_iter().map(|scope| {
            let found = list(self.control, &view, project, &scope, collection);
            (scope, found)
        });
        listed.filter(|(_, found)| !found.is_empty()).collect()
    }

    /// All operations of a project by scope. Scopes without any are left out.
    pub fn aggregated_operations(&self, project: &str) -> Vec<(Scope, Vec<Value>)> {
        let scopes = scopes(&self.control.view(), project);
        let listed = scopes.into_iter().map(|scope| {
            let found = self.operations(project, &scope);
            (scope, found)
        });
        listed.filter(|(_, found)| !found.is_empty()).collect()
    }
}

fn list(control: &Control, view: &View, project: &str, scope: &Scope, collection: &str) -> Vec<Value> {
    let Some(kind) = kind_of(collection, scope) else { return Vec::new() };
    let parent = ResourceName::new(project, scope.clone(), collection, "").parent_key();
    let named = |kv: &KeyValue| {
        let name = kv.key.rsplit('/').next().unwrap_or_default();
        let name = ResourceName::new(project, scope.clone(), collection, name);
        present(kind, control.vms(), view, &name, kv)
    };
    let mut found: Vec<Value> = view.range(&parent).map(named).collect();
    let more = kind.derived(view, project).into_iter().filter(|(name, _)| name.scope == *scope);
    let stored = found.len();
    found.extend(more.map(|(_, doc)| Value::Object(doc)));
    if found.len() > stored {
        found.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
    }
    found
}

/// The resource of this name, if it follows from others.
pub fn derived(kind: &dyn Kind, view: &View, name: &ResourceName) -> Option<Document> {
    kind.derived(view, &name.project).into_iter().find(|(known, _)| known == name).map(|(_, doc)| doc)
}

/// Every scope of a project that holds anything.
fn scopes(view: &View, project: &str) -> Vec<Scope> {
    let mut found = vec![Scope::Global];
    for (group, make) in [("regions", Scope::Region as fn(String) -> Scope), ("zones", Scope::Zone)] {
        let prefix = format!("compute/projects/{project}/{group}/");
        let mut last = String::new();
        for kv in view.range(&prefix) {
            let location = kv.key[prefix.len()..].split('/').next().unwrap_or_default();
            if location != last {
                last = location.to_owned();
                found.push(make(last.clone()));
            }
        }
    }
    found
}

fn present(kind: &dyn Kind, vms: &Vms, view: &View, name: &ResourceName, stored: &KeyValue) -> Value {
    let mut doc = document::object(&stored.value).clone();
    kind.present(vms, view, name, &mut doc);
    Value::Object(doc)
}
