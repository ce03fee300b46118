//! Google's compute resources.
//!
//! Every collection is a [`Kind`]: a table of facts ([`Info`]) and a few hooks that know what the resource means. The
//! engine ([`Compute`]) does what is the same for all of them: names, server fields, `requestId`, fingerprints,
//! labels, merge patches, references, operations, waiting for the data planes.
//!
//! # Adding a resource: a checklist
//!
//! 1. **A file** `compute/<resources>.rs` with a unit struct that implements [`Kind`]; [`networks`] is the example.
//!    Add it to [`KINDS`] below, and its module.
//! 2. **[`Info`]**: collection, scopes, the snake-case word of "… resource '…' is already being used by '…'", the
//!    kind words, which members only the server writes (`output_only`: whatever the client sends there is ignored),
//!    how fingerprints are treated, whether it has labels, which methods exist besides insert, get, list and delete.
//! 3. **`insert`**: check what the client sent, in the order of Google's errors (required, format, range, then
//!    references); fill in defaults with [`document::default`]; canonicalise references with [`Change::resolve`],
//!    which answers 404 for a missing one. `doc` has its server fields (`id`, `kind`, `name`, `selfLink`,
//!    `creationTimestamp`, `region` or `zone`) already and no `null` members. Keep the rest as it was sent: what the
//!    client did not send must not appear unless Google fills it in, and `{}`, `0` and `false` that it did send stay.
//!    What a new resource brings with it (the subnetworks of an auto mode network) is staged by **`inserted`**.
//! 4. **`update`**: PUT and PATCH both end here, with the old document and the new one (PATCH already merged, server
//!    and output-only members already carried over). Refuse what may not change, then validate as `insert` does: put
//!    what both share into one function.
//! 5. **`delete`**: only for rules beyond "nothing refers to it", which is checked for every deletion.
//! 6. **`act`** for verbs that change (`setTarget`): list it in [`Info::actions`] with its operation type, return the
//!    new document. **`ask`** for verbs that only answer (`getHealth`): list it in [`Info::questions`].
//! 7. **`references`**: links to every other compute resource the document names. From it follow existence checks,
//!    in-use refusals, [`Change::users_of`], and `usedBy`-like members. It must be a pure function of the document.
//! 8. **`present`** for members that are derived when read (`users[]`, `subnetworks[]`): never store those.
//! 9. **Warnings and conformance**: [`Change::refuse_or_warn`] for what Google refuses and we could serve,
//!    [`Change::warn`] for what is accepted and has no effect. What Google tells by a failed operation instead of a
//!    failed call (a network in use, a subnetwork that is full) is named in **`fails_late`**.
//! 10. **Side effects on other documents** (a twin, a secret): [`Change::put`], [`Change::create`],
//!     [`Change::delete`]. Everything staged is one transaction. Never read the store past the change: it would not
//!     see what the change has staged.
//! 11. **Tests** in the same file: a table of (body, error text) for validation, defaults on read, in-use both ways.
//! 12. **The API**: methods of listed verbs are routed by table; nothing to do there unless a verb is new.

pub mod addresses;
pub mod backend_services;
pub mod default_network;
mod engine;
mod facts;
mod firewalls;
pub mod forwarding_rules;
mod health_checks;
mod kind;
mod labels;
mod names;
pub mod network_endpoint_groups;
pub mod networks;
mod operations;
mod places;
pub mod ranges;
mod read;
mod requests;
mod routes;
pub mod ssl_certificates;
pub mod ssl_policies;
pub mod subnetworks;
pub mod target_proxies;
pub mod url_maps;
mod vms;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use engine::{Call, Compute};
pub use kind::{Action, Fingerprint, Info, Kind, Methods, ScopeKind, Verb, linked};
pub(crate) use labels::check as check_labels;
pub use names::check_scope;
pub use operations::{KEEP_FOR, KEEP_NEWEST, OperationLog, WAIT_LIMIT};
pub use vms::{VmAddress, Vms, instance_name, zone};

use std::collections::BTreeSet;

use vestibule_model::{ResourceName, Scope};

use crate::Document;

/// Every kind of compute resource. The order means nothing.
static KINDS: &[&dyn Kind] = &[
    &addresses::Addresses,
    &backend_services::BackendServices,
    &firewalls::Firewalls,
    &forwarding_rules::ForwardingRules,
    &health_checks::HealthChecks,
    &network_endpoint_groups::ZONAL,
    &network_endpoint_groups::REGIONAL,
    &networks::Networks,
    &routes::Routes,
    &ssl_certificates::SslCertificates,
    &ssl_policies::SslPolicies,
    &subnetworks::Subnetworks,
    &target_proxies::TargetHttpProxies,
    &target_proxies::TargetHttpsProxies,
    &url_maps::UrlMaps,
];

/// The kind of a collection in a scope.
pub fn kind_of(collection: &str, scope: &Scope) -> Option<&'static dyn Kind> {
    KINDS.iter().copied().find(|kind| {
        let info = kind.info();
        info.collection == collection && info.scopes.contains(&ScopeKind::of(scope))
    })
}

/// All kinds, for tables that are built from them.
pub fn kinds() -> impl Iterator<Item = &'static dyn Kind> {
    KINDS.iter().copied()
}

/// Keys of all resources that a compute document refers to.
pub(crate) fn references(key: &str, doc: &Document) -> BTreeSet<String> {
    let Some(name) = ResourceName::from_key(key) else { return BTreeSet::new() };
    let Some(kind) = kind_of(&name.collection, &name.scope) else { return BTreeSet::new() };
    let mut keys: BTreeSet<String> = kind.references(&name, doc).iter().map(ResourceName::key).collect();
    // The one reference to another API's resource.
    keys.extend(target_proxies::server_tls_policy(&name, doc).map(|policy| policy.key()));
    keys
}

/// The word for a resource's type in the text of a refused deletion.
pub(crate) fn type_word(key: &str) -> &'static str {
    ResourceName::from_key(key)
        .and_then(|name| kind_of(&name.collection, &name.scope))
        .map_or("resource", |kind| kind.info().word)
}
