//! What a caller gets who is not let in, and what the log says about it.
//!
//! Everything that Cloud Run's front answers by itself is made here and nowhere else: status, body, header, and the
//! text for the request's log entry. A body never tells more than Cloud Run's would. The service that does not exist
//! and the service that may not be entered from here look alike; which it was stands in the log.

use std::sync::Arc;

use crate::desired::Service;

const HTML: &str = "text/html; charset=UTF-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Answered with every 401: the token could not be verified.
const INVALID_TOKEN: &str =
    "Bearer error=\"invalid_token\" error_description=\"The access token could not be verified\"";
/// Said when no instance took the request in time, whatever the status.
const NO_INSTANCE: &str = "The request was aborted because there was no available instance.";

/// Which check turned a request away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No such service, no such host, or its default URL is switched off.
    UnknownService,
    /// The service has no traffic entry with that tag.
    UnknownTag,
    /// The service's ingress setting does not let callers from there in.
    Ingress,
    /// The service asks for an identity and the request shows none.
    NoToken,
    /// The request shows something that is no valid identity token for the service.
    BadToken,
    /// The caller is known and may not invoke the service.
    NotAllowed,
    /// No revision of the service can serve.
    NoRevision,
    /// Every instance was busy, and no more may be started.
    Saturated,
    /// Instances did not start fast enough.
    TooSlow,
    /// Instances do not start at all.
    StartFailed,
    /// The request's own time ran out.
    Timeout,
    /// The instance closed the connection, or what it answered was no HTTP.
    InstanceFailed,
    /// The instance used more memory than it may, and was ended.
    OutOfMemory,
    /// The request's body is larger than a service that speaks HTTP/1 may be sent.
    RequestTooLarge,
    /// The response's body is larger than a service that speaks HTTP/1 may answer at once.
    ResponseTooLarge,
    /// The runtime is ending.
    ShuttingDown,
}

/// Why a request does not get in, or got no instance. Carries the answer for the client and the line for the log.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub cause: Cause,
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// `WWW-Authenticate`, on 401.
    pub www_authenticate: Option<&'static str>,
    /// Text for the request's log entry.
    pub log: String,
    /// The service that was found before the request was refused.
    pub service: Option<Arc<Service>>,
}

