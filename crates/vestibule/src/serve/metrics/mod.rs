//! `/metrics`: what the planes have done, gathered from each of them when somebody asks.
//!
//! `docs/metrics.md` lists every metric; a test compares.

mod text;

use std::sync::Arc;
use std::time::Duration;

use vestibule_dns::wire::rcode_name;
use vestibule_dns::{Resolver, Transport};
use vestibule_logs::LogSink;
use vestibule_proxy::Proxy;
use vestibule_proxy::metrics::{Count, LATENCY_BOUNDS, Labels, Report, Requests};
use vestibule_run::{InstanceState, Runtime};

use text::Page;

/// Who is asked.
pub struct Metrics {
    pub proxy: Arc<Proxy>,
    pub runtime: Arc<Runtime>,
    pub resolver: Resolver,
    pub logs: LogSink,
}

impl Metrics {
    /// Everything, in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut page = Page::default();
        page.gauge("vestibule_build_info", "The running version; always 1.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.gauge("vestibule_config_generation", "Generation of the configuration that the proxy serves.")
            .sample(&[], self.proxy.generation());
        let report = self.proxy.metrics();
        write_requests(&mut page, &report);
        write_default_urls(&mut page, &report);
        write_connections(&mut page, &report);
        write_limits(&mut page, &report);
        self.write_instances(&mut page);
        self.write_resolver(&mut page);
        page.counter("vestibule_log_entries_dropped_total", "Log entries that nobody could take in time.")
            .sample(&[], self.logs.dropped());
        page.into_text()
    }

    fn write_instances(&self, page: &mut Page) {
        let mut starts = page.counter("vestibule_run_instance_starts_total", "Instances that were started.");
        for (service, count) in self.runtime.instance_starts() {
            let labels =
                [("project", &*service.project), ("region", &*service.region), ("service", &*service.name)];
            starts.sample(&labels, count);
        }
        let mut counted: Vec<([Arc<str>; 4], &str, u64, u64)> = Vec::new();
        for status in self.runtime.status() {
            let service = status.service;
            let key = [service.project, service.region, service.name, status.revision];
            let state = match status.state {
                InstanceState::Starting => "starting",
                InstanceState::Ready => "ready",
                InstanceState::Stopping => "stopping",
            };
            match counted.iter_mut().find(|row| row.0 == key && row.1 == state) {
                Some(row) => {
                    row.2 += 1;
                    row.3 += u64::from(status.in_flight);
                }
                None => counted.push((key, state, 1, u64::from(status.in_flight))),
            }
        }
        let labels = |key: &'_ [Arc<str>; 4]| -> [(&'static str, String); 4] {
            let [project, region, service, revision] = key.each_ref().map(|part| part.to_string());
            [("project", project), ("region", region), ("service", service), ("revision", revision)]
        };
        let mut instances = page.gauge("vestibule_run_instances", "Instances by state.");
        for (key, state, count, _) in &counted {
            let labels = labels(key);
            let mut named: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
            named.push(("state", state));
            instances.sample(&named, count);
        }
        let mut requests =
            page.gauge("vestibule_run_instance_requests", "Requests that are in instances now.");
        for (key, state, _, in_flight) in &counted {
            let labels = labels(key);
            let mut named: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
            named.push(("state", state));
            requests.sample(&named, in_flight);
        }
    }

    fn write_resolver(&self, page: &mut Page) {
        let report = self.resolver.metrics();
        let mut answers =
            page.counter("vestibule_dns_answers_total", "Questions that the resolver answered.");
        for (transport, rcode, count) in report.answers {
            let transport = match transport {
                Transport::Udp => "udp",
                Transport::Tcp => "tcp",
            };
            answers.sample(&[("transport", transport), ("rcode", rcode_name(rcode))], count);
        }
        page.counter("vestibule_dns_dropped_total", "Messages to the resolver that may have no answer.")
            .sample(&[], report.dropped);
        page.counter(
            "vestibule_dns_not_logged_total",
            "Questions that a DNS policy wants logged and that came faster than they could be.",
        )
        .sample(&[], report.not_logged);
    }
}

