//! One request on a connection, and what every step of serving it may need.

use std::borrow::Cow;
use std::task::Poll;

use vestibule_http1::{Form, Framing, Method, Name, Request, ResponseHead};
use vestibule_urlmap::normalize::{self, Rejected};
use vestibule_urlmap::{HeaderLevels, Headers, Variables};

use crate::accesslog::{self, Asked};
use crate::answer::{Answer, Shape};
use crate::buffers::Buffer;
use crate::client::Client;
use crate::client_identity;
use crate::grpc;
use crate::inbound::Inbound;
use crate::link::Parts;
use crate::peer::Peer;
use crate::record::{ProxyStatus, Record};
use crate::site::{Balancer, Slot};
use crate::timers::Timer;
use crate::worker::Worker;

/// One request while it is served.
pub(crate) struct Turn<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) client: Client<'a>,
    pub(crate) peer: &'a Peer,
    pub(crate) timer: &'a Timer,
    pub(crate) request: Request<'a>,
    /// The body, if it was read whole.
    pub(crate) held: &'a [u8],
    /// Bytes behind the request that came with it.
    pub(crate) leftover: &'a [u8],
    pub(crate) inbound: Inbound<'a>,
    pub(crate) record: Record,
    pub(crate) slot: &'a Slot,
    /// What is written to the client, and before that to the backend. Kept from request to request.
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) response: &'a mut ResponseHead,
}

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It waits for the next request.
    Again,
    /// It is closed, after what the client still sends was read for a while, so that it gets to see the answer.
    Close,
    /// It is closed between requests; the client is told, and soon forgotten.
    Leave,
    /// It is dropped where it stands: the client must not take what it got for the whole.
    Abort,
    /// The client speaks HTTP/2.
    Http2,
}

/// Where a request goes, as the client sent it and normalised.
pub(crate) struct Url<'a> {
    /// With port, if there was one.
    pub(crate) authority: &'a str,
    /// Normalised.
    pub(crate) path: Cow<'a, [u8]>,
    /// What follows `?`.
    pub(crate) query: Option<&'a [u8]>,
}

impl<'a> Url<'a> {
    /// `None`: the target has no path.
    pub(crate) fn of(request: &Request<'a>) -> Option<Result<Url<'a>, Rejected>> {
        if matches!(request.form(), Form::Asterisk | Form::Authority) {
            return None;
        }
        let target = request.path_and_query();
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        // An absolute target need not have a path.
        let path = if path.is_empty() { "/" } else { path };
        Some(normalize::path(path.as_bytes()).map(|path| Url {
            authority: request.authority(),
            path,
            query: query.map(str::as_bytes),
        }))
    }

    /// The authority without its port.
    pub(crate) fn host(&self) -> &'a str {
        host_of(self.authority)
    }
}

/// An authority without its port.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

