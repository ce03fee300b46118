//! Networks that DNS documents are bound to: those that see a zone, and those that a policy applies to.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vestibule_model::{ResourceName, Scope, project};

use super::{invalid, required};
use crate::{Change, Document, Error, document};

/// Links to the networks in a list of them, as they stand in it.
pub(super) fn links(doc: &Document) -> impl Iterator<Item = &str> {
    document::items(doc, "networks").iter().filter_map(|network| network["networkUrl"].as_str())
}

/// The networks of a document in canonical form.
pub(super) fn names(doc: &Document) -> Vec<ResourceName> {
    links(doc).filter_map(|link| ResourceName::parse(link).ok()).collect()
}

/// Brings a list of networks into its canonical form. Each must exist, and stand there once. `place` is the list's path,
/// `kind` what an entry says that it is.
pub(super) fn canonical(
    change: &Change<'_>,
    of: &str,
    networks: &mut [Value],
    place: &str,
    kind: &str,
) -> Result<(), Error> {
    let mut distinct = BTreeSet::new();
    for (index, network) in networks.iter_mut().enumerate() {
        let path = format!("{place}[{index}].networkUrl");
        let link = network["networkUrl"].as_str().ok_or_else(|| required(&path))?;
        let link = resolved(change, of, &path, link)?;
        if !distinct.insert(link.clone()) {
            return Err(invalid(place, "duplicate network"));
        }
        *network = json!({ "kind": kind, "networkUrl": link });
    }
    Ok(())
}

/// The canonical link to a network that must exist. Its project may be named by its number.
pub(super) fn resolved(change: &Change<'_>, of: &str, path: &str, link: &str) -> Result<String, Error> {
    let parsed = ResourceName::parse_with(link, of, &Scope::Global, "networks");
    let mut name =
        parsed.and_then(|name| name.expect_collection(&["networks"])).map_err(|_| invalid(path, link))?;
    name.project = project::resolve(&name.project, [of]).to_owned();
    if change.find(&name).is_none() {
        return Err(invalid(path, link));
    }
    Ok(name.self_link())
}

/// Checks that no network is bound to another document like this one. `own` is this one's key, `is_like` knows the
/// others by theirs.
pub(super) fn check_alone(
    change: &Change<'_>,
    doc: &Document,
    own: &str,
    is_like: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    for link in links(doc) {
        let Ok(network) = ResourceName::parse(link) else { continue };
        if change.users(&network.key()).iter().any(|user| user != own && is_like(user)) {
            return Err(Error::Named {
                reason: "invalid",
                message: format!(
                    "Network '{link}' cannot be bound to this policy because it is already bound to another policy."
                ),
            });
        }
    }
    Ok(())
}
