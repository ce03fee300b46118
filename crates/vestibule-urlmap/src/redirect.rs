//! Redirects: where a client is sent instead.

use vestibule_model::compute;

use crate::field::{CompileError, Field};
use crate::rewrite::{Matched, check_host, check_path, replace_prefix};

/// A compiled `urlRedirect`.
#[derive(Debug)]
pub struct Redirect {
    https: bool,
    host: Option<Box<str>>,
    path: PathRedirect,
    strip_query: bool,
    status: u16,
}

#[derive(Debug)]
enum PathRedirect {
    Keep,
    Whole(Box<str>),
    /// Replaces the matched portion.
    Prefix(Box<str>),
}

/// The URL that a client asked for.
#[derive(Debug, Clone, Copy)]
pub struct AskedUrl<'r> {
    /// The connection is encrypted.
    pub https: bool,
    pub host: &'r [u8],
    /// Normalised, without query.
    pub path: &'r [u8],
    pub query: Option<&'r [u8]>,
}

impl Redirect {
    pub(crate) fn compile(
        doc: &compute::HttpRedirectAction,
        at: &Field<'_>,
    ) -> Result<Redirect, CompileError> {
        let https = doc.https_redirect.unwrap_or(false);
        let strip_query = doc.strip_query.unwrap_or(false);
        let host = doc.host_redirect.as_deref();
        if let Some(host) = host {
            check_host(host).map_err(|why| at.member("hostRedirect").invalid(host, why))?;
        }
        let path = path(doc, at)?;
        if !https && !strip_query && host.is_none() && matches!(path, PathRedirect::Keep) {
            let why = "At least one of httpsRedirect, hostRedirect, pathRedirect, prefixRedirect and stripQuery must be set.";
            return Err(at.invalid("", why));
        }
        Ok(Redirect { https, host: host.map(Into::into), path, strip_query, status: status(doc, at)? })
    }

