//! Cross-origin policies, as Envoy carries them out.

use vestibule_model::compute;

use crate::field::{CompileError, Field};

/// A compiled `corsPolicy` that is not disabled.
#[derive(Debug)]
pub struct CorsPolicy {
    any_origin: bool,
    origins: Box<[Box<str>]>,
    credentials: bool,
    methods: Option<Box<str>>,
    headers: Option<Box<str>>,
    expose: Option<Box<str>>,
    max_age: Option<Box<str>>,
}

impl CorsPolicy {
    /// `None` for a policy that is disabled.
    pub(crate) fn compile(
        doc: &compute::CorsPolicy,
        at: &Field<'_>,
    ) -> Result<Option<CorsPolicy>, CompileError> {
        if let Some(pattern) = doc.allow_origin_regexes.first() {
            let why = "Regular expressions for origins are only supported by load balancing scheme INTERNAL_SELF_MANAGED.";
            return Err(at.item("allowOriginRegexes", 0).invalid(pattern, why));
        }
        for (member, list) in [
            ("allowOrigins", &doc.allow_origins),
            ("allowMethods", &doc.allow_methods),
            ("allowHeaders", &doc.allow_headers),
            ("exposeHeaders", &doc.expose_headers),
        ] {
            check_visible(list, member, at)?;
        }
        if let Some(seconds) = doc.max_age.filter(|seconds| *seconds < -1) {
            return Err(at.member("maxAge").invalid(seconds, "Must be -1 or greater."));
        }
        let policy = CorsPolicy {
            any_origin: doc.allow_origins.iter().any(|origin| origin == "*"),
            origins: doc.allow_origins.iter().map(|origin| origin.as_str().into()).collect(),
            credentials: doc.allow_credentials.unwrap_or(false),
            methods: joined(&doc.allow_methods),
            headers: joined(&doc.allow_headers),
            expose: joined(&doc.expose_headers),
            max_age: doc.max_age.map(|seconds| seconds.to_string().into()),
        };
        Ok((!doc.disabled.unwrap_or(false)).then_some(policy))
    }

    fn allows(&self, origin: &[u8]) -> bool {
        self.any_origin || self.origins.iter().any(|allowed| allowed.as_bytes() == origin)
    }

    /// The headers of the answer to a preflight request, which the load balancer gives itself with status 200 and no
    /// body. `None`: this is no preflight request, or its origin is not allowed; it goes to the backend.
    /// `requested` is `Access-Control-Request-Method`.
    pub fn preflight<'a>(
        &'a self,
        method: &[u8],
        origin: Option<&'a [u8]>,
        requested: Option<&[u8]>,
    ) -> Option<Vec<(&'static str, &'a [u8])>> {
        let origin =
            origin.filter(|origin| method == b"OPTIONS" && requested.is_some() && self.allows(origin))?;
        let mut answer = vec![("access-control-allow-origin", origin)];
        answer.extend(self.credentials.then_some(("access-control-allow-credentials", &b"true"[..])));
        let lists = [
            ("access-control-allow-methods", &self.methods),
            ("access-control-allow-headers", &self.headers),
            ("access-control-expose-headers", &self.expose),
            ("access-control-max-age", &self.max_age),
        ];
        answer.extend(lists.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?.as_bytes()))));
        Some(answer)
    }

    /// The headers that a backend's response gains, replacing its own of these names. Empty when the request has no
    /// origin, or one that is not allowed.
    pub fn response_headers<'a>(
        &'a self,
        origin: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'static str, &'a [u8])> + use<'a> {
        let origin = origin.filter(|origin| self.allows(origin));
        let rest = origin.is_some();
        let credentials =
            (rest && self.credentials).then_some(("access-control-allow-credentials", &b"true"[..]));
        let expose = self.expose.as_deref().filter(|_| rest);
        let expose = expose.map(|list| ("access-control-expose-headers", list.as_bytes()));
        origin
            .map(|origin| ("access-control-allow-origin", origin))
            .into_iter()
            .chain(credentials)
            .chain(expose)
    }
}

fn joined(list: &[String]) -> Option<Box<str>> {
    (!list.is_empty()).then(|| list.join(",").into())
}

/// What goes into a header must not hold controls.
fn check_visible(list: &[String], member: &str, at: &Field<'_>) -> Result<(), CompileError> {
    let bad = list
        .iter()
        .enumerate()
        .find(|(_, text)| text.is_empty() || text.bytes().any(|b| b.is_ascii_control()));
    match bad {
        Some((index, text)) => Err(at.item(member, index).invalid(text, "Must be a non-empty header value.")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(json: serde_json::Value) -> Option<CorsPolicy> {
        CorsPolicy::compile(&serde_json::from_value(json).expect("document"), &Field::ROOT).expect("compiles")
    }

    fn full() -> CorsPolicy {
        policy(json!({
            "allowOrigins": ["https://a.example"], "allowMethods": ["GET", "PUT"], "allowHeaders": ["x-a"],
            "exposeHeaders": ["x-b"], "maxAge": 60, "allowCredentials": true,
        }))
        .expect("enabled")
    }

    #[test]
    fn preflight_of_an_allowed_origin_is_answered() {
        let policy = full();
        let answer =
            policy.preflight(b"OPTIONS", Some(b"https://a.example"), Some(b"DELETE")).expect("answered");
        let want: Vec<(&str, &[u8])> = vec![
            ("access-control-allow-origin", b"https://a.example"),
            ("access-control-allow-credentials", b"true"),
            ("access-control-allow-methods", b"GET,PUT"),
            ("access-control-allow-headers", b"x-a"),
            ("access-control-expose-headers", b"x-b"),
            ("access-control-max-age", b"60"),
        ];
        assert_eq!(answer, want);
    }

    #[test]
    fn all_else_goes_to_the_backend() {
        let policy = full();
        assert!(policy.preflight(b"OPTIONS", Some(b"https://b.example"), Some(b"GET")).is_none());
        assert!(policy.preflight(b"OPTIONS", Some(b"https://a.example"), None).is_none());
        assert!(policy.preflight(b"OPTIONS", None, Some(b"GET")).is_none());
        assert!(policy.preflight(b"GET", Some(b"https://a.example"), Some(b"GET")).is_none());
    }

    #[test]
    fn responses_gain_headers_for_an_allowed_origin_only() {
        let policy = full();
        let names = |origin: Option<&'static [u8]>| {
            policy.response_headers(origin).map(|(n, _)| n).collect::<Vec<_>>()
        };
        assert_eq!(
            names(Some(b"https://a.example")),
            [
                "access-control-allow-origin",
                "access-control-allow-credentials",
                "access-control-expose-headers"
            ]
        );
        assert!(names(Some(b"https://b.example")).is_empty() && names(None).is_empty());
    }

    #[test]
    fn star_allows_every_origin_and_disabled_is_no_policy() {
        let star = policy(json!({"allowOrigins": ["*"]})).expect("enabled");
        assert_eq!(star.response_headers(Some(b"https://x")).count(), 1);
        assert!(policy(json!({"allowOrigins": ["*"], "disabled": true})).is_none());
    }

    #[test]
    fn bad_policies() {
        for bad in [
            json!({"allowOriginRegexes": [".*"]}),
            json!({"allowOrigins": ["a\r\nb"]}),
            json!({"maxAge": -2}),
        ] {
            let doc = serde_json::from_value(bad.clone()).expect("document");
            assert!(CorsPolicy::compile(&doc, &Field::ROOT).is_err(), "{bad}");
        }
    }
}
