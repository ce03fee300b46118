//! The HTTP front of Google's APIs: routes, tokens, error envelopes, paging, and one module a Google service.
//!
//! All services share one port. A request is routed by the method table that is generated from Google's discovery
//! documents, its query and body are checked against the published schemas, and then one *handler* answers it. What
//! has no handler answers 501 and names the method; what is no method at all answers 404.
//!
//! # Adding a method
//!
//! 1. In the service's module write `fn(&Ctx<'_>, Call) -> Result<Reply, Error>`. It runs on a thread that may block.
//!    `call.param("…")` are path parameters (`project`, `region`, or `projectsId` and the like, and joined ones such as
//!    `name` = `projects/p/locations/l`), `call.query("…")` query parameters, `call.document()` the body. They have
//!    been checked against the schema: unknown fields, wrong types and unknown enum values never get here.
//!    Project numbers have been replaced by project ids.
//! 2. Name it in that module's `register`: `methods.add("run.namespaces.services.create", create)`. A handler that
//!    blocks until something happens is added with [`Methods::add_waiting`] and blocks for at most [`Ctx::patience`].
//! 3. Return `Ok(value.into())` for 200 with a JSON object, [`Reply::empty`] for `{}`, or an [`Error`]: the envelope,
//!    the status and the reason word are decided in [`envelope`] alone.
//! 4. Take the method off `tests/not_implemented.txt`, by hand or by running this crate's tests once with
//!    `VESTIBULE_SHRINK_LISTS=1`; that list only shrinks.
//!
//! Paths outside of Google's method table (the token endpoint, the metadata server, our own admin API) are registered
//! with [`Registry::path`] and [`Registry::prefix`], and their handlers see the whole HTTP request.
//!
//! A handler that needs something of the wiring finds it in [`Ctx::deps`]; add a field to [`ApiDeps`], to
//! `testing.rs`, and to the binary where it is made.
#![forbid(unsafe_code)]

mod admin;
mod answer;
mod batch;
mod call;
mod compute;
mod decode;
mod dns;
pub mod envelope;
mod fields;
mod held;
pub mod host;
mod iam;
mod iamcredentials;
pub mod list;
mod located;
mod logging;
mod metadata;
mod metadata_server;
mod oauth;
mod policies;
mod projects;
mod registry;
mod resourcemanager;
mod run_policies;
mod run_v1;
mod run_v2;
mod secretmanager;
mod server;
mod serviceusage;
mod target;

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod nonsense;
#[cfg(test)]
mod run_job_tests;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod testing;
mod turnstile;

pub use answer::Api;
pub use call::{Call, Ctx, Reply};
pub use metadata_server::{Who, serve_metadata};
pub use registry::{Handler, Methods, PathHandler, Registry};
pub use turnstile::Turnstile;
pub use vestibule_control::Error;

use vestibule_control::Control;
use vestibule_iam::Issuer;
use vestibule_logs::LogStore;

/// What handlers work with.
pub struct ApiDeps {
    pub control: Control,
    /// Mints tokens and recognises its own.
    pub issuer: Issuer,
    /// The process around the API.
    pub host: std::sync::Arc<dyn host::Host>,
    /// The entries of all logs.
    pub logs: LogStore,
}

/// Every service's handlers. One line a module, in the order of this crate's files.
pub(crate) fn register(registry: &mut Registry) {
    admin::register(registry);
    batch::register(registry);
    compute::register(registry);
    dns::register(registry);
    iam::register(registry);
    iamcredentials::register(registry);
    located::register(registry);
    logging::register(registry);
    metadata::register(registry);
    oauth::register(registry);
    policies::register(registry);
    resourcemanager::register(registry);
    run_v1::register(registry);
    run_v2::register(registry);
    secretmanager::register(registry);
    serviceusage::register(registry);
}
