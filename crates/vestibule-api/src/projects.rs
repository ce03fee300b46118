//! Project numbers in requests.
//!
//! Cloud Run answers with the project's number as namespace, and gcloud goes on asking with what it was answered. A
//! number follows from an id by a hash, so the way back is a table of the ids that were seen: in requests since the
//! start, and in the store. Handlers only ever see ids.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use vestibule_model::project::{is_number, project_number};
use vestibule_model::route::Params;
use vestibule_store::View;

/// Names that Google's templates give to the path segment with the project.
pub(crate) const PARAMETERS: &[&str] = &["project", "projectsId", "namespacesId", "projectId"];

/// Project ids by number.
#[derive(Default)]
pub(crate) struct Projects {
    seen: RwLock<HashMap<u64, String>>,
}

impl Projects {
    /// Replaces a number in the project's place by the id it belongs to. A number that is nobody's stays.
    pub(crate) fn canonicalise(&self, params: &mut Params, view: impl FnOnce() -> View) {
        let Some((name, project)) = PARAMETERS.iter().find_map(|name| Some((*name, params.get(name)?)))
        else {
            return;
        };
        if !is_number(project) {
            return self.remember(project);
        }
        let Some(id) = self.find(project, view) else { return };
        let number = project.to_owned();
        let joined: Vec<(&'static str, String)> = params
            .iter()
            .filter_map(|(name, value)| {
                let (head, rest) = value.split_once('/')?;
                let tail =
                    rest.strip_prefix(&number).filter(|tail| tail.is_empty() || tail.starts_with('/'))?;
                Some((name, format!("{head}/{id}{tail}")))
            })
            .collect();
        joined.into_iter().for_each(|(name, value)| params.set(name, value));
        params.set(name, id);
    }

    /// The id of a project named by id or number. A number that is nobody's stays.
    pub(crate) fn id_of(&self, project: &str, view: impl FnOnce() -> View) -> String {
        let found = if is_number(project) { self.find(project, view) } else { None };
        found.unwrap_or_else(|| project.to_owned())
    }

    fn remember(&self, project: &str) {
        let number = project_number(project);
        let known = |seen: &HashMap<u64, String>| seen.contains_key(&number);
        if !known(&self.seen.read().unwrap_or_else(PoisonError::into_inner)) {
            self.seen
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(number)
                .or_insert_with(|| project.to_owned());
        }
    }

    fn find(&self, number: &str, view: impl FnOnce() -> View) -> Option<String> {
        let number = number.parse().ok()?;
        let get = || self.seen.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
        if let Some(id) = get() {
            return Some(id);
        }
        for kv in view().range("") {
            let mut parts = kv.key.split('/');
            if let Some(id) = parts.by_ref().find(|part| *part == "projects").and_then(|_| parts.next())
                && !is_number(id)
            {
                self.remember(id);
            }
        }
        get()
    }

    /// Every project id in use, in order.
    pub(crate) fn all(&self, view: impl FnOnce() -> View) -> Vec<String> {
        let _ = self.find("0", view);
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<String> = seen.values().cloned().collect();
        ids.sort_unstable();
        ids
    }
}
