//! Log entries of requests, in the shape in which Cloud Logging holds those of a regional internal load balancer.
//!
//! What is the same for all requests to a backend service of a listener is formatted once; a request copies it and
//! adds a few members. Entries go into the worker's own batch. Nothing here waits.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::Notify;
use vestibule_logs::json::{Object, members, write_str};
use vestibule_logs::time::{TimeWriter, write_duration};
use vestibule_logs::{Batch, Held, LogSink};
use vestibule_run::entries::RequestLine;

use crate::answer::Answer;
use crate::client_certificate::Distrust;
use crate::limits::{LOG_BATCH_BYTES, LOG_BATCH_TIME};
use crate::peer::{Peer, Version};
use crate::record::{ProxyStatus, Record};
use crate::site::{Balancer, Site, Slot};
use crate::snapshot::{Backend, BackendService, Listener, Optional};
use crate::worker::Worker;

/// The log of requests, URL-encoded as in a log name.
const LOG_ID: &str = "loadbalancing.googleapis.com%2Frequests";

const PAYLOAD_TYPE: &str = "type.googleapis.com/google.cloud.loadbalancing.type.LoadBalancerLogEntry";

/// The entries of one worker.
pub(crate) struct LogWriter {
    batch: RefCell<Batch>,
    clock: RefCell<TimeWriter>,
    sink: LogSink,
    /// There is something that was not handed over.
    pending: RefCell<Option<Held>>,
    wake: Notify,
}

impl LogWriter {
    pub(crate) fn new(sink: LogSink) -> Rc<LogWriter> {
        Rc::new(LogWriter {
            batch: RefCell::default(),
            clock: RefCell::default(),
            sink,
            pending: RefCell::default(),
            wake: Notify::new(),
        })
    }

    /// Hands batches over that are not full, for ever.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            self.wake.notified().await;
            tokio::time::sleep(LOG_BATCH_TIME).await;
            self.flush();
        }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        let held = self.pending.take();
        // The sink counts what it has to drop.
        self.sink.try_send(self.batch.take());
        drop(held);
    }

    /// Adds entries that `write` appends to a batch.
    pub(crate) fn write(&self, write: impl FnOnce(&mut Batch, &mut TimeWriter)) {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            *batch = Batch::with_capacity(LOG_BATCH_BYTES / 4);
        }
        write(&mut batch, &mut self.clock.borrow_mut());
        let full = batch.bytes().len() >= LOG_BATCH_BYTES;
        drop(batch);
        if full {
            self.flush();
        } else if self.pending.borrow().is_none() {
            *self.pending.borrow_mut() = Some(self.sink.hold());
            self.wake.notify_one();
        }
    }
}

/// The start of every entry for requests to `service` (or to none), up to the value of the label that tells the rule.
pub(crate) fn prefix(listener: &Listener, service: Option<(&BackendService, Option<usize>)>) -> Vec<u8> {
    let project = &listener.project;
    let mut text = members(|entry| {
        entry.str("logName", &format!("projects/{project}/logs/{LOG_ID}"));
        let payload = |payload: &mut Object<'_>| {
            payload.str("type", "internal_http_lb_rule");
            payload.object("labels", |labels| write_labels(labels, listener, service));
        };
        entry.object("resource", payload);
    });
    // Reopens labels and resource.
    text.truncate(text.len() - 2);
    text.extend_from_slice(b",\"matched_url_path_rule\":");
    text
}

fn write_labels(
    labels: &mut Object<'_>,
    listener: &Listener,
    service: Option<(&BackendService, Option<usize>)>,
) {
    labels.str("project_id", &listener.project);
    labels.str("region", &listener.region);
    labels.str("network_name", listener.network.short());
    labels.str("forwarding_rule_name", &listener.forwarding_rule);
    labels.str("target_proxy_name", &listener.target_proxy);
    labels.str("url_map_name", &listener.url_map_name);
    let neg = service.and_then(|(service, group)| match &service.backend {
        Backend::Empty => None,
        Backend::Serverless(neg) => Some((&neg.name, &listener.region, "REGION")),
        Backend::Endpoints(endpoints) => {
            // A request that went to no endpoint is still one for the only group there is.
            let only = (endpoints.groups.len() == 1).then_some(0);
            let group = endpoints.groups.get(group.or(only)?)?;
            Some((&group.name, &group.location, if group.is_zonal { "ZONE" } else { "REGION" }))
        }
    });
    let unknown = "UNKNOWN";
    labels.str("backend_name", neg.map_or("", |(name, ..)| name));
    labels.str("backend_type", if neg.is_some() { "NETWORK_ENDPOINT_GROUP" } else { unknown });
    labels.str("backend_scope", neg.map_or(unknown, |(_, location, _)| location));
    labels.str("backend_scope_type", neg.map_or(unknown, |(.., kind)| kind));
    labels.str("backend_target_name", service.map_or("", |(service, _)| &service.name));
    labels.str("backend_target_type", if service.is_some() { "BACKEND_SERVICE" } else { unknown });
}

/// Writes down a request that could not be read: there is no request to tell of, but that there was something still
/// shows.
pub(crate) fn log_refused(worker: &Worker, slot: &Slot, peer: &Peer, answer: &Answer<'_>, sent: u64) {
    let site = slot.site();
    let Site::Balancer(balancer) = &*site else { return };
    if !balancer.logs_anything() {
        return;
    }
    let record = Record { status: answer.status, proxy: answer.proxy, response_size: sent, ..Record::new(0) };
    log_without_request(worker, balancer, peer, &record);
}

