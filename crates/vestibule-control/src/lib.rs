//! What a change means: one file a resource (validate, default, refer, delete), and the reconcilers that turn state
//! into desired snapshots. Knows no HTTP.
//!
//! [`Control::change`] is the one way to change anything: it serialises, checks references and commits. Google's
//! compute resources share an engine on top of it ([`compute`]); other services build their own changes.
#![forbid(unsafe_code)]

mod change;
pub mod compute;
mod control;
pub mod dns;
pub mod document;
mod error;
pub mod iam;
pub mod lb;
pub mod located;
mod mask;
mod planes;
pub mod run;
pub mod secrets;
mod settings;
pub mod vpc;

pub use change::{Change, Warning, users};
pub use control::{ANSWER_WITHIN, Control};
pub use document::Document;
pub use error::Error;
pub use planes::{Plane, Planes};
pub use settings::{Conformance, Settings};

use std::collections::BTreeSet;

use serde_json::Value;

/// Keys of all documents that the document at `key` refers to: the one place that knows which document of which
/// service refers to which others. A service that is not listed refers to nothing.
fn references(key: &str, value: &Value) -> BTreeSet<String> {
    match key.split_once('/') {
        Some(("compute", _)) => compute::references(key, document::object(value)),
        Some(("dns", _)) => dns::references(key, document::object(value)),
        Some(("certificatemanager" | "networksecurity", _)) => {
            located::references(key, document::object(value))
        }
        _ => BTreeSet::new(),
    }
}

/// The word for a document's type in the text of a refused deletion, e.g. `url_map`.
fn type_word(key: &str) -> &'static str {
    match key.split_once('/') {
        Some(("compute", _)) => compute::type_word(key),
        Some(("dns", _)) => dns::type_word(key),
        _ => "resource",
    }
}