    /// 301 unless the rule says otherwise.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Writes the `Location` of the answer: always an absolute URL.
    pub fn location(&self, asked: AskedUrl<'_>, matched: Matched<'_>, out: &mut Vec<u8>) {
        let https = asked.https || self.https;
        out.extend_from_slice(if https { b"https://" } else { b"http://" });
        match &self.host {
            Some(host) => out.extend_from_slice(host.as_bytes()),
            // Changing the scheme drops the old scheme's default port; any other port stays.
            None if https != asked.https => {
                out.extend_from_slice(asked.host.strip_suffix(b":80").unwrap_or(asked.host))
            }
            None => out.extend_from_slice(asked.host),
        }
        let path_start = out.len();
        match &self.path {
            PathRedirect::Keep => out.extend_from_slice(asked.path),
            PathRedirect::Whole(path) => out.extend_from_slice(path.as_bytes()),
            PathRedirect::Prefix(prefix) => replace_prefix(prefix, asked.path, matched.length, out),
        }
        let has_query = out[path_start..].contains(&b'?');
        if let Some(query) = asked.query.filter(|_| !self.strip_query && !has_query) {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }
}

fn path(doc: &compute::HttpRedirectAction, at: &Field<'_>) -> Result<PathRedirect, CompileError> {
    let (path, prefix) = (doc.path_redirect.as_deref(), doc.prefix_redirect.as_deref());
    match (path, prefix) {
        (None, None) => Ok(PathRedirect::Keep),
        (Some(path), None) => {
            check_path(path).map_err(|why| at.member("pathRedirect").invalid(path, why))?;
            Ok(PathRedirect::Whole(path.into()))
        }
        (None, Some(prefix)) => {
            check_path(prefix).map_err(|why| at.member("prefixRedirect").invalid(prefix, why))?;
            Ok(PathRedirect::Prefix(prefix.into()))
        }
        (Some(_), Some(prefix)) => {
            let why = "pathRedirect and prefixRedirect cannot be set together.";
            Err(at.member("prefixRedirect").invalid(prefix, why))
        }
    }
}

fn status(doc: &compute::HttpRedirectAction, at: &Field<'_>) -> Result<u16, CompileError> {
    Ok(match doc.redirect_response_code.as_deref() {
        None | Some("MOVED_PERMANENTLY_DEFAULT") => 301,
        Some("FOUND") => 302,
        Some("SEE_OTHER") => 303,
        Some("TEMPORARY_REDIRECT") => 307,
        Some("PERMANENT_REDIRECT") => 308,
        Some(other) => {
            return Err(at
                .member("redirectResponseCode")
                .invalid(other, "Redirect response code is not supported."));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compile(json: serde_json::Value) -> Result<Redirect, CompileError> {
        Redirect::compile(&serde_json::from_value(json).expect("document"), &Field::ROOT)
    }

    fn location(json: serde_json::Value, url: &str, matched: usize) -> String {
        let (scheme, rest) = url.split_once("://").expect("scheme");
        let (host, target) = rest.split_at(rest.find('/').expect("path"));
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q.as_bytes())));
        let asked =
            AskedUrl { https: scheme == "https", host: host.as_bytes(), path: path.as_bytes(), query };
        let mut out = Vec::new();
        compile(json).expect("compiles").location(
            asked,
            Matched { length: matched, template: None },
            &mut out,
        );
        String::from_utf8(out).expect("text")
    }

    /// The API's rules, and what Envoy 1.40 was measured to answer.
    #[test]
    fn locations() {
        for (rule, url, matched, want) in [
            (json!({"httpsRedirect": true}), "http://h/x?q=1", 1, "https://h/x?q=1"),
            (json!({"httpsRedirect": true}), "http://h:80/x", 1, "https://h/x"),
            (json!({"httpsRedirect": true}), "http://h:8080/x", 1, "https://h:8080/x"),
            (json!({"httpsRedirect": true}), "http://h:443/x", 1, "https://h:443/x"),
            (json!({"prefixRedirect": "/new"}), "http://h/pfx/a?b", 4, "http://h/new/a?b"),
            (json!({"prefixRedirect": "/new"}), "http://h/x", 1, "http://h/newx"),
            (json!({"pathRedirect": "/to"}), "https://h/path?z=2", 5, "https://h/to?z=2"),
            (json!({"pathRedirect": "/to?x=1"}), "http://h/path?z=2", 5, "http://h/to?x=1"),
            (json!({"hostRedirect": "o", "stripQuery": true}), "http://h/x?y", 1, "http://o/x"),
            (json!({"hostRedirect": "o"}), "http://h:8080/x%20y?%20", 1, "http://o/x%20y?%20"),
        ] {
            assert_eq!(location(rule.clone(), url, matched), want, "{rule} {url}");
        }
    }

    #[test]
    fn statuses() {
        for (code, want) in [
            ("MOVED_PERMANENTLY_DEFAULT", 301),
            ("FOUND", 302),
            ("SEE_OTHER", 303),
            ("TEMPORARY_REDIRECT", 307),
            ("PERMANENT_REDIRECT", 308),
        ] {
            let redirect =
                compile(json!({"httpsRedirect": true, "redirectResponseCode": code})).expect("compiles");
            assert_eq!(redirect.status(), want);
        }
        assert_eq!(compile(json!({"httpsRedirect": true})).expect("compiles").status(), 301);
    }

    #[test]
    fn bad_redirects() {
        for bad in [
            json!({}),
            json!({"httpsRedirect": false, "stripQuery": false}),
            json!({"pathRedirect": "/a", "prefixRedirect": "/b"}),
            json!({"pathRedirect": "a"}),
            json!({"hostRedirect": ""}),
            json!({"httpsRedirect": true, "redirectResponseCode": "OK"}),
        ] {
            assert!(compile(bad.clone()).is_err(), "{bad}");
        }
    }
}
