//! Answers that the load balancer makes itself. Statuses and bodies are Envoy's, of which Google's regional internal
//! load balancer is a managed kind; what Cloud Run's front refuses is relayed as it gives it.

use std::borrow::Cow;
use std::time::SystemTime;

use vestibule_http1::{Error, Kind, encode};
use vestibule_run::front::Refusal;
use vestibule_urlmap::{HeaderLevels, Variables};

use crate::clock::Dates;
use crate::grpc;
use crate::headers::{self, List};
use crate::metrics::Count;
use crate::record::ProxyStatus;

const TEXT: &str = "text/plain";

/// An answer to one request.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Cow<'a, [u8]>,
    pub(crate) fields: Vec<(&'static str, Cow<'a, [u8]>)>,
    /// For the log.
    pub(crate) proxy: Option<ProxyStatus>,
    /// What a client of gRPC is told, where that is not what the HTTP status comes to.
    pub(crate) grpc_status: Option<u8>,
}

impl<'a> Answer<'a> {
    pub(crate) fn empty(status: u16) -> Answer<'a> {
        let (body, fields) = (Cow::Borrowed(&b""[..]), Vec::new());
        Answer { status, content_type: None, body, fields, proxy: None, grpc_status: None }
    }

    pub(crate) fn text(status: u16, body: &'static str) -> Answer<'a> {
        Answer { content_type: Some(TEXT), body: Cow::Borrowed(body.as_bytes()), ..Answer::empty(status) }
    }

    pub(crate) fn because(self, error: &'static str, details: &'static str) -> Answer<'a> {
        Answer { proxy: Some(ProxyStatus { error, details }), ..self }
    }

    /// For a request that cannot be read.
    pub(crate) fn malformed(error: Error) -> Answer<'a> {
        let status = error.status();
        let answer = match (error.kind, status) {
            (Kind::MissingHost, _) => Answer::empty(status),
            (_, 400) => Answer::text(status, "Bad Request"),
            _ => Answer::text(status, encode::reason(status)),
        };
        answer.because("http_request_error", "")
    }

    /// For a request that did not come in time.
    pub(crate) fn late() -> Answer<'a> {
        Answer::text(408, "request timeout").because("http_request_error", "client_timed_out")
    }

    /// For a target that no route can match (`*`, or that of a `CONNECT`).
    pub(crate) fn no_route() -> Answer<'a> {
        Answer::empty(404).because("destination_not_found", "route_not_found")
    }

    /// For a target that says `https` on a connection that is not encrypted.
    pub(crate) fn wrong_scheme() -> Answer<'a> {
        Answer::empty(403).because("http_request_error", "")
    }

    /// For a host that another certificate covers.
    pub(crate) fn misdirected() -> Answer<'a> {
        Answer::text(421, "Misdirected Request").because("http_request_error", "")
    }

    /// For a backend service without a usable backend.
    pub(crate) fn no_backend() -> Answer<'a> {
        Answer::text(503, "no healthy upstream").because("destination_unavailable", "failed_to_pick_backend")
    }

    /// For a request more than may be under way (Envoy's answer under overload).
    pub(crate) fn overloaded(limit: Count) -> Answer<'a> {
        let details = match limit {
            Count::MemoryLimit => "request_memory_limit_reached",
            _ => "request_limit_reached",
        };
        Answer::text(503, "overloaded").because("connection_limit_reached", details)
    }

    /// For a request over a limit of its backend service's circuit breakers.
    pub(crate) fn overflow() -> Answer<'a> {
        let body = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
        Answer::text(503, body).because("connection_limit_reached", "")
    }

    /// For a response that did not come in time.
    pub(crate) fn timeout() -> Answer<'a> {
        Answer::text(504, "upstream request timeout").because("http_response_timeout", "backend_timeout")
    }

    /// For a call of gRPC that took longer than its client waits. Envoy gives such calls, and no others, this status.
    pub(crate) fn deadline() -> Answer<'a> {
        let answer = Answer::text(408, "downstream duration timeout");
        let answer = answer.because("http_response_timeout", "backend_timeout");
        Answer { grpc_status: Some(grpc::DEADLINE_EXCEEDED), ..answer }
    }

    /// For a response in which nothing moves any more.
    pub(crate) fn stream_timeout() -> Answer<'a> {
        Answer::text(504, "stream timeout").because("http_response_timeout", "backend_timeout")
    }

    /// For a backend to which no connection could be made.
    pub(crate) fn refused() -> Answer<'a> {
        let body = "upstream connect error or disconnect/reset before headers. reset reason: remote connection \
                    failure, transport failure reason: delayed connect error: Connection refused";
        Answer::text(503, body).because("connection_refused", "failed_to_connect_to_backend")
    }

    /// For a backend to which no connection was made in time.
    pub(crate) fn connect_timeout() -> Answer<'a> {
        let body =
            "upstream connect error or disconnect/reset before headers. reset reason: connection timeout";
        Answer::text(503, body).because("connection_timeout", "failed_to_connect_to_backend")
    }

    /// For a backend with which there is no TLS.
    pub(crate) fn no_tls() -> Answer<'a> {
        let body = "upstream connect error or disconnect/reset before headers. reset reason: remote connection \
                    failure, transport failure reason: TLS_error";
        Answer::text(503, body).because("tls_protocol_error", "failed_to_connect_to_backend")
    }

    /// For a backend that reset the request's stream before it answered.
    pub(crate) fn reset() -> Answer<'a> {
        let body = "upstream connect error or disconnect/reset before headers. reset reason: remote reset";
        Answer::text(503, body).because("connection_terminated", "backend_connection_closed")
    }

    /// For a backend that ended its connection before it answered.
    pub(crate) fn terminated() -> Answer<'a> {
        let body =
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
        Answer::text(503, body).because("connection_terminated", "backend_connection_closed")
    }

    /// For a backend whose response cannot be read.
    pub(crate) fn protocol_error() -> Answer<'a> {
        let body = "upstream connect error or disconnect/reset before headers. reset reason: protocol error";
        Answer::text(502, body).because("http_protocol_error", "")
    }

    /// For an injected fault.
    pub(crate) fn fault(status: u16) -> Answer<'a> {
        Answer::text(status, "fault filter abort").because("http_request_error", "fault_filter_abort")
    }

    /// Sends the client elsewhere.
    pub(crate) fn redirect(status: u16, location: Vec<u8>) -> Answer<'a> {
        let mut answer = Answer::empty(status);
        answer.fields.push(("location", location.into()));
        answer
    }

    /// What Cloud Run's front answers.
    pub(crate) fn refusal(refusal: &'a Refusal) -> Answer<'a> {
        let mut answer = Answer::empty(refusal.status);
        answer.content_type = Some(refusal.content_type);
        answer.body = refusal.body.as_bytes().into();
        answer
            .fields
            .extend(refusal.www_authenticate.map(|value| ("www-authenticate", value.as_bytes().into())));
        // To the load balancer, Cloud Run's front is part of the backend.
        let proxy = ProxyStatus { error: "", details: "response_sent_by_backend" };
        answer.proxy = (refusal.status >= 500).then_some(proxy);
        answer
    }

    /// Writes the answer; `bodiless` for the answer to a `HEAD`.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        dates: &Dates,
        edits: Option<(&HeaderLevels<'_>, &dyn Variables)>,
        Shape { bodiless, close }: Shape,
    ) {
        encode::status_line(out, self.status, b"");
        let mut list = List::default();
        for (name, value) in &self.fields {
            vestibule_urlmap::HeaderMap::append(&mut list, name, value);
        }
        if let Some(content_type) = self.content_type {
            vestibule_urlmap::HeaderMap::append(&mut list, "content-type", content_type.as_bytes());
        }
        if let Some((levels, variables)) = edits {
            levels.apply_response(&mut list, variables);
        }
        list.write(out);
        let bodiless = bodiless || matches!(self.status, 204 | 304);
        if !matches!(self.status, 204 | 304) {
            encode::content_length(out, self.body.len() as u64);
        }
        if !list.contains("date") {
            dates.field(out, SystemTime::now());
        }
        headers::via(out);
        match (self.status, close) {
            // RFC 9110 section 15.5.22: it says to what.
            (426, _) => out.extend_from_slice(b"upgrade: HTTP/1.1\r\nconnection: upgrade, close\r\n"),
            (_, true) => out.extend_from_slice(b"connection: close\r\n"),
            (_, false) => {}
        }
        encode::end_of_head(out);
        if !bodiless {
            out.extend_from_slice(&self.body);
        }
    }
}