impl Turn<'_> {
    /// The connection must not carry another request: the client says so, or we are leaving, or the client is told
    /// while it still sends.
    pub(crate) fn must_close(&self) -> bool {
        self.request.connection().close
            || self.worker.is_draining()
            || self.slot.is_removed()
            || !self.inbound.is_complete()
    }

    /// What the client sent behind a request that ends HTTP on its connection.
    pub(crate) fn take_early(&mut self) -> Option<Buffer> {
        if self.leftover.is_empty() {
            return self.inbound.take_behind();
        }
        let mut early = Buffer::large();
        early.push(self.leftover);
        Some(early)
    }

    /// The client left before it got anything.
    pub(crate) fn leave_unanswered(&mut self) {
        self.record.status = 0;
        let details = "client_disconnected_before_any_response";
        self.record.proxy = Some(ProxyStatus { error: "", details });
    }

    pub(crate) fn has_body(&self) -> bool {
        self.request.framing() != Framing::Empty
    }

    /// Answers the request without a backend. The response actions of `levels` apply to it.
    pub(crate) async fn answer(
        &mut self,
        answer: Answer<'_>,
        levels: Option<(&HeaderLevels<'_>, &dyn Variables)>,
    ) -> Next {
        let answer = if grpc::is_call(&self.request) { grpc::answer(answer) } else { answer };
        let close = self.must_close();
        let shape = Shape { bodiless: self.request.method() == Method::Head, close };
        self.record.status = answer.status;
        self.record.proxy = answer.proxy;
        self.out.clear();
        answer.write(self.out, &self.worker.dates, levels, shape);
        let mut parts = Parts::new([&self.out[..]]);
        let (client, timer, sent) = (self.client, self.timer, &mut self.record.response_size);
        timer.idle(self.worker.timeouts.stream_idle);
        let moved = |count: usize, sent: &mut u64| *sent += count as u64;
        let write =
            |cx: &mut std::task::Context<'_>| match client.poll_answer(cx, &mut parts, |n| moved(n, sent)) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(written) => Poll::Ready(written.is_ok()),
            };
        match self.inbound.during(None, write).await {
            Ok(true) if close => Next::Close,
            Ok(true) => Next::Again,
            Ok(false) | Err(_) => Next::Abort,
        }
    }

    /// Writes the request's log entries: the load balancer's, if its service wants this request logged, and that of
    /// the Cloud Run service it came to.
    pub(crate) fn log(&mut self, balancer: Option<(&Balancer, &str)>) {
        let wanted = balancer.filter(|(balancer, _)| self.is_sampled(balancer));
        if wanted.is_none() && self.record.run.is_none() {
            return;
        }
        self.write_url();
        let asked = Asked {
            method: self.request.method_text(),
            url: self.out,
            user_agent: self.request.first(Name::UserAgent),
            referer: self.request.first(Name::Referer),
            peer: self.peer,
        };
        self.worker.logs.write(|batch, clock| {
            if let Some((balancer, rule)) = wanted {
                let service = self.record.service.and_then(|index| balancer.service(index));
                let entry = accesslog::BalancerEntry {
                    prefix: balancer.log_prefix(self.record.service, self.record.group),
                    rule,
                    project_number: &balancer.listener.project_number,
                    optional: service.map(|service| service.log.optional).unwrap_or_default(),
                };
                batch.push_with(|out| accesslog::write_balancer(out, clock, &entry, &asked, &self.record));
            }
            batch.push_with(|out| accesslog::write_run(out, clock, &asked, &self.record));
        });
    }

    fn is_sampled(&self, balancer: &Balancer) -> bool {
        match self.record.service.and_then(|index| balancer.service(index)) {
            Some(service) => {
                service.log.enable
                    && (service.log.sample_rate >= 1.0 || fastrand::f64() < service.log.sample_rate)
            }
            // No backend was involved: worth an entry only when something failed and somebody looks.
            None => self.record.status >= 400 && balancer.logs_anything(),
        }
    }

    /// Leaves the URL that was asked for, as it was sent, in `out`.
    fn write_url(&mut self) {
        self.out.clear();
        self.out.extend_from_slice(self.peer.scheme().as_bytes());
        self.out.extend_from_slice(b"://");
        self.out.extend_from_slice(self.request.authority().as_bytes());
        self.out.extend_from_slice(self.request.path_and_query().as_bytes());
    }
}

/// Request headers as the URL map looks at them.
pub(crate) struct RequestHeaders<'a>(pub(crate) Request<'a>);

impl Headers for RequestHeaders<'_> {
    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let buffer = self.0.buffer();
        for field in self.0.fields().iter().filter(|f| !f.nominated && f.name.of(buffer) == name.as_bytes()) {
            each(field.value.of(buffer));
        }
    }
}

/// Values of the variables that header actions may use. What needs more than a proxy (places, devices) stays empty, and
/// so does what needs client certificates where none are asked for.
pub(crate) struct RequestVariables<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) request: Request<'a>,
    /// The load balancer's address.
    pub(crate) server: std::net::SocketAddr,
}

impl Variables for RequestVariables<'_> {
    fn write(&self, name: &str, out: &mut Vec<u8>) {
        let tls = self.peer.tls.as_ref();
        match name {
            "client_ip_address" => out.extend_from_slice(self.peer.ip.as_bytes()),
            "client_port" => out.extend_from_slice(self.peer.address.port().to_string().as_bytes()),
            "client_encrypted" => out.extend_from_slice(if tls.is_some() { b"true" } else { b"false" }),
            "client_protocol" => out.extend_from_slice(self.peer.version.text().as_bytes()),
            "origin_request_header" => {
                out.extend_from_slice(self.request.first(Name::Origin).unwrap_or_default())
            }
            "server_ip_address" => out.extend_from_slice(self.server.ip().to_string().as_bytes()),
            "server_port" => out.extend_from_slice(self.server.port().to_string().as_bytes()),
            "tls_sni_hostname" => out.extend_from_slice(tls.map_or("", |tls| &tls.sni).as_bytes()),
            "tls_version" => out.extend_from_slice(tls.map_or("", |tls| tls.version).as_bytes()),
            "tls_cipher_suite" => {
                out.extend_from_slice(
                    tls.map(|tls| format!("{:04x}", tls.cipher_number)).unwrap_or_default().as_bytes(),
                );
            }
            _ => {
                let client = tls.and_then(|tls| tls.client.as_ref());
                if let (Some(client), Some(name)) = (client, name.strip_prefix(client_identity::PREFIX)) {
                    client.write(name, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_the_host() {
        for (authority, host) in
            [("a.b", "a.b"), ("a.b:80", "a.b"), ("[::1]", "[::1]"), ("[::1]:443", "[::1]"), ("a:", "a")]
        {
            assert_eq!(host_of(authority), host);
        }
    }
}