fn bounds() -> [f64; LATENCY_BOUNDS.len()] {
    LATENCY_BOUNDS.map(|bound| bound.as_secs_f64())
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Requests that came to load balancers.
fn write_requests(page: &mut Page, report: &Report) {
    let rows: Vec<(Vec<(&str, &str)>, &Requests)> = report
        .requests
        .iter()
        .filter_map(|(labels, requests)| {
            let balancer = labels.balancer.as_ref()?;
            let labels = vec![
                ("project", &*balancer.project),
                ("region", &*balancer.region),
                ("forwarding_rule", &*balancer.forwarding_rule),
                ("url_map", &*balancer.url_map),
                ("matched_rule", &*balancer.rule),
                ("backend_service", &*balancer.backend_service),
                ("status_class", labels.class.name()),
            ];
            Some((labels, requests))
        })
        .collect();
    let mut requests = page.counter("vestibule_lb_requests_total", "Requests that load balancers served.");
    rows.iter().for_each(|(labels, row)| requests.sample(labels, row.count()));
    let mut latency = page.histogram(
        "vestibule_lb_request_duration_seconds",
        "From a request's complete head to the end of its response.",
    );
    rows.iter()
        .for_each(|(labels, row)| latency.buckets(labels, &bounds(), &row.buckets, seconds(row.latency)));
    let mut received = page.counter("vestibule_lb_request_bytes_total", "Bytes of requests, heads included.");
    rows.iter().for_each(|(labels, row)| received.sample(labels, row.request_bytes));
    let mut sent = page.counter("vestibule_lb_response_bytes_total", "Bytes of responses, heads included.");
    rows.iter().for_each(|(labels, row)| sent.sample(labels, row.response_bytes));
    let mut retries = page.counter("vestibule_lb_retries_total", "Attempts beyond the first of a request.");
    rows.iter().for_each(|(labels, row)| retries.sample(labels, row.retries));
}

/// Requests that came to default URLs.
fn write_default_urls(page: &mut Page, report: &Report) {
    let rows: Vec<&(Labels, Requests)> =
        report.requests.iter().filter(|(labels, _)| labels.balancer.is_none()).collect();
    let mut requests =
        page.counter("vestibule_default_url_requests_total", "Requests that default URLs (run.app) served.");
    rows.iter()
        .for_each(|(labels, row)| requests.sample(&[("status_class", labels.class.name())], row.count()));
    let mut latency = page.histogram(
        "vestibule_default_url_request_duration_seconds",
        "From a request's complete head to the end of its response.",
    );
    for (labels, row) in rows {
        let labels = [("status_class", labels.class.name())];
        latency.buckets(&labels, &bounds(), &row.buckets, seconds(row.latency));
    }
}

fn write_connections(page: &mut Page, report: &Report) {
    page.gauge("vestibule_proxy_connections", "Client connections that are open.")
        .sample(&[], report.open_connections());
    page.counter("vestibule_proxy_connections_total", "Client connections that were accepted.")
        .sample(&[], report.count(Count::Connections));
    page.counter(
        "vestibule_proxy_connections_refused_total",
        "Client connections that were refused because the client stands in another region.",
    )
    .sample(&[], report.count(Count::RegionRefusals));
    let mut handshakes = page.counter("vestibule_proxy_tls_handshakes_total", "TLS handshakes with clients.");
    for (result, count) in [
        ("full", Count::FullHandshakes),
        ("resumed", Count::ResumedHandshakes),
        ("failed", Count::FailedHandshakes),
        ("timeout", Count::LateHandshakes),
    ] {
        handshakes.sample(&[("result", result)], report.count(count));
    }
    page.counter(
        "vestibule_proxy_unreadable_requests_total",
        "Requests that were malformed or late, and have no other series.",
    )
    .sample(&[], report.count(Count::UnreadableRequests));
    let mut made = page.counter("vestibule_proxy_backend_connections_total", "Connections to backends.");
    for (result, count) in [("made", Count::BackendConnections), ("failed", Count::BackendConnectFailures)] {
        made.sample(&[("result", result)], report.count(count));
    }
    page.counter(
        "vestibule_proxy_backend_connection_reuses_total",
        "Attempts that found an idle connection to their backend.",
    )
    .sample(&[], report.count(Count::BackendReuses));
}

fn write_limits(page: &mut Page, report: &Report) {
    let mut reached = page.counter("vestibule_proxy_limit_reached_total", "Times that a limit was reached.");
    for (limit, count) in [
        ("connections", Count::ConnectionLimit),
        ("connections_per_listener", Count::ListenerLimit),
        ("requests", Count::RequestLimit),
        ("request_memory", Count::MemoryLimit),
        ("file_descriptors", Count::AcceptFailures),
    ] {
        reached.sample(&[("limit", limit)], report.count(count));
    }
}
