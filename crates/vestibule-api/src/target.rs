//! What a request is aimed at, before it is routed.
//!
//! Clients reach one API by several spellings: an absolute-form target when they go through a proxy setting, a host or
//! a path prefix that carries the region for Cloud Run, `beta` and `alpha` versions of compute, and compute paths
//! without their service path. All of them become the canonical path here; routing knows only that one.

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, Request, Uri};
use vestibule_model::name::is_valid_name;
use vestibule_model::region;

/// A request's target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The canonical path, still percent-encoded.
    pub(crate) path: String,
    /// The region that host or path prefix name.
    pub(crate) region: Option<String>,
    /// `http://` and the authority that the client called.
    pub(crate) base_url: String,
}

/// Undoes `X-HTTP-Method-Override`: Google's Python client sends a GET whose URL would be longer than 2,048 bytes as a
/// POST with the query for a body.
pub(crate) fn overridden(request: Request<Bytes>) -> Request<Bytes> {
    let verb = request.headers().get("x-http-method-override");
    let Some(verb) = verb.and_then(|verb| Method::from_bytes(verb.as_bytes()).ok()) else { return request };
    if request.method() != Method::POST {
        return request;
    }
    let (mut head, mut body) = request.into_parts();
    let form = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes().to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded")
    });
    if form {
        let query = String::from_utf8_lossy(&body);
        if let Ok(uri) = format!("{}?{query}", head.uri.path()).parse() {
            head.uri = uri;
            body = Bytes::new();
        }
    }
    head.method = verb;
    Request::from_parts(head, body)
}

/// Reads the target of a request.
pub(crate) fn read(uri: &Uri, headers: &HeaderMap) -> Target {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = uri.authority().map(|authority| authority.as_str()).or(host).unwrap_or("localhost");
    let (path_region, path) = strip_region(uri.path());
    Target {
        path: canonical(path),
        region: path_region.or_else(|| host_region(authority)),
        base_url: format!("http://{authority}"),
    }
}

/// `/run/us-central1/apis/…`: what Terraform's `cloud_run_custom_endpoint` with `{{location}}` in it makes.
fn strip_region(path: &str) -> (Option<String>, &str) {
    let stripped = path.strip_prefix("/run/").and_then(|rest| {
        let slash = rest.find('/')?;
        let (region, rest) = rest.split_at(slash);
        let is_api = ["/apis/", "/v1/", "/v2/"].iter().any(|api| rest.starts_with(api));
        (is_api && is_valid_name(region)).then(|| (Some(region.to_owned()), rest))
    });
    stripped.unwrap_or((None, path))
}

/// `us-central1-run.googleapis.com`, `us-central1-127.0.0.1:8470`. Only regions of Google's, for a host of one's own
/// may well have a hyphen.
fn host_region(authority: &str) -> Option<String> {
    let fits = |region: &&region::Region| {
        authority.strip_prefix(region.name).is_some_and(|rest| rest.starts_with('-'))
    };
    region::REGIONS.iter().find(fits).map(|region| region.name.to_owned())
}

fn canonical(path: &str) -> String {
    for (alias, canonical) in [
        ("/compute/beta/", "/compute/v1/"),
        ("/compute/alpha/", "/compute/v1/"),
        ("/dns/v1beta2/", "/dns/v1/"),
        ("/dns/v2/", "/dns/v1/"),
        // Terraform's endpoint without its service path. DNS has no such alias: compute was first.
        ("/projects/", "/compute/v1/projects/"),
    ] {
        if let Some(rest) = path.strip_prefix(alias) {
            return format!("{canonical}{rest}");
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str, host: &str) -> Target {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        read(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn ordinary_targets_stay() {
        let target = target("/compute/v1/projects/p/global/networks?alt=json", "127.0.0.1:8470");
        assert_eq!(target.path, "/compute/v1/projects/p/global/networks");
        assert_eq!(target.region, None);
        assert_eq!(target.base_url, "http://127.0.0.1:8470");
    }

    #[test]
    fn the_region_of_cloud_run() {
        let knative = "/apis/serving.knative.dev/v1/namespaces/p/services";
        for (uri, host) in [
            (knative.to_owned(), "us-central1-run.googleapis.com"),
            (knative.to_owned(), "us-central1-127.0.0.1:8470"),
            (format!("/run/us-central1{knative}"), "127.0.0.1:8470"),
            (format!("http://us-central1-127.0.0.1:8470{knative}"), "127.0.0.1:8470"),
        ] {
            let target = target(&uri, host);
            assert_eq!(target.region.as_deref(), Some("us-central1"), "{uri} {host}");
            assert_eq!(target.path, knative);
        }
        assert_eq!(target("/run/us-central1/other", "h").path, "/run/us-central1/other");
        assert_eq!(target("/v1/projects", "my-host").region, None);
    }

    #[test]
    fn other_spellings_of_compute() {
        let network = "/compute/v1/projects/p/global/networks/n";
        assert_eq!(target("/compute/beta/projects/p/global/networks/n", "h").path, network);
        assert_eq!(target("/projects/p/global/networks/n", "h").path, network);
    }
}
