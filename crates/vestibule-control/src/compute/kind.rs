//! What the engine must know of a kind of resource.

use std::borrow::Cow;

use serde_json::Value;
use vestibule_model::{ResourceName, Scope};
use vestibule_store::View;

use super::Call;
use super::vms::Vms;
use crate::{Change, Document, Error};

/// The three scopes, without their location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeKind {
    Global,
    Region,
    Zone,
}

impl ScopeKind {
    pub fn of(scope: &Scope) -> ScopeKind {
        match scope {
            Scope::Global => ScopeKind::Global,
            Scope::Region(_) => ScopeKind::Region,
            Scope::Zone(_) => ScopeKind::Zone,
        }
    }
}

/// How a kind treats fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fingerprint {
    /// Its documents have none.
    None,
    /// Its documents have one; a change that sends it must send the current one.
    Checked,
    /// As `Checked`, and update and patch must send it.
    Required,
}

/// Which of the optional methods exist. Insert, get, list and delete always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Methods {
    pub update: bool,
    pub patch: bool,
}

impl Methods {
    pub const NONE: Methods = Methods { update: false, patch: false };
    pub const PATCH: Methods = Methods { update: false, patch: true };
    pub const BOTH: Methods = Methods { update: true, patch: true };
}

/// A custom verb that changes the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The last segment of the path, e.g. `setTarget`.
    pub verb: &'static str,
    /// The operation's `operationType`, e.g. `SetTarget`.
    pub operation_type: &'static str,
}

/// The facts of a kind.
#[derive(Debug)]
pub struct Info {
    /// As in paths: `urlMaps`.
    pub collection: &'static str,
    pub scopes: &'static [ScopeKind],
    /// The type in the text of a refused deletion: `url_map`.
    pub word: &'static str,
    /// `kind` of a document: `compute#urlMap`.
    pub kind: &'static str,
    /// `kind` of a list: `compute#urlMapList`.
    pub list_kind: &'static str,
    /// `kind` of an aggregated list; `None` where there is no such method: `compute#urlMapsAggregatedList`.
    pub aggregated_kind: Option<&'static str>,
    pub fingerprint: Fingerprint,
    /// It has `labels` and `labelFingerprint`; `setLabels` exists.
    pub labels: bool,
    pub methods: Methods,
    /// Verbs that change the resource, besides `setLabels`.
    pub actions: &'static [Action],
    /// Verbs that only answer.
    pub questions: &'static [&'static str],
    /// Members, besides those every kind has, that only the server writes.
    pub output_only: &'static [&'static str],
}

impl Info {
    /// `operationType` as most kinds have it.
    pub fn operation_type(&self, verb: Verb<'_>) -> Cow<'static, str> {
        match verb {
            Verb::Insert => "insert".into(),
            Verb::Update => "update".into(),
            Verb::Patch => "patch".into(),
            Verb::Delete => "delete".into(),
            Verb::Act(verb) => match self.actions.iter().find(|action| action.verb == verb) {
                Some(action) => action.operation_type.into(),
                None => verb.to_owned().into(),
            },
        }
    }
}

/// What is being done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb<'a> {
    Insert,
    Update,
    Patch,
    Delete,
    /// A verb of [`Info::actions`], or `setLabels`.
    Act(&'a str),
}

/// A kind of compute resource. See the [checklist](super) for how the hooks are meant.
pub trait Kind: Send + Sync {
    fn info(&self) -> &'static Info;

    /// Validates, fills in defaults, resolves references.
    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error>;

    /// Stages what the new resource brings with it. Runs after the resource itself was staged, so that what it brings
    /// may refer to it.
    fn inserted(&self, _change: &mut Change<'_>, _name: &ResourceName, _doc: &Document) -> Result<(), Error> {
        Ok(())
    }

    /// Validates a replaced or patched document. `call` has the query parameters.
    fn update(
        &self,
        _change: &mut Change<'_>,
        _call: &Call,
        _name: &ResourceName,
        _old: &Document,
        _new: &mut Document,
    ) -> Result<(), Error> {
        Err(Error::not_implemented(format!("compute.{}.update", self.info().collection)))
    }

    /// What a deletion needs beyond that nothing refers to the resource.
    fn delete(&self, _change: &mut Change<'_>, _name: &ResourceName, _doc: &Document) -> Result<(), Error> {
        Ok(())
    }

    /// Carries out one of [`Info::actions`] and returns the changed document.
    fn act(
        &self,
        _change: &mut Change<'_>,
        _call: &Call,
        _name: &ResourceName,
        verb: &str,
        _body: &Document,
        _doc: Document,
    ) -> Result<Document, Error> {
        Err(Error::not_implemented(format!("compute.{}.{verb}", self.info().collection)))
    }

    /// Answers one of [`Info::questions`]. The resource need not exist: `doc` is `None` then.
    fn ask(
        &self,
        _change: &mut Change<'_>,
        _call: &Call,
        _name: &ResourceName,
        verb: &str,
        _body: &Document,
        _doc: Option<&Document>,
    ) -> Result<Value, Error> {
        Err(Error::not_implemented(format!("compute.{}.{verb}", self.info().collection)))
    }

    /// Every compute resource that the document refers to.
    fn references(&self, _name: &ResourceName, _doc: &Document) -> Vec<ResourceName> {
        Vec::new()
    }

    /// Adds members that are derived when the document is read, from other documents or from clients that are there.
    fn present(&self, _vms: &Vms, _view: &View, _name: &ResourceName, _doc: &mut Document) {}

    /// Resources of a project that follow from others and are never stored. They are read with the stored ones, and
    /// cannot be changed.
    fn derived(&self, _view: &View, _project: &str) -> Vec<(ResourceName, Document)> {
        Vec::new()
    }

    /// Whether Google reports this refusal on the operation rather than on the call.
    fn fails_late(&self, _verb: Verb<'_>, _error: &Error) -> bool {
        false
    }

    /// `operationType` of the operation.
    fn operation_type(&self, verb: Verb<'_>) -> Cow<'static, str> {
        self.info().operation_type(verb)
    }
}

/// The resource that a link in a document names. For links that [`Change::resolve`] wrote; anything else is none.
pub fn linked(doc: &Document, field: &str) -> Option<ResourceName> {
    ResourceName::parse(crate::document::text(doc, field)?).ok()
}
