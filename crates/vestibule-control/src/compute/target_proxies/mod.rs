//! Regional target proxies: which URL map serves, and with which certificates.

mod http;
mod https;
#[cfg(test)]
mod tests;

pub use http::TargetHttpProxies;
pub use https::{TargetHttpsProxies, certificates, server_tls_policy};

use vestibule_model::ResourceName;

use super::kind::Action;
use crate::{Change, Document, Error, document};

/// Allowed `httpKeepAliveTimeoutSec`, in seconds.
const KEEP_ALIVE: std::ops::RangeInclusive<i64> = 5..=1200;

const SET_URL_MAP: Action = Action { verb: "setUrlMap", operation_type: "setUrlMap" };

/// What both kinds of proxies check.
fn validate(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    document::within(doc, "resource", "httpKeepAliveTimeoutSec", KEEP_ALIVE)?;
    document::not_built(doc, "compute.regionTargetProxies", &["proxyBind", "httpFilters"])?;
    set_url_map(change, name, doc)
}

/// Resolves `urlMap`, which must be in the proxy's region.
fn set_url_map(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    let map = change.resolve(name, doc, "urlMap", &name.scope, &["urlMaps"])?;
    let map = map.ok_or_else(|| Error::required("resource.urlMap"))?;
    if map.project == name.project && map.scope == name.scope {
        return Ok(());
    }
    let why = "The URL map must be in the project and region of the target proxy.";
    Err(Error::invalid("resource.urlMap", map.self_link(), why))
}

/// `setUrlMap` of both.
fn act_set_url_map(
    change: &Change<'_>,
    name: &ResourceName,
    body: &Document,
    mut doc: Document,
) -> Result<Document, Error> {
    let map = document::text(body, "urlMap").ok_or_else(|| Error::required("resource.urlMap"))?;
    doc.insert("urlMap".into(), map.into());
    set_url_map(change, name, &mut doc)?;
    Ok(doc)
}