/// How an answer is to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// It answers a `HEAD`: the length is told and the body left out.
    pub(crate) bodiless: bool,
    /// The connection ends after it.
    pub(crate) close: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use vestibule_http1::Side;

    fn written(answer: &Answer<'_>, shape: Shape) -> String {
        let mut out = Vec::new();
        answer.write(&mut out, &Dates::default(), None, shape);
        let text = String::from_utf8(out).unwrap();
        let (before, after) = text.split_once("date: ").unwrap();
        format!("{before}{}", after.split_once("\r\n").unwrap().1)
    }

    #[test]
    fn answers_are_whole_messages() {
        let keep = Shape { bodiless: false, close: false };
        assert_eq!(
            written(&Answer::no_backend(), keep),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 19\r\n\
             via: 1.1 google\r\n\r\nno healthy upstream"
        );
        assert_eq!(
            written(&Answer::redirect(302, b"https://a/".to_vec()), Shape { bodiless: true, close: true }),
            "HTTP/1.1 302 Found\r\nlocation: https://a/\r\ncontent-length: 0\r\nvia: 1.1 google\r\n\
             connection: close\r\n\r\n"
        );
    }

    #[test]
    fn malformed_requests_are_told_as_envoy_tells_them() {
        let answer = |kind| {
            let answer = Answer::malformed(Error { side: Side::Client, kind });
            (answer.status, String::from_utf8(answer.body.into_owned()).unwrap())
        };
        assert_eq!(answer(Kind::BareLineFeed), (400, "Bad Request".to_owned()));
        assert_eq!(answer(Kind::MissingHost), (400, String::new()));
        assert_eq!(answer(Kind::OldVersion), (426, "Upgrade Required".to_owned()));
        assert_eq!(answer(Kind::TooManyFields), (431, "Request Header Fields Too Large".to_owned()));
    }
}