/// Writes down a client that was refused for its certificate, in the handshake: there was no request either.
pub(crate) fn log_distrusted(worker: &Worker, slot: &Slot, address: SocketAddr, distrust: Distrust) {
    let site = slot.site();
    let Site::Balancer(balancer) = &*site else { return };
    if !balancer.logs_anything() {
        return;
    }
    let details = distrust.token();
    let record = Record {
        proxy: Some(ProxyStatus { error: "tls_certificate_error", details }),
        detail: Some(details.into()),
        ..Record::new(0)
    };
    log_without_request(worker, balancer, &Peer::new(address, Version::Http1, None), &record);
}

fn log_without_request(worker: &Worker, balancer: &Balancer, peer: &Peer, record: &Record) {
    let asked = Asked { method: "", url: b"", user_agent: None, referer: None, peer };
    let entry = BalancerEntry {
        prefix: balancer.log_prefix(None, None),
        rule: vestibule_urlmap::UNMATCHED,
        project_number: &balancer.listener.project_number,
        optional: Optional::default(),
    };
    worker.logs.write(|batch, clock| {
        batch.push_with(|out| write_balancer(out, clock, &entry, &asked, record));
    });
}

/// What of a request its entries tell.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    /// The whole URL.
    pub(crate) url: &'a [u8],
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) referer: Option<&'a [u8]>,
    pub(crate) peer: &'a Peer,
}

/// What the load balancer's entry tells besides.
pub(crate) struct BalancerEntry<'a> {
    /// As [`prefix`] made it.
    pub(crate) prefix: &'a [u8],
    /// Text of the path rule that matched.
    pub(crate) rule: &'a str,
    pub(crate) project_number: &'a str,
    pub(crate) optional: Optional,
}

/// Appends the load balancer's entry.
pub(crate) fn write_balancer(
    out: &mut Vec<u8>,
    clock: &mut TimeWriter,
    entry: &BalancerEntry<'_>,
    asked: &Asked<'_>,
    record: &Record,
) -> bool {
    out.push(b'{');
    out.extend_from_slice(entry.prefix);
    write_str(out, entry.rule);
    out.extend_from_slice(b"}},\"timestamp\":\"");
    clock.micros(out, record.time);
    out.extend_from_slice(b"\",\"severity\":\"");
    // 503 is a warning and not an error in real entries, and so are the other failures here.
    out.extend_from_slice(if record.status < 400 { b"INFO" } else { b"WARNING" });
    out.extend_from_slice(b"\",\"httpRequest\":");
    write_request(out, asked, record);
    out.extend_from_slice(b",\"jsonPayload\":");
    let mut payload = Object::begin(out);
    payload.str("@type", PAYLOAD_TYPE);
    if record.service.is_some() {
        let out = payload.value("backendTargetProjectNumber");
        out.extend_from_slice(b"\"projects/");
        out.extend_from_slice(entry.project_number.as_bytes());
        out.push(b'"');
    }
    write_proxy_status(&mut payload, record);
    if let Some(tls) = asked.peer.tls.as_ref().filter(|_| entry.optional.tls) {
        payload.object("tls", |fields| {
            fields.str("protocol", tls.version);
            fields.str("cipher", &tls.cipher);
        });
    }
    let client = asked.peer.tls.as_ref().and_then(|tls| tls.client.as_ref());
    if let Some(client) = client.filter(|_| entry.optional.mtls) {
        payload.object("mtls", |fields| client.log(fields));
    }
    payload.end();
    out.push(b'}');
    true
}

fn write_request(out: &mut Vec<u8>, asked: &Asked<'_>, record: &Record) {
    let mut request = Object::begin(out);
    request.str("requestMethod", asked.method);
    request.lossy("requestUrl", asked.url);
    request.int64("requestSize", record.request_size);
    request.number("status", record.status.into());
    request.int64("responseSize", record.response_size);
    if let Some(agent) = asked.user_agent {
        request.lossy("userAgent", agent);
    }
    if let Some(referer) = asked.referer {
        request.lossy("referer", referer);
    }
    request.str("remoteIp", &asked.peer.text);
    if let Some(server) = record.server {
        // Never fails into memory, and needs no escape.
        let _ = write!(request.value("serverIp"), "\"{server}\"");
    }
    let out = request.value("latency");
    out.push(b'"');
    write_duration(out, record.start.elapsed());
    out.push(b'"');
    request.str("protocol", asked.peer.version.text());
    request.end();
}

/// `error="<token>"; details="<token>"`, each only if there is one.
fn write_proxy_status(payload: &mut Object<'_>, record: &Record) {
    if let Some(proxy) = record.proxy {
        let parts = [("error", proxy.error), ("details", proxy.details)];
        let told: Vec<String> = parts
            .iter()
            .filter(|(_, token)| !token.is_empty())
            .map(|(k, v)| format!("{k}=\"{v}\""))
            .collect();
        payload.str("proxyStatus", &told.join("; "));
    }
    if let Some(detail) = &record.detail {
        payload.str("statusDetails", detail);
    }
}

/// Appends the entry of the Cloud Run service that the request came to, if it came to one.
pub(crate) fn write_run(
    out: &mut Vec<u8>,
    clock: &mut TimeWriter,
    asked: &Asked<'_>,
    record: &Record,
) -> bool {
    let Some(run) = &record.run else { return false };
    let line = RequestLine {
        time: record.time,
        method: asked.method,
        url: asked.url,
        request_size: record.request_size,
        status: record.status,
        response_size: record.response_size,
        user_agent: asked.user_agent,
        referer: asked.referer,
        remote_ip: &asked.peer.ip,
        server_ip: None,
        latency: record.start.elapsed(),
        protocol: asked.peer.version.text(),
        instance_id: run.instance.as_deref(),
        trace: std::str::from_utf8(&run.trace.id).ok(),
        text: record.detail.as_deref(),
    };
    run.head.write_request(out, clock, &line);
    true
}
