//! The head of a response as it goes to the client.

use std::time::SystemTime;

use vestibule_http1::{Field, Framing, Name, Response, encode};
use vestibule_urlmap::{ForwardDecision, HeaderMap, Variables};

use crate::clock::Dates;
use crate::headers::{self, List};
use crate::turn::RequestVariables;

const SET_COOKIE: &[u8] = b"set-cookie";
const CACHE_CONTROL: &[u8] = b"cache-control";
/// Directives of `Cache-Control` that keep a response out of shared caches (RFC 9111 section 5.2.2).
const UNSHARED: [&[u8]; 3] = [b"private", b"no-store", b"no-cache"];

/// What of a response does not come from its fields.
pub(crate) struct Shape<'a> {
    pub(crate) framing: Framing,
    /// The connection ends after it.
    pub(crate) close: bool,
    /// A load balancer passes it on.
    pub(crate) via: bool,
    /// A cookie that the client is to have.
    pub(crate) cookie: Option<&'a str>,
    /// No cache that others share may keep it, whatever its backend says.
    pub(crate) private: bool,
}

/// Appends the head.
pub(crate) fn write(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    shape: &Shape<'_>,
    dates: &Dates,
    decision: Option<&ForwardDecision<'_>>,
    variables: &RequestVariables<'_>,
) {
    encode::status_line(out, response.status(), response.reason());
    let buffer = response.buffer();
    let keep = |field: &Field| {
        let replaced = shape.private && is_named(field, buffer, CACHE_CONTROL);
        !field.is_hop_by_hop() && field.id != Name::ContentLength && !replaced
    };
    let has_date = match decision.filter(|decision| is_edited(decision)) {
        None => {
            headers::copy(out, response.buffer(), response.fields(), keep);
            response.first(Name::Date).is_some()
        }
        Some(decision) => {
            let mut list = List::of(response.buffer(), response.fields(), keep);
            edit(&mut list, decision, variables);
            list.write(out);
            list.contains("date")
        }
    };
    if !has_date {
        // RFC 9110 section 6.6.1.
        dates.field(out, SystemTime::now());
    }
    if shape.via {
        headers::via(out);
    }
    if let Some(cookie) = shape.cookie {
        out.extend_from_slice(b"set-cookie: ");
        out.extend_from_slice(cookie.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if shape.private {
        out.extend_from_slice(b"cache-control: private\r\n");
    }
    write_framing(out, response, shape.framing);
    if shape.close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    encode::end_of_head(out);
}

/// Whether a response sets a cookie and yet a cache could give it to others: Cloud Run makes such a response private.
/// `cookie`: it will set one.
pub(crate) fn is_shared_by_mistake(response: &Response<'_>, cookie: bool) -> bool {
    let buffer = response.buffer();
    let fields = || response.fields().iter();
    if !cookie && !fields().any(|field| is_named(field, buffer, SET_COOKIE)) {
        return false;
    }
    let directives = fields().filter(|field| is_named(field, buffer, CACHE_CONTROL));
    let mut directives = directives.flat_map(|field| field.value.of(buffer).split(|byte| *byte == b','));
    !directives.any(|directive| {
        let directive = directive.trim_ascii();
        UNSHARED.iter().any(|unshared| directive.eq_ignore_ascii_case(unshared))
    })
}

fn is_named(field: &Field, buffer: &[u8], name: &[u8]) -> bool {
    field.name.of(buffer).eq_ignore_ascii_case(name)
}

fn is_edited(decision: &ForwardDecision<'_>) -> bool {
    !decision.headers.is_empty() || decision.action.cors().is_some()
}

/// CORS first: header actions see what it added.
fn edit(list: &mut List<'_>, decision: &ForwardDecision<'_>, variables: &RequestVariables<'_>) {
    if let Some(policy) = decision.action.cors() {
        let origin = variables.request.first(Name::Origin);
        policy.response_headers(origin).for_each(|(name, value)| list.set(name, value));
    }
    decision.headers.apply_response(list, variables as &dyn Variables);
}

fn write_framing(out: &mut Vec<u8>, response: &Response<'_>, framing: Framing) {
    match framing {
        Framing::Length(length) => encode::content_length(out, length),
        Framing::Chunked | Framing::UntilClose => encode::chunked(out),
        // RFC 9110 section 8.6: a 204 has none; a 304 and the answer to a HEAD tell that of the body left out.
        Framing::Empty if response.status() == 204 => {}
        Framing::Empty => {
            if let Some(length) = response.content_length() {
                encode::content_length(out, length);
            }
        }
    }
}

/// The backend agreed to a WebSocket.
pub(crate) fn is_upgrade(response: &Response<'_>) -> bool {
    let protocol = response.first(Name::Upgrade);
    response.connection().upgrade
        && protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// Appends the head of the 101 that ends HTTP on a connection.
pub(crate) fn write_switch(out: &mut Vec<u8>, response: &Response<'_>, via: bool) {
    encode::status_line(out, 101, response.reason());
    headers::copy(out, response.buffer(), response.fields(), |field| {
        !field.is_hop_by_hop() && field.id != Name::ContentLength
    });
    if via {
        headers::via(out);
    }
    out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    encode::end_of_head(out);
}