impl Refusal {
    fn new(cause: Cause, status: u16, (content_type, body): (&'static str, String), log: String) -> Self {
        Self { cause, status, content_type, body, www_authenticate: None, log, service: None }
    }

    /// Names the service, for the log entry.
    pub(crate) fn of(self, service: &Arc<Service>) -> Self {
        Self { service: Some(service.clone()), ..self }
    }

    pub(crate) fn unknown_service(what: &str) -> Self {
        Self::new(Cause::UnknownService, 404, not_found(), format!("There is no {what}."))
    }

    pub(crate) fn unknown_tag(tag: &str) -> Self {
        Self::new(
            Cause::UnknownTag,
            404,
            not_found(),
            format!("The service has no traffic target with the tag {tag:?}."),
        )
    }

    pub(crate) fn ingress(setting: &str) -> Self {
        let log =
            format!("The request was blocked because the ingress setting of the service is {setting:?}.");
        Self::new(Cause::Ingress, 404, not_found(), log)
    }

    pub(crate) fn no_token(path: &str) -> Self {
        let log = "The request was not authenticated. Either allow unauthenticated invocations or set the proper \
                   Authorization header. Read more at https://cloud.google.com/run/docs/securing/authenticating";
        Self::new(Cause::NoToken, 403, forbidden(path), log.to_owned())
    }

    pub(crate) fn bad_token(path: &str, why: &str) -> Self {
        let log = format!(
            "The request was not authorized to invoke this service. The access token could not be verified. ({why})"
        );
        let refusal = Self::new(Cause::BadToken, 401, unauthorized(path), log);
        Self { www_authenticate: Some(INVALID_TOKEN), ..refusal }
    }

    pub(crate) fn not_allowed(path: &str, principal: &str) -> Self {
        let log = format!(
            "The request was not authorized to invoke this service. The permission run.routes.invoke is missing for \
             {principal}. Read more at https://cloud.google.com/run/docs/securing/authenticating"
        );
        Self::new(Cause::NotAllowed, 403, forbidden(path), log)
    }

    pub(crate) fn no_revision() -> Self {
        let log = "The service has no revision that can serve traffic.";
        Self::new(Cause::NoRevision, 503, unavailable(), log.to_owned())
    }

    pub(crate) fn saturated() -> Self {
        Self::new(Cause::Saturated, 429, (TEXT, "Rate exceeded.".to_owned()), NO_INSTANCE.to_owned())
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(Cause::TooSlow, 500, server_error(), NO_INSTANCE.to_owned())
    }

    pub(crate) fn start_failed(why: &str) -> Self {
        Self::new(Cause::StartFailed, 503, unavailable(), format!("{NO_INSTANCE} {why}"))
    }

    /// The request's own time ran out, while it waited or while the instance worked on it.
    pub fn timeout() -> Self {
        let log = "The request has been terminated because it has reached the maximum request timeout. To change \
                   this limit, see https://cloud.google.com/run/docs/configuring/request-timeout";
        Self::new(Cause::Timeout, 504, (TEXT, "upstream request timeout".to_owned()), log.to_owned())
    }

    /// The instance ended, closed the connection, or answered with what is no HTTP, before anything of its answer could
    /// be passed on.
    pub fn instance_failed() -> Self {
        let log = "The request failed because either the HTTP response was malformed or connection to the instance had \
                   an error.";
        Self::new(Cause::InstanceFailed, 503, unavailable(), log.to_owned())
    }

    /// The request's body is too large for a service that speaks HTTP/1.
    pub fn request_too_large() -> Self {
        let log = "The request was aborted because its body is larger than 32 MiB, the most that a service may be sent \
                   over HTTP/1. See https://cloud.google.com/run/quotas#request_limits";
        Self::new(Cause::RequestTooLarge, 413, too_large(), log.to_owned())
    }

    /// The response's body is too large for a service that speaks HTTP/1 and does not stream it.
    pub fn response_too_large() -> Self {
        let log = "Response size was too large. Please consider reducing response size.";
        Self::new(Cause::ResponseTooLarge, 500, server_error(), log.to_owned())
    }

    /// `said`: what the instance's own log says about it.
    pub(crate) fn out_of_memory(said: &str) -> Self {
        Self::new(Cause::OutOfMemory, 500, server_error(), said.to_owned())
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new(Cause::ShuttingDown, 503, unavailable(), "The runtime is shutting down.".to_owned())
    }
}

fn forbidden(path: &str) -> (&'static str, String) {
    let said = format!(
        "Your client does not have permission to get URL <code>{}</code> from this server.",
        Escaped(path)
    );
    page("403 Forbidden", "Forbidden", &said)
}

fn unauthorized(path: &str) -> (&'static str, String) {
    let said =
        format!("Your client does not have permission to the requested URL <code>{}</code>.", Escaped(path));
    page("401 Unauthorized", "Unauthorized", &said)
}

fn not_found() -> (&'static str, String) {
    page("404 Page not found", "Page not found", "The requested URL was not found on this server.")
}

fn unavailable() -> (&'static str, String) {
    page(
        "503 Service Unavailable",
        "Service Unavailable",
        "The service is not available. Please try again later.",
    )
}

fn too_large() -> (&'static str, String) {
    let said = "Your client issued a request that was too large.";
    page("413 Request Entity Too Large", "Request Entity Too Large", said)
}

fn server_error() -> (&'static str, String) {
    let said = "The server encountered an error and could not complete your request.<p>Please try again in 30 seconds.";
    page("500 Server Error", "Server Error", said)
}

/// The page in which Google's front tells an error.
fn page(title: &str, error: &str, said: &str) -> (&'static str, String) {
    let body = format!(
        "<html><head>\n\
         <meta http-equiv=\"content-type\" content=\"text/html;charset=utf-8\">\n\
         <title>{title}</title>\n\
         </head>\n\
         <body text=#000000 bgcolor=#ffffff>\n\
         <h1>Error: {error}</h1>\n\
         <h2>{said}</h2>\n\
         <h2></h2>\n\
         </body></html>\n"
    );
    (HTML, body)
}

/// Text that a client sent, made harmless inside HTML.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        for character in self.0.chars() {
            match character {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                other => out.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_is_the_page_that_cloud_run_shows() {
        let refusal = Refusal::no_token("/a?b=1&c=<x>");
        assert_eq!(refusal.status, 403);
        assert_eq!(refusal.content_type, "text/html; charset=UTF-8");
        assert_eq!(
            refusal.body,
            r#"<html><head>
<meta http-equiv="content-type" content="text/html;charset=utf-8">
<title>403 Forbidden</title>
</head>
<body text=#000000 bgcolor=#ffffff>
<h1>Error: Forbidden</h1>
<h2>Your client does not have permission to get URL <code>/a?b=1&amp;c=&lt;x&gt;</code> from this server.</h2>
<h2></h2>
</body></html>
"#
        );
        assert_eq!(refusal.www_authenticate, None);
    }

    #[test]
    fn a_bad_token_is_told_apart_from_a_missing_role() {
        let refusal = Refusal::bad_token("/x", "expired");
        assert_eq!(refusal.status, 401);
        assert!(refusal.body.contains("<title>401 Unauthorized</title>"));
        assert!(refusal.body.contains("<h1>Error: Unauthorized</h1>"));
        assert!(refusal.body.contains("permission to the requested URL <code>/x</code>.</h2>"));
        assert!(
            refusal.www_authenticate.is_some_and(|value| value.starts_with("Bearer error=\"invalid_token\""))
        );
        assert!(!refusal.body.contains("expired"), "the reason is for the log alone");
        assert_eq!(Refusal::not_allowed("/x", "user:a@b").body, Refusal::no_token("/x").body);
    }

    #[test]
    fn what_is_not_there_and_what_is_closed_look_alike() {
        let unknown = Refusal::unknown_service("service \"secret\"");
        let ingress = Refusal::ingress("internal");
        let tag = Refusal::unknown_tag("blue");
        assert_eq!(unknown.status, 404);
        assert_eq!(unknown.body, ingress.body);
        assert_eq!(unknown.body, tag.body);
        assert!(!unknown.body.contains("secret"));
    }
}
